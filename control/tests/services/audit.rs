//! The audit log: what is written down of calls, and who may read it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pregon_control::AuditLogs;
use pregon_core::id::TenantId;
use pregon_proto::v1;
use pregon_proto::v1::api_key_service_server::ApiKeyService as _;
use pregon_proto::v1::audit_log_service_server::AuditLogService as _;
use pregon_proto::v1::contract_service_server::ContractService as _;
use pregon_proto::v1::delivery_service_server::DeliveryService as _;
use pregon_proto::v1::secret_service_server::SecretService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use pregon_rpc::caller::{Caller, Role};
use pregon_store::audit::{AuditRange, AuditRecord, NewAudit, WhenFull};
use pregon_store::{AuditLog, Store, StoreError};
use serde_json::Value;
use tonic::Code;

use crate::world::{
    World, ask, assert_refused, at, contract, create, from, mask, subscription, violations,
};

const CANARY: &str = "c4n4ry";

async fn list(
    world: &World,
    by: Caller,
    request: v1::ListAuditEntriesRequest,
) -> Result<v1::ListAuditEntriesResponse, tonic::Status> {
    let audit = AuditLogs::new(Arc::clone(&world.control));
    audit.list_audit_entries(from(by, request)).await.map(tonic::Response::into_inner)
}

/// All entries that a filter wants, newest first.
async fn entries(world: &World, request: v1::ListAuditEntriesRequest) -> Vec<v1::AuditEntry> {
    list(world, Caller::anyone(), request).await.unwrap().audit_entries
}

