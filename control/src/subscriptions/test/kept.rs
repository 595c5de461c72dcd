//! Tests that may be asked for twice: their answers, kept in memory for a day.
//!
//! Nothing of a test is stored, so a repeat is known by the control plane only that took the first.
//! One that comes while the first is under way waits for its answer; a test that was refused is
//! forgotten, and its repeat is made anew.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use pregon_core::clock::Timestamp;
use pregon_core::error::Refusal;
use pregon_core::limits;
use pregon_proto::v1::TestSubscriptionResponse;
use prost::Message as _;
use tokio::sync::OnceCell;

use crate::repeat::{self, Repeat};

/// Tests that are kept.
const KEPT: usize = 256;
/// Bytes of their answers: events of 1 MiB are in some, twice.
const BYTES: usize = 32 * 1024 * 1024;

/// The answer to a test, once there is one.
type Answer = Arc<OnceCell<TestSubscriptionResponse>>;

#[derive(Debug)]
struct Kept {
    repeat: Repeat,
    noted: Timestamp,
    answer: Answer,
}

/// Tests, the oldest forgotten first.
#[derive(Debug, Default)]
pub(crate) struct Tests(Mutex<VecDeque<Kept>>);

impl Tests {
    /// The place of a test's answer; refuses an id that was used for another one.
    pub(super) fn place(&self, repeat: &Repeat, now: Timestamp) -> Result<Answer, Refusal> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|it| now.since(it.noted) < limits::REQUEST_ID_KEPT);
        match kept.iter().find(|it| it.repeat.id == repeat.id) {
            Some(it) if it.repeat.digest == repeat.digest => Ok(Arc::clone(&it.answer)),
            Some(_) => Err(repeat::reused()),
            None => {
                let answer = Answer::default();
                kept.push_back(Kept { repeat: *repeat, noted: now, answer: Arc::clone(&answer) });
                trim(&mut kept);
                Ok(answer)
            }
        }
    }
}

fn trim(kept: &mut VecDeque<Kept>) {
    let size = |it: &Kept| it.answer.get().map_or(0, TestSubscriptionResponse::encoded_len);
    let mut bytes: usize = kept.iter().map(size).sum();
    while kept.len() > KEPT || bytes > BYTES {
        let Some(oldest) = kept.pop_front() else { return };
        bytes = bytes.saturating_sub(size(&oldest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pregon_core::error::Reason;
    use pregon_proto::v1;

    #[tokio::test]
    async fn answers_are_kept_within_bounds() {
        let (tests, now) = (Tests::default(), Timestamp::from_millis(0));
        let repeat = |id: u8| Repeat { id: [id; 16], digest: [1; 16] };
        for id in 0..40 {
            let json = Some(v1::event::Data::Json("x".repeat(1024 * 1024)));
            let event = Some(v1::Event { data: json, ..Default::default() });
            let answer = tests.place(&repeat(id), now).unwrap();
            assert!(answer.get().is_none());
            answer.set(v1::TestSubscriptionResponse { event, ..Default::default() }).unwrap();
        }
        assert!(tests.place(&repeat(39), now).unwrap().get().is_some());
        assert!(tests.place(&repeat(0), now).unwrap().get().is_none(), "it had to go");
        let other = Repeat { digest: [2; 16], ..repeat(39) };
        assert_eq!(tests.place(&other, now).unwrap_err().reason, Reason::RequestIdReused);
        assert!(tests.place(&other, now.plus(limits::REQUEST_ID_KEPT)).is_ok());
    }
}
