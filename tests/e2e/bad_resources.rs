//! What a platform team can get wrong in configuration: for each row the field and the rule.

use serde_json::{Value, json};

use crate::harness::shop::{Shop, subscription};
use crate::harness::{Receiver, World};
use crate::on_both;

on_both!(subscriptions, event_types, tenants, secrets, names_of_nothing_are_not_found,);

/// Puts fields over a good resource, expects one wrong field with this rule, and a part of the
/// description.
type Row = (Value, &'static str, &'static str, &'static str);

async fn check(shop: &Shop, method: &str, good: &Value, at: &str, rows: Vec<Row>) {
    for (fields, field, rule, said) in rows {
        let mut request = good.clone();
        let place = if at.is_empty() { &mut request } else { &mut request[at] };
        for (name, value) in fields.as_object().unwrap() {
            place[name] = value.clone();
        }
        let refused = shop.grpc.refused(method, request).await;
        let row = format!("{method} {field} {rule} {said:?}: {refused}");
        assert_eq!(refused.code, "INVALID_ARGUMENT", "{row}");
        assert_eq!(refused.reason(), "FIELDS_INVALID", "{row}");
        assert_eq!(refused.violations(), [(field.to_owned(), rule.to_owned())], "{row}");
        assert!(refused.description(field).contains(said), "{row}");
    }
}

async fn subscriptions<W: World>() {
    let pregon = W::in_memory().await;
    let shop = Shop::open(pregon.grpcurl()).await;
    let good = json!({
        "parent": "tenants/acme",
        "subscription": {"url": "http://127.0.0.1:9/hook", "event_types": ["order.*"]},
    });
    let url = |text: &str| json!({ "url": text });
    let header = |name: &str, value: &str| json!({"headers": [{"name": name, "value": value}]});
    let long = format!("http://127.0.0.1/{}", "a".repeat(8192));
    let patterns = vec!["order.*"; 65];
    let headers: Vec<_> =
        (0..21).map(|n| json!({"name": format!("x-{n}"), "value": "v"})).collect();
    let (u, t, f) = ("subscription.url", "subscription.event_types", "subscription.filter");
    let h = "subscription.headers[0]";
    let rows: Vec<Row> = vec![
        (url(""), u, "REQUIRED", ""),
        (url("127.0.0.1"), u, "MALFORMED", ""),
        (url("http://user@127.0.0.1/"), u, "URL_REFUSED", "user"),
        (url("http://user:word@127.0.0.1/"), u, "URL_REFUSED", "password"),
        (url("http://127.0.0.1/#part"), u, "URL_REFUSED", "fragment"),
        (url("ftp://127.0.0.1/"), u, "URL_REFUSED", "https"),
        (url("file:///etc/passwd"), u, "URL_REFUSED", "https"),
        (url("http://127.0.0.1:0/"), u, "URL_REFUSED", "port"),
        (url("http://0x7f000001/"), u, "MALFORMED", "http://127.0.0.1/"),
        (url("http://EXAMPLE.com/"), u, "MALFORMED", "http://example.com/"),
        (url("http://127.0.0.1"), u, "MALFORMED", "http://127.0.0.1/"),
        (url("http://127.0.0.1/a/../b"), u, "MALFORMED", "http://127.0.0.1/b"),
        (url("https://10.0.0.1/"), u, "URL_REFUSED", "not a public address"),
        (url("https://169.254.169.254/latest"), u, "URL_REFUSED", "not a public address"),
        (url("https://[::1]/"), u, "URL_REFUSED", "not a public address"),
        (url("https://[::ffff:10.0.0.1]/"), u, "MALFORMED", ""),
        (url(&long), u, "TOO_LONG", "8192"),
        (json!({"event_types": []}), t, "REQUIRED", "1 to 64"),
        (json!({"event_types": patterns}), t, "TOO_MANY", "64"),
        (
            json!({"event_types": ["order.*", ""]}),
            "subscription.event_types[1]",
            "PATTERN_INVALID",
            "",
        ),
        (
            json!({"event_types": ["*.captured"]}),
            "subscription.event_types[0]",
            "PATTERN_INVALID",
            "",
        ),
        (json!({"event_types": ["order*"]}), "subscription.event_types[0]", "PATTERN_INVALID", ""),
        (json!({"filter": "event.data.amount >"}), f, "EXPRESSION_INVALID", "1:"),
        (json!({"filter": "true &&\n  (false"}), f, "EXPRESSION_INVALID", ":"),
        (json!({"filter": "evnt.data.amount > 1"}), f, "EXPRESSION_INVALID", "evnt"),
        (json!({"filter": "nothing(event.data)"}), f, "EXPRESSION_INVALID", "nothing"),
        (json!({"filter": format!("'{}' == ''", "a".repeat(2048))}), f, "TOO_LONG", "2048"),
        (json!({"contract": "standard_webhooks"}), "subscription.contract", "MALFORMED", ""),
        (json!({"headers": headers}), "subscription.headers[20]", "TOO_MANY", "20"),
        (header("", "v"), h, "REQUIRED", ""),
        (header("x-ok", &"v".repeat(4096)), h, "TOO_LONG", "4096"),
        (header("bad name", "v"), h, "HEADER_REFUSED", ""),
        (header("x-bad", "a\r\nx-injected: 1"), h, "HEADER_REFUSED", ""),
        (header("x-bad", "ñ"), h, "HEADER_REFUSED", "ASCII"),
        (header("Connection", "close"), h, "HEADER_REFUSED", "connection"),
        (header("transfer-encoding", "chunked"), h, "HEADER_REFUSED", "connection"),
        (header("host", "elsewhere"), h, "HEADER_REFUSED", ""),
        (header("content-type", "text/plain"), h, "HEADER_REFUSED", ""),
        (header("user-agent", "me"), h, "HEADER_REFUSED", ""),
        (header("traceparent", "00-0-0-00"), h, "HEADER_REFUSED", ""),
        (header("Webhook-Signature", "v1,x"), h, "HEADER_REFUSED", "contract"),
        (json!({"max_concurrency": 1025}), "subscription.max_concurrency", "OUT_OF_RANGE", "1024"),
        (json!({"max_concurrency": -1}), "subscription.max_concurrency", "OUT_OF_RANGE", ""),
        (json!({"display_name": "n".repeat(129)}), "subscription.display_name", "TOO_LONG", "128"),
        (json!({"labels": {"k": "v".repeat(257)}}), "subscription.labels[k]", "TOO_LONG", "256"),
        (json!({"auth": {"mtls": {}}}), "subscription.auth.mtls.certificate_pem", "REQUIRED", ""),
        (
            json!({"auth": {"basic": {"password": "x"}}}),
            "subscription.auth.basic.username",
            "REQUIRED",
            "",
        ),
        (
            json!({"rate_limit": {"per_second": 0}}),
            "subscription.rate_limit.per_second",
            "OUT_OF_RANGE",
            "100000",
        ),
        (
            json!({"rate_limit": {"per_second": 1, "burst": 3601}}),
            "subscription.rate_limit.burst",
            "OUT_OF_RANGE",
            "in an hour",
        ),
        (json!({"max_pending": "5"}), "subscription.max_pending", "UNSUPPORTED", ""),
        (json!({"ordered": true}), "subscription.ordered", "UNSUPPORTED", ""),
        (json!({"egress": "pool"}), "subscription.egress", "UNSUPPORTED", ""),
        (
            json!({"sensitive_paths": ["event.data.a", "data.b"]}),
            "subscription.sensitive_paths[1]",
            "MALFORMED",
            "event.data",
        ),
    ];
    check(&shop, "SubscriptionService/CreateSubscription", &good, "subscription", rows).await;
    let rows = vec![
        (json!({"parent": "acme"}), "parent", "MALFORMED", "tenants/"),
        (json!({"parent": ""}), "parent", "REQUIRED", ""),
        (json!({"subscription_id": "a.b"}), "subscription_id", "MALFORMED", ""),
        (json!({"request_id": "r".repeat(65)}), "request_id", "TOO_LONG", "64"),
    ];
    check(&shop, "SubscriptionService/CreateSubscription", &good, "", rows).await;

    // Everything at once.
    let request = json!({
        "parent": "tenants/acme/x",
        "subscription_id": "a b",
        "subscription": {
            "url": "ftp://127.0.0.1/", "event_types": ["", "*x"], "filter": "(",
            "headers": [{"name": "host", "value": "h"}, {"name": "te", "value": "t"}],
        },
    });
    let refused = shop.grpc.refused("SubscriptionService/CreateSubscription", request).await;
    let mut fields: Vec<_> = refused.violations().into_iter().map(|(field, _)| field).collect();
    fields.sort();
    let expected = [
        "parent",
        "subscription.event_types[0]",
        "subscription.event_types[1]",
        "subscription.filter",
        "subscription.headers[0]",
        "subscription.headers[1]",
        "subscription.url",
        "subscription_id",
    ];
    assert_eq!(fields, expected);
}

async fn event_types<W: World>() {
    let pregon = W::in_memory().await;
    let shop = Shop::open(pregon.grpcurl()).await;
    let good = json!({"event_type_id": "a.b", "event_type": {}});
    let (s, e) = ("event_type.json_schema", "event_type.example");
    let rows: Vec<Row> = vec![
        (json!({"json_schema": "{"}), s, "SCHEMA_INVALID", "byte"),
        (json!({"json_schema": r#"{"type":"thing"}"#}), s, "SCHEMA_INVALID", ""),
        (
            json!({"json_schema": r#"{"$ref":"https://example.com/s.json"}"#}),
            s,
            "SCHEMA_INVALID",
            "",
        ),
        (json!({"json_schema": " ".repeat(65_537)}), s, "TOO_LONG", "65536"),
        (json!({"example": "{,}"}), e, "EVENT_JSON_INVALID", "byte 1"),
        (
            json!({"json_schema": r#"{"type":"array"}"#, "example": "{}"}),
            e,
            "EVENT_SCHEMA_MISMATCH",
            "type",
        ),
        (json!({"description": "d".repeat(4097)}), "event_type.description", "TOO_LONG", "4096"),
        (
            json!({"sensitive_paths": ["event.id"]}),
            "event_type.sensitive_paths[0]",
            "MALFORMED",
            "event.data",
        ),
    ];
    check(&shop, "EventTypeService/CreateEventType", &good, "event_type", rows).await;
    let rows: Vec<Row> = vec![
        (json!({"event_type_id": ""}), "event_type_id", "REQUIRED", ""),
        (json!({"event_type_id": "a..b"}), "event_type_id", "MALFORMED", ""),
        (json!({"event_type_id": "order.*"}), "event_type_id", "MALFORMED", ""),
    ];
    check(&shop, "EventTypeService/CreateEventType", &good, "", rows).await;
}

async fn tenants<W: World>() {
    let pregon = W::in_memory().await;
    let shop = Shop::open(pregon.grpcurl()).await;
    let good = json!({"tenant_id": "other", "tenant": {}});
    let limits = |name: &str, value: Value| json!({"limits": {name: value}});
    let many: serde_json::Map<_, _> = (0..33).map(|n| (format!("k{n}"), json!("v"))).collect();
    let rows: Vec<Row> = vec![
        (json!({"labels": many}), "tenant.labels", "TOO_MANY", "32"),
        (
            limits("max_subscriptions", json!(0)),
            "tenant.limits.max_subscriptions",
            "OUT_OF_RANGE",
            "10000",
        ),
        (
            limits("max_subscriptions", json!(10_001)),
            "tenant.limits.max_subscriptions",
            "OUT_OF_RANGE",
            "10000",
        ),
        (
            limits("publish_per_second", json!(-1)),
            "tenant.limits.publish_per_second",
            "OUT_OF_RANGE",
            "",
        ),
        (limits("max_pending", json!("-1")), "tenant.limits.max_pending", "OUT_OF_RANGE", ""),
    ];
    check(&shop, "TenantService/CreateTenant", &good, "tenant", rows).await;
    let rows: Vec<Row> = vec![
        (json!({"tenant_id": ""}), "tenant_id", "REQUIRED", ""),
        (json!({"tenant_id": "a/b"}), "tenant_id", "MALFORMED", ""),
        (json!({"tenant_id": "-".repeat(65)}), "tenant_id", "MALFORMED", "64"),
    ];
    check(&shop, "TenantService/CreateTenant", &good, "", rows).await;
    let bare = shop.grpc.ok("TenantService/CreateTenant", json!({"tenant_id": "t"})).await;
    assert_eq!(bare["tenant"]["name"], "tenants/t");
    let refused = shop
        .grpc
        .refused("TenantService/CreateTenant", json!({"tenant_id": "acme", "tenant": {}}))
        .await;
    assert_eq!((refused.code, refused.reason()), ("ALREADY_EXISTS", "RESOURCE_EXISTS"));
}

async fn secrets<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    let good = json!({"parent": subscription("erp"), "secret": {}});
    let m = "secret.material";
    let rows: Vec<Row> = vec![
        (json!({"material": "short"}), m, "MALFORMED", "whsec_"),
        (json!({"material": "whsec_!!!"}), m, "MALFORMED", ""),
        (json!({"material": "whsec_c2hvcnQ="}), m, "OUT_OF_RANGE", "24"),
        (
            json!({"algorithm": "SECRET_ALGORITHM_ED25519", "material": "whsec_AAAA"}),
            m,
            "MALFORMED",
            "whsk_",
        ),
    ];
    check(&shop, "SecretService/CreateSecret", &good, "secret", rows).await;
    let good = json!({"parent": subscription("erp")});
    let rows: Vec<Row> = vec![
        (json!({"overlap": "604801s"}), "overlap", "OUT_OF_RANGE", ""),
        (json!({"overlap": "-1s"}), "overlap", "OUT_OF_RANGE", ""),
        (json!({"material": "nothing"}), "material", "MALFORMED", ""),
    ];
    check(&shop, "SecretService/RotateSecret", &good, "", rows).await;
    // The refusal of a secret does not repeat it.
    let leak = "whsec_tOoShOrT";
    let refused = shop
        .grpc
        .refused(
            "SecretService/RotateSecret",
            json!({"parent": subscription("erp"), "material": leak}),
        )
        .await;
    assert!(!refused.to_string().contains("tOoShOrT"), "{refused}");
    // Ten live ones at most.
    for _ in 1..10 {
        shop.grpc.ok("SecretService/CreateSecret", json!({"parent": subscription("erp")})).await;
    }
    let refused = shop
        .grpc
        .refused("SecretService/CreateSecret", json!({"parent": subscription("erp")}))
        .await;
    assert_eq!((refused.code, refused.reason()), ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"));
}

async fn names_of_nothing_are_not_found<W: World>() {
    let pregon = W::in_memory().await;
    let shop = Shop::open(pregon.grpcurl()).await;
    let (tenant, erp) = ("tenants/nobody", "tenants/acme/subscriptions/nobody");
    let url = json!({"url": "http://127.0.0.1:9/", "event_types": ["*"]});
    for (method, request) in [
        ("TenantService/GetTenant", json!({"name": tenant})),
        ("TenantService/UpdateTenant", json!({"tenant": {"name": tenant, "display_name": "x"}})),
        ("TenantService/DeleteTenant", json!({"name": tenant})),
        ("EventTypeService/GetEventType", json!({"name": "eventTypes/nothing"})),
        ("EventTypeService/DeleteEventType", json!({"name": "eventTypes/nothing"})),
        ("SubscriptionService/GetSubscription", json!({"name": erp})),
        ("SubscriptionService/DeleteSubscription", json!({"name": erp})),
        ("SubscriptionService/CreateSubscription", json!({"parent": tenant, "subscription": url})),
        ("SubscriptionService/ListSubscriptions", json!({"parent": tenant})),
        ("SecretService/ListSecrets", json!({"parent": erp})),
        ("SecretService/RotateSecret", json!({"parent": erp})),
        ("SecretService/RevealSecret", json!({"name": format!("{erp}/secrets/s")})),
        ("DeliveryService/GetEvent", json!({"name": "tenants/acme/events/nothing"})),
        ("DeliveryService/ListDeliveries", json!({"parent": tenant})),
        ("DeliveryService/ListEvents", json!({"parent": tenant})),
        ("DeliveryService/GetReconciliationReport", json!({"parent": tenant})),
        ("NodeService/GetNode", json!({"name": "nodes/nothing"})),
    ] {
        let refused = shop.grpc.refused(method, request).await;
        assert_eq!(
            (refused.code, refused.reason()),
            ("NOT_FOUND", "RESOURCE_NOT_FOUND"),
            "{method}"
        );
        assert!(refused.detail("ResourceInfo").is_some(), "{method}: {refused}");
    }
    for (method, field) in [
        ("TenantService/GetTenant", "name"),
        ("SubscriptionService/GetSubscription", "name"),
        ("EventTypeService/GetEventType", "name"),
        ("SecretService/GetSecret", "name"),
        ("DeliveryService/GetDelivery", "name"),
        ("DeliveryService/GetEvent", "name"),
        ("DeliveryService/GetAttempt", "name"),
        ("DeliveryService/ListAttempts", "parent"),
        ("DeliveryService/ListDeliveries", "parent"),
        ("NodeService/GetNode", "name"),
    ] {
        let refused = shop.grpc.refused(method, json!({field: "not a name"})).await;
        assert_eq!(refused.violations(), [(field.to_owned(), "MALFORMED".to_owned())], "{method}");
        let refused = shop.grpc.refused(method, json!({})).await;
        assert_eq!(refused.violations(), [(field.to_owned(), "REQUIRED".to_owned())], "{method}");
    }
}
