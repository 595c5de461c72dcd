//! The control plane as a whole: what it is made of, and the services it gives.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pregon_core::clock::SharedClock;
use pregon_core::seal::KeyRing;
use pregon_core::url::UrlPolicy;
use pregon_proto::v1::callback_service_server::CallbackServiceServer;
use pregon_proto::v1::contract_service_server::ContractServiceServer;
use pregon_proto::v1::delivery_service_server::DeliveryServiceServer;
use pregon_proto::v1::event_type_service_server::EventTypeServiceServer;
use pregon_proto::v1::node_service_server::NodeServiceServer;
use pregon_proto::v1::secret_service_server::SecretServiceServer;
use pregon_proto::v1::subscription_service_server::SubscriptionServiceServer;
use pregon_proto::v1::tenant_service_server::TenantServiceServer;
use pregon_rpc::page::PageKey;
use pregon_rpc::revision::Revision;
use pregon_rpc::server::{Server, ServerError};
use pregon_store::Store;
use pregon_telemetry::Telemetry;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::contracts::Registry;
use crate::family::Turns;
use crate::filters::Filters;
use crate::heads::Heads;
use crate::lanes::LaneNames;
use crate::repeat::Recent;
use crate::sensitive::Sensitive;
use crate::subscriptions::Tests;
use crate::watch::Watchers;
use crate::{Callbacks, Contracts, Deliveries, EventTypes, Nodes, Secrets, Subscriptions, Tenants};

/// How long one call waits for the next commit.
const FOLLOW: Duration = Duration::from_secs(1);
/// How soon a store that did not answer is asked again.
const FOLLOW_AGAIN: Duration = Duration::from_secs(1);

/// What a control plane is made of.
pub struct ControlOptions {
    /// Where everything lives.
    pub store: Store,
    /// The present time.
    pub clock: SharedClock,
    /// The master keys that secrets are sealed under.
    pub keys: Arc<KeyRing>,
    /// Authenticates page tokens; shared by all control planes of a deployment.
    pub page_key: PageKey,
    /// Which URLs subscriptions may have, addresses included.
    pub url_policy: UrlPolicy,
    /// Bytes that an event's data may have; an event type's example may have no more either.
    pub event_data_limit: usize,
    /// Fills a buffer with random bytes fit for keys.
    pub random: fn(&mut [u8]),
    /// The deployment's `user-agent`, as nodes send it.
    pub user_agent: Arc<str>,
    /// Moved to each revision that is committed or seen here; answers carry it.
    pub latest: Revision,
    /// Cancelled when the server is to end: waits and long streams end then.
    pub drain: CancellationToken,
    /// Told of writes.
    pub telemetry: Telemetry,
}

/// The control plane. Shared by its services.
pub struct Control {
    pub(crate) store: Store,
    pub(crate) clock: SharedClock,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) page_key: PageKey,
    pub(crate) contracts: Registry,
    pub(crate) event_data_limit: usize,
    pub(crate) random: fn(&mut [u8]),
    pub(crate) user_agent: Arc<str>,
    pub(crate) heads: Heads,
    pub(crate) drain: CancellationToken,
    pub(crate) telemetry: Telemetry,
    pub(crate) turns: Turns,
    /// The turn among writes that count who uses a contract.
    pub(crate) contract_turn: Mutex<()>,
    pub(crate) lane_names: LaneNames,
    /// Compiled filters, for those who ask whether an event would match.
    pub(crate) filters: Filters,
    /// What tenants' subscriptions call sensitive.
    pub(crate) sensitive: Sensitive,
    pub(crate) recent: Recent,
    /// Tests that may be repeated.
    pub(crate) tests: Tests,
    /// Places for watches.
    pub(crate) watchers: Watchers,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

