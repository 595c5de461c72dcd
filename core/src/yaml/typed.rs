//! A node with the path of its key, and what it can be read as.

use std::fmt::{Display, Write as _};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use super::{Fault, Key, Node, Typed, Value, duration};

/// Longest part of a document that a message quotes, in characters.
const QUOTED: usize = 64;

/// A node and the way to it from the root, for messages such as `timeouts[1]: must be …`.
#[derive(Clone, Debug)]
pub struct At<'a> {
    node: &'a Node,
    path: Option<Rc<Step<'a>>>,
}

/// The last step of a path, and the ones before it.
#[derive(Debug)]
struct Step<'a> {
    before: Option<Rc<Step<'a>>>,
    name: Name<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Name<'a> {
    Key(&'a str),
    Index(usize),
}

/// A key of a mapping and its value.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// The key.
    pub key: &'a Key,
    /// The value.
    pub value: At<'a>,
}

impl<'a> At<'a> {
    /// The root of a document.
    pub fn root(node: &'a Node) -> Self {
        Self { node, path: None }
    }

    /// The node.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// The path of its key, as in `signatures[0].header`; empty for the root.
    pub fn path(&self) -> String {
        let mut names = Vec::new();
        let mut step = &self.path;
        while let Some(Step { before, name }) = step.as_deref() {
            names.push(*name);
            step = before;
        }
        let mut path = String::new();
        for name in names.into_iter().rev() {
            // Writing to a String cannot fail.
            let _ = match name {
                Name::Index(index) => write!(path, "[{index}]"),
                Name::Key(key) if !is_word(key) => write!(path, "[{}]", quoted(key)),
                Name::Key(key) if path.is_empty() => write!(path, "{key}"),
                Name::Key(key) => write!(path, ".{key}"),
            };
        }
        path
    }

    /// A fault of this node: its place, its path, and the rule.
    pub fn fault(&self, rule: impl Display) -> Fault {
        let (line, column) = (self.node.line, self.node.column);
        Fault::new(line, column, self.with_path(rule))
    }

    /// A fault of one of its keys, reported at the key.
    pub fn key_fault(&self, key: &Key, rule: impl Display) -> Fault {
        Fault::new(key.line, key.column, self.with_path(rule))
    }

    fn with_path(&self, rule: impl Display) -> String {
        match self.path() {
            path if path.is_empty() => rule.to_string(),
            path => format!("{path}: {rule}"),
        }
    }

    fn child(&self, node: &'a Node, name: Name<'a>) -> Self {
        Self { node, path: Some(Rc::new(Step { before: self.path.clone(), name })) }
    }

    /// Whether it is `null`, without quotes.
    pub fn is_null(&self) -> bool {
        self.node.typed() == Some(Typed::Null)
    }

