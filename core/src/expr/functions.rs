//! The functions that need a meter, and the environment that knows them.
//!
//! Each takes the place of an operator or function of the engine whose result can outgrow its
//! arguments or whose cost is not linear; the names begin with `@`, which no source can spell.

#![expect(clippy::needless_pass_by_value, reason = "the engine's signature of an overload")]

use super::constant::constant;
use super::overload::{Args, Entry, Outcome, int, text, wrong_types};
use super::value::JsonVal;
use super::work::{VALUE, charge, charge_growth, failed, refuse};
use super::{MAX_ELEMENTS, encode, hash};
use crate::error::{Rule, Wrong};
use crate::re2;
use cel::common::types::{CelBool, CelBytes, CelInt, CelList, CelOptional, CelString, DYN_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use std::sync::{Arc, LazyLock};

const TOO_MANY_ELEMENTS: &str = "a comprehension runs over more than 10000 elements";
const TOO_MANY_PARTS: &str = "a text is split into more than 10000 parts";

/// Units per node of a loop's body and element.
const NODE: usize = 16;

/// Largest compiled pattern, in bytes.
const PATTERN_SIZE: usize = 256 << 10;

/// Units per byte that a pattern runs over; its engine is linear, but slower than a scan.
const PATTERN: usize = 16;

static ENV: LazyLock<Result<Arc<Env>, DeclarationError>> =
    LazyLock::new(|| declare().map(Arc::new));

/// The environment of every expression: the standard library, the strings extension, and our functions,
/// whose names begin with `@` so that only the rewriting can call them.
pub(super) fn environment() -> Result<Arc<Env>, Wrong> {
    match &*ENV {
        Ok(env) => Ok(Arc::clone(env)),
        Err(error) => Err(Wrong::new(Rule::ExpressionInvalid, error.to_string())),
    }
}

fn declare() -> Result<Env, DeclarationError> {
    let mut env = Env::stdlib();
    env.add_extension(cel::extensions::strings)?;
    let functions: [Entry; 11] = [
        ("@equals", 2..=2, equals),
        ("@within", 2..=2, is_in),
        ("@add", 2..=2, add),
        ("@own", 1..=1, own),
        ("@loop", 2..=2, enter_loop),
        ("@matches", 2..=2, matches),
        ("@replace", 3..=4, replace),
        ("@split", 2..=3, split),
        ("@join", 1..=2, join),
        ("@indexOf", 2..=3, index_of),
        ("@lastIndexOf", 2..=3, last_index_of),
    ];
    for (name, counts, function) in
        functions.into_iter().chain(encode::FUNCTIONS).chain(hash::FUNCTIONS)
    {
        for count in counts {
            let types = (0..count).map(|_| DYN_TYPE).collect();
            env.add_overload(name, &format!("{name}{count}"), types, function)?;
        }
    }
    Ok(env)
}

/// Bytes that a value takes, all that it holds included.
fn weight(value: &dyn Val) -> usize {
    let text = if let Some(string) = value.downcast_ref::<CelString<'_>>() {
        string.inner().len()
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        bytes.inner().len()
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        list.inner().iter().map(|item| weight(item.as_ref())).sum()
    } else if let Some(optional) = value.downcast_ref::<CelOptional<'_>>() {
        optional.option().map_or(0, weight)
    } else {
        0
    };
    VALUE + text
}

/// `a + b`, paying for what comes out.
fn add<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [left, right] = args.as_slice() else {
        return Err(wrong_types("_+_", &args));
    };
    let elements = |value: &CowVal<'_, '_>| value.downcast_ref::<JsonVal>().map_or(0, JsonVal::len);
    charge_growth(weight(left.as_ref()) + weight(right.as_ref()))?;
    charge_growth(elements(left) + elements(right))?;
    let adder = left.as_adder().ok_or_else(|| wrong_types("_+_", &args))?;
    let sum = adder.add(right.as_ref()).map_err(|error| {
        let overflow = matches!(error, ExecutionError::Overflow(..));
        if overflow { error } else { wrong_types("_+_", &args) }
    })?;
    Ok(CowVal::Owned(sum.into_owned()))
}

/// `a == b`, whichever side holds a list or object of ours, however deep.
fn equals<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [left, right] = args.as_slice() else {
        return Err(wrong_types("_==_", &args));
    };
    let equal = same(left.as_ref(), right.as_ref())?;
    Ok(CowVal::owned(CelBool::from(equal)))
}

