//! The queue's calls: which class each is, and what it runs.

use std::time::Duration;

use async_trait::async_trait;
use pregon_core::clock::Timestamp;
use pregon_core::event::NewEvent;
use pregon_core::id::{DeliveryKey, LaneNo, PartitionNo, TenantId};
use pregon_core::outcome::EndReason;

use super::codec::PARTITION;
use super::engine::Class;
use super::executor::{DEADLINE_SETTLE, Handle};
use super::{books, due, erase, lanes, publish, settle, single, take, takeover};
use crate::StoreError;
use crate::batch::{Batch, LaneClose, Token};
use crate::erase::{Erase, ErasePlace, Erased};
use crate::intake::{Durability, Intake, Published};
use crate::operate::{Cancelled, Former, LaneEnd, Operate, Replay, Replayed};
use crate::settlement::{Settled, Settlement};
use crate::work::{Claim, Due, DueRequest, Work};

fn known(partition: PartitionNo) -> Result<(), StoreError> {
    if partition == PARTITION {
        return Ok(());
    }
    Err(StoreError::Unavailable(format!("there is no partition {partition}")))
}

/// How long a publish may take: its disk is synced at once.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

#[async_trait]
impl Intake for Handle {
    async fn publish(&self, events: Vec<NewEvent>) -> Result<Vec<Published>, StoreError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let items = events.len();
        let events = publish::prepare(events)?;
        let work = move |tx: &mut super::state::Tx<'_>| publish::publish(tx, &events);
        self.write(Class::Accept, items, work).await
    }

    fn durability(&self) -> Durability {
        self.durability
    }

    fn answers_within(&self) -> Duration {
        ANSWERS_WITHIN
    }

    async fn outstanding(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        let tenant = tenant.clone();
        self.read(move |db| books::outstanding(db, tenant.as_str())).await
    }
}

#[async_trait]
impl Work for Handle {
    fn partitions(&self) -> PartitionNo {
        1
    }

    async fn take(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        want: usize,
        bytes: usize,
    ) -> Result<Option<Batch>, StoreError> {
        known(partition)?;
        let claim = claim.clone();
        self.write(Class::Claim, 1, move |tx| take::take(tx, &claim, want, bytes)).await
    }

    async fn due(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        request: DueRequest,
    ) -> Result<Due, StoreError> {
        known(partition)?;
        let claim = claim.clone();
        let want = request.want;
        self.write(Class::Claim, want, move |tx| due::due(tx, &claim, &request)).await
    }

    async fn take_over(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        limit: usize,
        suspects: usize,
    ) -> Result<(Vec<Batch>, Option<Duration>), StoreError> {
        known(partition)?;
        let claim = claim.clone();
        let work =
            move |tx: &mut super::state::Tx<'_>| takeover::take_over(tx, &claim, limit, suspects);
        self.write(Class::Claim, 1, work).await
    }

    async fn extend(&self, tokens: &[Token], lease: Duration) -> Result<Vec<Token>, StoreError> {
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let tokens = tokens.to_vec();
        self.write(Class::Finish, 1, move |tx| take::extend(tx, &tokens, lease)).await
    }

    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError> {
        let settlement = settle::Prepared::new(settlement)?;
        let items = settlement.items();
        let work = move |tx: &mut super::state::Tx<'_>| settle::settle(tx, &settlement);
        self.write_within(DEADLINE_SETTLE, Class::Finish, items, work).await
    }

    async fn release(&self, tokens: &[Token]) -> Result<(), StoreError> {
        let tokens = tokens.to_vec();
        self.write(Class::Finish, 1, move |tx| take::release(tx, &tokens)).await
    }

    async fn wait(&self, at_most: Duration) {
        // The bell keeps one ring for who comes late, and wakes one of several waiters.
        let _ = tokio::time::timeout(at_most, self.bell().notified()).await;
    }
}

#[async_trait]
impl Operate for Handle {
    async fn cancel(&self, key: DeliveryKey, reason: EndReason) -> Result<Cancelled, StoreError> {
        self.write(Class::Decide, 1, move |tx| single::cancel(tx, &key, reason)).await
    }

    async fn replay(&self, replays: &[Replay]) -> Result<Vec<Replayed>, StoreError> {
        let (replays, items) = (replays.to_vec(), replays.len());
        self.write(Class::Accept, items, move |tx| single::replay(tx, &replays)).await
    }

    async fn end_lane(&self, end: LaneEnd) -> Result<usize, StoreError> {
        let items = end.limit;
        self.write(Class::Finish, items, move |tx| lanes::end(tx, &end)).await
    }

    async fn close_lanes(&self, lanes: &[LaneClose]) -> Result<(), StoreError> {
        let lanes = lanes.to_vec();
        self.write(Class::Finish, 1, move |tx| lanes::close(tx, &lanes)).await
    }

    async fn open_lanes(&self, lanes: &[LaneNo]) -> Result<(), StoreError> {
        let lanes = lanes.to_vec();
        self.write(Class::Finish, 1, move |tx| lanes::open(tx, &lanes)).await
    }

    async fn supersede(&self, tenant: &TenantId) -> Result<Former, StoreError> {
        let tenant = tenant.clone();
        self.write(Class::Decide, 1, move |tx| publish::supersede(tx, &tenant)).await
    }

    async fn erase(&self, erase: &Erase, from: ErasePlace) -> Result<Erased, StoreError> {
        let erase = erase.clone();
        self.write(Class::Finish, 1, move |tx| erase::step(tx, &erase, from)).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(Handle::now(self))
    }
}
