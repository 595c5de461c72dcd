//! Test sends through Redis: requests in a list, each answer in a list of its own.
//!
//! All keys lie in partition 0, so that a request and the ring for it are one step. Taking is one
//! script under an operation's sequence: it pops tickets and marks them as taken, and what it was
//! answered is answered again to a repeat; so a test goes to one node, once. The mark is also what
//! tells "nobody took it" from "nobody answered": who asks withdraws the request in one step that
//! sees the mark.
//!
//! Who asks waits on a connection of its own, for a blocked one holds up what follows. It waits
//! with `BLMOVE` of the answer's list onto itself: that leaves the answer where it is, so an answer
//! whose reply is lost is read again. Every key expires: a minute after the wait at the latest.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pregon_core::id::NodeId;
use redis::Cmd;
use tokio::time::{Instant, sleep};

use crate::StoreError;
use crate::redis::engine::Engine;
use crate::redis::engine::args::Args;
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::link::Link;
use crate::redis::engine::partition::{Kind, Partition};
use crate::redis::engine::steps::STEPS;
use crate::redis::engine::value;
use crate::redis::handle::Handle;
use crate::redis::layout::keys::Key;
use crate::redis::layout::test_send as written;
use crate::test_send::{
    self, TAKE_TESTS_MAX, TESTS_MAX, TakenTest, TestSend, TestSends, Tested, Ticket,
};

/// How long keys outlive their use: longer than any copy of a call lies about.
const KEPT: Duration = Duration::from_secs(60);
/// Pause after a wait that failed.
const PAUSE: Duration = Duration::from_millis(100);

#[async_trait]
impl TestSends for Handle {
    async fn send_test(
        &self,
        test: TestSend,
        take_within: Duration,
        within: Duration,
    ) -> std::result::Result<Tested, StoreError> {
        let (take_within, within) = test_send::times(take_within, within);
        let _one = self.engine.tests.try_acquire().map_err(|_| test_send::too_many())?;
        let engine = Arc::clone(&self.engine);
        let mut sent = Sent { engine, ticket: Ticket::random()?, over: false };
        let until = Instant::now() + within;
        if !sent.hand_over(&test, take_within, within).await? {
            sent.over = true;
            return Err(test_send::too_many());
        }
        // The store's own deadline began before this one: nobody takes it later.
        let take_until = Instant::now() + take_within;
        Ok(sent.wait(take_until.min(until), until).await?)
    }

    async fn take_tests(
        &self,
        node: &NodeId,
        want: usize,
    ) -> std::result::Result<Vec<TakenTest>, StoreError> {
        let partition = self.engine.partition(0)?;
        Ok(take(&self.engine, partition, node, want.min(TAKE_TESTS_MAX)).await?)
    }

    async fn settle_test(
        &self,
        ticket: &Ticket,
        result: Bytes,
    ) -> std::result::Result<(), StoreError> {
        test_send::check_result(&result)?;
        let partition = self.engine.partition(0)?;
        let mut args = Args::default().text(ticket);
        args.push_bytes(result.into());
        let args = args.millis(KEPT);
        let waited: bool = self.engine.step(partition, &STEPS.settle_test, args).await?;
        if !waited {
            tracing::debug!("nobody waits for the answer to a test send any more");
        }
        Ok(())
    }
}

/// A test send that was handed over, or is about to be.
struct Sent {
    engine: Arc<Engine>,
    ticket: Ticket,
    /// Nothing of it is left, or it was withdrawn.
    over: bool,
}

impl Drop for Sent {
    /// Who asked goes before the end: nobody should take it any more. If that cannot be said, it
    /// expires.
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.over {
            let mut sent =
                Self { engine: Arc::clone(&self.engine), ticket: self.ticket, over: true };
            runtime.spawn(async move { sent.withdraw(true).await });
        }
    }
}

impl Sent {
    fn partition(&self) -> Result<&Partition> {
        let first = self.engine.partitions.first();
        first.ok_or_else(|| bad("partitions", self.engine.partitions.len()))
    }

