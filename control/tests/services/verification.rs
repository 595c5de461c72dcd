//! Verification as control begins it: which writes ask for it, and where moves lead meanwhile.

use pregon_core::clock::Timestamp;
use pregon_core::model::{Asked, Resource, Verification};
use pregon_proto::v1;
use pregon_proto::v1::SubscriptionState as State;
use pregon_proto::v1::VerificationState as Verified;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use tonic::Code;

use crate::world::{World, ask, assert_refused, assert_wrong, mask, subscription};

const ERP: &str = "tenants/acme/subscriptions/erp";
const ECHO: &str = "verification: { steps: [{ query: { c: \"${challenge.text}\" }, expect: response.body == challenge.text }] }";

fn under(contract: &str) -> v1::Subscription {
    v1::Subscription { contract: format!("contracts/{contract}"), ..subscription() }
}

/// A subscription whose receiver has to pass.
async fn pending() -> World {
    let world = World::with_tenant().await;
    world.contract("echo", ECHO).await;
    let made = world.subscribe("acme", "erp", under("echo")).await;
    assert_eq!((made.state(), verified(&made)), (State::PendingVerification, Verified::Pending));
    world
}

fn verified(it: &v1::Subscription) -> Verified {
    it.verification.as_ref().map_or(Verified::Unspecified, v1::SubscriptionVerification::state)
}

/// What a node writes of an asking, well or badly, after which nobody asks by himself.
async fn told(world: &World, passed: bool) {
    let Some(Resource::Subscription(mut it)) = world.stored(ERP).await else { panic!() };
    let asked = Asked { time: world.now(), reason: "told".into(), ..Asked::default() };
    let verification: &mut Verification = it.verification.as_mut().unwrap();
    match passed {
        true => {
            verification.pass(asked, None);
            it.state = pregon_core::model::SubscriptionState::Active;
        }
        false => verification.fail(asked, None),
    }
    world.put(&Resource::Subscription(it)).await;
}

async fn change(world: &World, given: v1::Subscription, paths: &[&str]) -> v1::Subscription {
    let subscription = Some(v1::Subscription { name: ERP.into(), ..given });
    let update_mask = mask(paths);
    let request = v1::UpdateSubscriptionRequest { subscription, update_mask, ..Default::default() };
    ask!(world.subscriptions, update_subscription, request).unwrap().subscription.unwrap()
}

async fn turn(world: &World, how: &str) -> v1::Subscription {
    let name = ERP.to_owned();
    let moved = match how {
        "pause" => {
            let request = v1::PauseSubscriptionRequest { name, ..Default::default() };
            ask!(world.subscriptions, pause_subscription, request).unwrap().subscription
        }
        "resume" => {
            let request = v1::ResumeSubscriptionRequest { name, ..Default::default() };
            ask!(world.subscriptions, resume_subscription, request).unwrap().subscription
        }
        _ => {
            let reason = "holiday".to_owned();
            let request = v1::DisableSubscriptionRequest { name, reason, ..Default::default() };
            ask!(world.subscriptions, disable_subscription, request).unwrap().subscription
        }
    };
    moved.unwrap()
}

fn elsewhere() -> v1::Subscription {
    v1::Subscription { url: "https://example.com/other".into(), ..Default::default() }
}

#[tokio::test]
async fn url_and_contract_have_to_pass_and_nothing_else() {
    let world = pending().await;
    told(&world, true).await;
    let same = v1::Subscription {
        display_name: "ERP".into(),
        url: subscription().url,
        labels: [("a".to_owned(), "b".to_owned())].into(),
        max_concurrency: 3,
        ..Default::default()
    };
    let now = change(&world, same, &["display_name", "url", "labels", "max_concurrency"]).await;
    assert_eq!((now.state(), verified(&now)), (State::Active, Verified::Passed));
    let now = change(&world, elsewhere(), &["url"]).await;
    assert_eq!((now.state(), verified(&now)), (State::PendingVerification, Verified::Pending));
    assert_eq!(now.state_change.unwrap().note, "changed: url");
    assert!(now.verification.unwrap().passed_time.is_none(), "another URL passed");

    let moved = change(&world, under("standard_webhooks"), &["contract"]).await;
    assert_eq!((moved.state(), &moved.verification), (State::Active, &None));
    let moved = change(&world, under("echo"), &["contract"]).await;
    assert_eq!((moved.state(), verified(&moved)), (State::PendingVerification, Verified::Pending));
}

