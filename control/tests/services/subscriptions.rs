//! SubscriptionService.

use pregon_core::model::Resource;
use pregon_proto::v1;
use pregon_proto::v1::SubscriptionState as State;
use pregon_proto::v1::secret_service_server::SecretService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use tonic::Code;

use crate::world::{World, ask, assert_refused, assert_wrong, create, mask, subscription};

const ERP: &str = "tenants/acme/subscriptions/erp";

fn update(subscription: v1::Subscription, paths: &[&str]) -> v1::UpdateSubscriptionRequest {
    let subscription = Some(v1::Subscription { name: ERP.into(), ..subscription });
    let update_mask = mask(paths).filter(|mask| !mask.paths.is_empty());
    v1::UpdateSubscriptionRequest { subscription, update_mask, ..Default::default() }
}

async fn get(world: &World, name: &str) -> v1::Subscription {
    let request = v1::GetSubscriptionRequest { name: name.into() };
    ask!(world.subscriptions, get_subscription, request).unwrap().subscription.unwrap()
}

async fn list(world: &World, request: v1::ListSubscriptionsRequest) -> Vec<String> {
    let parent = match request.parent.as_str() {
        "" => "tenants/acme".to_owned(),
        given => given.to_owned(),
    };
    let request = v1::ListSubscriptionsRequest { parent, ..request };
    let page = ask!(world.subscriptions, list_subscriptions, request).unwrap();
    page.subscriptions.into_iter().map(|it| it.name).collect()
}

#[tokio::test]
async fn a_subscription_comes_with_its_key_in_one_commit() {
    let world = World::with_tenant().await;
    let before = world.store.config.head().await.unwrap().revision;
    let given = v1::Subscription {
        filter: "event.data.amount > 100".into(),
        headers: vec![v1::Header {
            name: "X-Shop".into(),
            value: "7".into(),
            ..Default::default()
        }],
        ..subscription()
    };
    let made = ask!(world.subscriptions, create_subscription, create("erp", given)).unwrap();
    assert_eq!(made.revision, before + 1);
    let it = made.subscription.unwrap();
    assert_eq!((it.name.as_str(), it.revision), (ERP, made.revision));
    assert_eq!((it.state(), it.environment()), (State::Active, v1::Environment::Live));
    assert_eq!(it.contract, "contracts/standard_webhooks");
    assert_eq!((it.max_concurrency, it.secrets_live), (64, 1));
    assert_eq!(get(&world, ERP).await, it);
    let request = v1::ListSecretsRequest { parent: ERP.into(), ..Default::default() };
    let secrets = ask!(world.secrets, list_secrets, request).unwrap().secrets;
    assert_eq!((secrets.len(), secrets[0].state()), (1, v1::SecretState::Active));
    assert_eq!(secrets[0].revision, made.revision);
}

#[tokio::test]
async fn an_id_is_assigned_where_none_is_given() {
    let world = World::with_tenant().await;
    let request = create("", subscription());
    let dry = v1::CreateSubscriptionRequest { validate_only: true, ..request.clone() };
    let shown = ask!(world.subscriptions, create_subscription, dry).unwrap().subscription.unwrap();
    assert_eq!((shown.name.as_str(), shown.revision), ("", 0));
    let names: Vec<_> = [
        ask!(world.subscriptions, create_subscription, request.clone()).unwrap(),
        ask!(world.subscriptions, create_subscription, request).unwrap(),
    ]
    .map(|answer| answer.subscription.unwrap().name)
    .into();
    assert!(names[0].starts_with("tenants/acme/subscriptions/sub_") && names[0] != names[1]);
}

