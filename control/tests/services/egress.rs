//! Pools and rules: who names one that there is not, and what a tenant may say.

use std::sync::Arc;

use pregon_control::EgressPools;
use pregon_proto::v1;
use pregon_proto::v1::egress_service_server::EgressService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use pregon_rpc::caller::{Caller, Role};
use tonic::{Code, Status};

use crate::world::{World, ask, assert_wrong, from, mask, reason};

fn update(tenant: v1::Tenant, paths: &[&str]) -> v1::UpdateTenantRequest {
    v1::UpdateTenantRequest {
        tenant: Some(v1::Tenant { name: "tenants/acme".into(), ..tenant }),
        update_mask: mask(paths),
        ..Default::default()
    }
}

fn rules(allow: &[&str], deny: &[&str]) -> Option<v1::EgressRules> {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    Some(v1::EgressRules { allow: texts(allow), deny: texts(deny) })
}

#[tokio::test]
async fn a_tenants_rules_are_kept_as_given_and_can_be_emptied() {
    let world = World::with_tenant().await;
    let egress_rules = rules(&["*.example.com:443", "203.0.113.0/24"], &["[2001:db8::/32]:25"]);
    let given = v1::Tenant { egress_rules: egress_rules.clone(), ..Default::default() };
    let both = ["egress_rules.allow", "egress_rules.deny"];
    ask!(world.tenants, update_tenant, update(given, &both)).unwrap();
    let shown = async || {
        let name = "tenants/acme".to_owned();
        let answer = ask!(world.tenants, get_tenant, v1::GetTenantRequest { name }).unwrap();
        answer.tenant.unwrap()
    };
    assert_eq!(shown().await.egress_rules, egress_rules);
    let none = v1::Tenant::default();
    ask!(world.tenants, update_tenant, update(none, &["egress_rules.allow"])).unwrap();
    assert_eq!(shown().await.egress_rules, rules(&[], &["[2001:db8::/32]:25"]));
    let none = v1::Tenant::default();
    ask!(world.tenants, update_tenant, update(none, &both)).unwrap();
    assert_eq!(shown().await.egress_rules, None);
}

#[tokio::test]
async fn every_wrong_rule_is_named_and_their_number_is_bounded() {
    let world = World::with_tenant().await;
    let both = ["egress_rules.allow", "egress_rules.deny"];
    let bad = rules(&["*.example.com", "https://example.com"], &["10.0.0.0/33", "*:0"]);
    let given = v1::Tenant { egress_rules: bad, ..Default::default() };
    let answer = ask!(world.tenants, update_tenant, update(given, &both));
    let wrong = [
        ("tenant.egress_rules.allow[1]", "MALFORMED"),
        ("tenant.egress_rules.deny[0]", "MALFORMED"),
        ("tenant.egress_rules.deny[1]", "MALFORMED"),
    ];
    assert_wrong(answer, &wrong);
    let many = rules(&["*"; 65], &["*"; 64]);
    let given = v1::Tenant { egress_rules: many, ..Default::default() };
    let answer = ask!(world.tenants, update_tenant, update(given, &both));
    assert_wrong(answer, &[("tenant.egress_rules.allow", "TOO_MANY")]);
}

#[tokio::test]
async fn a_pool_that_is_set_up_can_be_named_and_no_other() {
    let world = World::with_tenant().await;
    for (egress, wrong) in [("blue", "UNSUPPORTED"), ("a b", "MALFORMED")] {
        let given = v1::Tenant { egress: egress.into(), ..Default::default() };
        let answer = ask!(world.tenants, update_tenant, update(given, &["egress"]));
        assert_wrong(answer, &[("tenant.egress", wrong)]);
        let subscription = v1::Subscription {
            url: "https://receiver.example/hook".into(),
            event_types: vec!["order.*".into()],
            egress: egress.into(),
            ..Default::default()
        };
        let request = v1::CreateSubscriptionRequest {
            parent: "tenants/acme".into(),
            subscription: Some(subscription),
            ..Default::default()
        };
        let answer = ask!(world.subscriptions, create_subscription, request);
        assert_wrong(answer, &[("subscription.egress", wrong)]);
    }
    let given = v1::Tenant { egress: "fixed".into(), ..Default::default() };
    let tenant = ask!(world.tenants, update_tenant, update(given, &["egress"])).unwrap().tenant;
    assert_eq!(tenant.unwrap().egress, "fixed");
}

