//! Redaction: the values that must not be stored, shown or logged, taken out of a text.
//!
//! A contract, an event type or a subscription names them by path. What stands at a path, with all
//! that is in it, becomes `"[redacted]"`, and everything else stays byte for byte. A path says what
//! must not be seen, not what must be there: one that leads nowhere changes nothing. One walk serves
//! all paths, and it enters only the values that some path leads into, so it descends as far as the
//! longest path, not as far as the text.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::error::{Rule, Wrong};
use crate::json::{Kind, Node, Step, parse_step, skip_space};
use crate::limits::{SENSITIVE_PATH_LEN, SENSITIVE_STEPS};

mod scrub;

pub use scrub::Scrub;

/// What stands in place of a sensitive value.
pub const REDACTED: &[u8] = b"\"[redacted]\"";

/// Paths that one walk follows: a bit each.
const AT_ONCE: usize = u64::BITS as usize;

/// The data that a path leads into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SensitiveRoot {
    /// `event.data`: what was published.
    Event,
    /// `check.data`: what a callback is asked about.
    Check,
}

/// A path to values that must not be seen: `event.data.a.b`, `event.data.list[*].c`,
/// `check.data["x-y"]`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SensitivePath {
    source: Box<str>,
    root: SensitiveRoot,
    steps: Box<[SensitiveStep]>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum SensitiveStep {
    Member(Box<str>),
    /// `[*]`: into every element of an array.
    Each,
}

impl SensitivePath {
    /// Parses `event.data` or `check.data` and what follows: `.name`, `["any name"]`, `[*]`.
    ///
    /// # Errors
    ///
    /// [`Rule::TooLong`] for more than 256 bytes, [`Rule::TooMany`] for more than 16 steps,
    /// [`Rule::Malformed`] for another root or, with its offset, for what is not a step.
    pub fn parse(source: &str) -> Result<Self, Wrong> {
        if source.len() > SENSITIVE_PATH_LEN {
            let text = format!("must be a path of at most {SENSITIVE_PATH_LEN} bytes");
            return Err(Wrong::new(Rule::TooLong, text));
        }
        let (root, mut rest) = if let Some(rest) = source.strip_prefix("event.data") {
            (SensitiveRoot::Event, rest)
        } else if let Some(rest) = source.strip_prefix("check.data") {
            (SensitiveRoot::Check, rest)
        } else {
            return Err(Wrong::new(Rule::Malformed, "must begin with event.data or check.data"));
        };
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = sensitive_step(rest).ok_or_else(|| {
                let at = source.len() - rest.len();
                let text = "is not .name, [\"name\"] or [*]";
                Wrong::new(
                    Rule::Malformed,
                    format!("what stands at byte {at} of {source:?} {text}"),
                )
            })?;
            steps.push(step);
            rest = after;
        }
        if steps.len() > SENSITIVE_STEPS {
            let text = format!("must be a path of at most {SENSITIVE_STEPS} steps");
            return Err(Wrong::new(Rule::TooMany, text));
        }
        Ok(Self { source: source.into(), root, steps: steps.into() })
    }

    /// The data that it leads into.
    pub fn root(&self) -> SensitiveRoot {
        self.root
    }

    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

impl fmt::Display for SensitivePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl fmt::Debug for SensitivePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SensitivePath({})", self.source)
    }
}

fn sensitive_step(text: &str) -> Option<(SensitiveStep, &str)> {
    if let Some(rest) = text.strip_prefix("[*]") {
        return Some((SensitiveStep::Each, rest));
    }
    match parse_step(text)? {
        (Step::Member(name), false, rest) => Some((SensitiveStep::Member(name), rest)),
        (Step::Member(_) | Step::Element(_), _, _) => None,
    }
}

/// The text of `root`'s data with [`REDACTED`] in place of every value that a path of that root
/// leads to; the paths of the other root are left alone. The text must have passed
/// [`check`](crate::json::check). Where nothing is found, the text itself, without a copy.
pub fn redact(json: &Bytes, root: SensitiveRoot, paths: &[SensitivePath]) -> Bytes {
    let mut text = json.clone();
    for paths in paths.chunks(AT_ONCE) {
        if let Some(redacted) = Walk::new(&text, paths).run(root) {
            text = redacted.into();
        }
    }
    text
}