/// The gRPC services of the control plane, to be added to a server.
#[derive(Clone, Debug)]
pub struct Services {
    /// `pregon.v1.TenantService`
    pub tenants: TenantServiceServer<Tenants>,
    /// `pregon.v1.EventTypeService`
    pub event_types: EventTypeServiceServer<EventTypes>,
    /// `pregon.v1.ContractService`
    pub contracts: ContractServiceServer<Contracts>,
    /// `pregon.v1.SubscriptionService`
    pub subscriptions: SubscriptionServiceServer<Subscriptions>,
    /// `pregon.v1.SecretService`
    pub secrets: SecretServiceServer<Secrets>,
    /// `pregon.v1.CallbackService`
    pub callbacks: CallbackServiceServer<Callbacks>,
    /// `pregon.v1.DeliveryService`
    pub deliveries: DeliveryServiceServer<Deliveries>,
    /// `pregon.v1.NodeService`
    pub nodes: NodeServiceServer<Nodes>,
}

impl Control {
    /// A control plane over a store.
    pub fn new(options: ControlOptions) -> Arc<Self> {
        Arc::new(Self {
            store: options.store,
            clock: options.clock,
            keys: options.keys,
            page_key: options.page_key,
            contracts: Registry::new(options.url_policy),
            event_data_limit: options.event_data_limit,
            random: options.random,
            user_agent: options.user_agent,
            heads: Heads::new(options.latest),
            drain: options.drain,
            telemetry: options.telemetry,
            turns: Turns::default(),
            contract_turn: Mutex::default(),
            lane_names: LaneNames::default(),
            filters: Filters::default(),
            sensitive: Sensitive::default(),
            recent: Recent::default(),
            tests: Tests::default(),
            watchers: Watchers::default(),
        })
    }

    /// Keeps [`ControlOptions::latest`] at the latest revision, whoever commits it, until the
    /// server is to end. A store that does not answer is asked again.
    pub async fn follow(&self) {
        loop {
            let known = self.store.config.head().await;
            let wait = match known {
                Ok(head) => {
                    self.heads.saw(head.revision, self.clock.now());
                    self.store.config.changes(head, 1, FOLLOW).await.map(drop)
                }
                Err(error) => Err(error),
            };
            let pause = if wait.is_ok() { Duration::ZERO } else { FOLLOW_AGAIN };
            tokio::select! {
                () = self.drain.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Its services, each refusing messages above [`pregon_core::limits::MESSAGE_LEN`].
    pub fn services(self: &Arc<Self>) -> Services {
        const LEN: usize = pregon_core::limits::MESSAGE_LEN;
        let it = || Arc::clone(self);
        Services {
            tenants: TenantServiceServer::new(Tenants::new(it())).max_decoding_message_size(LEN),
            event_types: EventTypeServiceServer::new(EventTypes::new(it()))
                .max_decoding_message_size(LEN),
            contracts: ContractServiceServer::new(Contracts::new(it()))
                .max_decoding_message_size(LEN),
            subscriptions: SubscriptionServiceServer::new(Subscriptions::new(it()))
                .max_decoding_message_size(LEN),
            secrets: SecretServiceServer::new(Secrets::new(it())).max_decoding_message_size(LEN),
            callbacks: CallbackServiceServer::new(Callbacks::new(it()))
                .max_decoding_message_size(LEN),
            deliveries: DeliveryServiceServer::new(Deliveries::new(it()))
                .max_decoding_message_size(LEN),
            nodes: NodeServiceServer::new(Nodes::new(it())).max_decoding_message_size(LEN),
        }
    }
}

impl Services {
    /// Methods that are made for waiting, by path: their time limit is that of waits.
    pub const WAITS: [&str; 2] = [
        "/pregon.v1.NodeService/WaitForRevision",
        "/pregon.v1.SubscriptionService/TestSubscription",
    ];

    /// Adds all of them to a server.
    pub fn add_to(self, server: Server) -> Result<Server, ServerError> {
        server
            .with(self.tenants)?
            .with(self.event_types)?
            .with(self.contracts)?
            .with(self.subscriptions)?
            .with(self.secrets)?
            .with(self.callbacks)?
            .with(self.deliveries)?
            .with(self.nodes)
    }
}
