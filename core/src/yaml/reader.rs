//! Collecting: everything that is wrong with a document is reported at once.

use std::ops::RangeInclusive;

use super::typed::{near, quoted};
use super::{At, Fault};

/// Faults reported at once: who has more mends these first.
pub const FAULTS: usize = 50;

/// Takes a tree apart and notes what is wrong on the way.
#[derive(Debug, Default)]
pub struct Reader {
    faults: Vec<Fault>,
}

impl Reader {
    /// Starts with nothing wrong.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a fault, up to [`FAULTS`].
    pub fn add(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS {
            self.faults.push(fault);
        }
    }

    /// Takes what was read, or notes why it could not be.
    pub fn check<T>(&mut self, read: Result<T, Fault>) -> Option<T> {
        read.map_err(|fault| self.add(fault)).ok()
    }

    /// A list of a bounded length, element by element. None, with every fault noted, if it is no such
    /// list or an element could not be read.
    pub fn list_of<'a, T>(
        &mut self,
        at: &At<'a>,
        length: RangeInclusive<usize>,
        mut each: impl FnMut(&mut Self, &At<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let elements = self.check(at.elements(length))?;
        // Read all before giving up, so that all faults are noted.
        let read: Vec<_> = elements.iter().map(|element| each(self, element)).collect();
        read.into_iter().collect()
    }

    /// A mapping with these keys and no others; an unknown key is noted at its place. None if it is
    /// no mapping.
    pub fn map<'a>(&mut self, at: &At<'a>, known: &[&str]) -> Option<Map<'a>> {
        let members = self.check(at.members())?;
        let mut values = Vec::new();
        for member in members {
            let key = &member.key.text;
            if known.contains(&key.as_str()) {
                values.push((key.as_str(), member.value));
                continue;
            }
            let name = quoted(key);
            let rule = match near(key, known.iter().copied()) {
                Some(word) => format!("unknown key {name}; did you mean {word:?}?"),
                None => format!("unknown key {name}; known are {}", known.join(", ")),
            };
            self.add(at.key_fault(member.key, rule));
        }
        Some(Map { at: at.clone(), values })
    }

    /// Whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// `Ok` when nothing was noted, else every fault in the order of the document.
    pub fn finish(mut self) -> Result<(), Vec<Fault>> {
        self.faults.sort();
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }
}

/// A mapping whose keys are known.
#[derive(Clone, Debug)]
pub struct Map<'a> {
    at: At<'a>,
    values: Vec<(&'a str, At<'a>)>,
}

impl<'a> Map<'a> {
    /// Where the mapping itself stands.
    pub fn at(&self) -> &At<'a> {
        &self.at
    }

    /// The value of a key, if the document has it.
    pub fn get(&self, key: &str) -> Option<&At<'a>> {
        self.values.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// The document does not have it.
    pub fn required(&self, key: &str) -> Result<&At<'a>, Fault> {
        self.get(key).ok_or_else(|| self.at.fault(format_args!("{key} is missing")))
    }
}
