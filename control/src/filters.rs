//! Compiled filters, kept by their texts.
//!
//! Whoever asks why an event went to nobody has every filter of a tenant asked, and compiling one
//! costs several times what asking it does. A filter depends on its text alone, so it is kept under
//! its text: subscriptions of any tenant that have the same one share it, and a change of a
//! subscription needs nothing forgotten.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pregon_core::error::Wrong;
use pregon_core::filter::Filter;

/// Bytes of texts whose filters are kept. It is bytes that are counted, because a compiled filter
/// takes memory in proportion to its text. This is 1,024 texts of 256 bytes, and also 10,000 short
/// conditions: as many as the largest tenant has subscriptions. When they are more, it starts
/// afresh.
const KEPT: usize = 256 * 1024;

/// The filters that a process keeps.
#[derive(Debug, Default)]
pub(crate) struct Filters(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    filters: HashMap<Box<str>, Filter>,
    bytes: usize,
}

impl Filters {
    /// The filter of this text, compiled if it is not kept. One that cannot be compiled is tried
    /// again each time: writes let none such in.
    pub(crate) fn compiled(&self, text: &str) -> Result<Filter, Wrong> {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept().filters.get(text).cloned();
        if let Some(filter) = known {
            return Ok(filter);
        }
        let filter = Filter::compile(text)?;
        let mut kept = kept();
        if kept.bytes + text.len() > KEPT {
            *kept = Kept::default();
        }
        // Another call may have been faster.
        if kept.filters.insert(text.into(), filter.clone()).is_none() {
            kept.bytes += text.len();
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let filters = Filters::default();
        let pad = " ".repeat(1000);
        for i in 0..600 {
            let text = format!("event.version > {i}{pad}");
            assert_eq!(filters.compiled(&text).unwrap().source(), text);
            assert_eq!(filters.compiled(&text).unwrap().source(), text);
            let kept = filters.0.lock().unwrap();
            let bytes: usize = kept.filters.keys().map(|text| text.len()).sum();
            assert_eq!(kept.bytes, bytes);
            assert!(bytes <= KEPT && kept.filters.contains_key(text.as_str()), "{bytes}");
        }
    }

    #[test]
    fn what_cannot_be_compiled_is_refused_and_not_kept() {
        let filters = Filters::default();
        assert!(filters.compiled("event.version >").is_err());
        assert!(filters.compiled("event.version >").is_err());
        assert!(filters.0.lock().unwrap().filters.is_empty());
    }
}
