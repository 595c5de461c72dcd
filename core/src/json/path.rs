//! Compiled lookups: `a[0]["b-c"].?d`, what follows `event.data` in a template or a list of
//! sensitive paths.
//!
//! A path finds the source bytes of a value and nothing else. `?` before a name or index makes the
//! step, and every later one, optional: its absence is no error but leaves the value out. Whether a
//! miss is an error is the caller's affair; [`Path::miss_is_absence`] tells.

use super::Node;
use crate::error::{Rule, Wrong};

/// One step of a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Into an object, by the member's name (unescaped).
    Member(Box<str>),
    /// Into an array, by the index from 0.
    Element(usize),
}

impl<'a> Node<'a> {
    /// The value one step further in.
    pub fn step(self, step: &Step) -> Option<Node<'a>> {
        match step {
            Step::Member(name) => self.member(name),
            Step::Element(index) => self.element(*index),
        }
    }

    /// The value that the steps lead to.
    pub fn follow(self, steps: &[Step]) -> Option<Node<'a>> {
        steps.iter().try_fold(self, |node, step| node.step(step))
    }
}

/// The source bytes of the value that the steps lead to; none when one leads nowhere. The text must
/// have passed [`check`](super::check).
pub fn find<'a>(text: &'a [u8], steps: &[Step]) -> Option<&'a [u8]> {
    Node::of(text).follow(steps).map(Node::source)
}

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    steps: Box<[Step]>,
    optional_from: usize,
}

impl Path {
    /// Parses what follows the root: `.name`, `.?name`, `[0]`, `[?0]`, `["any name"]`,
    /// `[?"any name"]`, in any number. The empty text is the root itself.
    ///
    /// # Errors
    ///
    /// [`Rule::Malformed`], with the offset of what is not a step.
    pub fn parse(source: &str) -> Result<Self, Wrong> {
        let mut steps = Vec::new();
        let mut optional_from = usize::MAX;
        let mut rest = source;
        while !rest.is_empty() {
            let (step, optional, after) = parse_step(rest).ok_or_else(|| {
                let at = source.len() - rest.len();
                Wrong::new(Rule::Malformed, format!("not a path step at byte {at} of {source:?}"))
            })?;
            if optional {
                optional_from = optional_from.min(steps.len());
            }
            steps.push(step);
            rest = after;
        }
        Ok(Self { steps: steps.into(), optional_from })
    }

    /// The steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The source bytes of the value in `text`, which must have passed [`check`](super::check).
    pub fn find<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        find(text, &self.steps)
    }

    /// Whether a miss in this text is an absent optional (`true`) or a wrong path (`false`). Only
    /// meaningful after [`Path::find`] found nothing.
    pub fn miss_is_absence(&self, text: &[u8]) -> bool {
        let (certain, _) = self.steps.split_at(self.optional_from.min(self.steps.len()));
        certain.len() < self.steps.len() && Node::of(text).follow(certain).is_some()
    }
}

/// A step in front of `text`: the step, whether it is optional, and what follows.
pub(crate) fn parse_step(text: &str) -> Option<(Step, bool, &str)> {
    if let Some(rest) = text.strip_prefix('.') {
        let (optional, rest) = strip_question(rest);
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let len = rest.find(|c| !word(c)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(len);
        let starts = name.chars().next()?;
        return (!starts.is_ascii_digit()).then(|| (Step::Member(name.into()), optional, rest));
    }
    let (optional, rest) = strip_question(text.strip_prefix('[')?);
    let (step, rest) = if rest.starts_with('"') {
        let (name, rest) = quoted(rest)?;
        (Step::Member(name.into()), rest)
    } else {
        let len = rest.find(|c: char| !c.is_ascii_digit())?;
        let (digits, rest) = rest.split_at(len);
        (Step::Element(digits.parse().ok()?), rest)
    };
    Some((step, optional, rest.strip_prefix(']')?))
}

fn strip_question(text: &str) -> (bool, &str) {
    match text.strip_prefix('?') {
        Some(rest) => (true, rest),
        None => (false, text),
    }
}

/// A JSON string in front of `text`, unescaped, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut escaped = false;
    let close = text.char_indices().skip(1).find(|&(_, c)| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    })?;
    let (literal, rest) = text.split_at(close.0 + 1);
    super::check(literal.as_bytes(), 0).ok()?;
    Some((Node::of(literal.as_bytes()).as_str()?.into_owned(), rest))
}
