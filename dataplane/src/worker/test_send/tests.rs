//! Test sends through the embedded engine to a whole node and back.

use std::time::Duration;

use pregon_core::event::{Environment, Event};
use pregon_core::id::{ContractId, EventId, EventTypeId, LaneNo, Position, TenantId};
use pregon_core::model::{Auth, Resource, Subscription};
use pregon_core::outcome::ErrorClass;
use pregon_core::seal::KeyRing;
use pregon_core::secret::SecretBytes;
use pregon_store::config::{Commit, Committed};
use pregon_store::test_send::Tested;

use super::*;
use crate::testing::documents::{contract, sealed};
use crate::testing::receiver::{Answer, Receiver, answer};
use crate::testing::whole::Whole;
use crate::testing::{secret, subscription, tenant};

/// Longer than anything here takes.
const AMPLE: Duration = Duration::from_secs(20);

fn ours(receiver: &Receiver) -> Subscription {
    let mut ours = subscription("acme", 1, &["order.*"]);
    ours.url = receiver.url();
    ours
}

/// A node with this subscription and its key.
async fn node(subscription: Subscription) -> Whole {
    let whole = Whole::start();
    whole
        .write(&[
            Resource::Tenant(tenant("acme")),
            Resource::Subscription(subscription),
            Resource::Secret(secret("acme", 1, "k1", 0)),
        ])
        .await;
    whole
}

fn event(data: impl Into<Bytes>) -> Event {
    let position = Position { ms: 1_700_000_000_000, partition: 0, n: 0 };
    Event {
        position,
        tenant: TenantId::parse("acme").unwrap(),
        id: EventId::parse_given("test-1").unwrap(),
        version: 0,
        event_type: EventTypeId::parse("a.b").unwrap(),
        environment: Environment::Live,
        given_occur_time: None,
        erased: None,
        min_revision: 0,
        trace: None,
        terms: None,
        attributes: Default::default(),
        data: data.into(),
    }
}

fn test(data: impl Into<Bytes>) -> TestSend {
    TestSend { lane: LaneNo(1), event: event(data), min_revision: 0, timeout: AMPLE, trace: None }
}

async fn send(whole: &Whole, test: TestSend) -> TestReply {
    let tested = whole.store.tests.send_test(test, AMPLE, AMPLE).await.unwrap();
    let Tested::Done(bytes) = tested else { panic!("{tested:?}") };
    TestReply::decode(&bytes).unwrap()
}

#[tokio::test]
async fn a_test_send_is_an_attempt_and_leaves_no_trace() {
    let receiver = Receiver::answering(200, "thank you").await;
    let mut ours = ours(&receiver);
    ours.state = SubscriptionState::Paused; // it would match nothing of this type either
    ours.auth = Auth::Bearer { token: sealed(&ours.name(), "t0ken") };
    let whole = node(ours).await;
    let reply = send(&whole, test("{\"a\": 1.0}")).await;

    assert_eq!(reply.error, None);
    let record = &reply.record;
    assert_eq!((record.status, record.outcome), (200, Some(AttemptOutcome::Succeeded)));
    assert_eq!((record.number, record.secrets.len()), (1, 1));
    let response = record.response.as_ref().unwrap();
    assert_eq!(response.body, b"thank you", "kept although it acknowledged");
    assert_eq!(reply.url, receiver.url());
    let request = receiver.seen().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(reply.body, body.as_bytes());
    assert!(body.ends_with(",\"data\":{\"a\": 1.0}}"), "{body}");
    for (name, value) in &reply.headers {
        let sent = if value == "[masked]" { "Bearer t0ken" } else { value };
        assert!(head.contains(&format!("\r\n{name}: {sent}")), "{name}: {value} in {head}");
    }
    let masked: Vec<_> = reply.headers.iter().filter(|(_, value)| value == "[masked]").collect();
    assert_eq!(masked, [&("authorization".to_owned(), "[masked]".to_owned())]);
    assert!(reply.headers.iter().any(|(name, _)| name == "webhook-signature"));

    let books = whole.store.log.books(None).await.unwrap();
    assert_eq!(books, Default::default(), "counted nowhere");
    assert_eq!(whole.store.log.attempts(record.key).await.unwrap(), []);
    whole.node.drain().await;
}

