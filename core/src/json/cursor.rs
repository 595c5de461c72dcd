//! Looking at values in place: a [`Node`] is the source bytes of one value, nothing is built.

use super::names::Unescaped;
use super::{is_space, plain_run, skip_space};
use std::borrow::Cow;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// A number as Pregón's expressions see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer literal (no fraction, no exponent) within int64. `-0` is 0.
    Int(i64),
    /// Anything else.
    Double(f64),
}

/// One value of a checked text: exactly its source bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    source: &'a [u8],
}

impl<'a> Node<'a> {
    /// The value that a text holds, white space around it left out.
    pub fn of(text: &'a [u8]) -> Self {
        let start = skip_space(text, 0);
        let end = text.iter().rposition(|&b| !is_space(b)).map_or(0, |last| last + 1);
        Self { source: text.get(start..end).unwrap_or_default() }
    }

    /// The value that starts at `start`, and the position behind it.
    fn at(text: &'a [u8], start: usize) -> (Self, usize) {
        let end = skip_value(text, start);
        (Self { source: text.get(start..end).unwrap_or_default() }, end)
    }

    /// The source bytes, as they were written.
    pub fn source(self) -> &'a [u8] {
        self.source
    }

    /// What the value is, by its first byte.
    pub fn kind(self) -> Kind {
        match self.source.first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            Some(_) | None => Kind::Null,
        }
    }

    /// The value of a boolean.
    pub fn as_bool(self) -> Option<bool> {
        match self.source {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// The value of a number.
    pub fn as_number(self) -> Option<Number> {
        if self.kind() != Kind::Number {
            return None;
        }
        let literal = std::str::from_utf8(self.source).ok()?;
        if !literal.bytes().any(|b| matches!(b, b'.' | b'e' | b'E'))
            && let Ok(int) = literal.parse()
        {
            return Some(Number::Int(int));
        }
        literal.parse().ok().map(Number::Double)
    }

    /// The text of a string, escapes resolved; borrowed where it has none.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        (self.kind() == Kind::String).then(|| Name { body: string_body(self.source) }.text())
    }

    /// The members of an object in order of writing; of anything else, none.
    pub fn members(self) -> Members<'a> {
        let pos = if self.kind() == Kind::Object { 1 } else { self.source.len() };
        Members { source: self.source, pos }
    }

    /// The elements of an array in order; of anything else, none.
    pub fn elements(self) -> Elements<'a> {
        let pos = if self.kind() == Kind::Array { 1 } else { self.source.len() };
        Elements { source: self.source, pos }
    }

    /// The member of an object with this name (compared after unescaping).
    pub fn member(self, name: &str) -> Option<Node<'a>> {
        self.members().find(|(candidate, _)| candidate.is(name)).map(|(_, value)| value)
    }

    /// The element of an array at this index, from 0.
    pub fn element(self, index: usize) -> Option<Node<'a>> {
        self.elements().nth(index)
    }
}

/// A member's name.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    body: &'a [u8],
}

impl<'a> Name<'a> {
    /// Whether the name, unescaped, is `name`.
    pub fn is(self, name: &str) -> bool {
        if self.body.contains(&b'\\') {
            Unescaped::new(self.body).eq(name.chars())
        } else {
            self.body == name.as_bytes()
        }
    }

    /// The name between its quotes, as it was written.
    pub fn source(self) -> &'a [u8] {
        self.body
    }

    /// The name, escapes resolved; borrowed where it has none.
    pub fn text(self) -> Cow<'a, str> {
        if self.body.contains(&b'\\') {
            Cow::Owned(Unescaped::new(self.body).collect())
        } else {
            String::from_utf8_lossy(self.body)
        }
    }
}

/// Iterates over the members of an object; see [`Node::members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    source: &'a [u8],
    pos: usize,
}

impl Members<'_> {
    /// The position behind the value given last, from the object's first byte.
    pub(crate) fn end(&self) -> usize {
        self.pos
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (Name<'a>, Node<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let start = skip_separator(self.source, self.pos);
        if self.source.get(start) != Some(&b'"') {
            self.pos = self.source.len();
            return None;
        }
        let end = skip_string(self.source, start);
        let name = Name { body: string_body(self.source.get(start..end).unwrap_or_default()) };
        let colon = skip_space(self.source, end);
        let (value, end) = Node::at(self.source, skip_space(self.source, colon + 1));
        self.pos = end;
        Some((name, value))
    }
}

/// Iterates over the elements of an array; see [`Node::elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    source: &'a [u8],
    pos: usize,
}

impl Elements<'_> {
    /// The position behind the element given last, from the array's first byte.
    pub(crate) fn end(&self) -> usize {
        self.pos
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        let start = skip_separator(self.source, self.pos);
        let (value, end) = Node::at(self.source, start);
        // Nothing to read: the closing bracket, or the end of a text that was not checked.
        if value.source.is_empty() {
            self.pos = self.source.len();
            return None;
        }
        self.pos = end;
        Some(value)
    }
}

fn skip_separator(text: &[u8], pos: usize) -> usize {
    let pos = skip_space(text, pos);
    if text.get(pos) == Some(&b',') { skip_space(text, pos + 1) } else { pos }
}

fn string_body(source: &[u8]) -> &[u8] {
    source.get(1..source.len().saturating_sub(1)).unwrap_or_default()
}

/// The position behind the string that opens at `start`.
pub(super) fn skip_string(text: &[u8], start: usize) -> usize {
    let mut pos = start + 1;
    loop {
        pos += plain_run(text.get(pos..).unwrap_or_default());
        match text.get(pos) {
            Some(b'"') => return pos + 1,
            Some(b'\\') => pos += 2,
            Some(_) => pos += 1,
            None => return text.len(),
        }
    }
}

/// The position behind the value that starts at `start`.
fn skip_value(text: &[u8], start: usize) -> usize {
    let mut pos = start;
    let mut depth = 0usize;
    while let Some(&byte) = text.get(pos) {
        match byte {
            b'"' => pos = skip_string(text, pos),
            b'{' | b'[' => {
                depth += 1;
                pos += 1;
                continue;
            }
            b'}' | b']' => {
                if depth == 0 {
                    return pos;
                }
                depth -= 1;
                pos += 1;
            }
            _ if depth == 0 => return skip_scalar(text, pos),
            _ => {
                pos += 1;
                continue;
            }
        }
        if depth == 0 {
            return pos;
        }
    }
    text.len().max(start)
}

fn skip_scalar(text: &[u8], start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    let ends = |b: &u8| matches!(b, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
    start + rest.iter().position(ends).unwrap_or(rest.len())
}
