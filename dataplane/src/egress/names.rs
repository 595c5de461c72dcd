//! Names to addresses.
//!
//! Receivers choose their names, so their name servers are as hostile as they are. Hence: every
//! lookup has its own time limit, whatever the resolver does; callers for one name share one
//! lookup; a tenant has a bounded number of lookups under way, and waits in its own line for more;
//! answers are kept for as long as they hold, failures for a short while; the number of names kept
//! is bounded. Nothing here judges addresses: that is done to every answer, kept or fresh, when it
//! is used.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pregon_core::id::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout};

use super::resolver::Resolver;

/// Addresses of one answer that are looked at; more is no receiver's need.
const ADDRESSES_KEPT: usize = 64;
/// How long an answer is used at least: a burst asks once, whatever the answer says.
const KNOWN_LEAST: Duration = Duration::from_secs(1);

/// Bounds of lookups and their cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct NameLimits {
    pub lookup: Duration,
    pub known: Duration,
    pub failed: Duration,
    pub names: usize,
    pub lookups: usize,
    pub lookups_per_tenant: usize,
}

/// What is known of a name: its addresses, or why there are none.
pub(super) type Answer = Result<Arc<[IpAddr]>, Unresolved>;

/// Why there are no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unresolved {
    /// In a few words.
    pub why: &'static str,
    /// The name has none. Otherwise nobody knows.
    pub gone: bool,
}

impl Unresolved {
    const fn unknown(why: &'static str) -> Self {
        Self { why, gone: false }
    }
}

const FAILED: Unresolved = Unresolved::unknown("the resolver failed");
const CROWDED: Unresolved = Unresolved::unknown("too many names are being looked up");
const QUEUED: Unresolved =
    Unresolved::unknown("too many of the tenant's names are being looked up");

enum Entry {
    Asked(watch::Receiver<Option<Answer>>),
    Answered { answer: Answer, until: Instant },
}

enum Look {
    Known(Answer),
    Asked(watch::Receiver<Option<Answer>>),
}

#[derive(Default)]
struct State {
    entries: HashMap<Arc<str>, Entry>,
    /// Places for lookups, of tenants that have any under way or wait for one.
    places: HashMap<TenantId, Arc<Semaphore>>,
    /// Lookups under way.
    under_way: usize,
}

/// The names known, shared by everybody who connects.
pub(super) struct Names {
    resolver: Arc<dyn Resolver>,
    limits: NameLimits,
    state: Mutex<State>,
}

impl Names {
    pub fn new(resolver: Arc<dyn Resolver>, limits: NameLimits) -> Arc<Self> {
        Arc::new(Self { resolver, limits, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses of a name if they are known.
    pub fn known(&self, host: &str) -> Option<Answer> {
        match self.state().look(host) {
            Some(Look::Known(answer)) => Some(answer),
            Some(Look::Asked(_)) | None => None,
        }
    }

    /// The addresses of a name, within the time limits of the line and of the lookup.
    pub async fn get(self: &Arc<Self>, tenant: &TenantId, host: &Arc<str>) -> Answer {
        let look = self.state().look(host);
        let look = match look {
            Some(look) => look,
            None => match self.line_up(tenant).await {
                Some(place) => self.begin(host, place),
                None => return self.known(host).unwrap_or(Err(QUEUED)),
            },
        };
        match look {
            Look::Known(answer) => answer,
            Look::Asked(mut asked) => match asked.wait_for(Option::is_some).await {
                Ok(answer) => answer.clone().unwrap_or(Err(FAILED)),
                Err(_) => Err(FAILED), // it panicked
            },
        }
    }

    /// Forgets a name whose addresses were of no use, so that the next attempt asks again.
    pub fn forget(&self, host: &str) {
        let mut state = self.state();
        if let Some(Entry::Answered { .. }) = state.entries.get(host) {
            state.entries.remove(host);
        }
    }

    /// A place of the tenant's for a lookup; none if its line is too long.
    async fn line_up(self: &Arc<Self>, tenant: &TenantId) -> Option<Place> {
        let most = self.limits.lookups_per_tenant;
        let places = {
            let mut state = self.state();
            let places = state.places.entry(tenant.clone());
            Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(most))))
        };
        let mut place = Place {
            names: Arc::clone(self),
            tenant: tenant.clone(),
            places: Some(Arc::clone(&places)),
            permit: None,
            counted: false,
        };
        place.permit = timeout(self.limits.lookup, places.acquire_owned()).await.ok()?.ok();
        Some(place)
    }

