//! What happened.

pub(super) mod attempts;
pub(super) mod backlog;
pub(super) mod books;
pub(super) mod lane_log;
pub(super) mod read;
pub(super) mod rewritten;
pub(super) mod watch;

use std::collections::BTreeMap;

use async_trait::async_trait;
use pregon_core::attempt::AttemptRecord;
use pregon_core::event::Event;
use pregon_core::id::{DeliveryKey, EventName, Position, TenantId};

use crate::StoreError;
use crate::log::{
    Books, DeliveryLog, DeliveryQuery, DeliveryRecord, EventQuery, EventStage, Most, Orphan, Page,
};
use crate::redis::handle::Handle;

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
        Ok(attempts::of_delivery(&self.engine, partition, key).await?)
    }

    async fn event_attempts(
        &self,
        position: Position,
    ) -> Result<BTreeMap<DeliveryKey, Vec<AttemptRecord>>, StoreError> {
        let Ok(partition) = self.engine.partition(position.partition) else {
            return Ok(BTreeMap::new());
        };
        Ok(attempts::of_event(&self.engine, partition, position.n).await?)
    }

    async fn books(&self, tenant: Option<&TenantId>) -> Result<Books, StoreError> {
        Ok(books::books(&self.engine, tenant).await?)
    }

    async fn audit(&self) -> Result<Vec<Orphan>, StoreError> {
        Ok(books::audit(&self.engine).await?)
    }
}
