//! Events of the parser to a tree: one pass with a stack of open containers, so that depth is
//! bounded before anything deeper is read.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::source::Cursor;
use super::{DEPTH, Fault, Key, Node, Value, is_number};

const MISSING: &str = "a value is missing; write it, or null, or \"\" for an empty text";
const SECOND: &str = "a second document; only one is read: remove it and the line with ---";

/// Reads a text whose characters are checked.
pub(super) fn tree(text: &str) -> Result<Node, Fault> {
    let mut builder = Builder { cursor: Cursor::new(text), open: Vec::new(), root: None };
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| explain(text, &error))?;
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(fault(span, SECOND));
                }
            }
            Event::Alias(_) => return Err(fault(span, ALIAS)),
            Event::Scalar(text, style, anchor, tag) => {
                refuse(span, anchor, tag.is_some())?;
                builder.scalar(span, text.into_owned(), style == ScalarStyle::Plain)?;
            }
            Event::SequenceStart(anchor, tag) => {
                refuse(span, anchor, tag.is_some())?;
                builder.open(span, Items::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                refuse(span, anchor, tag.is_some())?;
                let map = Items::Map { members: Vec::new(), key: None, seen: HashMap::new() };
                builder.open(span, map)?;
            }
            Event::SequenceEnd | Event::MappingEnd => builder.close()?,
        }
    }
    builder.root.ok_or_else(|| Fault::new(1, 1, "the document is empty"))
}

const ALIAS: &str =
    "an alias (*) is not allowed: repeat the value; text that starts with * needs quotes";
const ANCHOR: &str =
    "an anchor (&) is not allowed: remove it; text that starts with & needs quotes";
const TAG: &str = "a tag (!) is not allowed: remove it; text that starts with ! needs quotes";

fn refuse(span: Span, anchor: usize, tagged: bool) -> Result<(), Fault> {
    match (anchor, tagged) {
        (0, false) => Ok(()),
        (0, true) => Err(fault(span, TAG)),
        _ => Err(fault(span, ANCHOR)),
    }
}

fn fault(span: Span, text: impl Into<String>) -> Fault {
    Fault::new(span.start.line(), span.start.col() + 1, text)
}

/// The parser's words for a text that is not YAML, or better ones where the place tells more.
fn explain(text: &str, error: &ScanError) -> Fault {
    let (line, column) = (error.marker().line(), error.marker().col() + 1);
    let here = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let text = match here.chars().nth(column - 1) {
        Some('*') => ALIAS.to_owned(),
        Some('&') => ANCHOR.to_owned(),
        Some('!') => TAG.to_owned(),
        Some(sign @ ('@' | '`' | '%')) => format!("text that starts with {sign} needs quotes"),
        Some(_) | None if here.contains("${") => format!(
            "{}; text with ${{…}} needs quotes in flow style, and where it holds \": \" or \" #\"",
            error.info()
        ),
        Some(_) | None => error.info().to_owned(),
    };
    Fault::new(line, column, text)
}

/// A container that is not closed yet.
struct Open {
    line: usize,
    column: usize,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Map {
        members: Vec<(Key, Node)>,
        /// The key whose value is next.
        key: Option<Key>,
        /// Where each key stands.
        seen: HashMap<String, (usize, usize)>,
    },
}

struct Builder<'a> {
    cursor: Cursor<'a>,
    open: Vec<Open>,
    root: Option<Node>,
}

impl Builder<'_> {
    fn awaits_key(&self) -> bool {
        let items = self.open.last().map(|open| &open.items);
        matches!(items, Some(Items::Map { key: None, .. }))
    }

    fn open(&mut self, span: Span, items: Items) -> Result<(), Fault> {
        if self.awaits_key() {
            return Err(fault(span, "a key must be text, not a mapping or a list"));
        }
        if self.open.len() >= DEPTH {
            return Err(fault(span, format!("nested deeper than {DEPTH} levels")));
        }
        let (line, column) = (span.start.line(), span.start.col() + 1);
        self.open.push(Open { line, column, items });
        Ok(())
    }

    fn scalar(&mut self, span: Span, text: String, plain: bool) -> Result<(), Fault> {
        if self.awaits_key() {
            return self.key(span, text, plain);
        }
        let (line, column) = (span.start.line(), span.start.col() + 1);
        if plain && text.is_empty() {
            let key = self.open.last().and_then(|open| match &open.items {
                Items::Map { key, .. } => key.as_ref(),
                Items::List(_) => None,
            });
            let (line, column) = key.map_or((line, column), |key| (key.line, key.column));
            return Err(Fault::new(line, column, MISSING));
        }
        if plain && is_number(&text) && !text.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err(fault(span, "a number that no double can hold; put it in quotes"));
        }
        self.add(Node { line, column, value: Value::Scalar { text, plain } })
    }

    fn key(&mut self, span: Span, text: String, plain: bool) -> Result<(), Fault> {
        if is_explicit(self.cursor.before_index(span.start.index())) {
            return Err(fault(span, "a complex key (?) is not allowed; write key: value"));
        }
        if plain && text.is_empty() {
            return Err(fault(span, "a key is missing before the colon"));
        }
        if plain && text == "<<" {
            return Err(fault(span, "a merge key (<<) is not allowed; write the members out"));
        }
        let key = Key { line: span.start.line(), column: span.start.col() + 1, text };
        let Some(Open { items: Items::Map { key: next, seen, .. }, .. }) = self.open.last_mut()
        else {
            return Err(fault(span, "a key outside a mapping"));
        };
        if let Some((line, column)) = seen.insert(key.text.clone(), (key.line, key.column)) {
            let name = super::typed::quoted(&key.text);
            return Err(fault(span, format!("duplicate key {name}, first at {line}:{column}")));
        }
        *next = Some(key);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(Open { line, column, items }) = self.open.pop() else {
            return Ok(());
        };
        let value = match items {
            Items::List(elements) => Value::List(elements),
            Items::Map { members, .. } => Value::Map(members),
        };
        self.add(Node { line, column, value })
    }

    fn add(&mut self, node: Node) -> Result<(), Fault> {
        match self.open.last_mut().map(|open| &mut open.items) {
            Some(Items::List(elements)) => elements.push(node),
            Some(Items::Map { members, key, .. }) => match key.take() {
                Some(key) => members.push((key, node)),
                None => return Err(Fault::new(node.line, node.column, "a value without a key")),
            },
            None => self.root = Some(node),
        }
        Ok(())
    }
}

/// Whether the text before a key ends in the `?` of YAML's long form, on the key's line or alone on
/// the line before.
fn is_explicit(before: &str) -> bool {
    let before = before.trim_end_matches(' ');
    if before.ends_with('?') {
        return true;
    }
    let above = before.trim_end_matches(['\n', '\r', ' ']);
    above.len() < before.len() && above.lines().next_back().is_some_and(|line| line.trim() == "?")
}
