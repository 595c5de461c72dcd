//! API keys: who makes which, what is shown of them, and how they end.

use std::collections::BTreeSet;
use std::time::Duration;

use pregon_core::clock::Clock as _;
use pregon_core::id::TenantId;
use pregon_core::model::{ApiKey, Resource};
use pregon_proto::v1;
use pregon_proto::v1::api_key_service_server::ApiKeyService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use pregon_rpc::caller::{Caller, Role};
use pregon_rpc::keys;
use pregon_rpc::portal::{Grant, Maker};
use pregon_rpc::time::timestamp;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::world::{World, ask, assert_refused, from, violations};

fn caller(role: Role, tenants: &[&str]) -> Caller {
    let ids: BTreeSet<_> = tenants.iter().map(|id| TenantId::parse(id).unwrap()).collect();
    Caller::new("somebody", role, (!ids.is_empty()).then_some(ids))
}

fn of(role: v1::ApiKeyRole, tenants: &[&str]) -> v1::CreateApiKeyRequest {
    let tenants = tenants.iter().map(|id| format!("tenants/{id}")).collect();
    let api_key = Some(v1::ApiKey { role: role.into(), tenants, ..Default::default() });
    v1::CreateApiKeyRequest { api_key, ..Default::default() }
}

async fn create(
    world: &World,
    by: Caller,
    request: v1::CreateApiKeyRequest,
) -> Result<v1::CreateApiKeyResponse, Status> {
    world.api_keys.create_api_key(from(by, request)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_key_is_shown_once_and_kept_as_a_hash() {
    let world = World::new();
    let mut request = of(v1::ApiKeyRole::Publisher, &["acme"]);
    request.request_id = "once".into();
    let made = ask!(world.api_keys, create_api_key, request.clone()).unwrap();
    let shown = made.api_key.unwrap();
    let id = shown.name.strip_prefix("apiKeys/").unwrap();
    assert!(made.key.starts_with(&format!("pgk_{id}_")), "its id is in it");
    assert_eq!(made.key.len(), "pgk__".len() + id.len() + 43);
    assert_eq!(shown.state(), v1::ApiKeyState::Active);
    assert_eq!(shown.creator, "anonymous");

    let repeated = ask!(world.api_keys, create_api_key, request).unwrap();
    assert_eq!((repeated.api_key.unwrap().name, repeated.key.as_str()), (shown.name.clone(), ""));
    let name = shown.name.clone();
    let got = ask!(world.api_keys, get_api_key, v1::GetApiKeyRequest { name }).unwrap();
    assert_eq!(got.api_key, Some(shown));
    let secret = made.key.splitn(3, '_').nth(2).unwrap();
    for document in world.store.config.documents("", 1000).await.unwrap() {
        let text = String::from_utf8_lossy(&document.bytes).into_owned();
        assert!(!text.contains(secret), "{}: {text}", document.name);
    }
    let mut dry = of(v1::ApiKeyRole::Viewer, &[]);
    dry.validate_only = true;
    let dry = ask!(world.api_keys, create_api_key, dry).unwrap();
    assert_eq!((dry.key.as_str(), dry.revision), ("", 0));
}

#[tokio::test]
async fn every_wrong_field_is_named() {
    let world = World::new();
    let api_key = v1::ApiKey {
        display_name: "a\nb".into(),
        role: v1::ApiKeyRole::Viewer.into(),
        tenants: vec!["tenants/-".into(), "acme".into()],
        event_types: vec!["order.*".into(), "*.x".into()],
        limits: Some(v1::ApiKeyLimits {
            calls_per_second: -1,
            events_per_second: 0,
            bytes_per_second: 1023,
        }),
        expire_time: Some(timestamp(world.clock.now())),
        ..Default::default()
    };
    let request = v1::CreateApiKeyRequest { api_key: Some(api_key), ..Default::default() };
    let wrong = violations(ask!(world.api_keys, create_api_key, request));
    let fields: Vec<_> = wrong.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "api_key.display_name",
            "api_key.event_types",
            "api_key.event_types[1]",
            "api_key.expire_time",
            "api_key.limits.bytes_per_second",
            "api_key.limits.calls_per_second",
            "api_key.tenants[0]",
            "api_key.tenants[1]",
        ]
    );
    let unset = of(v1::ApiKeyRole::Unspecified, &[]);
    let wrong = violations(ask!(world.api_keys, create_api_key, unset));
    assert_eq!(wrong, [("api_key.role".to_owned(), "REQUIRED".to_owned())]);
}

