//! Templates: written as a tree, compiled to a flat list of pieces, rendered in one pass.
//!
//! A text with `${expression}` in it is a [`TextTemplate`]; `$${` stands for a literal `${`. A body
//! is a [`Template`] tree of objects, lists, texts and literals in their order; compiled, its
//! braces, names and literals are bytes that are already JSON, and what is left to do per event is
//! to copy them and put the values between. A text that is one expression keeps its value's type;
//! in a mixed text every value becomes part of the string. JSON text (`event.data`) is copied byte
//! for byte and never looked into.

use std::collections::HashSet;

use super::accessor::{Accessor, Kind, Sharing, View};
use crate::error::{Rule, Wrong};

/// How deep a body template may be: documents are no deeper.
pub const DEPTH: usize = 32;

/// Where a text template stands; decides what it may speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the body: everything that is known before the body.
    Body,
    /// A header's value: the same.
    Header,
    /// What is signed: the body, too.
    Payload,
    /// Around a signature.
    Each,
}

/// Text with values in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextTemplate(Box<[TextPiece]>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TextPiece {
    Literal(Box<str>),
    Value(Accessor),
}

/// A body as a document states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// An object; its members stay in this order.
    Object(Vec<(Box<str>, Template)>),
    /// A list.
    List(Vec<Template>),
    /// A string, or the value of its one expression.
    Text(TextTemplate),
    /// A number, `true`, `false` or `null`, as it stands; made by [`Template::literal`].
    Literal(JsonLiteral),
}

/// JSON text that is no string, object or list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonLiteral(Box<str>);

/// A body ready to render.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BodyTemplate {
    pieces: Box<[BodyPiece]>,
    literal_len: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum BodyPiece {
    /// JSON, as it goes out.
    Literal(Box<[u8]>),
    /// A value as its bytes.
    Raw(Accessor),
    /// A value inside a JSON string.
    Escaped(Accessor),
}

impl TextTemplate {
    /// Reads text with `${expression}` in it.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find("${") {
            if let Some(before) = rest[..at].strip_suffix('$') {
                literal.push_str(before);
                literal.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            literal.push_str(&rest[..at]);
            let (expression, after) = rest[at + 2..]
                .split_once('}')
                .ok_or_else(|| Wrong::new(Rule::ContractInvalid, "${ without its }"))?;
            let value = Accessor::parse(expression).ok_or_else(|| {
                Wrong::new(Rule::ContractInvalid, format!("${{{expression}}} is not known"))
            })?;
            if !literal.is_empty() {
                pieces.push(TextPiece::Literal(std::mem::take(&mut literal).into()));
            }
            pieces.push(TextPiece::Value(value));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(TextPiece::Literal(literal.into()));
        }
        Ok(Self(pieces.into()))
    }

    /// Whether every value is known, and may be mixed into text, where the template stands.
    pub(super) fn check(&self, place: Place) -> Result<(), Wrong> {
        for value in self.values() {
            let fits = match (value, value.kind()) {
                (Accessor::Signature, _) => place == Place::Each,
                (_, Kind::Body) => place == Place::Payload,
                (_, Kind::Json) => place == Place::Body && self.0.len() == 1,
                (_, Kind::Text | Kind::Scalar) => true,
            };
            if !fits {
                let text = format!("{value:?} cannot stand here");
                return Err(Wrong::new(Rule::ContractInvalid, text));
            }
        }
        Ok(())
    }

    /// What may share the text.
    pub(super) fn sharing(&self) -> Sharing {
        self.values().map(Accessor::sharing).max().unwrap_or(Sharing::Event)
    }

    /// Appends the text with its values.
    pub(super) fn write(&self, view: &View<'_>, out: &mut Vec<u8>) {
        for piece in &self.0 {
            piece.write(view, out);
        }
    }

    pub(super) fn pieces(&self) -> &[TextPiece] {
        &self.0
    }

    fn values(&self) -> impl Iterator<Item = Accessor> {
        self.0.iter().filter_map(|piece| match piece {
            TextPiece::Literal(_) => None,
            TextPiece::Value(value) => Some(*value),
        })
    }
}

impl TextPiece {
    pub(super) fn write(&self, view: &View<'_>, out: &mut Vec<u8>) {
        match self {
            TextPiece::Literal(text) => out.extend_from_slice(text.as_bytes()),
            TextPiece::Value(value) => value.write(view, out),
        }
    }
}

impl Template {
    /// A string with `${expression}` in it, or the value of its one expression.
    pub fn text(text: &str) -> Result<Self, Wrong> {
        TextTemplate::parse(text).map(Template::Text)
    }

    /// A number, `true`, `false` or `null`, as JSON writes it.
    pub fn literal(text: &str) -> Result<Self, Wrong> {
        let scalar = matches!(text.as_bytes(), [b'-' | b'0'..=b'9' | b't' | b'f' | b'n', ..]);
        let bare = !text.ends_with([' ', '\t', '\r', '\n']);
        if scalar && bare && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
            Ok(Template::Literal(JsonLiteral(text.into())))
        } else {
            Err(Wrong::new(Rule::ContractInvalid, "must be a number, true, false or null"))
        }
    }

    /// An object of texts, in order.
    pub fn object<'a>(
        members: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Wrong> {
        let member = |(name, text): (&str, &str)| Ok((name.into(), Template::text(text)?));
        members.into_iter().map(member).collect::<Result<_, Wrong>>().map(Template::Object)
    }
}

