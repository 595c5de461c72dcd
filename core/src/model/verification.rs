//! How it stands with the verification of a subscription's receiver.
//!
//! It is part of the subscription's document: what was asked survives whoever asked. Control begins
//! it, a node takes a turn by writing that it does, asks, and writes what came of it. Every write
//! relies on the document as it was read, so that of several nodes one has the turn. A node that
//! goes before it has told what came of its turn loses it at the turn's end, and another asks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::words;

/// Characters that are kept of why an asking failed, and of a body that came back.
pub const KEPT: usize = 256;
/// Time between two askings, whoever wants the second.
pub const APART: Duration = Duration::from_secs(1);

words! {
    /// Whether a receiver has passed its verification.
    VerificationState {
        /// It is being asked, or will be.
        Pending = "PENDING",
        /// It has, at the present URL and under the present contract.
        Passed = "PASSED",
        /// It has not, and is not asked any more by itself.
        Failed = "FAILED",
    }
}

/// How it stands with a receiver's verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The present URL has passed under the present contract.
    #[serde(default)]
    pub passed: bool,
    /// When the present round of askings began.
    pub begun: Timestamp,
    /// Askings of the round that have ended.
    #[serde(default)]
    pub attempts: u32,
    /// When it is asked next; none: not by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// Who asks at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Turn>,
    /// What came of the last asking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Asked>,
    /// When the present URL last passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_time: Option<Timestamp>,
}

/// A node's turn to ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Which node: `nodes/{n}`.
    pub node: String,
    /// Names the turn: no other has the same.
    pub id: String,
    /// Until then nobody else asks.
    pub until: Timestamp,
}

/// What came of an asking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// When it ended.
    pub time: Timestamp,
    /// Who asked: `nodes/{n}`.
    pub node: String,
    /// The step that failed, from 1; 0: none did.
    #[serde(default)]
    pub step: u32,
    /// The status of the last answer; 0: there was none.
    #[serde(default)]
    pub status: u16,
    /// What kind of fault it was, by the word of its [`ErrorClass`](crate::outcome::ErrorClass);
    /// empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub class: String,
    /// Why it failed, in words; at most [`KEPT`] characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The beginning of the body that came back, redacted; at most [`KEPT`] characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub excerpt: String,
}

impl Verification {
    /// One that begins now.
    pub fn begin(now: Timestamp) -> Self {
        Self {
            passed: false,
            begun: now,
            attempts: 0,
            next: Some(now),
            turn: None,
            last: None,
            passed_time: None,
        }
    }

    /// Begins another round. What has passed stays so until the round ends; who asks at present goes
    /// on, and is the first to be heard.
    pub fn ask_again(&mut self, now: Timestamp) {
        self.begun = now;
        self.attempts = 0;
        let apart = self.last.as_ref().map(|last| last.time.plus(APART));
        self.next = Some(apart.map_or(now, |apart| apart.max(now)));
    }

    /// Whether the receiver has passed.
    pub fn state(&self) -> VerificationState {
        match (self.passed, self.next.is_some() || self.turn.is_some()) {
            (true, _) => VerificationState::Passed,
            (false, true) => VerificationState::Pending,
            (false, false) => VerificationState::Failed,
        }
    }

    /// When a node is to ask, if the subscription's state lets it; none: not by itself.
    pub fn due(&self) -> Option<Timestamp> {
        match &self.turn {
            Some(turn) => Some(turn.until),
            None => self.next,
        }
    }

    /// An asking ended well; it is asked again after `repeat`.
    pub fn pass(&mut self, asked: Asked, repeat: Option<Duration>) {
        self.passed = true;
        self.passed_time = Some(asked.time);
        self.attempts = 0;
        self.turn = None;
        self.next = repeat.map(|repeat| asked.time.plus(repeat));
        self.begun = self.next.unwrap_or(asked.time);
        self.last = Some(asked);
    }

    /// An asking came to nothing for want of something of ours; it is asked again after `retry`. It
    /// counts for nothing.
    pub fn hold(&mut self, asked: Asked, retry: Duration) {
        self.turn = None;
        self.next = Some(asked.time.plus(retry));
        self.last = Some(asked);
    }

    /// An asking ended badly; it is asked again after `retry`. Without one it has failed.
    pub fn fail(&mut self, asked: Asked, retry: Option<Duration>) {
        self.attempts = self.attempts.saturating_add(1);
        self.turn = None;
        self.next = retry.map(|retry| asked.time.plus(retry));
        self.passed &= self.next.is_some();
        self.last = Some(asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_000_000);

    fn asked(seconds: u64) -> Asked {
        Asked { time: AT.plus(Duration::from_secs(seconds)), ..Asked::default() }
    }

    #[test]
    fn a_round_ends_with_a_pass_or_with_its_schedule() {
        use VerificationState::{Failed, Passed, Pending};
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
        let mut it = Verification::begin(AT);
        assert_eq!((it.state(), it.due()), (Pending, Some(AT)));
        it.fail(asked(1), Some(second * 5));
        assert_eq!((it.state(), it.attempts, it.next), (Pending, 1, Some(asked(6).time)));
        it.pass(asked(7), Some(day));
        let next = asked(7).time.plus(day);
        assert_eq!((it.state(), it.attempts, it.next), (Passed, 0, Some(next)));
        assert_eq!((it.begun, it.passed_time), (next, Some(asked(7).time)));
        // What has passed stays so while there are askings left.
        it.fail(asked(8), Some(second));
        assert_eq!(it.state(), Passed);
        it.fail(asked(9), None);
        assert_eq!((it.state(), it.attempts, it.next), (Failed, 2, None));
        it.ask_again(asked(9).time);
        let apart = asked(9).time.plus(APART);
        assert_eq!((it.state(), it.attempts, it.next), (Pending, 0, Some(apart)));
        it.pass(asked(10), None);
        assert_eq!((it.state(), it.next), (Passed, None));
    }

    #[test]
    fn what_is_our_fault_counts_for_nothing() {
        let mut it = Verification::begin(AT);
        it.pass(asked(1), Some(Duration::from_secs(60)));
        for second in 2..100 {
            it.hold(asked(second), Duration::from_secs(1));
        }
        assert_eq!((it.state(), it.attempts), (VerificationState::Passed, 0));
        assert_eq!((it.next, it.last), (Some(asked(100).time), Some(asked(99))));
    }

    #[test]
    fn one_asks_at_a_time() {
        let mut it = Verification::begin(AT);
        let until = AT.plus(Duration::from_secs(30));
        it.turn = Some(Turn { node: "nodes/n".into(), id: "t".into(), until });
        assert_eq!(it.due(), Some(until));
        // Who asks goes on when it is asked again meanwhile.
        it.ask_again(AT);
        assert_eq!(it.due(), Some(until));
    }

    #[test]
    fn a_document_of_the_past_can_be_read() {
        let least = format!("{{\"begun\":{}}}", serde_json::to_string(&AT).unwrap());
        let read: Verification = serde_json::from_str(&least).unwrap();
        assert_eq!(read, Verification { next: None, ..Verification::begin(AT) });
        let mut it = Verification::begin(AT);
        it.fail(Asked { class: "DNS".into(), step: 1, ..asked(1) }, None);
        let text = serde_json::to_string(&it).unwrap();
        assert_eq!(serde_json::from_str::<Verification>(&text).unwrap(), it);
    }
}