#[tokio::test]
async fn nobody_makes_a_key_with_more_rights_than_its_own() {
    use v1::ApiKeyRole as Wanted;
    let world = World::new();
    let all = [
        (Wanted::Admin, false),
        (Wanted::Operator, false),
        (Wanted::TenantManager, true),
        (Wanted::Publisher, true),
        (Wanted::Viewer, true),
        (Wanted::Auditor, true),
    ];
    for (wanted, open) in all {
        create(&world, caller(Role::Admin, &[]), of(wanted, &[])).await.unwrap();
        for role in [Role::Operator, Role::TenantManager] {
            let answer = create(&world, caller(role, &["acme"]), of(wanted, &["acme"])).await;
            if open {
                answer.unwrap();
            } else {
                assert_refused_at(answer, "ROLE_MISSING", "api_key.role");
            }
        }
    }
    let manager = || caller(Role::TenantManager, &["acme", "globex"]);
    for tenants in [&[][..], &["other"], &["acme", "other"]] {
        let answer = create(&world, manager(), of(Wanted::Publisher, tenants)).await;
        assert_refused_at(answer, "TENANT_DENIED", "api_key.tenants");
    }
    create(&world, manager(), of(Wanted::Publisher, &["acme", "globex"])).await.unwrap();
    let admin = caller(Role::Admin, &["acme"]);
    let answer = create(&world, admin, of(Wanted::Admin, &[])).await;
    assert_refused_at(answer, "TENANT_DENIED", "api_key.tenants");
    for role in [Role::Viewer, Role::Auditor, Role::Publisher] {
        let answer = create(&world, caller(role, &[]), of(Wanted::Auditor, &[])).await;
        assert_refused_at(answer, "ROLE_MISSING", "api_key.role");
    }
}

#[track_caller]
fn assert_refused_at<T: std::fmt::Debug>(answer: Result<T, Status>, word: &str, field: &str) {
    let status = answer.unwrap_err();
    let details = status.get_details_bad_request().unwrap();
    assert_eq!(details.field_violations[0].field, field);
    assert_refused(Err::<(), _>(status), Code::PermissionDenied, word);
}

#[tokio::test]
async fn what_reaches_further_than_the_caller_does_not_exist_for_it() {
    let world = World::new();
    let admin = || caller(Role::Admin, &[]);
    let mut names = Vec::new();
    for tenants in [&[][..], &["acme"], &["acme", "other"]] {
        let made = create(&world, admin(), of(v1::ApiKeyRole::Viewer, tenants)).await.unwrap();
        names.push(made.api_key.unwrap().name);
    }
    let manager = || caller(Role::TenantManager, &["acme"]);
    let list = world.api_keys.list_api_keys(from(manager(), v1::ListApiKeysRequest::default()));
    let listed = list.await.unwrap().into_inner().api_keys;
    assert_eq!(listed.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), [&names[1]]);
    for name in [&names[0], &names[2]] {
        let (get, name) = (v1::GetApiKeyRequest { name: name.clone() }, name.clone());
        let answer = world.api_keys.get_api_key(from(manager(), get)).await;
        assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
        let rotate = v1::RotateApiKeyRequest { name: name.clone(), ..Default::default() };
        let answer = world.api_keys.rotate_api_key(from(manager(), rotate)).await;
        assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
        let revoke = v1::RevokeApiKeyRequest { name, ..Default::default() };
        let answer = world.api_keys.revoke_api_key(from(manager(), revoke)).await;
        assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    // Who sees it need not have been able to make it.
    let made = create(&world, admin(), of(v1::ApiKeyRole::Admin, &["acme"])).await.unwrap();
    let name = made.api_key.unwrap().name;
    let rotate = v1::RotateApiKeyRequest { name: name.clone(), ..Default::default() };
    let answer = world.api_keys.rotate_api_key(from(manager(), rotate)).await;
    assert_refused(answer, Code::PermissionDenied, "ROLE_MISSING");
    let revoke = v1::RevokeApiKeyRequest { name, ..Default::default() };
    let answer = world.api_keys.revoke_api_key(from(manager(), revoke)).await;
    assert_refused(answer, Code::PermissionDenied, "ROLE_MISSING");
}

