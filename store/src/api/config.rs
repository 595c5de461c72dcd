//! Configuration: documents under resource names, committed with preconditions.
//!
//! A commit is atomic and gets a revision; revisions are totally ordered and dense, and every
//! commit leaves one entry in the change log. A reader reads all documents, then follows the log.
//! The log is bounded; a reader that fell behind it, or that sees another nonce at a revision it
//! knows (the store was set back), is told so by [`Changes::Gap`] and reads all again.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pregon_core::id::LaneNo;

use crate::StoreError;
use crate::audit::NewAudit;

/// Entries that the change log keeps.
pub const CHANGES_KEPT: usize = 10_000;

/// One stored document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its resource name.
    pub name: String,
    /// The revision that wrote it last.
    pub revision: i64,
    /// Its contents.
    pub bytes: Bytes,
}

/// What must hold of a document for a commit to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is none.
    Absent,
    /// There is one.
    Present,
    /// There is one, last written by this revision.
    Revision(i64),
}

/// Makes a write with a `request_id` answer its repeats as it answered first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Names the request: a hash of caller, method and request_id.
    pub id: [u8; 16],
    /// A hash of what was asked; the same id with another digest is a mistake.
    pub digest: [u8; 16],
    /// What to remember; given back to repeats as it is.
    pub reply: Bytes,
}

/// A change of configuration: all of it happens, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// What must hold.
    pub expect: Vec<(String, Expect)>,
    /// Documents to write; none: to delete. Empty where a request alone is to be remembered.
    pub write: Vec<(String, Option<Bytes>)>,
    /// How repeats are recognised.
    pub request: Option<RequestKey>,
    /// What the audit log says of it: it gets the commit's revision, and is there if the commit is.
    pub audit: Option<NewAudit>,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It happened, as this revision.
    Done {
        /// Its revision.
        revision: i64,
    },
    /// A precondition did not hold: the first such document, with the revision found.
    Conflict {
        /// Its name.
        name: String,
        /// The revision that wrote it last; none: it does not exist.
        found: Option<i64>,
    },
    /// The request was carried out before; nothing happened now.
    Repeated {
        /// The revision it got then.
        revision: i64,
        /// What was to be remembered then.
        reply: Bytes,
    },
    /// The request id was used before, for something else.
    RequestReused,
}

/// Where the configuration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Names the store's life; another epoch shares no history with this one.
    pub epoch: u64,
    /// The latest revision; 0 before the first commit.
    pub revision: i64,
    /// The latest revision's nonce.
    pub nonce: u32,
}

/// One commit, as its followers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its revision.
    pub revision: i64,
    /// Random; tells a revision from one of the same number in a store that was set back.
    pub nonce: u32,
    /// Documents written, with their contents; none: deleted.
    pub documents: Vec<(String, Option<Bytes>)>,
}

/// What came after a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// The next commits, without a gap; empty when there were none in time.
    Next(Vec<Change>),
    /// The log does not reach back that far, or the history is another: read all again.
    Gap,
}

/// Which documents to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRange {
    /// Collections of the names wanted, as in `tenants/subscriptions`; other kinds that share the
    /// prefix are passed over.
    pub collections: &'static str,
    /// What the names begin with, as in `tenants/acme/subscriptions/`.
    pub prefix: String,
    /// Only names after this one; empty: from the first.
    pub after: String,
    /// Documents at most.
    pub limit: usize,
}

/// The collections that a resource name runs through: every other segment of it.
pub fn collections_of(name: &str) -> String {
    name.split('/').step_by(2).collect::<Vec<_>>().join("/")
}

/// Configuration, as the control plane writes it and nodes follow it.
#[async_trait]
pub trait ConfigStore: Send + Sync {
    /// Writes documents if all preconditions hold. Durable when it returns.
    async fn commit(&self, commit: Commit) -> Result<Committed, StoreError>;

    /// What an earlier write with this request id left, if there was one within the day: revision
    /// and reply, or [`Committed::RequestReused`]. Changes nothing.
    async fn recall(&self, id: [u8; 16], digest: [u8; 16])
    -> Result<Option<Committed>, StoreError>;

    /// The documents under these names, in that order.
    async fn get(&self, names: &[String]) -> Result<Vec<Option<Document>>, StoreError>;

    /// Documents of one kind, by name.
    async fn list(&self, range: ListRange) -> Result<Vec<Document>, StoreError>;

    /// Where the configuration stands.
    async fn head(&self) -> Result<Head, StoreError>;

    /// The same, of a store that takes writes: one that only answers is not ready.
    async fn head_if_writable(&self) -> Result<Head, StoreError> {
        self.head().await
    }

    /// The head as it was at a revision, if the change log still reaches back to it: what
    /// [`Self::changes`] goes on from.
    async fn head_at(&self, revision: i64) -> Result<Option<Head>, StoreError>;

    /// All documents, in an order of the engine's own in which a document comes before those below
    /// it, a page at a time, after the name that the last page ended with. Pages are not one
    /// moment's: read [`Self::head`] first and apply the changes after it.
    async fn documents(&self, after: &str, limit: usize) -> Result<Vec<Document>, StoreError>;

    /// The commits after `known`, up to `limit`; waits up to `wait` for the first.
    async fn changes(
        &self,
        known: Head,
        limit: usize,
        wait: Duration,
    ) -> Result<Changes, StoreError>;

    /// A lane number that was never given before.
    async fn next_lane(&self) -> Result<LaneNo, StoreError>;
}

#[cfg(test)]
mod tests {
    #[test]
    fn collections_are_every_other_segment() {
        assert_eq!(super::collections_of("tenants/a/subscriptions/b"), "tenants/subscriptions");
        assert_eq!(super::collections_of("eventTypes/x.y"), "eventTypes");
    }
}
