//! Subscriptions and callbacks created with secrets of their own, and paused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pregon_proto::v1;
use pregon_proto::v1::SecretAlgorithm as Algorithm;
use pregon_proto::v1::callback_service_server::CallbackService as _;
use pregon_proto::v1::secret_service_server::SecretService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use tonic::Code;

use crate::world::{URL, World, ask, assert_refused, assert_wrong, at, subscription};

const ERP: &str = "tenants/acme/subscriptions/erp";

fn key(byte: u8) -> String {
    format!("whsec_{}", STANDARD.encode([byte; 32]))
}

fn create(secrets: Vec<v1::NewSecret>) -> v1::CreateSubscriptionRequest {
    v1::CreateSubscriptionRequest {
        parent: "tenants/acme".into(),
        subscription_id: "erp".into(),
        subscription: Some(subscription()),
        secrets,
        ..Default::default()
    }
}

fn given(id: &str, material: String) -> v1::NewSecret {
    v1::NewSecret { secret_id: id.into(), material, ..Default::default() }
}

async fn secrets(world: &World, parent: &str) -> Vec<v1::Secret> {
    let request = v1::ListSecretsRequest { parent: parent.into(), ..Default::default() };
    ask!(world.secrets, list_secrets, request).unwrap().secrets
}

async fn reveal(world: &World, name: &str) -> String {
    let request = v1::RevealSecretRequest { name: name.into() };
    ask!(world.secrets, reveal_secret, request).unwrap().material
}

#[tokio::test]
async fn the_given_secrets_are_written_with_the_subscription_and_no_other() {
    let world = World::with_tenant().await;
    let ed25519 = v1::NewSecret { algorithm: Algorithm::Ed25519.into(), ..Default::default() };
    let second =
        v1::NewSecret { activate_time: at(100), expire_time: at(200), ..given("second", key(2)) };
    let request = create(vec![given("first", key(1)), second, ed25519]);
    assert!(!format!("{request:?}").contains(&key(1)[6..]), "keys are not printed");
    let made = ask!(world.subscriptions, create_subscription, request).unwrap();
    assert_eq!(made.subscription.unwrap().secrets_live, 3);
    let found = secrets(&world, ERP).await;
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|it| it.revision == made.revision), "one write: {found:?}");
    let of = |id: &str| found.iter().find(|it| it.name == format!("{ERP}/secrets/{id}")).unwrap();
    assert_eq!(of("first").state(), v1::SecretState::Active);
    assert_eq!(of("second").state(), v1::SecretState::Scheduled);
    assert_eq!((of("second").activate_time, of("second").expire_time), (at(100), at(200)));
    assert_eq!(reveal(&world, &of("first").name).await, key(1));
    assert_eq!(reveal(&world, &of("second").name).await, key(2));
    let pair = found.iter().find(|it| it.algorithm() == Algorithm::Ed25519).unwrap();
    assert!(pair.public_key.starts_with("whpk_") && pair.name.contains("/secrets/key_"));
}

#[tokio::test]
async fn without_secrets_all_is_as_it_is() {
    let world = World::with_tenant().await;
    let made = ask!(world.subscriptions, create_subscription, create(Vec::new())).unwrap();
    assert_eq!(made.subscription.unwrap().secrets_live, 1);
    assert_eq!(secrets(&world, ERP).await.len(), 1);
}

#[tokio::test]
async fn every_wrong_secret_is_named() {
    let world = World::with_tenant().await;
    let wrong = vec![
        given("a", "whsec_c2hvcnQ=".into()),
        given("a", key(1)),
        v1::NewSecret { algorithm: Algorithm::Rsa.into(), ..given("x y", String::new()) },
        v1::NewSecret { expire_time: at(-1), activate_time: at(5), ..Default::default() },
    ];
    let answer = ask!(world.subscriptions, create_subscription, create(wrong));
    assert!(!format!("{:?}", answer.as_ref().unwrap_err()).contains("c2hvcnQ"));
    let expected = [
        ("secrets[0].material", "OUT_OF_RANGE"),
        ("secrets[2].algorithm", "OUT_OF_RANGE"),
        ("secrets[2].secret_id", "MALFORMED"),
        ("secrets[3].expire_time", "OUT_OF_RANGE"),
    ];
    assert_wrong(answer, &expected);
    let twice = vec![given("a", key(1)), given("b", key(2)), given("a", key(3))];
    let answer = ask!(world.subscriptions, create_subscription, create(twice));
    assert_wrong(answer, &[("secrets[2].secret_id", "MALFORMED")]);
    let many = (0..11).map(|_| v1::NewSecret::default()).collect();
    let answer = ask!(world.subscriptions, create_subscription, create(many));
    assert_wrong(answer, &[("secrets", "TOO_MANY")]);
    let most = (0..10).map(|_| v1::NewSecret::default()).collect();
    let made = ask!(world.subscriptions, create_subscription, create(most)).unwrap();
    assert_eq!(made.subscription.unwrap().secrets_live, 10);
    let request = v1::CreateSecretRequest { parent: ERP.into(), ..Default::default() };
    let answer = ask!(world.secrets, create_secret, request);
    assert_refused(answer, Code::ResourceExhausted, "QUOTA_EXCEEDED");
}