#[tokio::test]
async fn a_rotation_overlaps_and_a_revocation_is_only_moved_forward() {
    let world = World::new();
    let made = ask!(world.api_keys, create_api_key, of(v1::ApiKeyRole::Viewer, &[])).unwrap();
    let name = made.api_key.unwrap().name;
    let overlap = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let rotate =
        |overlap| v1::RotateApiKeyRequest { name: name.clone(), overlap, validate_only: false };
    let wrong = violations(ask!(world.api_keys, rotate_api_key, rotate(overlap(8 * 86_400))));
    assert_eq!(wrong, [("overlap".to_owned(), "OUT_OF_RANGE".to_owned())]);
    for secrets in 2..=5 {
        let rotated = ask!(world.api_keys, rotate_api_key, rotate(overlap(60))).unwrap();
        assert_ne!(rotated.key, made.key);
        assert_eq!(rotated.api_key.unwrap().secrets.len(), secrets);
    }
    let sixth = ask!(world.api_keys, rotate_api_key, rotate(overlap(60)));
    assert_refused(sixth, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    world.clock.advance(Duration::from_secs(60));
    let rotated = ask!(world.api_keys, rotate_api_key, rotate(overlap(0))).unwrap();
    assert_eq!(rotated.api_key.unwrap().secrets.len(), 1);

    let now = world.clock.now();
    let revoke = |at: Option<Duration>| v1::RevokeApiKeyRequest {
        name: name.clone(),
        revoke_time: at.map(|at| timestamp(now.plus(at))),
        validate_only: false,
    };
    let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(86_400));
    for (asked, end) in [(Some(day), day), (Some(hour), hour), (Some(day), hour)] {
        let revoked = ask!(world.api_keys, revoke_api_key, revoke(asked)).unwrap();
        let key = revoked.api_key.unwrap();
        assert_eq!(key.state(), v1::ApiKeyState::Active);
        assert_eq!(key.revoke_time, Some(timestamp(now.plus(end))));
        assert!(!stored(&world, &name).await.revoked);
    }
    let revoked = ask!(world.api_keys, revoke_api_key, revoke(None)).unwrap();
    assert_eq!(revoked.api_key.unwrap().state(), v1::ApiKeyState::Revoked);
    assert!(stored(&world, &name).await.revoked, "for readers whose clocks are behind");
    let ended = ask!(world.api_keys, rotate_api_key, rotate(None));
    assert_refused(ended, Code::FailedPrecondition, "STATE_CONFLICT");
}

#[tokio::test]
async fn keys_that_a_bound_caller_makes_have_no_share_of_their_own() {
    let world = World::new();
    let wanted = || of(v1::ApiKeyRole::TenantManager, &["acme"]);
    let make = async |by: Caller| {
        let made = create(&world, by, wanted()).await.unwrap();
        stored(&world, &made.api_key.unwrap().name).await
    };
    for role in [Role::Admin, Role::Operator] {
        let key = make(caller(role, &[])).await;
        assert_eq!(key.share, "");
        let first = make(keys::caller(&key).unwrap()).await;
        assert_eq!(first.share, key.id.name());
        let second = make(keys::caller(&first).unwrap()).await;
        assert_eq!((second.creator, second.share), (first.id.name(), key.id.name()));
    }
    assert_eq!(make(caller(Role::TenantManager, &["acme"])).await.share, "somebody");
    assert_eq!(make(caller(Role::TenantManager, &[])).await.share, "somebody");
}

