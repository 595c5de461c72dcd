//! What is wrong with a document, and how reading one notes it at its place.

use std::fmt;

use crate::error::{Rule, Wrong};
use crate::yaml::{self, At, Map, Reader};

/// What is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentFault {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The extended contract whose document the place is in; none: it is in the document itself.
    pub parent: Option<String>,
    /// The kind of rule that is broken.
    pub rule: Rule,
    /// The key's path and the rule; of the document's contents, keys and expressions may be in it.
    pub text: String,
}

impl fmt::Display for DocumentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = &self.parent {
            write!(f, "{parent}:")?;
        }
        write!(f, "{}:{}: {}", self.line, self.column, self.text)
    }
}

impl From<yaml::Fault> for DocumentFault {
    fn from(fault: yaml::Fault) -> Self {
        let yaml::Fault { line, column, text } = fault;
        // Faults of an expression and of a schema say so; all others are the contract's.
        let rule = match text.as_str() {
            text if text.contains(EXPRESSION) => Rule::ExpressionInvalid,
            text if text.contains(SCHEMA) => Rule::SchemaInvalid,
            _ => Rule::ContractInvalid,
        };
        Self { line, column, parent: None, rule, text }
    }
}

/// How a fault of an expression begins.
const EXPRESSION: &str = "expression: ";
/// How a fault of a schema begins.
pub(super) const SCHEMA: &str = "JSON Schema: ";

/// A refusal in words, with what tells its kind in front.
pub(super) fn reason(wrong: &Wrong) -> String {
    let kind = if wrong.rule == Rule::ExpressionInvalid {
        EXPRESSION
    } else if wrong.rule == Rule::SchemaInvalid {
        SCHEMA
    } else {
        ""
    };
    format!("{kind}{}", wrong.description)
}

/// Takes a parsed value, or notes what is wrong with it at its place.
pub(super) fn noted<T>(reader: &mut Reader, at: &At<'_>, parsed: Result<T, Wrong>) -> Option<T> {
    parsed.map_err(|wrong| reader.add(at.fault(reason(&wrong)))).ok()
}

/// Reads a key, if it is there, with `read`; `Some(None)` where it is not.
pub(super) fn optional<'a, T>(
    reader: &mut Reader,
    map: &Map<'a>,
    key: &str,
    read: impl FnOnce(&mut Reader, &At<'a>) -> Option<T>,
) -> Option<Option<T>> {
    match map.get(key) {
        Some(at) => read(reader, at).map(Some),
        None => Some(None),
    }
}

/// Text at a key, parsed.
pub(super) fn parsed<T>(
    reader: &mut Reader,
    at: &At<'_>,
    parse: impl FnOnce(&str) -> Result<T, Wrong>,
) -> Option<T> {
    let text = reader.check(at.text())?;
    noted(reader, at, parse(text))
}
