//! Which revisions there were, and when they were first seen here: how long a node is behind.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_rpc::revision::Revision;

/// Revisions that are remembered. A node further behind is shown as behind for as long as the
/// oldest of them.
const SEEN: usize = 1000;

/// The latest revision, and those before it.
#[derive(Debug)]
pub(crate) struct Heads {
    latest: Revision,
    /// In ascending order, of revisions and of times.
    seen: Mutex<VecDeque<(i64, Timestamp)>>,
}

impl Heads {
    pub(crate) fn new(latest: Revision) -> Self {
        Self { latest, seen: Mutex::default() }
    }

    /// Notes that a revision is committed.
    pub(crate) fn saw(&self, revision: i64, now: Timestamp) {
        self.latest.advance(revision);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.back().is_none_or(|(last, _)| *last < revision) {
            seen.push_back((revision, now));
            if seen.len() > SEEN {
                seen.pop_front();
            }
        }
    }

    /// For how long there has been a revision above the one that is served.
    pub(crate) fn lag(&self, served: i64, now: Timestamp) -> Duration {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let first = seen.partition_point(|(revision, _)| *revision <= served);
        seen.get(first).map_or(Duration::ZERO, |(_, time)| now.since(*time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_behind_since_the_first_revision_it_lacks() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let heads = Heads::new(Revision::none());
        for (revision, time) in [(5, 10), (6, 20), (6, 25), (4, 26), (9, 30)] {
            heads.saw(revision, at(time));
        }
        let lag = |served| heads.lag(served, at(40)).as_secs();
        assert_eq!([4, 5, 6, 8, 9, 10].map(lag), [30, 20, 10, 10, 0, 0]);
        assert_eq!(heads.latest.get(), Some(9));
        for revision in 10..5000 {
            heads.saw(revision, at(35));
        }
        assert_eq!(heads.seen.lock().unwrap().len(), SEEN);
        assert_eq!(lag(5), 5);
    }
}