#[tokio::test]
async fn no_move_leads_around_it() {
    let world = pending().await;
    told(&world, true).await;
    assert_eq!(turn(&world, "pause").await.state(), State::Paused);
    let now = change(&world, elsewhere(), &["url"]).await;
    assert_eq!((now.state(), verified(&now)), (State::Paused, Verified::Pending));
    told_in(&world, State::Paused).await;
    let now = turn(&world, "resume").await;
    assert_eq!((now.state(), verified(&now)), (State::PendingVerification, Verified::Pending));
    let it = now.verification.unwrap();
    assert_eq!((it.attempts, it.next_time.is_some()), (0, true), "a round begins");

    assert_eq!(turn(&world, "disable").await.state(), State::Disabled);
    let verify = v1::VerifySubscriptionRequest { name: ERP.into(), ..Default::default() };
    let answer = ask!(world.subscriptions, verify_subscription, verify.clone());
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
    assert_eq!(turn(&world, "resume").await.state(), State::PendingVerification);
    for_nothing(&world).await;
    told(&world, false).await;
    let dry = v1::VerifySubscriptionRequest { validate_only: true, ..verify.clone() };
    let shown = ask!(world.subscriptions, verify_subscription, dry).unwrap();
    assert_eq!((shown.revision, verified(&shown.subscription.unwrap())), (0, Verified::Pending));
    let asked = ask!(world.subscriptions, verify_subscription, verify).unwrap();
    let asked = asked.subscription.unwrap().verification.unwrap();
    // No sooner than a second after the last.
    let next = asked.next_time.unwrap();
    let last = asked.last_time.unwrap();
    let millis = |at: prost_types::Timestamp| at.seconds * 1000 + i64::from(at.nanos) / 1_000_000;
    assert_eq!(millis(next) - millis(last), 1000);
    told(&world, true).await;
    assert_eq!(turn(&world, "pause").await.state(), State::Paused);
    assert_eq!(turn(&world, "resume").await.state(), State::Active, "it has passed");
}

/// An asking that failed for good leaves a paused subscription as it is.
async fn told_in(world: &World, state: State) {
    told(world, false).await;
    let request = v1::GetSubscriptionRequest { name: ERP.into() };
    let it = ask!(world.subscriptions, get_subscription, request).unwrap().subscription.unwrap();
    assert_eq!((it.state(), verified(&it)), (state, Verified::Failed));
    assert_eq!(it.verification.unwrap().reason, "told");
}

/// Of one that waits, pausing, resuming and rejecting are refused.
async fn for_nothing(world: &World) {
    let name = || ERP.to_owned();
    let pause = v1::PauseSubscriptionRequest { name: name(), ..Default::default() };
    let answer = ask!(world.subscriptions, pause_subscription, pause);
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
    let resume = v1::ResumeSubscriptionRequest { name: name(), ..Default::default() };
    let answer = ask!(world.subscriptions, resume_subscription, resume);
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
    let reason = "no".to_owned();
    let reject = v1::RejectSubscriptionRequest { name: name(), reason, ..Default::default() };
    let answer = ask!(world.subscriptions, reject_subscription, reject);
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
}

#[tokio::test]
async fn a_contract_without_it_asks_for_nothing() {
    let world = World::with_subscription().await;
    let verify = v1::VerifySubscriptionRequest { name: ERP.into(), ..Default::default() };
    let answer = ask!(world.subscriptions, verify_subscription, verify);
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
    let unnamed = v1::VerifySubscriptionRequest::default();
    let answer = ask!(world.subscriptions, verify_subscription, unnamed);
    assert_wrong(answer, &[("name", "REQUIRED")]);
}

#[tokio::test]
async fn a_contract_that_comes_to_ask_asks_on_demand_only() {
    let world = World::with_tenant().await;
    world.contract("mine", "").await;
    let made = world.subscribe("acme", "erp", under("mine")).await;
    assert_eq!((made.state(), &made.verification), (State::Active, &None));
    let Some(Resource::Contract(mut contract)) = world.stored("contracts/mine").await else {
        panic!()
    };
    contract.document = contract.document.replacen('\n', &format!("\n{ECHO}\n"), 1);
    world.put(&Resource::Contract(contract)).await;
    let fields = v1::Subscription { display_name: "ERP".into(), ..Default::default() };
    let same = change(&world, fields, &["display_name"]).await;
    assert_eq!((same.state(), &same.verification), (State::Active, &None));
    let verify = v1::VerifySubscriptionRequest { name: ERP.into(), ..Default::default() };
    let asked = ask!(world.subscriptions, verify_subscription, verify).unwrap();
    let asked = asked.subscription.unwrap();
    assert_eq!((asked.state(), verified(&asked)), (State::Active, Verified::Pending));
    let Some(Resource::Subscription(it)) = world.stored(ERP).await else { panic!() };
    assert!(it.asked_at().is_some_and(|at| at > Timestamp::default()));
}
