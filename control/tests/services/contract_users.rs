//! Contracts and who uses them.

use pregon_proto::v1;
use pregon_proto::v1::callback_service_server::CallbackService as _;
use pregon_proto::v1::contract_service_server::ContractService as _;
use pregon_proto::v1::secret_service_server::SecretService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use tonic::{Code, Status};

use crate::world::{
    URL, World, ask, assert_refused, assert_wrong, contract, create, mask, subscription,
};

const ERP: &str = "tenants/acme/subscriptions/erp";
const SIGNED: &str = "secret: { required: true, form: hex, bytes: [16, 16], generate: 16 }\nsignatures: [{ name: s, algorithm: hmac_sha256, header: x-signature }]";

fn under(contract: &str) -> v1::Subscription {
    v1::Subscription { contract: format!("contracts/{contract}"), ..subscription() }
}

fn change(given: v1::Subscription) -> v1::UpdateSubscriptionRequest {
    let subscription = Some(v1::Subscription { name: ERP.into(), ..given });
    v1::UpdateSubscriptionRequest { subscription, ..Default::default() }
}

async fn rewrite(
    world: &World,
    id: &str,
    rules: &str,
) -> Result<v1::UpdateContractResponse, Status> {
    let given = v1::Contract {
        name: format!("contracts/{id}"),
        document: contract(id, rules),
        ..Default::default()
    };
    let request = v1::UpdateContractRequest {
        contract: Some(given),
        update_mask: mask(&["document"]),
        ..Default::default()
    };
    ask!(world.contracts, update_contract, request)
}

async fn delete(world: &World, id: &str) -> Result<v1::DeleteContractResponse, Status> {
    let name = format!("contracts/{id}");
    ask!(world.contracts, delete_contract, v1::DeleteContractRequest { name, ..Default::default() })
}

#[tokio::test]
async fn one_that_is_used_stays() {
    let world = World::with_tenant().await;
    world.contract("mine", "").await;
    world.contract("other", "").await;
    ask!(world.subscriptions, create_subscription, create("erp", under("mine"))).unwrap();
    let refused = delete(&world, "mine").await.unwrap_err();
    assert!(refused.message().contains(ERP), "{}", refused.message());
    assert_refused(Err::<(), _>(refused), Code::FailedPrecondition, "CONTRACT_IN_USE");
    // It moves to the other one, and back, and goes.
    let moved = |to: &str| {
        change(v1::Subscription { contract: format!("contracts/{to}"), ..Default::default() })
    };
    ask!(world.subscriptions, update_subscription, moved("other")).unwrap();
    assert_refused(delete(&world, "other").await, Code::FailedPrecondition, "CONTRACT_IN_USE");
    ask!(world.subscriptions, update_subscription, moved("mine")).unwrap();
    delete(&world, "other").await.unwrap();
    let gone = v1::DeleteSubscriptionRequest { name: ERP.into(), ..Default::default() };
    ask!(world.subscriptions, delete_subscription, gone).unwrap();
    delete(&world, "mine").await.unwrap();
    let left = world.names().await;
    assert!(!left.iter().any(|name| name.starts_with("contracts/")), "{left:?}");
}

#[tokio::test]
async fn one_that_only_got_a_name_is_used_as_before() {
    let world = World::with_tenant().await;
    world.contract("mine", "").await;
    let display_name = "Ours".to_owned();
    let given = v1::Contract { name: "contracts/mine".into(), display_name, ..Default::default() };
    let request = v1::UpdateContractRequest { contract: Some(given), ..Default::default() };
    ask!(world.contracts, update_contract, request).unwrap();
    ask!(world.subscriptions, create_subscription, create("erp", under("mine"))).unwrap();
    assert_refused(delete(&world, "mine").await, Code::FailedPrecondition, "CONTRACT_IN_USE");
}

#[tokio::test]
async fn a_tenant_that_goes_uses_nothing_any_more() {
    let world = World::with_tenant().await;
    world.contract("mine", "").await;
    ask!(world.subscriptions, create_subscription, create("a", under("mine"))).unwrap();
    ask!(world.subscriptions, create_subscription, create("b", under("mine"))).unwrap();
    let callback =
        v1::Callback { url: URL.into(), contract: "contracts/mine".into(), ..Default::default() };
    let request = v1::CreateCallbackRequest {
        parent: "tenants/acme".into(),
        callback: Some(callback),
        ..Default::default()
    };
    ask!(world.callbacks, create_callback, request).unwrap();
    let gone = v1::DeleteTenantRequest { name: "tenants/acme".into(), ..Default::default() };
    let answer = ask!(world.tenants, delete_tenant, gone.clone());
    assert_refused(answer, Code::FailedPrecondition, "CHILDREN_EXIST");
    let gone = v1::DeleteTenantRequest { force: true, ..gone };
    ask!(world.tenants, delete_tenant, gone).unwrap();
    delete(&world, "mine").await.unwrap();
    let left = world.names().await;
    let others = ["books/apiKeys", "registry/contracts", "erasures/acme"];
    let kept = |name: &String| name.contains("/lanes/") || others.contains(&name.as_str());
    assert!(left.iter().all(kept), "{left:?}");
}

