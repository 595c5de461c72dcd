//! Confirmations: what a write waits for after it ran, until its disk or its replicas have it.
//!
//! A file that is synced once a second can confirm once a second. So there is one confirmation at a
//! time, and it is for all writes that ran before it. It has a connection of its own, because it
//! holds up what follows it. `WAITAOF` and `WAIT` speak of what their own connection wrote, so a
//! small write goes before them: what covers it covers all that ran earlier.
//!
//! Redis may have been started again since a write ran, or be another one by now, and then a
//! confirmation would be of something else. So each write is looked for first, on that connection.

use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use crate::redis::engine::fault::{Fault, Result, bad};
use crate::redis::engine::link::Link;
use crate::redis::engine::value;
use crate::redis::layout::keys::ConfigKey;
use crate::redis::layout::token::Answered;

/// How long a write may wait for its disk: two syncs of a second each, and what they take.
const DISK_WAIT: Duration = Duration::from_millis(3_000);
/// How long it may wait for its replicas.
const REPLICAS_WAIT: Duration = Duration::from_millis(1_000);
/// What the answer may take beside that.
const ANSWER: Duration = Duration::from_secs(1);
/// Writes that may wait to be confirmed; their callers wait above it.
const WAITING: usize = 1024;
/// A confirmation that took so long waited for a sync of a second.
const SLOW: Duration = Duration::from_millis(200);
/// After a slow one, how long the next waits for more writes. A sync begins a second after the
/// last, so it comes no later for that.
const GATHER: Duration = Duration::from_millis(150);
/// The small write. It runs when Redis is out of memory, for what it confirms ran already.
const TOUCH: &str = "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], '', 'PX', 60000)";

/// What a write waits for after it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::redis) enum Confirm {
    /// Nothing: the reply is enough.
    Nothing,
    /// The server's own disk.
    Disk,
    /// So many replicas.
    Replicas(u32),
}

impl Confirm {
    /// How long it may take.
    pub fn wait(self) -> Duration {
        match self {
            Confirm::Nothing => Duration::ZERO,
            Confirm::Disk => DISK_WAIT,
            Confirm::Replicas(_) => REPLICAS_WAIT,
        }
    }

    /// Reads the answer. Too few: the writes are there, but not at their level.
    fn reached(self, answer: Value) -> Result<()> {
        let answer = answer.extract_error()?;
        let (reached, wanted) = match (self, answer) {
            (Confirm::Nothing, _) => return Ok(()),
            (Confirm::Replicas(wanted), Value::Int(reached)) => (reached, wanted),
            (Confirm::Disk, Value::Array(counts)) => match counts.first() {
                Some(Value::Int(reached)) => (*reached, 1),
                _ => (0, 1),
            },
            (Confirm::Disk | Confirm::Replicas(_), _) => (0, 1),
        };
        if reached >= i64::from(wanted) {
            return Ok(());
        }
        let who = if self == Confirm::Disk { "disks" } else { "replicas" };
        let text = format!("written, but {reached} of {wanted} {who} confirmed it in time");
        Err(Fault::Silent(text))
    }

    /// Confirms what ran before; whether each of these is there.
    pub async fn all(self, link: &Link, proofs: &[&Proof]) -> Result<Vec<bool>> {
        let mut pipeline = Pipeline::with_capacity(proofs.len() + 2);
        proofs.iter().for_each(|proof| proof.look(&mut pipeline));
        pipeline.cmd("EVAL").arg(TOUCH).arg(1).arg(ConfigKey::Sure.to_string());
        let millis = u64::try_from(self.wait().as_millis()).unwrap_or(u64::MAX);
        match self {
            Confirm::Nothing => return Ok(vec![true; proofs.len()]),
            Confirm::Disk => pipeline.cmd("WAITAOF").arg(1).arg(0).arg(millis),
            Confirm::Replicas(count) => pipeline.cmd("WAIT").arg(count).arg(millis),
        };
        let mut answers = link.patiently(&pipeline, self.wait() + ANSWER).await?;
        let (sure, touched) = (answers.pop(), answers.pop());
        touched.ok_or_else(|| bad("so many answers:", 0))?.extract_error()?;
        self.reached(sure.unwrap_or(Value::Nil))?;
        proofs.iter().zip(answers).map(|(proof, found)| proof.holds(found)).collect()
    }
}