#[tokio::test]
async fn every_wrong_field_is_reported() {
    let world = World::with_tenant().await;
    let header = |name: &str, value: &str| v1::Header {
        name: name.into(),
        value: value.into(),
        ..Default::default()
    };
    let given = v1::Subscription {
        url: "https://user:pass@example.com/#x".into(),
        event_types: vec!["*".into(), "order*".into(), "order.*".into(), "a b".into()],
        filter: "event.data.amount >".into(),
        contract: "standard_webhooks".into(),
        headers: vec![
            header("Host", "x"),
            header("x-a", "1"),
            header("Webhook-Id", "x"),
            header("x-b", "a\nb"),
        ],
        max_concurrency: 1025,
        environment: 9,
        auth: Some(v1::Auth { ca_pem: "x".into(), ..Default::default() }),
        rate_limit: Some(v1::RateLimit::default()),
        max_pending: 5,
        ordered: Some(true),
        egress: "blue".into(),
        sensitive_paths: vec!["event.data.a".into(), "check.data".into(), "data.a".into()],
        ..Default::default()
    };
    let wrong = [
        ("subscription.auth.ca_pem", "MALFORMED"),
        ("subscription.contract", "MALFORMED"),
        ("subscription.egress", "UNSUPPORTED"),
        ("subscription.environment", "OUT_OF_RANGE"),
        ("subscription.event_types[1]", "PATTERN_INVALID"),
        ("subscription.event_types[3]", "PATTERN_INVALID"),
        ("subscription.filter", "EXPRESSION_INVALID"),
        ("subscription.headers[0]", "HEADER_REFUSED"),
        ("subscription.headers[2]", "HEADER_REFUSED"),
        ("subscription.headers[3]", "HEADER_REFUSED"),
        ("subscription.max_concurrency", "OUT_OF_RANGE"),
        ("subscription.max_pending", "UNSUPPORTED"),
        ("subscription.ordered", "UNSUPPORTED"),
        ("subscription.rate_limit.per_second", "OUT_OF_RANGE"),
        ("subscription.sensitive_paths[1]", "MALFORMED"),
        ("subscription.sensitive_paths[2]", "MALFORMED"),
        ("subscription.url", "URL_REFUSED"),
        ("subscription_id", "MALFORMED"),
    ];
    let answer = ask!(world.subscriptions, create_subscription, create("a b", given));
    assert_wrong(answer, &wrong);
    let answer = ask!(world.subscriptions, create_subscription, create("erp", Default::default()));
    let wrong = [("subscription.event_types", "REQUIRED"), ("subscription.url", "REQUIRED")];
    assert_wrong(answer, &wrong);
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let world = World::with_tenant().await;
    let stranger = v1::CreateSubscriptionRequest {
        parent: "tenants/none".into(),
        ..create("erp", subscription())
    };
    let answer = ask!(world.subscriptions, create_subscription, stranger);
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let other = v1::Subscription { contract: "contracts/mine".into(), ..subscription() };
    let answer = ask!(world.subscriptions, create_subscription, create("erp", other));
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let answer = ask!(world.subscriptions, update_subscription, update(subscription(), &[]));
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let request =
        v1::ListSubscriptionsRequest { parent: "tenants/none".into(), ..Default::default() };
    let answer = ask!(world.subscriptions, list_subscriptions, request);
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let delete = v1::DeleteSubscriptionRequest { name: ERP.into(), ..Default::default() };
    let answer = ask!(world.subscriptions, delete_subscription, delete);
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn a_tenant_has_no_more_than_it_may() {
    let world = World::new();
    let limits = v1::TenantLimits { max_subscriptions: Some(2), ..Default::default() };
    let tenant = v1::Tenant { limits: Some(limits), ..Default::default() };
    let request = v1::CreateTenantRequest {
        tenant_id: "acme".into(),
        tenant: Some(tenant),
        ..Default::default()
    };
    ask!(world.tenants, create_tenant, request).unwrap();
    world.subscription("acme", "a").await;
    world.subscription("acme", "b").await;
    let answer = ask!(world.subscriptions, create_subscription, create("c", subscription()));
    assert_refused(answer, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    let other = v1::Subscription { contract: "contracts/none".into(), ..subscription() };
    let answer = ask!(world.subscriptions, create_subscription, create("c", other));
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let name = "tenants/acme/subscriptions/a".to_owned();
    let delete = v1::DeleteSubscriptionRequest { name, ..Default::default() };
    ask!(world.subscriptions, delete_subscription, delete).unwrap();
    world.subscription("acme", "c").await;
}

#[tokio::test]
async fn many_at_once_never_pass_the_limit_or_fail_each_other() {
    let world = std::sync::Arc::new(World::with_tenant().await);
    let tasks: Vec<_> = (0..40)
        .map(|index| {
            let world = std::sync::Arc::clone(&world);
            let request = create(&format!("s{index}"), subscription());
            tokio::spawn(async move { ask!(world.subscriptions, create_subscription, request) })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(list(&world, v1::ListSubscriptionsRequest::default()).await.len(), 40);
}

#[tokio::test]
async fn updates_keep_what_is_not_chosen() {
    let world = World::with_subscription().await;
    let before = get(&world, ERP).await;
    let url = "https://example.com/other".to_owned();
    let request = update(v1::Subscription { url: url.clone(), ..Default::default() }, &[]);
    let now = ask!(world.subscriptions, update_subscription, request).unwrap();
    let now = now.subscription.unwrap();
    assert_eq!((&now.url, &now.event_types), (&url, &before.event_types));
    assert_eq!(now.secrets_live, 1);
    let request = update(Default::default(), &["*"]);
    let answer = ask!(world.subscriptions, update_subscription, request);
    let wrong = [("subscription.event_types", "REQUIRED"), ("subscription.url", "REQUIRED")];
    assert_wrong(answer, &wrong);
    for (paths, rule) in [("environment", "IMMUTABLE"), ("state", "UNKNOWN_FIELD")] {
        let answer =
            ask!(world.subscriptions, update_subscription, update(subscription(), &[paths]));
        assert_wrong(answer, &[("update_mask.paths[0]", rule)]);
    }
    // The environment may be repeated, not changed.
    let live = v1::Environment::Live.into();
    let same = v1::Subscription { environment: live, ..subscription() };
    ask!(world.subscriptions, update_subscription, update(same, &[])).unwrap();
    let test = v1::Environment::Test.into();
    let other = v1::Subscription { environment: test, ..subscription() };
    let answer = ask!(world.subscriptions, update_subscription, update(other, &["*"]));
    assert_wrong(answer, &[("subscription.environment", "IMMUTABLE")]);
    // What is not supported is refused when chosen, ignored when not.
    let ordered = v1::Subscription { ordered: Some(true), ..Default::default() };
    let request = update(ordered.clone(), &["labels"]);
    ask!(world.subscriptions, update_subscription, request).unwrap();
    let answer = ask!(world.subscriptions, update_subscription, update(ordered, &[]));
    assert_wrong(answer, &[("subscription.ordered", "UNSUPPORTED")]);
    // Stale.
    let stale = v1::Subscription { etag: before.etag, ..subscription() };
    let answer = ask!(world.subscriptions, update_subscription, update(stale, &[]));
    assert_refused(answer, Code::Aborted, "ETAG_MISMATCH");
}

#[tokio::test]
async fn a_rate_is_given_changed_and_taken_away() {
    let world = World::with_tenant().await;
    let rate = |per_second, burst| v1::Subscription {
        rate_limit: Some(v1::RateLimit { per_second, burst }),
        ..subscription()
    };
    let made = ask!(world.subscriptions, create_subscription, create("erp", rate(2.5, 0))).unwrap();
    let shown = made.subscription.unwrap().rate_limit;
    assert_eq!(shown, Some(v1::RateLimit { per_second: 2.5, burst: 0 }));
    let request = update(rate(100.0, 7), &[]);
    let changed = ask!(world.subscriptions, update_subscription, request).unwrap();
    let shown = changed.subscription.unwrap().rate_limit;
    assert_eq!(shown, Some(v1::RateLimit { per_second: 100.0, burst: 7 }));
    for (per_second, burst, field) in [
        (0.0, 0, "per_second"),
        (-1.0, 0, "per_second"),
        (f64::NAN, 0, "per_second"),
        (100_001.0, 0, "per_second"),
        (100.0, -1, "burst"),
        (100.0, 100_001, "burst"),
        (0.001, 4, "burst"),
    ] {
        let request = update(rate(per_second, burst), &["rate_limit"]);
        let answer = ask!(world.subscriptions, update_subscription, request);
        assert_wrong(answer, &[(&format!("subscription.rate_limit.{field}"), "OUT_OF_RANGE")]);
    }
    let request = update(subscription(), &["rate_limit"]);
    let changed = ask!(world.subscriptions, update_subscription, request).unwrap();
    assert_eq!(changed.subscription.unwrap().rate_limit, None);
}

#[tokio::test]
async fn a_lane_is_opened_by_a_write_that_nodes_follow() {
    let world = World::with_tenant().await;
    ask!(world.subscriptions, create_subscription, create("erp", subscription())).unwrap();
    let name = || ERP.to_owned();
    let open = |validate_only| v1::OpenLaneRequest { name: name(), validate_only };
    let tried = ask!(world.subscriptions, open_lane, open(true)).unwrap();
    assert_eq!(tried.revision, 0);
    let first = ask!(world.subscriptions, open_lane, open(false)).unwrap();
    let second = ask!(world.subscriptions, open_lane, open(false)).unwrap();
    assert!(second.revision > first.revision, "each is a word of its own");
    let shown = second.subscription.unwrap();
    assert_eq!(shown.state(), v1::SubscriptionState::Active);
    assert_eq!(shown.state_change, None, "its state was not moved");
    let pause = v1::PauseSubscriptionRequest { name: name(), ..Default::default() };
    ask!(world.subscriptions, pause_subscription, pause).unwrap();
    let answer = ask!(world.subscriptions, open_lane, open(false));
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
}

#[tokio::test]
async fn an_update_may_create() {
    let world = World::with_tenant().await;
    let request =
        v1::UpdateSubscriptionRequest { allow_missing: true, ..update(subscription(), &[]) };
    let made = ask!(world.subscriptions, update_subscription, request).unwrap();
    assert_eq!(made.subscription.unwrap().secrets_live, 1);
    let mut stranger =
        v1::UpdateSubscriptionRequest { allow_missing: true, ..update(subscription(), &[]) };
    stranger.subscription.as_mut().unwrap().name = "tenants/none/subscriptions/a".into();
    let answer = ask!(world.subscriptions, update_subscription, stranger);
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn a_deleted_one_takes_its_keys_along() {
    let world = World::with_subscription().await;
    let first = world.lane(ERP).await;
    let delete = v1::DeleteSubscriptionRequest { name: ERP.into(), ..Default::default() };
    let dry = v1::DeleteSubscriptionRequest { validate_only: true, ..delete.clone() };
    assert_eq!(ask!(world.subscriptions, delete_subscription, dry).unwrap().revision, 0);
    ask!(world.subscriptions, delete_subscription, delete).unwrap();
    let names = world.names().await;
    assert!(!names.iter().any(|name| name.contains("/subscriptions/")), "{names:?}");
    world.subscription("acme", "erp").await;
    assert_ne!(world.lane(ERP).await, first, "a lane is never used again");
}

#[tokio::test]
async fn lists_are_filtered() {
    let world = World::with_tenant().await;
    let test = v1::Environment::Test.into();
    let labels = |value: &str| [("shop".to_owned(), value.to_owned())].into();
    let every = vec!["*".to_owned()];
    for (id, it) in [
        ("a", v1::Subscription { labels: labels("1"), ..subscription() }),
        ("b", v1::Subscription { environment: test, labels: labels("1"), ..subscription() }),
        ("c", v1::Subscription { event_types: every, labels: labels("2"), ..subscription() }),
    ] {
        ask!(world.subscriptions, create_subscription, create(id, it)).unwrap();
    }
    world.tenant("beta").await;
    world.subscription("beta", "z").await;
    let name = |id: &str| format!("tenants/acme/subscriptions/{id}");
    let all = v1::ListSubscriptionsRequest::default;
    assert_eq!(list(&world, all()).await, [name("a"), name("b"), name("c")]);
    let one = v1::ListSubscriptionsRequest { environment: test, ..all() };
    assert_eq!(list(&world, one).await, [name("b")]);
    let two = v1::ListSubscriptionsRequest { labels: labels("1"), ..all() };
    assert_eq!(list(&world, two).await, [name("a"), name("b")]);
    let kind = v1::ListSubscriptionsRequest { event_type: "eventTypes/refund".into(), ..all() };
    assert_eq!(list(&world, kind).await, [name("c")]);
    let contract = v1::ListSubscriptionsRequest { contract: "contracts/x".into(), ..all() };
    assert!(list(&world, contract).await.is_empty());
    let paused = v1::ListSubscriptionsRequest { state: State::Paused.into(), ..all() };
    assert!(list(&world, paused).await.is_empty());
    let everybody = v1::ListSubscriptionsRequest { parent: "tenants/-".into(), ..all() };
    assert_eq!(list(&world, everybody).await.len(), 4);
    let wrong = v1::ListSubscriptionsRequest {
        parent: "acme".into(),
        event_type: "refund".into(),
        state: 77,
        page_token: "x".into(),
        ..all()
    };
    let answer = ask!(world.subscriptions, list_subscriptions, wrong);
    let wrong = [
        ("event_type", "MALFORMED"),
        ("page_token", "PAGE_TOKEN_INVALID"),
        ("parent", "MALFORMED"),
        ("state", "OUT_OF_RANGE"),
    ];
    assert_wrong(answer, &wrong);
}

#[tokio::test]
async fn keys_are_counted_in_lists() {
    let world = World::with_tenant().await;
    for id in ["a", "a-b", "a_b"] {
        world.subscription("acme", id).await;
    }
    let parent = "tenants/acme/subscriptions/a-b".to_owned();
    let request = v1::CreateSecretRequest { parent, ..Default::default() };
    ask!(world.secrets, create_secret, request).unwrap();
    let request =
        v1::ListSubscriptionsRequest { parent: "tenants/acme".into(), ..Default::default() };
    let page = ask!(world.subscriptions, list_subscriptions, request).unwrap();
    let counts: Vec<_> = page.subscriptions.iter().map(|it| it.secrets_live).collect();
    assert_eq!(counts, [1, 2, 1]);
}

#[tokio::test]
async fn states_move_as_they_may() {
    let world = World::with_subscription().await;
    let name = || ERP.to_owned();
    let pause = || v1::PauseSubscriptionRequest { name: name(), ..Default::default() };
    let resume = || v1::ResumeSubscriptionRequest { name: name(), ..Default::default() };
    let disable = |reason: &str| v1::DisableSubscriptionRequest {
        name: name(),
        reason: reason.into(),
        validate_only: false,
    };
    let paused = ask!(world.subscriptions, pause_subscription, pause()).unwrap();
    let it = paused.subscription.unwrap();
    assert_eq!((it.state(), it.revision), (State::Paused, paused.revision));
    assert_eq!(it.state_change.unwrap().actor, "anonymous");
    let again = ask!(world.subscriptions, pause_subscription, pause()).unwrap();
    assert_eq!(again.revision, paused.revision, "nothing changed");
    let down = ask!(world.subscriptions, disable_subscription, disable("gone bad")).unwrap();
    let it = down.subscription.unwrap();
    assert_eq!((it.state(), it.state_reason.as_str()), (State::Disabled, "gone bad"));
    let change = it.state_change.unwrap();
    assert_eq!(change.note, "gone bad");
    let answer = ask!(world.subscriptions, pause_subscription, pause());
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
    world.clock.advance(std::time::Duration::from_secs(5));
    let other = ask!(world.subscriptions, disable_subscription, disable("worse")).unwrap();
    let it = other.subscription.unwrap();
    assert_eq!((it.state_reason.as_str(), it.state_change), ("worse", Some(change)));
    let up = ask!(world.subscriptions, resume_subscription, resume()).unwrap();
    let it = up.subscription.unwrap();
    assert_eq!((it.state(), it.state_reason.as_str()), (State::Active, ""));
    let answer = ask!(world.subscriptions, disable_subscription, disable(""));
    assert_wrong(answer, &[("reason", "REQUIRED")]);
    let answer = ask!(world.subscriptions, disable_subscription, disable(&"x".repeat(1025)));
    assert_wrong(answer, &[("reason", "TOO_LONG")]);
    let dry = v1::PauseSubscriptionRequest { validate_only: true, ..pause() };
    let dry = ask!(world.subscriptions, pause_subscription, dry).unwrap();
    assert_eq!((dry.subscription.unwrap().state(), dry.revision), (State::Paused, 0));
    assert_eq!(get(&world, ERP).await.state(), State::Active);
}

#[tokio::test]
async fn documents_are_what_nodes_read() {
    let world = World::with_subscription().await;
    for name in world.names().await {
        if pregon_core::model::ResourceName::parse(&name).is_some() {
            world.stored(&name).await.unwrap();
        }
    }
    let Some(Resource::Subscription(it)) = world.stored(ERP).await else { panic!("not there") };
    assert_eq!((it.url.as_str(), it.max_pending), (crate::world::URL, 0));
}

/// A type that does not exist yet may be meant so, and is said.
#[tokio::test]
async fn a_type_that_does_not_exist_is_hinted_at() {
    let world = World::with_tenant().await;
    world.event_type("order.captured").await;
    let with = |types: &[&str]| v1::Subscription {
        event_types: types.iter().map(|&it| it.to_owned()).collect(),
        ..crate::world::subscription()
    };
    let request = v1::CreateSubscriptionRequest {
        parent: "tenants/acme".into(),
        subscription_id: "erp".into(),
        subscription: Some(with(&[
            "order.captured",
            "order.capturedd",
            "invoice.*",
            "order.*",
            "*",
        ])),
        ..Default::default()
    };
    let created = ask!(world.subscriptions, create_subscription, request).unwrap();
    let want =
        ["eventTypes/order.capturedd does not exist yet", "no event type matches invoice.* yet"];
    assert_eq!(created.hints, want);
    let name = created.subscription.unwrap().name;
    let subscription = v1::Subscription { name, ..with(&["order.captured"]) };
    let request = v1::UpdateSubscriptionRequest {
        subscription: Some(subscription),
        update_mask: crate::world::mask(&["event_types"]),
        ..Default::default()
    };
    let updated = ask!(world.subscriptions, update_subscription, request).unwrap();
    assert_eq!(updated.hints, Vec::<String>::new());
}

/// Hints look at names only.
#[tokio::test]
async fn a_type_that_cannot_be_read_is_no_reason_to_refuse_a_subscription() {
    let world = World::with_tenant().await;
    let write = vec![("eventTypes/order.spoilt".to_owned(), Some("{".into()))];
    let commit = pregon_store::config::Commit { write, ..Default::default() };
    world.store.config.commit(commit).await.unwrap();
    let request = v1::CreateSubscriptionRequest {
        parent: "tenants/acme".into(),
        subscription: Some(v1::Subscription {
            event_types: vec!["order.spoilt".into(), "order.*".into()],
            ..crate::world::subscription()
        }),
        ..Default::default()
    };
    let created = ask!(world.subscriptions, create_subscription, request).unwrap();
    assert_eq!(created.hints, Vec::<String>::new());
}
