//! PreviewDelivery.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pregon_proto::v1;
use pregon_proto::v1::preview_delivery_request::Source;
use pregon_proto::v1::secret_service_server::SecretService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use tonic::Code;

use crate::world::{
    START, URL, World, ask, assert_refused, assert_wrong, at, mask, seconds, subscription,
};

const ERP: &str = "tenants/acme/subscriptions/erp";

fn event(kind: &str, json: &str) -> v1::Event {
    v1::Event {
        id: "o1".into(),
        r#type: kind.into(),
        data: Some(v1::event::Data::Json(json.into())),
        occur_time: at(0),
        ..Default::default()
    }
}

fn of(event: v1::Event) -> v1::PreviewDeliveryRequest {
    let source = Some(Source::Event(event));
    v1::PreviewDeliveryRequest { name: ERP.into(), source, ..Default::default() }
}

async fn preview(
    world: &World,
    request: v1::PreviewDeliveryRequest,
) -> v1::PreviewDeliveryResponse {
    ask!(world.subscriptions, preview_delivery, request).unwrap()
}

fn header<'a>(it: &'a v1::PreviewDeliveryResponse, name: &str) -> Option<&'a str> {
    it.headers.iter().find(|header| header.name == name).map(|header| header.value.as_str())
}

async fn change(world: &World, given: v1::Subscription, path: &str) {
    let subscription = Some(v1::Subscription { name: ERP.into(), ..given });
    let update_mask = mask(&[path]);
    let request = v1::UpdateSubscriptionRequest { subscription, update_mask, ..Default::default() };
    ask!(world.subscriptions, update_subscription, request).unwrap();
}

#[tokio::test]
async fn the_request_is_shown_with_its_signatures() {
    let world = World::with_subscription().await;
    world.event_type("order.captured").await;
    let list = v1::ListSecretsRequest { parent: ERP.into(), ..Default::default() };
    let old = ask!(world.secrets, list_secrets, list).unwrap().secrets.remove(0).name;
    let key = v1::CreateSecretRequest {
        parent: ERP.into(),
        secret_id: "k".into(),
        secret: Some(v1::Secret {
            material: format!("whsec_{}", STANDARD.encode([7; 32])),
            ..Default::default()
        }),
        ..Default::default()
    };
    ask!(world.secrets, create_secret, key).unwrap();
    let gone = v1::DeleteSecretRequest { name: old, ..Default::default() };
    ask!(world.secrets, delete_secret, gone).unwrap();
    let auth =
        v1::auth::Kind::Bearer(v1::BearerAuth { token: "hush".into(), ..Default::default() });
    let auth = Some(v1::Auth { kind: Some(auth), ..Default::default() });
    change(&world, v1::Subscription { auth, ..Default::default() }, "auth").await;
    let own = |name: &str, value: &str| v1::Header {
        name: name.into(),
        value: value.into(),
        ..Default::default()
    };
    let headers = vec![own("X-Shop", "7"), own("X-Token", "hush")];
    change(&world, v1::Subscription { headers, ..Default::default() }, "headers").await;

    let request = v1::PreviewDeliveryRequest {
        attempt: 2,
        time: at(60),
        ..of(event("order.captured", "{\"amount\": 5 }"))
    };
    let it = preview(&world, request).await;
    assert!(it.matches && it.render_error.is_empty(), "{it:?}");
    let body = "{\"type\":\"order.captured\",\"timestamp\":\"2026-09-21T14:13:20.000Z\",\"data\":{\"amount\": 5 }}";
    assert_eq!((it.body_text.as_str(), it.body.as_slice()), (body, body.as_bytes()));
    assert_eq!((it.method.as_str(), it.url.as_str()), ("POST", URL));
    let time = (START.millis() / 1000 + 60).to_string();
    assert_eq!(header(&it, "webhook-timestamp"), Some(time.as_str()));
    let [signature] = it.signatures.as_slice() else { panic!("{:?}", it.signatures) };
    assert_eq!((signature.name.as_str(), signature.key_id.as_str()), ("v1", "k"));
    assert_eq!(signature.signed_payload, format!("o1.{time}.{body}").into_bytes());
    assert_eq!(header(&it, "webhook-signature"), Some(format!("v1,{}", signature.value).as_str()));
    assert_eq!(
        (header(&it, "authorization"), header(&it, "X-Shop")),
        (Some("[masked]"), Some("7"))
    );
    assert_eq!(header(&it, "X-Token"), Some("[masked]"));
    assert!(!format!("{it:?}").contains("hush"));
    // The key is not live yet at an earlier time.
    let early = v1::PreviewDeliveryRequest { time: at(-60), ..of(event("order.captured", "{}")) };
    let it = preview(&world, early).await;
    assert_eq!((it.render_error.as_str(), it.body.len()), ("no active secret", 0));
}

