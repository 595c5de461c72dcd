//! The node's configuration: whole, decoded, and never half new.
//!
//! A [`Snapshot`] is one revision of the configuration, compiled: patterns, filters, schemas and
//! headers are parsed and secrets opened once, when a document comes in, and never on the way of an
//! event. Snapshots are immutable and share what did not change, so that whoever holds one can go
//! on with it for as long as an event takes, and the difference of two is found without comparing
//! what they share.
//!
//! Who moves what: the [`Follower`] alone reads the store. It reads everything once, follows the
//! changes, and puts each new snapshot where the [`Configuration`] finds it. A document that cannot
//! be used is refused loudly and the last good version of that resource stays; when the store is
//! away, or its history is another (a gap), the last good snapshot serves meanwhile. A node
//! without a first snapshot has no configuration, which is not the same as an empty one.
//!
//! A resource that cannot be read and has no good version ([`Gaps::missing`]) stops the node: it
//! takes no work and accepts no event until the resource can be read, for what it matched meanwhile
//! would be lost to that resource. So does a master key that is not here ([`Gaps::keys`]).

mod callback;
mod configuration;
mod draft;
mod follower;
mod headers;
mod lane;
mod matching;
mod quota;
mod rate;
mod tenant;
mod terms;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use imbl::ordmap::DiffItem;
use imbl::{HashMap, OrdMap};
use pregon_core::event::Event;
use pregon_core::id::{CallbackName, EventTypeId, LaneNo, TenantId};
use pregon_core::model::Common;
use pregon_core::redact::SensitivePath;
use pregon_core::schema::Schema;
use pregon_core::seal::KeyId;

pub use callback::{CallbackEntry, Place};
pub use configuration::{Configuration, Late};
pub use follower::{Follower, FollowerOptions};
pub use headers::FixedHeaders;
pub use lane::Lane;
pub use matching::{Matched, Matching};
pub use tenant::TenantEntry;

use crate::egress::TenantEgress;

/// Master keys that a reason names; a store needs one or two.
const KEYS_NAMED: usize = 4;

/// Labels of a resource, shared by whoever shows them to contracts and filters.
pub type Labels = Arc<BTreeMap<String, String>>;

/// Labels to be shared. Most resources have none, and share that.
fn labels_of(resource: &Common) -> Labels {
    static NONE: LazyLock<Labels> = LazyLock::new(Labels::default);
    match resource.labels.is_empty() {
        true => Arc::clone(&NONE),
        false => Arc::new(resource.labels.clone()),
    }
}

/// Paths to values that must not be kept. What is no path of this release is left out.
fn paths_of(given: &[String]) -> Box<[SensitivePath]> {
    given.iter().filter_map(|path| SensitivePath::parse(path).ok()).collect()
}

/// An event type, as nodes see it.
#[derive(Debug)]
pub struct TypeEntry {
    /// Its name.
    pub id: EventTypeId,
    /// The revision that wrote it last.
    pub revision: i64,
    /// What data must satisfy; none: anything goes.
    pub schema: Option<Schema>,
    /// Paths to values of its data that must not be kept.
    pub sensitive: Box<[SensitivePath]>,
}

/// What happened to a lane between two snapshots.
#[derive(Clone, Debug)]
pub enum LaneChange {
    /// It is new.
    Added(Arc<Lane>),
    /// Its subscription was deleted.
    Removed(Arc<Lane>),
    /// Something about it changed.
    Changed {
        /// What it was.
        before: Arc<Lane>,
        /// What it is.
        after: Arc<Lane>,
    },
}

/// What of the configuration the node cannot read: a document of a later release, a damaged one, one
/// that is sealed under a master key that the node does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Resources of which an older version is served, as long as the process lives.
    pub outdated: usize,
    /// Resources of which no version is known. An event that is matched without them would be lost
    /// to them.
    pub missing: usize,
    /// The first of them by name, missing ones before outdated ones, and what is wrong with it.
    pub first: Option<Arc<str>>,
    /// Master keys that are not here and that something in the store is sealed under.
    pub keys: Vec<KeyId>,
}

impl Gaps {
    /// Whether everything was read.
    pub fn none(&self) -> bool {
        self.outdated + self.missing == 0
    }

