//! A control plane over a store in memory, under a clock that stands still until it is moved.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pregon_control::{
    ApiKeys, Callbacks, Contracts, Control, ControlOptions, Deliveries, EventTypes, MasterKeys,
    Nodes, Secrets, Subscriptions, Tenants,
};
use pregon_core::attempt::{AttemptRecord, End, MASKED, RecordKind, ResponseHead, Timing};
use pregon_core::clock::{Clock, ManualClock, SharedClock, Timestamp};
use pregon_core::event::{Environment, NewEvent};
use pregon_core::id::{
    ContractId, DeliveryKey, EventId, EventTypeId, LaneNo, NodeId, Position, SecretId, TenantId,
};
use pregon_core::limits;
use pregon_core::model::{Resource, ResourceName};
use pregon_core::outcome::{AttemptOutcome, DeliveryState, EndReason, ErrorClass};
use pregon_core::seal::{Held, KeyRing};
use pregon_core::url::{AddressPolicy, UrlPolicy};
use pregon_proto::v1;
use pregon_proto::v1::contract_service_server::ContractService as _;
use pregon_proto::v1::event_type_service_server::EventTypeService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use pregon_rpc::caller::Caller;
use pregon_rpc::page::PageKey;
use pregon_rpc::portal::PortalKeys;
use pregon_rpc::revision::Revision;
use pregon_store::Store;
use pregon_store::batch::OpenEvent;
use pregon_store::config::Commit;
use pregon_store::embedded::{Embedded, EmbeddedOptions, Location, open};
use pregon_store::intake::Published;
use pregon_store::settlement::{
    BatchSettle, DeliverySettle, EventOutcome, EventSettle, FilterError, Settlement, Transition,
};
use pregon_store::work::{Claim, DueRequest};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Request;

mod refusals;

pub use refusals::{assert_refused, assert_wrong, reason, violations};

pub const START: Timestamp = Timestamp::from_millis(1_790_000_000_000);
pub const URL: &str = "https://example.com/hook?a=1";

/// Everything that a test needs.
pub struct World {
    pub clock: Arc<ManualClock>,
    pub store: Store,
    pub embedded: Embedded,
    pub control: Arc<Control>,
    pub tenants: Tenants,
    pub event_types: EventTypes,
    pub contracts: Contracts,
    pub subscriptions: Subscriptions,
    pub callbacks: Callbacks,
    pub secrets: Secrets,
    pub deliveries: Deliveries,
    pub nodes: Nodes,
    pub master_keys: MasterKeys,
    /// The master keys of the control plane.
    pub held: watch::Sender<Arc<Held>>,
    pub api_keys: ApiKeys,
    pub latest: Revision,
    pub drain: CancellationToken,
}

impl World {
    pub fn new() -> Self {
        Self::meddled(|store| store)
    }

    /// A world whose control plane does not speak to the store itself.
    pub fn meddled(between: impl FnOnce(Store) -> Store) -> Self {
        let clock = ManualClock::at(START);
        let shared: SharedClock = clock.clone();
        let embedded = open(EmbeddedOptions::new(Location::Memory, shared.clone())).unwrap();
        let (latest, drain) = (Revision::none(), CancellationToken::new());
        let ring = KeyRing::parse(&"5a".repeat(32)).unwrap();
        let (held, keys) = watch::channel(Arc::new(Held::new(ring)));
        let control = Control::new(ControlOptions {
            telemetry: pregon_telemetry::Telemetry::off(),
            store: between(embedded.store()),
            clock: shared,
            keys,
            page_key: PageKey::new([7; 32]),
            portal: PortalKeys::new(vec![[8; 32].into()]),
            url_policy: UrlPolicy { addresses: AddressPolicy::default(), ..UrlPolicy::default() },
            pools: crate::pools::pools(),
            event_data_limit: limits::EVENT_DATA_DEFAULT,
            random: |buffer| getrandom::fill(buffer).unwrap(),
            user_agent: "pregon/test".into(),
            latest: latest.clone(),
            drain: drain.clone(),
        });
        let it = || Arc::clone(&control);
        Self {
            clock,
            store: embedded.store(),
            embedded,
            tenants: Tenants::new(it()),
            event_types: EventTypes::new(it()),
            contracts: Contracts::new(it()),
            subscriptions: Subscriptions::new(it()),
            callbacks: Callbacks::new(it()),
            secrets: Secrets::new(it()),
            deliveries: Deliveries::new(it()),
            nodes: Nodes::new(it()),
            master_keys: MasterKeys::new(it()),
            held,
            api_keys: ApiKeys::new(it()),
            control,
            latest,
            drain,
        }
    }