#[tokio::test]
async fn every_check_of_matching_is_reported() {
    let world = World::with_tenant().await;
    for kind in ["order.captured", "payment.voided"] {
        world.event_type(kind).await;
    }
    let it = v1::Subscription {
        contract: "contracts/preauth".into(),
        event_types: vec!["*".into()],
        environment: v1::Environment::Test.into(),
        filter: "event.data.amount > 100 && tenant.labels.size() == 0".into(),
        ..subscription()
    };
    world.subscribe("acme", "erp", it).await;
    let test = |kind: &str, json: &str| v1::Event {
        environment: v1::Environment::Test.into(),
        ..event(kind, json)
    };
    for (event, failed) in [
        (test("order.captured", "{\"amount\":101}"), vec![]),
        (test("order.captured", "{\"amount\":5}"), vec!["filter"]),
        (test("order.captured", "{}"), vec!["filter"]),
        (test("payment.voided", "{\"amount\":101}"), vec!["contract"]),
        (event("payment.voided", "{\"amount\":1}"), vec!["environment", "contract", "filter"]),
    ] {
        let it = preview(&world, of(event)).await;
        let checks: Vec<_> = it.match_steps.iter().map(|step| step.check.as_str()).collect();
        assert_eq!(checks, ["state", "environment", "event_types", "contract", "filter"]);
        assert!(it.match_steps.iter().all(|step| !step.detail.is_empty()));
        let wrong = it.match_steps.iter().filter(|step| !step.passed);
        let wrong: Vec<_> = wrong.map(|step| step.check.as_str()).collect();
        assert_eq!((wrong, it.matches), (failed.clone(), failed.is_empty()));
        assert!(!it.body.is_empty(), "what would be sent is shown all the same");
    }
    let patterns = v1::Subscription { event_types: vec!["order.*".into()], ..Default::default() };
    change(&world, patterns, "event_types").await;
    let disable = v1::DisableSubscriptionRequest {
        name: ERP.into(),
        reason: "x".into(),
        ..Default::default()
    };
    ask!(world.subscriptions, disable_subscription, disable).unwrap();
    let it = preview(&world, of(test("payment.voided", "{\"amount\":101}"))).await;
    let wrong: Vec<_> =
        it.match_steps.iter().filter(|it| !it.passed).map(|it| &*it.check).collect();
    assert_eq!(wrong, ["state", "event_types", "contract"]);
}

