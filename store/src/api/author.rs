//! Who made a commit, and when: one small document that every commit of ours writes anew.
//!
//! It travels in the change log with what the commit wrote, so that whoever follows the log learns
//! of both at once; as a document it says who wrote last. Nothing relies on it.

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Change;

/// Where it is written: no resource has such a name.
pub const AUTHOR: &str = "changes/author";

/// Who made a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// The name of an API token, `nodes/{node}`, or `anonymous`.
    pub actor: String,
    /// When.
    pub time: Timestamp,
    /// The trace of the call that asked for it, where it is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

impl Author {
    /// What a commit writes beside the rest.
    pub fn document(&self) -> (String, Option<Bytes>) {
        // A string and a number: neither can fail to be written.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        (AUTHOR.to_owned(), Some(Bytes::from(bytes)))
    }

    /// Who made a change, if its commit said so.
    pub fn of(change: &Change) -> Option<Self> {
        let (_, bytes) = change.documents.iter().find(|(name, _)| name == AUTHOR)?;
        serde_json::from_slice(bytes.as_deref()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_is_read_from_the_change() {
        let author = Author { actor: "ops".into(), time: Timestamp::from_millis(7), trace: None };
        let documents = vec![("tenants/a".to_owned(), None), author.document()];
        let change = Change { revision: 1, nonce: 2, documents };
        assert_eq!(Author::of(&change), Some(author));
        assert_eq!(Author::of(&Change { documents: Vec::new(), ..change }), None);
    }
}
