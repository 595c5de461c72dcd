//! NodeService: who is there, what they serve, and waiting for a revision to be served.

use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal, Rule, Violations};
use pregon_core::id::NodeId;
use pregon_core::seal::KeyId;
use pregon_proto::v1;
use pregon_proto::v1::node_service_server::NodeService;
use pregon_rpc::time;
use pregon_store::node::NodeStatus;
use tokio::time::Instant;

use crate::Control;
use crate::service::{draining, enter, service};
use crate::{map, parse};

mod configuration;

service! {
    /// The service of nodes.
    Nodes: NodeService {
        get_node(GetNodeRequest) -> GetNodeResponse;
        list_nodes(ListNodesRequest) -> ListNodesResponse;
        wait_for_revision(WaitForRevisionRequest) -> WaitForRevisionResponse;
    }
    with {
        type WatchConfigurationStream = configuration::Answers;

        async fn watch_configuration(
            &self,
            request: tonic::Request<v1::WatchConfigurationRequest>,
        ) -> Result<tonic::Response<Self::WatchConfigurationStream>, tonic::Status> {
            let method = ("NodeService", "WatchConfigurationRequest");
            let (call, request) = enter(&self.0, request, method).await?;
            let control = std::sync::Arc::clone(&self.0);
            let watch = configuration::begin(control, request, &call.caller).await;
            watch.map(tonic::Response::new).map_err(pregon_rpc::status::status)
        }
    }
}

/// How long WaitForRevision waits when the caller does not say.
const WAIT_DEFAULT: Duration = Duration::from_secs(10);
/// How long it waits at most.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How soon it looks again at first: nodes follow within milliseconds.
const POLL_FIRST: Duration = Duration::from_millis(5);
/// How soon it looks again at most: whoever waits long is not in a hurry.
const POLL_MAX: Duration = Duration::from_millis(250);
/// Latest refused documents of a node that are shown.
const REFUSED_SHOWN: usize = 100;

/// Control planes that are shown; there are a few.
const PLANES_SHOWN: usize = 100;

/// The nodes at one moment, by the store's clock.
struct Census {
    nodes: Vec<NodeStatus>,
    /// Control planes that are no nodes, and are there.
    control_planes: Vec<NodeStatus>,
    now: Timestamp,
    latest: i64,
}

fn ids(keys: &[KeyId]) -> Vec<String> {
    keys.iter().map(KeyId::to_string).collect()
}

fn control_plane(it: &NodeStatus) -> v1::ControlPlane {
    v1::ControlPlane {
        id: it.id.to_string(),
        version: it.version.clone(),
        start_time: map::moment(it.start_time),
        heartbeat_time: map::moment(it.heartbeat_time),
        master_key_ids: ids(&it.master_keys),
        sealing_key_id: it.sealing.as_ref().map(KeyId::to_string).unwrap_or_default(),
    }
}

fn state(node: &NodeStatus, now: Timestamp) -> v1::NodeState {
    if !node.is_alive(now) {
        v1::NodeState::Lost
    } else if node.draining {
        v1::NodeState::Draining
    } else if !node.lacking.is_empty() {
        v1::NodeState::NotReady
    } else {
        v1::NodeState::Ready
    }
}

impl Census {
    fn ready(&self) -> impl Iterator<Item = &NodeStatus> {
        self.nodes.iter().filter(|node| state(node, self.now) == v1::NodeState::Ready)
    }

    /// Whether there is a READY node and every one serves the revision.
    fn serves(&self, revision: i64) -> bool {
        let mut ready = self.ready().peekable();
        ready.peek().is_some() && ready.all(|node| node.served_revision >= revision)
    }

    /// The node that could not use what the revision brought, if one could not.
    fn refuser(&self, revision: i64) -> Option<(&NodeStatus, &str)> {
        let alive = self.nodes.iter().filter(|node| state(node, self.now) != v1::NodeState::Lost);
        let mut refused = alive.flat_map(|node| node.refused.iter().map(move |it| (node, it)));
        refused
            .find(|(_, refused)| refused.revision == revision)
            .map(|(node, refused)| (node, refused.reason.as_str()))
    }

    fn to_wire(&self, node: &NodeStatus, lag: Duration) -> v1::Node {
        let refused = node.refused.iter().take(REFUSED_SHOWN);
        v1::Node {
            name: node.id.name(),
            version: node.version.clone(),
            start_time: map::moment(node.start_time),
            heartbeat_time: map::moment(node.heartbeat_time),
            state: state(node, self.now).into(),
            served_revision: node.served_revision,
            latest_revision: self.latest,
            lag: Some(time::duration(lag)),
            refused: refused
                .map(|it| v1::RefusedRevision {
                    revision: it.revision,
                    resource: it.resource.clone(),
                    reason: it.reason.clone(),
                    time: map::moment(it.time),
                })
                .collect(),
            in_flight: map::small(node.in_flight),
            claimed: map::count(node.claimed),
            lanes: map::small(node.lanes),
            master_key_ids: ids(&node.master_keys),
            sealing_key_id: node.sealing.as_ref().map(KeyId::to_string).unwrap_or_default(),
        }
    }
}

