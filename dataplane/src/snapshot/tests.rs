mod callbacks;
mod contracts;
mod gaps;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use imbl::ordmap::DiffItem;
use pregon_core::clock::{SystemClock, Timestamp};
use pregon_core::event::{Environment, Event};
use pregon_core::id::{EventId, EventTypeId, LaneNo, Position, TenantId};
use pregon_core::model::{Resource, SubscriptionState};
use pregon_core::seal::Held;
use pregon_store::settlement::FilterError;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing::{FakeConfig, event_type, held, ring, secret, subscription, tenant};

const SOON: Duration = Duration::from_secs(2);

/// A follower over a store, and what ends it.
struct Running {
    store: Arc<FakeConfig>,
    configuration: Configuration,
    _stop: tokio_util::sync::DropGuard,
}

impl Running {
    fn start(store: Arc<FakeConfig>) -> Self {
        Self::with(store, held())
    }

    fn with(store: Arc<FakeConfig>, keys: watch::Receiver<Arc<Held>>) -> Self {
        let (follower, configuration) = Follower::new(FollowerOptions {
            egress: crate::testing::receiver::egress(),
            telemetry: pregon_telemetry::Telemetry::off(),
            store: store.clone(),
            keys,
            clock: Arc::new(SystemClock),
        });
        let stop = CancellationToken::new();
        tokio::spawn(follower.run(stop.clone()));
        Self { store, configuration, _stop: stop.drop_guard() }
    }

    async fn write(&self, resources: &[Resource]) -> Arc<Snapshot> {
        let revision = self.store.write(resources);
        self.configuration.wait_for(revision, SOON).await.unwrap()
    }

    async fn delete(&self, name: &str) -> Arc<Snapshot> {
        let revision = self.store.put(vec![(name.to_owned(), None)]);
        self.configuration.wait_for(revision, SOON).await.unwrap()
    }
}

fn event(tenant: &str, kind: &str, data: &'static str) -> Event {
    let position = Position { ms: 1_700_000_000_000, partition: 0, n: 1 };
    Event {
        position,
        tenant: TenantId::parse(tenant).unwrap(),
        id: EventId::assigned(position),
        version: 0,
        event_type: EventTypeId::parse(kind).unwrap(),
        environment: Environment::Live,
        given_occur_time: None,
        erased: None,
        min_revision: 0,
        trace: None,
        terms: None,
        attributes: Default::default(),
        data: Bytes::from_static(data.as_bytes()),
    }
}

fn matching(snapshot: &Snapshot, event: &Event) -> Vec<u64> {
    snapshot.matching(event).lanes.iter().map(|lane| lane.lane.0).collect()
}

fn sub(tenant: &str, lane: u64, patterns: &[&str]) -> Resource {
    Resource::Subscription(subscription(tenant, lane, patterns))
}

fn base() -> Vec<Resource> {
    vec![Resource::Tenant(tenant("acme")), event_type("order.captured", "")]
}

#[tokio::test]
async fn nothing_is_served_before_the_first_snapshot() {
    let store = Arc::new(FakeConfig::default());
    store.down.store(true, Ordering::SeqCst);
    store.write(&base());
    let running = Running::start(store);
    let late = running.configuration.wait_for(0, Duration::from_millis(30)).await.unwrap_err();
    assert_eq!(late, Late { served: 0 });
    assert!(running.configuration.current().is_none());
    running.store.down.store(false, Ordering::SeqCst);
    let snapshot = running.configuration.ready().await;
    assert_eq!(snapshot.revision(), 101);
    assert!(snapshot.tenant(&TenantId::parse("acme").unwrap()).is_some());
    assert!(snapshot.tenant(&TenantId::parse("other").unwrap()).is_none());
}

#[tokio::test]
async fn an_empty_store_is_an_empty_configuration() {
    let running = Running::start(Arc::default());
    assert_eq!(running.configuration.ready().await.revision(), 0);
    assert!(running.configuration.current().is_some());
}