/// By what a write is known to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) enum Proof {
    /// This key exists.
    Key(String),
    /// This field begins with the number of an operation, this one or a later.
    Operation {
        /// The hash.
        key: String,
        /// The field.
        field: String,
        /// The operation's sequence.
        sequence: u64,
    },
}

impl Proof {
    fn look(&self, pipeline: &mut Pipeline) {
        match self {
            Proof::Key(key) => pipeline.cmd("EXISTS").arg(key),
            Proof::Operation { key, field, .. } => pipeline.cmd("HGET").arg(key).arg(field),
        };
    }

    fn holds(&self, found: Value) -> Result<bool> {
        match self {
            Proof::Key(_) => Ok(value::count(found)? > 0),
            Proof::Operation { sequence, .. } => {
                let known: Option<Answered> = value::stored(found)?;
                Ok(known.is_some_and(|known| known.sequence >= *sequence))
            }
        }
    }
}

/// A write that waits.
struct Ask {
    proof: Proof,
    done: oneshot::Sender<Result<()>>,
}

/// Confirms writes.
#[derive(Clone, Debug)]
pub(in crate::redis) struct Confirmer(Option<mpsc::Sender<Ask>>);

impl Confirmer {
    /// Over a connection that nobody else uses. It ends with its last handle.
    pub fn start(link: Link, confirm: Confirm) -> Self {
        if confirm == Confirm::Nothing {
            return Self(None);
        }
        let (asks, waiting) = mpsc::channel(WAITING);
        tokio::spawn(run(link, confirm, waiting));
        Self(Some(asks))
    }

    /// Returns when a write that ran is at its level.
    pub async fn confirm(&self, proof: Proof) -> Result<()> {
        let Some(asks) = &self.0 else { return Ok(()) };
        let (done, answer) = oneshot::channel();
        let ended = || Fault::Silent("written, but not confirmed: the store is closed".to_owned());
        asks.send(Ask { proof, done }).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

async fn run(link: Link, confirm: Confirm, mut asks: mpsc::Receiver<Ask>) {
    let (mut asked, mut slow) = (Vec::new(), false);
    while asks.recv_many(&mut asked, WAITING).await > 0 {
        if slow {
            sleep(GATHER).await;
            while let Ok(ask) = asks.try_recv() {
                asked.push(ask);
            }
        }
        asked.retain(|ask| !ask.done.is_closed());
        if asked.is_empty() {
            continue;
        }
        let began = Instant::now();
        let proofs: Vec<&Proof> = asked.iter().map(|ask| &ask.proof).collect();
        let answer = confirm.all(&link, &proofs).await;
        slow = began.elapsed() >= SLOW;
        match answer {
            Ok(there) => {
                for (ask, there) in asked.drain(..).zip(there) {
                    let lost = || Fault::Silent("Redis lost it before it was confirmed".to_owned());
                    let _ = ask.done.send(if there { Ok(()) } else { Err(lost()) });
                }
            }
            Err(fault) => {
                for ask in asked.drain(..) {
                    let _ = ask.done.send(Err(fault.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_confirmations_leave_the_outcome_unknown() {
        let replicas = Confirm::Replicas(2);
        assert_eq!(replicas.reached(Value::Int(2)), Ok(()));
        assert!(matches!(replicas.reached(Value::Int(1)), Err(Fault::Silent(_))));
        let counts = |local| Value::Array(vec![Value::Int(local), Value::Int(0)]);
        assert_eq!(Confirm::Disk.reached(counts(1)), Ok(()));
        assert!(matches!(Confirm::Disk.reached(counts(0)), Err(Fault::Silent(_))));
    }

    #[test]
    fn a_write_is_known_by_its_own_operation_or_a_later() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let of = |sequence| Proof::Operation { key: "k".into(), field: "f".into(), sequence };
        assert_eq!(of(7).holds(text("7 100 answer")), Ok(true));
        assert_eq!(of(7).holds(text("8 100 answer")), Ok(true));
        assert_eq!(of(7).holds(text("6 100 answer")), Ok(false), "it was lost");
        assert_eq!(of(7).holds(Value::Nil), Ok(false), "all was lost");
        assert_eq!(Proof::Key("k".into()).holds(Value::Int(1)), Ok(true));
        assert_eq!(Proof::Key("k".into()).holds(Value::Int(0)), Ok(false));
    }
}
