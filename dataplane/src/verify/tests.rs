//! Turns between nodes, and what comes of them, over the embedded engine.

use pregon_core::clock::SystemClock;
use pregon_core::id::ContractId;
use pregon_core::model::{
    Asked, Resource, ResourceName, Subscription, SubscriptionState, Verification, VerificationState,
};
use pregon_core::outcome::ErrorClass;
use pregon_core::seal::KeyRing;
use pregon_core::secret::SecretBytes;
use pregon_store::config::{Commit, Committed};
use pregon_store::embedded::{Embedded, EmbeddedOptions, Location, open};

use super::told::Refused;
use super::turn::{settle, take};
use super::*;
use crate::snapshot::{Follower, FollowerOptions};
use crate::testing::documents::contract;
use crate::testing::receiver::{Answer, Receiver, egress};
use crate::testing::whole::Whole;
use crate::testing::{held, subscription, tenant};

const ECHO: &str = "verification:\n  steps: [{ query: { c: \"${challenge.text}\" }, expect: response.body == challenge.text }]\n  retry: none\n";

/// A subscription whose receiver has to pass.
fn pending(url: &str) -> Subscription {
    Subscription {
        url: url.to_owned(),
        contract: ContractId::parse("echo").unwrap(),
        state: SubscriptionState::PendingVerification,
        verification: Some(Box::new(Verification::begin(Timestamp::from_millis(0)))),
        ..subscription("acme", 1, &["*"])
    }
}

async fn commit(config: &dyn ConfigStore, resources: &[Resource]) {
    let write = resources.iter().map(|it| (it.name().to_string(), Some(it.encode().into())));
    let commit = Commit { write: write.collect(), ..Commit::default() };
    let committed = config.commit(commit).await.unwrap();
    assert!(matches!(committed, Committed::Done { .. }), "{committed:?}");
}

/// The subscription as it is stored.
async fn stored(config: &dyn ConfigStore) -> Subscription {
    let key = ResourceName::Subscription(subscription("acme", 1, &["*"]).name());
    let found = config.get(&[key.to_string()]).await.unwrap().remove(0).unwrap();
    let decoded = Resource::decode(&key, &found.bytes).unwrap();
    let Resource::Subscription(subscription) = decoded else { panic!("{decoded:?}") };
    subscription
}

/// What two nodes of one store would ask with.
struct Two {
    config: Arc<dyn ConfigStore>,
    nodes: [Verifier; 2],
    _embedded: Embedded,
}

async fn two() -> Two {
    let clock: SharedClock = Arc::new(SystemClock);
    let embedded = open(EmbeddedOptions::new(Location::Memory, Arc::clone(&clock))).unwrap();
    let config = embedded.store().config;
    commit(&*config, &[Resource::Subscription(pending("http://127.0.0.1:1/"))]).await;
    let node = |name| {
        let (_, configuration) = Follower::new(FollowerOptions {
            egress: crate::testing::receiver::egress(),
            store: Arc::clone(&config),
            keys: held(),
            clock: Arc::clone(&clock),
            telemetry: Telemetry::off(),
        });
        Verifier {
            configuration,
            config: Arc::clone(&config),
            egress: egress(),
            clock: Arc::clone(&clock),
            node: NodeId::parse(name).unwrap(),
            user_agent: "pregon-test".into(),
            seed: 7,
            telemetry: Telemetry::off(),
        }
    };
    let nodes = ["n1", "n2"].map(node);
    Two { config, nodes, _embedded: embedded }
}

