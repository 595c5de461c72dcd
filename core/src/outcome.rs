//! The closed vocabulary of outcomes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::words;

words! {
    /// How an attempt came out.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    AttemptOutcome {
        /// Acknowledged.
        Succeeded = "SUCCEEDED",
        /// To be tried again.
        Retry = "RETRY",
        /// The delivery was given up with it.
        Failed = "FAILED",
    }
}

words! {
    /// Where an attempt failed.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    ErrorClass {
        /// The name did not resolve.
        Dns = "DNS",
        /// No connection.
        Connect = "CONNECT",
        /// No trust.
        Tls = "TLS",
        /// No answer in time.
        Timeout = "TIMEOUT",
        /// Not HTTP as it should be.
        Protocol = "PROTOCOL",
        /// A status that does not acknowledge.
        Status = "STATUS",
        /// An address that the egress policy forbids.
        Denied = "DENIED",
        /// A fault of the node itself; not counted as an attempt.
        Local = "LOCAL",
    }
}

words! {
    /// Where a delivery stands.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    DeliveryState {
        /// Still to be made.
        Pending = "PENDING",
        /// Acknowledged.
        Succeeded = "SUCCEEDED",
        /// Given up.
        Failed = "FAILED",
        /// Called off.
        Cancelled = "CANCELLED",
    }
}

words! {
    /// What a pending delivery waits for.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    PendingReason {
        /// A node.
        Queued = "QUEUED",
        /// The receiver's answer.
        InFlight = "IN_FLIGHT",
        /// The next attempt's time.
        RetryScheduled = "RETRY_SCHEDULED",
        /// A free slot of its lane.
        LaneFull = "LANE_FULL",
        /// The lane's rate, or the receiver's wish to be left alone.
        RateLimited = "RATE_LIMITED",
        /// The subscription's resumption.
        Paused = "PAUSED",
        /// Configuration that no node serves yet.
        AwaitingRevision = "AWAITING_REVISION",
    }
}

words! {
    /// Why a delivery ended, where its state alone does not say.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    EndReason {
        /// The schedule is used up.
        AttemptsExhausted = "ATTEMPTS_EXHAUSTED",
        /// The receiver refused for good.
        Refused = "REFUSED",
        /// The request could not be made.
        RenderFailed = "RENDER_FAILED",
        /// It waited too long, or too many waited before it.
        Expired = "EXPIRED",
        /// Nodes died over it.
        Poison = "POISON",
        /// Somebody called it off.
        ByCaller = "BY_CALLER",
        /// Its subscription was disabled.
        SubscriptionDisabled = "SUBSCRIPTION_DISABLED",
        /// Its subscription was deleted.
        SubscriptionDeleted = "SUBSCRIPTION_DELETED",
        /// Its tenant was deleted.
        TenantDeleted = "TENANT_DELETED",
    }
}
