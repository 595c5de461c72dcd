//! Test sends: one attempt of one event to one subscription, at the wish of the control plane.
//!
//! A test send is handed to any node through the store and woken for through the queue's bell, as
//! an event is, but it is no event: it has no lease, counts nowhere and leaves no history. Whoever
//! asks waits for the answer, so a request and its answer live only as long as the asking: what
//! nobody took in time lapses, and what nobody waits for any more is dropped. A taken one is never
//! handed out again: a test whose node dies is told as not settled, and sent at most once.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pregon_core::event::Event;
use pregon_core::id::{LaneNo, NodeId};
use pregon_core::trace::TraceContext;

use crate::StoreError;

/// Test sends that one process may have under way, and as many may wait in a store: a person asks
/// for one now and then, and each may hold an event of 1 MiB.
pub const TESTS_MAX: usize = 256;
/// Test sends that one call hands out: a node attempts each at once.
pub const TAKE_TESTS_MAX: usize = 16;
/// Bytes of an answer: an event of 1 MiB as rendered, and what came back.
pub const TEST_RESULT_MAX: usize = 1536 * 1024;
/// The longest that anybody waits for a test send; longer wishes are cut to it.
pub const TEST_WITHIN_MAX: Duration = Duration::from_secs(300);

/// One attempt of one event to one subscription, outside of lanes, counters and history.
#[derive(Clone, PartialEq, Eq)]
pub struct TestSend {
    /// The subscription's lane.
    pub lane: LaneNo,
    /// What is sent. Its position names no stored event: the present, partition 0, number 0.
    pub event: Event,
    /// Configuration that the node must serve before it renders; 0: any.
    pub min_revision: i64,
    /// How long the attempt may take in all.
    pub timeout: Duration,
    /// The trace of the call that asked.
    pub trace: Option<TraceContext>,
}

impl fmt::Debug for TestSend {
    /// Not the event's data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestSend")
            .field("lane", &self.lane)
            .field("event", &self.event.name())
            .field("min_revision", &self.min_revision)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The name of one test send, unique for ever: 128 random bits, in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u128);

impl Ticket {
    /// One that nobody else has.
    pub(crate) fn random() -> Result<Self, StoreError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| {
            StoreError::Unavailable(format!("the system gives no random bits: {error}"))
        })?;
        Ok(Self(u128::from_le_bytes(bytes)))
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A text that is no ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a ticket must be 32 of 0-9 a-f")]
pub struct NoTicket;

impl FromStr for Ticket {
    type Err = NoTicket;

    fn from_str(text: &str) -> Result<Self, NoTicket> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = u128::from_str_radix(text, 16);
        number.ok().filter(|_| digits && text.len() == 32).map(Self).ok_or(NoTicket)
    }
}

/// A test send that a node took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenTest {
    /// Under which it is answered.
    pub ticket: Ticket,
    /// What is to be sent.
    pub test: TestSend,
    /// How long somebody still waits for the answer.
    pub waits_for: Duration,
}

/// What became of a test send.
#[derive(Clone, PartialEq, Eq)]
pub enum Tested {
    /// The node's answer, as it gave it: the node writes it and the control plane reads it.
    Done(Bytes),
    /// No node took it in time; none will.
    NotTaken,
    /// A node took it and did not answer in time. It may have been sent.
    NotSettled,
}

impl fmt::Debug for Tested {
    /// Of an answer only how long it is: it holds event data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tested::Done(answer) => write!(f, "Done({} bytes)", answer.len()),
            Tested::NotTaken => f.write_str("NotTaken"),
            Tested::NotSettled => f.write_str("NotSettled"),
        }
    }
}

/// Test sends, from whoever asks to a node and back.
#[async_trait]
pub trait TestSends: Send + Sync {
    /// Hands a test send over, rings for the nodes that [`Work::wait`](crate::Work::wait), and
    /// waits: `take_within` for a node to take it, `within` for its answer, both from now and at
    /// most [`TEST_WITHIN_MAX`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`] when [`TESTS_MAX`] are under way: nothing was handed over.
    async fn send_test(
        &self,
        test: TestSend,
        take_within: Duration,
        within: Duration,
    ) -> Result<Tested, StoreError>;

    /// Takes up to `want` and [`TAKE_TESTS_MAX`] test sends, oldest first. Each goes to one taker
    /// once, and none whose time is over. Rings when more are left.
    async fn take_tests(&self, node: &NodeId, want: usize) -> Result<Vec<TakenTest>, StoreError>;

    /// Answers a test send. Of two answers the first counts; one that nobody waits for any more is
    /// dropped.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`] for an answer of more than [`TEST_RESULT_MAX`] bytes.
    async fn settle_test(&self, ticket: &Ticket, result: Bytes) -> Result<(), StoreError>;
}

/// Whether an answer is as short as it must be.
pub(crate) fn check_result(result: &Bytes) -> Result<(), StoreError> {
    if result.len() > TEST_RESULT_MAX {
        let text = format!(
            "the answer to a test send has {} bytes, {TEST_RESULT_MAX} at most",
            result.len()
        );
        return Err(StoreError::Full(text));
    }
    Ok(())
}

/// The refusal of one more than there may be.
pub(crate) fn too_many() -> StoreError {
    StoreError::Full(format!("{TESTS_MAX} test sends are under way, which is the most"))
}

/// Both times as they are kept to: neither longer than may be, and taking within the whole.
pub(crate) fn times(take_within: Duration, within: Duration) -> (Duration, Duration) {
    let within = within.min(TEST_WITHIN_MAX);
    (take_within.min(within), within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_come_back_from_their_text() {
        let ticket = Ticket::random().unwrap();
        assert_eq!(ticket.to_string().parse(), Ok(ticket));
        assert_eq!(Ticket(7).to_string().len(), 32);
        assert_ne!(Ticket::random().unwrap(), ticket);
        for text in ["", "7", "+0000000000000000000000000000007", &"A".repeat(32), &"0".repeat(33)]
        {
            assert_eq!(text.parse::<Ticket>(), Err(NoTicket), "{text}");
        }
    }

    #[test]
    fn taking_ends_within_the_whole() {
        let second = Duration::from_secs(1);
        assert_eq!(times(second * 5, second * 2), (second * 2, second * 2));
        assert_eq!(times(second, second * 9999), (second, TEST_WITHIN_MAX));
    }
}