/// `a in b`, likewise.
fn is_in<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [value, container] = args.as_slice() else {
        return Err(wrong_types("@within", &args));
    };
    let Some(list) = container.downcast_ref::<CelList<'_>>() else {
        let asked = container.as_container().ok_or_else(|| wrong_types("@within", &args))?;
        return Ok(CowVal::owned(CelBool::from(asked.contains(value.as_ref())?)));
    };
    for item in list.inner() {
        if same(item.as_ref(), value.as_ref())? {
            return Ok(CowVal::owned(CelBool::from(true)));
        }
    }
    Ok(CowVal::owned(CelBool::from(false)))
}

/// Whether two values are equal. Lists and optionals made in CEL are walked here, since those of the
/// engine do not know ours. Their depth is bounded by that of the expression that made them.
fn same(left: &dyn Val, right: &dyn Val) -> Result<bool, ExecutionError> {
    charge(VALUE)?;
    if left.downcast_ref::<JsonVal>().is_some() {
        return Ok(left.equals(right));
    }
    if right.downcast_ref::<JsonVal>().is_some() {
        return Ok(right.equals(left));
    }
    if let (Some(a), Some(b)) =
        (left.downcast_ref::<CelList<'_>>(), right.downcast_ref::<CelList<'_>>())
    {
        if a.inner().len() != b.inner().len() {
            return Ok(false);
        }
        for (a, b) in a.inner().iter().zip(b.inner()) {
            if !same(a.as_ref(), b.as_ref())? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    if let (Some(a), Some(b)) =
        (left.downcast_ref::<CelOptional<'_>>(), right.downcast_ref::<CelOptional<'_>>())
    {
        return match (a.option(), b.option()) {
            (Some(a), Some(b)) => same(a, b),
            (None, None) => Ok(true),
            (Some(_), None) | (None, Some(_)) => Ok(false),
        };
    }
    Ok(left.equals(right))
}

/// An element of a list that is being made: the list takes a copy, which is paid for here.
fn own<'b, 'v>(mut args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let value = args.pop().ok_or_else(|| failed("list"))?;
    charge_growth(weight(value.as_ref()))?;
    Ok(value)
}

/// The range of a comprehension, handed on when it is not too long. The second argument is how many
/// nodes its body has.
fn enter_loop<'b, 'v>(mut args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let nodes = int(&args, 1).and_then(|n| usize::try_from(n).ok()).unwrap_or(MAX_ELEMENTS);
    args.truncate(1);
    let range = args.pop().ok_or_else(|| failed("comprehension"))?;
    let count = range.as_sizer().map_or(0, |sizer| *sizer.size().inner());
    let count = usize::try_from(count).unwrap_or_default();
    if count > MAX_ELEMENTS {
        return Err(refuse(TOO_MANY_ELEMENTS));
    }
    charge(count * nodes * NODE)?;
    Ok(range)
}

fn matches<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let pattern = constant::<Pattern>(&args, 1);
    let (Some(subject), Some(pattern)) = (text(&args, 0), pattern) else {
        return Err(wrong_types("matches", args.get(..1).unwrap_or_default()));
    };
    charge(subject.len().saturating_mul(PATTERN))?;
    Ok(CowVal::owned(CelBool::from(pattern.0.is_match(subject))))
}

fn replace<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let limit = match args.get(3) {
        Some(_) => int(&args, 3).map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        None => Some(usize::MAX),
    };
    let (Some(subject), Some(from), Some(to), Some(limit)) =
        (text(&args, 0), text(&args, 1), text(&args, 2), limit)
    else {
        return Err(wrong_types("replace", &args));
    };
    charge(subject.len())?;
    let count = subject.matches(from).take(limit).count();
    charge_growth(count.saturating_mul(to.len()).saturating_add(subject.len()))?;
    Ok(CowVal::owned(CelString::from(subject.replacen(from, to, limit))))
}

