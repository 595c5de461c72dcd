//! What a tenant may have outstanding: more is refused, and nothing that was accepted is given up.

use serde_json::json;

use crate::harness::{Answer, Receiver, Shop, World};
use crate::on_both;

on_both!(what_is_over_the_limit_is_refused_and_the_rest_is_kept);

const LIMIT: usize = 10;

async fn what_is_over_the_limit_is_refused_and_the_rest_is_kept<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::start(|_| Answer::Status(500)).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let limits = json!({"name": "tenants/acme", "limits": {"max_pending": LIMIT.to_string()}});
    shop.write("TenantService/UpdateTenant", json!({"tenant": limits})).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    shop.served().await;
    let (mut accepted, mut refused) = (0, 0);
    for n in 0..5 {
        let requests: Vec<_> = (0..8).map(|i| shop.request(&format!("o{n}-{i}"), "{}")).collect();
        let answer = shop.grpc.ok("EventService/PublishBatch", json!({"requests": requests})).await;
        for result in answer["results"].as_array().unwrap() {
            match result.get("status") {
                None => accepted += 1,
                Some(status) => {
                    let text = status.to_string();
                    assert!(text.contains("QUOTA_EXCEEDED"), "{text}");
                    assert!(text.contains("limits.max_pending of tenants/acme is 10"), "{text}");
                    refused += 1;
                }
            }
        }
    }
    // Two nodes may each have let in as many before they knew of each other.
    assert!((LIMIT..=2 * LIMIT).contains(&accepted), "{accepted} accepted, {refused} refused");
    assert_eq!(accepted + refused, 40);
    let report = shop.grpc.report("tenants/acme").await;
    assert_eq!(report["deliveries"]["failed"], "0", "{report}");
    assert_eq!(report["events"]["accepted"], accepted.to_string(), "{report}");
}