#[tokio::test]
async fn no_key_outlasts_or_outruns_the_one_that_makes_it() {
    let world = World::new();
    let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(86_400));
    let within = |at: Duration| Some(timestamp(world.clock.now().plus(at)));
    let wanted = |end: Option<Duration>, calls: i32| {
        let mut request = of(v1::ApiKeyRole::Viewer, &[]);
        let key = request.api_key.as_mut().unwrap();
        key.expire_time = end.and_then(within);
        key.limits = Some(v1::ApiKeyLimits { calls_per_second: calls, ..Default::default() });
        request
    };
    let admin = || caller(Role::Admin, &[]);
    let endless = create(&world, admin(), wanted(None, 0)).await.unwrap();
    let endless = endless.api_key.unwrap().name;

    let brief = || admin().until(Some(world.clock.now().plus(hour)));
    for end in [None, Some(day)] {
        let refused = create(&world, brief(), wanted(end, 0)).await;
        assert_refused_at(refused, "ROLE_MISSING", "api_key.expire_time");
    }
    let made = create(&world, brief(), wanted(Some(hour), 0)).await.unwrap();
    let made = made.api_key.unwrap().name;

    let mut slow = stored(&world, &made).await;
    slow.role = Role::Admin.word().to_owned();
    slow.limits.calls_per_second = 10;
    let slow = || keys::caller(&slow).unwrap();
    for calls in [0, 11] {
        let refused = create(&world, slow(), wanted(None, calls)).await;
        assert_refused_at(refused, "ROLE_MISSING", "api_key.limits.calls_per_second");
    }
    create(&world, slow(), wanted(None, 10)).await.unwrap();

    let rotate =
        |name: &str| v1::RotateApiKeyRequest { name: name.to_owned(), ..Default::default() };
    for by in [brief(), slow()] {
        let refused = world.api_keys.rotate_api_key(from(by, rotate(&endless))).await;
        assert_refused(refused, Code::PermissionDenied, "ROLE_MISSING");
    }
    world.api_keys.rotate_api_key(from(brief(), rotate(&made))).await.unwrap();
}

/// Writes so many copies of a key into the store.
async fn fill(world: &World, of: &ApiKey, count: usize) {
    for n in 0..count {
        let mut key = of.clone();
        key.id = format!("copy{n:05}").parse().unwrap();
        world.put(&Resource::ApiKey(key)).await;
    }
}

