//! What a receiver's owner wants to hear of, told in one place.
//!
//! Each is a line of the log and a count. The line of a breaker that opens names the subscription; that it
//! is open, and that a subscription is about to be disabled, GetSubscriptionHealth shows besides.

use pregon_core::clock::Timestamp;
use pregon_core::id::SubscriptionName;
use pregon_telemetry::Telemetry;
use pregon_telemetry::metrics::BreakerChange;

use super::breaker::Shift;

/// What is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Announced<'a> {
    /// Its breaker changed.
    Breaker(Shift),
    /// Nothing but failures for so long that it is disabled soon.
    AboutToBeDisabled { since: Timestamp, until: Timestamp },
    /// It was disabled.
    Disabled { reason: &'a str },
}

/// Tells it.
pub(super) fn tell(telemetry: &Telemetry, subscription: &SubscriptionName, what: Announced<'_>) {
    let metrics = telemetry.metrics();
    match what {
        Announced::Breaker(Shift::Opened { again: true, .. }) => {}
        Announced::Breaker(Shift::Opened { wait, again: false }) => {
            let seconds = wait.as_secs();
            tracing::warn!(%subscription, seconds, "its receiver fails: the breaker opened");
            metrics.breaker(BreakerChange::Opened);
        }
        Announced::Breaker(Shift::Recovering) => {
            tracing::info!(%subscription, "attempts go out at a rate: the breaker recovers");
            metrics.breaker(BreakerChange::Recovering);
        }
        Announced::Breaker(Shift::Closed) => {
            tracing::info!(%subscription, "its receiver is well: the breaker closed");
            metrics.breaker(BreakerChange::Closed);
        }
        Announced::AboutToBeDisabled { since, until } => {
            tracing::warn!(
                %subscription, %since, %until,
                "about to be disabled: its receiver does nothing but fail"
            );
            metrics.subscriptions_warned.add(1, &[]);
        }
        Announced::Disabled { reason } => {
            tracing::warn!(%subscription, reason, "disabled");
            metrics.subscriptions_disabled.add(1, &[]);
        }
    }
}
