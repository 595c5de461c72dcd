//! What a callback's answer means: the default verdict, which accepts what looks like a positive
//! boolean and nothing else, or a CEL expression.
//!
//! The default looks at the body alone, white space around it left out:
//!
//! - JSON `true` and `1`, and a JSON string or bare text that is one of the [`POSITIVE`] words in
//!   any case, allow;
//! - an object allows by its members of the names in [`MEMBERS`]: there is at least one, and each is
//!   positive by the same rule, without going deeper;
//! - everything else denies: nothing at all, `0`, `null`, `"false"`, 2, lists, HTML, other text.

use crate::contract::subject::{Answer, CheckInput, Subject, with_answer};
use crate::error::Wrong;
use crate::expr::{self, Expression, Lets, Site};
use crate::json::{self, Kind, Node};
use crate::limits::JSON_DEPTH;

/// Words that allow, in lower case.
pub const POSITIVE: [&str; 8] = ["true", "1", "yes", "si", "sí", "ok", "allow", "allowed"];
/// Members of an object that say whether something is allowed.
pub const MEMBERS: [&str; 8] =
    ["allowed", "allow", "authorized", "valid", "ok", "success", "result", "data"];

/// How a 2xx answer is read.
#[derive(Clone, Debug, Default)]
pub enum Verdict {
    /// What looks like a positive boolean allows.
    #[default]
    Default,
    /// A condition over the answer.
    Expression(Expression),
}

impl PartialEq for Verdict {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Verdict::Default, Verdict::Default) => true,
            (Verdict::Expression(a), Verdict::Expression(b)) => a.source() == b.source(),
            (Verdict::Default, Verdict::Expression(_))
            | (Verdict::Expression(_), Verdict::Default) => false,
        }
    }
}

impl Verdict {
    /// Compiles a CEL verdict.
    ///
    /// # Errors
    ///
    /// As [`Expression::compile`].
    pub fn compile(source: &str) -> Result<Self, Wrong> {
        Self::with(source, &Lets::default())
    }

    /// The same with the names of a document.
    ///
    /// # Errors
    ///
    /// As [`Expression::compile`].
    pub fn with(source: &str, lets: &Lets) -> Result<Self, Wrong> {
        Expression::compile(source, lets.at(Site::Verdict)).map(Verdict::Expression)
    }

    /// Whether an answer allows, and why in words that hold nothing of it.
    ///
    /// # Errors
    ///
    /// Why the expression has no answer; which is a fault, not a denial.
    pub fn allows(
        &self,
        answer: &Answer<'_>,
        input: &CheckInput<'_>,
    ) -> Result<(bool, &'static str), String> {
        let expression = match self {
            Verdict::Default => return Ok(looks_positive(answer.body)),
            Verdict::Expression(expression) => expression,
        };
        let subject = Subject::Check(input);
        match with_answer(subject, answer, expression, |scope| expression.holds(scope)) {
            expr::Verdict::True => Ok((true, "the verdict holds")),
            expr::Verdict::False => Ok((false, "the verdict does not hold")),
            expr::Verdict::Unevaluable(reason) => Err(format!("verdict: {reason}")),
        }
    }
}

/// The default verdict.
fn looks_positive(body: &[u8]) -> (bool, &'static str) {
    let body = body.trim_ascii();
    if body.is_empty() {
        return (false, "the answer is empty");
    }
    if json::check(body, JSON_DEPTH).is_err() {
        return match std::str::from_utf8(body) {
            Ok(text) if is_positive_word(text) => (true, "the answer is a positive word"),
            Ok(_) | Err(_) => (false, "the answer is neither JSON nor a positive word"),
        };
    }
    let node = Node::of(body);
    if node.kind() != Kind::Object {
        return match is_positive(node) {
            true => (true, "the answer is positive"),
            false => (false, "the answer is not positive"),
        };
    }
    let mut said = node.members().filter(|(name, _)| MEMBERS.iter().any(|known| name.is(known)));
    let Some((_, first)) = said.next() else {
        return (false, "the answer has no member that says whether it is allowed");
    };
    match is_positive(first) && said.all(|(_, value)| is_positive(value)) {
        true => (true, "the answer's members are positive"),
        false => (false, "a member of the answer is not positive"),
    }
}

/// Whether a scalar is positive. `1.0` and `1e0` are no booleans that anybody writes: denied.
fn is_positive(node: Node<'_>) -> bool {
    match node.kind() {
        Kind::Bool => node.as_bool() == Some(true),
        Kind::Number => node.source() == b"1",
        Kind::String => node.as_str().is_some_and(|text| is_positive_word(&text)),
        Kind::Null | Kind::Array | Kind::Object => false,
    }
}

fn is_positive_word(text: &str) -> bool {
    let text = text.trim();
    // The longest word has seven letters: nothing long is put into lower case.
    text.len() <= 16 && POSITIVE.contains(&text.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(body: &str) -> bool {
        looks_positive(body.as_bytes()).0
    }

    #[test]
    fn what_looks_like_a_positive_boolean_allows() {
        for body in [
            "true",
            " true\n",
            "1",
            "\"true\"",
            "\"1\"",
            "yes",
            "YES",
            "si",
            "sí",
            "SÍ",
            "Sí",
            "ok",
            "\"OK\"",
            "allow",
            "allowed",
            "\"si\"",
            "\"s\\u00ed\"",
            "{\"allowed\":true}",
            "{\"allow\":1}",
            "{\"authorized\":\"yes\"}",
            "{\"valid\":true,\"user\":\"x\"}",
            "{\"ok\":true,\"success\":true}",
            "{\"result\":\"allowed\"}",
            "{\"data\":true}",
        ] {
            assert!(allows(body), "{body}");
        }
    }

    #[test]
    fn nothing_else_does() {
        for body in [
            "",
            " ",
            "false",
            "0",
            "null",
            "\"false\"",
            "\"0\"",
            "2",
            "-1",
            "1.0",
            "10",
            "no",
            "\"\"",
            "[]",
            "[true]",
            "{}",
            "{\"allowed\":false}",
            "{\"allowed\":null}",
            "{\"Allowed\":true}",
            "{\"user\":true}",
            "{\"allowed\":{\"allowed\":true}}",
            "{\"ok\":true,\"success\":false}",
            "{\"allowed\":[true]}",
            "<html>true</html>",
            "trueish",
            "true true",
            "yes, of course",
            "{\"allowed\":true",
            "\"yes",
            "\u{feff}true",
        ] {
            assert!(!allows(body), "{body}");
        }
        assert!(!looks_positive(b"\xff").0);
    }
}
