//! Stores for tests: simple, observable, and broken on demand.

pub(crate) mod documents;
pub(crate) mod receiver;
pub(crate) mod whole;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::contract::standard_webhooks;
use pregon_core::event::{Environment, NewEvent};
use pregon_core::id::{EventTypeId, LaneNo, Position, SecretName, SubscriptionName, TenantId};
use pregon_core::model::{
    Auth, Common, EventType, Resource, Secret, SecretAlgorithm, Subscription, SubscriptionState,
    Tenant, TenantLimits, Trust,
};
use pregon_core::seal::{Held, KeyRing};
use pregon_core::secret::SecretBytes;
use pregon_core::url::EgressRules;
use pregon_store::config::{Change, Changes, Commit, Committed, Document, Head, ListRange};
use pregon_store::intake::{Durability, Published};
use pregon_store::{ConfigStore, Intake, StoreError};
use tokio::sync::{Notify, Semaphore, watch};

/// A configuration store in memory.
#[derive(Default)]
pub(crate) struct FakeConfig {
    state: Mutex<ConfigState>,
    changed: Notify,
    /// Every call fails.
    pub(crate) down: AtomicBool,
    /// Changes come in one answer each time; none while this is set.
    pub(crate) muted: AtomicBool,
    /// Calls of `head`.
    pub(crate) heads: AtomicUsize,
}

#[derive(Default)]
struct ConfigState {
    epoch: u64,
    documents: BTreeMap<String, Document>,
    changes: Vec<Change>,
    /// Changes up to here are forgotten.
    trimmed: i64,
}

impl FakeConfig {
    /// Commits documents; none: deleted.
    pub(crate) fn put(&self, documents: Vec<(String, Option<Bytes>)>) -> i64 {
        let mut state = self.state.lock().unwrap();
        let revision = state.changes.last().map_or(100, |change| change.revision) + 1;
        for (name, bytes) in &documents {
            match bytes.clone() {
                None => state.documents.remove(name),
                Some(bytes) => {
                    let document = Document { name: name.clone(), revision, bytes };
                    state.documents.insert(name.clone(), document)
                }
            };
        }
        state.changes.push(Change { revision, nonce: 7, documents });
        drop(state);
        self.changed.notify_waiters();
        revision
    }

    /// Commits resources.
    pub(crate) fn write(&self, resources: &[Resource]) -> i64 {
        let document = |r: &Resource| (r.name().to_string(), Some(Bytes::from(r.encode())));
        self.put(resources.iter().map(document).collect())
    }

    /// Forgets the change log, and starts another history where `another` says so.
    pub(crate) fn trim(&self, another: bool) {
        let mut state = self.state.lock().unwrap();
        state.trimmed = state.changes.last().map_or(0, |change| change.revision);
        state.epoch += u64::from(another);
    }

    fn up(&self) -> Result<(), StoreError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("down".into()));
        }
        Ok(())
    }

    fn next(&self, known: Head, limit: usize) -> Changes {
        let state = self.state.lock().unwrap();
        if known.revision < state.trimmed || known.epoch != state.epoch {
            return Changes::Gap;
        }
        let new = state.changes.iter().filter(|change| change.revision > known.revision);
        Changes::Next(new.take(limit).cloned().collect())
    }
}

#[async_trait]
impl ConfigStore for FakeConfig {
    async fn commit(&self, _: Commit) -> Result<Committed, StoreError> {
        panic!("not used")
    }

    async fn recall(&self, _: [u8; 16], _: [u8; 16]) -> Result<Option<Committed>, StoreError> {
        panic!("not used")
    }

    async fn get(&self, _: &[String]) -> Result<Vec<Option<Document>>, StoreError> {
        panic!("not used")
    }

    async fn list(&self, _: ListRange) -> Result<Vec<Document>, StoreError> {
        panic!("not used")
    }

    async fn head(&self) -> Result<Head, StoreError> {
        self.heads.fetch_add(1, Ordering::SeqCst);
        self.up()?;
        let state = self.state.lock().unwrap();
        let revision = state.changes.last().map_or(0, |change| change.revision);
        Ok(Head { epoch: state.epoch, revision, nonce: 7 })
    }

    async fn head_at(&self, _: i64) -> Result<Option<Head>, StoreError> {
        panic!("not used")
    }

    async fn documents(&self, after: &str, limit: usize) -> Result<Vec<Document>, StoreError> {
        self.up()?;
        let state = self.state.lock().unwrap();
        let from = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        Ok(state.documents.range::<str, _>(from).take(limit).map(|(_, d)| d.clone()).collect())
    }

    async fn changes(
        &self,
        known: Head,
        limit: usize,
        wait: Duration,
    ) -> Result<Changes, StoreError> {
        let until = tokio::time::Instant::now() + wait;
        loop {
            let changed = self.changed.notified();
            self.up()?;
            let muted = self.muted.load(Ordering::SeqCst);
            let next = self.next(known, limit);
            if !muted && next != Changes::Next(Vec::new()) {
                return Ok(next);
            }
            // Looks again now and then: switches and trims wake nobody.
            let look = until.min(tokio::time::Instant::now() + Duration::from_millis(5));
            let _ = tokio::time::timeout_at(look, changed).await;
            if tokio::time::Instant::now() >= until {
                return Ok(Changes::Next(Vec::new()));
            }
        }
    }

    async fn next_lane(&self) -> Result<LaneNo, StoreError> {
        panic!("not used")
    }
}

/// What an event is known by: tenant, id, version.
type Identity = (TenantId, String, u32);

