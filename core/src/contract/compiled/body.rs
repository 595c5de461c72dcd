//! Bodies: a template compiled to a flat list of pieces, rendered in one pass.
//!
//! Braces, names and literals are bytes that are already JSON, and what is left to do per event is
//! to copy them and put the values between. Objects and lists in which something may be absent, or
//! into which members are spliced, keep their structure, for their commas depend on it. A text that
//! is one expression keeps its value's type; in a mixed text every value becomes part of the
//! string. JSON text (`event.data` and what is below it) is copied byte for byte.

use std::collections::HashSet;

use bytes::Bytes;

use super::accessor::{Kind, Sharing};
use super::error::{BODY_LEN, RenderError, shown};
use super::template::{Member, Template};
use super::text::{Place, TextPiece, TextTemplate};
use super::value::{Value, Written, escape_from};
use crate::contract::subject::View;
use crate::error::{Rule, Wrong};
use crate::json::{self, Node};

/// How deep a body template may be: documents are no deeper.
pub const DEPTH: usize = 32;

/// A body ready to render.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::contract) struct BodyTemplate {
    pieces: Pieces,
    literal_len: usize,
    sharing: Sharing,
}

type Pieces = Box<[Piece]>;

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    /// JSON, as it goes out.
    Literal(Box<[u8]>),
    /// A value as JSON, which is always there.
    Json(Value),
    /// A value inside a JSON string.
    Escaped(Value),
    /// An object whose members are not always the same.
    Object(Box<[Entry]>),
    /// A list whose elements are not always there.
    List(Box<[Item]>),
}

/// A member, or several.
#[derive(Clone, Debug, PartialEq)]
enum Entry {
    /// The name, and `"name":` as JSON.
    Named { name: Box<str>, json: Box<[u8]>, item: Item },
    /// The members of an object.
    Splice(Value),
}

/// What a member or element is.
#[derive(Clone, Debug, PartialEq)]
enum Item {
    /// Left out where it is absent.
    Optional(Value),
    /// Always there.
    Certain(Pieces),
}

/// Collects pieces, with neighbouring literal bytes in one.
#[derive(Default)]
struct Compiler {
    pieces: Vec<Piece>,
    literal: Vec<u8>,
    literal_len: usize,
}

impl BodyTemplate {
    pub(in crate::contract) fn compile(template: &Template) -> Result<Self, Wrong> {
        let mut compiler = Compiler::default();
        compiler.add(template, 0)?;
        let pieces = compiler.take();
        let sharing = sharing(&pieces);
        Ok(Self { pieces, literal_len: compiler.literal_len, sharing })
    }

    /// What may share the body.
    pub(in crate::contract) fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// The body; it shares the publisher's bytes when it is nothing else.
    pub(super) fn render(&self, view: &View<'_>) -> Result<Bytes, RenderError> {
        if let [Piece::Json(value @ Value::Accessor(accessor))] = &*self.pieces
            && accessor.kind() == Kind::Json
            && let Some(data) = value.json(view)?
        {
            return Ok(data);
        }
        let data = view.subject.data().len();
        // Room for a short value at each place: one allocation for nearly every body.
        let mut out = Vec::with_capacity(self.literal_len + data + 40 * self.pieces.len());
        render(&self.pieces, view, &mut out)?;
        Ok(out.into())
    }
}

fn sharing(pieces: &[Piece]) -> Sharing {
    let item = |item: &Item| match item {
        Item::Optional(value) => value.sharing(),
        Item::Certain(pieces) => sharing(pieces),
    };
    let all = pieces.iter().map(|piece| match piece {
        Piece::Literal(_) => Sharing::Event,
        Piece::Json(value) | Piece::Escaped(value) => value.sharing(),
        Piece::Object(entries) => {
            let entries = entries.iter().map(|entry| match entry {
                Entry::Named { item: value, .. } => item(value),
                Entry::Splice(value) => value.sharing(),
            });
            entries.max().unwrap_or(Sharing::Event)
        }
        Piece::List(items) => items.iter().map(item).max().unwrap_or(Sharing::Event),
    });
    all.max().unwrap_or(Sharing::Event)
}