/// Splits into at most as many parts as the third argument says, the last holding the rest; an empty
/// separator splits between code points. More parts than a comprehension may run over are none: to
/// throw them away takes as long as to make them, and no budget counts that.
fn split<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let limit = match args.get(2) {
        Some(_) => int(&args, 2).map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        None => Some(usize::MAX),
    };
    let (Some(subject), Some(separator), Some(limit)) = (text(&args, 0), text(&args, 1), limit)
    else {
        return Err(wrong_types("split", &args));
    };
    charge(subject.len())?;
    let mut parts: Vec<Box<dyn Val + 'v>> = Vec::new();
    let mut push = |part: &str| {
        if parts.len() == MAX_ELEMENTS {
            return Err(refuse(TOO_MANY_PARTS));
        }
        charge_growth(part.len())?;
        parts.push(Box::new(CelString::from(part.to_owned())));
        Ok::<(), ExecutionError>(())
    };
    if separator.is_empty() {
        let mut rest = subject;
        let mut made = 0;
        while let Some(first) = rest.chars().next().filter(|_| made < limit) {
            made += 1;
            let end = if made == limit { rest.len() } else { first.len_utf8() };
            let (part, after) = rest.split_at(end);
            push(part)?;
            rest = after;
        }
    } else {
        subject.splitn(limit, separator).try_for_each(push)?;
    }
    Ok(CowVal::owned(CelList::from(parts)))
}

fn join<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let separator = if args.len() > 1 { text(&args, 1) } else { Some("") };
    let list = args.first().filter(|list| list.downcast_ref::<CelString<'_>>().is_none());
    let (Some(mut items), Some(separator)) =
        (list.and_then(|list| list.as_iterable()).map(|list| list.iter()), separator)
    else {
        return Err(wrong_types("join", &args));
    };
    let mut joined = String::new();
    let mut first = true;
    while let Some(item) = items.next() {
        let part =
            item.downcast_ref::<CelString<'_>>().ok_or_else(|| wrong_types("join", &args))?;
        charge_growth(part.inner().len() + separator.len())?;
        if !first {
            joined.push_str(separator);
        }
        joined.push_str(part.inner());
        first = false;
    }
    Ok(CowVal::owned(CelString::from(joined)))
}

/// Arguments of `indexOf` and `lastIndexOf`: subject, needle, and the byte where a third argument (a
/// code point's index) points.
fn search_args<'a>(
    function: &str,
    args: &'a [CowVal<'_, '_>],
) -> Result<(&'a str, &'a str, Option<usize>), ExecutionError> {
    let (Some(subject), Some(needle)) = (text(args, 0), text(args, 1)) else {
        return Err(wrong_types(function, args));
    };
    charge(subject.len())?;
    if args.len() < 3 {
        return Ok((subject, needle, None));
    }
    let at = int(args, 2).ok_or_else(|| wrong_types(function, args))?;
    let at = usize::try_from(at).map_err(|_| failed(function))?;
    let ends = subject.char_indices().map(|(byte, _)| byte).chain([subject.len()]);
    let byte = ends.clone().nth(at).filter(|&byte| byte < subject.len() || needle.is_empty());
    Ok((subject, needle, Some(byte.ok_or_else(|| failed(function))?)))
}

/// The code point's index of a byte offset, or -1.
fn code_point<'b, 'v>(subject: &str, byte: Option<usize>) -> CowVal<'b, 'v> {
    let index = byte.and_then(|byte| subject.get(..byte)).map(|before| before.chars().count());
    let index = index.and_then(|index| i64::try_from(index).ok()).unwrap_or(-1);
    CowVal::owned(CelInt::from(index))
}

fn index_of<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (subject, needle, from) = search_args("indexOf", &args)?;
    let from = from.unwrap_or(0);
    let found = subject.get(from..).and_then(|rest| rest.find(needle)).map(|at| from + at);
    Ok(code_point(subject, found))
}

fn last_index_of<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (subject, needle, upto) = search_args("lastIndexOf", &args)?;
    // An occurrence may begin at `upto` and end behind it.
    let end = upto.map_or(subject.len(), |at| subject.len().min(at + needle.len()));
    let end = subject.floor_char_boundary(end);
    Ok(code_point(subject, subject.get(..end).and_then(|part| part.rfind(needle))))
}

/// A pattern of `matches`, compiled with the expression.
#[derive(Clone, Debug)]
pub(super) struct Pattern(regex::Regex);

impl Pattern {
    /// Compiles a pattern of RE2.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        let source = re2::translate(source)?;
        let built = regex::RegexBuilder::new(&source).size_limit(PATTERN_SIZE).build();
        built.map(Self).map_err(|error| {
            let reason = if matches!(error, regex::Error::CompiledTooBig(_)) {
                "the pattern is too large"
            } else {
                "not a regular expression"
            };
            reason.to_owned()
        })
    }
}