#[tokio::test]
async fn a_new_document_must_fit_everybody_under_it() {
    let world = World::with_tenant().await;
    world.contract("mine", "").await;
    let auth = v1::auth::Kind::Bearer(v1::BearerAuth { token: "t".into(), ..Default::default() });
    let it = v1::Subscription {
        headers: vec![v1::Header {
            name: "X-Shop".into(),
            value: "7".into(),
            ..Default::default()
        }],
        auth: Some(v1::Auth { kind: Some(auth), ..Default::default() }),
        ..under("mine")
    };
    ask!(world.subscriptions, create_subscription, create("erp", it)).unwrap();
    for rules in [
        "headers: { x-shop: \"1\" }",
        "headers: { authorization: \"x\" }",
        "auth: [none, basic]",
        "url: { schemes: [http] }",
        "url: { ports: [8443] }",
        SIGNED,
    ] {
        let refused = rewrite(&world, "mine", rules).await;
        let text = refused.as_ref().unwrap_err().message().to_owned();
        assert!(text.contains(ERP), "{text}");
        assert_refused(refused, Code::FailedPrecondition, "CONTRACT_IN_USE");
    }
    rewrite(&world, "mine", "retry: none\nheaders: { x-other: \"1\" }").await.unwrap();
    // A key of another form.
    world.contract("signed", SIGNED).await;
    ask!(world.subscriptions, create_subscription, create("crm", under("signed"))).unwrap();
    let longer = SIGNED.replace("16", "32");
    assert_refused(
        rewrite(&world, "signed", &longer).await,
        Code::FailedPrecondition,
        "CONTRACT_IN_USE",
    );
    rewrite(&world, "signed", &SIGNED.replace("[16, 16]", "[8, 64]")).await.unwrap();
}

#[tokio::test]
async fn a_subscription_is_held_against_its_own_contract() {
    let world = World::with_tenant().await;
    world.contract("open", "url: { schemes: [http, https], ports: [8080] }").await;
    world.contract("strict", "headers: { x-shop: \"1\" }\nauth: [none]").await;
    let there = v1::Subscription { url: "http://example.com:8080/".into(), ..under("open") };
    ask!(world.subscriptions, create_subscription, create("erp", there)).unwrap();
    let answer = ask!(world.subscriptions, create_subscription, create("x", under("open")));
    assert_wrong(answer, &[("subscription.url", "URL_REFUSED")]);
    let auth = v1::auth::Kind::Bearer(v1::BearerAuth { token: "t".into(), ..Default::default() });
    let both = v1::Subscription {
        headers: vec![v1::Header {
            name: "X-Shop".into(),
            value: "7".into(),
            ..Default::default()
        }],
        auth: Some(v1::Auth { kind: Some(auth), ..Default::default() }),
        ..under("strict")
    };
    let wrong =
        [("subscription.auth", "OUT_OF_RANGE"), ("subscription.headers[0]", "HEADER_REFUSED")];
    let answer = ask!(world.subscriptions, create_subscription, create("x", both.clone()));
    assert_wrong(answer, &wrong);
    // All of it is asked again when it moves, and beside what is wrong already.
    let request =
        change(v1::Subscription { contract: "contracts/strict".into(), ..Default::default() });
    let answer = ask!(world.subscriptions, update_subscription, request);
    assert_wrong(answer, &[("subscription.url", "URL_REFUSED")]);
    let mut wrong = wrong.to_vec();
    wrong.push(("subscription.max_concurrency", "OUT_OF_RANGE"));
    let request = change(v1::Subscription { max_concurrency: -1, ..both });
    assert_wrong(ask!(world.subscriptions, update_subscription, request), &wrong);
    // What is wrong under the stored contract is told, though the contract is not chosen.
    let request = change(v1::Subscription {
        url: "http://example.com/".into(),
        max_concurrency: -1,
        ..Default::default()
    });
    let answer = ask!(world.subscriptions, update_subscription, request);
    let wrong =
        [("subscription.max_concurrency", "OUT_OF_RANGE"), ("subscription.url", "URL_REFUSED")];
    assert_wrong(answer, &wrong);
}

