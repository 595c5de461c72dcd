//! PublishStream: events one after the other, acknowledged in their order.
//!
//! Two halves in one task. One reads, checks and puts events into the publisher's queue; the other
//! waits for the oldest answer and sends it with all that are there behind it. The window between
//! them is what is not acknowledged yet; when it is full, nothing is read, and HTTP/2 makes the
//! client wait.

use pregon_core::error::{Refusal, Rule};
use pregon_core::limits;
use pregon_proto::v1;
use pregon_proto::v1::publish_ack::Outcome;
use pregon_rpc::status::status;
use tokio::sync::{Semaphore, mpsc};
use tonic::{Status, Streaming};

use super::Inner;
use super::parse::{Origin, parse};
use super::publisher::Ticket;
use super::reply::{Facts, wire_status};

/// Acknowledgements in one message: with a status of 6 KiB each they stay below what clients read.
const ACKS: usize = 256;

/// What the stream is answered with.
type Answer = Result<v1::PublishStreamResponse, Status>;

/// A request that was read.
struct Pending {
    sequence: i64,
    state: State,
}

enum State {
    Done(Result<v1::PublishResponse, Refusal>),
    Stored(Ticket, Facts),
}

/// Serves one stream to its end.
pub(super) async fn serve(
    inner: &Inner,
    requests: Streaming<v1::PublishStreamRequest>,
    from: Origin<'_>,
    answers: mpsc::Sender<Answer>,
) {
    let window = Semaphore::new(limits::PUBLISH_STREAM_WINDOW);
    let (pending, unacknowledged) = mpsc::channel(limits::PUBLISH_STREAM_WINDOW);
    let reader = Reader { inner, from, window: &window, pending };
    let (end, ()) = tokio::join!(
        reader.read(requests, &answers),
        acknowledge(unacknowledged, &window, &answers, inner)
    );
    if let Err(status) = end {
        // The client may be gone, and then needs no farewell.
        let _ = answers.send(Err(status)).await;
    }
}

struct Reader<'a> {
    inner: &'a Inner,
    from: Origin<'a>,
    window: &'a Semaphore,
    pending: mpsc::Sender<Pending>,
}

impl Reader<'_> {
    /// Reads until the client ends, the node drains, or a message is out of order.
    async fn read(
        self,
        mut requests: Streaming<v1::PublishStreamRequest>,
        answers: &mpsc::Sender<Answer>,
    ) -> Result<(), Status> {
        let (draining, gone) = (self.inner.draining.cancelled(), answers.closed());
        tokio::pin!(draining, gone);
        let mut last = 0;
        loop {
            let next = async {
                let Ok(permit) = self.window.acquire().await else { return Ok(None) };
                permit.forget(); // given back with the acknowledgement
                requests.message().await
            };
            let message = tokio::select! {
                message = next => message?,
                () = &mut draining => return Err(status(super::draining())),
                () = &mut gone => return Ok(()),
            };
            let Some(message) = message else { return Ok(()) };
            if message.sequence <= last {
                let text = format!("is {}, must be above {last}", message.sequence);
                return Err(status(Refusal::field("sequence", Rule::OutOfRange, text)));
            }
            last = message.sequence;
            let state = self.take(message.request).await;
            if self.pending.send(Pending { sequence: last, state }).await.is_err() {
                return Ok(()); // nobody reads acknowledgements any more
            }
        }
    }

    async fn take(&self, request: Option<v1::PublishRequest>) -> State {
        match self.put(request).await {
            Ok(state) => state,
            Err(refusal) => State::Done(Err(refusal)),
        }
    }

    /// Checks a request and puts its event into the queue.
    async fn put(&self, request: Option<v1::PublishRequest>) -> Result<State, Refusal> {
        let inner = self.inner;
        let request =
            request.ok_or_else(|| Refusal::field("request", Rule::Required, "must be set"))?;
        let snapshot = inner.snapshot()?;
        let mut parsed = parse(
            request,
            self.from,
            inner.max_event_bytes,
            &snapshot,
            inner.admission.clock.now(),
        )?;
        let admitted = inner.admission.admit(&snapshot, &mut parsed, &mut None).await;
        let note = |refusal: &Refusal| self.from.note(refusal, &parsed.event.tenant.name());
        let revision = admitted.inspect_err(note)?;
        let facts = Facts::of(&inner.telemetry, &mut parsed.event, revision);
        if parsed.validate_only {
            return Ok(State::Done(Ok(facts.validated())));
        }
        let ticket = inner.publisher.enqueue_in_turn(parsed.event).await?;
        Ok(State::Stored(ticket, facts))
    }
}

/// Sends acknowledgements in order, as many at a time as there are.
async fn acknowledge(
    mut pending: mpsc::Receiver<Pending>,
    window: &Semaphore,
    answers: &mpsc::Sender<Answer>,
    inner: &Inner,
) {
    let mut next = pending.recv().await;
    while let Some(oldest) = next.take() {
        let mut acks = vec![oldest.wait(inner).await];
        while acks.len() < ACKS {
            let Ok(following) = pending.try_recv() else { break };
            match following.poll(inner) {
                Ok(ack) => acks.push(ack),
                Err(waits) => {
                    next = Some(waits);
                    break;
                }
            }
        }
        let count = acks.len();
        if answers.send(Ok(v1::PublishStreamResponse { acks })).await.is_err() {
            return;
        }
        window.add_permits(count);
        if next.is_none() {
            next = pending.recv().await;
        }
    }
}

impl Pending {
    /// The acknowledgement, when there is one.
    async fn wait(self, inner: &Inner) -> v1::PublishAck {
        let durability = inner.publisher.intake().durability();
        let done = match self.state {
            State::Done(done) => done,
            State::Stored(ticket, facts) => facts.response(ticket.answer().await, durability),
        };
        acknowledgement(self.sequence, done, inner)
    }

    /// The acknowledgement, if there is one already.
    fn poll(self, inner: &Inner) -> Result<v1::PublishAck, Self> {
        let (sequence, durability) = (self.sequence, inner.publisher.intake().durability());
        match self.state {
            State::Done(done) => Ok(acknowledgement(sequence, done, inner)),
            State::Stored(mut ticket, facts) => match ticket.poll() {
                Some(answer) => {
                    Ok(acknowledgement(sequence, facts.response(answer, durability), inner))
                }
                None => Err(Self { sequence, state: State::Stored(ticket, facts) }),
            },
        }
    }
}

fn acknowledgement(
    sequence: i64,
    done: Result<v1::PublishResponse, Refusal>,
    inner: &Inner,
) -> v1::PublishAck {
    let outcome = match done {
        Ok(response) => Outcome::Result(response),
        Err(refusal) => Outcome::Status(wire_status(inner.refused(refusal))),
    };
    v1::PublishAck { sequence, outcome: Some(outcome) }
}