impl Control {
    async fn census(&self) -> Result<Census, Refusal> {
        let head = self.store.config.head().await?;
        let (all, now) = self.store.nodes.nodes().await?;
        self.heads.saw(head.revision, self.clock.now());
        let (nodes, mut control_planes): (Vec<_>, Vec<_>) =
            all.into_iter().partition(NodeStatus::is_node);
        control_planes.retain(|it| it.is_alive(now));
        Ok(Census { nodes, control_planes, now, latest: head.revision })
    }

    fn shown_node(&self, census: &Census, node: &NodeStatus) -> v1::Node {
        let lag = self.heads.lag(node.served_revision, self.clock.now());
        census.to_wire(node, lag)
    }

    pub(crate) async fn get_node(
        &self,
        request: v1::GetNodeRequest,
    ) -> Result<v1::GetNodeResponse, Refusal> {
        let id = parse::only("name", NodeId::parse_name(&request.name))?;
        let census = self.census().await?;
        let node = census.nodes.iter().find(|node| node.id == id);
        let node = node.ok_or_else(|| Refusal::not_found("node", id.name()))?;
        Ok(v1::GetNodeResponse { node: Some(self.shown_node(&census, node)) })
    }

    pub(crate) async fn list_nodes(
        &self,
        mut request: v1::ListNodesRequest,
    ) -> Result<v1::ListNodesResponse, Refusal> {
        let mut wrong = Violations::new();
        let paging = self.paging(&mut request, &mut wrong);
        wrong.finish()?;
        let census = self.census().await?;
        let mut nodes: Vec<_> = census.nodes.iter().collect();
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        let after = paging.from.as_deref().unwrap_or("");
        let mut rest = nodes.into_iter().filter(|node| node.id.as_str() > after);
        let page: Vec<_> = rest.by_ref().take(paging.size).collect();
        let more = rest.next().and(page.last()).map(|node| node.id.as_str());
        Ok(v1::ListNodesResponse {
            nodes: page.iter().map(|node| self.shown_node(&census, node)).collect(),
            next_page_token: self.next_page(&paging, more),
            control_planes: census
                .control_planes
                .iter()
                .take(PLANES_SHOWN)
                .map(control_plane)
                .collect(),
        })
    }

    pub(crate) async fn wait_for_revision(
        &self,
        request: v1::WaitForRevisionRequest,
    ) -> Result<v1::WaitForRevisionResponse, Refusal> {
        let mut wrong = Violations::new();
        let revision = request.revision;
        if revision <= 0 {
            let rule = if revision == 0 { Rule::Required } else { Rule::OutOfRange };
            wrong.add("revision", rule, "must be a revision that a write answered with");
        }
        let timeout = match &request.timeout {
            None => Some(WAIT_DEFAULT),
            Some(given) => {
                let parsed = time::parse_duration_within(given, Duration::ZERO..=WAIT_MAX);
                wrong.check("timeout", parsed)
            }
        };
        let timeout = parse::done(wrong, timeout)?;
        let (until, mut poll) = (Instant::now() + timeout, POLL_FIRST);
        loop {
            let census = self.census().await?;
            if revision > census.latest {
                let text = format!("{revision} is above the latest revision, {}", census.latest);
                return Err(Refusal::new(Reason::RevisionUnknown, text));
            }
            if let Some((node, reason)) = census.refuser(revision) {
                let text =
                    format!("{} could not use revision {revision}: {reason}", node.id.name());
                return Err(
                    Refusal::new(Reason::RevisionRefused, text).about("node", node.id.name())
                );
            }
            if census.serves(revision) {
                let nodes = census.ready().map(|node| self.shown_node(&census, node)).collect();
                return Ok(v1::WaitForRevisionResponse { served: true, nodes });
            }
            let now = Instant::now();
            if now >= until {
                let behind = census.ready().filter(|node| node.served_revision < revision);
                let nodes = behind.map(|node| self.shown_node(&census, node)).collect();
                return Ok(v1::WaitForRevisionResponse { served: false, nodes });
            }
            tokio::select! {
                () = tokio::time::sleep_until(until.min(now + poll)) => {}
                () = self.drain.cancelled() => return Err(draining()),
            }
            poll = (poll * 2).min(POLL_MAX);
        }
    }
}
