//! The services in a real server.

use std::sync::Arc;
use std::time::Duration;

use pregon_control::Services;
use pregon_core::clock::SystemClock;
use pregon_proto::FILE_DESCRIPTOR_SET;
use pregon_proto::v1;
use pregon_proto::v1::tenant_service_client::TenantServiceClient;
use pregon_rpc::revision;
use pregon_rpc::server::{Drained, Limits, Listen, Listener, Server};
use pregon_store::config::Commit;
use tonic::Code;

use crate::world::World;

#[tokio::test]
async fn they_are_served_with_their_revision_and_their_limits() {
    let world = World::new();
    let server =
        Server::new(FILE_DESCRIPTOR_SET, &Services::WAITS, world.latest.clone(), Limits::default());
    let server = world.control.services().add_to(server.unwrap()).unwrap();
    let listen = Listen::open("127.0.0.1:0".parse().unwrap());
    let listener = Listener::bind(listen, Arc::new(SystemClock)).await.unwrap();
    let ready = server.on(listener).await.unwrap();
    let url = format!("http://{}", ready.local_addr());
    let serving = tokio::spawn(ready.serve(world.drain.clone()));

    let mut client = TenantServiceClient::connect(url).await.unwrap();
    let mut request = v1::CreateTenantRequest {
        tenant_id: "acme".into(),
        tenant: Some(v1::Tenant::default()),
        ..Default::default()
    };
    let answer = client.create_tenant(request.clone()).await.unwrap();
    let shown = answer.metadata().get(revision::HEADER).unwrap().to_str().unwrap().to_owned();
    assert_eq!(shown, answer.into_inner().revision.to_string());
    request.request_id = "x".repeat(5 * 1024 * 1024);
    let status = client.create_tenant(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    drop(client);
    world.drain.cancel();
    assert_eq!(serving.await.unwrap().unwrap(), Drained::Complete);
}

#[tokio::test]
async fn the_latest_revision_is_followed_until_the_end() {
    let world = World::new();
    let control = world.control.clone();
    let following = tokio::spawn(async move { control.follow().await });
    let write = vec![("tenants/other".to_owned(), Some("{}".into()))];
    world.store.config.commit(Commit { write, ..Commit::default() }).await.unwrap();
    let head = world.store.config.head().await.unwrap().revision;
    // A real wait: the follower is a task of its own.
    tokio::time::timeout(Duration::from_secs(5), async {
        while world.latest.get() != Some(head) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    world.drain.cancel();
    tokio::time::timeout(Duration::from_secs(5), following).await.unwrap().unwrap();
}
