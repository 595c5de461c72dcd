//! What becomes of a delivery.
//!
//! A delivery is PENDING until it ends, once, as SUCCEEDED, FAILED or CANCELLED. Who moves it:
//! the decision after an attempt ([`decide`]), the expiry of a paused lane, a caller's cancel, the
//! end of its subscription or tenant.
//!
//! The decision is one pure, total function of the contract and the reply:
//!
//! - an answer that the contract acknowledges: SUCCEEDED;
//! - one that it refuses: FAILED, and for some (410 by default) the subscription is disabled;
//! - every other answer, redirects included (they are never followed), and every fault on the
//!   way: RETRY when the schedule says, else FAILED;
//! - a fault of the egress pool (EGRESS): RETRY within a minute, and no attempt is used up;
//! - a fault of the token endpoint (TOKEN): the same, for seven days; from then on it counts as an
//!   answer does. Until the endpoint may be asked again the whole lane waits;
//! - a fault of our own (LOCAL): RETRY soon, as if there had been no attempt. It is never final: what
//!   lacks a secret, a key or a document waits for it ([`Decision::held`]).
//!
//! An event of which no attempt may begin after a moment ends what would be tried again later:
//! FAILED with EXPIRED ([`Decision::within`]).
//!
//! Besides, a receiver that asks to be left alone (429 and 503 with `Retry-After`) asks for its
//! whole lane, not for one delivery.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::contract::{Contract, Failure};
use crate::error::words;
use crate::limits;

pub use crate::contract::{Answer, Judged};

/// How long an attempt that failed on our side waits: long enough for a proxy to restart or for
/// another node to take it, short against any schedule.
pub const LOCAL_DELAY: Duration = Duration::from_secs(1);

/// How long a delivery waits at most for another look at what it lacks: an operator who has mended it
/// sees it go on within a minute.
pub const HELD_MAX: Duration = Duration::from_secs(60);

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
        /// A fault of the node, not of the receiver: not counted as an attempt.
        Local = "LOCAL",
        /// A fault of the egress pool, not of the receiver: its proxy failed, or the node has no
        /// such pool. Not counted as an attempt.
        Egress = "EGRESS",
        /// There was no token to be had from the receiver's token endpoint: the receiver itself was not
        /// asked. Not counted as an attempt within a delivery's first seven days.
        Token = "TOKEN",
    }
}

impl ErrorClass {
    /// Whether it is a fault on this side of the receiver, of ours or of its token endpoint: it says
    /// nothing about the receiver, which was not asked, and costs no attempt; for want of a token that
    /// ends after seven days.
    pub fn is_ours(self) -> bool {
        match self {
            ErrorClass::Local | ErrorClass::Egress | ErrorClass::Token => true,
            ErrorClass::Dns
            | ErrorClass::Connect
            | ErrorClass::Tls
            | ErrorClass::Timeout
            | ErrorClass::Protocol
            | ErrorClass::Status
            | ErrorClass::Denied => false,
        }
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
        /// The lane's rate, or the receiver's `Retry-After`.
        RateLimited = "RATE_LIMITED",
        /// Its subscription to be resumed.
        Paused = "PAUSED",
        /// The configuration revision that its event asks for.
        AwaitingRevision = "AWAITING_REVISION",
        /// Another try with it: node after node went down with it in hand.
        Suspect = "SUSPECT",
        /// Its receiver to answer again: attempts failed, and only probes go out.
        BreakerOpen = "BREAKER_OPEN",
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
        /// It waited too long in a paused lane.
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
        /// Its event was erased.
        Erased = "ERASED",
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
            | EndReason::TenantDeleted
            | EndReason::Erased => DeliveryState::Cancelled,
        }
    }
}

/// What came back from an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A whole answer: head and body within the attempt's time and the limits.
    Response {
        /// Its status.
        status: u16,
        /// What the contract makes of it.
        judged: Judged,
        /// What its `Retry-After` asks for, from the attempt's end on; see [`crate::retry_after`].
        retry_after: Option<Duration>,
    },
    /// Anything else.
    Fault {
        /// What went wrong; never STATUS.
        class: ErrorClass,
        /// A few words for the log. Never event data, never a secret.
        detail: Cow<'static, str>,
        /// How long no other attempt at the receiver can fare better, where that is known.
        again: Option<Duration>,
    },
}

/// How long things took, at the end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// From the attempt's start to its end.
    pub took: Duration,
    /// From the delivery's creation to the attempt's end.
    pub age: Duration,
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ends as SUCCEEDED.
    Succeeded,
    /// It is tried again.
    Retry {
        /// How long after the attempt's end.
        after: Duration,
    },
    /// It ends as FAILED.
    Failed {
        /// Why.
        reason: EndReason,
    },
}

