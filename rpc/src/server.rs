//! The gRPC server: one listener, its bounds, what every server serves, and its end.
//!
//! Strangers stay out: beyond loopback a [`Listener`] wants TLS and tokens, and one layer around all
//! services lets through what the [`access`](crate::access) table allows.
//!
//! Started, a server serves what was added to it, reflection (v1 and v1alpha, naming the services
//! that it serves and no other) and health. It ends when its token is cancelled: the port closes,
//! health says NOT_SERVING, clients are told to go elsewhere (GOAWAY), calls under way go on until
//! they end or the drain limit comes, then their connections are cut. A handler whose stream has no
//! end of its own watches the same token.
//!
//! Bounds follow from what a peer could otherwise do to the process; each stands at its constant.
//! Two are left to the services: the size of a received message (`max_decoding_message_size`, give
//! it [`MESSAGE_LEN`](crate::MESSAGE_LEN)) and whatever a stream keeps.

pub(crate) mod conn;
mod incoming;
pub(crate) mod limits;
mod listen;
mod places;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use pregon_telemetry::Telemetry;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;
use tonic_health::pb::health_server::HealthServer;

use crate::access::Table;
use crate::arriving::WINDOW;
use crate::audit::Refusals;
use crate::auth::{Credentials, Guard};
use crate::call::{CallLayer, Here};
use crate::health::Health;
use crate::keys::Keys;
use crate::method::{Methods, MethodsError};
use crate::portal::PortalKeys;
use crate::revision::Revision;
use crate::routes::Routes;
use incoming::Incoming;
use places::Places;

pub use limits::Limits;
pub use listen::{
    ALLOW_PLAINTEXT, BadFile, BindError, Lack, Listen, Listener, TLS_CERT_FILE, TOKENS_FILE,
    TlsFiles,
};

/// A ping goes out on a connection that was silent for this long.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// A connection whose ping is not answered within this ends.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// A connection is asked to end after this, so that callers spread over new servers.
const CONNECTION_AGE: Duration = Duration::from_secs(30 * 60);
/// HTTP/2 frames received: the least that the protocol allows; larger ones save nothing here.
const FRAME_LEN: u32 = 16 * 1024;
/// A window at most (RFC 9113 section 6.9.1).
const WINDOW_MOST: u32 = (1 << 31) - 1;
/// Header block of a request: credentials and trace context, several times over.
const HEADERS_LEN: u32 = 16 * 1024;
/// Streams that a peer may reset before they are accepted (CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// A request of reflection names one symbol, one of health a service: strangers ask that.
const NAMED_LEN: usize = 16 * 1024;
/// How long connections that were cut may take to be gone.
const CUT_TIME: Duration = Duration::from_secs(1);

