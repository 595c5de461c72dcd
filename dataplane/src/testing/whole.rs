//! A whole node over the embedded engine.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::{SharedClock, SystemClock};
use pregon_core::event::{Environment, NewEvent};
use pregon_core::id::{DeliveryKey, EventTypeId, LaneNo, NodeId, TenantId};
use pregon_core::model::Resource;
use pregon_core::rate::HostRates;
use pregon_store::Store;
use pregon_store::config::{Commit, Committed};
use pregon_store::embedded::{Embedded, EmbeddedOptions, Location, open};
use pregon_store::intake::Published;

use super::held;
use super::receiver::egress;
use crate::plane::{Dataplane, DataplaneOptions};
use crate::worker::{LEASE, WorkerLimits};

/// Longer than anything here takes.
const AMPLE: Duration = Duration::from_secs(20);

/// A node at work on a store in memory.
pub(crate) struct Whole {
    pub(crate) store: Store,
    pub(crate) node: Dataplane,
    _embedded: Embedded,
}

impl Whole {
    pub(crate) fn start() -> Self {
        let clock: SharedClock = Arc::new(SystemClock);
        let options = EmbeddedOptions::new(Location::Memory, Arc::clone(&clock));
        let embedded = open(options).unwrap();
        let store = embedded.store();
        let node = Dataplane::start(DataplaneOptions {
            telemetry: pregon_telemetry::Telemetry::off(),
            store: store.clone(),
            keys: held(),
            seals: false,
            clock,
            egress: egress(),
            node: NodeId::parse("n1").unwrap(),
            max_event_bytes: 1024,
            limits: WorkerLimits::default(),
            hosts: HostRates::default(),
            lease: LEASE,
            drain_limit: Some(AMPLE),
            user_agent: "pregon-test".into(),
            seed: 7,
        });
        Self { store, node, _embedded: embedded }
    }

    /// Writes resources and waits until they are served.
    pub(crate) async fn write(&self, resources: &[Resource]) -> i64 {
        let document = |resource: &Resource| {
            (resource.name().to_string(), Some(Bytes::from(resource.encode())))
        };
        let write = resources.iter().map(document).collect();
        let commit = Commit { write, ..Commit::default() };
        let committed = self.store.config.commit(commit).await.unwrap();
        let Committed::Done { revision } = committed else { panic!("{committed:?}") };
        self.node.configuration().wait_for(revision, AMPLE).await.unwrap();
        revision
    }

    /// Publishes an event `a.b` of `acme`; answers with its delivery to a lane.
    pub(crate) async fn publish(&self, lane: u64, data: &'static str) -> DeliveryKey {
        let event = NewEvent {
            tenant: TenantId::parse("acme").unwrap(),
            id: None,
            version: 0,
            event_type: EventTypeId::parse("a.b").unwrap(),
            environment: Environment::Live,
            occur_time: None,
            since: None,
            min_revision: 0,
            trace: None,
            terms: None,
            attributes: Default::default(),
            data: Bytes::from_static(data.as_bytes()),
        };
        let published = self.store.intake.publish(vec![event]).await.unwrap().remove(0);
        let Published::Accepted { position, .. } = published else { panic!("{published:?}") };
        DeliveryKey { position, lane: LaneNo(lane), replay: None }
    }

    /// Waits until so many attempts of a delivery are logged.
    pub(crate) async fn attempts(&self, key: DeliveryKey, count: usize) -> Vec<AttemptRecord> {
        let logged = async {
            loop {
                let attempts = self.store.log.attempts(key).await.unwrap();
                if attempts.len() >= count {
                    return attempts;
                }
                // The log tells nobody; it is looked at again.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(AMPLE, logged).await.unwrap()
    }
}
