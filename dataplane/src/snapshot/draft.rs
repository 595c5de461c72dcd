//! The next snapshot in the making: documents go in one by one, in any order.
//!
//! A document that cannot be used changes nothing but the list of refusals. When everything is
//! read again, what cannot be used is taken over from the draft before, so that a resource keeps
//! its last good version.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use data_encoding::BASE64;
use pregon_core::contract::{Contract, SigningKey, SigningKeys};
use pregon_core::id::{ContractId, LaneNo, SecretId, SecretName, SubscriptionName, TenantId};
use pregon_core::model::{EventType, Resource, ResourceName, Secret, Subscription, Tenant};
use pregon_core::schema::Schema;
use pregon_core::seal::KeyRing;

use super::lane::Lane;
use super::tenant::TenantEntry;
use super::{Snapshot, TypeEntry};

/// What documents are compiled with.
pub(super) struct Tools {
    pub(super) ring: Arc<KeyRing>,
    pub(super) contracts: HashMap<ContractId, Arc<Contract>>,
}

/// A document that could not be used.
pub(super) struct Refused {
    pub(super) resource: String,
    pub(super) revision: i64,
    pub(super) reason: String,
}

/// The next snapshot, and what it takes to change it.
pub(super) struct Draft {
    snapshot: Snapshot,
    tools: Arc<Tools>,
    numbers: HashMap<SubscriptionName, LaneNo>,
    /// Secrets of subscriptions that are not usable (yet).
    orphans: HashMap<SubscriptionName, Vec<(Secret, i64)>>,
    refused: Vec<Refused>,
}

impl Draft {
    /// An empty draft.
    pub(super) fn new(tools: Arc<Tools>, unevaluable: Arc<AtomicU64>) -> Self {
        Self {
            snapshot: Snapshot { unevaluable, ..Snapshot::default() },
            tools,
            numbers: HashMap::new(),
            orphans: HashMap::new(),
            refused: Vec::new(),
        }
    }

    /// An empty draft with the same tools.
    pub(super) fn anew(&self) -> Self {
        Self::new(Arc::clone(&self.tools), Arc::clone(&self.snapshot.unevaluable))
    }

