//! Claiming events and deliveries, and settling what became of them.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use pregon_core::id::{LaneNo, NodeId, PartitionNo};

use crate::StoreError;
use crate::batch::{Batch, Token};
use crate::settlement::{Settled, Settlement};

/// Events in one take, and successes in one settle.
pub const BATCH_MAX: usize = 256;
/// Deliveries that a due call hands out of one lane before the next lane has its turn.
pub const LANE_QUANTUM: usize = 16;
/// Takes from which a batch is a suspect: nodes went down twice with it in hand, so one of its items
/// may be what kills them. The first time is no sign: everything that a node had lapses with it.
pub const SUSPECT_AT: u32 = 3;
/// Takes of a batch of one item from which the item is held back: three nodes in a row went down with
/// it as the only suspect that they had in hand.
pub const HELD_BACK_AT: u32 = 6;
/// How long a suspect waits that its taker has no use for yet.
pub const SUSPECT_WAIT: Duration = Duration::from_millis(100);
/// Matching subscriptions up to which an event is attempted from memory; above, it is fanned out
/// into the lanes step by step.
pub const FAN_OUT_DIRECT: usize = 64;
/// Lanes that one fan-out step reaches.
pub const FAN_OUT_STEP: usize = 100;

/// Who claims, and for how long.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The node.
    pub node: NodeId,
    /// From now until the claim lapses unless it is extended.
    pub lease: Duration,
}

/// How many deliveries of which lanes a node can use now.
#[derive(Clone, Debug, Default)]
pub struct DueRequest {
    /// Deliveries wanted at most.
    pub want: usize,
    /// Free slots of lanes that the node knows; a lane with none is put off, not handed out.
    pub slots: HashMap<LaneNo, u32>,
    /// Free slots of every other lane.
    pub default_slots: u32,
    /// Lanes to look at even though they were put off: slots came free.
    pub pull: Vec<LaneNo>,
}

/// Due deliveries, and when to ask again.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// What was due, if anything.
    pub batch: Option<Batch>,
    /// More is due already, in lanes that had free slots.
    pub more: bool,
    /// When the next lane is due; none: no lane waits.
    pub next: Option<Duration>,
}

/// What nodes are given. Every step is atomic and bounded, and safe to repeat after an unknown
/// outcome.
#[async_trait]
pub trait Work: Send + Sync {
    /// Partitions; they are numbered from 0.
    fn partitions(&self) -> PartitionNo;

    /// Leases the next new events: `want` and [`BATCH_MAX`] at most, and about `bytes` of data
    /// at most (but one event whatever its size).
    async fn take(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        want: usize,
        bytes: usize,
    ) -> Result<Option<Batch>, StoreError>;

    /// Leases due deliveries, lanes taking turns.
    async fn due(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        request: DueRequest,
    ) -> Result<Due, StoreError>;

    /// Leases up to `limit` batches whose lease ran out, under new tokens, and says when the next
    /// lease does.
    ///
    /// Of suspects ([`SUSPECT_AT`]) it leases `suspects` at most, and one that holds several items is
    /// halved: one half is leased, the other can be taken next, and with neither is a take counted
    /// for the cut. So a node never has two halves in hand, and which of them kills shows. Suspects
    /// beyond that are looked at again after [`SUSPECT_WAIT`].
    async fn take_over(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        limit: usize,
        suspects: usize,
    ) -> Result<(Vec<Batch>, Option<Duration>), StoreError>;

    /// Moves the end of leases to `lease` from now; answers with those that are gone.
    async fn extend(&self, tokens: &[Token], lease: Duration) -> Result<Vec<Token>, StoreError>;

    /// Records results: states, log and counters in one step.
    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError>;

    /// Gives batches back: anybody may take them over at once, and it counts as no take. Rings,
    /// even with none: whoever gives back has put deliveries into lanes as well.
    async fn release(&self, tokens: &[Token]) -> Result<(), StoreError>;

    /// Returns when there may be something to claim, or after `at_most`.
    async fn wait(&self, at_most: Duration);
}
