//! Accepting events.

pub(super) mod accept;

use std::time::Duration;

use async_trait::async_trait;
use pregon_core::event::NewEvent;
use pregon_core::id::TenantId;

use crate::StoreError;
use crate::intake::{Durability, Intake, Published};
use crate::redis::engine::link;
use crate::redis::handle::Handle;
use crate::redis::log::books;

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