#[tokio::test]
async fn operators_choose_a_subscriptions_pool_and_tenant_managers_leave_it() {
    let world = World::with_tenant().await;
    let manager = || Caller::new("shop", Role::TenantManager, None);
    let create = async |caller: Caller, id: &str, egress: &str| {
        let subscription = v1::Subscription {
            url: "https://receiver.example/hook".into(),
            event_types: vec!["order.*".into()],
            egress: egress.into(),
            ..Default::default()
        };
        let request = v1::CreateSubscriptionRequest {
            parent: "tenants/acme".into(),
            subscription_id: id.into(),
            subscription: Some(subscription),
            ..Default::default()
        };
        world.subscriptions.create_subscription(from(caller, request)).await
    };
    let update = async |caller: Caller, egress: &str, allow_missing: bool| {
        let id = if allow_missing { "new" } else { "erp" };
        let subscription = v1::Subscription {
            name: format!("tenants/acme/subscriptions/{id}"),
            url: "https://receiver.example/hook2".into(),
            event_types: vec!["order.*".into()],
            egress: egress.into(),
            ..Default::default()
        };
        let request = v1::UpdateSubscriptionRequest {
            subscription: Some(subscription),
            update_mask: mask(&["url", "egress", "event_types"]),
            allow_missing,
            ..Default::default()
        };
        world.subscriptions.update_subscription(from(caller, request)).await
    };
    let denied = |answer: Result<(), Status>| {
        let status = answer.unwrap_err();
        assert!(status.message().contains("subscription.egress"), "{}", status.message());
        let word = (Code::PermissionDenied, "ROLE_MISSING".to_owned());
        assert_eq!(reason(&status), word);
    };
    denied(create(manager(), "erp", "fixed").await.map(|_| ()));
    denied(update(manager(), "fixed", true).await.map(|_| ()));
    create(manager(), "plain", "").await.unwrap();
    for (number, role) in [Role::Operator, Role::Admin].into_iter().enumerate() {
        let id = ["erp", "other"][number];
        create(Caller::new("desk", role, None), id, "fixed").await.unwrap();
    }
    // What an operator has chosen stays while others change the rest.
    update(manager(), "fixed", false).await.unwrap();
    denied(update(manager(), "default", false).await.map(|_| ()));
    denied(update(manager(), "", false).await.map(|_| ()));
    update(Caller::anyone(), "default", false).await.unwrap();
}

#[tokio::test]
async fn pools_say_their_addresses() {
    let world = World::new();
    let pools = EgressPools::new(Arc::clone(&world.control));
    let all = v1::ListEgressAddressesRequest::default();
    let all = ask!(pools, list_egress_addresses, all).unwrap().pools;
    let names: Vec<_> = all.iter().map(|pool| pool.pool.as_str()).collect();
    assert_eq!(names, ["default", "fixed"]);
    assert_eq!(all[1].addresses, ["203.0.113.7/32", "2001:db8::/64"]);
    let one = v1::ListEgressAddressesRequest { pool: "fixed".into() };
    let one = ask!(pools, list_egress_addresses, one).unwrap().pools;
    assert_eq!((one.len(), &one[0]), (1, &all[1]));
    let none = v1::ListEgressAddressesRequest { pool: "blue".into() };
    assert!(ask!(pools, list_egress_addresses, none).unwrap().pools.is_empty());
    let bad = v1::ListEgressAddressesRequest { pool: "a b".into() };
    assert_wrong(ask!(pools, list_egress_addresses, bad), &[("pool", "MALFORMED")]);
}

#[tokio::test]
async fn a_url_that_the_tenants_rules_exclude_is_refused() {
    let world = World::with_tenant().await;
    let create = |url: &str| v1::CreateSubscriptionRequest {
        parent: "tenants/acme".into(),
        subscription_id: "erp".into(),
        subscription: Some(v1::Subscription {
            url: url.into(),
            event_types: vec!["order.*".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let request = create("https://a.elsewhere.example/hook");
    ask!(world.subscriptions, create_subscription, request).unwrap();
    let egress_rules = rules(&["*.good.example:443"], &["bad.good.example"]);
    let given = v1::Tenant { egress_rules, ..Default::default() };
    let both = ["egress_rules.allow", "egress_rules.deny"];
    ask!(world.tenants, update_tenant, update(given, &both)).unwrap();
    let url = [("subscription.url", "URL_REFUSED")];
    for bad in ["https://bad.good.example/", "https://a.good.example:444/", "https://8.8.8.8/"] {
        let request =
            v1::CreateSubscriptionRequest { subscription_id: "other".into(), ..create(bad) };
        assert_wrong(ask!(world.subscriptions, create_subscription, request), &url);
    }
    let change = |url: &str, paths: &[&str]| v1::UpdateSubscriptionRequest {
        subscription: Some(v1::Subscription {
            name: "tenants/acme/subscriptions/erp".into(),
            url: url.into(),
            display_name: "ERP".into(),
            ..Default::default()
        }),
        update_mask: mask(paths),
        ..Default::default()
    };
    let bad = change("https://bad.good.example/", &["url"]);
    assert_wrong(ask!(world.subscriptions, update_subscription, bad), &url);
    // What was there before the rules can be changed in other fields.
    let other = change("", &["display_name"]);
    ask!(world.subscriptions, update_subscription, other).unwrap();
    let good = change("https://a.good.example/", &["url"]);
    ask!(world.subscriptions, update_subscription, good).unwrap();
}
