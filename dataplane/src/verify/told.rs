//! What came of a turn.

use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::contract::VerificationRule;
use pregon_core::model::Asked;
use pregon_core::outcome::ErrorClass;

/// What came of a turn.
#[derive(Debug)]
pub(super) enum Told {
    /// The node goes down: nobody knows.
    NotAsked,
    /// Every step was answered as it must be.
    Passed {
        asked: Asked,
        /// When it is asked again.
        repeat: Option<Duration>,
    },
    /// A step was not.
    Failed {
        asked: Asked,
        refused: Refused,
        /// Says when it is asked again; none where the contract could not be had.
        rule: Option<VerificationRule>,
    },
}

/// What of a failed asking its repeat depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    /// When it ended.
    pub ended: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What kind of fault it was, if it was one.
    pub class: Option<ErrorClass>,
    /// The status of the last answer, if there was one.
    pub status: Option<u16>,
    /// What the receiver asked for.
    pub retry_after: Option<Duration>,
}
