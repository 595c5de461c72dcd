//! Accepting events.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use pregon_core::event::NewEvent;
use pregon_core::id::{Position, TenantId};

use crate::StoreError;

/// What an acknowledged publish survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The end of the publishing process, not of the store's.
    Memory,
    /// A power cut: it was on disk before the reply.
    Fsync,
    /// The loss of a machine: replicas had it before the reply.
    Replicated,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Durability::Memory => "memory",
            Durability::Fsync => "fsync",
            Durability::Replicated => "replicated",
        })
    }
}

/// What became of one event of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// It has a place.
    Accepted {
        /// Where it lies, now or since its first publish.
        position: Position,
        /// It had been published before.
        duplicate: bool,
    },
    /// Its id and version were published before with other content.
    IdReused,
}

/// What publishers are given. Every step is atomic and bounded, and safe to repeat after an unknown
/// outcome where its events have ids.
#[async_trait]
pub trait Intake: Send + Sync {
    /// Accepts events, each on its own, at the store's stated durability. Answers in order.
    async fn publish(&self, events: Vec<NewEvent>) -> Result<Vec<Published>, StoreError>;

    /// What an acknowledged publish survives.
    fn durability(&self) -> Durability;

    /// How long a publish may take until it is given up: longer where it waits for a disk that is
    /// synced once a second.
    fn answers_within(&self) -> Duration;

    /// What a tenant has outstanding, by its counters: events that are not matched yet, and deliveries
    /// that have not ended. One look costs about as much as storing an event.
    async fn outstanding(&self, tenant: &TenantId) -> Result<u64, StoreError>;
}
