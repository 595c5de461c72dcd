//! The two planes, put together from settings: the same whether they share a process or not.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use pregon_control::{Control, ControlOptions};
use pregon_core::clock::SharedClock;
use pregon_core::id::NodeId;
use pregon_core::pool::Pools;
use pregon_core::rate::HostRates;
use pregon_core::seal::Held;
use pregon_core::url::UrlPolicy;
use pregon_dataplane::egress::{
    Egress, EgressError, EgressOptions, EgressPolicy, Own, SystemResolver,
};
use pregon_dataplane::plane::{Dataplane, DataplaneOptions};
use pregon_dataplane::worker::WorkerLimits;
use pregon_rpc::revision::Revision;
use pregon_store::Store;
use pregon_telemetry::{Identity, Running, Settings, Telemetry};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::files::{self, Share};
use crate::keys::Keeper;
use crate::settings::{Node, Policy, PoolLine};

/// What a control plane is made of here.
pub struct ControlParts<'a> {
    /// Where everything lives.
    pub store: Store,
    /// The present time.
    pub clock: SharedClock,
    /// The master keys, and those that are derived from them.
    pub keys: &'a Keeper,
    /// What both planes must agree on.
    pub policy: &'a Policy,
    /// Goes out with every answer.
    pub latest: Revision,
    /// Cancelled when the server is to end.
    pub drain: CancellationToken,
    /// Told of writes.
    pub telemetry: Telemetry,
}

/// What a node is made of here.
pub struct NodeParts<'a> {
    /// What both planes must agree on.
    pub policy: &'a Policy,
    /// Its settings.
    pub node: &'a Node,
    /// Its name.
    pub id: NodeId,
    /// Where everything lives.
    pub store: Store,
    /// The master keys.
    pub keys: watch::Receiver<Arc<Held>>,
    /// Whether the process is a control plane too.
    pub seals: bool,
    /// The present time.
    pub clock: &'a SharedClock,
    /// What belongs to this process and is never sent to.
    pub own: Own,
    /// Told of what happens.
    pub telemetry: Telemetry,
}

/// The name of a node: as it was set, else one that no other node has.
pub fn node_id(node: &Node) -> anyhow::Result<NodeId> {
    Ok(match &node.id {
        Some(id) => id.clone(),
        None => NodeId::parse(&format!("node-{:08x}", random() >> 32))?,
    })
}

/// A name for a process that has none of its own.
pub fn process_name() -> anyhow::Result<NodeId> {
    Ok(NodeId::parse(&format!("control-{:08x}", random() >> 32))?)
}

/// Telemetry of this process, and the tasks behind it.
pub fn telemetry(
    settings: &Settings,
    plane: &'static str,
    instance: &str,
    clock: &SharedClock,
) -> anyhow::Result<(Telemetry, Running)> {
    let identity = Identity {
        plane,
        instance: instance.to_owned(),
        version: env!("CARGO_PKG_VERSION"),
        seed: random(),
    };
    pregon_telemetry::start(settings, &identity, Arc::clone(clock)).context("telemetry")
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    crate::random::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// A control plane that follows its store, and erases what deleted tenants left, until the server is to
/// end.
pub fn control(parts: ControlParts<'_>) -> Arc<Control> {
    let policy = parts.policy;
    let control = Control::new(ControlOptions {
        store: parts.store,
        clock: parts.clock,
        keys: parts.keys.held(),
        page_key: parts.keys.pages(),
        portal: parts.keys.portal(),
        url_policy: UrlPolicy {
            allow_http: policy.allow_http,
            addresses: policy.addresses.clone(),
            rules: policy.rules.clone(),
            ..UrlPolicy::default()
        },
        pools: Pools::of(policy.pools.iter().map(|line| line.pool.clone()).collect()),
        event_data_limit: policy.max_event_bytes,
        random: crate::random::fill,
        user_agent: policy.user_agent.clone().into(),
        latest: parts.latest,
        drain: parts.drain,
        telemetry: parts.telemetry,
    });
    let following = Arc::clone(&control);
    tokio::spawn(async move { following.follow().await });
    let erasing = Arc::clone(&control);
    tokio::spawn(async move { erasing.erase().await });
    control
}

/// A node, started.
pub fn node(parts: NodeParts<'_>) -> anyhow::Result<Dataplane> {
    let NodeParts { policy, node, id, store, keys, seals, clock, own, telemetry } = parts;
    let share = Share::told(files::raise(), node.max_in_flight);
    let egress = Egress::new(EgressOptions {
        policy: EgressPolicy {
            addresses: policy.addresses.clone(),
            allow_http: policy.allow_http,
            rules: policy.rules.clone(),
        },
        own,
        pools: policy.pools.iter().map(PoolLine::open).collect::<Result<_, _>>()?,
        resolver: Arc::new(SystemResolver::asking(node.dns_servers.clone())),
        extra_roots: read_roots(node.egress_ca_file.as_deref())?,
        clock: Arc::clone(clock),
        limits: share.egress,
    })
    .map_err(|error| match &error {
        EgressError::Pool { .. } => anyhow::Error::from(error).context("--egress-pools-file"),
        EgressError::ExtraRoot { .. }
        | EgressError::NoExtraRoot { .. }
        | EgressError::Tls { .. } => anyhow::Error::from(error).context("--egress-ca-file"),
    })?;
    Ok(Dataplane::start(DataplaneOptions {
        store,
        keys,
        seals,
        clock: Arc::clone(clock),
        egress,
        node: id,
        max_event_bytes: policy.max_event_bytes,
        limits: WorkerLimits {
            max_in_flight: share.max_in_flight,
            max_in_flight_bytes: node.max_in_flight_bytes,
            disable_after: node.disable_after,
            ..WorkerLimits::default()
        },
        hosts: HostRates::new(node.host_rates.clone()),
        lease: node.lease,
        drain_limit: node.drain_limit,
        user_agent: policy.user_agent.clone().into(),
        seed: random(),
        telemetry,
    }))
}

fn read_roots(file: Option<&Path>) -> anyhow::Result<Option<Vec<u8>>> {
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("--egress-ca-file {}", path.display()))
    };
    file.map(read).transpose()
}