impl Outcome {
    /// The word for the attempt's record.
    pub fn word(self) -> AttemptOutcome {
        match self {
            Outcome::Succeeded => AttemptOutcome::Succeeded,
            Outcome::Retry { .. } => AttemptOutcome::Retry,
            Outcome::Failed { .. } => AttemptOutcome::Failed,
        }
    }
}

/// Everything that follows from an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of the delivery.
    pub outcome: Outcome,
    /// What went wrong; none when it succeeded.
    pub error_class: Option<ErrorClass>,
    /// Whether the attempt's number is used up.
    pub counts: bool,
    /// Whether the subscription is to be disabled.
    pub disable: bool,
    /// How long the whole lane is to wait, from the attempt's end, because its receiver said so or has
    /// no token until then.
    pub slow_lane: Option<Duration>,
    /// Whether the attempt's time was up: the lane's concurrency shrinks.
    pub timeout: bool,
}

/// Decides what becomes of a delivery after attempt `attempt` (from 1). `random01` is chance
/// between 0 and 1, for the jitter.
pub fn decide(
    contract: &Contract,
    attempt: u32,
    reply: &Reply,
    timings: Timings,
    random01: f64,
) -> Decision {
    let mut judged = Judged::default();
    let (class, status, asked) = match reply {
        Reply::Response { judged: Judged { acknowledged: true, .. }, .. } => {
            return Decision::of(Outcome::Succeeded, None);
        }
        Reply::Response { status, judged: of_contract, retry_after } => {
            judged = *of_contract;
            (ErrorClass::Status, Some(*status), *retry_after)
        }
        Reply::Fault { class: ErrorClass::Local, .. } => {
            let outcome = Outcome::Retry { after: LOCAL_DELAY };
            return Decision { counts: false, ..Decision::of(outcome, Some(ErrorClass::Local)) };
        }
        Reply::Fault { class: ErrorClass::Egress, .. } => {
            return Decision::held_by(ErrorClass::Egress, timings.age);
        }
        // As in a paused lane: whoever mends it within that time loses nothing.
        Reply::Fault { class: ErrorClass::Token, again, .. }
            if timings.age < limits::PAUSED_KEPT =>
        {
            let held = Decision::held_by(ErrorClass::Token, timings.age);
            return Decision { slow_lane: *again, ..held };
        }
        Reply::Fault { class, .. } => (*class, None, None),
    };
    let Timings { took, age } = timings;
    let failure = Failure { attempt, took, age, status, retry_after: asked };
    let outcome = if judged.refused {
        Outcome::Failed { reason: EndReason::Refused }
    } else {
        match contract.retry().next(failure, random01) {
            Some(after) => Outcome::Retry { after },
            None => Outcome::Failed { reason: EndReason::AttemptsExhausted },
        }
    };
    let again = match reply {
        Reply::Fault { again, .. } => *again,
        Reply::Response { .. } => None,
    };
    Decision {
        disable: judged.disable,
        slow_lane: again.or_else(|| contract.retry().asked(status, asked)),
        timeout: class == ErrorClass::Timeout,
        ..Decision::of(outcome, Some(class))
    }
}

impl Decision {
    /// The delivery ends, since no request can be made of it.
    pub fn given_up(reason: EndReason) -> Self {
        Self::of(Outcome::Failed { reason }, None)
    }

    /// The delivery waits for something of ours that is lacking, and is looked at again after a
    /// quarter of its age, within [`LOCAL_DELAY`] and [`HELD_MAX`]. No attempt is used up.
    pub fn held(age: Duration) -> Self {
        Self::held_by(ErrorClass::Local, age)
    }

    /// How long something of that age waits that cannot go on for want of something of ours: a
    /// quarter of its age, within [`LOCAL_DELAY`] and [`HELD_MAX`].
    pub fn held_for(age: Duration) -> Duration {
        (age / 4).clamp(LOCAL_DELAY, HELD_MAX)
    }

    /// The same for a delivery of which no attempt may begin after `left` from now: it ends where the
    /// next one would.
    pub fn within(self, left: Option<Duration>) -> Self {
        let outcome = match (self.outcome, left) {
            (Outcome::Retry { after }, Some(left)) if after >= left => {
                Outcome::Failed { reason: EndReason::Expired }
            }
            (outcome, _) => outcome,
        };
        Self { outcome, ..self }
    }

    /// The delivery ends without an attempt, since its event's time is over.
    pub fn expired() -> Self {
        Self { counts: false, ..Self::given_up(EndReason::Expired) }
    }

    fn held_by(class: ErrorClass, age: Duration) -> Self {
        let after = Self::held_for(age);
        Self { counts: false, ..Self::of(Outcome::Retry { after }, Some(class)) }
    }

    fn of(outcome: Outcome, error_class: Option<ErrorClass>) -> Self {
        Self { outcome, error_class, counts: true, disable: false, slow_lane: None, timeout: false }
    }
}

#[cfg(test)]
mod tests;
