//! The traits that nodes and the control plane are given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::Timestamp;
use pregon_core::event::{Event, NewEvent};
use pregon_core::id::{DeliveryKey, EventName, LaneNo, PartitionNo, Position, TenantId};
use pregon_core::outcome::EndReason;

use super::engine::Engine;
use super::publish::Publisher;
use super::{books, claim, erase, link, log, read, settle, single};
use crate::StoreError;
use crate::batch::{Batch, LaneClose, Token};
use crate::erase::{Erase, ErasePlace, Erased};
use crate::intake::{Durability, Intake, Published};
use crate::log::{
    Books, DeliveryLog, DeliveryQuery, DeliveryRecord, EventQuery, EventStage, Most, Orphan, Page,
};
use crate::operate::{Cancelled, Former, LaneEnd, Operate, Replay, Replayed};
use crate::settlement::{Settled, Settlement};
use crate::work::{Claim, Due, DueRequest, Work};

/// What the planes hold of an engine.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub engine: Arc<Engine>,
    pub publisher: Publisher,
}

#[async_trait]
impl Intake for Handle {
    async fn publish(&self, events: Vec<NewEvent>) -> Result<Vec<Published>, StoreError> {
        self.publisher.publish(events).await
    }

    fn durability(&self) -> Durability {
        self.engine.promise.durability
    }

    fn answers_within(&self) -> Duration {
        link::PATIENCE + self.engine.promise.confirm.wait()
    }

    async fn outstanding(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        Ok(books::outstanding(&self.engine, tenant).await?)
    }
}

#[async_trait]
impl Work for Handle {
    fn partitions(&self) -> PartitionNo {
        PartitionNo::try_from(self.engine.partitions.len()).unwrap_or(PartitionNo::MAX)
    }

    async fn take(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        want: usize,
        bytes: usize,
    ) -> Result<Option<Batch>, StoreError> {
        let partition = self.engine.partition(partition)?;
        Ok(claim::take(&self.engine, partition, claim, want, bytes).await?)
    }

    async fn due(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        request: DueRequest,
    ) -> Result<Due, StoreError> {
        let partition = self.engine.partition(partition)?;
        Ok(claim::due(&self.engine, partition, claim, &request).await?)
    }

    async fn take_over(
        &self,
        partition: PartitionNo,
        claim: &Claim,
        limit: usize,
        suspects: usize,
    ) -> Result<(Vec<Batch>, Option<Duration>), StoreError> {
        let partition = self.engine.partition(partition)?;
        Ok(claim::take_over(&self.engine, partition, claim, limit, suspects).await?)
    }

    async fn extend(&self, tokens: &[Token], lease: Duration) -> Result<Vec<Token>, StoreError> {
        Ok(claim::extend(&self.engine, tokens, lease).await?)
    }

    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError> {
        Ok(settle::settle(&self.engine, settlement).await?)
    }

    async fn release(&self, tokens: &[Token]) -> Result<(), StoreError> {
        Ok(claim::release(&self.engine, tokens).await?)
    }

    async fn wait(&self, at_most: Duration) {
        claim::wait(&self.engine, at_most).await;
    }
}

#[async_trait]
impl Operate for Handle {
    async fn cancel(&self, key: DeliveryKey, reason: EndReason) -> Result<Cancelled, StoreError> {
        single::cancel(&self.engine, key, reason).await
    }

    async fn replay(&self, replays: &[Replay]) -> Result<Vec<Replayed>, StoreError> {
        Ok(single::replay(&self.engine, replays).await?)
    }

    async fn end_lane(&self, end: LaneEnd) -> Result<usize, StoreError> {
        Ok(single::end(&self.engine, &end).await?)
    }

    async fn close_lanes(&self, lanes: &[LaneClose]) -> Result<(), StoreError> {
        Ok(single::close(&self.engine, lanes).await?)
    }

    async fn open_lanes(&self, lanes: &[LaneNo]) -> Result<(), StoreError> {
        Ok(single::open(&self.engine, lanes).await?)
    }

    async fn supersede(&self, tenant: &TenantId) -> Result<Former, StoreError> {
        Ok(books::supersede(&self.engine, tenant).await?)
    }

    async fn erase(&self, what: &Erase, from: ErasePlace) -> Result<Erased, StoreError> {
        Ok(erase::step(&self.engine, what, from).await?)
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(self.engine.now().await?)
    }
}

#[async_trait]
impl DeliveryLog for Handle {
    async fn find(&self, name: &EventName) -> Result<Option<Position>, StoreError> {
        Ok(read::find(&self.engine, name).await?)
    }

    async fn event(&self, position: Position) -> Result<Option<(Event, EventStage)>, StoreError> {
        Ok(read::event(&self.engine, position).await?)
    }

    async fn events(
        &self,
        query: &EventQuery,
        from: Option<&str>,
        most: Most,
    ) -> Result<Page<Event>, StoreError> {
        Ok(read::events(&self.engine, query, from, most).await?)
    }

    async fn delivery(&self, key: DeliveryKey) -> Result<Option<DeliveryRecord>, StoreError> {
        Ok(read::delivery(&self.engine, key).await?)
    }

    async fn deliveries(
        &self,
        query: &DeliveryQuery,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page<DeliveryRecord>, StoreError> {
        Ok(read::deliveries(&self.engine, query, from, limit).await?)
    }

    async fn attempts(&self, key: DeliveryKey) -> Result<Vec<AttemptRecord>, StoreError> {
        let Ok(partition) = self.engine.partition(key.position.partition) else {
            return Ok(Vec::new());
        };
        Ok(log::of_delivery(&self.engine, partition, key).await?)
    }

    async fn event_attempts(
        &self,
        position: Position,
    ) -> Result<BTreeMap<DeliveryKey, Vec<AttemptRecord>>, StoreError> {
        let Ok(partition) = self.engine.partition(position.partition) else {
            return Ok(BTreeMap::new());
        };
        Ok(log::of_event(&self.engine, partition, position.n).await?)
    }

    async fn books(&self, tenant: Option<&TenantId>) -> Result<Books, StoreError> {
        Ok(books::books(&self.engine, tenant).await?)
    }

    async fn audit(&self) -> Result<Vec<Orphan>, StoreError> {
        Ok(books::audit(&self.engine).await?)
    }
}