async fn stored(world: &World, name: &str) -> ApiKey {
    match world.stored(name).await.unwrap() {
        Resource::ApiKey(key) => key,
        other @ (Resource::Tenant(_)
        | Resource::EventType(_)
        | Resource::Contract(_)
        | Resource::Subscription(_)
        | Resource::Callback(_)
        | Resource::Secret(_)) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_tenant_has_a_hundred_keys_and_ended_ones_do_not_count() {
    let world = World::new();
    let request = || of(v1::ApiKeyRole::Viewer, &["acme"]);
    let made = ask!(world.api_keys, create_api_key, request()).unwrap();
    let name = made.api_key.unwrap().name;
    let key = stored(&world, &name).await;
    fill(&world, &key, 99).await;
    let refused = ask!(world.api_keys, create_api_key, request());
    assert_refused(refused, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    ask!(world.api_keys, create_api_key, of(v1::ApiKeyRole::Viewer, &["other"])).unwrap();
    let revoke = v1::RevokeApiKeyRequest { name, ..Default::default() };
    ask!(world.api_keys, revoke_api_key, revoke).unwrap();
    ask!(world.api_keys, create_api_key, request()).unwrap();
}

#[tokio::test]
async fn the_longest_ended_keys_make_room() {
    let world = World::new();
    let request = || of(v1::ApiKeyRole::Viewer, &[]);
    let made = ask!(world.api_keys, create_api_key, request()).unwrap();
    let name = made.api_key.unwrap().name;
    let key = stored(&world, &name).await;
    fill(&world, &key, 4095).await;
    let refused = ask!(world.api_keys, create_api_key, request());
    assert_refused(refused, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    let revoke = v1::RevokeApiKeyRequest { name: name.clone(), ..Default::default() };
    ask!(world.api_keys, revoke_api_key, revoke).unwrap();
    ask!(world.api_keys, create_api_key, request()).unwrap();
    let gone = ask!(world.api_keys, get_api_key, v1::GetApiKeyRequest { name });
    assert_refused(gone, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn a_portal_token_is_lent_and_never_more_than_the_caller_has() {
    let world = World::with_tenant().await;
    let make = async |by: Caller, role: v1::ApiKeyRole, seconds: i64| {
        let request = v1::CreatePortalTokenRequest {
            tenant: "tenants/acme".into(),
            role: role.into(),
            ttl: Some(prost_types::Duration { seconds, nanos: 0 }),
            user: "jane".into(),
        };
        world.api_keys.create_portal_token(from(by, request)).await.map(tonic::Response::into_inner)
    };
    let manager = || caller(Role::TenantManager, &["acme"]);
    let made = make(manager(), v1::ApiKeyRole::Unspecified, 60).await.unwrap();
    assert!(made.token.starts_with("pgt_"));
    let minute = Duration::from_secs(60);
    assert_eq!(made.expire_time, Some(timestamp(world.clock.now().plus(minute))));
    let soon = world.clock.now().plus(Duration::from_secs(5));
    let brief = manager().until(Some(soon));
    let made = make(brief, v1::ApiKeyRole::TenantManager, 3600).await.unwrap();
    assert_eq!(made.expire_time, Some(timestamp(soon)));

    for (role, seconds, field) in [
        (v1::ApiKeyRole::Operator, 60, "role"),
        (v1::ApiKeyRole::Publisher, 60, "role"),
        (v1::ApiKeyRole::Viewer, 59, "ttl"),
        (v1::ApiKeyRole::Viewer, 86_401, "ttl"),
    ] {
        let refused = make(manager(), role, seconds).await;
        assert_eq!(violations(refused)[0].0, field);
    }
    for (tenant, user, field) in
        [("acme", "", "tenant"), ("tenants/acme", "a b", "user"), ("tenants/acme", "a/b", "user")]
    {
        let request = v1::CreatePortalTokenRequest {
            tenant: tenant.into(),
            user: user.into(),
            ..Default::default()
        };
        let refused = ask!(world.api_keys, create_portal_token, request);
        assert_eq!(violations(refused)[0].0, field);
    }
    let of = |tenant: &str| v1::CreatePortalTokenRequest {
        tenant: format!("tenants/{tenant}"),
        ..Default::default()
    };
    let foreign = world.api_keys.create_portal_token(from(manager(), of("other"))).await;
    assert_refused(foreign, Code::PermissionDenied, "TENANT_DENIED");
    let nobody = ask!(world.api_keys, create_portal_token, of("nobody"));
    assert_refused(nobody, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn a_portal_token_is_for_the_tenant_that_it_was_made_for() {
    let world = World::with_tenant().await;
    let Some(Resource::Tenant(tenant)) = world.stored("tenants/acme").await else {
        panic!("there is no tenant");
    };
    let created = tenant.common.create_time;
    let list =
        || v1::ListSubscriptionsRequest { parent: "tenants/acme".into(), ..Default::default() };
    let ask = async |since| {
        let grant = Grant {
            tenant: TenantId::parse("acme").unwrap(),
            since,
            role: "tenant_manager".into(),
            user: String::new(),
            end: pregon_core::clock::Timestamp::MAX,
            maker: Maker::Anyone,
        };
        let caller = Caller::with_portal(&grant, Role::TenantManager, None);
        world.subscriptions.list_subscriptions(from(caller, list())).await
    };
    ask(created).await.unwrap();
    let earlier = created.minus(Duration::from_secs(1));
    assert_refused(ask(earlier).await, Code::Unauthenticated, "CREDENTIAL_REVOKED");
    let delete = v1::DeleteTenantRequest { name: "tenants/acme".into(), ..Default::default() };
    ask!(world.tenants, delete_tenant, delete).unwrap();
    assert_refused(ask(created).await, Code::Unauthenticated, "CREDENTIAL_REVOKED");
}
