//! Which keys a process has, and under which it seals: decided of its file, what the store needs and who
//! else is there.
//!
//! A key seals under which something lies already, or which every process has that is there: under any
//! other, somebody who has all that the store needs would stand still. Of these it is the first of the
//! file. One under which nothing lies yet takes over only after all had it for
//! [`pregon_store::node::LOST_AFTER`] in unbroken looks: who says nothing for a moment is still counted
//! on.

use std::sync::Arc;
use std::time::Duration;

use pregon_core::seal::{Held, KeyId, KeyRing};
use pregon_store::node::LOST_AFTER;

use super::tally::Counts;

/// Processes that a reason names.
const NAMED: usize = 4;

/// Another process that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// What it is called.
    pub name: String,
    /// The keys of its file; empty: it does not say.
    pub keys: Vec<KeyId>,
}

/// What is known.
pub struct Known<'a> {
    /// The key file.
    pub file: &'a KeyRing,
    /// What the store needs.
    pub counts: &'a Counts,
    /// The other processes.
    pub others: &'a [Other],
    /// Whether this process seals.
    pub seals: bool,
    /// The key that is to take over, and for how long all have had it; none: no key is.
    pub waited: Option<(KeyId, Duration)>,
    /// Whether all processes that are there are known.
    pub settled: bool,
    /// The keys until now; none: it starts.
    pub before: Option<&'a Held>,
}

/// What follows.
pub struct Decision {
    /// The keys.
    pub held: Held,
    /// Those of them that are not in the file any more.
    pub kept: Vec<KeyId>,
    /// The key that is to take over once all have had it for long enough.
    pub waits: Option<KeyId>,
}

