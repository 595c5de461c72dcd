//! What nobody is shown of a stored event: the values that its type, a subscription that may get
//! it, or that subscription's contract call sensitive.
//!
//! One rule holds for every caller and every method that shows stored data. What counts is who may
//! get the event today by environment and pattern; filters are not asked. What a tenant's
//! subscriptions say is read once for each revision of the configuration and kept, as far as there
//! is room. Where it cannot be found out what is sensitive (a document that cannot be read, more
//! than [`PATHS`] paths), nothing of the data is shown.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use pregon_core::error::{Reason, Refusal};
use pregon_core::event::{Environment, Event};
use pregon_core::id::{ContractId, EventTypeId, TenantId};
use pregon_core::model::{EventType, Subscription};
use pregon_core::pattern::Pattern;
use pregon_core::redact::{SensitivePath, SensitiveRoot, redact};
use pregon_store::config::{Head, ListRange};

use crate::Control;
use crate::catalog::{self, Kind as _};

/// Different paths that one event's data are searched for. More, and all of the data is hidden.
const PATHS: usize = 1024;
/// Subscriptions with sensitive paths that are kept of all tenants together: each has 64 paths of
/// its own at most, and usually none.
const KEPT: usize = 10_000;
/// The path to all of the data.
const ALL: &str = "event.data";
/// Subscriptions that one call to the store lists.
const CHUNK: usize = 1000;

/// What tenants' subscriptions call sensitive, as of one revision.
#[derive(Debug, Default)]
pub(crate) struct Sensitive(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    at: Option<Head>,
    tenants: HashMap<TenantId, Arc<[Wish]>>,
    wishes: usize,
}

/// What one subscription calls sensitive.
#[derive(Debug)]
struct Wish {
    /// None: a document cannot be read, so it may be anything of any event.
    of: Option<(Environment, Vec<Pattern>)>,
    /// As written, its own and its contract's.
    paths: Vec<String>,
}

impl Wish {
    fn covers(&self, event: &Event) -> bool {
        self.of.as_ref().is_none_or(|(environment, patterns)| {
            *environment == event.environment
                && patterns.iter().any(|pattern| pattern.matches(&event.event_type))
        })
    }
}

impl Kept {
    fn get(&self, at: Head, tenant: &TenantId) -> Option<Arc<[Wish]>> {
        (self.at == Some(at)).then(|| self.tenants.get(tenant).cloned()).flatten()
    }

    fn put(&mut self, at: Head, tenant: &TenantId, wishes: &Arc<[Wish]>) {
        // Of a tenant without any it is remembered that there are none.
        let size = wishes.len() + 1;
        if self.at != Some(at) || self.wishes + size > KEPT {
            *self = Self { at: Some(at), ..Self::default() };
        }
        if self.tenants.insert(tenant.clone(), Arc::clone(wishes)).is_none() {
            self.wishes += size;
        }
    }
}

/// What is sensitive of some events.
pub(crate) struct Rules {
    /// None: a type that cannot be read.
    kinds: HashMap<EventTypeId, Option<Vec<String>>>,
    wishes: HashMap<TenantId, Arc<[Wish]>>,
}

impl Rules {
    /// The paths that hold for one of the events.
    pub(crate) fn paths(&self, event: &Event) -> Vec<SensitivePath> {
        let own = self.kinds.get(&event.event_type).map(|kind| kind.as_deref());
        let wishes = self.wishes.get(&event.tenant).into_iter().flat_map(|all| all.iter());
        paths(event, own, wishes).unwrap_or_else(|| Vec::from_iter(SensitivePath::parse(ALL).ok()))
    }

    fn redacted(&self, event: Event) -> Event {
        let data = redact(&event.data, SensitiveRoot::Event, &self.paths(&event));
        Event { data, ..event }
    }
}

impl Control {
    /// An event without what nobody is shown.
    pub(crate) async fn redacted(&self, event: Event) -> Result<Event, Refusal> {
        Ok(self.rules([&event]).await?.redacted(event))
    }

    /// The same of several.
    pub(crate) async fn all_redacted(&self, events: Vec<Event>) -> Result<Vec<Event>, Refusal> {
        let (rules, mut shown) = (self.rules(&events).await?, Vec::with_capacity(events.len()));
        for event in events {
            shown.push(rules.redacted(event));
            // Long texts and many paths take their time.
            tokio::task::yield_now().await;
        }
        Ok(shown)
    }

