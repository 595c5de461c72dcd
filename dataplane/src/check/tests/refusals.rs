//! Calls after which nothing is decided.

use pregon_core::model::CallbackState;
use tonic::Code;

use super::*;

/// A node whose receiver must not be asked.
async fn unasked() -> (Node, Receiver) {
    let receiver = Receiver::answering(200, "true").await;
    (Node::start(&auth(&receiver.url())).await, receiver)
}

#[tokio::test]
async fn every_wrong_field_is_reported_at_once() {
    let (node, receiver) = unasked().await;
    let wrong = |request: v1::CheckRequest| async {
        let refused = node.check(request).await.unwrap_err();
        assert_eq!((refused.code(), &*reason(&refused)), (Code::InvalidArgument, "FIELDS_INVALID"));
        let reported = refused.get_details_bad_request().unwrap().field_violations;
        reported.into_iter().map(|v| format!("{} {}", v.field, v.reason)).collect::<Vec<_>>()
    };
    let callback = "tenants/acme/subscriptions/auth".to_owned();
    let empty = v1::CheckRequest { callback, min_revision: -1, ..Default::default() };
    let all = ["callback MALFORMED", "min_revision OUT_OF_RANGE", "json REQUIRED"];
    assert_eq!(wrong(empty).await, all);
    let json = |text: String| v1::CheckRequest { data: Some(Data::Json(text)), ..request() };
    assert_eq!(wrong(json("{\"a\":1,\"a\":2}".into())).await, ["json EVENT_JSON_INVALID"]);
    let large = format!("\"{}\"", "x".repeat(limits::CHECK_DATA_LEN - 1));
    assert_eq!(wrong(json(large)).await, ["json EVENT_TOO_LARGE"]);
    let most = format!("\"{}\"", "x".repeat(limits::CHECK_DATA_LEN - 2));
    assert!(node.check(json(most)).await.unwrap().allowed);
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn data_that_the_contract_cannot_ask_about_is_the_callers_to_mend() {
    let receiver = Receiver::answering(200, "true").await;
    let contract = contract_id("crypto_onramp");
    let allow = FailurePolicy::Allow;
    let node = Node::start(&Callback { contract, on_error: allow, ..auth(&receiver.url()) }).await;
    let data = Some(Data::Json(r#"{"user":"s3cret"}"#.into()));
    let refused = node.check(v1::CheckRequest { data, ..request() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let reported = refused.get_details_bad_request().unwrap().field_violations;
    assert_eq!((&*reported[0].field, &*reported[0].reason), ("json", "MALFORMED"));
    assert!(reported[0].description.contains("${check.data.email}"), "{}", reported[0].description);
    assert!(!refused.message().contains("s3cret"));
    assert_eq!(receiver.seen().len(), 0);
}

#[tokio::test]
async fn a_question_that_must_be_signed_and_cannot_be_is_left_to_the_policy() {
    let receiver = Receiver::answering(200, "true").await;
    let contract = contract_id("standard_webhooks");
    let callback = Callback { contract, ..auth(&receiver.url()) };
    let node = Node::start(&callback).await;
    let response = node.ask().await;
    assert_eq!(decided(&response), (false, v1::CheckCause::FailurePolicy));
    assert_eq!(response.error_class(), v1::ErrorClass::Local);
    assert_eq!(response.detail, "no active secret; on_error is DENY");
    node.write(&[Resource::Secret(callback_secret(&callback, "k1"))]).await;
    assert!(node.ask().await.allowed);
    assert!(receiver.seen()[0].contains("\r\nwebhook-signature: v1,"), "{}", receiver.seen()[0]);
}

#[tokio::test]
async fn what_does_not_exist_or_may_not_be_asked_is_refused() {
    let (node, receiver) = unasked().await;
    let of = |name: &str| v1::CheckRequest { callback: name.into(), ..request() };
    for name in ["tenants/acme/callbacks/other", "tenants/nobody/callbacks/auth"] {
        let refused = node.check(of(name)).await.unwrap_err();
        assert_eq!((refused.code(), &*reason(&refused)), (Code::NotFound, "RESOURCE_NOT_FOUND"));
        assert_eq!(refused.get_details_resource_info().unwrap().resource_name, name);
    }
    let bound = BTreeSet::from([TenantId::parse("other").unwrap()]);
    let bound = Caller::new("bound", Role::Publisher, Some(bound));
    let refused = node.check_as(bound, request()).await.unwrap_err();
    assert_eq!(reason(&refused), "TENANT_DENIED");

    let paused = Callback { state: CallbackState::Paused, ..auth(&receiver.url()) };
    node.write(&[Resource::Callback(paused)]).await;
    let refused = node.check(request()).await.unwrap_err();
    let reported = (refused.code(), reason(&refused));
    assert_eq!(reported, (Code::FailedPrecondition, "STATE_CONFLICT".into()));
    let mut suspended = tenant("acme");
    suspended.suspended = true;
    node.write(&[Resource::Tenant(suspended)]).await;
    assert_eq!(reason(&node.check(request()).await.unwrap_err()), "TENANT_SUSPENDED");
    assert_eq!(receiver.seen().len(), 0);
}

#[tokio::test]
async fn a_callback_that_was_written_a_moment_ago_is_found() {
    let receiver = Receiver::answering(200, "true").await;
    let node = Node::unready();
    node.write(&[Resource::Tenant(tenant("acme"))]).await;
    let revision = node.config.write(&[Resource::Callback(auth(&receiver.url()))]);
    assert!(node.ask().await.allowed, "the node catches up before it says NOT_FOUND");
    let paused = Callback { state: CallbackState::Paused, ..auth(&receiver.url()) };
    let min_revision = node.config.write(&[Resource::Callback(paused)]);
    assert!(min_revision > revision);
    let refused = node.check(v1::CheckRequest { min_revision, ..request() }).await.unwrap_err();
    assert_eq!(reason(&refused), "STATE_CONFLICT");
    let min_revision = min_revision + 1;
    let refused = node.check(v1::CheckRequest { min_revision, ..request() }).await.unwrap_err();
    assert_eq!(reason(&refused), "REVISION_UNKNOWN");
}

#[tokio::test]
async fn a_node_that_is_not_there_yet_or_going_down_asks_nobody() {
    let node = Node::unready();
    node.config.down.store(true, std::sync::atomic::Ordering::SeqCst);
    let refused = node.check(request()).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unavailable, "NOT_READY"));
    let (node, receiver) = unasked().await;
    node.config.down.store(true, std::sync::atomic::Ordering::SeqCst);
    let other = v1::CheckRequest { callback: "tenants/acme/callbacks/b".into(), ..request() };
    assert_eq!(reason(&node.check(other).await.unwrap_err()), "STORE_UNAVAILABLE");
    assert!(node.ask().await.allowed, "what the node knows needs no store");
    node.draining.cancel();
    let refused = node.check(request()).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unavailable, "DRAINING"));
    assert!(refused.get_details_retry_info().is_some());
    assert_eq!(receiver.seen().len(), 1);
}