    /// Whether the node must take nothing: something would be lost to a resource that is not known, or
    /// sent by rules that are no longer those of the store.
    pub fn stop(&self) -> bool {
        self.missing > 0 || !self.keys.is_empty()
    }

    /// Why the node takes nothing, in words for whoever asks it for something.
    pub fn stop_text(&self) -> String {
        let keys = self.keys_text().map(|text| format!(": {text}")).unwrap_or_default();
        format!("the node cannot read all of its configuration; its log says what{keys}")
    }

    /// The master keys that are not here, in words; none: nothing needs another.
    pub fn keys_text(&self) -> Option<String> {
        let named: Vec<_> = self.keys.iter().take(KEYS_NAMED).map(KeyId::to_string).collect();
        (!named.is_empty()).then(|| format!("master key {} is not here", named.join(", ")))
    }
}

/// One revision of the configuration, compiled.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    revision: i64,
    tenants: HashMap<TenantId, Arc<TenantEntry>>,
    event_types: HashMap<EventTypeId, Arc<TypeEntry>>,
    lanes: OrdMap<LaneNo, Arc<Lane>>,
    callbacks: HashMap<CallbackName, Arc<CallbackEntry>>,
    /// Of tenants that say something of their way out.
    egress: HashMap<TenantId, TenantEgress>,
    gaps: Gaps,
}

impl Snapshot {
    /// The revision that it shows.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// What of the revision cannot be read here.
    pub fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// A tenant; none where it does not exist.
    pub fn tenant(&self, id: &TenantId) -> Option<&Arc<TenantEntry>> {
        self.tenants.get(id).filter(|entry| entry.exists())
    }

    /// What tenants say of their way out; those that say nothing are not among them.
    pub fn tenants_egress(&self) -> &HashMap<TenantId, TenantEgress> {
        &self.egress
    }

    /// An event type; none where it does not exist.
    pub fn event_type(&self, id: &EventTypeId) -> Option<&Arc<TypeEntry>> {
        self.event_types.get(id)
    }

    /// The subscription behind a lane; none where it was deleted.
    pub fn lane(&self, lane: LaneNo) -> Option<&Arc<Lane>> {
        self.lanes.get(&lane)
    }

    /// A callback; none where it does not exist.
    pub fn callback(&self, name: &CallbackName) -> Option<&Arc<CallbackEntry>> {
        self.callbacks.get(name)
    }

    /// All lanes. `old.lanes().diff(new.lanes())` takes time in what changed, not in what there
    /// is: a [`Lane`] equals itself and no other.
    pub fn lanes(&self) -> &OrdMap<LaneNo, Arc<Lane>> {
        &self.lanes
    }

    /// What happened to lanes since an older snapshot; takes time in what changed.
    pub fn lane_changes(&self, older: &Snapshot) -> Vec<LaneChange> {
        let changes = older.lanes.diff(&self.lanes);
        changes
            .map(|item| match item {
                DiffItem::Add(_, lane) => LaneChange::Added(Arc::clone(lane)),
                DiffItem::Remove(_, lane) => LaneChange::Removed(Arc::clone(lane)),
                DiffItem::Update { old: (_, before), new: (_, after) } => {
                    LaneChange::Changed { before: Arc::clone(before), after: Arc::clone(after) }
                }
            })
            .collect()
    }

    /// Which subscriptions want an event. Suspended tenants' subscriptions match: their deliveries
    /// wait.
    pub fn matching(&self, event: &Event) -> Matched {
        let Some(mut matching) = self.begin_matching(event) else { return Matched::default() };
        matching.step(event, || false);
        matching.found()
    }

    /// Whether matching an event of this tenant is a matter of microseconds.
    pub fn matches_quickly(&self, tenant: &TenantId) -> bool {
        self.tenants.get(tenant).is_none_or(|tenant| tenant.is_quick())
    }

    /// Begins to match an event, in steps of the caller's; none where the tenant has no lane.
    pub fn begin_matching(&self, event: &Event) -> Option<Matching> {
        let tenant = self.tenants.get(&event.tenant)?;
        Some(Matching::of(Arc::clone(tenant), event))
    }
}
