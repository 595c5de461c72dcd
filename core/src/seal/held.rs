//! The master keys of a process at one moment, beside those that its store needs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::{KeyId, KeyRing};

/// Keys that a reason names; a store needs one or two.
const NAMED: usize = 4;

/// The master keys of a process at one moment, and what its store needs of them.
#[derive(Clone, Debug)]
pub struct Held {
    /// The keys. The current one is what seals here.
    pub ring: Arc<KeyRing>,
    /// Those that the key file holds, in its order. The ring may have more: keys that were taken out
    /// of the file while the store needs them.
    pub given: Vec<KeyId>,
    /// How many documents of the store have something sealed under a key.
    pub documents: BTreeMap<KeyId, u64>,
    /// How many documents may have something sealed and cannot be read: under what is not known.
    pub unreadable: u64,
    /// Why nothing may be sealed here, in words that name the processes and keys; none: it may.
    pub apart: Option<String>,
    /// Whether the other processes have been looked at long enough, without a failure, for all that are
    /// there to be known.
    pub settled: bool,
}

impl Held {
    /// The keys of a store in which nothing is sealed.
    pub fn new(ring: KeyRing) -> Self {
        let (given, documents) = (ring.ids(), BTreeMap::new());
        let ring = Arc::new(ring);
        Self { ring, given, documents, unreadable: 0, apart: None, settled: true }
    }

    /// The keys that the store needs and that are not here, each with how many documents need it.
    pub fn lacking(&self) -> impl Iterator<Item = (KeyId, u64)> {
        let needed = self.documents.iter().map(|(id, count)| (*id, *count));
        needed.filter(|(id, count)| *count > 0 && !self.ring.has(*id))
    }

    /// Why the process can take nothing, in words that name each key that it lacks, or the processes
    /// that have no key in common with it; none: it can.
    pub fn fault(&self) -> Option<String> {
        let mut text = String::new();
        for (id, count) in self.lacking().take(NAMED) {
            let and = if text.is_empty() { "" } else { "; " };
            // Into a String it cannot fail.
            let _ = write!(text, "{and}master key {id} is not here, which {count} of the store's");
            text.push_str(" documents are sealed under");
        }
        match text.is_empty() {
            true => self.apart.clone(),
            false => Some(format!("{text}: add it to --master-key-file")),
        }
    }

    /// The same for whoever may know nothing of the store and of the processes: it names keys only.
    pub fn brief(&self) -> Option<String> {
        let keys: Vec<_> = self.lacking().take(NAMED).map(|(id, _)| id.to_string()).collect();
        match (keys.is_empty(), &self.apart) {
            (false, _) => Some(format!("master key {} is not here", keys.join(", "))),
            (true, Some(_)) => Some("the master keys are not the same everywhere".to_owned()),
            (true, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_the_store_needs_and_nobody_gave_is_named() {
        let ring = |key: &str| KeyRing::parse(&key.repeat(32)).unwrap();
        let mut held = Held::new(ring("11"));
        held.documents.insert(held.ring.current(), 3);
        held.documents.insert(ring("33").current(), 0);
        assert_eq!(held.fault(), None);
        held.documents.insert(ring("22").current(), 2);
        let id = ring("22").current();
        assert_eq!(held.lacking().collect::<Vec<_>>(), [(id, 2)]);
        let fault = held.fault().unwrap();
        let begin = format!("master key {id} is not here, which 2 of the store's documents");
        assert!(fault.starts_with(&begin), "{fault}");
        assert!(fault.contains("--master-key-file"), "{fault}");
        assert!(!fault.contains(&held.ring.current().to_string()), "{fault}");
        assert_eq!(held.brief().unwrap(), format!("master key {id} is not here"));
    }

    #[test]
    fn who_seals_nothing_says_why_and_who_is_bound_is_not_told_of_others() {
        let mut held = Held::new(KeyRing::parse(&"11".repeat(32)).unwrap());
        assert_eq!((held.fault(), held.brief()), (None, None));
        held.apart = Some("nodes/n1 lacks it".to_owned());
        assert_eq!(held.fault(), held.apart);
        assert!(!held.brief().unwrap().contains("n1"));
    }
}
