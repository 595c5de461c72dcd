//! The next snapshot in the making: documents go in one by one, in any order.
//!
//! A document that cannot be used changes nothing but the list of refusals. When everything is
//! read again, what cannot be used is taken over from the draft before, so that a resource keeps
//! its last good version. What is usable but for something that is not there yet (a secret without
//! its signer, a subscription without its contract) is kept aside until that comes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use pregon_core::contract::{Contract, SigningKeys, builtins};
use pregon_core::id::{CallbackName, ContractId, LaneNo, SignerName, SubscriptionName, TenantId};
use pregon_core::model::{Callback, EventType, Resource, ResourceName, Subscription, Tenant};
use pregon_core::schema::Schema;
use pregon_core::seal::{KeyId, KeyRing};

use super::callback::CallbackEntry;
use super::lane::Lane;
use super::tenant::TenantEntry;
use super::{Gaps, Snapshot, TypeEntry, paths_of};
use crate::egress::TenantEgress;

mod contracts;
mod keys;

use contracts::{Aside, Under};
use keys::Orphans;

/// A document that could not be used.
pub(super) struct Refused {
    pub(super) resource: String,
    pub(super) revision: i64,
    pub(super) reason: String,
}

/// What became of a document that is well formed.
enum Placed {
    /// It is in the snapshot.
    Used,
    /// It waits for its contract.
    Aside,
}

/// The next snapshot, and what it takes to change it.
pub(super) struct Draft {
    snapshot: Snapshot,
    ring: Arc<KeyRing>,
    contracts: HashMap<ContractId, Arc<Contract>>,
    numbers: HashMap<SubscriptionName, LaneNo>,
    /// Who is under which contract.
    under: Under,
    /// Subscriptions and callbacks whose contract is not known (yet).
    aside: HashMap<SignerName, Aside>,
    /// Secrets of subscriptions and callbacks that are not usable (yet).
    orphans: Orphans,
    refused: Vec<Refused>,
    /// Resources whose latest document cannot be used, and why.
    unreadable: BTreeMap<String, String>,
    /// Resources with something sealed under keys that are not here, and those keys.
    locked: BTreeMap<String, BTreeSet<KeyId>>,
}

impl Draft {
    /// An empty draft, with the contracts that come with Pregón.
    pub(super) fn new(ring: Arc<KeyRing>) -> Self {
        let built_in = builtins().iter().map(|it| &it.contract);
        Self {
            snapshot: Snapshot::default(),
            ring,
            contracts: built_in.map(|it| (it.id().clone(), Arc::clone(it))).collect(),
            numbers: HashMap::new(),
            under: Under::default(),
            aside: HashMap::new(),
            orphans: Orphans::new(),
            refused: Vec::new(),
            unreadable: BTreeMap::new(),
            locked: BTreeMap::new(),
        }
    }

    /// What was refused since the last call, and what is kept aside since then.
    pub(super) fn take_refused(&mut self) -> Vec<Refused> {
        let mut refused = std::mem::take(&mut self.refused);
        refused.extend(self.aside.iter_mut().filter_map(|(name, aside)| aside.tell(name)));
        refused
    }

    /// The snapshot as it stands, as `revision`.
    pub(super) fn snapshot(&mut self, revision: i64) -> Arc<Snapshot> {
        self.snapshot.revision = revision;
        self.snapshot.gaps = self.gaps();
        Arc::new(self.snapshot.clone())
    }

