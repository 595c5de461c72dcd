//! What a contract asks of a receiver's answer: `acknowledge`, `refuse` and `disable` as data.
//!
//! Most conditions speak of the status alone. They are asked about every status once, when the
//! contract is read, and are a table from then on.

use crate::contract::subject::{Answer, Subject, with_answer};
use crate::error::{Rule, Wrong};
use crate::expr::{Expression, Lets, Root, Site, Verdict};
use bytes::Bytes;

/// Statuses that an answer can have (RFC 9110 section 15 has three digits).
const STATUSES: std::ops::Range<u16> = 0..1000;

/// A condition on an answer.
#[derive(Clone, Debug)]
pub struct Condition {
    source: Box<str>,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    /// A bit for each status.
    Statuses(Box<[u64; 16]>),
    /// The engine has to see the answer.
    Expression(Expression),
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Condition {
    /// Compiles a condition.
    ///
    /// # Errors
    ///
    /// As [`Expression::compile`]; and [`Rule::ExpressionInvalid`] for a condition on the status alone
    /// that has no answer to any.
    pub fn parse(source: &str) -> Result<Self, Wrong> {
        Self::with(source, &Lets::default())
    }

    /// The same with the names of a document.
    ///
    /// # Errors
    ///
    /// As [`Condition::parse`].
    pub fn with(source: &str, lets: &Lets) -> Result<Self, Wrong> {
        let expression = Expression::compile(source, lets.at(Site::Answer))?;
        let test = match table(&expression)? {
            Some(table) => Test::Statuses(Box::new(table)),
            None => Test::Expression(expression),
        };
        Ok(Self { source: source.into(), test })
    }

    /// Holds for no answer; what `refuse` and `disable` are when a contract does not name them.
    pub fn never() -> Self {
        Self { source: "false".into(), test: Test::Statuses(Box::new([0; 16])) }
    }

    /// `response.status >= 200 && response.status < 300`: what acknowledges by default.
    pub fn success() -> Self {
        let source = "response.status >= 200 && response.status < 300";
        let mut table = [0; 16];
        (200..300).for_each(|status| set(&mut table, status));
        Self { source: source.into(), test: Test::Statuses(Box::new(table)) }
    }

    /// Whether more of an answer than its status has to be seen.
    pub(super) fn reads_answer(&self) -> bool {
        matches!(self.test, Test::Expression(_))
    }

    /// Whether it holds for an answer. One that cannot be evaluated does not.
    pub(super) fn holds(&self, subject: Subject<'_>, answer: &Answer<'_>) -> bool {
        match &self.test {
            Test::Statuses(table) => is_set(table, answer.status),
            Test::Expression(expression) => {
                with_answer(subject, answer, expression, |scope| expression.holds(scope)).is_match()
            }
        }
    }
}

/// The answers to every status, where they depend on nothing else and there always is one. A
/// condition that never has one, such as `response.status`, is refused: it could only fail.
fn table(expression: &Expression) -> Result<Option<[u64; 16]>, Wrong> {
    use crate::expr::{ResponseView, Scope};
    let other = Root::ALL.into_iter().filter(|root| *root != Root::Response);
    if other.into_iter().any(|root| expression.speaks_of(root)) || sees_more(expression.source()) {
        return Ok(None);
    }
    let body = Bytes::new();
    let (mut table, mut answers, mut unanswered) = ([0; 16], false, None);
    for status in STATUSES {
        let response = Some(ResponseView { status, headers: &[], body: &body });
        match expression.holds(&Scope { response, ..Scope::default() }) {
            Verdict::True => {
                set(&mut table, status);
                answers = true;
            }
            Verdict::False => answers = true,
            Verdict::Unevaluable(reason) => unanswered = Some(reason),
        }
    }
    match unanswered {
        None => Ok(Some(table)),
        Some(_) if answers => Ok(None),
        Some(reason) => Err(Wrong::new(Rule::ExpressionInvalid, reason)),
    }
}

/// Whether a source might speak of more than the status. Said of one that does not, it costs time
/// and nothing else.
fn sees_more(source: &str) -> bool {
    ["headers", "body", "json"].iter().any(|word| source.contains(word))
        || source.matches("response").count() != source.matches("response.status").count()
}

fn set(table: &mut [u64; 16], status: u16) {
    if let Some(word) = table.get_mut(usize::from(status / 64)) {
        *word |= 1 << (status % 64);
    }
}

fn is_set(table: &[u64; 16], status: u16) -> bool {
    table.get(usize::from(status / 64)).is_some_and(|word| word >> (status % 64) & 1 == 1)
}
