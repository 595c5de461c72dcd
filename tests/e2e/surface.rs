//! What a server says of itself before anybody knows its API: reflection, comments, health.

use serde_json::{Value, json};

use crate::harness::{Shop, Standalone};

const SERVICES: [&str; 17] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "pregon.v1.ApiKeyService",
    "pregon.v1.AuditLogService",
    "pregon.v1.CallbackService",
    "pregon.v1.CheckService",
    "pregon.v1.ContractService",
    "pregon.v1.DeliveryService",
    "pregon.v1.EgressService",
    "pregon.v1.EventService",
    "pregon.v1.EventTypeService",
    "pregon.v1.MasterKeyService",
    "pregon.v1.NodeService",
    "pregon.v1.SecretService",
    "pregon.v1.SubscriptionService",
    "pregon.v1.TenantService",
];

#[tokio::test]
async fn both_planes_are_listed_on_one_port() {
    let pregon = Standalone::in_memory().await;
    let list = pregon.grpcurl().text(&["list"]).await;
    let listed: Vec<_> = list.lines().collect();
    // grpcurl leaves the reflection services out where it asked them itself.
    let missing: Vec<_> = SERVICES.iter().filter(|name| !listed.contains(name)).collect();
    assert!(missing.iter().all(|name| name.contains("reflection")), "{missing:?} in {listed:?}");
    let strangers: Vec<_> = listed.iter().filter(|name| !SERVICES.contains(name)).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[tokio::test]
async fn reflection_answers_in_both_versions() {
    let pregon = Standalone::in_memory().await;
    for version in ["v1", "v1alpha"] {
        let method = format!("grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let request = r#"{"list_services": ""}"#;
        let output = pregon.grpcurl().run(&["-d", "@"], &[&method], request).await;
        assert!(output.status.success(), "{output:?}");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let services = answer["listServicesResponse"]["service"].as_array().unwrap();
        for name in SERVICES {
            assert!(services.iter().any(|service| service["name"] == name), "{name} by {version}");
        }
    }
}

#[tokio::test]
async fn describe_shows_the_comments() {
    let pregon = Standalone::in_memory().await;
    for (symbol, comment) in [
        ("pregon.v1.EventService", "Publishes one event."),
        ("pregon.v1.EventService.Publish", "Errors: INVALID_ARGUMENT"),
        ("pregon.v1.Subscription", "Where deliveries are POSTed."),
        ("pregon.v1.DeliveryState", "The receiver acknowledged it."),
        ("google.rpc.BadRequest", "message BadRequest"),
    ] {
        let text = pregon.grpcurl().text(&["describe", symbol]).await;
        assert!(text.contains(comment), "{symbol}: {text}");
    }
}

#[tokio::test]
async fn health_is_serving_for_the_whole_and_for_each_service() {
    let pregon = Standalone::in_memory().await;
    let ours = SERVICES.iter().filter(|name| name.starts_with("pregon."));
    for service in std::iter::once(&"").chain(ours) {
        let request = format!(r#"{{"service": "{service}"}}"#);
        let method = "grpc.health.v1.Health/Check";
        let output = pregon.grpcurl().run(&["-d", "@"], &[method], &request).await;
        let answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{service:?}: {output:?}"));
        assert_eq!(answer["status"], "SERVING", "{service:?}");
    }
    let request = r#"{"service": "pregon.v1.Nothing"}"#;
    let method = "grpc.health.v1.Health/Check";
    let output = pregon.grpcurl().run(&["-d", "@"], &[method], request).await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("NotFound"), "{output:?}");
}

#[tokio::test]
async fn nodes_say_what_they_serve() {
    let pregon = Standalone::in_memory().await;
    let g = pregon.grpcurl();
    let mut shop = Shop::open(g.clone()).await;
    let written = shop.revision.clone();
    let wait = json!({"revision": written, "timeout": "30s"});
    assert_eq!(g.ok("NodeService/WaitForRevision", wait).await["served"], true);
    let nodes = g.ok("NodeService/ListNodes", json!({})).await;
    let [node] = nodes["nodes"].as_array().unwrap().as_slice() else { panic!("one: {nodes}") };
    assert_eq!(node["state"], "NODE_STATE_READY");
    assert_eq!(node["servedRevision"], written.as_str());
    assert_eq!(node["refused"], json!([]));
    let by_name = g.ok("NodeService/GetNode", json!({"name": node["name"]})).await;
    assert_eq!(by_name["node"]["startTime"], node["startTime"]);

    // A revision that nobody has committed is not waited for.
    shop.revision = i64::MAX.to_string();
    let refused =
        g.refused("NodeService/WaitForRevision", json!({"revision": shop.revision})).await;
    assert_eq!((refused.code, refused.reason()), ("FAILED_PRECONDITION", "REVISION_UNKNOWN"));
    let refused = g.refused("EventService/Publish", shop.request("e", "{}")).await;
    assert_eq!((refused.code, refused.reason()), ("FAILED_PRECONDITION", "REVISION_UNKNOWN"));
}
