//! A credential for one environment, held against every method there is.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::methods::{Api, Method, wanted};
use super::{Token, guarded};
use crate::harness::{Grpcurl, Receiver, Shop, World, eventually};
use crate::on_both;

on_both!(a_key_for_one_environment_reaches_no_other);

/// What belongs to LIVE.
struct Live {
    delivery: String,
}

/// A request about LIVE, or about what both environments have in common and a TEST key may not
/// change; none: such a key may ask it.
fn about_live(method: &str, live: &Live) -> Option<Value> {
    let (shop, callback) = ("tenants/acme/subscriptions/live", "tenants/acme/callbacks/live");
    let event = "tenants/acme/events/o-live";
    let (service, verb) = method.split_once('/').unwrap();
    Some(match (service, verb) {
        ("TenantService", "GetTenant" | "ListTenants")
        | ("EventTypeService", "GetEventType" | "ListEventTypes")
        | ("ContractService", "GetContract" | "ListContracts")
        | ("NodeService", "WaitForRevision")
        | ("EgressService", _)
        // Keys are below no environment but their own.
        | ("ApiKeyService", _)
        // What is of another environment is left out.
        | ("DeliveryService", "ListDeliveries" | "WatchDeliveries") => return None,
        ("TenantService", "CreateTenant") => json!({"tenant_id": "more", "tenant": {}}),
        ("TenantService", "UpdateTenant") => json!({"tenant": {"name": "tenants/acme"}}),
        ("TenantService", "DeleteTenant") => json!({"name": "tenants/acme", "force": true}),
        (
            "EventTypeService" | "ContractService" | "NodeService" | "MasterKeyService"
            | "AuditLogService",
            _,
        ) => {
            json!({})
        }
        ("SubscriptionService", "CreateSubscription")
        | ("CallbackService", "CreateCallback")
        | (
            "DeliveryService",
            "ReplayDeliveries" | "RetryNow" | "EraseEvents" | "GetReconciliationReport",
        ) => {
            json!({"parent": "tenants/acme"})
        }
        ("SubscriptionService", "ListSubscriptions")
        | ("CallbackService", "ListCallbacks")
        | ("DeliveryService", "ListEvents") => {
            json!({"parent": "tenants/acme", "environment": "ENVIRONMENT_LIVE"})
        }
        ("SubscriptionService", "UpdateSubscription") => json!({"subscription": {"name": shop}}),
        ("CallbackService", "UpdateCallback") => json!({"callback": {"name": callback}}),
        ("SubscriptionService", _) => json!({"name": shop}),
        ("CallbackService", _) => json!({"name": callback}),
        ("SecretService", "CreateSecret" | "ListSecrets" | "RotateSecret" | "GetJwks") => {
            json!({"parent": shop})
        }
        ("SecretService", _) => json!({"name": format!("{callback}/secrets/k1")}),
        ("DeliveryService", "GetEvent" | "ExplainEvent" | "CancelEvent" | "EraseEvent") => {
            json!({"name": event})
        }
        ("DeliveryService", "DeliverMissing") => json!({"subscription": shop}),
        ("DeliveryService", "ListAttempts") => json!({"parent": live.delivery}),
        ("DeliveryService", "GetAttempt") => {
            json!({"name": format!("{}/attempts/1", live.delivery)})
        }
        ("DeliveryService", "GetDelivery" | "ReplayDelivery" | "CancelDelivery") => {
            json!({"name": live.delivery})
        }
        ("EventService", "PublishBatch") => json!({"requests": [order("x", "LIVE")]}),
        ("EventService", "PublishStream") => {
            json!({"sequence": 1, "request": order("x", "LIVE")})
        }
        ("EventService", _) => order("x", "LIVE"),
        ("CheckService", "Check") => json!({"callback": callback, "json": "{}"}),
        (service, verb) => panic!("{service}/{verb} has nothing said of environments"),
    })
}

fn order(id: &str, environment: &str) -> Value {
    let environment = format!("ENVIRONMENT_{environment}");
    let event =
        json!({"id": id, "type": "order.captured", "environment": environment, "json": "{}"});
    json!({"tenant": "tenants/acme", "event": event})
}

