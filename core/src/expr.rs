//! Expressions: the CEL of filters, templates, signatures, answers and verdicts.
//!
//! An expression is somebody else's program, run on every event or attempt, so what it may cost is
//! settled before it runs. [`Expression::compile`] refuses what would only fail later (names and
//! functions that its [`Site`] does not know, wrong patterns, zones and timestamps) and what has no
//! bound (nested comprehensions, long or deep sources); evaluation meters the work that remains and
//! stops at a limit. An expression that cannot be evaluated says why in words that hold no event
//! data.
//!
//! JSON never becomes a tree. Compiling turns every path from a root into a *slot*, which looks its
//! steps up in the text when asked: strings without escapes are borrowed from it, lists and objects
//! stay ranges of it and leave as the bytes they came as. Labels, attributes and headers are looked
//! up where they lie. Lists of literals, timestamps, patterns and zones are made once, at
//! compilation.
//!
//! The engine (crate `cel`) has neither a type checker nor a cost limit; the rewriting in `compile`
//! stands in for both, `work` is the meter, and `functions` and `encode` are led through it. JSON
//! numbers are int when written as an integer within int64 and double otherwise, and CEL compares
//! the two by value, so `1 == 1.0`.

mod bind;
mod compile;
mod constant;
mod encode;
mod functions;
mod hash;
mod kinds;
mod lets;
mod names;
mod output;
mod overload;
mod path;
mod scope;
mod slot;
mod value;
mod work;

#[cfg(test)]
mod tests;

pub use lets::{LetPiece, Lets, MAX_LETS, Names};
pub use output::Output;
pub use scope::{
    AttemptView, ChallengeView, CheckView, DeliveryView, EventView, KeyView, Labelled, RequestView,
    ResponseView, Scope, SecretView, SubscriptionView,
};
pub use work::{give_way, offer_core};

use crate::error::{Rule, Wrong};
use cel::common::ast::Expr;
use cel::common::types::CelBool;
use cel::{Context, Env, ExecutionError, Value};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Longest source, in bytes: one condition or value, not a program.
pub const MAX_SOURCE: usize = 2048;

/// Most elements that a comprehension (`exists`, `all`, `map` …) runs over, and parts of a `split`.
pub const MAX_ELEMENTS: usize = 10_000;

/// What is said of an evaluation in which the engine panicked.
const ENGINE_FAILED: &str = "the expression engine failed";

/// Where an expression stands, which settles what it may speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    /// A subscription's filter.
    Filter,
    /// A body, a header or a signature's payload.
    Template,
    /// `acknowledge`, `refuse`, `disable`: what a receiver's answer means.
    Answer,
    /// What a callback's answer means.
    Verdict,
    /// A body or header of a question to a callback.
    CheckTemplate,
    /// A query, header or body of a challenge to a subscription's receiver.
    Challenge,
    /// What the answer to a challenge must be.
    ChallengeAnswer,
}

impl Site {
    /// What may be spoken of here.
    pub fn roots(self) -> &'static [Root] {
        match self {
            Site::Filter => &[Root::Event, Root::Tenant, Root::Subscription],
            Site::Template => &[
                Root::Event,
                Root::Tenant,
                Root::Subscription,
                Root::Delivery,
                Root::Attempt,
                Root::Request,
                Root::Key,
                Root::Secret,
                Root::Signature,
            ],
            Site::Answer => &[
                Root::Event,
                Root::Tenant,
                Root::Subscription,
                Root::Delivery,
                Root::Attempt,
                Root::Response,
            ],
            Site::Verdict => &[Root::Check, Root::Tenant, Root::Callback, Root::Response],
            Site::CheckTemplate => &[Root::Check, Root::Tenant, Root::Callback],
            Site::Challenge => {
                &[Root::Challenge, Root::Tenant, Root::Subscription, Root::Request, Root::Secret]
            }
            Site::ChallengeAnswer => {
                &[Root::Challenge, Root::Tenant, Root::Subscription, Root::Response, Root::Secret]
            }
        }
    }

    /// What an expression here is called in errors.
    fn noun(self) -> &'static str {
        match self {
            Site::Filter => "filter",
            Site::Template
            | Site::Answer
            | Site::Verdict
            | Site::CheckTemplate
            | Site::Challenge
            | Site::ChallengeAnswer => "expression",
        }
    }
}