    /// A world over another store than the one in memory, which stands by empty.
    pub fn over(store: Store) -> Self {
        let world = Self::meddled(|_| store.clone());
        Self { store, ..world }
    }

    /// A world with the tenant `acme`.
    pub async fn with_tenant() -> Self {
        let world = Self::new();
        world.tenant("acme").await;
        world
    }

    /// A world with the tenant `acme` and its subscription `erp`.
    pub async fn with_subscription() -> Self {
        let world = Self::with_tenant().await;
        world.subscription("acme", "erp").await;
        world
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub async fn tenant(&self, id: &str) -> v1::Tenant {
        let request = v1::CreateTenantRequest {
            tenant_id: id.into(),
            tenant: Some(v1::Tenant::default()),
            ..Default::default()
        };
        let answer = self.tenants.create_tenant(from_anyone(request)).await.unwrap();
        answer.into_inner().tenant.unwrap()
    }

    /// Lets `acme` have so many subscriptions.
    pub async fn allow(&self, max_subscriptions: i32) {
        let limits =
            v1::TenantLimits { max_subscriptions: Some(max_subscriptions), ..Default::default() };
        let name = "tenants/acme".to_owned();
        let tenant = v1::Tenant { name, limits: Some(limits), ..Default::default() };
        let update_mask = mask(&["limits.max_subscriptions"]);
        let tenant = Some(tenant);
        let request = v1::UpdateTenantRequest { tenant, update_mask, ..Default::default() };
        self.tenants.update_tenant(from_anyone(request)).await.unwrap();
    }

    pub async fn subscription(&self, tenant: &str, id: &str) -> v1::Subscription {
        self.subscribe(tenant, id, subscription()).await
    }

    /// Makes a subscription that is not the usual one.
    pub async fn subscribe(
        &self,
        tenant: &str,
        id: &str,
        subscription: v1::Subscription,
    ) -> v1::Subscription {
        let parent = format!("tenants/{tenant}");
        let request = v1::CreateSubscriptionRequest { parent, ..create(id, subscription) };
        let answer = self.subscriptions.create_subscription(from_anyone(request)).await.unwrap();
        answer.into_inner().subscription.unwrap()
    }

    /// Makes a contract of one's own.
    pub async fn contract(&self, id: &str, rules: &str) -> v1::Contract {
        let document = contract(id, rules);
        let request = v1::CreateContractRequest {
            contract_id: id.into(),
            contract: Some(v1::Contract { document, ..Default::default() }),
            ..Default::default()
        };
        let answer = self.contracts.create_contract(from_anyone(request)).await.unwrap();
        answer.into_inner().contract.unwrap()
    }

    /// Makes an event type with a schema that wants an object, and an example.
    pub async fn event_type(&self, id: &str) {
        let kind = v1::EventType {
            json_schema: "{\"type\":\"object\"}".into(),
            example: "{\"amount\":7}".into(),
            ..Default::default()
        };
        let request = v1::CreateEventTypeRequest {
            event_type_id: id.into(),
            event_type: Some(kind),
            ..Default::default()
        };
        self.event_types.create_event_type(from_anyone(request)).await.unwrap();
    }

    /// A resource as it is stored.
    pub async fn stored(&self, name: &str) -> Option<Resource> {
        let found = self.store.config.get(&[name.to_owned()]).await.unwrap().pop().unwrap();
        found.map(|it| Resource::decode(&ResourceName::parse(name).unwrap(), &it.bytes).unwrap())
    }

    /// Stores a resource as it is, whatever the services would say.
    pub async fn put(&self, resource: &Resource) {
        let write = vec![(resource.name().to_string(), Some(resource.encode().into()))];
        self.store.config.commit(Commit { write, ..Commit::default() }).await.unwrap();
    }

    pub async fn lane(&self, name: &str) -> LaneNo {
        match self.stored(name).await.unwrap() {
            Resource::Subscription(it) => it.lane,
            other @ (Resource::Tenant(_)
            | Resource::EventType(_)
            | Resource::Contract(_)
            | Resource::Callback(_)
            | Resource::Secret(_)
            | Resource::ApiKey(_)) => panic!("{other:?}"),
        }
    }

    /// The names of all documents.
    pub async fn names(&self) -> Vec<String> {
        let all = self.store.config.documents("", 1000).await.unwrap();
        // Who wrote last is none that anybody made.
        let names = all.into_iter().map(|document| document.name);
        names.filter(|name| name != pregon_store::author::AUTHOR).collect()
    }

    /// Publishes events without ids.
    pub async fn publish_many(&self, tenant: &str, count: usize) {
        let events = vec![new_event(tenant, None, "{}"); count];
        self.store.intake.publish(events).await.unwrap();
    }

    pub async fn publish(&self, tenant: &str, id: Option<&str>, data: &str) -> Position {
        let event = new_event(tenant, id, data);
        match self.store.intake.publish(vec![event]).await.unwrap()[0] {
            Published::Accepted { position, .. } => position,
            Published::IdReused => panic!("the id was used before"),
        }
    }

    /// Plays the node: moves every delivery that is due so, each by one attempt.
    pub async fn settle_due(&self, to: Transition) {
        let request = DueRequest { want: 200, default_slots: 200, ..DueRequest::default() };
        while let Some(batch) =
            self.store.work.due(0, &claim(), request.clone()).await.unwrap().batch
        {
            let mut settlement = Settlement::default();
            let mut deliveries = Vec::new();
            for held in &batch.deliveries {
                let tenant = held.event.tenant.clone();
                settlement.attempts.push((batch.token, self.record(held.key, &tenant, to).into()));
                let (key, attempts) = (held.key, held.attempts + 1);
                let age = Duration::ZERO;
                deliveries.push(DeliverySettle { key, tenant, attempts, age, to });
            }
            let (token, events) = (batch.token, Vec::new());
            settlement.batches.push(BatchSettle { token, events, deliveries });
            self.store.work.settle(settlement).await.unwrap();
        }
    }

    /// Plays the node: matches all new events with these lanes and moves their deliveries.
    pub async fn settle_new(&self, lanes: &[LaneNo], to: Transition) -> Vec<DeliveryKey> {
        let contract = ContractId::parse("standard_webhooks").unwrap();
        self.settle_under(lanes, to, &contract, 0).await
    }

    /// The same, by attempts under this contract.
    pub async fn settle_under(
        &self,
        lanes: &[LaneNo],
        to: Transition,
        contract: &ContractId,
        contract_revision: i64,
    ) -> Vec<DeliveryKey> {
        let mut keys = Vec::new();
        while let Some(batch) = self.store.work.take(0, &claim(), 256, usize::MAX).await.unwrap() {
            let mut settlement = Settlement::default();
            let mut events = Vec::new();
            for open in &batch.events {
                let (position, tenant) = (open.event.position, open.event.tenant.clone());
                let moves = lanes.iter().map(|lane| {
                    let key = DeliveryKey { position, lane: *lane, replay: None };
                    keys.push(key);
                    let contract = contract.clone();
                    let record = self.record(key, &tenant, to);
                    let record = AttemptRecord { contract, contract_revision, ..record };
                    settlement.attempts.push((batch.token, record.into()));
                    let tenant = tenant.clone();
                    DeliverySettle { key, tenant, attempts: 1, age: Duration::ZERO, to }
                });
                let moves: Vec<_> = moves.collect();
                let outcome = match moves.is_empty() {
                    true => EventOutcome::Unmatched,
                    false => EventOutcome::Matched(moves),
                };
                events.push(EventSettle::new(position, tenant, outcome));
            }
            let token = batch.token;
            settlement.batches.push(BatchSettle { token, events, deliveries: Vec::new() });
            self.store.work.settle(settlement).await.unwrap();
        }
        keys
    }

    /// Takes all new events, for none of which the lane's filter had an answer.
    pub async fn settle_unanswered(&self, lane: LaneNo, reason: &str) {
        while let Some(batch) = self.store.work.take(0, &claim(), 256, usize::MAX).await.unwrap() {
            let event = |open: &OpenEvent| {
                let (position, tenant) = (open.event.position, open.event.tenant.clone());
                let mut event = EventSettle::new(position, tenant, EventOutcome::Unmatched);
                let error = FilterError { reason: reason.into(), lanes: vec![lane] };
                event.filter_errors.push(error);
                event
            };
            let (token, events) = (batch.token, batch.events.iter().map(event).collect());
            let batch = BatchSettle { token, events, deliveries: Vec::new() };
            let settlement = Settlement { batches: vec![batch], ..Settlement::default() };
            self.store.work.settle(settlement).await.unwrap();
        }
    }

    /// The record of a first attempt that led there.
    pub fn record(&self, key: DeliveryKey, tenant: &TenantId, to: Transition) -> AttemptRecord {
        let (outcome, end, status) = match to {
            Transition::Succeeded => {
                let end = End { state: DeliveryState::Succeeded, reason: None };
                (AttemptOutcome::Succeeded, Some(end), 204)
            }
            Transition::Failed(reason) => {
                let end = End { state: DeliveryState::Failed, reason: Some(reason) };
                (AttemptOutcome::Failed, Some(end), 503)
            }
            Transition::Cancelled(_)
            | Transition::Retry(_)
            | Transition::Waiting(_)
            | Transition::Later(..)
            | Transition::Held => (AttemptOutcome::Retry, None, 503),
        };
        let bad = outcome != AttemptOutcome::Succeeded;
        AttemptRecord {
            key,
            kind: RecordKind::Attempt,
            number: 1,
            tenant: tenant.clone(),
            event_type: EventTypeId::parse("order.captured").unwrap(),
            environment: Environment::Live,
            node: NodeId::parse("n1").unwrap(),
            start: self.now(),
            timing: Timing { connect: 1500, total: 5000, ..Timing::default() },
            outcome: Some(outcome),
            end,
            error_class: bad.then_some(ErrorClass::Status),
            reason: if bad { "answered 503".into() } else { String::new() },
            status,
            url: Arc::from(URL),
            remote: Some("203.0.113.7:443".parse().unwrap()),
            next_attempt: None,
            configuration_revision: 1,
            contract: ContractId::parse("standard_webhooks").unwrap(),
            contract_revision: 0,
            secrets: if bad { vec![SecretId::parse("k1").unwrap()] } else { Vec::new() },
            response: bad.then(|| ResponseHead {
                headers: vec![("server".into(), "nginx".into())],
                body: b"busy \xff".to_vec(),
                truncated: true,
            }),
            late: false,
            resent: bad,
            headers: [("x-shop".into(), "7".into()), ("x-api-key".into(), MASKED.into())].into(),
        }
    }

    /// One failed delivery of a new event to `erp`, by name.
    pub async fn failed_delivery(&self) -> String {
        let lane = self.lane("tenants/acme/subscriptions/erp").await;
        self.publish("acme", None, "{\"amount\":5000}").await;
        let failed = Transition::Failed(EndReason::AttemptsExhausted);
        let keys = self.settle_new(&[lane], failed).await;
        format!("tenants/acme/deliveries/{}", keys[0])
    }
}

pub fn new_event(tenant: &str, id: Option<&str>, data: &str) -> NewEvent {
    NewEvent {
        tenant: TenantId::parse(tenant).unwrap(),
        id: id.map(|id| EventId::parse(id).unwrap()),
        version: 0,
        event_type: EventTypeId::parse("order.captured").unwrap(),
        environment: Environment::Live,
        occur_time: None,
        since: None,
        min_revision: 0,
        trace: None,
        terms: None,
        attributes: Default::default(),
        data: Bytes::copy_from_slice(data.as_bytes()),
    }
}

pub fn claim() -> Claim {
    Claim { node: NodeId::parse("n1").unwrap(), lease: Duration::from_secs(20) }
}

/// A contract of one's own: `rules` are more keys of its document.
pub fn contract(id: &str, rules: &str) -> String {
    format!(
        "contract: {id}\nbody: {{ t: \"${{event.type}}\", d: \"${{event.data}}\" }}\n{rules}\nexamples:\n  \
         - event: {{ id: e1, type: order.captured, time: \"2026-01-01T00:00:00Z\", data: \"{{}}\" }}\n    \
         time: \"2026-01-01T00:00:01Z\"\n    expect: {{ body: '{{\"t\":\"order.captured\",\"d\":{{}}}}' }}\n"
    )
}

/// A request for a subscription of `acme`.
pub fn create(id: &str, subscription: v1::Subscription) -> v1::CreateSubscriptionRequest {
    v1::CreateSubscriptionRequest {
        parent: "tenants/acme".into(),
        subscription_id: id.into(),
        subscription: Some(subscription),
        ..Default::default()
    }
}

/// A subscription with what is required.
pub fn subscription() -> v1::Subscription {
    v1::Subscription { url: URL.into(), event_types: vec!["order.*".into()], ..Default::default() }
}

pub fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

pub fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// A moment so many seconds after the world's start.
pub fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    let seconds = START.millis() / 1000 + seconds;
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

/// A request as it comes to its handler where nobody is authenticated.
pub fn from_anyone<T>(message: T) -> Request<T> {
    from(Caller::anyone(), message)
}

/// A request as it comes to its handler from this caller.
pub fn from<T>(caller: Caller, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller);
    request
}

/// Calls a method, `ask!(service.method(request))`, and takes the answer out of its envelope.
macro_rules! ask {
    ($service:expr, $method:ident, $request:expr) => {
        $service.$method(crate::world::from_anyone($request)).await.map(tonic::Response::into_inner)
    };
}
pub(crate) use ask;