/// Stores events in memory.
pub(crate) struct FakeIntake {
    /// The sizes of the calls, in order.
    pub(crate) calls: Mutex<Vec<usize>>,
    /// What was stored, in order.
    pub(crate) stored: Mutex<Vec<NewEvent>>,
    /// How many of them are done with.
    pub(crate) done: AtomicU64,
    known: Mutex<HashMap<Identity, (Position, Bytes)>>,
    /// Calls take one permit each; plenty unless a test takes them away.
    pub(crate) gate: Semaphore,
    /// What every call answers with.
    pub(crate) fault: Mutex<Option<StoreError>>,
    answers_within: Duration,
}

impl FakeIntake {
    pub(crate) fn new() -> Arc<Self> {
        Self::answering_within(Duration::from_secs(2))
    }

    /// One that may take so long.
    pub(crate) fn answering_within(answers_within: Duration) -> Arc<Self> {
        Arc::new(Self {
            calls: Mutex::default(),
            stored: Mutex::default(),
            done: AtomicU64::new(0),
            known: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS >> 1),
            fault: Mutex::default(),
            answers_within,
        })
    }

    fn store(&self, event: NewEvent) -> Published {
        let mut stored = self.stored.lock().unwrap();
        let n = u64::try_from(stored.len()).unwrap() + 1;
        let position = Position { ms: 1_700_000_000_000, partition: 0, n };
        if let Some(id) = &event.id {
            let key = (event.tenant.clone(), id.to_string(), event.version);
            let mut known = self.known.lock().unwrap();
            if let Some((position, data)) = known.get(&key) {
                return match *data == event.data {
                    true => Published::Accepted { position: *position, duplicate: true },
                    false => Published::IdReused,
                };
            }
            known.insert(key, (position, event.data.clone()));
        }
        stored.push(event);
        Published::Accepted { position, duplicate: false }
    }
}

#[async_trait]
impl Intake for FakeIntake {
    async fn publish(&self, events: Vec<NewEvent>) -> Result<Vec<Published>, StoreError> {
        self.calls.lock().unwrap().push(events.len());
        self.gate.acquire().await.unwrap().forget();
        if let Some(fault) = self.fault.lock().unwrap().clone() {
            return Err(fault);
        }
        Ok(events.into_iter().map(|event| self.store(event)).collect())
    }

    fn durability(&self) -> Durability {
        Durability::Fsync
    }

    fn answers_within(&self) -> Duration {
        self.answers_within
    }

    async fn outstanding(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        let stored = self.stored.lock().unwrap();
        let own = stored.iter().filter(|event| event.tenant == *tenant).count();
        Ok(own as u64 - self.done.load(Ordering::Relaxed))
    }
}

/// A ring of one master key.
pub(crate) fn ring() -> KeyRing {
    KeyRing::parse(&"5a".repeat(32)).unwrap()
}

/// A process's keys, which are that ring and stay so.
pub(crate) fn held() -> watch::Receiver<Arc<Held>> {
    watch::channel(Arc::new(Held::new(ring()))).1
}

pub(crate) fn tenant(id: &str) -> Tenant {
    Tenant {
        id: TenantId::parse(id).unwrap(),
        common: Common::default(),
        suspended: false,
        limits: TenantLimits::default(),
        egress: None,
        egress_rules: EgressRules::default(),
        since: None,
    }
}

pub(crate) fn event_type(id: &str, json_schema: &str) -> Resource {
    Resource::EventType(EventType {
        id: EventTypeId::parse(id).unwrap(),
        common: Common::default(),
        description: String::new(),
        json_schema: json_schema.into(),
        example: String::new(),
        deprecated: false,
        sensitive_paths: Vec::new(),
    })
}

/// A live subscription `tenants/{tenant}/subscriptions/s{lane}`.
pub(crate) fn subscription(tenant: &str, lane: u64, patterns: &[&str]) -> Subscription {
    let name = format!("tenants/{tenant}/subscriptions/s{lane}");
    let name = SubscriptionName::parse(&name).unwrap();
    Subscription {
        tenant: name.tenant,
        id: name.subscription,
        common: Common::default(),
        lane: LaneNo(lane),
        url: format!("https://{tenant}.example/hooks/{lane}"),
        environment: Environment::Live,
        event_types: patterns.iter().map(|&p| p.to_owned()).collect(),
        filter: String::new(),
        contract: standard_webhooks().id().clone(),
        headers: Vec::new(),
        auth: Auth::None,
        trust: Trust::default(),
        sensitive_paths: Vec::new(),
        overrides: String::new(),
        egress: None,
        max_concurrency: 64,
        rate_limit: None,
        opened: None,
        max_pending: 0,
        state: SubscriptionState::Active,
        state_reason: String::new(),
        state_change: None,
        verification: None,
        failing: None,
    }
}

/// A secret of the subscription that [`subscription`] makes, active from `activate` on.
pub(crate) fn secret(tenant: &str, lane: u64, id: &str, activate: i64) -> Secret {
    let name = format!("tenants/{tenant}/subscriptions/s{lane}/secrets/{id}");
    let name = SecretName::parse(&name).unwrap();
    let mut secret = Secret {
        signer: name.signer,
        id: name.secret,
        common: Common::default(),
        algorithm: SecretAlgorithm::Hmac,
        sealed: String::new(),
        fingerprint: String::new(),
        activate_time: Timestamp::from_millis(activate),
        expire_time: None,
        revoke_time: None,
    };
    let sealed = ring().seal(&SecretBytes::new(vec![7; 32]), &secret.binding(), [9; 24]);
    secret.sealed = data_encoding::BASE64.encode(&sealed);
    secret
}