    /// Takes in a document as written by `revision`. One that cannot be used is replaced by what
    /// `before` had. Names of unknown kinds are passed over: a later release's.
    pub(super) fn put(&mut self, name: &str, revision: i64, bytes: &[u8], before: Option<&Draft>) {
        let Some(name) = ResourceName::parse(name) else { return };
        if matches!(name, ResourceName::ApiKey(_)) {
            return; // for whoever checks credentials, and no reason to stop delivering
        }
        let read = Resource::decode(&name, bytes);
        self.note_keys(&name, read.as_ref().ok());
        let done = match read {
            Err(bad) => Err(bad.reason),
            Ok(resource) if resource.name() != name => Err("belongs to another name".to_owned()),
            Ok(Resource::Tenant(tenant)) => Ok(self.put_tenant(tenant, revision)),
            Ok(Resource::EventType(kind)) => self.put_type(&kind, revision),
            Ok(Resource::Contract(contract)) => self.put_contract(&contract, revision),
            Ok(Resource::Subscription(wire)) => self.put_subscription(wire, revision, before),
            Ok(Resource::Callback(wire)) => self.put_callback(wire, revision, before),
            Ok(Resource::Secret(secret)) => self.put_secret(secret, revision),
            Ok(Resource::ApiKey(_)) => Ok(Placed::Used),
        };
        if let (Err(_) | Ok(Placed::Aside), Some(before)) = (&done, before) {
            self.keep(&name, before);
        }
        match done {
            Ok(Placed::Used | Placed::Aside) => {
                if !self.unreadable.is_empty() {
                    self.unreadable.remove(&name.to_string());
                }
            }
            Err(reason) => self.refuse(name.to_string(), revision, reason),
        }
    }

    /// Notes whether a document needs keys that are not here.
    fn note_keys(&mut self, name: &ResourceName, read: Option<&Resource>) {
        let mut keys = read.map(Resource::master_keys).unwrap_or_default();
        keys.retain(|id| !self.ring.has(*id));
        if !keys.is_empty() {
            self.locked.insert(name.to_string(), keys);
        } else if !self.locked.is_empty() {
            self.locked.remove(&name.to_string());
        }
    }

    fn refuse(&mut self, resource: String, revision: i64, reason: String) {
        self.unreadable.insert(resource.clone(), reason.clone());
        self.refused.push(Refused { resource, revision, reason });
    }

    /// What cannot be read, as it stands.
    fn gaps(&self) -> Gaps {
        let mut gaps = Gaps::default();
        let mut first = [None, None];
        let aside = self.aside.keys().map(|name| (name.to_string(), "its contract is not there"));
        let all = self.unreadable.iter().map(|(name, why)| (name.clone(), why.as_str()));
        for (name, why) in all.chain(aside) {
            let served = ResourceName::parse(&name).is_some_and(|name| self.has(&name));
            let (count, first) = match (served, &mut first) {
                (false, [first, _]) => (&mut gaps.missing, first),
                (true, [_, first]) => (&mut gaps.outdated, first),
            };
            *count += 1;
            first.get_or_insert_with(|| Arc::from(format!("{name}: {why}")));
        }
        let keys: BTreeSet<_> = self.locked.values().flatten().copied().collect();
        gaps.keys = keys.into_iter().collect();
        gaps.first = first.into_iter().flatten().next();
        gaps
    }

    /// Whether a version of the resource is served.
    fn has(&self, name: &ResourceName) -> bool {
        match name {
            ResourceName::Tenant(id) => self.snapshot.tenant(id).is_some(),
            ResourceName::EventType(id) => self.snapshot.event_type(id).is_some(),
            ResourceName::Contract(id) => self.contracts.contains_key(id),
            ResourceName::Subscription(name) => self.lane(name).is_some(),
            ResourceName::Callback(name) => self.snapshot.callbacks.contains_key(name),
            ResourceName::Secret(name) => self.has_key(name),
            ResourceName::ApiKey(_) => true,
        }
    }

    /// Takes out a document.
    pub(super) fn delete(&mut self, name: &str) {
        self.unreadable.remove(name);
        self.locked.remove(name);
        match ResourceName::parse(name) {
            None | Some(ResourceName::ApiKey(_)) => {}
            Some(ResourceName::Tenant(id)) => {
                self.snapshot.egress.remove(&id);
                let Some(tenant) = self.snapshot.tenants.get_mut(&id) else { return };
                let changed = Arc::make_mut(tenant).clear_document();
                self.replace(changed);
                self.tidy(&id);
            }
            Some(ResourceName::EventType(id)) => {
                self.snapshot.event_types.remove(&id);
            }
            Some(ResourceName::Contract(id)) => self.remove_contract(&id),
            Some(ResourceName::Subscription(name)) => {
                self.remove_lane(&name);
                self.forget(&name.into());
            }
            Some(ResourceName::Callback(name)) => {
                self.remove_callback(&name);
                self.forget(&name.into());
            }
            Some(ResourceName::Secret(name)) => self.remove_key(&name),
        }
    }