#[tokio::test]
async fn the_schedule_is_planned_from_the_first_attempt() {
    let world = World::with_subscription().await;
    world.event_type("order.captured").await;
    let request = || of(event("order.captured", "{}"));
    let planned = preview(&world, request()).await.planned;
    let at = |index: usize| {
        let it: &v1::PlannedAttempt = &planned[index];
        let seconds = |it: Option<prost_types::Duration>| {
            it.map(|it| f64::from(i32::try_from(it.seconds).unwrap()) + f64::from(it.nanos) / 1e9)
        };
        (it.attempt, seconds(it.offset), seconds(it.earliest), seconds(it.latest))
    };
    assert_eq!(planned.len(), 10);
    assert_eq!(at(0), (1, Some(0.0), Some(0.0), Some(0.0)));
    assert_eq!(at(1), (2, Some(5.0), Some(4.5), Some(5.5)));
    assert_eq!(at(2), (3, Some(305.0), Some(274.5), Some(335.5)));
    let whole = 75.0 * 3600.0 + 35.0 * 60.0 + 5.0;
    assert_eq!(at(9).1, Some(whole));
    assert!(planned.iter().all(|it| it.timeout == seconds(15)));
    // Fixed delays without jitter, with two timeouts.
    let contract =
        v1::Subscription { contract: "contracts/tusfacturas".into(), ..Default::default() };
    let answer = {
        let subscription = Some(v1::Subscription { name: ERP.into(), ..contract });
        let request = v1::UpdateSubscriptionRequest { subscription, ..Default::default() };
        ask!(world.subscriptions, update_subscription, request)
    };
    answer.unwrap();
    let planned = preview(&world, request()).await.planned;
    let offsets: Vec<_> = planned.iter().map(|it| it.offset.unwrap().seconds / 60).collect();
    assert_eq!(offsets, [0, 5, 35, 215, 575, 1295]);
    assert!(planned.iter().all(|it| it.offset == it.earliest && it.offset == it.latest));
    assert_eq!((planned[0].timeout, planned[5].timeout), (seconds(20), seconds(5)));
    // A greatest age ends the plan.
    world.contract("aged", "retry: { exponential: { initial: 1h, factor: 1, max_delay: 1h, attempts: 30, max_age: 5h } }").await;
    let subscription = Some(v1::Subscription {
        name: ERP.into(),
        contract: "contracts/aged".into(),
        ..Default::default()
    });
    let update = v1::UpdateSubscriptionRequest { subscription, ..Default::default() };
    ask!(world.subscriptions, update_subscription, update).unwrap();
    assert_eq!(preview(&world, request()).await.planned.len(), 6);
}

#[tokio::test]
async fn stored_events_are_shown_and_given_ones_checked() {
    let world = World::with_subscription().await;
    world.tenant("beta").await;
    world.publish("acme", Some("o7"), "{\"amount\":7}").await;
    world.publish("beta", Some("o8"), "{}").await;
    let stored = |name: &str| v1::PreviewDeliveryRequest {
        source: Some(Source::StoredEvent(name.into())),
        ..of(v1::Event::default())
    };
    let it = preview(&world, stored("tenants/acme/events/o7")).await;
    assert!(it.matches && it.body_text.contains("{\"amount\":7}"));
    assert_eq!(header(&it, "webhook-id"), Some("o7"));
    for name in ["tenants/acme/events/o8", "tenants/beta/events/o8"] {
        let answer = ask!(world.subscriptions, preview_delivery, stored(name));
        assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    let unknown = of(event("order.captured", "{}"));
    let answer = ask!(world.subscriptions, preview_delivery, unknown.clone());
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    world.event_type("order.captured").await;
    preview(&world, unknown).await;
    let big = format!("\"{}\"", "x".repeat(256 * 1024));
    for (json, rule) in [
        ("[]", "EVENT_SCHEMA_MISMATCH"),
        ("{", "EVENT_JSON_INVALID"),
        (big.as_str(), "EVENT_TOO_LARGE"),
    ] {
        let answer = ask!(world.subscriptions, preview_delivery, of(event("order.captured", json)));
        assert_wrong(answer, &[("event.json", rule)]);
    }
    let given =
        v1::Event { id: "a b".into(), version: -1, ordering_key: "x".into(), ..event("a b", "{}") };
    let wrong = [
        ("attempt", "OUT_OF_RANGE"),
        ("event.id", "MALFORMED"),
        ("event.ordering_key", "UNSUPPORTED"),
        ("event.type", "MALFORMED"),
        ("event.version", "OUT_OF_RANGE"),
    ];
    let request = v1::PreviewDeliveryRequest { attempt: 101, ..of(given) };
    assert_wrong(ask!(world.subscriptions, preview_delivery, request), &wrong);
    let nothing = v1::PreviewDeliveryRequest { source: None, ..of(v1::Event::default()) };
    let answer = ask!(world.subscriptions, preview_delivery, nothing);
    assert_wrong(answer, &[("event", "REQUIRED")]);
}
