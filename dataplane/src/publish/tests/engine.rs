//! The same over the embedded engine: what a node does between a commit and a match.

use bytes::Bytes;
use pregon_core::clock::SystemClock;
use pregon_core::id::NodeId;
use pregon_store::Store;
use pregon_store::config::{Commit, Committed};
use pregon_store::embedded::{EmbeddedOptions, Location, open};
use pregon_store::work::Claim;
use tonic::Code;

use super::*;
use crate::testing::{secret, subscription};

async fn commit(store: &Store, resources: &[Resource]) -> i64 {
    let write = resources
        .iter()
        .map(|resource| (resource.name().to_string(), Some(Bytes::from(resource.encode()))));
    let commit = Commit { write: write.collect(), ..Commit::default() };
    let committed = store.config.commit(commit).await.unwrap();
    let Committed::Done { revision } = committed else { panic!("{committed:?}") };
    revision
}

async fn published_events_are_taken_and_matched(location: Location) {
    let clock: SharedClock = Arc::new(SystemClock);
    let embedded = open(EmbeddedOptions::new(location, clock.clone())).unwrap();
    let store = embedded.store();
    let (follower, configuration) = Follower::new(FollowerOptions {
        egress: crate::testing::receiver::egress(),
        telemetry: pregon_telemetry::Telemetry::off(),
        store: store.config.clone(),
        keys: held(),
        clock: clock.clone(),
    });
    let stop = CancellationToken::new();
    tokio::spawn(follower.run(stop.clone()));
    let service = EventServiceImpl::new(PublishOptions {
        telemetry: pregon_telemetry::Telemetry::off(),
        configuration: configuration.clone(),
        intake: store.intake.clone(),
        clock,
        max_event_bytes: 1024,
        draining: CancellationToken::new(),
    });
    let publish =
        async |request| service.publish(from_anyone(request)).await.map(Response::into_inner);

    configuration.ready().await;
    assert_eq!(publish(request("e1")).await.unwrap_err().code(), Code::NotFound);
    let revision = commit(
        &store,
        &[
            Resource::Tenant(tenant("acme")),
            event_type("any", ""),
            Resource::Subscription(subscription("acme", 5, &["*"])),
            Resource::Secret(secret("acme", 5, "k1", 0)),
        ],
    )
    .await;
    let first = publish(request("e1")).await.unwrap();
    assert_eq!(first.served_revision, revision);
    let again = publish(request("e1")).await.unwrap();
    assert_eq!(again, v1::PublishResponse { duplicate: true, ..first });
    let other = request_with(|_, event| event.data = Some(Data::Json("1".into())));
    assert_eq!(reason(&publish(other).await.unwrap_err()), "EVENT_ID_REUSED");
    let requests = (0..600).map(|index| request(&format!("b{index}"))).collect();
    let call = from_anyone(v1::PublishBatchRequest { requests });
    assert_eq!(service.publish_batch(call).await.unwrap().into_inner().results.len(), 600);

    let claim = Claim { node: NodeId::parse("n1").unwrap(), lease: Duration::from_secs(30) };
    let mut taken = 0;
    while let Some(batch) = store.work.take(0, &claim, 256, 1 << 20).await.unwrap() {
        let snapshot = configuration.current().unwrap();
        for open in &batch.events {
            let lanes = snapshot.matching(&open.event).lanes;
            assert_eq!(lanes.len(), 1);
            assert_eq!(lanes[0].lane.0, 5);
            assert_eq!(lanes[0].keys.iter().count(), 1);
        }
        taken += batch.events.len();
    }
    assert_eq!(taken, 601);

    stop.cancel();
    embedded.close();
    assert_eq!(reason(&publish(request("e2")).await.unwrap_err()), "DRAINING");
}

#[tokio::test]
async fn published_events_are_taken_and_matched_in_memory() {
    published_events_are_taken_and_matched(Location::Memory).await;
}

#[tokio::test]
async fn published_events_are_taken_and_matched_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    published_events_are_taken_and_matched(Location::Directory(directory.path().into())).await;
}
