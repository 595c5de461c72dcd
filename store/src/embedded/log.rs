//! The delivery log's calls.

pub(super) mod attempts;
pub(super) mod audit;
pub(super) mod backlog;
pub(super) mod books;
pub(super) mod chunk;
pub(super) mod deliveries;
pub(super) mod events;
pub(super) mod lane_log;
pub(super) mod watch;

use std::collections::BTreeMap;

use async_trait::async_trait;
use pregon_core::attempt::AttemptRecord;
use pregon_core::event::Event;
use pregon_core::id::{DeliveryKey, EventName, Position, TenantId};

use crate::StoreError;
use crate::embedded::engine::executor::Handle;
use crate::log::{
    Books, DeliveryLog, DeliveryQuery, DeliveryRecord, EventQuery, EventStage, Most, Orphan, Page,
};

#[async_trait]
impl DeliveryLog for Handle {
    async fn find(&self, name: &EventName) -> Result<Option<Position>, StoreError> {
        let name = name.clone();
        self.read(move |db| events::find(db, &name)).await
    }

    async fn event(&self, position: Position) -> Result<Option<(Event, EventStage)>, StoreError> {
        self.read(move |db| events::event(db, position)).await
    }

    async fn events(
        &self,
        query: &EventQuery,
        from: Option<&str>,
        most: Most,
    ) -> Result<Page<Event>, StoreError> {
        let (query, from) = (query.clone(), from.map(str::to_owned));
        self.read(move |db| events::events(db, &query, from.as_deref(), most)).await
    }

    async fn delivery(&self, key: DeliveryKey) -> Result<Option<DeliveryRecord>, StoreError> {
        let now = self.now().millis();
        self.read(move |db| deliveries::delivery(db, &key, now)).await
    }

    async fn deliveries(
        &self,
        query: &DeliveryQuery,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page<DeliveryRecord>, StoreError> {
        let (query, from) = (query.clone(), from.map(str::to_owned));
        let now = self.now().millis();
        let list = move |db: &rusqlite::Connection| {
            deliveries::deliveries(db, &query, from.as_deref(), limit, now)
        };
        self.read(list).await
    }

    async fn attempts(&self, key: DeliveryKey) -> Result<Vec<AttemptRecord>, StoreError> {
        self.read(move |db| attempts::of_delivery(db, &key)).await
    }

    async fn event_attempts(
        &self,
        position: Position,
    ) -> Result<BTreeMap<DeliveryKey, Vec<AttemptRecord>>, StoreError> {
        self.read(move |db| attempts::of_event(db, position)).await
    }

    async fn books(&self, tenant: Option<&TenantId>) -> Result<Books, StoreError> {
        let tenant = tenant.cloned();
        self.read_all(move |db| books::books(db, tenant.as_ref())).await
    }

    async fn audit(&self) -> Result<Vec<Orphan>, StoreError> {
        self.read_all(audit::audit).await
    }
}
