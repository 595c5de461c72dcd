//! Accepting events.

pub(super) mod accept;

use std::time::Duration;

use async_trait::async_trait;
use pregon_core::event::NewEvent;
use pregon_core::id::TenantId;

use crate::StoreError;
use crate::embedded::engine::Class;
use crate::embedded::engine::executor::Handle;
use crate::embedded::engine::state::Tx;
use crate::embedded::log::books;
use crate::intake::{Durability, Intake, Published};

/// How long a publish may take: its disk is synced at once.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

#[async_trait]
impl Intake for Handle {
    async fn publish(&self, events: Vec<NewEvent>) -> Result<Vec<Published>, StoreError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let items = events.len();
        let events = accept::prepare(events)?;
        let work = move |tx: &mut Tx<'_>| accept::publish(tx, &events);
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