#[tokio::test]
async fn what_would_be_retried_is_the_end_and_a_receiver_that_is_gone_disables_nothing() {
    let receiver = Receiver::answering(503, "later").await;
    let whole = node(ours(&receiver)).await;
    let reply = send(&whole, test("1")).await;
    let end = reply.record.end.unwrap();
    assert_eq!(
        (end.state, end.reason),
        (DeliveryState::Failed, Some(EndReason::AttemptsExhausted))
    );
    assert_eq!(reply.record.outcome, Some(AttemptOutcome::Failed));
    assert_eq!(
        (reply.record.error_class, reply.record.next_attempt),
        (Some(ErrorClass::Status), None)
    );
    receiver.will(answer(410, ""));
    let reply = send(&whole, test("1")).await;
    assert_eq!(reply.record.end.unwrap().reason, Some(EndReason::Refused));
    receiver.will(Answer::Close);
    let reply = send(&whole, test("1")).await;
    assert_eq!(reply.record.error_class, Some(ErrorClass::Protocol));
    assert_eq!((reply.error, reply.body.is_empty()), (None, false));
    // A write goes through after what a 410 would have written: nothing was.
    whole.write(&[Resource::Tenant(tenant("other"))]).await;
    let snapshot = whole.node.configuration().current().unwrap();
    assert_eq!(snapshot.lane(LaneNo(1)).unwrap().state, SubscriptionState::Active);
}

#[tokio::test]
async fn a_receiver_that_hangs_costs_the_tests_own_time() {
    let receiver = Receiver::start(Answer::Silence).await;
    let mut ours = ours(&receiver);
    ours.max_concurrency = 1;
    ours.event_types = vec!["*".into()];
    let whole = node(ours).await;
    // Its only slot is taken by a delivery that hangs.
    whole.publish(1, "{}").await;
    receiver.saw(1).await;
    let hasty = TestSend { timeout: Duration::from_millis(50), ..test("1") };
    let reply = send(&whole, hasty).await;
    assert_eq!(reply.record.error_class, Some(ErrorClass::Timeout));
    assert_eq!(receiver.seen().len(), 2);
    receiver.will(answer(200, ""));
    assert_eq!(send(&whole, test("1")).await.record.status, 200);
}

#[tokio::test]
async fn where_no_request_can_be_made_the_answer_says_why() {
    let receiver = Receiver::answering(200, "").await;
    let whole = node(ours(&receiver)).await;
    let why = async |test| {
        let reply = send(&whole, test).await;
        assert_eq!(reply.record.end.unwrap().reason, Some(EndReason::RenderFailed));
        assert_eq!(Some(&reply.record.reason), reply.error.as_ref());
        assert!(reply.body.is_empty() && reply.headers.is_empty());
        reply.error.unwrap()
    };
    let nobody = TestSend { lane: LaneNo(9), ..test("1") };
    assert_eq!(why(nobody).await, "the subscription does not exist");
    let served = whole.node.configuration().served_revision();
    let later = TestSend { min_revision: served + 1, ..test("1") };
    let late = format!("the node serves configuration revision {served}, not {}", served + 1);
    assert_eq!(why(later).await, late);
    for state in [SubscriptionState::PendingApproval, SubscriptionState::Rejected] {
        whole.write(&[Resource::Subscription(Subscription { state, ..ours(&receiver) })]).await;
        assert_eq!(why(test("1")).await, format!("the subscription is {state}"));
    }
    let contract_id = ContractId::parse("mine").unwrap();
    let mine = Subscription { contract: contract_id, ..ours(&receiver) };
    let body = contract("mine", "body: \"${event.data.a}\"");
    whole.write(&[body, Resource::Subscription(mine)]).await;
    let reply = send(&whole, test("{\"b\":\"s3cret\"}")).await;
    let error = reply.error.unwrap();
    assert!(error.contains("${event.data.a}") && !error.contains("s3cret"), "{error}");
    assert_eq!(reply.url, receiver.url());
    assert_eq!(receiver.seen().len(), 0);
    let disabled = Subscription { state: SubscriptionState::Disabled, ..ours(&receiver) };
    whole.write(&[Resource::Subscription(disabled)]).await;
    assert_eq!(send(&whole, test("1")).await.record.status, 200, "a disabled one may be tried");
}

