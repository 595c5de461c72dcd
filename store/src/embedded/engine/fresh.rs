//! The latest events, as they were published: who takes them soon need not read them back.
//!
//! A run of numbers that goes on to the latest event. It is a cache of `event` and nothing more:
//! what is not here is read from the table, a rollback forgets it with the rest of the writer's
//! memory, and so does what removes events. Nothing is kept for who is behind: then the events that
//! are taken are not the latest.

use std::collections::VecDeque;
use std::sync::Arc;

use pregon_core::event::Event;

use crate::embedded::engine::codec::int;

/// Events kept at most: two takes.
const EVENTS: usize = 512;
/// Bytes of events kept at most, unless one alone has more.
const BYTES: usize = 4 * 1024 * 1024;

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::embedded) struct Fresh {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
}

impl Fresh {
    /// Whether the event of a number is worth keeping for who has taken all up to `cur`.
    pub fn wants(&self, n: i64, cur: i64) -> bool {
        n - cur <= int(EVENTS as u64)
    }

    /// Keeps an event; only what goes on from what is here is a run with it.
    pub fn push(&mut self, event: Arc<Event>) {
        if self.events.back().is_some_and(|last| last.position.n + 1 != event.position.n) {
            self.forget();
        }
        self.bytes += event.size();
        self.events.push_back(event);
        while self.events.len() > EVENTS || self.bytes > BYTES && self.events.len() > 1 {
            self.drop_first();
        }
    }

    /// The events of a range of numbers, if all of them are here.
    pub fn range(&self, first: i64, last: i64) -> Option<impl Iterator<Item = &Arc<Event>>> {
        let begin = int(self.events.front()?.position.n);
        let from = usize::try_from(first.checked_sub(begin)?).ok()?;
        let to = usize::try_from(last.checked_sub(begin)?).ok()?;
        (from <= to && to < self.events.len()).then(|| self.events.range(from..=to))
    }

    /// Events up to a number were taken.
    pub fn pass(&mut self, n: i64) {
        while self.events.front().is_some_and(|event| int(event.position.n) <= n) {
            self.drop_first();
        }
    }

    /// Forgets all: events may have gone.
    pub fn forget(&mut self) {
        self.events.clear();
        self.bytes = 0;
    }

    fn drop_first(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= event.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pregon_core::event::Environment;
    use pregon_core::id::EventId;

    use super::super::codec::position;
    use super::*;

    fn event(n: i64, bytes: usize) -> Arc<Event> {
        let position = position(n, 1);
        Arc::new(Event {
            position,
            tenant: "shop".parse().unwrap(),
            id: EventId::assigned(position),
            version: 0,
            event_type: "order.paid".parse().unwrap(),
            environment: Environment::Live,
            given_occur_time: None,
            erased: None,
            min_revision: 0,
            trace: None,
            terms: None,
            attributes: Default::default(),
            data: Bytes::from(vec![b' '; bytes]),
        })
    }

    fn numbers(fresh: &Fresh, first: i64, last: i64) -> Option<Vec<i64>> {
        Some(fresh.range(first, last)?.map(|event| int(event.position.n)).collect())
    }

    #[test]
    fn a_range_is_whole_or_not_there() {
        let mut fresh = Fresh::default();
        assert_eq!(numbers(&fresh, 1, 1), None);
        (5..10).for_each(|n| fresh.push(event(n, 1)));
        assert_eq!(numbers(&fresh, 6, 8), Some(vec![6, 7, 8]));
        assert_eq!(numbers(&fresh, 5, 9), Some((5..10).collect()));
        for (first, last) in [(4, 6), (9, 10), (10, 11), (1, 3), (7, 6)] {
            assert_eq!(numbers(&fresh, first, last), None, "{first} to {last}");
        }
        fresh.pass(6);
        assert_eq!((numbers(&fresh, 6, 8), numbers(&fresh, 7, 7)), (None, Some(vec![7])));
        fresh.push(event(20, 1));
        assert_eq!((numbers(&fresh, 9, 9), numbers(&fresh, 20, 20)), (None, Some(vec![20])));
        fresh.forget();
        assert_eq!((numbers(&fresh, 20, 20), fresh.bytes), (None, 0));
    }

    #[test]
    fn it_is_bounded() {
        let mut fresh = Fresh::default();
        (0..2 * int(EVENTS as u64)).for_each(|n| fresh.push(event(n, 1)));
        assert_eq!((fresh.events.len(), fresh.bytes), (EVENTS, EVENTS));
        (0..3).for_each(|n| fresh.push(event(n, BYTES / 2)));
        assert_eq!((fresh.events.len(), fresh.bytes), (2, BYTES));
        fresh.push(event(3, 2 * BYTES));
        assert_eq!(numbers(&fresh, 3, 3), Some(vec![3]));
        assert!(fresh.wants(4, 3) && !fresh.wants(600, 3));
    }
}