/// Why a server could not be made or went down.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The descriptor set or the list of waits is wrong.
    #[error("the server's methods are described wrongly")]
    Methods(#[from] MethodsError),
    /// A service was added that the descriptor set does not have.
    #[error("{0} is not in the descriptor set")]
    UnknownService(&'static str),
    /// Reflection cannot say what the descriptor set says.
    #[error("the descriptor set does not do for reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("the transport failed")]
    Transport(#[from] tonic::transport::Error),
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every call had its answer.
    Complete,
    /// The limit came first.
    Cut {
        /// Connections that were still open.
        connections: usize,
    },
}

/// A gRPC server before it serves.
#[derive(Debug)]
pub struct Server {
    descriptors: &'static [u8],
    methods: Methods,
    table: Table,
    revision: Revision,
    limits: Limits,
    routes: Routes,
    services: Vec<&'static str>,
    telemetry: Telemetry,
    elsewhere: &'static str,
    waiting: Option<&'static str>,
    keys: Option<watch::Receiver<Arc<Keys>>>,
    refusals: Option<Refusals>,
    portal: PortalKeys,
}

/// What every server serves.
const COMMON: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

impl Server {
    /// A server of the methods in an encoded descriptor set. `waits` names those unary methods
    /// (`/package.Service/Method`) that may take a minute by default; `revision` goes out with every
    /// answer.
    pub fn new(
        descriptors: &'static [u8],
        waits: &[&str],
        revision: Revision,
        limits: Limits,
    ) -> Result<Self, ServerError> {
        let sets = [
            descriptors,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let methods = Methods::read(&sets, waits)?;
        let (table, routes) = (Table::api(), Routes::default());
        let (services, telemetry) = (Vec::new(), Telemetry::off());
        let elsewhere = "another process serves it";
        Ok(Self {
            descriptors,
            methods,
            table,
            revision,
            limits,
            routes,
            services,
            telemetry,
            elsewhere,
            waiting: None,
            keys: None,
            refusals: None,
            portal: PortalKeys::default(),
        })
    }

    /// API keys that let callers in, where the listener asks for credentials.
    #[must_use]
    pub fn with_keys(mut self, keys: watch::Receiver<Arc<Keys>>) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Authenticate portal tokens, which then let callers in where the listener asks for
    /// credentials.
    #[must_use]
    pub fn with_portal(mut self, portal: PortalKeys) -> Self {
        self.portal = portal;
        self
    }

    /// Says where callers find what the descriptor set has and this server does not.
    #[must_use]
    pub fn with_elsewhere(mut self, elsewhere: &'static str) -> Self {
        self.elsewhere = elsewhere;
        self
    }

    /// Serves health and reflection only, for a process that waits for something: every other method is
    /// refused as NOT_READY with these words, whoever calls.
    #[must_use]
    pub fn waiting(mut self, what: &'static str) -> Self {
        self.waiting = Some(what);
        self
    }

    /// Where calls are reported.
    #[must_use]
    pub fn with_telemetry(mut self, telemetry: Telemetry) -> Self {
        self.telemetry = telemetry;
        self
    }

    /// Where calls that are refused are noted.
    #[must_use]
    pub fn with_refusals(mut self, refusals: Refusals) -> Self {
        self.refusals = Some(refusals);
        self
    }

    /// Another table than that of the API says who may call what: for servers of other methods.
    #[must_use]
    pub fn with_table(mut self, table: Table) -> Self {
        self.table = table;
        self
    }

    /// Adds a service. Give it `max_decoding_message_size(MESSAGE_LEN)` first.
    pub fn with<S>(mut self, service: S) -> Result<Self, ServerError>
    where
        S: Service<
                Request<Body>,
                Response = Response<Body>,
                Error = Infallible,
                Future = BoxFuture<Response<Body>, Infallible>,
            > + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        if !self.methods.has_service(S::NAME) {
            return Err(ServerError::UnknownService(S::NAME));
        }
        self.services.push(S::NAME);
        self.routes = self.routes.add_service(service);
        Ok(self)
    }

    /// Makes it ready to serve on a port. Its health says NOT_SERVING until told otherwise.
    pub async fn on(self, listener: Listener) -> Result<Ready, ServerError> {
        let health = Health::new(self.services.iter().copied()).await;
        let services: Vec<_> = self.services.iter().copied().chain(COMMON).collect();
        let probes = HealthServer::new(health.service()).max_decoding_message_size(NAMED_LEN);
        let routes = add_reflection(self.routes, self.descriptors, &services)?.add_service(probes);
        let credentials = listener.is_guarded().then(|| Credentials {
            tokens: listener.tokens(),
            keys: self.keys,
            portal: self.portal,
        });
        let guard = Guard::new(self.table, credentials, Arc::clone(&listener.clock));
        let (elsewhere, waiting) = (self.elsewhere, self.waiting);
        let here = Here { services, elsewhere, waiting, health: health.clone() };
        let told = (self.telemetry, self.refusals);
        let layer = CallLayer::new(self.methods, guard, self.revision, &self.limits, told, here);
        Ok(Ready { listener, routes, layer, limits: self.limits, health })
    }
}

/// A server with everything it needs.
#[derive(Debug)]
pub struct Ready {
    listener: Listener,
    routes: Routes,
    layer: CallLayer,
    limits: Limits,
    health: Health,
}

impl Ready {
    /// The handle that says which services serve.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// The address that it serves on.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.addr
    }

    /// Serves until the token is cancelled, then drains. Dropping the future cuts everything.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<Drained, ServerError> {
        let cut = CancellationToken::new();
        let _cut_when_dropped = cut.clone().drop_guard();
        let places = Places::new(self.limits.connections, !self.listener.is_guarded());
        let tls = self.listener.tls();
        let (tcp, _following) = self.listener.follow();
        let room = (self.limits.unsent_per_connection, self.limits.arriving_per_connection);
        let incoming = Incoming::new(tcp, tls, places.clone(), room, cut.clone());
        let calls = self.limits.calls_per_connection;

        let serving = tonic::transport::Server::builder()
            .max_concurrent_streams(calls)
            .initial_stream_window_size(WINDOW)
            // Streams whose messages wait for room leave the others their windows.
            .initial_connection_window_size(calls.saturating_mul(WINDOW).clamp(WINDOW, WINDOW_MOST))
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
            .http2_max_header_list_size(HEADERS_LEN)
            .max_frame_size(FRAME_LEN)
            .max_connection_age(CONNECTION_AGE)
            .layer(self.layer)
            .serve_with_incoming_shutdown(
                self.routes,
                incoming,
                shutdown.clone().cancelled_owned(),
            );
        let mut serving = Box::pin(serving);

        tokio::select! {
            ended = &mut serving => return Ok(ended.map(|()| Drained::Complete)?),
            () = shutdown.cancelled() => {}
        }
        self.health.end().await;
        if let Ok(ended) = tokio::time::timeout(self.limits.drain, &mut serving).await {
            return Ok(ended.map(|()| Drained::Complete)?);
        }
        let connections = places.count();
        cut.cancel();
        match tokio::time::timeout(CUT_TIME, serving).await {
            Ok(ended) => ended?,
            Err(_) => tracing::warn!("connections that were cut are not gone yet"),
        }
        Ok(Drained::Cut { connections })
    }
}

/// Reflection for the services that are served, the details of refusals, and itself.
fn add_reflection(
    routes: Routes,
    descriptors: &'static [u8],
    services: &[&'static str],
) -> Result<Routes, ServerError> {
    let details = error_details().map_err(MethodsError::from)?;
    let builder = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_file_descriptor_set(details.clone())
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(
                tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
            );
        services.iter().fold(builder, |builder, name| builder.with_service_name(*name))
    };
    let v1 = builder().build_v1()?.max_decoding_message_size(NAMED_LEN);
    let v1alpha = builder().build_v1alpha()?.max_decoding_message_size(NAMED_LEN);
    Ok(routes.add_service(v1).add_service(v1alpha))
}

/// What refusals' details are made of, under the name that everybody knows it by.
///
/// Taken out of tonic-types' set, which also has `google.rpc.Status` in a file of its own: next to
/// `google/rpc/status.proto`, which our API imports, a client would find the symbol twice.
fn error_details() -> Result<FileDescriptorSet, prost::DecodeError> {
    let mut set = FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET)?;
    set.file.retain(|file| file.name() != "status.proto");
    for file in &mut set.file {
        if file.name() == "error_details.proto" {
            file.name = Some("google/rpc/error_details.proto".to_owned());
        }
    }
    Ok(set)
}
