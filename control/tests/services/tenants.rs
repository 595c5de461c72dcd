//! TenantService, and what all standard methods have in common.

use pregon_proto::v1;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use tonic::Code;

use crate::world::{World, ask, assert_refused, assert_wrong, mask};

fn limits(subscriptions: Option<i32>, pending: Option<i64>) -> Option<v1::TenantLimits> {
    Some(v1::TenantLimits {
        max_subscriptions: subscriptions,
        max_pending: pending,
        ..Default::default()
    })
}

#[tokio::test]
async fn a_tenant_is_created_read_and_listed() {
    let world = World::new();
    let tenant = v1::Tenant {
        display_name: "Acme S.A.".into(),
        labels: [("tier".to_owned(), "gold".to_owned())].into(),
        limits: limits(Some(5), None),
        revision: 99,
        etag: "whatever".into(),
        ..Default::default()
    };
    let request = v1::CreateTenantRequest {
        tenant_id: "acme".into(),
        tenant: Some(tenant),
        ..Default::default()
    };
    let created = ask!(world.tenants, create_tenant, request).unwrap();
    let tenant = created.tenant.unwrap();
    assert_eq!(tenant.name, "tenants/acme");
    assert_eq!(tenant.revision, created.revision);
    assert!(created.revision > 0 && !tenant.etag.is_empty());
    assert_eq!(world.latest.get(), Some(created.revision));
    assert_eq!(tenant.suspended, Some(false));
    let limits = tenant.limits.unwrap();
    assert_eq!(limits.max_subscriptions, Some(5));
    assert_eq!(limits.publish_per_second, Some(0));
    assert_eq!(limits.max_pending, Some(1_000_000));

    let get = v1::GetTenantRequest { name: "tenants/acme".into() };
    assert_eq!(ask!(world.tenants, get_tenant, get).unwrap().tenant, Some(tenant.clone()));
    let list = ask!(world.tenants, list_tenants, v1::ListTenantsRequest::default()).unwrap();
    assert_eq!((list.tenants, list.next_page_token), (vec![tenant], String::new()));
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let world = World::with_tenant().await;
    let request = v1::CreateTenantRequest {
        tenant_id: "acme".into(),
        tenant: Some(v1::Tenant::default()),
        ..Default::default()
    };
    let answer = ask!(world.tenants, create_tenant, request);
    assert_refused(answer, Code::AlreadyExists, "RESOURCE_EXISTS");
    for name in ["tenants/other", "tenants/ACME"] {
        let answer = ask!(world.tenants, get_tenant, v1::GetTenantRequest { name: name.into() });
        assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
}

#[tokio::test]
async fn every_wrong_field_is_reported() {
    let world = World::new();
    let tenant = v1::Tenant {
        display_name: "x".repeat(129),
        labels: [(String::new(), "x".repeat(300))].into(),
        limits: Some(v1::TenantLimits {
            max_subscriptions: Some(0),
            publish_per_second: Some(-1),
            max_pending: Some(0),
            attempts_per_second: Some(100_001),
        }),
        ..Default::default()
    };
    let request = v1::CreateTenantRequest {
        tenant_id: "a/b".into(),
        tenant: Some(tenant),
        request_id: "x".repeat(65),
        ..Default::default()
    };
    let wrong = [
        ("request_id", "TOO_LONG"),
        ("tenant.display_name", "TOO_LONG"),
        ("tenant.labels[]", "REQUIRED"),
        ("tenant.labels[]", "TOO_LONG"),
        ("tenant.limits.attempts_per_second", "OUT_OF_RANGE"),
        ("tenant.limits.max_pending", "OUT_OF_RANGE"),
        ("tenant.limits.max_subscriptions", "OUT_OF_RANGE"),
        ("tenant.limits.publish_per_second", "OUT_OF_RANGE"),
        ("tenant_id", "MALFORMED"),
    ];
    assert_wrong(ask!(world.tenants, create_tenant, request), &wrong);
    let empty = ask!(world.tenants, create_tenant, v1::CreateTenantRequest::default());
    assert_wrong(empty, &[("tenant_id", "REQUIRED")]);
    let bare = v1::CreateTenantRequest { tenant_id: "bare".into(), ..Default::default() };
    let made = ask!(world.tenants, create_tenant, bare).unwrap().tenant.unwrap();
    assert_eq!((made.name.as_str(), made.suspended), ("tenants/bare", Some(false)));
    let all = v1::CreateTenantRequest {
        tenant_id: "-".into(),
        tenant: Some(v1::Tenant::default()),
        ..Default::default()
    };
    assert_wrong(ask!(world.tenants, create_tenant, all), &[("tenant_id", "MALFORMED")]);
    let nameless = ask!(world.tenants, get_tenant, v1::GetTenantRequest::default());
    assert_wrong(nameless, &[("name", "REQUIRED")]);
}

#[tokio::test]
async fn masks_choose_what_changes() {
    let world = World::new();
    let tenant = v1::Tenant {
        display_name: "Acme".into(),
        labels: [("a".to_owned(), "1".to_owned())].into(),
        limits: limits(Some(5), Some(10)),
        suspended: Some(true),
        ..Default::default()
    };
    let request = v1::CreateTenantRequest {
        tenant_id: "acme".into(),
        tenant: Some(tenant),
        ..Default::default()
    };
    ask!(world.tenants, create_tenant, request).unwrap();
    let update = async |tenant: v1::Tenant, paths: &[&str]| {
        let tenant = Some(v1::Tenant { name: "tenants/acme".into(), ..tenant });
        let update_mask = mask(paths).filter(|mask| !mask.paths.is_empty());
        let request = v1::UpdateTenantRequest { tenant, update_mask, ..Default::default() };
        ask!(world.tenants, update_tenant, request).map(|answer| answer.tenant.unwrap())
    };
    // No mask: what is set, and within limits only what is set there.
    let set = v1::Tenant { limits: limits(Some(6), None), ..Default::default() };
    let now = update(set, &[]).await.unwrap();
    assert_eq!((now.display_name.as_str(), now.suspended), ("Acme", Some(true)));
    assert_eq!(now.limits.unwrap().max_subscriptions, Some(6));
    assert_eq!(now.limits.unwrap().max_pending, Some(10));
    // Named: emptied.
    let now = update(v1::Tenant::default(), &["labels", "limits.max_pending"]).await.unwrap();
    assert!(now.labels.is_empty() && now.display_name == "Acme");
    assert_eq!(now.limits.unwrap().max_subscriptions, Some(6));
    assert_eq!(now.limits.unwrap().max_pending, Some(1_000_000));
    // Not named: ignored, wrong as it may be.
    let wrong = v1::Tenant { display_name: "x".repeat(129), ..Default::default() };
    assert_eq!(update(wrong, &["suspended"]).await.unwrap().suspended, Some(false));
    // All.
    let now = update(v1::Tenant::default(), &["*"]).await.unwrap();
    assert!(now.display_name.is_empty());
    assert_eq!(now.limits.unwrap().max_subscriptions, Some(100));
    let answer = update(v1::Tenant::default(), &["name", "revision", "colour"]).await;
    let wrong = [
        ("update_mask.paths[0]", "IMMUTABLE"),
        ("update_mask.paths[1]", "UNKNOWN_FIELD"),
        ("update_mask.paths[2]", "UNKNOWN_FIELD"),
    ];
    assert_wrong(answer, &wrong);
}

#[tokio::test]
async fn a_stale_etag_changes_nothing() {
    let world = World::with_tenant().await;
    let first = world.tenants.get_tenant_for_test("tenants/acme").await;
    let update = |etag: &str, name: &str| v1::UpdateTenantRequest {
        tenant: Some(v1::Tenant {
            name: "tenants/acme".into(),
            display_name: name.into(),
            etag: etag.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let second = ask!(world.tenants, update_tenant, update(&first.etag, "two")).unwrap();
    let second = second.tenant.unwrap();
    assert_ne!(second.etag, first.etag);
    let stale = ask!(world.tenants, update_tenant, update(&first.etag, "three"));
    assert_refused(stale, Code::Aborted, "ETAG_MISMATCH");
    let delete = v1::DeleteTenantRequest {
        name: "tenants/acme".into(),
        etag: first.etag,
        ..Default::default()
    };
    let stale = ask!(world.tenants, delete_tenant, delete.clone());
    assert_refused(stale, Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(world.tenants.get_tenant_for_test("tenants/acme").await, second);
    let delete = v1::DeleteTenantRequest { etag: second.etag, ..delete };
    assert!(ask!(world.tenants, delete_tenant, delete).unwrap().revision > second.revision);
}

#[tokio::test]
async fn allow_missing_creates_and_tolerates() {
    let world = World::new();
    let tenant =
        v1::Tenant { name: "tenants/new".into(), display_name: "New".into(), ..Default::default() };
    let request = v1::UpdateTenantRequest { tenant: Some(tenant), ..Default::default() };
    let answer = ask!(world.tenants, update_tenant, request.clone());
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let request = v1::UpdateTenantRequest { allow_missing: true, ..request };
    let dry = v1::UpdateTenantRequest { validate_only: true, ..request.clone() };
    assert_eq!(ask!(world.tenants, update_tenant, dry).unwrap().revision, 0);
    let mut masked = v1::UpdateTenantRequest { update_mask: mask(&["labels"]), ..request };
    let made = ask!(world.tenants, update_tenant, masked.clone()).unwrap().tenant.unwrap();
    assert_eq!(made.display_name, "New", "a creation takes everything");
    masked.tenant.as_mut().unwrap().name = "tenants/other".into();
    masked.tenant.as_mut().unwrap().etag = made.etag;
    let answer = ask!(world.tenants, update_tenant, masked);
    assert_refused(answer, Code::Aborted, "ETAG_MISMATCH");

    let delete = v1::DeleteTenantRequest { name: "tenants/none".into(), ..Default::default() };
    let answer = ask!(world.tenants, delete_tenant, delete.clone());
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let delete = v1::DeleteTenantRequest { allow_missing: true, ..delete };
    assert_eq!(ask!(world.tenants, delete_tenant, delete).unwrap().revision, 0);
}

#[tokio::test]
async fn validate_only_does_everything_but_write() {
    let world = World::with_tenant().await;
    let create = v1::CreateTenantRequest {
        tenant_id: "beta".into(),
        tenant: Some(v1::Tenant::default()),
        validate_only: true,
        ..Default::default()
    };
    let dry = ask!(world.tenants, create_tenant, create.clone()).unwrap();
    assert_eq!((dry.revision, dry.tenant.unwrap().name.as_str()), (0, "tenants/beta"));
    let taken = v1::CreateTenantRequest { tenant_id: "acme".into(), ..create };
    let answer = ask!(world.tenants, create_tenant, taken);
    assert_refused(answer, Code::AlreadyExists, "RESOURCE_EXISTS");
    let delete = v1::DeleteTenantRequest {
        name: "tenants/acme".into(),
        validate_only: true,
        ..Default::default()
    };
    assert_eq!(ask!(world.tenants, delete_tenant, delete).unwrap().revision, 0);
    assert_eq!(world.names().await, ["tenants/acme"]);
}

#[tokio::test]
async fn children_go_by_force_alone_and_all_at_once() {
    let world = World::with_tenant().await;
    for id in ["a", "b"] {
        world.subscription("acme", id).await;
    }
    world.tenant("acme-2").await;
    world.subscription("acme-2", "a").await;
    let delete = v1::DeleteTenantRequest { name: "tenants/acme".into(), ..Default::default() };
    let answer = ask!(world.tenants, delete_tenant, delete.clone());
    assert_refused(answer, Code::FailedPrecondition, "CHILDREN_EXIST");
    let before = world.store.config.head().await.unwrap().revision;
    let delete = v1::DeleteTenantRequest { force: true, ..delete };
    let deleted = ask!(world.tenants, delete_tenant, delete).unwrap();
    assert_eq!(deleted.revision, before + 1, "one commit");
    let left = world.names().await;
    let lost = |name: &String| name.starts_with("tenants/acme/") && !name.contains("/lanes/");
    assert!(!left.iter().any(lost) && !left.contains(&"tenants/acme".to_owned()), "{left:?}");
    let kept = left.iter().filter(|name| name.starts_with("tenants/acme-2")).count();
    assert_eq!(kept, 5, "tenant, count, lane, subscription and key of the other one: {left:?}");
}

#[tokio::test]
async fn pages_go_by_name_and_their_tokens_are_bound() {
    let world = World::new();
    for id in ["c", "a", "e", "b", "d"] {
        world.tenant(id).await;
    }
    let page = async |size: i32, token: &str| {
        let request = v1::ListTenantsRequest { page_size: size, page_token: token.into() };
        ask!(world.tenants, list_tenants, request)
    };
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let answer = page(2, &token).await.unwrap();
        assert!(answer.tenants.len() <= 2);
        names.extend(answer.tenants.into_iter().map(|tenant| tenant.name));
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"].map(|id| format!("tenants/{id}")));
    let token = page(2, "").await.unwrap().next_page_token;
    let answer = page(-1, &format!("x{token}")).await;
    assert_wrong(answer, &[("page_size", "OUT_OF_RANGE"), ("page_token", "PAGE_TOKEN_INVALID")]);
    world.clock.advance(pregon_core::limits::PAGE_TOKEN_KEPT);
    assert_wrong(page(2, &token).await, &[("page_token", "PAGE_TOKEN_INVALID")]);
}

/// A short way to one tenant.
trait Shortcut {
    async fn get_tenant_for_test(&self, name: &str) -> v1::Tenant;
}

impl Shortcut for pregon_control::Tenants {
    async fn get_tenant_for_test(&self, name: &str) -> v1::Tenant {
        ask!(self, get_tenant, v1::GetTenantRequest { name: name.into() }).unwrap().tenant.unwrap()
    }
}