    /// Forgets what is kept aside of a signer.
    fn forget(&mut self, name: &SignerName) {
        self.aside.remove(name);
        self.orphans.remove(name);
    }

    fn put_tenant(&mut self, document: Tenant, revision: i64) -> Placed {
        let Tenant { id, egress, egress_rules, .. } = &document;
        self.say(id, TenantEgress { rules: egress_rules.clone(), pool: egress.clone() });
        let tenant = self.tenant_mut(&document.id);
        let changed = tenant.set_document(document, revision);
        self.replace(changed);
        Placed::Used
    }

    /// Notes what a tenant says of its way out.
    fn say(&mut self, id: &TenantId, says: TenantEgress) {
        match says.is_silent() {
            true => self.snapshot.egress.remove(id),
            false => self.snapshot.egress.insert(id.clone(), says),
        };
    }

    fn put_type(&mut self, kind: &EventType, revision: i64) -> Result<Placed, String> {
        let schema = match kind.json_schema.as_str() {
            "" => None,
            text => Some(Schema::compile(text).map_err(|wrong| format!("json_schema: {wrong}"))?),
        };
        let sensitive = paths_of(&kind.sensitive_paths);
        let entry = TypeEntry { id: kind.id.clone(), revision, schema, sensitive };
        self.snapshot.event_types.insert(kind.id.clone(), Arc::new(entry));
        Ok(Placed::Used)
    }

    fn put_subscription(
        &mut self,
        wire: Subscription,
        revision: i64,
        before: Option<&Draft>,
    ) -> Result<Placed, String> {
        let name = wire.name();
        self.aside.remove(&SignerName::from(name.clone()));
        let Some(contract) = self.contracts.get(&wire.contract).map(Arc::clone) else {
            self.aside.insert(name.into(), Aside::subscription(wire, revision));
            return Ok(Placed::Aside);
        };
        let mut lane = Lane::compile(&wire, &contract, revision, &self.ring)?;
        match self.lane(&name) {
            Some(old) if old.lane == lane.lane => {
                lane.keys = old.keys.clone();
                lane.go_on_from(old);
            }
            // A new subscription of an old name: nothing of the old one holds.
            Some(_) => self.remove_lane(&name),
            None => {
                let old = before.and_then(|before| before.lane(&name));
                if let Some(old) = old.filter(|old| old.lane == lane.lane) {
                    lane.go_on_from(old);
                }
            }
        }
        self.put_lane(lane);
        self.adopt(&name.into());
        Ok(Placed::Used)
    }

    fn put_callback(
        &mut self,
        wire: Callback,
        revision: i64,
        before: Option<&Draft>,
    ) -> Result<Placed, String> {
        let name = wire.name();
        self.aside.remove(&SignerName::from(name.clone()));
        let Some(contract) = self.contracts.get(&wire.contract).map(Arc::clone) else {
            self.aside.insert(name.into(), Aside::callback(wire, revision));
            return Ok(Placed::Aside);
        };
        let mut entry = CallbackEntry::compile(&wire, contract, revision, &self.ring)?;
        if let Some(old) = self.snapshot.callbacks.get(&name) {
            entry.keys = old.keys.clone();
            entry.go_on_from(old);
        } else if let Some(old) = before.and_then(|it| it.snapshot.callbacks.get(&name)) {
            entry.go_on_from(old);
        }
        self.set_callback(entry);
        self.adopt(&name.into());
        Ok(Placed::Used)
    }

