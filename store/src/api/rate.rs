//! Rates that all nodes keep together: slots are handed out once, to whoever asks.
//!
//! A node asks for slots of a rate ahead of their time, some hundred milliseconds at most
//! ([`AHEAD`]), and uses each by itself: so no attempt costs a call. What it does not use lapses
//! ([`Rate::slack`]), and is never saved up. A node gets half of what is free, so that others that
//! ask find something; asked again and again, the whole rate is handed out.
//!
//! A reply that is lost, and a node that dies, take their slots along: less goes out then, never
//! more. What is handed out is remembered for as long as it matters. Redis keeps it under a key that
//! expires; the embedded engine keeps it in memory, and hands out no slots from before it was
//! opened, so a restart gives nobody a second burst. A Redis that loses its memory may hand out one
//! burst again.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pregon_core::id::{LaneNo, TenantId};
use pregon_core::rate::Rate;
use pregon_core::url::Host;

use crate::StoreError;

/// How far ahead of their time slots are handed out.
pub const AHEAD: Duration = Duration::from_millis(250);
/// Rates that one call asks for at most.
pub const ASKS_MAX: usize = 256;
/// How long an engine holds back after it was opened, where it does not remember: a slot's distance,
/// this long at most.
pub(crate) const OPENING: Duration = Duration::from_millis(50);

/// What a rate is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RateKey {
    /// A subscription's.
    Lane(LaneNo),
    /// Of all that goes to a host and port, as `host:port`.
    Host(Arc<str>),
    /// Of all that is sent for a tenant.
    Tenant(TenantId),
}

impl RateKey {
    /// Of a host and port. The full stop of the root makes no other host.
    pub fn host(host: Host<'_>, port: u16) -> Self {
        RateKey::Host(match host {
            Host::Domain(name) => format!("{}:{port}", name.trim_end_matches('.')).into(),
            Host::Ip(ip) => SocketAddr::new(ip, port).to_string().into(),
        })
    }
}

impl fmt::Display for RateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RateKey::Lane(lane) => write!(f, "l{}", lane.0),
            RateKey::Host(host) => write!(f, "h{host}"),
            RateKey::Tenant(tenant) => write!(f, "t{tenant}"),
        }
    }
}

/// What a node asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateAsk {
    /// Of which.
    pub key: RateKey,
    /// How fast it is.
    pub rate: Rate,
    /// Slots at most.
    pub want: u32,
}

/// What it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLease {
    /// How many slots, at the rate's distances.
    pub slots: u32,
    /// From the store's present moment to the first of them, in µs: it may have passed.
    pub first: i64,
    /// How long it is no use to ask again.
    pub again: Duration,
}

/// What nodes ask before they send.
#[async_trait]
pub trait Rates: Send + Sync {
    /// Hands out slots; answers in order. Of more than [`ASKS_MAX`] rates the first are answered.
    /// Repeated after an unknown outcome, it hands out others.
    async fn lease_rates(&self, asks: &[RateAsk]) -> Result<Vec<RateLease>, StoreError>;
}

/// The rule of every engine: hands out slots at `now`, with `next` the first that was not handed out;
/// both in µs. Answers what is the first then. `lua/rate.lua` does the same.
pub fn lease(next: f64, now: f64, ask: &RateAsk) -> (RateLease, f64) {
    let (each, ahead) = (ask.rate.micros(), micros(AHEAD));
    // What lapsed is gone. Nothing is further ahead than this, unless the rate was lower or the
    // clock is set back.
    let next = next.max(now - f64::from(ask.rate.burst() - 1) * each).min(now + ahead + each);
    let free = (((now + ahead - next) / each).floor() + 1.0).max(0.0);
    let slots = f64::from(ask.want).min((free / 2.0).ceil());
    let after = next + slots * each;
    let again = if free > slots { 0.0 } else { (after - ahead - now).max(0.0) };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within bounds of theirs
    let lease = RateLease {
        slots: slots as u32,
        first: (next - now).ceil() as i64,
        again: Duration::from_micros(again.ceil() as u64),
    };
    (lease, after)
}

/// A time in µs.
#[allow(clippy::cast_precision_loss)] // µs since 1970 are exact until 2255
pub(crate) fn micros(time: Duration) -> f64 {
    time.as_micros() as f64
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn ask(rate: Rate, want: u32) -> RateAsk {
        RateAsk { key: RateKey::Lane(LaneNo(1)), rate, want }
    }

    #[test]
    fn one_that_asks_again_and_again_gets_the_whole_rate() {
        let ask = ask(Rate::new(200.0, 0).unwrap(), 1000);
        let (mut next, mut got) = (0.0, 0);
        for step in 0..100 {
            let (lease, after) = lease(next, 1e9 + f64::from(step) * 50_000.0, &ask);
            got += lease.slots;
            next = after;
        }
        // Five seconds, what lies ahead, and the burst.
        assert!((1000..=1060).contains(&got), "{got}");
    }

    #[test]
    fn who_is_told_to_wait_finds_a_slot_then() {
        let ask = ask(Rate::new(2.0, 0).unwrap(), 10);
        let (first, next) = lease(0.0, 1e9, &ask);
        assert_eq!((first.slots, first.first), (1, 0));
        let (none, next) = lease(next, 1e9, &ask);
        assert_eq!((none.slots, none.again), (0, Duration::from_millis(250)));
        let (second, _) = lease(next, 1e9 + 250_000.0, &ask);
        assert_eq!((second.slots, second.first), (1, 250_000));
    }

    proptest! {
        /// Whoever asks, whenever: slots keep their distance, and none is used that has lapsed.
        #[test]
        fn slots_are_handed_out_once(
            milli in 10u32..2_000_000,
            burst in 0u32..50,
            asks in vec((0u32..400_000, 0u32..100), 1..200),
        ) {
            let rate = Rate::new(f64::from(milli) / 1000.0, burst.min(milli / 1000)).unwrap();
            let (mut now, mut next, mut last) = (1e15, 0.0, f64::MIN);
            for (pause, want) in asks {
                now += f64::from(pause);
                let (lease, after) = lease(next, now, &ask(rate, want));
                prop_assert!(lease.slots <= want);
                let first = now + lease.first as f64;
                if lease.slots > 0 {
                    prop_assert!(first >= last + rate.micros() - 2.0, "{first} after {last}");
                    let end = first + f64::from(lease.slots - 1) * rate.micros();
                    prop_assert!(end <= now + micros(AHEAD) + 2.0);
                    prop_assert!(first + rate.micros() * f64::from(rate.burst()) > now);
                    last = end;
                }
                next = after;
            }
        }
    }
}