/// The first word of a path: a part of the [`Scope`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Root {
    /// `event`.
    Event,
    /// `tenant`.
    Tenant,
    /// `subscription`.
    Subscription,
    /// `delivery`.
    Delivery,
    /// `attempt`.
    Attempt,
    /// `request`.
    Request,
    /// `response`.
    Response,
    /// `check`.
    Check,
    /// `callback`.
    Callback,
    /// `key`: what a signature is made with.
    Key,
    /// `secret`: that key itself, a value.
    Secret,
    /// `signature`: the encoded signature, a value.
    Signature,
    /// `challenge`.
    Challenge,
}

impl Root {
    /// Every root.
    pub const ALL: [Root; 13] = [
        Root::Event,
        Root::Tenant,
        Root::Subscription,
        Root::Delivery,
        Root::Attempt,
        Root::Request,
        Root::Response,
        Root::Check,
        Root::Callback,
        Root::Key,
        Root::Secret,
        Root::Signature,
        Root::Challenge,
    ];

    /// Its name in a source.
    pub fn name(self) -> &'static str {
        match self {
            Root::Event => "event",
            Root::Tenant => "tenant",
            Root::Subscription => "subscription",
            Root::Delivery => "delivery",
            Root::Attempt => "attempt",
            Root::Request => "request",
            Root::Response => "response",
            Root::Check => "check",
            Root::Callback => "callback",
            Root::Key => "key",
            Root::Secret => "secret",
            Root::Signature => "signature",
            Root::Challenge => "challenge",
        }
    }

    /// The root of this name.
    fn named(name: &str) -> Option<Root> {
        Root::ALL.into_iter().find(|root| root.name() == name)
    }
}

/// A compiled expression. Clones share it.
#[derive(Clone)]
pub struct Expression(Arc<Inner>);

struct Inner {
    source: Box<str>,
    program: compile::Program,
    env: Arc<Env>,
    /// What is said when it does more work than it may.
    too_much_work: &'static str,
}

/// The answer of an expression that is a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    True,
    /// It does not.
    False,
    /// There is no answer, which counts as not holding. The reason holds names from the source and
    /// types, never event data.
    Unevaluable(String),
}

impl Verdict {
    /// Whether the condition holds.
    pub fn is_match(&self) -> bool {
        match self {
            Verdict::True => true,
            Verdict::False | Verdict::Unevaluable(_) => false,
        }
    }
}

