//! What is not shown of a stored event: the values that its type, a subscription that may get it, or
//! that subscription's contract call sensitive.
//!
//! One rule holds for every method that shows stored data. Events as they were published are shown
//! to who has the [right to read payloads](pregon_rpc::caller::Caller::reads_payloads), and to nobody else; where the
//! work is no call of anybody's, nobody has it. What was made of an event, as an attempt's request,
//! is shown to nobody with what is sensitive ([`rules`](Control::rules)). What counts is who may
//! get the event today by environment and pattern; filters are not asked. What a tenant's
//! subscriptions say is read once for each revision of the configuration and kept, as far as there
//! is room. Where it cannot be found out what is sensitive (a document that cannot be read, more
//! than [`PATHS`] paths), nothing of the data is shown.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use pregon_core::error::{Reason, Refusal};
use pregon_core::event::Event;
use pregon_core::id::{ContractId, EventTypeId, TenantId};
use pregon_core::model::{EventType, Subscription};
use pregon_core::pattern::Pattern;
use pregon_core::redact::{SensitivePath, SensitiveRoot, redact};
use pregon_store::config::{Head, ListRange};

use crate::catalog::{self, Kind as _};
use crate::{Control, service};

mod cache;

use cache::Rule;
pub(crate) use cache::Sensitive;

/// Different paths that one event's data are searched for. More, and all of the data is hidden.
const PATHS: usize = 1024;
/// The path to all of the data.
const ALL: &str = "event.data";
/// Subscriptions that one call to the store lists.
const CHUNK: usize = 1000;

/// What is sensitive of some events.
pub(crate) struct Rules {
    /// None: a type that cannot be read.
    kinds: HashMap<EventTypeId, Option<Vec<String>>>,
    subscriptions: HashMap<TenantId, Arc<[Rule]>>,
}

impl Rules {
    /// The paths that hold for one of the events.
    pub(crate) fn paths(&self, event: &Event) -> Vec<SensitivePath> {
        let own = self.kinds.get(&event.event_type).map(|kind| kind.as_deref());
        let rules = self.subscriptions.get(&event.tenant).into_iter().flat_map(|all| all.iter());
        paths(event, own, rules).unwrap_or_else(|| Vec::from_iter(SensitivePath::parse(ALL).ok()))
    }

    fn redacted(&self, event: Event) -> Event {
        if event.erased.is_some() {
            return event;
        }
        let data = redact(&event.data, SensitiveRoot::Event, &self.paths(&event));
        Event { data, ..event }
    }
}

/// Whether who makes the call that is being handled has the right to read payloads.
fn reads_payloads() -> bool {
    service::current().is_some_and(|call| call.caller.reads_payloads())
}

impl Control {
    /// An event without what the caller is not shown.
    pub(crate) async fn redacted(&self, event: Event) -> Result<Event, Refusal> {
        match reads_payloads() {
            true => Ok(event),
            false => Ok(self.rules([&event]).await?.redacted(event)),
        }
    }

    /// The same of several.
    pub(crate) async fn all_redacted(&self, events: Vec<Event>) -> Result<Vec<Event>, Refusal> {
        if reads_payloads() {
            return Ok(events);
        }
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
        let mut subscriptions = HashMap::new();
        for tenant in tenants {
            subscriptions.insert(tenant.clone(), self.rules_of(tenant, head).await?);
        }
        Ok(Rules { kinds, subscriptions })
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
    async fn rules_of(&self, tenant: &TenantId, head: Head) -> Result<Arc<[Rule]>, Refusal> {
        if let Some(known) = self.sensitive.get(head, tenant) {
            return Ok(known);
        }
        let prefix = format!("{}/subscriptions/", tenant.name());
        let (mut rules, mut after) = (Vec::new(), String::new());
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
            self.add_rules(&read, &mut rules).await?;
            if last {
                break;
            }
        }
        let rules: Arc<[Rule]> = rules.into();
        self.sensitive.put(head, tenant, &rules);
        Ok(rules)
    }

    async fn add_rules(
        &self,
        subscriptions: &[Option<Subscription>],
        rules: &mut Vec<Rule>,
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
                rules.push(Rule { of: None, paths: Vec::new() });
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
                rules.push(Rule { of, paths });
            }
        }
        Ok(())
    }
}

/// The paths that hold for an event. None: what is sensitive of it cannot be told.
fn paths<'a>(
    event: &Event,
    own: Option<Option<&'a [String]>>,
    rules: impl Iterator<Item = &'a Rule>,
) -> Option<Vec<SensitivePath>> {
    // A type that is gone says nothing; one that cannot be read may say anything.
    let own = own.unwrap_or(Some(&[]))?;
    let mut all: BTreeSet<&str> = own.iter().map(String::as_str).collect();
    for rule in rules.filter(|rule| rule.covers(event)) {
        rule.of.as_ref()?;
        all.extend(rule.paths.iter().map(String::as_str));
        if all.len() > PATHS {
            return None;
        }
    }
    all.into_iter().map(|path| SensitivePath::parse(path).ok()).collect()
}