fn passed(of: &Verifier) -> Told {
    let asked = Asked { time: of.clock.now(), node: of.node.name(), ..Asked::default() };
    Told::Passed { asked, repeat: None }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn one_node_has_the_turn_and_a_new_url_ends_it() {
    let Two { config, nodes: [one, two], _embedded } = two().await;
    let name = subscription("acme", 1, &["*"]).name();
    let turn = take(&one, &name, SECOND).await.unwrap().unwrap();
    assert!(take(&two, &name, SECOND).await.unwrap().is_none());
    assert!(take(&one, &name, SECOND).await.unwrap().is_none());
    // A node that goes down gives it back, and another asks at once.
    settle(&one, &turn, &Told::NotAsked, 0.5).await;
    let turn = take(&two, &name, SECOND).await.unwrap().unwrap();
    let state = stored(&*config).await.verification.unwrap();
    assert_eq!((state.attempts, state.turn.unwrap().node.as_str()), (0, "nodes/n2"));

    let elsewhere = pending("http://127.0.0.1:2/");
    commit(&*config, &[Resource::Subscription(elsewhere.clone())]).await;
    settle(&two, &turn, &passed(&two), 0.5).await;
    assert_eq!(stored(&*config).await, elsewhere, "what came of the old URL says nothing");
}

#[tokio::test]
async fn other_changes_under_a_turn_are_kept_and_it_counts() {
    let Two { config, nodes: [one, _], _embedded } = two().await;
    let name = subscription("acme", 1, &["*"]).name();
    let turn = take(&one, &name, SECOND).await.unwrap().unwrap();
    let mut changed = stored(&*config).await;
    changed.common.display_name = "ERP".into();
    commit(&*config, &[Resource::Subscription(changed)]).await;
    settle(&one, &turn, &passed(&one), 0.5).await;
    let now = stored(&*config).await;
    assert_eq!((now.state, &*now.common.display_name), (SubscriptionState::Active, "ERP"));
    assert_eq!(now.verification.unwrap().state(), VerificationState::Passed);
    assert_eq!(now.state_change.unwrap().actor, "nodes/n1");
    assert!(take(&one, &name, SECOND).await.unwrap().is_none(), "nothing is left to ask");
}

#[tokio::test]
async fn a_fault_of_ours_ends_nothing_and_counts_for_nothing() {
    let Two { config, nodes: [one, _], _embedded } = two().await;
    let name = subscription("acme", 1, &["*"]).name();
    let turn = take(&one, &name, SECOND).await.unwrap().unwrap();
    settle(&one, &turn, &passed(&one), 0.5).await;
    for class in [ErrorClass::Egress, ErrorClass::Local, ErrorClass::Connect] {
        let mut due = stored(&*config).await;
        assert_eq!(due.state, SubscriptionState::Active, "before {class:?}");
        due.verification.as_mut().unwrap().next = Some(Timestamp::from_millis(0));
        commit(&*config, &[Resource::Subscription(due)]).await;
        let turn = take(&one, &name, SECOND).await.unwrap().unwrap();
        let ended = one.clock.now();
        let asked = Asked { time: ended, reason: "away".into(), ..Asked::default() };
        let refused =
            Refused { ended, took: SECOND, class: Some(class), status: None, retry_after: None };
        // Without a rule there is no retry.
        settle(&one, &turn, &Told::Failed { asked, refused, rule: None }, 0.5).await;
        let now = stored(&*config).await;
        let it = now.verification.unwrap();
        let ours = class.is_ours();
        assert_eq!((it.passed, it.attempts, it.next > Some(ended)), (ours, u32::from(!ours), ours));
        let active = now.state == SubscriptionState::Active;
        assert_eq!(active, ours, "{class:?}");
    }
}

#[tokio::test]
async fn a_disabled_one_stays_so_whatever_comes_of_the_turn() {
    let Two { config, nodes: [one, _], _embedded } = two().await;
    let name = subscription("acme", 1, &["*"]).name();
    let turn = take(&one, &name, SECOND).await.unwrap().unwrap();
    let mut disabled = stored(&*config).await;
    disabled.state = SubscriptionState::Disabled;
    commit(&*config, &[Resource::Subscription(disabled)]).await;
    assert!(take(&one, &name, SECOND).await.unwrap().is_none(), "it is left alone");
    settle(&one, &turn, &passed(&one), 0.5).await;
    let now = stored(&*config).await;
    assert_eq!(now.state, SubscriptionState::Disabled);
    assert!(now.verification.unwrap().passed);
}

#[tokio::test]
async fn a_node_without_a_master_key_leaves_the_turn_to_others() {
    let whole = Whole::start();
    let receiver = Receiver::start(Answer::Silence).await;
    let mut locked = crate::testing::secret("acme", 1, "k", 0);
    let other = KeyRing::parse(&"ab".repeat(32)).unwrap();
    let key = SecretBytes::new(vec![7; 32]);
    locked.sealed = data_encoding::BASE64.encode(&other.seal(&key, &locked.binding(), [9; 24]));
    let locked = Resource::Secret(locked);
    let resources = [
        Resource::Tenant(tenant("acme")),
        contract("echo", ECHO),
        Resource::Subscription(pending(&receiver.url())),
        locked.clone(),
    ];
    whole.write(&resources).await;
    let config = Arc::clone(&whole.store.config);
    let looks = tokio::time::timeout(2 * STORE_AGAIN, receiver.saw(1)).await;
    assert!(looks.is_err(), "it asks: {:?}", receiver.seen());
    let left = stored(&*config).await.verification.unwrap();
    assert_eq!((left.turn, left.attempts), (None, 0));
    let unlock = vec![(locked.name().to_string(), None)];
    config.commit(Commit { write: unlock, ..Commit::default() }).await.unwrap();
    receiver.saw(1).await;
    whole.node.drain().await;
}

#[tokio::test]
async fn a_node_that_goes_down_gives_its_turn_back() {
    let whole = Whole::start();
    let receiver = Receiver::start(Answer::Silence).await;
    let resources = [
        Resource::Tenant(tenant("acme")),
        contract("echo", ECHO),
        Resource::Subscription(pending(&receiver.url())),
    ];
    whole.write(&resources).await;
    receiver.saw(1).await;
    assert!(receiver.seen()[0].starts_with("GET /ask?c="), "{:?}", receiver.seen());
    let config = Arc::clone(&whole.store.config);
    assert!(stored(&*config).await.verification.unwrap().turn.is_some());
    whole.node.drain().await;
    let left = stored(&*config).await.verification.unwrap();
    assert_eq!((left.turn, left.attempts), (None, 0));
    assert_eq!(left.next, Some(Timestamp::from_millis(0)), "somebody asks at once");
    receiver.hung_up(1).await;
}