async fn latest(world: &World) -> v1::AuditEntry {
    let request = v1::ListAuditEntriesRequest { page_size: 1, ..Default::default() };
    entries(world, request).await.remove(0)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn bound(role: Role) -> Caller {
    Caller::new("acme-team", role, Some(BTreeSet::from([TenantId::parse("acme").unwrap()])))
}

#[tokio::test]
async fn a_write_is_told_with_what_was_and_what_became() {
    let world = World::new();
    let tenant = v1::Tenant { display_name: "Acme".into(), ..Default::default() };
    let request = v1::CreateTenantRequest {
        tenant_id: "acme".into(),
        tenant: Some(tenant),
        request_id: "r-1".into(),
        ..Default::default()
    };
    let made = ask!(world.tenants, create_tenant, request.clone()).unwrap();
    let told = latest(&world).await;
    assert_eq!(told.method, "pregon.v1.TenantService/CreateTenant");
    assert_eq!(
        (told.resource.as_str(), &told.tenants),
        ("tenants/acme", &vec![told.resource.clone()])
    );
    assert_eq!(
        (told.outcome(), told.code.as_str(), told.reason.as_str()),
        (v1::AuditOutcome::Done, "OK", "")
    );
    assert_eq!((told.revision, told.request_id.as_str()), (made.revision, "r-1"));
    let actor = told.actor.clone().unwrap();
    assert_eq!((actor.kind(), actor.id.as_str()), (v1::AuditActorKind::None, "anonymous"));
    assert_eq!(told.time, pregon_rpc::time::timestamp(world.now()).into());
    let [change] = &told.changes[..] else { panic!("{told:?}") };
    assert_eq!((change.before.as_str(), change.truncated), ("", false));
    assert_eq!(json(&change.after)["displayName"], "Acme");

    // Its repeat changes nothing, and is none.
    ask!(world.tenants, create_tenant, request).unwrap();
    assert_eq!(entries(&world, Default::default()).await, [told]);

    world.clock.advance(Duration::from_secs(1));
    let named = v1::Tenant {
        name: "tenants/acme".into(),
        display_name: "ACME".into(),
        ..Default::default()
    };
    let update = v1::UpdateTenantRequest {
        tenant: Some(named),
        update_mask: mask(&["display_name"]),
        ..Default::default()
    };
    let by = Caller::new("ops", Role::Operator, None);
    world.tenants.update_tenant(from(by, update)).await.unwrap();
    let told = latest(&world).await;
    let actor = told.actor.clone().unwrap();
    assert_eq!((actor.kind(), actor.id.as_str()), (v1::AuditActorKind::Token, "ops"));
    let [change] = &told.changes[..] else { panic!("{told:?}") };
    assert_eq!(json(&change.before)["displayName"], "Acme");
    assert_eq!(json(&change.before)["revision"], made.revision.to_string());
    assert_eq!(json(&change.after)["displayName"], "ACME");
}

#[tokio::test]
async fn a_call_that_changes_many_resources_is_one_entry() {
    let world = World::with_subscription().await;
    for n in 0..20 {
        world.subscription("acme", &format!("s{n}")).await;
    }
    let request =
        v1::DeleteTenantRequest { name: "tenants/acme".into(), force: true, ..Default::default() };
    ask!(world.tenants, delete_tenant, request).unwrap();
    let told = latest(&world).await;
    assert_eq!(told.method, "pregon.v1.TenantService/DeleteTenant");
    assert_eq!(told.resource, "tenants/acme");
    // The tenant, its subscriptions, and a secret of each.
    assert_eq!(told.changes.len() as i64 + told.changes_omitted, 1 + 21 + 21);
    assert_eq!(told.changes.len(), 16);
    assert!(told.changes.iter().all(|it| it.after.is_empty() && !it.before.is_empty()));
    // A large contract is shown as far as there is room.
    let long = format!("# {}\n", "x".repeat(100)).repeat(600);
    let document = format!("{}{long}", contract("large", ""));
    let request = v1::CreateContractRequest {
        contract_id: "large".into(),
        contract: Some(v1::Contract { document, ..Default::default() }),
        ..Default::default()
    };
    ask!(world.contracts, create_contract, request).unwrap();
    let change = latest(&world).await.changes.remove(0);
    assert!(change.truncated && change.after.len() <= 8192);
    assert!(json(&change.after)["document"].as_str().unwrap().ends_with('…'));
}

#[tokio::test]
async fn what_changed_nothing_is_not_told() {
    let world = World::with_subscription().await;
    let before = entries(&world, Default::default()).await;
    assert_eq!(before.len(), 2);
    let name = "tenants/acme".to_owned();
    ask!(world.tenants, get_tenant, v1::GetTenantRequest { name: name.clone() }).unwrap();
    ask!(world.tenants, list_tenants, v1::ListTenantsRequest::default()).unwrap();
    let delete = v1::DeleteTenantRequest { name: name.clone(), ..Default::default() };
    let stale = v1::DeleteTenantRequest { etag: "stale".into(), ..delete.clone() };
    assert_refused(ask!(world.tenants, delete_tenant, stale), Code::Aborted, "ETAG_MISMATCH");
    let refused = ask!(world.tenants, delete_tenant, delete.clone());
    assert_refused(refused, Code::FailedPrecondition, "CHILDREN_EXIST");
    let only = v1::DeleteTenantRequest { validate_only: true, force: true, ..delete };
    ask!(world.tenants, delete_tenant, only).unwrap();
    let unset = v1::CreateSubscriptionRequest { parent: name, ..Default::default() };
    assert!(ask!(world.subscriptions, create_subscription, unset).is_err());
    assert_eq!(entries(&world, Default::default()).await, before);
}

#[tokio::test]
async fn no_entry_holds_a_key_or_a_credential() {
    let world = World::with_tenant().await;
    let credential =
        v1::Header { name: "x-api-key".into(), value: CANARY.into(), credential: true };
    let given = v1::Subscription { headers: vec![credential], ..subscription() };
    let made = world.subscribe("acme", "erp", given).await;
    let parent = made.name.clone();
    let rotate = v1::RotateSecretRequest { parent: parent.clone(), ..Default::default() };
    ask!(world.secrets, rotate_secret, rotate).unwrap();
    let secrets = v1::ListSecretsRequest { parent, ..Default::default() };
    let secrets = ask!(world.secrets, list_secrets, secrets).unwrap().secrets;
    let mut hidden = vec![CANARY.to_owned()];
    for secret in &secrets {
        let name = secret.name.clone();
        let shown = ask!(world.secrets, reveal_secret, v1::RevealSecretRequest { name }).unwrap();
        let told = latest(&world).await;
        assert_eq!(told.method, "pregon.v1.SecretService/RevealSecret");
        assert_eq!((told.resource, told.changes.len()), (secret.name.clone(), 0));
        hidden.push(shown.material.trim_start_matches("whsec_").to_owned());
    }
    assert_eq!(secrets.len(), 2);
    let fields = v1::ApiKey { role: v1::ApiKeyRole::Viewer.into(), ..Default::default() };
    let key = v1::CreateApiKeyRequest { api_key: Some(fields), ..Default::default() };
    let key = ask!(world.api_keys, create_api_key, key).unwrap();
    hidden.push(key.key.splitn(3, '_').nth(2).unwrap().to_owned());
    let all = world.store.audit.entries(everything()).await.unwrap();
    assert_eq!(all.len(), 3 + 2 + 1);
    for record in all {
        let text = String::from_utf8(record.bytes.to_vec()).unwrap();
        assert!(!hidden.iter().any(|it| text.contains(it)), "{text}");
        assert!(!text.contains("sha256"), "{text}");
    }
}

fn everything() -> AuditRange {
    let (since, until) = (pregon_core::clock::Timestamp::MIN, pregon_core::clock::Timestamp::MAX);
    AuditRange { since, until, before: None, limit: 1000 }
}

#[tokio::test]
async fn entries_are_found_by_what_they_say() {
    let world = World::with_subscription().await;
    world.event_type("order.captured").await;
    world.clock.advance(Duration::from_secs(60));
    let later = world.now();
    world.tenant("other").await;
    let by = Caller::new("ops", Role::Operator, None);
    let pause = v1::PauseSubscriptionRequest {
        name: "tenants/acme/subscriptions/erp".into(),
        ..Default::default()
    };
    world.subscriptions.pause_subscription(from(by, pause)).await.unwrap();
    let methods = async |request: v1::ListAuditEntriesRequest| -> Vec<String> {
        let found = entries(&world, request).await;
        found.iter().map(|it| it.method.rsplit('/').next().unwrap().to_owned()).collect()
    };
    let all = methods(Default::default()).await;
    assert_eq!(all.len(), 5);
    let of = |change: fn(&mut v1::ListAuditEntriesRequest)| {
        let mut request = v1::ListAuditEntriesRequest::default();
        change(&mut request);
        request
    };
    let pause = ["PauseSubscription"];
    assert_eq!(methods(of(|it| it.actor = "ops".into())).await, pause);
    assert_eq!(
        methods(of(|it| it.resource = "tenants/acme".into())).await,
        ["PauseSubscription", "CreateSubscription", "CreateTenant"]
    );
    assert_eq!(methods(of(|it| it.resource = "tenants/ac".into())).await, [""; 0]);
    assert_eq!(methods(of(|it| it.tenant = "tenants/other".into())).await, ["CreateTenant"]);
    assert_eq!(
        methods(of(|it| it.method = "pregon.v1.EventTypeService".into())).await,
        ["CreateEventType"]
    );
    const METHOD: &str = "pregon.v1.SubscriptionService/PauseSubscription";
    assert_eq!(methods(of(|it| it.method = METHOD.into())).await, pause);
    assert_eq!(methods(of(|it| it.outcome = v1::AuditOutcome::Refused.into())).await, [""; 0]);
    assert_eq!(methods(of(|it| it.outcome = v1::AuditOutcome::Done.into())).await, all);
    let time = |start: bool| {
        let moment = Some(pregon_rpc::time::timestamp(later));
        let (start_time, end_time) = if start { (moment, None) } else { (None, moment) };
        let time_range = Some(v1::TimeRange { start_time, end_time });
        v1::ListAuditEntriesRequest { time_range, ..Default::default() }
    };
    assert_eq!(methods(time(true)).await.len(), 2);
    assert_eq!(methods(time(false)).await.len(), 3);

    // Page by page, the same.
    let (mut request, mut found) = (of(|it| it.page_size = 2), Vec::new());
    loop {
        let page = list(&world, Caller::anyone(), request.clone()).await.unwrap();
        assert!(page.audit_entries.len() <= 2);
        found.extend(page.audit_entries);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(found, entries(&world, Default::default()).await);
    let wrong = v1::ListAuditEntriesRequest {
        tenant: "acme".into(),
        outcome: 77,
        page_token: "x".into(),
        time_range: Some(v1::TimeRange { start_time: at(9), end_time: at(9) }),
        ..Default::default()
    };
    let wrong = violations(list(&world, Caller::anyone(), wrong).await);
    let fields: BTreeSet<_> = wrong.iter().map(|(field, _)| field.as_str()).collect();
    let expected = ["outcome", "page_token", "tenant", "time_range.end_time"];
    assert_eq!(fields, BTreeSet::from(expected));
}

#[tokio::test]
async fn a_bound_caller_sees_what_concerns_its_tenants_alone() {
    let world = World::with_subscription().await;
    world.tenant("other").await;
    world.event_type("order.captured").await;
    let key = |tenants: &[&str]| {
        let tenants = tenants.iter().map(|id| (*id).to_owned()).collect();
        let role = v1::ApiKeyRole::Viewer.into();
        let api_key = Some(v1::ApiKey { role, tenants, ..Default::default() });
        v1::CreateApiKeyRequest { api_key, ..Default::default() }
    };
    for tenants in [&["tenants/acme"][..], &["tenants/acme", "tenants/other"], &[]] {
        ask!(world.api_keys, create_api_key, key(tenants)).unwrap();
    }
    let by = bound(Role::Auditor);
    let found = list(&world, by.clone(), Default::default()).await.unwrap().audit_entries;
    let told: Vec<_> = found.iter().map(|it| it.method.rsplit('/').next().unwrap()).collect();
    assert_eq!(told, ["CreateApiKey", "CreateSubscription", "CreateTenant"]);
    assert!(found.iter().all(|it| it.tenants == ["tenants/acme"]));
    let other =
        v1::ListAuditEntriesRequest { tenant: "tenants/other".into(), ..Default::default() };
    let answer = list(&world, by.clone(), other).await;
    assert_refused(answer, Code::PermissionDenied, "TENANT_DENIED");
    let own = v1::ListAuditEntriesRequest { tenant: "tenants/acme".into(), ..Default::default() };
    assert_eq!(list(&world, by, own).await.unwrap().audit_entries, found);
}

/// An audit log that takes so many entries and then fails.
struct Failing {
    log: Arc<dyn AuditLog>,
    left: AtomicUsize,
}

#[async_trait]
impl AuditLog for Failing {
    async fn record(&self, entries: &[NewAudit], full: WhenFull) -> Result<(), StoreError> {
        let left =
            self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |it| it.checked_sub(1));
        match left {
            Ok(_) => self.log.record(entries, full).await,
            Err(_) => Err(StoreError::Unavailable("no more".into())),
        }
    }

    async fn entries(&self, range: AuditRange) -> Result<Vec<AuditRecord>, StoreError> {
        self.log.entries(range).await
    }
}

/// A world with `acme` and `erp` whose audit log takes so many more entries beside commits.
async fn failing(left: usize) -> World {
    let world = World::meddled(|store| {
        let audit = Arc::new(Failing { log: store.audit.clone(), left: AtomicUsize::new(left) });
        Store { audit, ..store }
    });
    world.tenant("acme").await;
    world.subscription("acme", "erp").await;
    world
}

#[tokio::test]
async fn nothing_is_shown_or_done_that_cannot_be_written_down() {
    let world = failing(0).await;
    let parent = "tenants/acme/subscriptions/erp".to_owned();
    let secrets = v1::ListSecretsRequest { parent, ..Default::default() };
    let name = ask!(world.secrets, list_secrets, secrets).unwrap().secrets[0].name.clone();
    let refused = ask!(world.secrets, reveal_secret, v1::RevealSecretRequest { name });
    assert_refused(refused, Code::Unavailable, "STORE_UNAVAILABLE");
    let name = world.failed_delivery().await;
    let replay = v1::ReplayDeliveryRequest { name, ..Default::default() };
    let refused = ask!(world.deliveries, replay_delivery, replay);
    assert_refused(refused, Code::Unavailable, "STORE_UNAVAILABLE");
    let list = v1::ListDeliveriesRequest { parent: "tenants/acme".into(), ..Default::default() };
    assert_eq!(ask!(world.deliveries, list_deliveries, list).unwrap().deliveries.len(), 1);
}

#[tokio::test]
async fn a_step_is_told_as_begun_before_it_is_done() {
    // One entry for each of two steps, two for a third.
    let world = failing(3).await;
    let name = world.failed_delivery().await;
    let replay = v1::ReplayDeliveryRequest {
        name: name.clone(),
        request_id: "again".into(),
        ..Default::default()
    };
    let replayed = ask!(world.deliveries, replay_delivery, replay.clone()).unwrap();
    let told = latest(&world).await;
    assert_eq!((told.outcome(), told.code.as_str()), (v1::AuditOutcome::Done, "OK"));
    assert_eq!((told.resource, told.revision), (name.clone(), 0));
    assert_eq!((told.tenants, told.request_id.as_str()), (vec!["tenants/acme".into()], "again"));
    let count = entries(&world, Default::default()).await.len();
    // The repeat does nothing.
    ask!(world.deliveries, replay_delivery, replay).unwrap();
    assert_eq!(entries(&world, Default::default()).await.len(), count);
    // Its end cannot be written: then it is not known.
    world.clock.advance(Duration::from_secs(1));
    let name = replayed.delivery.unwrap().name;
    let cancel = v1::CancelDeliveryRequest { name: name.clone(), ..Default::default() };
    ask!(world.deliveries, cancel_delivery, cancel).unwrap();
    let told = latest(&world).await;
    assert_eq!(told.method, "pregon.v1.DeliveryService/CancelDelivery");
    assert_eq!((told.outcome(), told.code.as_str()), (v1::AuditOutcome::Unknown, ""));
    assert_eq!(told.resource, name);
}

#[tokio::test]
async fn a_run_over_many_deliveries_is_one_entry() {
    use futures::TryStreamExt as _;
    let world = World::with_subscription().await;
    let delivery = world.failed_delivery().await;
    let request = v1::ReplayDeliveriesRequest {
        parent: "tenants/acme".into(),
        state: v1::DeliveryState::Failed.into(),
        ..Default::default()
    };
    for (validate_only, added) in [(true, 0), (false, 1)] {
        let before = entries(&world, Default::default()).await.len();
        let request = v1::ReplayDeliveriesRequest { validate_only, ..request.clone() };
        let run = ask!(world.deliveries, replay_deliveries, request).unwrap();
        let answers: Vec<_> = run.try_collect().await.unwrap();
        assert_eq!(answers.last().unwrap().matched, 1, "{delivery}");
        assert_eq!(entries(&world, Default::default()).await.len(), before + added);
    }
    let told = latest(&world).await;
    assert_eq!(told.method, "pregon.v1.DeliveryService/ReplayDeliveries");
    assert_eq!((told.resource.as_str(), told.outcome()), ("tenants/acme", v1::AuditOutcome::Done));
}

#[tokio::test]
async fn others_that_write_first_do_not_mix_into_an_entry() {
    let world = World::with_tenant().await;
    let names: Vec<String> = (0..8).map(|n| format!("v{n}")).collect();
    let update = |display_name: &String| {
        let tenant = v1::Tenant {
            name: "tenants/acme".into(),
            display_name: display_name.clone(),
            ..Default::default()
        };
        let update_mask = mask(&["display_name"]);
        v1::UpdateTenantRequest { tenant: Some(tenant), update_mask, ..Default::default() }
    };
    let calls = names.iter().map(|name| {
        let tenants = world.tenants.clone();
        let request = update(name);
        tokio::spawn(async move { tenants.update_tenant(crate::world::from_anyone(request)).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    let mut told = entries(&world, Default::default()).await;
    told.sort_by_key(|it| it.revision);
    let mut was = String::new();
    for entry in &told {
        let change = &entry.changes[0];
        assert_eq!(change.before.is_empty(), entry.revision == told[0].revision);
        if !change.before.is_empty() {
            let before = json(&change.before);
            assert_eq!(before["displayName"].as_str().unwrap_or_default(), was);
        }
        was = json(&change.after)["displayName"].as_str().unwrap_or_default().to_owned();
    }
    assert_eq!(told.len(), 1 + names.len());
}

#[tokio::test]
async fn a_tenant_made_anew_does_not_show_its_readers_what_was_before() {
    let world = World::with_subscription().await;
    let (by, name) = (bound(Role::Auditor), "tenants/acme".to_owned());
    let told = async || -> Vec<String> {
        let found = list(&world, by.clone(), Default::default()).await.unwrap().audit_entries;
        found.iter().map(|it| it.method.rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(told().await, ["CreateSubscription", "CreateTenant"]);
    world.clock.advance(Duration::from_secs(1));
    let delete = v1::DeleteTenantRequest { name, force: true, ..Default::default() };
    ask!(world.tenants, delete_tenant, delete).unwrap();
    // One that is not there shows nothing.
    assert_eq!(told().await, [""; 0]);
    world.clock.advance(Duration::from_secs(1));
    world.tenant("acme").await;
    assert_eq!(told().await, ["CreateTenant"]);
    // Whoever is for all tenants sees all of it.
    assert_eq!(entries(&world, Default::default()).await.len(), 4);
}

#[tokio::test]
async fn a_portal_token_is_told_with_what_was_lent() {
    let world = World::with_tenant().await;
    let request = v1::CreatePortalTokenRequest {
        tenant: "tenants/acme".into(),
        user: "jane".into(),
        ..Default::default()
    };
    let made = ask!(world.api_keys, create_portal_token, request).unwrap();
    let entry = entries(&world, Default::default()).await.remove(0);
    assert_eq!(entry.method, "pregon.v1.ApiKeyService/CreatePortalToken");
    let lent: Value = serde_json::from_str(&entry.changes[0].after).unwrap();
    assert_eq!((&lent["role"], &lent["user"]), (&"viewer".into(), &"jane".into()));
    assert!(!format!("{entry:?}").contains(&made.token));
}

#[tokio::test]
async fn a_new_subscription_is_told_with_its_name() {
    let world = World::with_tenant().await;
    let request = v1::CreateSubscriptionRequest {
        parent: "tenants/acme".into(),
        ..create("", subscription())
    };
    let made = ask!(world.subscriptions, create_subscription, request).unwrap();
    let told = latest(&world).await;
    assert_eq!(told.resource, made.subscription.unwrap().name);
    // The first key comes with it.
    assert_eq!(told.changes.len(), 2);
}
