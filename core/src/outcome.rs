//! What becomes of a delivery.
//!
//! A delivery is PENDING until it ends, once, as SUCCEEDED, FAILED or CANCELLED. Who moves it:
//! the decision after an attempt (below), the expiry of a paused lane, a caller's cancel, the end
//! of its subscription or tenant.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::words;

words! {
    /// What went wrong with an attempt.
    #[derive(PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    ErrorClass {
        /// The host's name could not be resolved.
        Dns = "DNS",
        /// No connection came about.
        Connect = "CONNECT",
        /// The TLS handshake failed: certificate, name or protocol.
        Tls = "TLS",
        /// The attempt's time was up, at whatever stage.
        Timeout = "TIMEOUT",
        /// The connection broke, or what came was not HTTP or beyond its limits.
        Protocol = "PROTOCOL",
        /// A whole answer, whose status does not acknowledge.
        Status = "STATUS",
        /// The egress policy forbids every address of the host.
        Denied = "DENIED",
        /// A fault of the node or its proxy, not of the receiver: not counted as an attempt.
        Local = "LOCAL",
    }
}

words! {
    /// How an attempt came out for its delivery.
    #[derive(PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    AttemptOutcome {
        /// Acknowledged: the delivery ends.
        Succeeded = "SUCCEEDED",
        /// Not acknowledged: another attempt follows.
        Retry = "RETRY",
        /// Not acknowledged, and none follows: the delivery ends.
        Failed = "FAILED",
    }
}

words! {
    /// Where a delivery stands.
    #[derive(PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    DeliveryState {
        /// Not ended; see [`PendingReason`].
        Pending = "PENDING",
        /// Acknowledged by the receiver.
        Succeeded = "SUCCEEDED",
        /// Given up; see [`EndReason`].
        Failed = "FAILED",
        /// Called off; see [`EndReason`].
        Cancelled = "CANCELLED",
    }
}

impl DeliveryState {
    /// Whether it is one of the three end states.
    pub fn is_end(self) -> bool {
        match self {
            DeliveryState::Pending => false,
            DeliveryState::Succeeded | DeliveryState::Failed | DeliveryState::Cancelled => true,
        }
    }
}

words! {
    /// What a pending delivery waits for.
    #[derive(PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    PendingReason {
        /// Its turn.
        Queued = "QUEUED",
        /// The answer of an attempt under way.
        InFlight = "IN_FLIGHT",
        /// The moment of its next attempt.
        RetryScheduled = "RETRY_SCHEDULED",
        /// A free slot of its lane.
        LaneFull = "LANE_FULL",
        /// The lane's rate, or the receiver's wish to be left alone.
        RateLimited = "RATE_LIMITED",
        /// Its subscription to be resumed.
        Paused = "PAUSED",
        /// The configuration revision that its event asks for.
        AwaitingRevision = "AWAITING_REVISION",
    }
}

words! {
    /// Why a delivery ended without success.
    #[derive(PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    EndReason {
        /// The contract's schedule has no further attempt.
        AttemptsExhausted = "ATTEMPTS_EXHAUSTED",
        /// The receiver refused, by the contract's rule.
        Refused = "REFUSED",
        /// The request could not be rendered or signed.
        RenderFailed = "RENDER_FAILED",
        /// It waited too long in a paused lane, or too many waited before it.
        Expired = "EXPIRED",
        /// Node after node went down with it in hand.
        Poison = "POISON",
        /// A caller cancelled it.
        ByCaller = "BY_CALLER",
        /// Its subscription was disabled.
        SubscriptionDisabled = "SUBSCRIPTION_DISABLED",
        /// Its subscription was deleted.
        SubscriptionDeleted = "SUBSCRIPTION_DELETED",
        /// Its tenant was deleted.
        TenantDeleted = "TENANT_DELETED",
    }
}

impl EndReason {
    /// The end state that this reason leads to.
    pub fn state(self) -> DeliveryState {
        match self {
            EndReason::AttemptsExhausted
            | EndReason::Refused
            | EndReason::RenderFailed
            | EndReason::Expired
            | EndReason::Poison => DeliveryState::Failed,
            EndReason::ByCaller
            | EndReason::SubscriptionDisabled
            | EndReason::SubscriptionDeleted
            | EndReason::TenantDeleted => DeliveryState::Cancelled,
        }
    }
}

#[cfg(test)]
mod tests;