    /// False: too many wait.
    async fn hand_over(
        &self,
        test: &TestSend,
        take_within: Duration,
        within: Duration,
    ) -> Result<bool> {
        let mut args = Args::default().text(self.ticket);
        args.push_bytes(written::encode(test)?);
        let args = args.millis(take_within).millis(within).text(TESTS_MAX).millis(KEPT);
        self.engine.step(self.partition()?, &STEPS.send_test, args).await
    }

    async fn wait(&mut self, take_until: Instant, until: Instant) -> Result<Tested> {
        let link = self.engine.main.another()?;
        let mut answer = self.answer(&link, take_until).await?;
        if answer.is_none() {
            if !self.withdraw(false).await? {
                return Ok(Tested::NotTaken);
            }
            answer = self.answer(&link, until).await?;
        }
        match (answer, self.withdraw(true).await) {
            (Some(answer), Ok(_)) => Ok(Tested::Done(answer)),
            (Some(answer), Err(fault)) => {
                tracing::debug!(?fault, "what is left of a test send is left to expire");
                Ok(Tested::Done(answer))
            }
            (None, Ok(_)) => Ok(Tested::NotSettled),
            (None, Err(fault)) => Err(fault),
        }
    }

    /// The answer, if it comes in time.
    async fn answer(&self, link: &Link, until: Instant) -> Result<Option<Bytes>> {
        let key = self.partition()?.keys.key(Key::Answer(self.ticket));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            match link.block(&look(&key, left), left).await.and_then(value::bytes) {
                Ok(Some(answer)) => return Ok(Some(answer)),
                Ok(None) => {}
                Err(fault) if fault.is_passing() => sleep(PAUSE.min(left)).await,
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Ends it, unless it was taken or this is the end `anyway`; says whether it was taken.
    async fn withdraw(&mut self, anyway: bool) -> Result<bool> {
        let args = Args::default().text(self.ticket).text(u8::from(anyway)).millis(KEPT);
        let taken: bool = self.engine.step(self.partition()?, &STEPS.withdraw_test, args).await?;
        self.over = anyway || !taken;
        Ok(taken)
    }
}

/// Waits for an element of a list and leaves it there.
fn look(key: &str, at_most: Duration) -> Cmd {
    let mut cmd = redis::cmd("BLMOVE");
    // 0 would be for ever.
    cmd.arg(key).arg(key).arg("LEFT").arg("LEFT").arg(at_most.as_secs_f64().max(0.001));
    cmd
}

/// Takes test sends. A look at none runs no script.
async fn take(
    engine: &Engine,
    partition: &Partition,
    node: &NodeId,
    want: usize,
) -> Result<Vec<TakenTest>> {
    let tests = partition.keys.key(Key::Tests);
    if want == 0 {
        return Ok(Vec::new());
    }
    let none = value::count(engine.main.query(redis::cmd("LLEN").arg(tests)).await?)? == 0;
    if none && !partition.operations(Kind::TakeTests).await.owe() {
        return Ok(Vec::new());
    }
    let args = Args::default().text(node).text(want);
    let token = engine.new_token(partition.no);
    let claimed = engine.claim(partition, Kind::TakeTests, &STEPS.take_tests, token, args).await?;
    let taken: Vec<String> = claimed.answer;
    let (mut names, mut pipeline) = (Vec::new(), redis::pipe());
    for pair in taken.chunks_exact(2) {
        let ticket: Ticket = pair[0].parse().map_err(|_| bad("a ticket", &pair[0]))?;
        let left = pair[1].parse().map_err(|_| bad("a time", &pair[1]))?;
        names.push((ticket, Duration::from_millis(left)));
        pipeline.cmd("HGET").arg(partition.keys.key(Key::Test(ticket))).arg("p");
    }
    let requests = engine.main.pipeline(&pipeline).await?;
    let mut tests = Vec::with_capacity(names.len());
    for ((ticket, waits_for), request) in names.into_iter().zip(requests) {
        // None: it was withdrawn since, and nobody waits.
        let Some(request) = value::bytes(request)? else { continue };
        match written::decode(&request) {
            Some(test) => tests.push(TakenTest { ticket, test, waits_for }),
            None => tracing::warn!("a test send is in a form that this release does not know"),
        }
    }
    Ok(tests)
}