#[tokio::test]
async fn a_subscription_says_anew_what_its_contract_lists() {
    let world = World::with_tenant().await;
    world.contract("lists", "overridable: [timeouts, retry]\ntimeouts: [20s]").await;
    let saying = |text: &str| v1::Subscription { overrides: text.into(), ..under("lists") };
    let answer = ask!(
        world.subscriptions,
        create_subscription,
        create("erp", saying("timeouts: [40s]\nrefuse: \"true\""))
    );
    let refused = ("subscription.overrides", "CONTRACT_INVALID");
    assert_wrong(answer, &[refused, refused]);
    let there = create("erp", saying("acknowledge: response.status == 200"));
    let answer = ask!(world.subscriptions, create_subscription, there);
    assert_wrong(answer, &[("subscription.overrides", "OUT_OF_RANGE")]);
    let long = create("erp", saying(&format!("timeouts: [5s] #{}", "x".repeat(5000))));
    let answer = ask!(world.subscriptions, create_subscription, long);
    assert_wrong(answer, &[("subscription.overrides", "TOO_LONG")]);

    let text = "timeouts: [5s, 6s]\nretry: { delays: [1m] }";
    let made = ask!(world.subscriptions, create_subscription, create("erp", saying(text))).unwrap();
    assert_eq!(made.subscription.unwrap().overrides, text);
    // The contract cannot take back what is said, and changes the rest.
    assert_refused(
        rewrite(&world, "lists", "overridable: [retry]").await,
        Code::FailedPrecondition,
        "CONTRACT_IN_USE",
    );
    rewrite(&world, "lists", "overridable: [retry, timeouts]\ntimeouts: [3s]").await.unwrap();
    let none =
        change(v1::Subscription { contract: "contracts/preauth".into(), ..Default::default() });
    let answer = ask!(world.subscriptions, update_subscription, none);
    assert_wrong(answer, &[("subscription.overrides", "OUT_OF_RANGE")]);
}

#[tokio::test]
async fn a_parameter_that_the_url_has_cannot_be_added() {
    let world = World::with_tenant().await;
    world.contract("adds", "url: { query: { data.id: \"${event.id}\" } }").await;
    let at = |url: &str| v1::Subscription { url: url.into(), ..under("adds") };
    let answer = ask!(
        world.subscriptions,
        create_subscription,
        create("erp", at("https://example.com/hook?a=1&data%2Eid=2"))
    );
    assert_wrong(answer, &[("subscription.url", "URL_REFUSED")]);
    let there = create("erp", at("https://example.com/hook?a=1"));
    ask!(world.subscriptions, create_subscription, there).unwrap();
    // Nor by a contract that is in use.
    let other = "url: { query: { a: \"${event.id}\" } }";
    assert_refused(
        rewrite(&world, "adds", other).await,
        Code::FailedPrecondition,
        "CONTRACT_IN_USE",
    );
    rewrite(&world, "adds", &other.replace("a:", "b:")).await.unwrap();
}

#[tokio::test]
async fn a_subscription_that_moves_takes_fitting_keys_along() {
    let world = World::with_subscription().await;
    world.contract("signed", SIGNED).await;
    let to = |contract: &str| {
        change(v1::Subscription { contract: format!("contracts/{contract}"), ..Default::default() })
    };
    let answer = ask!(world.subscriptions, update_subscription, to("signed"));
    assert_wrong(answer, &[("subscription.contract", "OUT_OF_RANGE")]);
    // Where nothing is signed nothing is asked of keys; and from there nothing can be revealed.
    ask!(world.subscriptions, update_subscription, to("preauth")).unwrap();
    let list = v1::ListSecretsRequest { parent: ERP.into(), ..Default::default() };
    let key = ask!(world.secrets, list_secrets, list).unwrap().secrets.remove(0);
    let reveal = v1::RevealSecretRequest { name: key.name.clone() };
    let answer = ask!(world.secrets, reveal_secret, reveal.clone());
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
    let back = ask!(world.subscriptions, update_subscription, to("standard_webhooks")).unwrap();
    assert_eq!(back.subscription.unwrap().secrets_live, 1);
    assert!(ask!(world.secrets, reveal_secret, reveal).unwrap().material.starts_with("whsec_"));
    // Without its key it moves, and gets the first one of the new form.
    ask!(world.subscriptions, update_subscription, to("preauth")).unwrap();
    let gone = v1::DeleteSecretRequest { name: key.name, ..Default::default() };
    ask!(world.secrets, delete_secret, gone).unwrap();
    let moved = ask!(world.subscriptions, update_subscription, to("signed")).unwrap();
    assert_eq!(moved.subscription.unwrap().secrets_live, 1);
    let list = v1::ListSecretsRequest { parent: ERP.into(), ..Default::default() };
    let key = ask!(world.secrets, list_secrets, list).unwrap().secrets.remove(0);
    let reveal = v1::RevealSecretRequest { name: key.name };
    let material = ask!(world.secrets, reveal_secret, reveal).unwrap().material;
    assert!(
        material.len() == 32 && material.bytes().all(|b| b.is_ascii_hexdigit()),
        "a key in hex"
    );
}
