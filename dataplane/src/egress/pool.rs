//! Idle connections, kept for the next request to the same receiver of the same tenant.
//!
//! Taken last in, first out, so that a burst's extra connections grow old and go. Bounded per
//! receiver and in total: by more for moments, and by less for longer. A policy change empties the pool, and a connection that was opened
//! under an older policy does not come back into it. One sweep task runs while anything is idle.

// A key's terms remember connectors; keys are hashed and compared by what nothing changes.
#![allow(clippy::mutable_key_type)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking::{Mutex, lock};
use pregon_core::id::TenantId;
use tokio::time::Instant;

use super::connection::{Connection, Under};
use super::target::PoolKey;

/// A mutex whose poisoning means nothing: its state is whole after each statement.
mod parking {
    pub use std::sync::Mutex;
    use std::sync::{MutexGuard, PoisonError};

    pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often idle connections are looked at: each costs well under a microsecond, and a
/// connection that the receiver closed holds a descriptor until then.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How long a connection may have been idle that is one more than is kept.
const SURPLUS_IDLE: Duration = Duration::from_secs(1);

/// Bounds of the pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolLimits {
    /// What is kept.
    pub per_key: usize,
    pub total: usize,
    /// What there may be at any moment.
    pub burst_per_key: usize,
    pub burst_total: usize,
    pub idle: Duration,
    pub age: Duration,
}

impl PoolLimits {
    fn allows(&self, connection: &Connection, now: Instant) -> bool {
        now.duration_since(connection.idle_since) < self.idle
            && now.duration_since(connection.born) < self.age
    }
}

type Shelf = Vec<Box<Connection>>;

#[derive(Default)]
struct Shelves {
    by_key: HashMap<Arc<PoolKey>, Shelf>,
    idle: usize,
    generation: u64,
    sweeping: bool,
}

pub(super) struct Pool {
    shelves: Mutex<Shelves>,
    limits: PoolLimits,
}

impl Pool {
    pub fn new(limits: PoolLimits) -> Arc<Self> {
        Arc::new(Self { shelves: Mutex::default(), limits })
    }

    /// The generation that a connection opened now belongs to.
    pub fn generation(&self) -> u64 {
        lock(&self.shelves).generation
    }

    /// How many connections are idle.
    pub fn idle(&self) -> usize {
        lock(&self.shelves).idle
    }

    /// A connection that looks alive, has been idle for less than `idle`, was opened under what its
    /// `tenant` says now (which telling), and leads to an address that still is the receiver's; the
    /// one used last first. Others that come up are closed.
    pub fn take(
        &self,
        key: &PoolKey,
        (idle, tenant): (Duration, u64),
        still: impl Fn(IpAddr) -> bool,
    ) -> Option<Box<Connection>> {
        loop {
            // Looked at, and if need be closed, without the lock.
            let mut connection = {
                let mut shelves = lock(&self.shelves);
                let shelf = shelves.by_key.get_mut(key)?;
                // The one used last is on top: where it was idle for too long, all were.
                let connection = shelf.pop_if(|top| top.idle_since.elapsed() < idle)?;
                shelves.idle -= 1;
                connection
            };
            let fit = self.limits.allows(&connection, Instant::now())
                && connection.under.tenant == tenant;
            if fit && still(connection.remote.ip()) && connection.is_alive() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for the next request, or closes it.
    /// `tenant`: which telling of the tenant holds now.
    pub fn put(
        self: &Arc<Self>,
        key: &Arc<PoolKey>,
        mut connection: Box<Connection>,
        tenant: impl Fn() -> u64,
    ) {
        if !connection.is_reusable() {
            return;
        }
        connection.idle_since = Instant::now();
        let mut displaced = None; // closed after the lock is gone
        let mut shelves = lock(&self.shelves);
        // Asked under the lock, which who closes a tenant's connections takes after the change.
        if connection.under != (Under { generation: shelves.generation, tenant: tenant() }) {
            return;
        }
        if shelves.by_key.get(key).is_some_and(|shelf| shelf.len() >= self.limits.burst_per_key) {
            return;
        }
        if shelves.idle >= self.limits.burst_total {
            displaced = shelves.evict();
        }
        shelves.by_key.entry(Arc::clone(key)).or_default().push(connection);
        shelves.idle += 1;
        let start_sweep = !std::mem::replace(&mut shelves.sweeping, true);
        drop(shelves);
        drop(displaced);
        if start_sweep {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes the connection that has been idle longest; false if there is none.
    pub fn evict(&self) -> bool {
        let oldest = lock(&self.shelves).evict();
        oldest.is_some()
    }

    /// Closes everything idle, and everything in use once it comes back.
    pub fn clear(&self) {
        let closed = {
            let mut shelves = lock(&self.shelves);
            shelves.generation += 1;
            shelves.idle = 0;
            std::mem::take(&mut shelves.by_key)
        };
        drop(closed);
    }

    /// Closes what a tenant has idle.
    pub fn clear_of(&self, tenants: &[TenantId]) {
        let mut closed = Vec::new();
        let mut shelves = lock(&self.shelves);
        let gone = shelves.by_key.extract_if(|key, _| tenants.contains(&key.tenant));
        closed.extend(gone.flat_map(|(_, shelf)| shelf));
        shelves.idle -= closed.len();
        drop(shelves);
        drop(closed);
    }

    /// Closes what is too old, was closed by its receiver, or is surplus. False when nothing is left.
    fn sweep(&self) -> bool {
        let now = Instant::now();
        let mut closed = Vec::new();
        let mut shelves = lock(&self.shelves);
        shelves.by_key.retain(|_, shelf| {
            let gone = shelf.extract_if(.., |connection| {
                !(self.limits.allows(connection, now) && connection.is_alive())
            });
            closed.extend(gone);
            let surplus = shelf.len().saturating_sub(self.limits.per_key);
            closed.extend(shelf.drain(..surplus_of(shelf, surplus, now)));
            !shelf.is_empty()
        });
        shelves.idle -= closed.len();
        let mut surplus = shelves.idle.saturating_sub(self.limits.total);
        let mut over = Vec::new();
        shelves.by_key.retain(|_, shelf| {
            let gone = surplus_of(shelf, surplus, now);
            surplus -= gone;
            over.extend(shelf.drain(..gone));
            !shelf.is_empty()
        });
        shelves.idle -= over.len();
        shelves.sweeping = !shelves.by_key.is_empty();
        shelves.sweeping
    }
}

impl Shelves {
    /// Takes out the connection that has been idle longest. Only when the pool is full, so a walk
    /// over the receivers is cheap beside the connections that are opened then.
    fn evict(&mut self) -> Option<Box<Connection>> {
        let longest = self.by_key.iter_mut().filter(|(_, shelf)| !shelf.is_empty());
        let (_, shelf) = longest.min_by_key(|(_, shelf)| shelf[0].idle_since)?;
        self.idle -= 1;
        Some(shelf.remove(0))
    }
}

/// How many of the first connections of a shelf go, `most` at most: those not used just now.
fn surplus_of(shelf: &Shelf, most: usize, now: Instant) -> usize {
    let old = shelf.iter().take(most);
    old.take_while(|connection| now.duration_since(connection.idle_since) >= SURPLUS_IDLE).count()
}

/// Sweeps until nothing is idle or the pool is gone.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        match pool.upgrade() {
            Some(pool) if pool.sweep() => {}
            Some(_) | None => return,
        }
    }
}
