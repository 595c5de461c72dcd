//! Calls that are refused, for the audit log.
//!
//! Refused is who is UNAUTHENTICATED, whose call is PERMISSION_DENIED, and whose call or event is
//! beyond a rate (RATE_LIMITED). Each such call is counted in an entry, and a flood of them makes few
//! entries: of calls from one caller (or from one address, where the caller is not known) to one
//! method for one reason, the first makes an entry at once, and the others of the same minute make
//! one more between them, which says how many there were. All kinds together make [`ENTRIES`] a
//! minute; what is beyond is counted in one entry for all, which names none of them where they are
//! not alike.
//!
//! Whoever writes entries takes them from [`Refusals`]. Until then they lie in memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pregon_core::clock::SharedClock;
use pregon_core::error::{Reason, Refusal};
use pregon_core::model::{ActorKind, AuditActor, AuditEntry, AuditOutcome};
use pregon_core::trace::TraceContext;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::call::word;
use crate::caller::{ANONYMOUS, Caller};
use crate::status::grpc_code;

/// For how long calls that are alike make no other entry.
const WINDOW: Duration = Duration::from_secs(60);
/// Entries that one process makes of refused calls in a [`WINDOW`], about: ten writes of a store a
/// second.
pub const ENTRIES: usize = 600;
/// Entries that wait to be taken: two windows of them, while a store does not answer.
const READY: usize = 2 * ENTRIES;
/// Kinds of calls that are told apart: a few hundred bytes each.
const KINDS: usize = 2048;
/// How often there is a look at what is over.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes of a resource name as a caller gave it.
const NAME_LEN: usize = 512;

/// Calls that were refused, until somebody writes them down. Clones share them.
#[derive(Clone, Debug)]
pub struct Refusals(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: SharedClock,
    state: Mutex<State>,
    some: Notify,
}

#[derive(Debug)]
struct State {
    windows: HashMap<Alike, Window>,
    /// What found no place: of more kinds, or beyond what a window may make.
    beyond: Option<Beyond>,
    ready: Vec<AuditEntry>,
    /// When the present window of all began, and how many entries it made.
    begun: Instant,
    made: usize,
}

/// Calls that are counted in one entry.
#[derive(Debug)]
struct Beyond {
    window: Window,
    /// What they have in common; none: not all of it.
    alike: Option<Alike>,
}

/// What calls have in common that share entries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Alike {
    who: Who,
    method: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    Actor(String),
    Network(Option<IpAddr>),
}

/// Calls that are alike.
#[derive(Debug)]
struct Window {
    begun: Instant,
    /// The latest of them.
    last: AuditEntry,
    /// Those that no entry tells of.
    untold: u64,
}

impl Window {
    /// An entry that tells of all that none told of.
    fn told(self) -> Option<AuditEntry> {
        let others = self.untold.checked_sub(1)?;
        Some(AuditEntry { suppressed: others, ..self.last })
    }
}