/// Collects pieces, with neighbouring literal bytes in one.
#[derive(Default)]
struct Compiler {
    pieces: Vec<BodyPiece>,
    literal: Vec<u8>,
    literal_len: usize,
}

impl BodyTemplate {
    pub(super) fn compile(template: &Template) -> Result<Self, Wrong> {
        let mut compiler = Compiler::default();
        compiler.add(template, 0)?;
        compiler.flush();
        Ok(Self { pieces: compiler.pieces.into(), literal_len: compiler.literal_len })
    }

    /// What may share the body.
    pub(super) fn sharing(&self) -> Sharing {
        let values = self.pieces.iter().filter_map(|piece| match piece {
            BodyPiece::Literal(_) => None,
            BodyPiece::Raw(value) | BodyPiece::Escaped(value) => Some(value.sharing()),
        });
        values.max().unwrap_or(Sharing::Event)
    }

    /// The body; it shares the publisher's bytes when it is nothing else.
    pub(super) fn render(&self, view: &View<'_>) -> bytes::Bytes {
        if let [BodyPiece::Raw(Accessor::EventData)] = &*self.pieces {
            return view.input.event.data.clone();
        }
        // Room for a short value at each place: one allocation for nearly every body.
        let room = self.literal_len + view.input.event.data.len() + 40 * self.pieces.len();
        let mut out = Vec::with_capacity(room);
        for piece in &self.pieces {
            match piece {
                BodyPiece::Literal(bytes) => out.extend_from_slice(bytes),
                BodyPiece::Raw(value) => value.write(view, &mut out),
                BodyPiece::Escaped(value) => {
                    let start = out.len();
                    value.write(view, &mut out);
                    escape_from(&mut out, start);
                }
            }
        }
        out.into()
    }
}

impl Compiler {
    fn add(&mut self, template: &Template, depth: usize) -> Result<(), Wrong> {
        if depth > DEPTH {
            let text = format!("a body is {DEPTH} levels deep at most");
            return Err(Wrong::new(Rule::ContractInvalid, text));
        }
        match template {
            Template::Object(members) => self.add_object(members, depth),
            Template::List(items) => {
                self.literal.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.literal.push(b',');
                    }
                    self.add(item, depth + 1)?;
                }
                self.literal.push(b']');
                Ok(())
            }
            Template::Text(text) => self.add_text(text),
            Template::Literal(JsonLiteral(text)) => {
                self.literal.extend_from_slice(text.as_bytes());
                Ok(())
            }
        }
    }

    fn add_object(&mut self, members: &[(Box<str>, Template)], depth: usize) -> Result<(), Wrong> {
        let mut names = HashSet::new();
        self.literal.push(b'{');
        for (index, (name, value)) in members.iter().enumerate() {
            if !names.insert(name) {
                let text = format!("member {name} stands twice in one object");
                return Err(Wrong::new(Rule::ContractInvalid, text));
            }
            if index > 0 {
                self.literal.push(b',');
            }
            self.add_string(name);
            self.literal.push(b':');
            self.add(value, depth + 1)?;
        }
        self.literal.push(b'}');
        Ok(())
    }

    fn add_text(&mut self, text: &TextTemplate) -> Result<(), Wrong> {
        text.check(Place::Body)?;
        if let [TextPiece::Value(value)] = text.pieces() {
            match value.kind() {
                Kind::Scalar | Kind::Json => {
                    self.add_value(BodyPiece::Raw(*value));
                    return Ok(());
                }
                Kind::Text | Kind::Body => {}
            }
        }
        self.literal.push(b'"');
        for piece in text.pieces() {
            match piece {
                TextPiece::Literal(text) => {
                    let start = self.literal.len();
                    self.literal.extend_from_slice(text.as_bytes());
                    escape_from(&mut self.literal, start);
                }
                TextPiece::Value(value) => self.add_value(BodyPiece::Escaped(*value)),
            }
        }
        self.literal.push(b'"');
        Ok(())
    }

    fn add_string(&mut self, text: &str) {
        self.literal.push(b'"');
        let start = self.literal.len();
        self.literal.extend_from_slice(text.as_bytes());
        escape_from(&mut self.literal, start);
        self.literal.push(b'"');
    }

    fn add_value(&mut self, piece: BodyPiece) {
        self.flush();
        self.pieces.push(piece);
    }

    fn flush(&mut self) {
        if !self.literal.is_empty() {
            self.literal_len += self.literal.len();
            self.pieces.push(BodyPiece::Literal(std::mem::take(&mut self.literal).into()));
        }
    }
}

/// Turns what stands in `out` from `start` on into the inside of a JSON string: `"`, `\` and
/// controls escaped as briefly as JSON allows, everything else as it is. Most text needs nothing.
fn escape_from(out: &mut Vec<u8>, start: usize) {
    let special = |b: &u8| matches!(b, b'"' | b'\\' | 0..=0x1f);
    let Some(first) = out[start..].iter().position(special) else { return };
    let tail = out.split_off(start + first);
    for byte in tail {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            0..=0x1f => {
                let digit = |d: u8| b"0123456789abcdef"[usize::from(d)];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests;