    /// What was refused since the last call.
    pub(super) fn take_refused(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.refused)
    }

    /// The snapshot as it stands, as `revision`.
    pub(super) fn snapshot(&mut self, revision: i64) -> Arc<Snapshot> {
        self.snapshot.revision = revision;
        Arc::new(self.snapshot.clone())
    }

    /// Takes in a document as written by `revision`. One that cannot be used is replaced by what
    /// `before` had. Names of unknown kinds are passed over: a later release's.
    pub(super) fn put(&mut self, name: &str, revision: i64, bytes: &[u8], before: Option<&Draft>) {
        let Some(name) = ResourceName::parse(name) else { return };
        let done = match Resource::decode(&name, bytes) {
            Err(bad) => Err(bad.reason),
            Ok(resource) if resource.name() != name => Err("belongs to another name".to_owned()),
            Ok(Resource::Tenant(tenant)) => {
                self.put_tenant(tenant, revision);
                Ok(())
            }
            Ok(Resource::EventType(kind)) => self.put_type(&kind, revision),
            Ok(Resource::Subscription(subscription)) => {
                self.put_subscription(&subscription, revision)
            }
            Ok(Resource::Secret(secret)) => self.put_secret(secret, revision),
        };
        if let Err(reason) = done {
            if let Some(before) = before {
                self.keep(&name, before);
            }
            self.refused.push(Refused { resource: name.to_string(), revision, reason });
        }
    }

    /// Takes out a document.
    pub(super) fn delete(&mut self, name: &str) {
        match ResourceName::parse(name) {
            None => {}
            Some(ResourceName::Tenant(id)) => {
                let Some(tenant) = self.snapshot.tenants.get_mut(&id) else { return };
                let changed = Arc::make_mut(tenant).clear_document();
                self.replace(changed);
                self.tidy(&id);
            }
            Some(ResourceName::EventType(id)) => {
                self.snapshot.event_types.remove(&id);
            }
            Some(ResourceName::Subscription(name)) => {
                self.orphans.remove(&name);
                self.remove_lane(&name);
            }
            Some(ResourceName::Secret(name)) => self.remove_key(&name),
        }
    }

    fn put_tenant(&mut self, document: Tenant, revision: i64) {
        let tenant = self.tenant_mut(&document.id);
        let changed = tenant.set_document(document, revision);
        self.replace(changed);
    }

    fn put_type(&mut self, kind: &EventType, revision: i64) -> Result<(), String> {
        let schema = match kind.json_schema.as_str() {
            "" => None,
            text => Some(Schema::compile(text).map_err(|wrong| format!("json_schema: {wrong}"))?),
        };
        let entry = TypeEntry { id: kind.id.clone(), revision, schema };
        self.snapshot.event_types.insert(kind.id.clone(), Arc::new(entry));
        Ok(())
    }

    fn put_subscription(&mut self, wire: &Subscription, revision: i64) -> Result<(), String> {
        let contract = self.tools.contracts.get(&wire.contract);
        let contract =
            contract.ok_or_else(|| format!("contract: {} is not known", wire.contract.name()))?;
        let mut lane = Lane::compile(wire, Arc::clone(contract), revision)?;
        let name = lane.name.clone();
        match self.lane(&name) {
            Some(old) if old.lane == lane.lane => lane.keys = old.keys.clone(),
            // A new subscription of an old name: nothing of the old one holds.
            Some(_) => self.remove_lane(&name),
            None => {}
        }
        self.put_lane(lane);
        for (secret, revision) in self.orphans.remove(&name).unwrap_or_default() {
            let resource = secret.name();
            if let Err(reason) = self.put_secret(secret, revision) {
                let resource = resource.to_string();
                self.refused.push(Refused { resource, revision, reason });
            }
        }
        Ok(())
    }

    fn put_secret(&mut self, secret: Secret, revision: i64) -> Result<(), String> {
        let name = secret.name();
        if secret.revoke_time.is_some() {
            self.remove_key(&name);
            return Ok(());
        }
        let Some(lane) = self.lane(&name.subscription) else {
            let orphans = self.orphans.entry(name.subscription).or_default();
            orphans.retain(|(other, _)| other.id != secret.id);
            orphans.push((secret, revision));
            return Ok(());
        };
        let key = open(&secret, &self.tools.ring)?;
        let mut lane = Lane::clone(lane);
        lane.keys = with(&lane.keys, key);
        self.put_lane(lane);
        Ok(())
    }

    /// Takes over the last good version of a resource.
    fn keep(&mut self, name: &ResourceName, before: &Draft) {
        match name {
            ResourceName::Tenant(id) => {
                if let Some(old) = before.snapshot.tenant(id) {
                    let changed = self.tenant_mut(id).copy_document(old);
                    self.replace(changed);
                }
            }
            ResourceName::EventType(id) => {
                if let Some(old) = before.snapshot.event_type(id) {
                    self.snapshot.event_types.insert(id.clone(), Arc::clone(old));
                }
            }
            ResourceName::Subscription(name) => {
                if let Some(old) = before.lane(name) {
                    // The keys follow: their names come after their subscription's.
                    let mut lane = Lane::clone(old);
                    lane.keys = SigningKeys::default();
                    self.put_lane(lane);
                }
            }
            ResourceName::Secret(name) => {
                let old = before.lane(&name.subscription).zip(self.lane(&name.subscription));
                let Some((old, now)) = old.filter(|(old, now)| old.lane == now.lane) else {
                    return;
                };
                if let Some(key) = old.keys.iter().find(|key| *key.id() == name.secret) {
                    let mut lane = Lane::clone(now);
                    lane.keys = with(&lane.keys, key.clone());
                    self.put_lane(lane);
                }
            }
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
        lane.set_tenant(tenant);
        let lane = Arc::new(lane);
        tenant.put_lane(Arc::clone(&lane));
        self.numbers.insert(lane.name.clone(), lane.lane);
        self.snapshot.lanes.insert(lane.lane, lane);
    }

    fn remove_lane(&mut self, name: &SubscriptionName) {
        let Some(number) = self.numbers.remove(name) else { return };
        self.snapshot.lanes.remove(&number);
        self.tenant_mut(&name.tenant).remove_lane(number);
        self.tidy(&name.tenant);
    }

    fn remove_key(&mut self, name: &SecretName) {
        if let Some(orphans) = self.orphans.get_mut(&name.subscription) {
            orphans.retain(|(secret, _)| secret.id != name.secret);
        }
        let Some(lane) = self.lane(&name.subscription) else { return };
        let mut lane = Lane::clone(lane);
        lane.keys = SigningKeys::new(without(&lane.keys, &name.secret).collect());
        self.put_lane(lane);
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

/// Unseals a secret.
fn open(secret: &Secret, ring: &KeyRing) -> Result<SigningKey, String> {
    let sealed = BASE64.decode(secret.sealed.as_bytes()).map_err(|_| "sealed: not base64")?;
    let key = ring.open(&sealed, &secret.binding()).map_err(|error| error.to_string())?;
    let (from, to) = (secret.activate_time, secret.expire_time);
    SigningKey::new(secret.id.clone(), secret.algorithm, &key, from, to)
        .map_err(|wrong| wrong.to_string())
}

/// The keys with this one, in place of the one of its id.
fn with(keys: &SigningKeys, key: SigningKey) -> SigningKeys {
    let id = key.id().clone();
    SigningKeys::new(without(keys, &id).chain([key]).collect())
}

/// The keys but the one of this id.
fn without<'a>(keys: &'a SigningKeys, id: &'a SecretId) -> impl Iterator<Item = SigningKey> + 'a {
    keys.iter().filter(move |key| key.id() != id).cloned()
}