impl Refusals {
    /// None yet.
    pub fn new(clock: SharedClock) -> Self {
        let state = State {
            windows: HashMap::new(),
            beyond: None,
            ready: Vec::new(),
            begun: Instant::now(),
            made: 0,
        };
        Self(Arc::new(Shared { clock, state: Mutex::new(state), some: Notify::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, who: Who, entry: AuditEntry) {
        let alike = Alike { who, method: entry.method.clone(), reason: entry.reason.clone() };
        let mut state = self.state();
        state.note(alike, entry, Instant::now());
        let some = !state.ready.is_empty();
        drop(state);
        if some {
            self.0.some.notify_one();
        }
    }

    /// Waits for entries, and takes them.
    pub async fn next(&self) -> Vec<AuditEntry> {
        loop {
            // Whether it rang or the time is over, there is a look.
            let _ = timeout(LOOK, self.0.some.notified()).await;
            let mut state = self.state();
            state.sweep(Instant::now());
            if !state.ready.is_empty() {
                return std::mem::take(&mut state.ready);
            }
        }
    }

    /// Takes all that is there to tell, for who ends.
    pub fn rest(&self) -> Vec<AuditEntry> {
        self.state().rest()
    }
}

impl State {
    fn note(&mut self, alike: Alike, mut entry: AuditEntry, now: Instant) {
        let full = self.windows.len() >= KINDS;
        match self.windows.get_mut(&alike) {
            Some(window) if now.duration_since(window.begun) < WINDOW => {
                window.untold += 1;
                window.last = entry;
            }
            Some(window) => {
                entry.suppressed = std::mem::take(&mut window.untold);
                window.begun = now;
                self.tell(Some(alike), entry, now);
            }
            None if full => self.put_beyond(Some(alike), entry, now),
            None => {
                let window = Window { begun: now, last: entry.clone(), untold: 0 };
                self.windows.insert(alike.clone(), window);
                self.tell(Some(alike), entry, now);
            }
        }
    }

    /// Makes an entry, if the present window has room for one.
    fn tell(&mut self, alike: Option<Alike>, entry: AuditEntry, now: Instant) {
        if now.duration_since(self.begun) >= WINDOW {
            (self.begun, self.made) = (now, 0);
        }
        if self.made >= ENTRIES || self.ready.len() >= READY {
            return self.put_beyond(alike, entry, now);
        }
        self.made += 1;
        self.ready.push(entry);
    }

    fn put_beyond(&mut self, alike: Option<Alike>, entry: AuditEntry, now: Instant) {
        let untold = entry.suppressed + 1;
        match &mut self.beyond {
            Some(beyond) => {
                beyond.window.untold += untold;
                if beyond.alike != alike {
                    beyond.alike = None;
                }
                beyond.window.last = entry;
            }
            None => {
                let window = Window { begun: now, last: entry, untold };
                self.beyond = Some(Beyond { window, alike });
            }
        }
    }

    /// Makes entries of what is over.
    fn sweep(&mut self, now: Instant) {
        let over = |window: &Window| now.duration_since(window.begun) >= WINDOW;
        let old = self.windows.extract_if(|_, window| over(window));
        let mut told: Vec<_> =
            old.filter_map(|(alike, window)| Some((Some(alike), window.told()?))).collect();
        let beyond = self.beyond.take_if(|beyond| over(&beyond.window));
        told.extend(beyond.and_then(Beyond::told));
        for (alike, entry) in told {
            self.tell(alike, entry, now);
        }
    }

    /// Takes all that is there to tell.
    fn rest(&mut self) -> Vec<AuditEntry> {
        let mut all = std::mem::take(&mut self.ready);
        all.extend(std::mem::take(&mut self.windows).into_values().filter_map(Window::told));
        all.extend(self.beyond.take().and_then(Beyond::told).map(|(_, entry)| entry));
        all
    }
}

impl Beyond {
    /// An entry that counts them; of those that are not alike it names none.
    fn told(self) -> Option<(Option<Alike>, AuditEntry)> {
        let Self { window, alike } = self;
        let mut entry = window.told()?;
        if alike.is_none() {
            entry = AuditEntry {
                actor: nobody(String::new()),
                peer: String::new(),
                method: String::new(),
                resource: String::new(),
                tenants: Vec::new(),
                code: String::new(),
                reason: String::new(),
                trace_id: String::new(),
                ..entry
            };
        }
        Some((alike, entry))
    }
}

/// A caller that is not known.
fn nobody(id: String) -> AuditActor {
    AuditActor { kind: ActorKind::None, id, display_name: String::new() }
}

/// Where a call came from, and what it is about: for its handler, and for the audit log.
#[derive(Clone, Debug)]
pub struct Origin(Arc<Facts>);

#[derive(Debug, Default)]
struct Facts {
    refusals: Option<Refusals>,
    method: String,
    peer: Option<SocketAddr>,
    trace: Option<TraceContext>,
    caller: OnceLock<Caller>,
    resource: OnceLock<String>,
}

impl Origin {
    pub(crate) fn new(
        refusals: Option<Refusals>,
        path: Option<&str>,
        peer: Option<SocketAddr>,
        trace: Option<TraceContext>,
    ) -> Self {
        let method = path.unwrap_or_default().trim_start_matches('/').to_owned();
        Self(Arc::new(Facts { refusals, method, peer, trace, ..Facts::default() }))
    }

    /// The origin of a request; one that is not known where it came past the layer.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        let known = request.extensions().get::<Self>().cloned();
        known.unwrap_or_else(|| Self(Arc::default()))
    }

    /// The other end of the connection.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.peer
    }

    /// Says who calls; the first to say it counts.
    pub(crate) fn know(&self, caller: &Caller) {
        let _ = self.0.caller.set(caller.clone());
    }

    /// Says what the call is about; the first to say it counts.
    pub fn about(&self, resource: &str) {
        if self.0.refusals.is_some() {
            let _ = self.0.resource.set(cut(resource));
        }
    }

    /// Notes that a part of the call about this resource was refused, as one event of many is. What is no
    /// refusal of its caller is nothing to note.
    pub fn refused(&self, refusal: &Refusal, resource: &str) {
        let reason = refusal.reason;
        if self.0.refusals.is_some() && is_refusal(grpc_code(reason.code()), reason.word()) {
            self.note(grpc_code(reason.code()), reason.word(), cut(resource));
        }
    }

    /// Notes how a call ended, if it was refused.
    pub(crate) fn ended(&self, status: &Status) {
        if self.0.refusals.is_none() || !may_refuse(status.code()) {
            return;
        }
        let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        if is_refusal(status.code(), &reason) {
            let resource = self.0.resource.get().cloned().unwrap_or_default();
            self.note(status.code(), &reason, resource);
        }
    }

    fn note(&self, code: Code, reason: &str, resource: String) {
        let facts = &self.0;
        let Some(refusals) = &facts.refusals else { return };
        let caller = facts.caller.get();
        let actor = caller.map_or_else(|| nobody(ANONYMOUS.to_owned()), Caller::audited);
        let who = match actor.kind {
            ActorKind::None => Who::Network(facts.peer.map(|peer| network(peer.ip()))),
            ActorKind::Token | ActorKind::ApiKey | ActorKind::Portal | ActorKind::Other => {
                Who::Actor(actor.id.clone())
            }
        };
        let tenants = caller.and_then(Caller::tenants).into_iter().flatten().cloned().collect();
        let entry = AuditEntry {
            time: refusals.0.clock.now(),
            actor,
            peer: facts.peer.map(|peer| peer.to_string()).unwrap_or_default(),
            method: facts.method.clone(),
            resource,
            tenants,
            outcome: AuditOutcome::Refused,
            code: word(code).to_owned(),
            reason: reason.to_owned(),
            request_id: String::new(),
            trace_id: facts.trace.as_ref().map(|it| it.trace.to_string()).unwrap_or_default(),
            changes: Vec::new(),
            changes_omitted: 0,
            suppressed: 0,
        };
        refusals.note(who, entry);
    }
}

/// As much of a resource name as is kept.
fn cut(resource: &str) -> String {
    resource[..resource.floor_char_boundary(NAME_LEN)].to_owned()
}

/// Addresses that one peer may have: an IPv4 address, or the network of an IPv6 one.
fn network(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V4(addr) => addr.into(),
        IpAddr::V6(addr) => {
            let [a, b, c, d, ..] = addr.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// Whether an answer with this code may be a refusal of its caller.
pub(crate) fn may_refuse(code: Code) -> bool {
    matches!(code, Code::Unauthenticated | Code::PermissionDenied | Code::ResourceExhausted)
}

/// Whether an answer is a refusal of its caller: what others use up is none.
fn is_refusal(code: Code, reason: &str) -> bool {
    match code {
        Code::Unauthenticated | Code::PermissionDenied => true,
        Code::ResourceExhausted => reason == Reason::RateLimited.word(),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

#[cfg(test)]
mod tests;
