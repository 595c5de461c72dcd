//! PublishBatch: many events, each on its own, in few calls to the store.

use pregon_core::error::{Refusal, Rule};
use pregon_core::event::NewEvent;
use pregon_core::limits;
use pregon_proto::v1;
use pregon_proto::v1::publish_batch_result::Outcome;
use pregon_store::intake::Published;
use prost::Message;

use super::Inner;
use super::parse::{Origin, parse};
use super::reply::{Facts, wire_status};

/// Requests checked between two moments at which others may run.
const SLICE: usize = 256;
/// Statuses with all their details, together: clients read answers of 4 MiB. Above, wrong fields
/// are not told.
const STATUS_BYTES: usize = 2 * 1024 * 1024;

/// One request of the batch on its way.
enum Slot {
    /// Its result is known.
    Done(Result<v1::PublishResponse, Refusal>),
    /// Its event is among those to be stored.
    Sent(Facts),
}

/// Publishes the requests; fails as a whole only when nothing was stored.
pub(super) async fn publish(
    inner: &Inner,
    requests: Vec<v1::PublishRequest>,
    from: Origin<'_>,
) -> Result<v1::PublishBatchResponse, Refusal> {
    match requests.len() {
        0 => return Err(Refusal::field("requests", Rule::Required, "must hold 1 to 1000")),
        1..=limits::PUBLISH_BATCH => {}
        many => {
            let text = format!("holds {many}, may hold {} at most", limits::PUBLISH_BATCH);
            return Err(Refusal::field("requests", Rule::TooMany, text));
        }
    }
    let (slots, events) = admit(inner, requests, from).await?;
    let stored = inner.publisher.publish_all(events).await?;
    if !stored.is_empty() && stored.iter().all(Result::is_err) {
        // The store took nothing, as far as anybody knows: a repeat asks for all of it again.
        return Err(stored.into_iter().find_map(Result::err).unwrap_or_else(super::draining));
    }
    Ok(v1::PublishBatchResponse { results: results(inner, slots, stored) })
}

/// Checks every request; the events of those that are let in, in order.
async fn admit(
    inner: &Inner,
    requests: Vec<v1::PublishRequest>,
    from: Origin<'_>,
) -> Result<(Vec<Slot>, Vec<NewEvent>), Refusal> {
    let snapshot = inner.snapshot()?;
    let mut fresh = None;
    let mut slots = Vec::with_capacity(requests.len());
    let mut events = Vec::with_capacity(requests.len());
    for (index, request) in requests.into_iter().enumerate() {
        if index % SLICE == SLICE - 1 {
            tokio::task::yield_now().await;
        }
        let mut parsed = match parse(
            request,
            from,
            inner.max_event_bytes,
            &snapshot,
            inner.admission.clock.now(),
        ) {
            Ok(parsed) => parsed,
            Err(refusal) => {
                slots.push(Slot::Done(Err(refusal)));
                continue;
            }
        };
        slots.push(match inner.admission.admit(&snapshot, &mut parsed, &mut fresh).await {
            Err(refusal) => {
                from.note(&refusal, &parsed.event.tenant.name());
                Slot::Done(Err(refusal))
            }
            Ok(revision) => {
                let facts = Facts::of(&inner.telemetry, &mut parsed.event, revision);
                if parsed.validate_only {
                    Slot::Done(Ok(facts.validated()))
                } else {
                    events.push(parsed.event);
                    Slot::Sent(facts)
                }
            }
        });
    }
    Ok((slots, events))
}

/// One result for each slot, with the store's answers in their places.
fn results(
    inner: &Inner,
    slots: Vec<Slot>,
    stored: Vec<Result<Published, Refusal>>,
) -> Vec<v1::PublishBatchResult> {
    let durability = inner.publisher.intake().durability();
    let mut stored = stored.into_iter();
    let mut status_bytes = 0;
    let result = |slot| {
        let done = match slot {
            Slot::Done(done) => done,
            Slot::Sent(facts) => match stored.next() {
                Some(answer) => facts.response(answer, durability),
                None => Err(super::draining()), // there is one for each
            },
        };
        let outcome = match done {
            Ok(response) => Outcome::Result(response),
            Err(refusal) => {
                let mut refusal = inner.refused(refusal);
                if status_bytes > STATUS_BYTES {
                    refusal.violations.clear();
                }
                let status = wire_status(refusal);
                status_bytes += status.encoded_len();
                Outcome::Status(status)
            }
        };
        v1::PublishBatchResult { outcome: Some(outcome) }
    };
    slots.into_iter().map(result).collect()
}
