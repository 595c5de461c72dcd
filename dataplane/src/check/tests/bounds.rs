//! Time, places, memory, and that nothing is asked twice.

use v1::CheckCause::{Cache as ByCache, FailurePolicy as OnError, Verdict as ByVerdict};

use super::*;

#[tokio::test]
async fn the_callers_deadline_bounds_the_question() {
    let receiver = Receiver::start(Answer::Silence).await;
    let node = Node::start(&auth(&receiver.url())).await;
    // 50 ms are kept for the way back; of the rest, less than 10 ms is no time to ask in.
    let response = node.ask_within(Duration::from_millis(55)).await;
    assert_eq!(decided(&response), (false, OnError));
    assert_eq!(response.error_class(), v1::ErrorClass::Timeout);
    assert_eq!(receiver.seen().len(), 0, "nobody was asked");
    let response = node.ask_within(Duration::from_millis(300)).await;
    assert_eq!(decided(&response), (false, OnError));
    assert_eq!(response.error_class(), v1::ErrorClass::Timeout);
    assert_eq!(receiver.seen().len(), 1);
    let allow = Callback { on_error: FailurePolicy::Allow, ..auth(&receiver.url()) };
    node.write(&[Resource::Callback(allow)]).await;
    assert_eq!(decided(&node.ask_within(Duration::ZERO).await), (true, OnError));
}

#[tokio::test]
async fn as_many_questions_are_in_flight_as_may_be() {
    let receiver = Receiver::start(Answer::Silence).await;
    let mut ours = Callback { max_concurrency: 1, timeout_ms: 10_000, ..auth(&receiver.url()) };
    let node = Arc::new(Node::start(&ours).await);
    let first = tokio::spawn({
        let node = Arc::clone(&node);
        async move { node.ask().await }
    });
    receiver.saw(1).await;
    let refused = node.check(request()).await.unwrap_err();
    assert_eq!(reason(&refused), "LOAD_SHED");
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    // A change of the callback forgets none that is in flight, nor does reading all again.
    ours.common.display_name = "changed".into();
    node.write(&[Resource::Callback(ours.clone())]).await;
    assert_eq!(reason(&node.check(request()).await.unwrap_err()), "LOAD_SHED");
    node.config.trim(true);
    node.write(&[Resource::Tenant(tenant("other"))]).await;
    assert_eq!(reason(&node.check(request()).await.unwrap_err()), "LOAD_SHED");
    // Whoever goes away gives its place back.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    receiver.will(answer(200, "true"));
    assert!(node.ask().await.allowed);
}

#[tokio::test]
async fn a_question_that_crosses_a_close_is_not_asked_again() {
    let receiver = Receiver::answering(200, "true").await;
    let node = Node::start(&auth(&receiver.url())).await;
    assert!(node.ask().await.allowed);
    receiver.will(Answer::Close);
    let response = node.ask().await;
    assert_eq!(decided(&response), (false, OnError));
    assert_eq!(response.error_class(), v1::ErrorClass::Protocol);
    assert_eq!(receiver.seen().len(), 2);
}

/// A node whose callback remembers for a minute.
async fn remembering(body: &str) -> (Node, Receiver, Callback) {
    let receiver = Receiver::answering(200, body).await;
    let ours = Callback { cache_ttl_ms: 60_000, ..auth(&receiver.url()) };
    (Node::start(&ours).await, receiver, ours)
}

#[tokio::test]
async fn an_allowed_answer_is_remembered_for_its_time() {
    let (node, receiver, _) = remembering("true").await;
    let first = node.ask().await;
    assert_eq!(decided(&first), (true, ByVerdict));
    receiver.will(answer(200, "false"));
    let second = node.ask().await;
    assert_eq!(decided(&second), (true, ByCache));
    assert_ne!(first.check, second.check);
    assert_eq!(second.response_status, 0);
    let other = Some(Data::Json(r#"{"email":"eve@acme.example"}"#.into()));
    let other = node.check(v1::CheckRequest { data: other, ..request() }).await.unwrap();
    assert_eq!(decided(&other), (false, ByVerdict), "of other data nothing is known");
    assert_eq!(receiver.seen().len(), 2);

    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    assert_eq!(decided(&node.ask().await), (false, ByVerdict));
    assert_eq!(decided(&node.ask().await), (false, ByVerdict), "denials are not remembered");
}

#[tokio::test]
async fn a_change_of_callback_or_contract_forgets() {
    let (node, receiver, mut ours) = remembering("true").await;
    ours.contract = contract_id("mine");
    let rule = |text: &str| contract("mine", &format!("callback: {{ body: {{ a: {text} }} }}"));
    node.write(&[rule("1"), Resource::Callback(ours.clone())]).await;
    assert_eq!(decided(&node.ask().await), (true, ByVerdict));
    assert_eq!(decided(&node.ask().await), (true, ByCache));
    ours.common.display_name = "changed".into();
    node.write(&[Resource::Callback(ours)]).await;
    assert_eq!(decided(&node.ask().await), (true, ByVerdict));
    assert_eq!(decided(&node.ask().await), (true, ByCache));
    node.write(&[rule("2")]).await;
    assert_eq!(decided(&node.ask().await), (true, ByVerdict));
    let bodies: Vec<String> =
        receiver.seen().iter().map(|seen| seen.split("\r\n\r\n").nth(1).unwrap().into()).collect();
    assert_eq!(bodies, [r#"{"a":1}"#, r#"{"a":1}"#, r#"{"a":2}"#]);
}

#[tokio::test]
async fn asking_past_the_memory_renews_it() {
    let (node, receiver, _) = remembering("true").await;
    let past = || v1::CheckRequest { bypass_cache: true, ..request() };
    assert_eq!(decided(&node.check(past()).await.unwrap()), (true, ByVerdict));
    assert_eq!(decided(&node.ask().await), (true, ByCache), "what was learned is kept");
    assert_eq!(decided(&node.check(past()).await.unwrap()), (true, ByVerdict));
    // A receiver that does not answer has not changed its mind; one that denies has.
    receiver.will(answer(500, ""));
    assert_eq!(decided(&node.check(past()).await.unwrap()), (false, OnError));
    assert_eq!(decided(&node.ask().await), (true, ByCache));
    receiver.will(answer(403, ""));
    let denied = node.check(past()).await.unwrap();
    assert_eq!(decided(&denied), (false, v1::CheckCause::Status));
    assert_eq!(decided(&node.ask().await), (false, v1::CheckCause::Status));
}