    /// Takes over the last good version of a resource.
    fn keep(&mut self, name: &ResourceName, before: &Draft) {
        match name {
            ResourceName::Tenant(id) => {
                if let Some(old) = before.snapshot.tenant(id) {
                    let changed = self.tenant_mut(id).copy_document(old);
                    self.replace(changed);
                    let says = before.snapshot.egress.get(id).cloned();
                    self.say(id, says.unwrap_or_default());
                }
            }
            ResourceName::EventType(id) => {
                if let Some(old) = before.snapshot.event_type(id) {
                    self.snapshot.event_types.insert(id.clone(), Arc::clone(old));
                }
            }
            ResourceName::Contract(id) => {
                if let Some(old) = before.contracts.get(id) {
                    self.set_contract(Arc::clone(old));
                }
            }
            // The keys of both follow: their names come after their signer's.
            ResourceName::Subscription(name) => {
                if let Some(old) = before.lane(name) {
                    let mut lane = Lane::clone(old);
                    lane.keys = SigningKeys::default();
                    self.put_lane(lane);
                }
            }
            ResourceName::Callback(name) => {
                if let Some(old) = before.snapshot.callbacks.get(name) {
                    let mut entry = CallbackEntry::clone(old);
                    entry.keys = SigningKeys::default();
                    self.set_callback(entry);
                }
            }
            ResourceName::Secret(name) => self.keep_key(name, before),
            ResourceName::ApiKey(_) => {}
        }
    }

    fn lane(&self, name: &SubscriptionName) -> Option<&Arc<Lane>> {
        self.numbers.get(name).and_then(|number| self.snapshot.lanes.get(number))
    }

    fn tenant_mut(&mut self, id: &TenantId) -> &mut TenantEntry {
        let unknown = || Arc::new(TenantEntry::unknown(id.clone()));
        Arc::make_mut(self.snapshot.tenants.entry(id.clone()).or_insert_with(unknown))
    }

    fn put_lane(&mut self, mut lane: Lane) {
        let tenant = self.tenant_mut(&lane.name.tenant.clone());
        lane.name.tenant = tenant.id.clone(); // one text for all of a tenant's lanes
        tenant.write_into(&mut lane);
        let lane = Arc::new(lane);
        tenant.put_lane(Arc::clone(&lane));
        self.numbers.insert(lane.name.clone(), lane.lane);
        let number = lane.lane;
        let contract = Arc::clone(&lane.contract);
        let old = self.snapshot.lanes.insert(number, lane);
        self.under.move_lane(number, old.map(|old| old.contract.id().clone()), &contract);
    }

    fn set_callback(&mut self, entry: CallbackEntry) {
        let (name, id) = (entry.name.clone(), entry.contract.id().clone());
        let old = self.snapshot.callbacks.insert(name.clone(), Arc::new(entry));
        self.under.move_callback(name, old.map(|old| old.contract.id().clone()), id);
    }

    fn remove_lane(&mut self, name: &SubscriptionName) {
        let Some(number) = self.numbers.remove(name) else { return };
        if let Some(lane) = self.snapshot.lanes.remove(&number) {
            self.under.remove_lane(number, lane.contract.id());
        }
        self.tenant_mut(&name.tenant).remove_lane(number);
        self.tidy(&name.tenant);
    }

    fn remove_callback(&mut self, name: &CallbackName) {
        if let Some(entry) = self.snapshot.callbacks.remove(name) {
            self.under.remove_callback(name, entry.contract.id());
        }
    }

    /// Forgets a tenant of which nothing is left.
    fn tidy(&mut self, id: &TenantId) {
        let gone = |tenant: &Arc<TenantEntry>| !tenant.exists() && tenant.lanes().is_empty();
        if self.snapshot.tenants.get(id).is_some_and(gone) {
            self.snapshot.tenants.remove(id);
        }
    }

    fn replace(&mut self, lanes: Vec<Arc<Lane>>) {
        for lane in lanes {
            self.snapshot.lanes.insert(lane.lane, lane);
        }
    }
}
