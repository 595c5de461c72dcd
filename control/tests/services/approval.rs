//! Approval: under a contract that asks for it, nothing goes out before an operator says so.

use pregon_proto::v1;
use pregon_proto::v1::SubscriptionState as State;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_rpc::caller::{Caller, Role};
use tonic::Code;

use crate::world::{World, ask, assert_refused, assert_wrong, from, subscription};

const ERP: &str = "tenants/acme/subscriptions/erp";

fn manager() -> Caller {
    Caller::new("shop", Role::TenantManager, None)
}

fn operator() -> Caller {
    Caller::new("desk", Role::Operator, None)
}

async fn asked() -> World {
    let world = World::with_tenant().await;
    let it = v1::Subscription {
        contract: "contracts/operator".into(),
        event_types: vec!["payment.*".into()],
        ..subscription()
    };
    let made = world.subscribe("acme", "erp", it).await;
    assert_eq!((made.state(), made.state_change), (State::PendingApproval, None));
    world
}

fn approve() -> v1::ApproveSubscriptionRequest {
    v1::ApproveSubscriptionRequest { name: ERP.into(), note: "seen".into(), ..Default::default() }
}

fn reject() -> v1::RejectSubscriptionRequest {
    v1::RejectSubscriptionRequest { name: ERP.into(), reason: "no".into(), ..Default::default() }
}

async fn change(world: &World, caller: Caller, given: v1::Subscription) -> v1::Subscription {
    let subscription = Some(v1::Subscription { name: ERP.into(), ..given });
    let request = v1::UpdateSubscriptionRequest { subscription, ..Default::default() };
    let answer = world.subscriptions.update_subscription(from(caller, request)).await.unwrap();
    answer.into_inner().subscription.unwrap()
}

fn another_url() -> v1::Subscription {
    v1::Subscription { url: "https://example.com/other".into(), ..Default::default() }
}

#[tokio::test]
async fn an_operator_decides_and_is_remembered() {
    let world = asked().await;
    let pause = v1::PauseSubscriptionRequest { name: ERP.into(), ..Default::default() };
    let answer = ask!(world.subscriptions, pause_subscription, pause);
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
    let rejected = world.subscriptions.reject_subscription(from(operator(), reject())).await;
    let rejected = rejected.unwrap().into_inner().subscription.unwrap();
    assert_eq!((rejected.state(), rejected.state_reason.as_str()), (State::Rejected, "no"));
    let resume = v1::ResumeSubscriptionRequest { name: ERP.into(), ..Default::default() };
    let answer = ask!(world.subscriptions, resume_subscription, resume);
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
    let approved = world.subscriptions.approve_subscription(from(operator(), approve())).await;
    let approved = approved.unwrap().into_inner();
    let it = approved.subscription.unwrap();
    let change = it.state_change.unwrap();
    assert_eq!((it.state, it.state_reason.as_str()), (State::Active.into(), ""));
    assert_eq!((change.actor.as_str(), change.note.as_str()), ("desk", "seen"));
    // What is approved stays so, and is not rejected.
    let again = ask!(world.subscriptions, approve_subscription, approve()).unwrap();
    assert_eq!(again.revision, approved.revision);
    let answer = ask!(world.subscriptions, reject_subscription, reject());
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
    let long = v1::ApproveSubscriptionRequest { note: "x".repeat(1025), ..approve() };
    let answer = ask!(world.subscriptions, approve_subscription, long);
    assert_wrong(answer, &[("note", "TOO_LONG")]);
    let mute = v1::RejectSubscriptionRequest { reason: String::new(), ..reject() };
    let answer = ask!(world.subscriptions, reject_subscription, mute);
    assert_wrong(answer, &[("reason", "REQUIRED")]);
}

#[tokio::test]
async fn what_was_approved_is_approved_again_when_it_changes() {
    let world = asked().await;
    ask!(world.subscriptions, approve_subscription, approve()).unwrap();
    // What was not part of it changes freely; nor does it help to say the same again.
    let same = v1::Subscription {
        display_name: "ERP".into(),
        url: subscription().url,
        ..Default::default()
    };
    assert_eq!(change(&world, manager(), same).await.state(), State::Active);
    assert_eq!(change(&world, operator(), another_url()).await.state(), State::Active);
    let back = v1::Subscription { url: subscription().url, ..Default::default() };
    let now = change(&world, manager(), back.clone()).await;
    assert_eq!((now.state(), now.state_reason.as_str()), (State::PendingApproval, "changed: url"));
    assert_eq!(now.state_change.unwrap().actor, "shop");

    // Nobody gets around it by way of DISABLED.
    ask!(world.subscriptions, approve_subscription, approve()).unwrap();
    let disable = v1::DisableSubscriptionRequest {
        name: ERP.into(),
        reason: "holiday".into(),
        ..Default::default()
    };
    ask!(world.subscriptions, disable_subscription, disable).unwrap();
    assert_eq!(change(&world, manager(), another_url()).await.state(), State::PendingApproval);
    let auth = v1::auth::Kind::Bearer(v1::BearerAuth { token: "t".into(), ..Default::default() });
    let auth = v1::Subscription {
        auth: Some(v1::Auth { kind: Some(auth), ..Default::default() }),
        ..Default::default()
    };
    ask!(world.subscriptions, reject_subscription, reject()).unwrap();
    assert_eq!(change(&world, manager(), auth.clone()).await.state(), State::Rejected);
    ask!(world.subscriptions, approve_subscription, approve()).unwrap();
    assert_eq!(change(&world, manager(), auth).await.state(), State::PendingApproval);
    // Where callers are not authenticated everybody is everything.
    ask!(world.subscriptions, approve_subscription, approve()).unwrap();
    assert_eq!(change(&world, Caller::anyone(), back).await.state(), State::Active);
}

#[tokio::test]
async fn moving_under_such_a_contract_asks_too() {
    let world = World::with_subscription().await;
    let to = v1::Subscription { contract: "contracts/operator".into(), ..Default::default() };
    let now = change(&world, manager(), to).await;
    assert_eq!(
        (now.state(), now.state_reason.as_str()),
        (State::PendingApproval, "changed: contract")
    );
}