async fn a_key_for_one_environment_reaches_no_other<W: World>() {
    let (admin, publisher) = (Token::of("admin").await, Token::of("publisher").await);
    let (pregon, _dir) = guarded::<W>(&[&admin, &publisher]).await;
    let (receiver, plain) = (Receiver::friendly().await, pregon.grpcurl());
    let mut shop = Shop::open(plain.with_token(&admin.token)).await;
    for (id, environment) in [("live", "ENVIRONMENT_LIVE"), ("test", "ENVIRONMENT_TEST")] {
        let url = receiver.url(&format!("/{id}"));
        shop.subscribe_with(id, json!({"url": url, "environment": environment})).await;
        let callback = json!({"url": url, "environment": environment});
        let create = json!({"parent": "tenants/acme", "callback_id": id, "callback": callback});
        shop.write("CallbackService/CreateCallback", create).await;
    }
    shop.served().await;
    let publishes = plain.with_token(&publisher.token);
    for (id, environment) in [("o-live", "LIVE"), ("o-test", "TEST")] {
        publishes.ok("EventService/Publish", order(id, environment)).await;
    }
    let delivery = shop.delivery("o-live", "live", "SUCCEEDED").await;
    let live = Live { delivery: delivery["name"].as_str().expect("a name").to_owned() };
    shop.delivery("o-test", "test", "SUCCEEDED").await;

    let key = async |role: &str| {
        let fields = json!({"role": role, "environment": "ENVIRONMENT_TEST"});
        let made = shop.grpc.ok("ApiKeyService/CreateApiKey", json!({"api_key": fields})).await;
        let name = made["apiKey"]["name"].as_str().expect("a name").to_owned();
        (name, plain.with_token(made["key"].as_str().expect("the key")))
    };
    let (of_admin, manages) = key("API_KEY_ROLE_ADMIN").await;
    let (of_publisher, publishes) = key("API_KEY_ROLE_PUBLISHER").await;
    for _ in 0..W::NODES {
        let test = order("o-own", "TEST");
        eventually("the keys are known", || async {
            let published = publishes.call("EventService/Publish", test.clone()).await;
            published.map_err(|it| it.to_string())?;
            let listed = manages.call("TenantService/ListTenants", json!({})).await;
            listed.map(|_| ()).map_err(|it| it.to_string())
        })
        .await;
    }

    let (mut refused, mut expected) = (0, BTreeSet::new());
    for Method { path, .. } in &Api::read().methods {
        let method = path.trim_start_matches("/pregon.v1.");
        let publishes_it = wanted(path) == "publisher";
        let (name, grpc) =
            if publishes_it { (&of_publisher, &publishes) } else { (&of_admin, &manages) };
        let Some(request) = about_live(method, &live) else { continue };
        let (messages, end) = grpc.stream(method, &request).await;
        match end {
            // One answer for each event: the refusal stands in it.
            Ok(()) if method.contains("PublishBatch") || method.contains("PublishStream") => {
                let told = messages.iter().any(|it| it.to_string().contains("ENVIRONMENT_DENIED"));
                assert!(told, "{method}: {messages:?}");
            }
            Ok(()) => panic!("{method} {request} was let in: {messages:?}"),
            Err(status) => {
                let told = (status.code, status.reason());
                assert_eq!(told, ("PERMISSION_DENIED", "ENVIRONMENT_DENIED"), "{method} {request}");
            }
        }
        refused += 1;
        expected.insert((format!("pregon.v1.{method}"), name.clone()));
    }
    assert!(refused > 50, "only {refused} methods");
    what_is_of_its_own_is_open(&manages).await;

    eventually("every refusal is told", || async {
        let filters = json!({"outcome": "AUDIT_OUTCOME_REFUSED", "page_size": 500});
        let told = shop.grpc.ok("AuditLogService/ListAuditEntries", filters).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let told = told["auditEntries"].as_array().expect("entries").iter();
        let denied = told.filter(|it| it["reason"] == "ENVIRONMENT_DENIED");
        let found: BTreeSet<_> =
            denied.map(|it| (text(&it["method"]), text(&it["actor"]["id"]))).collect();
        let missing: Vec<_> = expected.difference(&found).cloned().collect();
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    })
    .await;
}

/// Lists have what is of TEST alone, and that can be written.
async fn what_is_of_its_own_is_open(manages: &Grpcurl) {
    let acme = json!({"parent": "tenants/acme"});
    for (method, field, names) in [
        ("SubscriptionService/ListSubscriptions", "subscriptions", "subscriptions/test"),
        ("CallbackService/ListCallbacks", "callbacks", "callbacks/test"),
        ("DeliveryService/ListEvents", "events", "events/o-"),
        ("DeliveryService/ListDeliveries", "deliveries", "deliveries/"),
    ] {
        let list = manages.ok(method, acme.clone()).await;
        let list = list[field].as_array().expect("a list");
        assert!(!list.is_empty(), "{method}");
        for it in list {
            assert!(it["name"].as_str().unwrap().contains(names), "{method}: {it}");
            assert_ne!(it["subscription"], "tenants/acme/subscriptions/live", "{method}: {it}");
            assert_ne!(it["name"], "tenants/acme/events/o-live", "{method}: {it}");
        }
    }
    for (method, request) in [
        (
            "SubscriptionService/PauseSubscription",
            json!({"name": "tenants/acme/subscriptions/test"}),
        ),
        ("SecretService/ListSecrets", json!({"parent": "tenants/acme/subscriptions/test"})),
        ("DeliveryService/GetEvent", json!({"name": "tenants/acme/events/o-test"})),
        ("DeliveryService/ExplainEvent", json!({"name": "tenants/acme/events/o-test"})),
    ] {
        let answer = manages.ok(method, request).await;
        assert!(!answer.to_string().contains("subscriptions/live"), "{method}: {answer}");
    }
}