#[tokio::test]
async fn matching_follows_environment_state_patterns_and_filter() {
    let running = Running::start(Arc::default());
    let mut test = subscription("acme", 2, &["*"]);
    test.environment = Environment::Test;
    let mut paused = subscription("acme", 3, &["order.*"]);
    paused.state = SubscriptionState::Paused;
    let mut disabled = subscription("acme", 4, &["*"]);
    disabled.state = SubscriptionState::Disabled;
    let mut filtered = subscription("acme", 1, &["order.captured", "order.captured"]);
    filtered.filter = "event.data.amount > 100".into();
    let mut resources = base();
    resources.extend([test, paused, disabled, filtered].map(Resource::Subscription));
    resources.extend([
        sub("acme", 9, &["refund"]),
        sub("acme", 8, &["*"]),
        sub("other", 7, &["*"]),
    ]);
    let snapshot = running.write(&resources).await;

    let captured = event("acme", "order.captured", r#"{"amount":101}"#);
    assert_eq!(matching(&snapshot, &captured), [1, 3, 8]);
    assert_eq!(matching(&snapshot, &event("acme", "order.captured", r#"{"amount":1}"#)), [3, 8]);
    assert_eq!(snapshot.matching(&captured).filter_errors, []);
    let without = event("acme", "order.captured", "{}");
    assert_eq!(matching(&snapshot, &without), [3, 8]);
    let reason = "event.data.amount is absent".into();
    let errors = [FilterError { reason, lanes: vec![LaneNo(1)] }];
    assert_eq!(snapshot.matching(&without).filter_errors, errors);
    let test = Event { environment: Environment::Test, ..captured };
    assert_eq!(matching(&snapshot, &test), [2]);
    assert_eq!(matching(&snapshot, &event("nobody", "order.captured", "{}")), [0; 0]);
}

#[tokio::test]
async fn many_subscriptions_match_as_few_do() {
    let running = Running::start(Arc::default());
    let patterns = |lane: u64| match lane % 5 {
        0 => vec!["*"],
        1 => vec!["order.captured"],
        2 => vec!["refund", "order.captured", "order.captured"],
        3 => vec!["refund.*", "order.captured"],
        _ => vec!["order.*", "refund"],
    };
    let mut resources = base();
    resources.extend((1..=300).rev().map(|lane| sub("acme", lane, &patterns(lane))));
    let snapshot = running.write(&resources).await;
    for kind in ["order.captured", "refund", "refund.x", "order.x", "nothing"] {
        let event = event("acme", kind, "{}");
        let by_hand: Vec<u64> = snapshot
            .lanes()
            .values()
            .filter(|lane| lane.patterns.iter().any(|p| p.matches(&event.event_type)))
            .map(|lane| lane.lane.0)
            .collect();
        assert_eq!(matching(&snapshot, &event), by_hand, "{kind}");
    }
    let snapshot = running.delete("tenants/acme/subscriptions/s5").await;
    assert!(!matching(&snapshot, &event("acme", "order.x", "{}")).contains(&5));
}

#[tokio::test]
async fn the_difference_of_two_snapshots_is_what_changed() {
    let running = Running::start(Arc::default());
    let mut resources = base();
    resources.extend((1..=200).map(|lane| sub("acme", lane, &["*"])));
    let before = running.write(&resources).await;
    running.write(&[sub("acme", 7, &["order.*"])]).await;
    running.delete("tenants/acme/subscriptions/s9").await;
    let after = running.write(&[sub("acme", 201, &["*"])]).await;
    let changes: Vec<_> = before
        .lanes()
        .diff(after.lanes())
        .map(|item| match item {
            DiffItem::Add(lane, _) => ("add", lane.0),
            DiffItem::Update { new: (lane, _), .. } => ("update", lane.0),
            DiffItem::Remove(lane, _) => ("remove", lane.0),
        })
        .collect();
    assert_eq!(changes, [("update", 7), ("remove", 9), ("add", 201)]);
}

#[tokio::test]
async fn a_tenant_is_passed_on_to_its_lanes() {
    let running = Running::start(Arc::default());
    let mut resources = base();
    resources.extend([sub("acme", 1, &["*"]), sub("acme", 2, &["*"])]);
    let before = running.write(&resources).await;
    let mut changed = tenant("acme");
    changed.suspended = true;
    changed.common.labels = [("tier".to_owned(), "gold".to_owned())].into();
    let after = running.write(&[Resource::Tenant(changed)]).await;
    let labels = |snapshot: &Snapshot| {
        snapshot.lanes().values().map(|lane| lane.tenant_labels.len()).collect::<Vec<_>>()
    };
    assert_eq!((labels(&before), labels(&after)), (vec![0, 0], vec![1, 1]));
    assert!(after.lanes().values().all(|lane| lane.tenant_suspended));
    assert_eq!(matching(&after, &event("acme", "order.captured", "{}")), [1, 2]);

    let gone = running.delete("tenants/acme").await;
    assert!(gone.tenant(&TenantId::parse("acme").unwrap()).is_none());
    assert_eq!(gone.lanes().len(), 2, "deliveries of its lanes still need them");
}

#[tokio::test]
async fn keys_come_and_go_with_their_secrets() {
    let running = Running::start(Arc::default());
    let keys = |snapshot: &Snapshot| -> Vec<String> {
        let lane = snapshot.lane(LaneNo(1)).unwrap();
        lane.keys.iter().map(|key| key.id().to_string()).collect()
    };
    let mut resources = base();
    let secrets = [("k1", 10), ("k3", 30), ("k2", 20)];
    resources.extend(secrets.map(|(id, at)| Resource::Secret(secret("acme", 1, id, at))));
    resources.push(sub("acme", 1, &["*"]));
    assert_eq!(keys(&*running.write(&resources).await), ["k3", "k2", "k1"]);

    let mut revoked = secret("acme", 1, "k3", 30);
    revoked.revoke_time = Some(Timestamp::from_millis(40));
    assert_eq!(keys(&*running.write(&[Resource::Secret(revoked)]).await), ["k2", "k1"]);
    let snapshot = running.delete("tenants/acme/subscriptions/s1/secrets/k1").await;
    assert_eq!(keys(&snapshot), ["k2"]);
    // Updates of the subscription keep them; a new subscription of the same name does not.
    assert_eq!(keys(&*running.write(&[sub("acme", 1, &["a"])]).await), ["k2"]);
    let mut new = subscription("acme", 1, &["*"]);
    new.lane = LaneNo(2);
    let snapshot = running.write(&[Resource::Subscription(new)]).await;
    assert_eq!(snapshot.lanes().len(), 1);
    assert_eq!(snapshot.lane(LaneNo(2)).unwrap().keys.iter().count(), 0);
}

#[tokio::test]
async fn a_bad_document_is_refused_and_the_last_good_one_stays() {
    let running = Running::start(Arc::default());
    let mut resources = base();
    let key = secret("acme", 1, "k1", 10);
    resources.extend([sub("acme", 1, &["*"]), Resource::Secret(key.clone())]);
    running.write(&resources).await;

    let mut unopened = key;
    unopened.sealed = "AAAA".into();
    let mut filter = subscription("acme", 1, &["*"]);
    filter.filter = "event.data.(".into();
    let mut contract = subscription("acme", 2, &["*"]);
    contract.contract = pregon_core::id::ContractId::parse("unknown").unwrap();
    let bad = [
        event_type("order.captured", "{\"type\":7}"),
        Resource::Secret(unopened),
        Resource::Subscription(filter),
        Resource::Subscription(contract),
    ];
    running.write(&bad).await;
    let garbage = [("tenants/acme", "no json"), ("robots/r2d2", "whatever")];
    let garbage = garbage.map(|(name, text)| (name.to_owned(), Some(Bytes::from(text))));
    let revision = running.store.put(garbage.into());
    let snapshot = running.configuration.wait_for(revision, SOON).await.unwrap();

    let lane = snapshot.lane(LaneNo(1)).unwrap();
    assert!(lane.filter.is_none() && lane.keys.iter().count() == 1);
    assert!(snapshot.tenant(&TenantId::parse("acme").unwrap()).is_some());
    assert!(snapshot.event_type(&EventTypeId::parse("order.captured").unwrap()).is_some());
    let refused = running.configuration.refused();
    let said: Vec<_> = refused.iter().map(|r| (r.revision, r.resource.as_str())).collect();
    assert_eq!(
        said,
        [
            (revision, "tenants/acme"),
            (revision - 1, "tenants/acme/subscriptions/s2"),
            (revision - 1, "tenants/acme/subscriptions/s1/secrets/k1"),
            (revision - 1, "tenants/acme/subscriptions/s1"),
            (revision - 1, "eventTypes/order.captured"),
        ]
    );
    assert!(refused[1].reason.contains("contracts/unknown"), "{}", refused[1].reason);

    // Everything read again, and they are still bad: what was good before the gap stays.
    running.store.trim(true);
    let revision = running.store.write(&[sub("acme", 3, &["*"])]);
    let snapshot = running.configuration.wait_for(revision, SOON).await.unwrap();
    assert_eq!(snapshot.lane(LaneNo(1)).unwrap().keys.iter().count(), 1);
    assert!(snapshot.tenant(&TenantId::parse("acme").unwrap()).is_some());
    assert!(snapshot.event_type(&EventTypeId::parse("order.captured").unwrap()).is_some());
}

#[tokio::test]
async fn refused_documents_are_kept_up_to_a_bound() {
    let running = Running::start(Arc::default());
    running.write(&base()).await;
    for index in 0..30 {
        running.store.put(vec![(format!("tenants/t{index}"), Some(Bytes::from("{")))]);
    }
    running.configuration.wait_for(131, SOON).await.unwrap();
    let refused = running.configuration.refused();
    assert_eq!(refused.len(), 20);
    assert_eq!(refused[0].resource, "tenants/t29");
}

#[tokio::test]
async fn after_a_gap_everything_is_read_again_while_the_last_snapshot_serves() {
    let running = Running::start(Arc::default());
    running.write(&base()).await;
    running.store.muted.store(true, Ordering::SeqCst);
    running.store.write(&[sub("acme", 1, &["*"])]);
    running.store.put(vec![("eventTypes/order.captured".into(), None)]);
    running.store.trim(false);
    assert_eq!(running.configuration.served_revision(), 101);
    running.store.muted.store(false, Ordering::SeqCst);
    let snapshot = running.configuration.wait_for(103, SOON).await.unwrap();
    assert!(snapshot.lane(LaneNo(1)).is_some());
    assert!(snapshot.event_type(&EventTypeId::parse("order.captured").unwrap()).is_none());
}

#[tokio::test]
async fn a_store_that_is_away_leaves_the_last_snapshot_serving() {
    let running = Running::start(Arc::default());
    running.write(&base()).await;
    running.store.down.store(true, Ordering::SeqCst);
    sleep(Duration::from_millis(100)).await; // the follower meets the error and waits
    assert_eq!(running.configuration.served_revision(), 101);
    assert_eq!(running.configuration.catch_up().await.unwrap_err(), Late { served: 101 });
    running.store.down.store(false, Ordering::SeqCst);
    running.write(&[sub("acme", 1, &["*"])]).await;
}

#[tokio::test]
async fn catching_up_is_shared() {
    let running = Running::start(Arc::default());
    running.write(&base()).await;
    let before = running.store.heads.load(Ordering::SeqCst);
    let revision = running.store.write(&[sub("acme", 1, &["*"])]);
    let all = (0..100).map(|_| running.configuration.catch_up());
    for snapshot in futures::future::join_all(all).await {
        assert!(snapshot.unwrap().revision() >= revision);
    }
    let heads = running.store.heads.load(Ordering::SeqCst) - before;
    assert!(heads <= 2, "{heads} questions");
}

/// Resident memory of this process, in KiB.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0) * 4
}

#[tokio::test]
#[ignore = "a measurement: run with --nocapture"]
async fn a_hundred_thousand_subscriptions_load_in_seconds() {
    for tenants in [20, 100_000] {
        let store = Arc::new(FakeConfig::default());
        let mut resources = base();
        for lane in 0..100_000 {
            let name = format!("t{}", lane % tenants);
            resources.push(sub(&name, lane, &["order.*", "refund.created"]));
            resources.push(Resource::Secret(secret(&name, lane, "k1", 10)));
        }
        resources.extend((0..tenants).map(|t| Resource::Tenant(tenant(&format!("t{t}")))));
        store.write(&resources);
        // What is freed now would be used again and hide what the snapshot takes.
        std::mem::forget(resources);
        let (before, begun) = (resident(), std::time::Instant::now());
        let running = Running::start(store);
        let snapshot = running.configuration.ready().await;
        let (took, now) = (begun.elapsed(), resident());
        assert_eq!(snapshot.lanes().len(), 100_000);
        let bytes = now.saturating_sub(before) * 1024 / 100_000;
        println!("{tenants} tenants: {took:?}, {bytes} bytes each (growth of the process)");
        let begun = std::time::Instant::now();
        let event = event("t1", "order.captured", "{}");
        let matched = snapshot.matching(&event).lanes.len();
        let (first, again) = (begun.elapsed(), std::time::Instant::now());
        snapshot.matching(&event);
        println!("  {matched} match: first {first:?}, then {:?}", again.elapsed());
    }
}
