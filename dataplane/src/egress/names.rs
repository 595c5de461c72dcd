//! Names to addresses.
//!
//! Receivers choose their names, so their name servers are as hostile as they are. Hence: every
//! lookup has its own time limit, whatever the resolver does; callers for one name share one
//! lookup; answers and failures are kept for a short while; the number of names kept is bounded;
//! and the system's resolver, which blocks a thread each, is asked from a bounded number.
//! Nothing here judges addresses: that is done to every answer, kept or fresh, when it is used.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// Where addresses of names come from. Time limit, sharing and caching are done by the caller.
pub trait Resolver: Send + Sync + 'static {
    /// All addresses of a name, in the order of preference. No answer within the limit, an error
    /// and an empty answer are all failures.
    fn lookup(&self, host: Arc<str>) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// Threads that may wait in the system's resolver at once. A silent name server holds one for
/// its name until the C library gives up (10 s and more), so there are more than are ever busy.
const RESOLVER_THREADS: usize = 64;

/// The system's resolver (`getaddrinfo`).
#[derive(Clone, Debug)]
pub struct SystemResolver {
    threads: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self { threads: Arc::new(Semaphore::new(RESOLVER_THREADS)) }
    }
}

impl Resolver for SystemResolver {
    fn lookup(&self, host: Arc<str>) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let threads = Arc::clone(&self.threads);
        Box::pin(async move {
            let thread = threads.acquire_owned().await.map_err(io::Error::other)?;
            let asked = tokio::task::spawn_blocking(move || {
                // The permit is the thread's, not the caller's: it comes back when the thread does.
                let _thread = thread;
                let found = (host.as_ref(), 0).to_socket_addrs()?;
                Ok(found.map(|address| address.ip()).collect())
            });
            asked.await.map_err(io::Error::other)?
        })
    }
}

/// Addresses of one answer that are looked at; more is no receiver's need.
const ADDRESSES_KEPT: usize = 64;

/// Bounds of lookups and their cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct NameLimits {
    pub lookup: Duration,
    pub known: Duration,
    pub failed: Duration,
    pub names: usize,
}

/// What is known of a name: its addresses, or why there are none.
type Answer = Result<Arc<[IpAddr]>, &'static str>;

enum Entry {
    Asked(watch::Receiver<Option<Answer>>),
    Answered { answer: Answer, until: Instant },
}

/// The names known, shared by everybody who connects.
pub(super) struct Names {
    resolver: Arc<dyn Resolver>,
    limits: NameLimits,
    entries: Mutex<HashMap<Arc<str>, Entry>>,
}

impl Names {
    pub fn new(resolver: Arc<dyn Resolver>, limits: NameLimits) -> Arc<Self> {
        Arc::new(Self { resolver, limits, entries: Mutex::default() })
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Arc<str>, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses of a name, within the lookup's time limit.
    pub async fn get(self: &Arc<Self>, host: &Arc<str>) -> Answer {
        let mut asked = match self.look(host) {
            Ok(answer) => return answer,
            Err(asked) => asked,
        };
        match asked.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or(Err("the resolver failed")),
            Err(_) => Err("the resolver failed"), // it panicked
        }
    }

    /// Forgets a name whose addresses were of no use, so that the next attempt asks again.
    pub fn forget(&self, host: &str) {
        let mut entries = self.entries();
        if let Some(Entry::Answered { .. }) = entries.get(host) {
            entries.remove(host);
        }
    }

    /// The answer at hand, or where it will come.
    fn look(self: &Arc<Self>, host: &Arc<str>) -> Result<Answer, watch::Receiver<Option<Answer>>> {
        let mut entries = self.entries();
        match entries.get(host) {
            Some(Entry::Answered { answer, until }) if Instant::now() < *until => {
                return Ok(answer.clone());
            }
            Some(Entry::Asked(asked)) if asked.has_changed().is_ok() => return Err(asked.clone()),
            Some(Entry::Answered { .. } | Entry::Asked(_)) | None => {}
        }
        if entries.len() >= self.limits.names && !entries.contains_key(host) && !trim(&mut entries)
        {
            return Ok(Err("too many names are being looked up"));
        }
        let (answer, asked) = watch::channel(None);
        entries.insert(Arc::clone(host), Entry::Asked(asked.clone()));
        drop(entries);
        tokio::spawn(Arc::clone(self).ask(Arc::clone(host), answer));
        Err(asked)
    }

    /// Asks the resolver. A task of its own, so that it goes on when the first caller gives up.
    async fn ask(self: Arc<Self>, host: Arc<str>, tell: watch::Sender<Option<Answer>>) {
        let lookup = self.resolver.lookup(Arc::clone(&host));
        let answer = match tokio::time::timeout(self.limits.lookup, lookup).await {
            Err(_) => Err("no answer from the name server in time"),
            Ok(Err(_)) => Err("the name does not resolve"),
            Ok(Ok(found)) if found.is_empty() => Err("the name has no address"),
            Ok(Ok(found)) => Ok(found.into_iter().take(ADDRESSES_KEPT).collect()),
        };
        let kept = if answer.is_ok() { self.limits.known } else { self.limits.failed };
        let until = Instant::now() + kept;
        self.entries().insert(host, Entry::Answered { answer: answer.clone(), until });
        tell.send_replace(Some(answer));
    }
}

/// Makes room: drops what is out of date, or else any answer. False if only lookups are left.
fn trim(entries: &mut HashMap<Arc<str>, Entry>) -> bool {
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
