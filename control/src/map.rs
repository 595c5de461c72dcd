//! From the vocabulary to the wire: words that several resources share.

use std::collections::{BTreeMap, HashMap};

use pregon_core::clock::Timestamp;
use pregon_core::event::Environment;
use pregon_core::model::{
    ActorKind, AuditOutcome, CallbackState, FailurePolicy, Oauth2Style, SecretAlgorithm,
    SecretState, SubscriptionState, VerificationState,
};
use pregon_core::outcome::{AttemptOutcome, DeliveryState, EndReason, ErrorClass, PendingReason};
use pregon_proto::v1;
use pregon_rpc::caller::Role;
use pregon_rpc::time;

/// A moment.
pub(crate) fn moment(at: Timestamp) -> Option<prost_types::Timestamp> {
    Some(time::timestamp(at))
}

/// Labels.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> HashMap<String, String> {
    labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// A count that the wire says in 64 bits.
pub(crate) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count that the wire says in 32 bits.
pub(crate) fn small(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

/// How it is known who called.
pub(crate) fn actor_kind(kind: ActorKind) -> v1::AuditActorKind {
    match kind {
        ActorKind::None => v1::AuditActorKind::None,
        ActorKind::Token => v1::AuditActorKind::Token,
        ActorKind::ApiKey => v1::AuditActorKind::ApiKey,
        ActorKind::Portal => v1::AuditActorKind::PortalToken,
        ActorKind::Other => v1::AuditActorKind::Unspecified,
    }
}

/// What came of a call.
pub(crate) fn audit_outcome(outcome: AuditOutcome) -> v1::AuditOutcome {
    match outcome {
        AuditOutcome::Unknown => v1::AuditOutcome::Unknown,
        AuditOutcome::Done => v1::AuditOutcome::Done,
        AuditOutcome::Failed => v1::AuditOutcome::Failed,
        AuditOutcome::Refused => v1::AuditOutcome::Refused,
        AuditOutcome::Other => v1::AuditOutcome::Unspecified,
    }
}

/// The same from the wire; none where it is not specified.
pub(crate) fn from_audit_outcome(outcome: v1::AuditOutcome) -> Option<AuditOutcome> {
    match outcome {
        v1::AuditOutcome::Unspecified => None,
        v1::AuditOutcome::Unknown => Some(AuditOutcome::Unknown),
        v1::AuditOutcome::Done => Some(AuditOutcome::Done),
        v1::AuditOutcome::Failed => Some(AuditOutcome::Failed),
        v1::AuditOutcome::Refused => Some(AuditOutcome::Refused),
    }
}

/// A word of a closed vocabulary as the wire's enum, and back where callers may say it.
macro_rules! words {
    ($($name:ident, $back:ident: $ours:ident as $wire:ident { $($word:ident)+ })+) => {$(
        /// To the wire.
        pub(crate) fn $name(word: $ours) -> v1::$wire {
            match word { $($ours::$word => v1::$wire::$word),+ }
        }

        /// From the wire; none where it is not specified.
        #[allow(dead_code)] // not every vocabulary is one that callers filter by
        pub(crate) fn $back(wire: v1::$wire) -> Option<$ours> {
            match wire {
                v1::$wire::Unspecified => None,
                $(v1::$wire::$word => Some($ours::$word)),+
            }
        }
    )+};
}

words! {
    role, from_role: Role as ApiKeyRole {
        Admin Operator TenantManager Publisher Viewer Auditor
    }
    environment, from_environment: Environment as Environment { Live Test }
    subscription_state, from_subscription_state: SubscriptionState as SubscriptionState {
        PendingApproval Active Rejected Paused Disabled PendingVerification
    }
    verification_state, from_verification_state: VerificationState as VerificationState {
        Pending Passed Failed
    }
    secret_state, from_secret_state: SecretState as SecretState {
        Scheduled Active Expired Revoked
    }
    secret_algorithm, from_secret_algorithm: SecretAlgorithm as SecretAlgorithm {
        Hmac Ed25519 Rsa EcdsaP256 EcdsaP521 EcdsaSecp256k1
    }
    callback_state, from_callback_state: CallbackState as CallbackState { Active Paused }
    failure_policy, from_failure_policy: FailurePolicy as FailurePolicy { Deny Allow }
    oauth2_style, from_oauth2_style: Oauth2Style as Oauth2Style { Basic Post }
    state, from_state: DeliveryState as DeliveryState { Pending Succeeded Failed Cancelled }
    pending_reason, from_pending_reason: PendingReason as PendingReason {
        Queued InFlight RetryScheduled LaneFull RateLimited Paused AwaitingRevision Suspect
        BreakerOpen
    }
    end_reason, from_end_reason: EndReason as EndReason {
        AttemptsExhausted Refused RenderFailed Expired Poison
        ByCaller SubscriptionDisabled SubscriptionDeleted TenantDeleted Erased
    }
    outcome, from_outcome: AttemptOutcome as AttemptOutcome { Succeeded Retry Failed }
    error_class, from_error_class: ErrorClass as ErrorClass {
        Dns Connect Tls Timeout Protocol Status Denied Local Egress Token
    }
}