/// Whether a path of an event leads to a value in its data: a string of this text, or a number, `true`,
/// `false` or `null` that is written so. The data must have passed [`check`](crate::json::check).
pub fn holds(data: &[u8], path: &SensitivePath, value: &str) -> bool {
    let is = |found: &&[u8]| {
        let node = Node::of(found);
        match node.kind() {
            Kind::String => node.as_str().is_some_and(|text| text == value),
            Kind::Number | Kind::Bool | Kind::Null => node.source() == value.as_bytes(),
            Kind::Object | Kind::Array => false,
        }
    };
    found(data, SensitiveRoot::Event, std::slice::from_ref(path)).iter().any(is)
}

/// The values that [`redact`] would take out, as they stand in the text.
fn found<'a>(json: &'a [u8], root: SensitiveRoot, paths: &[SensitivePath]) -> Vec<&'a [u8]> {
    let mut found = Vec::new();
    for paths in paths.chunks(AT_ONCE) {
        let mut walk = Walk::new(json, paths);
        walk.start(root);
        found.extend(walk.found.iter().filter_map(|range| json.get(range.clone())));
    }
    found
}

/// One pass over a text with up to [`AT_ONCE`] paths.
struct Walk<'a> {
    text: &'a [u8],
    paths: &'a [SensitivePath],
    found: Vec<Range<usize>>,
    out: Vec<u8>,
    /// How much of the text has been copied or replaced.
    done: usize,
}

impl<'a> Walk<'a> {
    fn new(text: &'a [u8], paths: &'a [SensitivePath]) -> Self {
        Self { text, paths, found: Vec::new(), out: Vec::new(), done: 0 }
    }

    fn start(&mut self, root: SensitiveRoot) {
        let bits = self.paths.iter().zip(0u32..);
        let all =
            bits.filter(|(path, _)| path.root == root).fold(0, |all, (_, bit)| all | 1 << bit);
        let node = Node::of(self.text);
        let start = skip_space(self.text, 0);
        self.value(node, start, 0, all);
    }

    fn run(mut self, root: SensitiveRoot) -> Option<Vec<u8>> {
        self.start(root);
        if self.out.is_empty() {
            return None;
        }
        self.out.extend_from_slice(self.text.get(self.done..).unwrap_or_default());
        Some(self.out)
    }

    /// Redacts within the value that stands at `start`, which the paths in `active` have reached
    /// with `depth` steps. Recursion is as deep as the longest path.
    fn value(&mut self, node: Node<'a>, start: usize, depth: usize, active: u64) {
        if active == 0 {
            return;
        }
        if self.step(active, |steps| steps.len() == depth) != 0 {
            self.replace(start, node.source().len());
            return;
        }
        match node.kind() {
            Kind::Object => {
                let mut members = node.members();
                while let Some((name, value)) = members.next() {
                    let inside = self.step(active, |steps| match steps.get(depth) {
                        Some(SensitiveStep::Member(wanted)) => name.is(wanted),
                        Some(SensitiveStep::Each) | None => false,
                    });
                    let start = start + members.end() - value.source().len();
                    self.value(value, start, depth + 1, inside);
                }
            }
            Kind::Array => {
                let each =
                    |steps: &[SensitiveStep]| matches!(steps.get(depth), Some(SensitiveStep::Each));
                let inside = self.step(active, each);
                if inside == 0 {
                    return;
                }
                let mut elements = node.elements();
                while let Some(value) = elements.next() {
                    let start = start + elements.end() - value.source().len();
                    self.value(value, start, depth + 1, inside);
                }
            }
            Kind::Null | Kind::Bool | Kind::Number | Kind::String => {}
        }
    }

    /// Those of the active paths whose steps are as asked.
    fn step(&self, active: u64, wanted: impl Fn(&[SensitiveStep]) -> bool) -> u64 {
        let mut rest = active;
        let mut found = 0;
        // Every turn takes the lowest bit.
        while rest != 0 {
            let at = rest.trailing_zeros();
            rest &= rest - 1;
            if self.paths.get(at as usize).is_some_and(|path| wanted(&path.steps)) {
                found |= 1 << at;
            }
        }
        found
    }

    fn replace(&mut self, start: usize, length: usize) {
        self.found.push(start..start + length);
        if self.out.is_empty() {
            self.out.reserve(self.text.len() + REDACTED.len());
        }
        self.out.extend_from_slice(self.text.get(self.done..start).unwrap_or_default());
        self.out.extend_from_slice(REDACTED);
        self.done = start + length;
    }
}

#[cfg(test)]
mod tests;
