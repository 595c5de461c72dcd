//! The service behind the server of a node, as its callers see it.

use pregon_core::clock::SystemClock;
use pregon_proto::v1::check_service_client::CheckServiceClient;
use pregon_rpc::revision::Revision;
use pregon_rpc::server::{Limits, Listen, Listener, Server};
use tonic::Code;
use tonic::transport::Channel;

use super::*;

/// A node's server with this service and nothing else, and a client of it.
async fn served(node: &Node) -> (CheckServiceClient<Channel>, DropGuard) {
    let descriptors = pregon_proto::FILE_DESCRIPTOR_SET;
    let listen = Listen::open(([127, 0, 0, 1], 0).into());
    let listener = Listener::bind(listen, Arc::new(SystemClock)).await.unwrap();
    let server = Server::new(descriptors, &[], Revision::none(), Limits::default()).unwrap();
    let server = server.with(node.service.clone().service()).unwrap();
    let ready = server.on(listener).await.unwrap();
    let url = format!("http://{}", ready.local_addr());
    let shutdown = CancellationToken::new();
    tokio::spawn(ready.serve(shutdown.clone()));
    (CheckServiceClient::connect(url).await.unwrap(), shutdown.drop_guard())
}

#[tokio::test]
async fn a_check_comes_over_the_wire_and_keeps_its_deadline() {
    let receiver = Receiver::answering(200, "{\"allowed\":true}").await;
    let node = Node::start(&auth(&receiver.url())).await;
    let (mut client, _serving) = served(&node).await;
    let response = client.check(request()).await.unwrap().into_inner();
    assert_eq!(decided(&response), (true, v1::CheckCause::Verdict));
    assert!(response.duration.is_some());
    let other = v1::CheckRequest { callback: "tenants/acme/callbacks/b".into(), ..request() };
    let refused = client.check(other).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::NotFound, "RESOURCE_NOT_FOUND"));

    // The caller hears of the decision, and not that its own time was up.
    receiver.will(Answer::Silence);
    let mut hasty = Request::new(request());
    hasty.set_timeout(Duration::from_millis(500));
    let response = client.check(hasty).await.unwrap().into_inner();
    assert_eq!(decided(&response), (false, v1::CheckCause::FailurePolicy));
    assert_eq!(response.error_class(), v1::ErrorClass::Timeout);
}

#[tokio::test]
async fn a_caller_who_goes_away_takes_the_question_along() {
    let receiver = Receiver::start(Answer::Silence).await;
    let ours = Callback { max_concurrency: 1, timeout_ms: 10_000, ..auth(&receiver.url()) };
    let node = Node::start(&ours).await;
    let (mut client, _serving) = served(&node).await;
    let asking = tokio::spawn({
        let mut client = client.clone();
        async move { client.check(request()).await }
    });
    receiver.saw(1).await;
    assert_eq!(reason(&client.check(request()).await.unwrap_err()), "LOAD_SHED");
    asking.abort();
    receiver.hung_up(1).await;
    receiver.will(answer(200, "true"));
    // The place is given back in the same breath as the connection.
    assert!(client.check(request()).await.unwrap().into_inner().allowed);
}