fn render(pieces: &[Piece], view: &View<'_>, out: &mut Vec<u8>) -> Result<(), RenderError> {
    for piece in pieces {
        match piece {
            Piece::Literal(bytes) => out.extend_from_slice(bytes),
            Piece::Json(value) => certain(value.write_json(view, out)?, value)?,
            Piece::Escaped(value) => {
                let start = out.len();
                certain(value.write_text(view, out)?, value)?;
                escape_from(out, start);
            }
            Piece::Object(entries) => render_object(entries, view, out)?,
            Piece::List(items) => {
                out.push(b'[');
                let start = out.len();
                for item in items {
                    separated(out, start, |out| render_item(item, view, out))?;
                }
                out.push(b']');
            }
        }
        if out.len() > BODY_LEN {
            return Err(RenderError::TooLarge);
        }
    }
    Ok(())
}

fn certain(written: Written, value: &Value) -> Result<(), RenderError> {
    match written {
        Written::Whole => Ok(()),
        Written::Absent => Err(value.failed("is absent and cannot be left out here")),
    }
}

fn render_item(item: &Item, view: &View<'_>, out: &mut Vec<u8>) -> Result<Written, RenderError> {
    match item {
        Item::Optional(value) => value.write_json(view, out),
        Item::Certain(pieces) => render(pieces, view, out).map(|()| Written::Whole),
    }
}

/// Appends something with a comma before it where it is not the first; takes both back where it is
/// absent.
fn separated(
    out: &mut Vec<u8>,
    start: usize,
    append: impl FnOnce(&mut Vec<u8>) -> Result<Written, RenderError>,
) -> Result<(), RenderError> {
    let before = out.len();
    if before > start {
        out.push(b',');
    }
    if append(out)? == Written::Absent {
        out.truncate(before);
    }
    Ok(())
}

fn render_object(entries: &[Entry], view: &View<'_>, out: &mut Vec<u8>) -> Result<(), RenderError> {
    out.push(b'{');
    let start = out.len();
    let mut spliced = Vec::new();
    for entry in entries {
        match entry {
            Entry::Named { json, item, .. } => separated(out, start, |out| {
                out.extend_from_slice(json);
                render_item(item, view, out)
            })?,
            Entry::Splice(value) => {
                let Some(object) = value.json(view)? else { continue };
                if Node::of(&object).kind() != json::Kind::Object {
                    return Err(value.failed("is no object: it has no members to splice in"));
                }
                for (name, member) in Node::of(&object).members() {
                    separated(out, start, |out| {
                        out.push(b'"');
                        out.extend_from_slice(name.source());
                        out.extend_from_slice(b"\":");
                        out.extend_from_slice(member.source());
                        Ok(Written::Whole)
                    })?;
                }
                spliced.push(object);
            }
        }
        if out.len() > BODY_LEN {
            return Err(RenderError::TooLarge);
        }
    }
    out.push(b'}');
    unique_names(entries, &spliced)
}