impl Expression {
    /// Compiles an expression of a site, with the names that its document has.
    ///
    /// # Errors
    ///
    /// [`Rule::TooLong`] above [`MAX_SOURCE`] bytes; else [`Rule::ExpressionInvalid`] with
    /// `line:column: ` (from 1, columns in characters) in front of the description.
    pub fn compile<'n>(source: &str, names: impl Into<Names<'n>>) -> Result<Expression, Wrong> {
        let names = names.into();
        let site = names.site;
        if source.len() > MAX_SOURCE {
            let text = format!("{} of {} bytes, at most {MAX_SOURCE}", site.noun(), source.len());
            return Err(Wrong::new(Rule::TooLong, text));
        }
        let env = functions::environment()?;
        let compiled = catch_unwind(AssertUnwindSafe(|| compile::compile(source, names, &env)));
        let program =
            compiled.unwrap_or_else(|_| Err(compile::invalid(1, 1, "cannot be parsed")))?;
        let too_much_work = work::too_much(site);
        Ok(Expression(Arc::new(Inner { source: source.into(), program, env, too_much_work })))
    }

    /// Looks for what makes a condition hold for nothing, ever: a type that is no bool, or numbers that
    /// CEL does not reckon with each other. Of a source that compiles; for whoever writes it, not for
    /// what is stored.
    ///
    /// # Errors
    ///
    /// [`Rule::ExpressionInvalid`], as [`Expression::compile`].
    pub fn check_condition(&self) -> Result<(), Wrong> {
        compile::check_condition(&self.0.source, &self.0.env)
    }

    /// The source, as it was given.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Whether the source names anything of a root: if not, the answer does not depend on it.
    pub fn speaks_of(&self, root: Root) -> bool {
        self.0.program.roots.contains(&root)
    }

    /// Whether the source names `request.body`.
    pub fn speaks_of_body(&self) -> bool {
        self.0.program.speaks_of(slot::Field::RequestBody)
    }

    /// Whether the source names `request.url`.
    pub fn speaks_of_url(&self) -> bool {
        self.0.program.speaks_of(slot::Field::RequestUrl)
    }

    /// Whether the source names `secret` outside of a hash, so that its value may tell it.
    pub fn bares_secret(&self) -> bool {
        self.0.program.bares_secret
    }

    /// Evaluates a condition.
    pub fn holds(&self, scope: &Scope<'_>) -> Verdict {
        self.evaluate(scope, |value| match value.downcast_ref::<CelBool>() {
            Some(answer) if *answer.inner() => Ok(Verdict::True),
            Some(_) => Ok(Verdict::False),
            None => Err(format!("the result is {}, not bool", value.get_type().name())),
        })
        .unwrap_or_else(Verdict::Unevaluable)
    }

    /// Evaluates to a value: scalars as CEL has them, lists and objects of the data as they stand.
    /// An optional gives the value inside.
    ///
    /// # Errors
    ///
    /// Why there is none, in words that hold no event data.
    pub fn value(&self, scope: &Scope<'_>) -> Result<Output, String> {
        self.evaluate(scope, output::output)
    }

    /// The same, for a place where the value becomes JSON as a whole: an expression that is nothing
    /// but a path into JSON (`event.data.a[0]`, `event.data.?a`) gives the source bytes of whatever
    /// it finds, so that `1.0` stays `1.0` and `"\u0061"` stays escaped.
    ///
    /// # Errors
    ///
    /// As [`Expression::value`].
    pub fn verbatim(&self, scope: &Scope<'_>) -> Result<Output, String> {
        let program = &self.0.program;
        let slot = match &program.root.expr {
            Expr::Ident(name) => bind::slot_number(name).and_then(|at| program.slots.get(at)),
            Expr::Unspecified
            | Expr::Literal(_)
            | Expr::Select(_)
            | Expr::Call(_)
            | Expr::List(_)
            | Expr::Comprehension(_)
            | Expr::Map(_)
            | Expr::Struct(_) => None,
        };
        let Some(slot::Slot::Path(path)) = slot else {
            return self.value(scope);
        };
        work::begin(self.0.too_much_work);
        let found = bind::Bound::new(program, scope).find(path);
        if let Some(reason) = work::refusal() {
            return Err(reason.to_owned());
        }
        match found {
            bind::Found::Value(node, text) => Ok(Output::Json(text.slice_ref(node.source()))),
            bind::Found::Nothing => Ok(Output::Absent),
            bind::Found::Missing => {
                let described = slot.map(slot::Slot::describe).unwrap_or_default();
                Err(format!("{described} is absent"))
            }
        }
    }

    /// Runs the engine and reads its result, both under the meter.
    fn evaluate<T>(
        &self,
        scope: &Scope<'_>,
        read: impl FnOnce(&dyn cel::common::value::Val) -> Result<T, String>,
    ) -> Result<T, String> {
        // The engine must not take a node down, whatever the expression found in it.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            work::begin(self.0.too_much_work);
            let bound = bind::Bound::new(&self.0.program, scope);
            let mut context = Context::with_env(Arc::clone(&self.0.env));
            context.set_variable_resolver(&bound);
            let read = match Value::resolve_val(&self.0.program.root, &context) {
                Ok(value) => read(value.as_ref()),
                Err(error) => Err(reason(&error, &bound)),
            };
            // What was cut short is not believed, whatever `||` and the like made of it.
            match work::refusal() {
                Some(reason) => Err(reason.to_owned()),
                None => read,
            }
        }));
        outcome.unwrap_or_else(|_| Err(ENGINE_FAILED.to_owned()))
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.0.source).finish()
    }
}

/// An engine error in words without the values that it carries.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the foreign enum is non-exhaustive, and an unknown error may carry event data"
)]
fn reason(error: &ExecutionError, bound: &bind::Bound<'_>) -> String {
    match error {
        ExecutionError::UndeclaredReference(name) => {
            bound.why_missing(name).unwrap_or_else(|| "undeclared reference".to_owned())
        }
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
