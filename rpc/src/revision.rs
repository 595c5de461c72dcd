//! The revision that a server's answers carry.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Response metadata that carries the revision.
pub const HEADER: &str = "pregon-revision";

/// A revision that one part of a process moves and every answer reads: the latest committed one on
/// the control plane, the served one on the data plane. It only grows.
#[derive(Clone, Debug, Default)]
pub struct Revision(Arc<AtomicI64>);

impl Revision {
    /// No revision yet: answers carry none.
    pub fn none() -> Self {
        Self::default()
    }

    /// Moves it forward; an older revision changes nothing.
    pub fn advance(&self, revision: i64) {
        self.0.fetch_max(revision, Ordering::AcqRel);
    }

    /// The revision, once there is one.
    pub fn get(&self) -> Option<i64> {
        let revision = self.0.load(Ordering::Acquire);
        (revision > 0).then_some(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_only_grows() {
        let revision = Revision::none();
        assert_eq!(revision.get(), None);
        let seen = revision.clone();
        revision.advance(7);
        revision.advance(3);
        assert_eq!(seen.get(), Some(7));
    }
}
