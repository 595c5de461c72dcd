//! Both planes over a store in memory, under a clock that stands still.

use std::sync::Arc;

use pregon_control::{
    ApiKeys, Callbacks, Contracts, Control, ControlOptions, Deliveries, EventTypes, Secrets,
    Subscriptions, Tenants,
};
use pregon_core::clock::{ManualClock, SharedClock, Timestamp};
use pregon_core::id::PoolName;
use pregon_core::limits;
use pregon_core::pool::{Pool, Pools};
use pregon_core::seal::{Held, KeyRing};
use pregon_core::url::UrlPolicy;
use pregon_dataplane::egress::{
    Egress, EgressLimits, EgressOptions, EgressPolicy, Own, SystemResolver,
};
use pregon_dataplane::publish::{EventServiceImpl, PublishOptions};
use pregon_dataplane::snapshot::{Follower, FollowerOptions};
use pregon_proto::v1;
use pregon_proto::v1::callback_service_server::CallbackService as _;
use pregon_proto::v1::contract_service_server::ContractService as _;
use pregon_proto::v1::event_service_server::EventService as _;
use pregon_proto::v1::event_type_service_server::EventTypeService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use pregon_rpc::caller::Caller;
use pregon_rpc::page::PageKey;
use pregon_rpc::portal::PortalKeys;
use pregon_rpc::revision::Revision;
use pregon_store::embedded::{Embedded, EmbeddedOptions, Location, open};
use pregon_telemetry::Telemetry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Request;

const START: Timestamp = Timestamp::from_millis(1_790_000_000_000);

/// A contract that a subscription may be under.
const CONTRACT: &str = "contract: own\noverridable: [retry, timeouts]\nurl: { ports: [443, 8443] }\n\
    examples: [{ event: { type: order.paid, data: '{}' } }]\n";

/// The services, and what they stand on.
pub(super) struct World {
    pub tenants: Tenants,
    pub event_types: EventTypes,
    pub contracts: Contracts,
    pub subscriptions: Subscriptions,
    pub callbacks: Callbacks,
    pub secrets: Secrets,
    pub deliveries: Deliveries,
    pub api_keys: ApiKeys,
    pub events: EventServiceImpl,
    _embedded: Embedded,
}

/// A request as it comes to its handler where nobody is authenticated.
pub(super) fn from_anyone<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Caller::anyone());
    request
}

impl World {
    /// A world with the tenant `acme`, the type `order.paid`, the contract `own`, the subscriptions `erp`
    /// and `crm`, the callback `ask`, and one event.
    pub async fn open() -> Self {
        let clock: SharedClock = ManualClock::at(START);
        let embedded = open(EmbeddedOptions::new(Location::Memory, Arc::clone(&clock)));
        let embedded = embedded.expect("a store in memory");
        let store = embedded.store();
        let ring = KeyRing::parse(&"5a".repeat(32)).expect("a key");
        let keys = watch::channel(Arc::new(Held::new(ring))).1;
        let pool = Pool { name: PoolName::parse("fixed").expect("a name"), addresses: Vec::new() };
        let drain = CancellationToken::new();
        let control = Control::new(ControlOptions {
            store: store.clone(),
            clock: Arc::clone(&clock),
            keys: keys.clone(),
            page_key: PageKey::new([7; 32]),
            portal: PortalKeys::new(vec![[8; 32].into()]),
            url_policy: UrlPolicy::default(),
            pools: Pools::of(vec![pool]),
            event_data_limit: limits::EVENT_DATA_DEFAULT,
            // The same each time, so that the same request has the same answer.
            random: |buffer| buffer.fill(0x5c),
            user_agent: "pregon/fuzz".into(),
            latest: Revision::none(),
            drain: drain.clone(),
            telemetry: Telemetry::off(),
        });
        let egress = Egress::new(EgressOptions {
            policy: EgressPolicy::default(),
            own: Own::default(),
            pools: Vec::new(),
            resolver: Arc::new(SystemResolver::default()),
            extra_roots: None,
            clock: Arc::clone(&clock),
            limits: EgressLimits::default(),
        });
        let (follower, configuration) = Follower::new(FollowerOptions {
            store: Arc::clone(&store.config),
            keys,
            clock: Arc::clone(&clock),
            egress: egress.expect("a way out"),
            telemetry: Telemetry::off(),
        });
        tokio::spawn(follower.run(drain.clone()));
        let events = EventServiceImpl::new(PublishOptions {
            configuration: configuration.clone(),
            intake: Arc::clone(&store.intake),
            clock,
            max_event_bytes: limits::EVENT_DATA_DEFAULT,
            draining: drain,
            telemetry: Telemetry::off(),
        });
        let it = || Arc::clone(&control);
        let world = Self {
            tenants: Tenants::new(it()),
            event_types: EventTypes::new(it()),
            contracts: Contracts::new(it()),
            subscriptions: Subscriptions::new(it()),
            callbacks: Callbacks::new(it()),
            secrets: Secrets::new(it()),
            deliveries: Deliveries::new(it()),
            api_keys: ApiKeys::new(it()),
            events,
            _embedded: embedded,
        };
        world.fill().await;
        configuration.catch_up().await.expect("the node serves what is there");
        world.publish().await;
        world
    }

    async fn fill(&self) {
        let request = v1::CreateTenantRequest {
            tenant_id: "acme".into(),
            tenant: Some(v1::Tenant::default()),
            ..Default::default()
        };
        self.tenants.create_tenant(from_anyone(request)).await.expect("a tenant");
        let event_type = v1::EventType {
            json_schema: r#"{"type":"object"}"#.into(),
            example: r#"{"amount":7}"#.into(),
            ..Default::default()
        };
        let request = v1::CreateEventTypeRequest {
            event_type_id: "order.paid".into(),
            event_type: Some(event_type),
            ..Default::default()
        };
        self.event_types.create_event_type(from_anyone(request)).await.expect("a type");
        let request = v1::CreateContractRequest {
            contract_id: "own".into(),
            contract: Some(v1::Contract { document: CONTRACT.into(), ..Default::default() }),
            ..Default::default()
        };
        self.contracts.create_contract(from_anyone(request)).await.expect("a contract");
        for (id, contract) in [("erp", ""), ("crm", "contracts/own")] {
            let subscription = v1::Subscription {
                url: "https://example.com/hook?a=1".into(),
                event_types: vec!["order.*".into()],
                contract: contract.into(),
                ..Default::default()
            };
            let request = v1::CreateSubscriptionRequest {
                parent: "tenants/acme".into(),
                subscription_id: id.into(),
                subscription: Some(subscription),
                ..Default::default()
            };
            self.subscriptions
                .create_subscription(from_anyone(request))
                .await
                .expect("a subscription");
        }
        let callback = v1::Callback { url: "https://example.com/ask".into(), ..Default::default() };
        let request = v1::CreateCallbackRequest {
            parent: "tenants/acme".into(),
            callback_id: "ask".into(),
            callback: Some(callback),
            ..Default::default()
        };
        self.callbacks.create_callback(from_anyone(request)).await.expect("a callback");
    }

    async fn publish(&self) {
        let event = v1::Event {
            id: "evt_1".into(),
            r#type: "order.paid".into(),
            data: Some(v1::event::Data::Json(r#"{"amount":7}"#.into())),
            ..Default::default()
        };
        let request = v1::PublishRequest {
            tenant: "tenants/acme".into(),
            event: Some(event),
            ..Default::default()
        };
        self.events.publish(from_anyone(request)).await.expect("an event");
    }
}
