//! Subscription filters: a CEL expression over one event that says whether it is wanted.
//!
//! A filter is somebody else's program run on every event of a tenant, so what it may cost is
//! settled before it runs. [`Filter::compile`] refuses what would only fail later (unknown names and
//! functions, wrong patterns and timestamps) and what has no bound (nested comprehensions, long or
//! deep sources); evaluation meters the work that remains and stops at a limit. A filter that cannot
//! be evaluated on an event does not match it, and says why in words that hold no event data.
//!
//! JSON never becomes a tree. Compiling turns every path from `event` into a *slot*, which looks its
//! steps up in the text when asked: strings without escapes are borrowed from it, lists and objects
//! stay ranges of it. Lists of literals, timestamps and patterns are made once, at compilation.
//!
//! The engine (crate `cel`) has neither a type checker nor a cost limit; the rewriting in `compile`
//! stands in for both, `work` is the meter, and `functions` are led through it. JSON numbers are
//! int when written as an integer within int64 and double otherwise, and CEL compares the two by
//! value, so `1 == 1.0`.

mod bind;
mod compile;
mod functions;
mod names;
mod slot;
mod value;
mod work;

#[cfg(test)]
mod tests;

use crate::error::{Rule, Wrong};
use bytes::Bytes;
use cel::common::types::CelBool;
use cel::{Context, Env, ExecutionError, Value};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Longest source, in bytes.
pub const MAX_SOURCE: usize = 2048;

/// Most elements that a comprehension (`exists`, `all`, `map` …) runs over.
pub const MAX_ELEMENTS: usize = 10_000;

/// A compiled filter. Clones share it.
#[derive(Clone)]
pub struct Filter(Arc<Inner>);

struct Inner {
    source: Box<str>,
    program: compile::Program,
    env: Arc<Env>,
}

/// One event, as a filter sees it under the name `event`.
#[derive(Clone, Copy, Debug)]
pub struct FilterInput<'a> {
    /// `event.id`.
    pub id: &'a str,
    /// `event.version`; with the id it makes `event.unique_id`.
    pub version: u32,
    /// `event.type`.
    pub event_type: &'a str,
    /// `event.time`, in milliseconds since 1970.
    pub occur_time_ms: i64,
    /// `event.accept_time`, in milliseconds since 1970.
    pub accept_time_ms: i64,
    /// `event.environment`.
    pub environment: &'a str,
    /// `event.tenant`.
    pub tenant: &'a str,
    /// `event.data`: a text that has passed [`json::check`](crate::json::check).
    pub data: &'a Bytes,
}

/// What a filter says about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The event is wanted.
    True,
    /// It is not.
    False,
    /// The filter has no answer for this event, which counts as not wanted. The reason holds names
    /// from the filter and types, never event data.
    Unevaluable(String),
}

impl Verdict {
    /// Whether the event is to be delivered.
    pub fn is_match(&self) -> bool {
        match self {
            Verdict::True => true,
            Verdict::False | Verdict::Unevaluable(_) => false,
        }
    }
}

impl Filter {
    /// Compiles a filter.
    ///
    /// # Errors
    ///
    /// [`Rule::TooLong`] above [`MAX_SOURCE`] bytes; else [`Rule::ExpressionInvalid`] with
    /// `line:column: ` in front of the description.
    pub fn compile(source: &str) -> Result<Filter, Wrong> {
        if source.len() > MAX_SOURCE {
            let text = format!("filter of {} bytes, at most {MAX_SOURCE}", source.len());
            return Err(Wrong::new(Rule::TooLong, text));
        }
        let env = functions::environment()?;
        let compiled = catch_unwind(AssertUnwindSafe(|| compile::compile(source, &env)));
        let program =
            compiled.unwrap_or_else(|_| Err(compile::invalid(1, 1, "cannot be parsed")))?;
        Ok(Filter(Arc::new(Inner { source: source.into(), program, env })))
    }

    /// The source, as it was given.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Evaluates the filter on one event.
    pub fn matches(&self, input: &FilterInput<'_>) -> Verdict {
        // The engine must not take a node down, whatever the filter found in it.
        let verdict = catch_unwind(AssertUnwindSafe(|| self.evaluate(input)));
        verdict.unwrap_or_else(|_| Verdict::Unevaluable("the expression engine failed".to_owned()))
    }

    fn evaluate(&self, input: &FilterInput<'_>) -> Verdict {
        work::begin();
        let bound = bind::Bound::new(&self.0.program, input);
        let mut context = Context::with_env(Arc::clone(&self.0.env));
        context.set_variable_resolver(&bound);
        let outcome = Value::resolve_val(&self.0.program.root, &context);
        if let Some(reason) = work::refusal() {
            return Verdict::Unevaluable(reason.to_owned());
        }
        match outcome {
            Ok(value) => match value.downcast_ref::<CelBool>() {
                Some(answer) if *answer.inner() => Verdict::True,
                Some(_) => Verdict::False,
                None => {
                    let kind = value.get_type().name();
                    Verdict::Unevaluable(format!("the result is {kind}, not bool"))
                }
            },
            Err(error) => Verdict::Unevaluable(reason(&error, &bound)),
        }
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.0.source).finish()
    }
}

/// An engine error in words without the values that it carries.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the foreign enum is non-exhaustive, and an unknown error may carry event data"
)]
fn reason(error: &ExecutionError, bound: &bind::Bound<'_>) -> String {
    match error {
        ExecutionError::UndeclaredReference(name) => match bound.describe(name) {
            Some(slot) => format!("{slot} is absent"),
            None => "undeclared reference".to_owned(),
        },
        ExecutionError::NoSuchOverload(overload) => overload.to_string(),
        ExecutionError::NoSuchKey(_) => "no such member".to_owned(),
        ExecutionError::IndexOutOfBounds(_) => "index out of bounds".to_owned(),
        ExecutionError::ValuesNotComparable(..) => "values cannot be compared".to_owned(),
        ExecutionError::UnsupportedBinaryOperator(name, ..) => {
            format!("operator {name} does not take these types")
        }
        ExecutionError::Overflow(name, ..) => format!("overflow in {name}"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "division by zero".to_owned()
        }
        ExecutionError::FunctionError { function, .. } => {
            format!("function {} failed", function.trim_start_matches('@'))
        }
        ExecutionError::UnexpectedType { .. } => "unexpected type".to_owned(),
        _ => "cannot be evaluated".to_owned(),
    }
}
