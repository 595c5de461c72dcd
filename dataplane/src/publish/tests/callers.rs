//! Who may publish for whom.

use pregon_core::model::ApiKey;
use pregon_rpc::keys;
use tonic::Code;

use super::streams::Publishing;
use super::*;

fn assert_denied(status: &Status) {
    assert_eq!((status.code(), reason(status).as_str()), (Code::PermissionDenied, "TENANT_DENIED"));
}

/// A request for a tenant, whether or not there is one.
fn for_tenant(name: &str, id: &str) -> v1::PublishRequest {
    let mut request = request(id);
    request.tenant = name.to_owned();
    request
}

const OTHERS: [&str; 5] = ["tenants/other", "tenants/-", "tenants/acme2", "acme", ""];

#[tokio::test]
async fn a_bound_caller_publishes_for_its_tenants_only() {
    let node = Node::start().await;
    let caller = publisher_of("acme");
    let publish = async |request| node.service.publish(from(caller.clone(), request)).await;
    publish(request("mine")).await.unwrap();
    for name in OTHERS {
        assert_denied(&publish(for_tenant(name, "e")).await.unwrap_err());
        // What else is wrong with it is nobody's business.
        let mut bad = for_tenant(name, "a.b");
        bad.event = None;
        assert_denied(&publish(bad).await.unwrap_err());
    }
}

#[tokio::test]
async fn each_event_of_a_batch_is_held_against_its_caller() {
    let node = Node::start().await;
    let mut requests: Vec<_> = OTHERS.iter().map(|name| for_tenant(name, "e")).collect();
    requests.push(request("mine"));
    let call = from(publisher_of("acme"), v1::PublishBatchRequest { requests });
    let results = node.service.publish_batch(call).await.unwrap().into_inner().results;
    let (mine, others) = results.split_last().unwrap();
    assert!(matches!(mine.outcome, Some(v1::publish_batch_result::Outcome::Result(_))));
    for other in others {
        let Some(v1::publish_batch_result::Outcome::Status(said)) = &other.outcome else {
            panic!("{other:?}");
        };
        assert_denied(&unwire(said));
    }
}

#[tokio::test]
async fn each_event_of_a_stream_is_held_against_its_caller() {
    let mut stream = Publishing::by(publisher_of("acme")).await;
    stream.send(1, for_tenant("tenants/other", "e")).await;
    stream.send(2, request("mine")).await;
    let acks = stream.acks(2).await;
    assert_denied(acks[0].1.as_ref().unwrap_err());
    assert!(acks[1].1.is_ok());
}

#[tokio::test]
async fn a_call_past_the_layer_is_not_taken() {
    let node = Node::start().await;
    let status = node.service.publish(Request::new(request("e"))).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
}

#[tokio::test]
async fn a_caller_for_some_types_learns_nothing_of_others() {
    let node = Node::start().await;
    let key: ApiKey = serde_json::from_value(serde_json::json!({
        "id": "orders",
        "role": "publisher",
        "event_types": ["any"],
        "secrets": [],
        "create_time": Timestamp::from_millis(0),
        "update_time": Timestamp::from_millis(0),
    }))
    .unwrap();
    let caller = keys::caller(&key).unwrap();
    for kind in ["order.captured", "nowhere"] {
        let mut request = request("e");
        request.min_revision = -1; // wrong, so that all that is wrong would be told
        let event = request.event.as_mut().unwrap();
        event.r#type = kind.into();
        event.data = Some(Data::Json(r#"{"amount":"much"}"#.into()));
        let status = node.service.publish(from(caller.clone(), request)).await.unwrap_err();
        assert_eq!(reason(&status), "EVENT_TYPE_DENIED", "{kind}");
        assert!(!status.message().contains("amount"), "{}", status.message());
    }
}
