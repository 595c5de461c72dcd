//! TestSubscription: one attempt on request, through the store and a node.
//!
//! The control plane opens no connection to a receiver, so a test takes the way of every attempt:
//! a node makes it, and tells how it went. It is in no count and in no list; the whole story is the
//! answer. The time that it may take is spent on waiting for a node, on the attempt, and on the way
//! back; a node that took it and does not answer may have sent it.

use std::time::Duration;

use pregon_core::attempt::AttemptRecord;
use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal, Rule, Violations};
use pregon_core::event::Event;
use pregon_core::id::{DeliveryKey, DeliveryName, EventId, EventTypeId, SubscriptionName};
use pregon_core::limits;
use pregon_core::model::{EventType, Subscription, SubscriptionState};
use pregon_core::outcome::{AttemptOutcome, DeliveryState, EndReason, ErrorClass};
use pregon_proto::v1;
use pregon_proto::v1::test_subscription_request::Sample;
use pregon_rpc::call::current_trace;
use pregon_rpc::caller::Caller;
use pregon_rpc::time;
use pregon_store::StoreError;
use pregon_store::audit::WhenFull;
use pregon_store::test_reply::TestReply;
use pregon_store::test_send::{TestSend, Tested};

use crate::catalog::{Kind as _, Stored};
use crate::commit::How;
use crate::deliveries::{attempt, show};
use crate::given::Given;
use crate::{Control, event_types, map, parse};

pub(crate) use kept::Tests;

mod kept;

/// How long a test waits for a node to take it, where it may last longer.
const TAKE_WITHIN: Duration = Duration::from_secs(5);
/// What is left of the time for the way there and back.
const WAY: Duration = Duration::from_millis(500);

/// What is to be sent.
enum Wanted {
    Example(EventTypeId),
    Given(Given),
}

/// A test, ready to go.
struct Test {
    name: SubscriptionName,
    subscription: Subscription,
    kind: Stored<EventType>,
    event: Event,
    timeout: Duration,
}

impl Control {
    pub(crate) async fn test_subscription(
        &self,
        request: v1::TestSubscriptionRequest,
        caller: &Caller,
    ) -> Result<v1::TestSubscriptionResponse, Refusal> {
        let mut wrong = Violations::new();
        let options = (false, request.request_id.as_str());
        let how = How::parse(caller, "TestSubscription", &request, options, &mut wrong);
        let name = wrong.check("name", SubscriptionName::parse(&request.name));
        let wanted = self.sample(&request, &mut wrong);
        let timeout = match &request.timeout {
            None => Some(limits::TEST_TIMEOUT_DEFAULT),
            Some(given) => {
                wrong.check("timeout", time::parse_duration_within(given, limits::TEST_TIMEOUT))
            }
        };
        let parsed = name.zip(wanted).zip(timeout);
        let ((name, wanted), timeout) = parse::done(wrong, parsed)?;
        let made = async {
            let test = self.test(name, wanted, timeout).await?;
            self.with_entry(&request.name, WhenFull::Refused, self.send(&test)).await
        };
        match &how.repeat {
            None => made.await,
            Some(repeat) => {
                let place = self.tests.place(repeat, self.clock.now())?;
                place.get_or_try_init(|| made).await.cloned()
            }
        }
    }

    fn sample(
        &self,
        request: &v1::TestSubscriptionRequest,
        wrong: &mut Violations,
    ) -> Option<Wanted> {
        match &request.sample {
            Some(Sample::EventType(name)) => {
                wrong.check("event_type", EventTypeId::parse_name(name)).map(Wanted::Example)
            }
            Some(Sample::Event(given)) => {
                Given::parse(given, self.event_data_limit, wrong).map(Wanted::Given)
            }
            None => {
                wrong.add("event_type", Rule::Required, "event_type or event must be set");
                None
            }
        }
    }

    /// Looks up what a test needs, and whether it may be made.
    async fn test(
        &self,
        name: SubscriptionName,
        wanted: Wanted,
        timeout: Duration,
    ) -> Result<Test, Refusal> {
        let subscription = self.fetch::<Subscription>(&name.to_string()).await?.value;
        let (given, kind) = match wanted {
            Wanted::Given(given) => {
                let kind = self.type_of(&given).await?;
                (given, kind)
            }
            Wanted::Example(id) => {
                let kind = self.fetch::<EventType>(&id.name()).await?;
                if kind.value.example.is_empty() {
                    let text = format!("{} has no example: give an event", id.name());
                    return Err(Refusal::field("event_type", Rule::Required, text));
                }
                (Given::example(&kind.value), kind)
            }
        };
        match subscription.state {
            SubscriptionState::PendingApproval
            | SubscriptionState::PendingVerification
            | SubscriptionState::Rejected => {
                let message = format!("{name} is {} and not to be called", subscription.state);
                return Err(
                    Refusal::new(Reason::StateConflict, message).about(Subscription::WORD, name)
                );
            }
            SubscriptionState::Active | SubscriptionState::Paused | SubscriptionState::Disabled => {
            }
        }
        let id = EventId::parse(&self.assign("test_"))
            .map_err(|wrong| Refusal::new(Reason::Internal, wrong.description))?;
        let environment = Some(subscription.environment);
        let event = given.event(&name.tenant, environment, id, self.clock.now());
        let event = Event { trace: current_trace(), ..event };
        Ok(Test { name, subscription, kind, event, timeout })
    }

