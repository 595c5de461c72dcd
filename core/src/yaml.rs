//! Documents that people write: a strict subset of YAML 1.2, read into a tree with positions.
//!
//! YAML has features that make one document mean two things to two readers, or that grow when they
//! are expanded. None of them is read here: anchors, aliases, tags, merge keys, complex keys,
//! directives and further documents are refused, each with its place and what to write instead; so
//! are duplicate keys, values that are missing, tabs, and characters that nobody can see. What is left
//! is mappings, lists and scalars in block or flow style, comments, quotes and block scalars. JSON is
//! part of it, with JSON's own rules (tabs between values, `\ud83d\ude00`, long names).
//!
//! Few scalars are typed: `true`, `false`, `null` and numbers as JSON writes them, and these only
//! where they stand without quotes. `yes`, `~`, `0x1F`, `1_000` and `2024-01-01` are text.
//!
//! [`read`] stops at the first fault, because behind it a text may mean anything. [`At`] and [`Reader`]
//! then take the tree apart and collect every further fault with the path of its key.

mod duration;
mod json_text;
mod parse;
mod reader;
mod source;
mod typed;

#[cfg(test)]
mod tests;

pub use reader::{FAULTS, Map, Reader};
pub use typed::{At, Member};

use std::panic::catch_unwind;

use crate::json;

/// Longest document, in bytes: API.md section 7.
pub const DOCUMENT_LEN: usize = 64 * 1024;
/// Deepest nesting of mappings and lists: API.md section 7.
pub const DEPTH: usize = 32;

/// What is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{line}:{column}: {text}")]
pub struct Fault {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The rule that is broken, and what to do; keys of the document stand in it, values do not.
    pub text: String,
}

impl Fault {
    fn new(line: usize, column: usize, text: impl Into<String>) -> Self {
        Self { line, column, text: text.into() }
    }
}

/// One value of a document and where it begins: a block scalar with its first line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What stands there.
    pub value: Value,
}

/// A value of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Keys and values in the order of writing; no key stands twice.
    Map(Vec<(Key, Node)>),
    /// Elements in order.
    List(Vec<Node>),
    /// Text, or what [`Node::typed`] makes of it.
    Scalar {
        /// The text, escapes resolved and lines folded.
        text: String,
        /// Whether it stands without quotes and in no block: only then can it be typed.
        plain: bool,
    },
}

/// A key of a mapping and where it begins. Keys are never typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The text; not empty unless quoted.
    pub text: String,
}

/// A scalar with its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number in JSON's grammar, as it is written; finite as a double.
    Number(&'a str),
    /// Anything else.
    Text(&'a str),
}

impl Node {
    /// The scalar with its type; none for a mapping or a list.
    pub fn typed(&self) -> Option<Typed<'_>> {
        match &self.value {
            Value::Scalar { text, plain: true } => Some(match text.as_str() {
                "null" => Typed::Null,
                "true" => Typed::Bool(true),
                "false" => Typed::Bool(false),
                number if is_number(number) => Typed::Number(number),
                text => Typed::Text(text),
            }),
            Value::Scalar { text, plain: false } => Some(Typed::Text(text)),
            Value::Map(_) | Value::List(_) => None,
        }
    }

    /// What it is, in words for a message.
    fn kind(&self) -> &'static str {
        match (&self.value, self.typed()) {
            (Value::Map(_), _) => "a mapping",
            (Value::List(_), _) => "a list",
            (Value::Scalar { .. }, Some(Typed::Null)) => "null",
            (Value::Scalar { .. }, Some(Typed::Bool(_))) => "true or false",
            (Value::Scalar { .. }, Some(Typed::Number(_))) => "a number",
            (Value::Scalar { .. }, Some(Typed::Text(_)) | None) => "text",
        }
    }
}

/// Reads one document.
///
/// # Errors
///
/// The first fault in the text: more than [`DOCUMENT_LEN`] bytes, nested deeper than [`DEPTH`], not
/// YAML, or YAML that is refused here (see the module).
pub fn read(text: &str) -> Result<Node, Fault> {
    if text.len() > DOCUMENT_LEN {
        let text = format!("a document of {} bytes; at most {DOCUMENT_LEN}", text.len());
        return Err(Fault::new(1, 1, text));
    }
    source::check_characters(text)?;
    match json::check(text.as_bytes(), DEPTH) {
        Ok(()) => return Ok(json_text::tree(text)),
        Err(error) => source::check_tabs(text, error)?,
    }
    source::check_directives(text)?;
    // The parser is a library: a fault in it must refuse the document, not end the process.
    catch_unwind(|| parse::tree(text))
        .unwrap_or_else(|_| Err(Fault::new(1, 1, "the document cannot be read as YAML")))
}

/// Whether a text is a number in the grammar of RFC 8259.
fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let rest = digits(text);
    let whole = &text[..text.len() - rest.len()];
    if whole.is_empty() || (whole.starts_with('0') && whole.len() > 1) {
        return false;
    }
    let rest = match rest.strip_prefix('.') {
        Some(fraction) if digits(fraction).len() < fraction.len() => digits(fraction),
        Some(_) => return false,
        None => rest,
    };
    match rest.strip_prefix(['e', 'E']) {
        Some(exponent) => {
            let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            !exponent.is_empty() && digits(exponent).is_empty()
        }
        None => rest.is_empty(),
    }
}

/// What follows the leading digits.
fn digits(text: &str) -> &str {
    text.trim_start_matches(|c: char| c.is_ascii_digit())
}
