//! What cannot be read, and what the node does without it.

use pregon_core::error::Reason;
use pregon_core::seal::KeyRing;

use super::*;

/// The secret that everybody can open, sealed under a key that nobody here has.
fn sealed_elsewhere(lane: u64) -> Resource {
    let mut secret = secret("acme", lane, "k", 0);
    let other = KeyRing::parse(&"ab".repeat(32)).unwrap();
    let key = pregon_core::secret::SecretBytes::new(vec![7; 32]);
    let sealed = other.seal(&key, &secret.binding(), [9; 24]);
    secret.sealed = data_encoding::BASE64.encode(&sealed);
    Resource::Secret(secret)
}

#[tokio::test]
async fn a_resource_without_a_readable_version_stops_the_node_until_it_has_one() {
    let running = Running::start(Arc::default());
    let mut resources = base();
    resources.extend([sub("acme", 1, &["*"]), sealed_elsewhere(1)]);
    let snapshot = running.write(&resources).await;
    assert_eq!((snapshot.gaps().missing, snapshot.gaps().outdated), (1, 0));
    let refusal = running.configuration.whole().unwrap_err();
    assert_eq!(refusal.reason, Reason::NotReady);
    let fault = running.configuration.fault().unwrap();
    assert!(fault.contains("tenants/acme/subscriptions/s1/secrets/k"), "{fault}");
    assert!(fault.contains("needs master key"), "{fault}");

    running.write(&[Resource::Secret(secret("acme", 1, "k", 0))]).await;
    assert!(running.configuration.whole().is_ok());
    assert_eq!(running.configuration.fault(), None);
}

/// Of a secret under a key that is not here a good version may be served: nothing is taken all the
/// same, and it goes on by itself once the key is there.
#[tokio::test]
async fn a_master_key_that_is_not_here_stops_the_node_until_it_is() {
    let (given, keys) = watch::channel(Arc::new(Held::new(ring())));
    let running = Running::with(Arc::default(), keys);
    let mut resources = base();
    resources.extend([sub("acme", 1, &["*"]), Resource::Secret(secret("acme", 1, "k", 0))]);
    running.write(&resources).await;
    assert!(running.configuration.whole().is_ok());
    let snapshot = running.write(&[sealed_elsewhere(1)]).await;
    assert_eq!((snapshot.gaps().missing, snapshot.gaps().outdated), (0, 1));
    let lacking = KeyRing::parse(&"ab".repeat(32)).unwrap().current();
    assert_eq!(snapshot.gaps().keys, [lacking]);
    let refusal = running.configuration.whole().unwrap_err();
    assert_eq!(refusal.reason, Reason::NotReady);
    assert!(refusal.message.contains(&lacking.to_string()), "{}", refusal.message);
    assert!(running.configuration.fault().unwrap().contains(&lacking.to_string()));

    let both = format!("{} {}", "5a".repeat(32), "ab".repeat(32));
    given.send_replace(Arc::new(Held::new(KeyRing::parse(&both).unwrap())));
    let mut served = running.configuration.watch();
    let whole = served.wait_for(|it| it.as_ref().is_some_and(|it| !it.gaps().stop()));
    tokio::time::timeout(SOON, whole).await.unwrap().unwrap();
    assert!(running.configuration.whole().is_ok());
    assert_eq!(running.configuration.fault(), None);
    // And back: what is served needs it.
    given.send_replace(Arc::new(Held::new(ring())));
    let lacks = served.wait_for(|it| it.as_ref().is_some_and(|it| it.gaps().stop()));
    tokio::time::timeout(SOON, lacks).await.unwrap().unwrap();
}

/// A revoked secret signs nothing, and is in the store still; so are those of nobody.
#[tokio::test]
async fn everything_sealed_counts_whether_or_not_it_is_used() {
    let running = Running::start(Arc::default());
    let mut resources = base();
    resources.push(sub("acme", 1, &["*"]));
    let Resource::Secret(mut revoked) = sealed_elsewhere(1) else { panic!("not a secret") };
    revoked.revoke_time = Some(Timestamp::from_millis(1));
    resources.push(Resource::Secret(revoked));
    let snapshot = running.write(&resources).await;
    assert_eq!((snapshot.gaps().missing, snapshot.gaps().keys.len()), (0, 1));
    assert!(running.configuration.fault().is_some());
    let snapshot = running.delete("tenants/acme/subscriptions/s1/secrets/k").await;
    assert!(!snapshot.gaps().stop());
    let snapshot = running.write(&[sealed_elsewhere(7)]).await;
    assert_eq!(snapshot.gaps().keys.len(), 1, "of no subscription that there is");
}

#[tokio::test]
async fn what_cannot_be_read_and_goes_is_missed_no_more() {
    let running = Running::start(Arc::default());
    running.write(&base()).await;
    let name = "tenants/acme/subscriptions/s1".to_owned();
    let revision = running.store.put(vec![(name.clone(), Some(Bytes::from_static(b"{")))]);
    running.configuration.wait_for(revision, SOON).await.unwrap();
    assert!(running.configuration.whole().is_err());
    running.delete(&name).await;
    assert!(running.configuration.whole().is_ok());
}

/// An older version serves as long as the process lives; ready it is not.
#[tokio::test]
async fn an_outdated_version_serves_and_is_reported() {
    let running = Running::start(Arc::default());
    let mut resources = base();
    resources.push(sub("acme", 1, &["*"]));
    running.write(&resources).await;
    let name = "tenants/acme/subscriptions/s1".to_owned();
    let revision = running.store.put(vec![(name, Some(Bytes::from_static(b"{")))]);
    let snapshot = running.configuration.wait_for(revision, SOON).await.unwrap();
    assert_eq!((snapshot.gaps().missing, snapshot.gaps().outdated), (0, 1));
    assert_eq!(matching(&snapshot, &event("acme", "a.b", "{}")), [1]);
    assert!(running.configuration.whole().is_ok());
    assert!(running.configuration.fault().is_some());
}

/// The clock of whoever made the first secret may be ahead of this node's, or this one's be set back.
#[tokio::test]
async fn a_secret_that_was_made_to_sign_at_once_signs_whatever_the_clock_says() {
    let running = Running::start(Arc::default());
    let hour_ahead = 3_600_000;
    let mut at_once = secret("acme", 1, "k", hour_ahead);
    at_once.common.create_time = Timestamp::from_millis(hour_ahead);
    let scheduled = secret("acme", 2, "k", hour_ahead);
    let mut resources = base();
    resources.extend([sub("acme", 1, &["*"]), sub("acme", 2, &["*"])]);
    resources.extend([at_once, scheduled].map(Resource::Secret));
    let snapshot = running.write(&resources).await;
    let live = |lane, now| {
        let lane = snapshot.lane(LaneNo(lane)).unwrap();
        lane.keys.iter().any(|key| key.live_at(Timestamp::from_millis(now)))
    };
    assert!(live(1, 1));
    assert!(!live(2, 1), "it was to sign later");
    assert!(live(2, hour_ahead));
}