#[tokio::test]
async fn nothing_is_sent_while_a_tenants_rules_may_be_unread() {
    let receiver = Receiver::answering(200, "").await;
    let whole = node(ours(&receiver)).await;
    let unreadable = ("tenants/globex".to_owned(), Some(Bytes::from_static(b"{")));
    let commit = Commit { write: vec![unreadable], ..Commit::default() };
    let committed = whole.store.config.commit(commit).await.unwrap();
    let Committed::Done { revision } = committed else { panic!("{committed:?}") };
    let reply = send(&whole, TestSend { min_revision: revision, ..test("1") }).await;
    let why = "the node cannot read all of its configuration; its log says what";
    assert_eq!((reply.error.as_deref(), receiver.seen().len()), (Some(why), 0));
}

/// Another node has the key, maybe: the test is left to it.
#[tokio::test]
async fn without_a_master_key_no_test_is_taken_until_it_is_there() {
    let receiver = Receiver::answering(200, "").await;
    let whole = node(ours(&receiver)).await;
    let mut locked = secret("acme", 1, "k2", 0);
    let other = KeyRing::parse(&"ab".repeat(32)).unwrap();
    let key = SecretBytes::new(vec![7; 32]);
    locked.sealed = data_encoding::BASE64.encode(&other.seal(&key, &locked.binding(), [9; 24]));
    let name = Resource::Secret(locked.clone()).name().to_string();
    whole.write(&[Resource::Secret(locked)]).await;
    let tested = whole.store.tests.send_test(test("1"), Duration::from_secs(1), AMPLE).await;
    assert_eq!(tested.unwrap(), Tested::NotTaken);
    let waiting = send(&whole, test("1"));
    let unlock = Commit { write: vec![(name, None)], ..Commit::default() };
    let (reply, committed) = tokio::join!(waiting, whole.store.config.commit(unlock));
    assert!(matches!(committed, Ok(Committed::Done { .. })), "{committed:?}");
    assert_eq!((reply.record.status, receiver.seen().len()), (200, 1));
}

#[tokio::test]
async fn more_at_once_than_a_node_makes_wait_their_turn() {
    let receiver = Receiver::answering(200, "").await;
    let whole = node(ours(&receiver)).await;
    let tests = (0..3 * AT_ONCE).map(|_| send(&whole, test("1")));
    let replies = futures::future::join_all(tests).await;
    assert!(replies.iter().all(|reply| reply.record.status == 200));
    assert_eq!(receiver.seen().len(), 3 * AT_ONCE);
}

#[tokio::test]
async fn a_body_that_no_answer_can_hold_is_cut() {
    let receiver = Receiver::answering(200, "").await;
    let mut ours = ours(&receiver);
    ours.contract = ContractId::parse("mine").unwrap();
    let whole = node(ours).await;
    whole.write(&[contract("mine", "body: [\"${event.data}\", \"${event.data}\"]")]).await;
    let data = format!("\"{}\"", "x".repeat(1_000_000));
    let reply = send(&whole, test(data.clone())).await;
    assert_eq!(reply.record.status, 200);
    let sent = format!("[{data},{data}]");
    assert!(reply.body.len() < sent.len() && reply.body.len() > 1_500_000, "{}", reply.body.len());
    assert!(sent.as_bytes().starts_with(&reply.body));
}

#[tokio::test]
async fn a_node_that_goes_down_finishes_its_tests() {
    let receiver = Receiver::start(Answer::Silence).await;
    let whole = node(ours(&receiver)).await;
    let (store, node) = (whole.store.clone(), whole.node);
    let hanging = TestSend { timeout: Duration::from_millis(200), ..test("1") };
    let asked = tokio::spawn(async move { store.tests.send_test(hanging, AMPLE, AMPLE).await });
    receiver.saw(1).await;
    node.drain().await;
    let Tested::Done(bytes) = asked.await.unwrap().unwrap() else { panic!("not answered") };
    let reply = TestReply::decode(&bytes).unwrap();
    assert_eq!(reply.record.error_class, Some(ErrorClass::Timeout));
}