    /// What is sensitive of these events.
    pub(crate) async fn rules<'a>(
        &self,
        events: impl IntoIterator<Item = &'a Event>,
    ) -> Result<Rules, Refusal> {
        let (mut kinds, mut tenants) = (BTreeSet::new(), BTreeSet::new());
        for event in events {
            kinds.insert(&event.event_type);
            tenants.insert(&event.tenant);
        }
        let (head, kinds) = futures::try_join!(
            async { Ok(self.store.config.head().await?) },
            self.kinds_of(kinds),
        )?;
        let mut wishes = HashMap::new();
        for tenant in tenants {
            wishes.insert(tenant.clone(), self.wishes_of(tenant, head).await?);
        }
        Ok(Rules { kinds, wishes })
    }

    /// The paths of the events' types; none: a type that cannot be read.
    async fn kinds_of(
        &self,
        ids: BTreeSet<&EventTypeId>,
    ) -> Result<HashMap<EventTypeId, Option<Vec<String>>>, Refusal> {
        let names: Vec<String> = ids.iter().map(|id| id.name()).collect();
        let found = self.store.config.get(&names).await?;
        let paths = |document| {
            let kind = catalog::read::<EventType>(&document);
            kind.ok().map(|kind| kind.value.sensitive_paths)
        };
        let found = ids.into_iter().zip(found);
        Ok(found.filter_map(|(id, it)| it.map(|it| (id.clone(), paths(it)))).collect())
    }

    /// What a tenant's subscriptions call sensitive.
    async fn wishes_of(&self, tenant: &TenantId, head: Head) -> Result<Arc<[Wish]>, Refusal> {
        let kept = || self.sensitive.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept().get(head, tenant) {
            return Ok(known);
        }
        let prefix = format!("{}/subscriptions/", tenant.name());
        let (mut wishes, mut after) = (Vec::new(), String::new());
        loop {
            let range = ListRange {
                collections: Subscription::collections(&prefix),
                prefix: prefix.clone(),
                after,
                limit: CHUNK,
            };
            let page = self.store.config.list(range).await?;
            let last = page.len() < CHUNK;
            after = page.last().map(|it| it.name.clone()).unwrap_or_default();
            let read = |document| catalog::read::<Subscription>(document).ok().map(|it| it.value);
            let read: Vec<Option<Subscription>> = page.iter().map(read).collect();
            self.add_wishes(&read, &mut wishes).await?;
            if last {
                break;
            }
        }
        let wishes: Arc<[Wish]> = wishes.into();
        kept().put(head, tenant, &wishes);
        Ok(wishes)
    }

    async fn add_wishes(
        &self,
        subscriptions: &[Option<Subscription>],
        wishes: &mut Vec<Wish>,
    ) -> Result<(), Refusal> {
        let ids: BTreeSet<&ContractId> =
            subscriptions.iter().flatten().map(|it| &it.contract).collect();
        let mut contracts = HashMap::new();
        for id in ids {
            let found = match self.find_contract(id).await {
                Ok(found) => found,
                // One that cannot be read hides what its subscriptions get, and no more. A store
                // that does not answer says nothing that may be kept.
                Err(refusal) if refusal.reason == Reason::Internal => None,
                Err(refusal) => return Err(refusal),
            };
            contracts.insert(id, found);
        }
        for it in subscriptions {
            let Some(it) = it else {
                wishes.push(Wish { of: None, paths: Vec::new() });
                continue;
            };
            let parsed = it.event_types.iter().filter_map(|text| Pattern::parse(text).ok());
            let of = Some((it.environment, parsed.collect()));
            let mut paths = it.sensitive_paths.clone();
            match contracts.get(&it.contract).and_then(Option::as_ref) {
                Some(contract) => {
                    paths.extend(contract.sensitive().iter().map(|path| path.as_str().to_owned()));
                }
                // The whole of the data.
                None => paths.push(ALL.to_owned()),
            }
            if !paths.is_empty() {
                wishes.push(Wish { of, paths });
            }
        }
        Ok(())
    }
}

/// The paths that hold for an event. None: what is sensitive of it cannot be told.
fn paths<'a>(
    event: &Event,
    own: Option<Option<&'a [String]>>,
    wishes: impl Iterator<Item = &'a Wish>,
) -> Option<Vec<SensitivePath>> {
    // A type that is gone says nothing; one that cannot be read may say anything.
    let own = own.unwrap_or(Some(&[]))?;
    let mut all: BTreeSet<&str> = own.iter().map(String::as_str).collect();
    for wish in wishes.filter(|wish| wish.covers(event)) {
        wish.of.as_ref()?;
        all.extend(wish.paths.iter().map(String::as_str));
        if all.len() > PATHS {
            return None;
        }
    }
    all.into_iter().map(|path| SensitivePath::parse(path).ok()).collect()
}
