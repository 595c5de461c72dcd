//! Names to addresses.
//!
//! Receivers choose their names, so their name servers are as hostile as they are. Hence: every
//! lookup has its own time limit, whatever the resolver does; callers for one name share one
//! lookup; a tenant has a bounded number of lookups under way, and waits in its own line for more;
//! answers are kept for as long as they hold, failures for a short while; the number of names kept
//! is bounded. Nothing here decides who may be dialled: every answer, kept or fresh, is judged when
//! it is used. Of an answer that is too long, addresses that are public are kept first.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pregon_core::id::TenantId;
use pregon_core::url::AddressPolicy;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout};

use super::resolver::{Found, LookupError, Resolver};

/// Addresses of one answer that are kept; more is no receiver's need. Of a longer answer the public
/// ones come first.
const ADDRESSES_KEPT: usize = 64;
/// How long an answer is used at least, also one that there is no address: a burst asks once,
/// whatever the answer says.
const KNOWN_LEAST: Duration = Duration::from_secs(1);

/// Bounds of lookups and their cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct NameLimits {
    pub lookup: Duration,
    pub known: Duration,
    pub missing: Duration,
    pub failed: Duration,
    pub names: usize,
    pub lookups: usize,
    pub lookups_per_tenant: usize,
}

impl NameLimits {
    /// What is kept of an answer, and for how long.
    fn judge(&self, found: Result<Found, LookupError>) -> (Answer, Duration) {
        let within = |ttl: Duration, most: Duration| ttl.clamp(KNOWN_LEAST.min(most), most);
        match found {
            Ok(found) if found.addresses.is_empty() => {
                let none = LookupError::NoAddress { ttl: Some(found.ttl) };
                (Err(none.into()), within(found.ttl, self.missing))
            }
            Ok(found) => {
                // A mapped address is the IPv4 address that it stands for, here as at the connect.
                let mut addresses = found.addresses;
                if addresses.len() > ADDRESSES_KEPT {
                    // Forbidden ones are the first to go, so that they hide none that is not.
                    let public = AddressPolicy::default();
                    addresses.sort_by_key(|it| public.permits(*it, 443).is_err());
                    addresses.truncate(ADDRESSES_KEPT);
                }
                let addresses = addresses.iter().map(IpAddr::to_canonical).collect();
                (Ok(addresses), within(found.ttl, self.known))
            }
            Err(why) => {
                let kept = match why {
                    LookupError::NoName { ttl } | LookupError::NoAddress { ttl } => {
                        within(ttl.unwrap_or(self.missing), self.missing)
                    }
                    LookupError::ServerFailed
                    | LookupError::ServerRefused
                    | LookupError::TimedOut
                    | LookupError::Unasked => self.failed,
                };
                (Err(why.into()), kept)
            }
        }
    }
}

/// What is known of a name: its addresses, or why there are none.
pub(super) type Answer = Result<Arc<[IpAddr]>, Unresolved>;

/// Why there are no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unresolved {
    /// The resolver says so.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The resolver broke.
    #[error("the resolver failed")]
    Failed,
    /// There is no place for another lookup.
    #[error("too many names are being looked up")]
    Crowded,
    /// Nor did the tenant get one of its own in time.
    #[error("too many of the tenant's names are being looked up")]
    Queued,
}

impl Unresolved {
    /// The name has no address. Otherwise nobody knows.
    pub fn is_gone(self) -> bool {
        match self {
            Unresolved::Lookup(error) => error.is_gone(),
            Unresolved::Failed | Unresolved::Crowded | Unresolved::Queued => false,
        }
    }
}

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
    /// Places for lookups, of tenants that have any under way or wait for one; none: our own names.
    places: HashMap<Option<TenantId>, Arc<Semaphore>>,
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

    /// The addresses of a name, within the time limits of the line and of the lookup; `tenant`:
    /// whose name it is, none if our own.
    pub async fn get(self: &Arc<Self>, tenant: Option<&TenantId>, host: &Arc<str>) -> Answer {
        let look = self.state().look(host);
        let look = match look {
            Some(look) => look,
            None => match self.line_up(tenant).await {
                Some(place) => self.begin(host, place),
                None => return self.known(host).unwrap_or(Err(Unresolved::Queued)),
            },
        };
        match look {
            Look::Known(answer) => answer,
            Look::Asked(mut asked) => match asked.wait_for(Option::is_some).await {
                Ok(answer) => answer.clone().unwrap_or(Err(Unresolved::Failed)),
                Err(_) => Err(Unresolved::Failed), // it panicked
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
    async fn line_up(self: &Arc<Self>, tenant: Option<&TenantId>) -> Option<Place> {
        let most = self.limits.lookups_per_tenant;
        let places = {
            let mut state = self.state();
            let places = state.places.entry(tenant.cloned());
            Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(most))))
        };
        let mut place = Place {
            names: Arc::clone(self),
            tenant: tenant.cloned(),
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
            return Look::Known(Err(Unresolved::Crowded));
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
        let found = timeout(self.limits.lookup, lookup).await.unwrap_or(Err(LookupError::TimedOut));
        let (answer, kept) = self.limits.judge(found);
        let until = Instant::now() + kept;
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
    tenant: Option<TenantId>,
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