    /// Looks again, now with a place, and if need be has the lookup made.
    fn begin(self: &Arc<Self>, host: &Arc<str>, mut place: Place) -> Look {
        let mut state = self.state();
        if let Some(look) = state.look(host) {
            drop(state);
            return look;
        }
        // A tenant may not have more under way than there are places left, so that there is one
        // for the tenant that comes next.
        let left = self.limits.lookups.saturating_sub(state.under_way);
        let crowded = place.taken(self.limits.lookups_per_tenant) > left;
        if crowded || !state.has_room(self.limits.names, host) {
            drop(state);
            return Look::Known(Err(CROWDED));
        }
        let (answer, asked) = watch::channel(None);
        state.entries.insert(Arc::clone(host), Entry::Asked(asked.clone()));
        state.under_way += 1;
        place.counted = true;
        drop(state);
        tokio::spawn(Arc::clone(self).ask(Arc::clone(host), answer, place));
        Look::Asked(asked)
    }

    /// Asks the resolver. A task of its own, so that it goes on when the first caller gives up.
    async fn ask(
        self: Arc<Self>,
        host: Arc<str>,
        tell: watch::Sender<Option<Answer>>,
        place: Place,
    ) {
        let lookup = self.resolver.lookup(Arc::clone(&host));
        let (answer, kept) = match timeout(self.limits.lookup, lookup).await {
            Err(_) => (Err(Unresolved::unknown("no answer from the name server in time")), None),
            Ok(Err(error)) => {
                let gone = error.kind() == io::ErrorKind::NotFound;
                (Err(Unresolved { why: "the name does not resolve", gone }), None)
            }
            Ok(Ok(found)) if found.addresses.is_empty() => {
                (Err(Unresolved { why: "the name has no address", gone: true }), None)
            }
            Ok(Ok(found)) => {
                // A mapped address is the IPv4 address that it stands for, here as at the connect.
                let addresses = found.addresses.into_iter().take(ADDRESSES_KEPT);
                let addresses = addresses.map(|address| address.to_canonical()).collect();
                let known = self.limits.known;
                (Ok(addresses), Some(found.ttl.clamp(KNOWN_LEAST.min(known), known)))
            }
        };
        let until = Instant::now() + kept.unwrap_or(self.limits.failed);
        self.state().entries.insert(host, Entry::Answered { answer: answer.clone(), until });
        drop(place);
        tell.send_replace(Some(answer));
    }
}

impl State {
    /// The answer at hand, or where it will come.
    fn look(&self, host: &str) -> Option<Look> {
        match self.entries.get(host)? {
            Entry::Answered { answer, until } if Instant::now() < *until => {
                Some(Look::Known(answer.clone()))
            }
            Entry::Asked(asked) if asked.has_changed().is_ok() => Some(Look::Asked(asked.clone())),
            Entry::Answered { .. } | Entry::Asked(_) => None,
        }
    }

    /// Whether a name may be added: drops what is out of date if it must, or else any answer.
    fn has_room(&mut self, most: usize, host: &str) -> bool {
        let entries = &mut self.entries;
        if entries.len() < most || entries.contains_key(host) {
            return true;
        }
        let now = Instant::now();
        let before = entries.len();
        entries.retain(|_, entry| match entry {
            Entry::Answered { until, .. } => now < *until,
            Entry::Asked(asked) => asked.has_changed().is_ok(),
        });
        if entries.len() < before {
            return true;
        }
        let any = entries.iter().find(|(_, entry)| matches!(entry, Entry::Answered { .. }));
        match any.map(|(host, _)| Arc::clone(host)) {
            Some(host) => entries.remove(&host).is_some(),
            None => false,
        }
    }
}

/// A tenant's place for a lookup, or in the line for one; given back when dropped.
struct Place {
    names: Arc<Names>,
    tenant: TenantId,
    places: Option<Arc<Semaphore>>,
    permit: Option<OwnedSemaphorePermit>,
    /// Counted among the lookups under way.
    counted: bool,
}

impl Place {
    /// How many places the tenant has taken, this one included.
    fn taken(&self, of: usize) -> usize {
        self.places.as_ref().map_or(0, |places| of.saturating_sub(places.available_permits()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.permit = None;
        let mut state = self.names.state();
        if self.counted {
            state.under_way = state.under_way.saturating_sub(1);
        }
        self.places = None;
        // Clones are made under the lock only: where the map's is the last, nobody waits.
        if state.places.get(&self.tenant).is_some_and(|places| Arc::strong_count(places) == 1) {
            state.places.remove(&self.tenant);
        }
    }
}