    async fn send(&self, test: &Test) -> Result<v1::TestSubscriptionResponse, Refusal> {
        let head = self.store.config.head().await?;
        let send = TestSend {
            lane: test.subscription.lane,
            event: test.event.clone(),
            min_revision: head.revision,
            timeout: test.timeout.saturating_sub(WAY),
            trace: current_trace(),
        };
        let take_within = TAKE_WITHIN.min(test.timeout);
        let sent = self.store.tests.send_test(send, take_within, test.timeout);
        let tested = tokio::select! {
            tested = sent => match tested {
                Err(StoreError::Full(_)) => {
                    let refusal = Refusal::new(Reason::LoadShed, "too many tests are under way");
                    return Err(refusal.retry_after(Duration::from_secs(1)));
                }
                tested => tested?,
            },
            () = self.drain.cancelled() => return Err(crate::service::draining()),
        };
        match tested {
            Tested::Done(bytes) => {
                let reply = TestReply::decode(&bytes).ok_or_else(|| {
                    Refusal::new(Reason::Internal, "the node's answer cannot be read")
                })?;
                Ok(answered(test, &reply))
            }
            Tested::NotTaken => {
                let text = "no node took the test in time; nothing was sent";
                Err(Refusal::new(Reason::NoNode, text).retry_after(Duration::from_secs(1)))
            }
            Tested::NotSettled => Ok(unsettled(test)),
        }
    }
}

fn key(test: &Test) -> DeliveryKey {
    DeliveryKey { position: test.event.position, lane: test.subscription.lane, replay: None }
}

fn delivery_name(test: &Test) -> DeliveryName {
    DeliveryName { tenant: test.name.tenant.clone(), delivery: key(test) }
}

/// The answer but for how it went, and when that was known.
fn answer(
    test: &Test,
    ended: Timestamp,
    (state, reason): (DeliveryState, Option<EndReason>),
    attempt: v1::Attempt,
) -> v1::TestSubscriptionResponse {
    let name = delivery_name(test);
    let delivery = v1::Delivery {
        name: name.to_string(),
        event: test.event.name().to_string(),
        event_version: map::small(test.event.version),
        event_type: test.event.event_type.name(),
        subscription: test.name.to_string(),
        environment: map::environment(test.event.environment).into(),
        contract: test.subscription.contract.name(),
        state: map::state(state).into(),
        end_reason: reason.map_or(0, |reason| map::end_reason(reason).into()),
        attempt_count: 1,
        create_time: map::moment(test.event.accept_time()),
        end_time: map::moment(ended),
        test: true,
        ..Default::default()
    };
    v1::TestSubscriptionResponse {
        event: Some(show::event(test.event.clone())),
        event_type: Some(event_types::to_wire(&test.kind)),
        delivery: Some(delivery),
        attempt: Some(v1::Attempt { name: format!("{name}/attempts/1"), ..attempt }),
    }
}

/// The answer where a node made the test.
fn answered(test: &Test, reply: &TestReply) -> v1::TestSubscriptionResponse {
    let TestReply { record, url, headers, body, error } = reply;
    let request = error.is_none().then(|| v1::AttemptRequest {
        method: "POST".to_owned(),
        url: url.clone(),
        headers: attempt::as_sent(headers),
        body: String::from_utf8_lossy(body).into_owned(),
    });
    let mut attempt = v1::Attempt { request, ..attempt::to_wire(record) };
    if let Some(error) = error {
        attempt.reason.clone_from(error);
    }
    let ended = record.start.plus(Duration::from_micros(u64::from(record.timing.total)));
    answer(test, ended, end(record), attempt)
}

/// How the delivery ended: a test that is not acknowledged has failed, whatever a retry would do.
fn end(record: &AttemptRecord) -> (DeliveryState, Option<EndReason>) {
    match (record.end, record.outcome) {
        (Some(end), _) => (end.state, end.reason),
        (None, Some(AttemptOutcome::Succeeded)) => (DeliveryState::Succeeded, None),
        (None, Some(AttemptOutcome::Retry | AttemptOutcome::Failed) | None) => {
            (DeliveryState::Failed, Some(EndReason::AttemptsExhausted))
        }
    }
}

/// The answer where a node took the test and never said how it went.
fn unsettled(test: &Test) -> v1::TestSubscriptionResponse {
    let attempt = v1::Attempt {
        number: 1,
        start_time: map::moment(test.event.accept_time()),
        outcome: map::outcome(AttemptOutcome::Failed).into(),
        error_class: map::error_class(ErrorClass::Timeout).into(),
        reason: "a node took the test and did not answer in time; it may have been sent".into(),
        ..Default::default()
    };
    let ended = test.event.accept_time().plus(test.timeout);
    answer(test, ended, (DeliveryState::Failed, Some(EndReason::AttemptsExhausted)), attempt)
}