    /// Text: quoted, in a block, or plain and not of another type.
    ///
    /// # Errors
    ///
    /// It is something else; `true`, `null` and numbers become text in quotes.
    pub fn text(&self) -> Result<&'a str, Fault> {
        match self.node.typed() {
            Some(Typed::Text(text)) => Ok(text),
            Some(Typed::Null | Typed::Bool(_) | Typed::Number(_)) => {
                Err(self.must_be("text; put it in quotes"))
            }
            None => Err(self.must_be("text")),
        }
    }

    /// `true` or `false`, without quotes.
    ///
    /// # Errors
    ///
    /// It is something else, `yes` and `"true"` too.
    pub fn boolean(&self) -> Result<bool, Fault> {
        match self.node.typed() {
            Some(Typed::Bool(value)) => Ok(value),
            Some(Typed::Null | Typed::Number(_) | Typed::Text(_)) | None => {
                Err(self.must_be("true or false, without quotes"))
            }
        }
    }

    /// A whole number within bounds, without quotes, fraction and exponent.
    ///
    /// # Errors
    ///
    /// It is something else, or out of bounds.
    pub fn integer(&self, bounds: RangeInclusive<u64>) -> Result<u64, Fault> {
        let number = match self.node.typed() {
            Some(Typed::Number(number)) => number.parse().ok(),
            Some(Typed::Null | Typed::Bool(_) | Typed::Text(_)) | None => None,
        };
        number.filter(|number| bounds.contains(number)).ok_or_else(|| {
            let (from, to) = bounds.into_inner();
            self.must_be(format_args!("a whole number from {from} to {to}"))
        })
    }

    /// A number within bounds, without quotes.
    ///
    /// # Errors
    ///
    /// It is something else, or out of bounds.
    pub fn number(&self, bounds: RangeInclusive<f64>) -> Result<f64, Fault> {
        let number = match self.node.typed() {
            Some(Typed::Number(number)) => number.parse().ok(),
            Some(Typed::Null | Typed::Bool(_) | Typed::Text(_)) | None => None,
        };
        number.filter(|number| bounds.contains(number)).ok_or_else(|| {
            let (from, to) = bounds.into_inner();
            self.must_be(format_args!("a number from {from} to {to}"))
        })
    }

    /// A duration within bounds: whole numbers with their units `d h m s`, the larger first, as in
    /// `30s`, `5m`, `1h30m`, `2d`.
    ///
    /// # Errors
    ///
    /// It is something else, or out of bounds.
    pub fn duration(&self, bounds: RangeInclusive<Duration>) -> Result<Duration, Fault> {
        let duration = match self.node.typed() {
            Some(Typed::Text(text)) => duration::parse(text),
            Some(Typed::Null | Typed::Bool(_) | Typed::Number(_)) | None => None,
        };
        duration.filter(|duration| bounds.contains(duration)).ok_or_else(|| {
            let (from, to) = (duration::show(*bounds.start()), duration::show(*bounds.end()));
            let rule = format!("a duration from {from} to {to} with its units, as in 30s or 1h30m");
            self.must_be(rule)
        })
    }

    /// One word of several.
    ///
    /// # Errors
    ///
    /// It is none of them; one that is near is named.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, Fault> {
        let text = self.text()?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let words = || choices.iter().map(|(word, _)| *word);
        let list = words().collect::<Vec<_>>().join(", ");
        Err(match near(text, words()) {
            Some(word) => self.fault(format_args!("must be one of {list}; did you mean {word}?")),
            None => self.fault(format_args!("must be one of {list}")),
        })
    }

    /// The elements of a list.
    ///
    /// # Errors
    ///
    /// It is no list, or its length is out of bounds.
    pub fn elements(&self, length: RangeInclusive<usize>) -> Result<Vec<At<'a>>, Fault> {
        let Value::List(elements) = &self.node.value else {
            return Err(self.must_be("a list"));
        };
        if !length.contains(&elements.len()) {
            let (from, to) = (length.start(), length.end());
            let rule = format!("must have {from} to {to} elements, not {}", elements.len());
            return Err(self.fault(rule));
        }
        let elements = elements.iter().enumerate();
        Ok(elements.map(|(index, node)| self.child(node, Name::Index(index))).collect())
    }

    /// The members of a mapping in order, whatever their keys.
    ///
    /// # Errors
    ///
    /// It is no mapping.
    pub fn members(&self) -> Result<Vec<Member<'a>>, Fault> {
        let Value::Map(members) = &self.node.value else {
            return Err(self.must_be("a mapping"));
        };
        let member = |(key, node): &'a (Key, Node)| Member {
            key,
            value: self.child(node, Name::Key(&key.text)),
        };
        Ok(members.iter().map(member).collect())
    }

    fn must_be(&self, what: impl Display) -> Fault {
        self.fault(format_args!("must be {what} (it is {})", self.node.kind()))
    }
}

/// Whether a key can stand in a path without quotes.
fn is_word(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= QUOTED
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// A key as messages quote it: escaped, and cut where it is long.
pub(super) fn quoted(key: &str) -> String {
    let cut = key.char_indices().nth(QUOTED).map_or(key.len(), |(offset, _)| offset);
    let dots = if cut < key.len() { "…" } else { "" };
    format!("{:?}{dots}", &key[..cut])
}

/// The word that was probably meant: the same but for case and separators, or one or two letters
/// away.
pub(super) fn near<'k>(text: &str, words: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    if text.len() > QUOTED {
        return None;
    }
    let wanted = letters(text);
    let allowed = (wanted.len() / 3).min(2);
    words
        .map(|word| (distance(&wanted, &letters(word)), word))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

fn letters(text: &str) -> Vec<char> {
    let letters = text.chars().filter(|c| !matches!(c, '_' | '-' | ' '));
    letters.flat_map(char::to_lowercase).collect()
}

/// Levenshtein's distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let best = (left + 1).min(*above + 1).min(diagonal + usize::from(x != y));
            diagonal = *above;
            *above = best;
            left = best;
        }
    }
    row.last().copied().unwrap_or_default()
}