#[tokio::test]
async fn a_contract_that_is_not_there_is_missed_not_its_secrets() {
    let world = World::with_tenant().await;
    let mut request = create(vec![given("a", "hunter2".into())]);
    request.subscription.as_mut().unwrap().contract = "contracts/none".into();
    let answer = ask!(world.subscriptions, create_subscription, request);
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn repeats_and_dry_runs_are_those_of_the_request() {
    let world = World::with_tenant().await;
    let state = v1::SubscriptionState::Paused.into();
    let subscription = Some(v1::Subscription { state, ..subscription() });
    let request = v1::CreateSubscriptionRequest {
        request_id: "one".into(),
        subscription,
        ..create(vec![given("a", key(1)), v1::NewSecret::default()])
    };
    let dry = v1::CreateSubscriptionRequest { validate_only: true, ..request.clone() };
    let dry = ask!(world.subscriptions, create_subscription, dry).unwrap();
    let shown = dry.subscription.unwrap();
    assert_eq!((dry.revision, shown.secrets_live), (0, 2));
    assert_eq!(shown.state(), v1::SubscriptionState::Paused);
    let first = ask!(world.subscriptions, create_subscription, request.clone()).unwrap();
    let again = ask!(world.subscriptions, create_subscription, request.clone()).unwrap();
    assert_eq!(again, first);
    assert_eq!(secrets(&world, ERP).await.len(), 2);
    let other = v1::CreateSubscriptionRequest { secrets: vec![given("a", key(2))], ..request };
    let answer = ask!(world.subscriptions, create_subscription, other);
    assert_refused(answer, Code::AlreadyExists, "REQUEST_ID_REUSED");
}

#[tokio::test]
async fn a_subscription_may_begin_paused_and_in_no_other_state() {
    use v1::SubscriptionState as State;
    let world = World::with_tenant().await;
    let with = |state: State| {
        let mut request = create(Vec::new());
        request.subscription.as_mut().unwrap().state = state.into();
        request
    };
    for state in [State::Disabled, State::Rejected, State::PendingApproval] {
        let answer = ask!(world.subscriptions, create_subscription, with(state));
        let said = format!("{:?}", answer.as_ref().unwrap_err());
        let word = state.as_str_name().trim_start_matches("SUBSCRIPTION_STATE_");
        assert!(said.contains(&format!("must be ACTIVE or PAUSED at creation, not {word}")));
        assert_wrong(answer, &[("subscription.state", "OUT_OF_RANGE")]);
    }
    let mut unknown = create(Vec::new());
    unknown.subscription.as_mut().unwrap().state = 99;
    let answer = ask!(world.subscriptions, create_subscription, unknown);
    assert_wrong(answer, &[("subscription.state", "OUT_OF_RANGE")]);
    let made = ask!(world.subscriptions, create_subscription, with(State::Paused)).unwrap();
    let made = made.subscription.unwrap();
    assert_eq!((made.state(), made.state_change), (State::Paused, None));
    let resume = v1::ResumeSubscriptionRequest { name: ERP.into(), ..Default::default() };
    let resumed = ask!(world.subscriptions, resume_subscription, resume).unwrap();
    let resumed = resumed.subscription.unwrap();
    assert_eq!(resumed.state(), State::Active);
    assert!(resumed.state_change.is_some());
    let delete = v1::DeleteSubscriptionRequest { name: ERP.into(), ..Default::default() };
    ask!(world.subscriptions, delete_subscription, delete).unwrap();
    // ACTIVE is as if nothing were said; nobody begins paused who has to be approved first.
    let made = ask!(world.subscriptions, create_subscription, with(State::Active)).unwrap();
    assert_eq!(made.subscription.unwrap().state(), State::Active);
    let mut waits = with(State::Paused);
    waits.subscription_id = "waits".into();
    let subscription = waits.subscription.as_mut().unwrap();
    subscription.contract = "contracts/operator".into();
    subscription.event_types = vec!["payment.*".into()];
    let answer = ask!(world.subscriptions, create_subscription, waits.clone());
    assert_wrong(answer, &[("subscription.state", "OUT_OF_RANGE")]);
    waits.subscription.as_mut().unwrap().state = State::Active.into();
    let made = ask!(world.subscriptions, create_subscription, waits).unwrap();
    assert_eq!(made.subscription.unwrap().state(), State::PendingApproval);
}

#[tokio::test]
async fn callbacks_begin_with_secrets_and_paused_too() {
    let world = World::with_tenant().await;
    let callback = v1::Callback {
        url: URL.into(),
        state: v1::CallbackState::Paused.into(),
        ..Default::default()
    };
    let request = v1::CreateCallbackRequest {
        parent: "tenants/acme".into(),
        callback_id: "ask".into(),
        callback: Some(callback),
        secrets: vec![given("own", key(5))],
        ..Default::default()
    };
    let mut wrong = request.clone();
    wrong.secrets[0].material = "hunter2".into();
    wrong.callback.as_mut().unwrap().state = 99;
    let answer = ask!(world.callbacks, create_callback, wrong);
    let expected = [("callback.state", "OUT_OF_RANGE"), ("secrets[0].material", "MALFORMED")];
    assert_wrong(answer, &expected);
    let made = ask!(world.callbacks, create_callback, request).unwrap().callback.unwrap();
    assert_eq!((made.state(), made.secrets_live), (v1::CallbackState::Paused, 1));
    let name = "tenants/acme/callbacks/ask/secrets/own";
    assert_eq!(reveal(&world, name).await, key(5));
    let resume = v1::ResumeCallbackRequest { name: made.name, ..Default::default() };
    let resumed = ask!(world.callbacks, resume_callback, resume).unwrap().callback.unwrap();
    assert_eq!(resumed.state(), v1::CallbackState::Active);
}