/// Refuses a name that the template and spliced members have both, or two spliced objects.
fn unique_names(entries: &[Entry], spliced: &[Bytes]) -> Result<(), RenderError> {
    let own = || {
        entries.iter().filter_map(|entry| match entry {
            Entry::Named { name, .. } => Some(&**name),
            Entry::Splice(_) => None,
        })
    };
    let twice = |name: &str| RenderError::NameTwice { name: shown(name) };
    match spliced {
        [] => Ok(()),
        [one] => {
            for (name, _) in Node::of(one).members() {
                if let Some(own) = own().find(|own| name.is(own)) {
                    return Err(twice(own));
                }
            }
            Ok(())
        }
        several => {
            let mut seen: HashSet<String> = own().map(str::to_owned).collect();
            for object in several {
                for (name, _) in Node::of(object).members() {
                    let name = name.text().into_owned();
                    if seen.contains(&name) {
                        // A name of the data is not shown: it may be anything.
                        let known = own().find(|own| *own == name);
                        return Err(twice(known.unwrap_or("(of the data)")));
                    }
                    seen.insert(name);
                }
            }
            Ok(())
        }
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
            Template::List(items) if items.iter().all(|item| item.optional().is_none()) => {
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
            Template::List(items) => {
                let items = items.iter().map(|item| self.item(item, depth + 1));
                let items = items.collect::<Result<_, _>>()?;
                self.push(Piece::List(items));
                Ok(())
            }
            Template::Text(text) => self.add_text(text),
            Template::Literal(literal) => {
                self.literal.extend_from_slice(literal.as_str().as_bytes());
                Ok(())
            }
        }
    }

    fn add_object(&mut self, members: &[Member], depth: usize) -> Result<(), Wrong> {
        let mut names = HashSet::new();
        for member in members {
            if let Member::Named(name, _) = member
                && !names.insert(name)
            {
                let text = format!("member {name} stands twice in one object");
                return Err(Wrong::new(Rule::ContractInvalid, text));
            }
        }
        let plain = |member: &Member| match member {
            Member::Named(_, template) => template.optional().is_none(),
            Member::Splice(_) => false,
        };
        if !members.iter().all(plain) {
            let entries = members.iter().map(|member| self.entry(member, depth));
            let entries = entries.collect::<Result<_, _>>()?;
            self.push(Piece::Object(entries));
            return Ok(());
        }
        self.literal.push(b'{');
        for (index, member) in members.iter().enumerate() {
            let Member::Named(name, value) = member else { continue };
            if index > 0 {
                self.literal.push(b',');
            }
            self.literal.extend_from_slice(&name_json(name));
            self.add(value, depth + 1)?;
        }
        self.literal.push(b'}');
        Ok(())
    }

    fn entry(&mut self, member: &Member, depth: usize) -> Result<Entry, Wrong> {
        match member {
            Member::Named(name, template) => {
                let item = self.item(template, depth + 1)?;
                let json = name_json(name);
                self.literal_len += json.len();
                Ok(Entry::Named { name: name.clone(), json: json.into(), item })
            }
            Member::Splice(value) => Ok(Entry::Splice(value.clone())),
        }
    }

    fn item(&mut self, template: &Template, depth: usize) -> Result<Item, Wrong> {
        if let Template::Text(text) = template
            && let Some(value) = template.optional()
        {
            text.check(Place::Body)?;
            return Ok(Item::Optional(value.clone()));
        }
        let mut inner = Compiler::default();
        inner.add(template, depth)?;
        let pieces = inner.take();
        self.literal_len += inner.literal_len;
        Ok(Item::Certain(pieces))
    }

    fn add_text(&mut self, text: &TextTemplate) -> Result<(), Wrong> {
        text.check(Place::Body)?;
        match text.single() {
            // Its quotes are known before it is rendered: below, as of any other string.
            Some(Value::Accessor(accessor)) if accessor.kind() == Kind::Text => {}
            Some(value) => {
                self.push(Piece::Json(value.clone()));
                return Ok(());
            }
            None => {}
        }
        self.literal.push(b'"');
        for piece in text.pieces() {
            match piece {
                TextPiece::Literal(text) => {
                    let start = self.literal.len();
                    self.literal.extend_from_slice(text.as_bytes());
                    escape_from(&mut self.literal, start);
                }
                TextPiece::Value(value) => self.push(Piece::Escaped(value.clone())),
            }
        }
        self.literal.push(b'"');
        Ok(())
    }

    fn push(&mut self, piece: Piece) {
        self.flush();
        self.pieces.push(piece);
    }

    fn flush(&mut self) {
        if self.literal.is_empty() {
            return;
        }
        self.literal_len += self.literal.len();
        self.pieces.push(Piece::Literal(std::mem::take(&mut self.literal).into()));
    }

    fn take(&mut self) -> Pieces {
        self.flush();
        std::mem::take(&mut self.pieces).into()
    }
}

/// `"name":`
fn name_json(name: &str) -> Vec<u8> {
    let mut json = Vec::with_capacity(name.len() + 3);
    json::write_string(&mut json, name);
    json.push(b':');
    json
}

#[cfg(test)]
mod tests;
