//! Verification of receivers: asking those whose contract wants it, before events go to them.
//!
//! What is to be asked, and when, stands in the subscriptions' documents, which every node follows.
//! When one is due a node takes the turn (`turn`), which of several one gets; makes the requests of
//! the contract's `verification` through the same egress as any attempt (`ask`); and writes what
//! came of them, which may move the subscription's state.
//!
//! Faults and reactions: the node goes down: it gives its turns back, and another asks. It is
//! killed: its turns run out, and another asks. The document changes under a turn: where URL or
//! contract did, what comes of the turn counts for nothing; else it is written all the same. The
//! store does not answer: what is due is looked at again a second later, and a result is offered
//! until its turn is over.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pregon_core::clock::{SharedClock, Timestamp};
use pregon_core::id::{LaneNo, NodeId};
use pregon_store::ConfigStore;
use pregon_telemetry::Telemetry;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::egress::Egress;
use crate::snapshot::{Configuration, Lane, LaneChange, Snapshot};

mod ask;
#[cfg(test)]
mod tests;
mod told;
mod turn;

use told::Told;

/// Receivers that one node asks at once: an asking is rare, and each holds a connection.
const AT_ONCE: usize = 16;
/// How long the node sleeps at most: the wall clock may be set meanwhile.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How soon a subscription is looked at again whose turn was another's, or has just ended: the
/// snapshot shows by then what was written.
const AGAIN: Duration = Duration::from_millis(200);
/// The same where the store did not answer.
const STORE_AGAIN: Duration = Duration::from_secs(1);

/// What asking needs.
pub(crate) struct Verifier {
    /// What the node serves.
    pub configuration: Configuration,
    /// Where turns are taken.
    pub config: Arc<dyn ConfigStore>,
    /// The way out.
    pub egress: Egress,
    /// The wall clock.
    pub clock: SharedClock,
    /// This node.
    pub node: NodeId,
    /// `User-Agent` of challenges whose contract names none.
    pub user_agent: Bytes,
    /// Decides the jitter of what is asked again.
    pub seed: u64,
    /// Where outcomes are reported.
    pub telemetry: Telemetry,
}

/// How soon a subscription is looked at again after a look at it.
struct Looked {
    lane: LaneNo,
    again: Duration,
}

/// What is to be asked, in order of time.
#[derive(Default)]
struct Agenda {
    due: BTreeSet<(Timestamp, LaneNo)>,
    under_way: HashSet<LaneNo>,
}

impl Agenda {
    /// Takes over what changed between two snapshots.
    fn follow(&mut self, before: &Snapshot, after: &Snapshot) {
        for change in after.lane_changes(before) {
            match change {
                LaneChange::Added(lane) => self.put(&lane, Timestamp::default()),
                LaneChange::Removed(lane) => self.forget(&lane),
                LaneChange::Changed { before, after } => {
                    self.forget(&before);
                    self.put(&after, Timestamp::default());
                }
            }
        }
    }

    fn forget(&mut self, lane: &Lane) {
        // It may stand there later than its document says.
        if lane.asked_at.is_some() {
            self.due.retain(|(_, no)| *no != lane.lane);
        }
    }

    /// Notes when a lane is due, and not before `earliest`.
    fn put(&mut self, lane: &Lane, earliest: Timestamp) {
        if let Some(at) = lane.asked_at {
            self.due.insert((at.max(earliest), lane.lane));
        }
    }

    /// When the next is due; none while as many are asked as may be.
    fn next(&self) -> Option<Timestamp> {
        self.due.first().filter(|_| self.under_way.len() < AT_ONCE).map(|(at, _)| *at)
    }

    /// Takes the next that is due. One that is being looked at comes back when that ends.
    fn take(&mut self, now: Timestamp) -> Option<LaneNo> {
        while self.next().is_some_and(|at| at <= now)
            && let Some((_, lane)) = self.due.pop_first()
        {
            if self.under_way.insert(lane) {
                return Some(lane);
            }
        }
        None
    }

    /// A look ended.
    fn looked(&mut self, looked: &Looked, snapshot: &Snapshot, now: Timestamp) {
        self.under_way.remove(&looked.lane);
        if let Some(lane) = snapshot.lane(looked.lane) {
            self.forget(lane);
            self.put(lane, now.plus(looked.again));
        }
    }
}

impl Verifier {
    /// Asks what is due until the node goes down.
    pub(crate) async fn run(self, draining: CancellationToken) {
        let mut snapshots = self.configuration.watch();
        let mut snapshot = tokio::select! {
            first = self.configuration.ready() => first,
            () = draining.cancelled() => return,
        };
        let mut agenda = Agenda::default();
        agenda.follow(&Snapshot::default(), &snapshot);
        let mut chance = StdRng::seed_from_u64(self.seed);
        let (it, mut looks) = (Arc::new(self), JoinSet::new());
        loop {
            let now = it.clock.now();
            while let Some(lane) = agenda.take(now) {
                let (it, going) = (Arc::clone(&it), draining.clone());
                let (snapshot, chance) = (Arc::clone(&snapshot), chance.random());
                looks.spawn(async move { it.look(&snapshot, lane, chance, &going).await });
            }
            let wait = agenda.next().map_or(IDLE_MAX, |at| at.since(now).min(IDLE_MAX));
            tokio::select! {
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        break; // the configuration lives as long as the node
                    }
                    if let Some(after) = snapshots.borrow_and_update().clone() {
                        agenda.follow(&snapshot, &after);
                        snapshot = after;
                    }
                }
                Some(looked) = looks.join_next(), if !looks.is_empty() => match looked {
                    Ok(looked) => agenda.looked(&looked, &snapshot, it.clock.now()),
                    Err(error) => tracing::error!(%error, "a verification ended badly"),
                },
                () = sleep(wait) => {}
                () = draining.cancelled() => break,
            }
        }
        // They know that the node goes, and give their turns back.
        while looks.join_next().await.is_some() {}
    }

    /// Asks one receiver, if it is this node's turn.
    async fn look(
        &self,
        snapshot: &Snapshot,
        no: LaneNo,
        chance: f64,
        going: &CancellationToken,
    ) -> Looked {
        let looked = |again| Looked { lane: no, again };
        let Some(lane) = snapshot.lane(no) else { return looked(AGAIN) };
        if !snapshot.gaps().keys.is_empty() {
            // Who has the master keys can ask; a turn here would only keep it from that.
            return looked(STORE_AGAIN);
        }
        let steps = lane.contract.verification().map_or(1, |rule| rule.steps());
        let longest = lane.contract.timeout(1) * u32::try_from(steps).unwrap_or(u32::MAX);
        let taken = match turn::take(self, &lane.name, longest).await {
            Ok(Some(taken)) => taken,
            Ok(None) => return looked(AGAIN),
            Err(error) => {
                tracing::warn!(subscription = %lane.name, %error, "could not take the turn to verify");
                return looked(STORE_AGAIN);
            }
        };
        let told = tokio::select! {
            told = ask::ask(self, no, &taken) => told,
            () = going.cancelled() => Told::NotAsked,
        };
        turn::settle(self, &taken, &told, chance).await;
        looked(AGAIN)
    }
}