impl Known<'_> {
    /// Decides.
    pub fn decide(&self) -> Decision {
        let had = self.before.map(|before| before.ring.ids()).unwrap_or_default();
        let gone = had.into_iter().filter(|id| !self.file.has(*id));
        let kept: Vec<_> = gone.filter(|id| self.counts.may_need(*id)).collect();
        let mut ring = self.file.clone();
        if let Some(before) = self.before {
            ring = ring.keeping(&before.ring, &kept);
        }
        let (sealing, waits) = match self.seals {
            true => self.choose(&ring),
            false => (Some(self.file.current()), None),
        };
        let apart = sealing.is_none().then(|| self.apart());
        let ring = Arc::new(ring.sealing_under(sealing.unwrap_or(self.file.current())));
        let held = Held {
            ring,
            given: self.file.ids(),
            documents: self.counts.keys.clone(),
            unreadable: self.counts.unreadable,
            apart,
            settled: self.settled,
        };
        Decision { held, kept, waits }
    }

    /// The key to seal under, none where there is none; and the one that is to take over.
    fn choose(&self, ring: &KeyRing) -> (Option<KeyId>, Option<KeyId>) {
        let sealed_here = self.before.filter(|before| before.apart.is_none());
        let until_now = sealed_here.map(|before| before.ring.current()).filter(|id| ring.has(*id));
        let until_now = until_now.or_else(|| self.most(ring));
        let wanted = self.file.ids().into_iter().find(|id| self.all_stand(*id));
        match (wanted, until_now) {
            (Some(wanted), Some(until_now)) if wanted != until_now => {
                let at_once = self.counts.needs(wanted) || !self.all_stand(until_now);
                let waited = self.waited.filter(|(id, _)| *id == wanted).map(|(_, time)| time);
                match at_once || waited.is_some_and(|time| time >= LOST_AFTER) {
                    true => (Some(wanted), None),
                    false => (Some(until_now), Some(wanted)),
                }
            }
            (wanted, until_now) => (until_now.or(wanted), None),
        }
    }

    /// The key of the ring that most is sealed under: what all had until now.
    fn most(&self, ring: &KeyRing) -> Option<KeyId> {
        let here = self.counts.keys.iter().filter(|(id, count)| **count > 0 && ring.has(**id));
        here.max_by_key(|(_, count)| **count).map(|(id, _)| *id)
    }

    /// Whether nobody is stopped by what is sealed under a key.
    fn all_stand(&self, id: KeyId) -> bool {
        // Who lacks a key that is needed already is not ready, whatever seals.
        self.counts.needs(id) || self.others.iter().all(|other| self.has(other, id))
    }

    fn has(&self, other: &Other, id: KeyId) -> bool {
        match other.keys.is_empty() {
            // It works, so it has what is needed, and nothing else is known of it.
            true => self.counts.needs(id) || !self.counts.any(),
            false => other.keys.contains(&id),
        }
    }

    /// Why no key can seal, in words.
    fn apart(&self) -> String {
        let ids = |ids: &[KeyId]| ids.iter().map(KeyId::to_string).collect::<Vec<_>>().join(" ");
        let own = self.file.ids();
        let lacks = |it: &&Other| own.iter().any(|id| !self.has(it, *id));
        let told = |it: &Other| {
            format!("{} lacks {}", it.name, {
                let lacked: Vec<_> = own.iter().copied().filter(|id| !self.has(it, *id)).collect();
                ids(&lacked)
            })
        };
        let who: Vec<_> = self.others.iter().filter(lacks).take(NAMED).map(told).collect();
        format!("no master key of --master-key-file is one that all have: {}", who.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &str) -> KeyRing {
        let text: Vec<_> = keys.split(' ').map(|key| key.repeat(32)).collect();
        KeyRing::parse(&text.join(" ")).unwrap()
    }

    fn id(key: &str) -> KeyId {
        ring(key).current()
    }

    fn counts(keys: &[(&str, u64)]) -> Counts {
        let keys = keys.iter().map(|(key, count)| (id(key), *count)).collect();
        Counts { keys, unreadable: 0, known: true }
    }

    /// Processes with these keys each.
    fn others(all: &[&str]) -> Vec<Other> {
        let keys = |keys: &&str| match keys.is_empty() {
            true => Vec::new(),
            false => ring(keys).ids(),
        };
        let other = |(n, it): (usize, &&str)| Other { name: format!("nodes/n{n}"), keys: keys(it) };
        all.iter().enumerate().map(other).collect()
    }

    /// Decides with nobody having waited.
    fn decided(file: &str, counts: &Counts, all: &[&str], before: Option<&Held>) -> Decision {
        waited(file, counts, all, before, None)
    }

    fn waited(
        file: &str,
        counts: &Counts,
        all: &[&str],
        before: Option<&Held>,
        waited: Option<(KeyId, Duration)>,
    ) -> Decision {
        let (file, others) = (&ring(file), &others(all));
        let (seals, settled) = (true, true);
        Known { file, counts, others, seals, waited, settled, before }.decide()
    }

    #[test]
    fn a_new_first_key_seals_once_all_had_it_for_long_enough() {
        let counts = counts(&[("11", 5)]);
        let before = Held::new(ring("11"));
        let it = decided("22 11", &counts, &["11", "22 11"], Some(&before));
        assert_eq!((it.held.ring.current(), it.waits, it.kept), (id("11"), None, vec![]));
        assert_eq!(
            (it.held.given.clone(), it.held.ring.ids()),
            (ring("22 11").ids(), it.held.given)
        );
        // All have it: now the time runs.
        let all = ["22 11"];
        let it = decided("22 11", &counts, &all, Some(&before));
        assert_eq!((it.held.ring.current(), it.waits), (id("11"), Some(id("22"))));
        for (key, time, sealing) in [
            ("22", LOST_AFTER - Duration::from_millis(1), "11"),
            ("33", LOST_AFTER, "11"),
            ("22", LOST_AFTER, "22"),
        ] {
            let it = waited("22 11", &counts, &all, Some(&before), Some((id(key), time)));
            assert_eq!(it.held.ring.current(), id(sealing), "{key} {time:?}");
        }
        // At a start likewise: who else there is may not be known yet.
        let it = decided("22 11", &counts, &[], None);
        assert_eq!((it.held.ring.current(), it.waits), (id("11"), Some(id("22"))));
        // In a store that nothing is in, it is the first at once.
        assert_eq!(decided("22 11", &self::counts(&[]), &[], None).held.ring.current(), id("22"));
    }

    #[test]
    fn a_process_that_lacks_what_is_needed_pulls_nobody_back() {
        let done = counts(&[("22", 5)]);
        let before = Held::new(ring("22 11"));
        let it = decided("22 11", &done, &["22 11", "11"], Some(&before));
        assert_eq!((it.held.ring.current(), it.waits), (id("22"), None));
        // It may have the key in memory: what is quite new waits for it.
        let it =
            waited("33 22", &done, &["33 22", "11"], Some(&before), Some((id("33"), LOST_AFTER)));
        assert_eq!((it.held.ring.current(), it.waits), (id("22"), None));
        // Nothing lies under the new key yet: the old one is better.
        let it = decided("22 11", &counts(&[("11", 5)]), &["11"], Some(&before));
        assert_eq!(it.held.ring.current(), id("11"));
    }

    #[test]
    fn a_file_with_only_a_new_key_stops_nobody() {
        let counts = counts(&[("11", 5)]);
        let before = Held::new(ring("11"));
        let it = decided("22", &counts, &["11", "11"], Some(&before));
        assert_eq!((it.held.ring.current(), it.kept), (id("11"), vec![id("11")]));
        assert_eq!((it.held.given.clone(), it.held.fault()), (vec![id("22")], None));
        // Alone as well: it takes over no sooner than any other.
        let it = decided("22", &counts, &[], Some(&before));
        assert_eq!((it.held.ring.current(), it.waits), (id("11"), Some(id("22"))));
    }

    #[test]
    fn where_no_key_is_one_that_all_have_nothing_is_sealed() {
        let none = counts(&[]);
        let it = decided("22", &none, &["11", "22 11"], None);
        let fault = it.held.fault().unwrap();
        let lacks = format!("nodes/n0 lacks {}", id("22"));
        assert!(fault.contains(&lacks) && !fault.contains("n1"), "{fault}");
        // It does not go on with what it never sealed under.
        let again = decided("22", &none, &["11"], Some(&it.held));
        assert!(again.held.fault().is_some());
        assert_eq!(decided("22", &none, &["22"], Some(&again.held)).held.fault(), None);
        // The key of a file that was changed is gone, and nothing needs it.
        let before = Held::new(ring("11"));
        assert!(decided("22", &none, &["11"], Some(&before)).held.fault().is_some());
        // A newcomer with another key stops nobody.
        assert_eq!(decided("11", &none, &["22"], Some(&before)).held.fault(), None);
    }

    #[test]
    fn who_does_not_say_has_what_is_needed_and_nothing_else() {
        let before = Held::new(ring("11"));
        let long = Some((id("22"), LOST_AFTER));
        let it = waited("22 11", &counts(&[("11", 5)]), &[""], Some(&before), long);
        assert_eq!((it.held.ring.current(), it.waits), (id("11"), None));
        let it = waited("22 11", &counts(&[("11", 5), ("22", 1)]), &[""], Some(&before), None);
        assert_eq!(it.held.ring.current(), id("22"));
        assert_eq!(decided("22", &counts(&[]), &[""], None).held.fault(), None);
    }

    #[test]
    fn a_key_that_is_needed_stays_in_memory_and_is_not_given() {
        let before = Held::new(ring("22 11"));
        let needed = counts(&[("11", 1), ("22", 4)]);
        let it = decided("22", &needed, &[], Some(&before));
        assert_eq!((it.kept, it.held.given.clone()), (vec![id("11")], vec![id("22")]));
        assert_eq!(it.held.ring.ids(), [id("22"), id("11")]);
        assert_eq!(it.held.fault(), None);
        // Something cannot be read, or nothing was counted: it may be under that key.
        let done = counts(&[("22", 5)]);
        for unsure in [Counts { unreadable: 1, ..done.clone() }, Counts::default()] {
            assert_eq!(decided("22", &unsure, &[], Some(&it.held)).kept, [id("11")]);
        }
        let it = decided("22", &done, &[], Some(&it.held));
        assert_eq!((it.kept, it.held.ring.ids()), (vec![], vec![id("22")]));
        // After a start it is nowhere.
        let it = decided("22", &needed, &[], None);
        assert!(it.held.fault().unwrap().contains(&id("11").to_string()));
    }
}
