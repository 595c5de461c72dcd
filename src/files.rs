//! Open files: as many as the system allows, and a node that takes on no more than that.
//!
//! Every connection is a file. Where a node opens more than the system allows, it is not receivers
//! that suffer first: new callers are not accepted, and the store cannot open what it needs. So
//! the limit is raised as far as it goes, a part of it is kept for callers and the store, and what
//! is left bounds connections to receivers.

use pregon_dataplane::egress::{EgressLimits, SOCKETS_PER_LOOKUP};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than any process of ours opens: where the system sets no limit, this is it.
const ENOUGH: u64 = 1 << 20;
/// Kept at least for callers, the store and the process itself.
const KEPT_LEAST: u64 = 64;
/// Files of one lookup.
const PER_LOOKUP: u64 = SOCKETS_PER_LOOKUP as u64;
/// Of the files that are left, the share of lookups is one in so many.
const LOOKUPS_SHARE: u64 = 6;

/// Raises the limit of open files as far as it goes; what it is then.
pub fn raise() -> u64 {
    let before = getrlimit(Resource::Nofile);
    let most = before.maximum.unwrap_or(ENOUGH);
    let now = before.current.unwrap_or(ENOUGH);
    if now >= most {
        return now;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..before }) {
        Ok(()) => most,
        Err(error) => {
            tracing::warn!(limit = now, most, %error, "cannot raise the limit of open files");
            now
        }
    }
}

/// What a node may take on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Attempts in flight.
    pub max_in_flight: usize,
    /// Bounds of the way out.
    pub egress: EgressLimits,
}

impl Share {
    /// Of so many files, for a node that wants so many attempts in flight.
    pub fn of(files: u64, max_in_flight: usize) -> Self {
        let usual = EgressLimits::default();
        let kept = (files / 4).max(KEPT_LEAST);
        let left = files.saturating_sub(kept);
        let lookups = usual.lookups.min(number(left / LOOKUPS_SHARE / PER_LOOKUP).max(1));
        let left = left.saturating_sub(PER_LOOKUP * lookups as u64);
        // An attempt without a connection would be a fault of the node's.
        let open = usual.open.max(max_in_flight).min(number(left).max(1));
        let egress = EgressLimits {
            open,
            lookups,
            lookups_per_tenant: usual.lookups_per_tenant.min(lookups),
            idle_total: usual.idle_total.min(open),
            burst_total: usual.burst_total.min(open),
            ..usual
        };
        Self { max_in_flight: max_in_flight.min(open), egress }
    }

    /// The same; says so where it is less than is wanted.
    pub fn told(files: u64, max_in_flight: usize) -> Self {
        let share = Self::of(files, max_in_flight);
        let wanted = max_in_flight;
        let usual = EgressLimits::default().open.max(wanted);
        if share.egress.open < usual || share.max_in_flight < wanted {
            let wants = needed(usual);
            tracing::warn!(
                "the process may open {files} files: {} attempts are in flight at most instead of \
                 {wanted}, over {} connections instead of {usual}; raise the hard limit of open \
                 files (LimitNOFILE=, ulimit -Hn) to {wants}",
                share.max_in_flight,
                share.egress.open,
            );
        }
        share
    }
}

/// The limit that leaves so many connections.
fn needed(connections: usize) -> u64 {
    let lookups = PER_LOOKUP * EgressLimits::default().lookups as u64;
    ((connections as u64 + lookups) * 4).div_ceil(3)
}

fn number(files: u64) -> usize {
    usize::try_from(files).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_allows_bounds_attempts_and_connections() {
        let usual = EgressLimits::default();
        assert_eq!(Share::of(1 << 20, 4096), Share { max_in_flight: 4096, egress: usual });
        for files in [0, 1, 64, 256, 1024, 4096] {
            let share = Share::of(files, 4096);
            let EgressLimits { open, lookups, burst_total, .. } = share.egress;
            assert!(share.max_in_flight <= open && burst_total <= open, "{share:?}");
            let taken = open as u64 + PER_LOOKUP * lookups as u64;
            assert!(files < 128 || taken + files / 4 <= files, "{files}: {share:?}");
            assert!(open > 0 && lookups > 0 && share.max_in_flight > 0, "{files}: {share:?}");
        }
        let share = Share::of(1024, 4096);
        assert!((600..768).contains(&share.max_in_flight), "{share:?}");
    }

    #[test]
    fn limit_that_the_warning_names_is_enough() {
        for wanted in [64, 4096, 8192, 65_536] {
            let open = EgressLimits::default().open.max(wanted);
            let share = Share::of(needed(open), wanted);
            assert_eq!((share.egress.open, share.max_in_flight), (open, wanted));
        }
    }

    #[test]
    fn limit_is_raised_to_what_the_system_allows() {
        let files = raise();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current.unwrap_or(ENOUGH), files);
        assert!(now.maximum.is_none_or(|most| most == files || files >= ENOUGH));
    }
}
