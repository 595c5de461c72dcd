//! Classes of work: what may wait, and what goes on while the store is full.

/// What a job needs of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::embedded) enum Class {
    /// Leases committed work: goes first, is answered before the commit, is not synced.
    Claim,
    /// Finishes accepted work: goes on while the store is full, is not synced by itself.
    Finish,
    /// Takes on new work: synced, refused while the store is full.
    Accept,
    /// Must be on disk before it is answered, and goes on while the store is full.
    Decide,
}
