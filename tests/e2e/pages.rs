//! Lists in pages, and tokens that are good for the list they came from.

use serde_json::{Value, json};

use crate::harness::shop::{Shop, subscription};
use crate::harness::{Receiver, World};
use crate::on_both;

on_both!(pages_join_to_the_whole_list, a_token_is_good_for_its_own_list,);

async fn pages_join_to_the_whole_list<W: World>() {
    let pregon = W::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    for id in ["a", "b", "c", "d", "e"] {
        shop.subscribe(id, &receiver, &format!("/{id}")).await;
    }
    for n in 0..5 {
        shop.publish(&format!("e{n}"), "{}").await;
    }
    shop.settled().await;

    // Configuration by name; events and deliveries newest first.
    let request = json!({"page_size": 2});
    let list =
        shop.all("SubscriptionService/ListSubscriptions", "subscriptions", request.clone()).await;
    let ids = ["a", "b", "c", "d", "e"].map(subscription);
    assert_eq!(names(&list), ids);
    let events = shop.all("DeliveryService/ListEvents", "events", request.clone()).await;
    let newest: Vec<_> = (0..5).rev().map(|n| format!("tenants/acme/events/e{n}")).collect();
    assert_eq!(names(&events), newest);
    let deliveries = shop.deliveries(request).await;
    assert_eq!(deliveries.len(), 25);
    let mut distinct = names(&deliveries);
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 25);
    let event = |delivery: &Value| delivery["event"].as_str().unwrap().to_owned();
    assert!(deliveries.iter().map(event).is_sorted_by(|one, next| one >= next));

    // Filters hold over pages.
    let filters = json!({"page_size": 1, "subscription": subscription("c")});
    let only = shop.deliveries(filters).await;
    assert_eq!(only.len(), 5);
    let filters = json!({"page_size": 3, "state": "DELIVERY_STATE_FAILED"});
    assert_eq!(shop.deliveries(filters).await.len(), 0);
    let filters = json!({"page_size": 4, "event_type": "eventTypes/order.captured"});
    assert_eq!(shop.deliveries(filters).await.len(), 25);
    let everybody = json!({"page_size": 7, "parent": "tenants/-"});
    assert_eq!(shop.deliveries(everybody).await.len(), 25);
}

async fn a_token_is_good_for_its_own_list<W: World>() {
    let pregon = W::in_memory().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    for id in ["b", "c", "d"] {
        shop.write("TenantService/CreateTenant", json!({"tenant_id": id, "tenant": {}})).await;
    }
    let first = shop.grpc.ok("TenantService/ListTenants", json!({"page_size": 2})).await;
    assert_eq!(names(first["tenants"].as_array().unwrap()), ["tenants/acme", "tenants/b"]);
    let token = first["nextPageToken"].as_str().unwrap();
    // Another page size is the same list.
    let request = json!({"page_size": 1, "page_token": token});
    let second = shop.grpc.ok("TenantService/ListTenants", request).await;
    assert_eq!(names(second["tenants"].as_array().unwrap()), ["tenants/c"]);

    let mut spoilt = token.to_owned();
    let last = if spoilt.pop() == Some('A') { 'B' } else { 'A' };
    spoilt.push(last);
    let fields = |token: &str| json!({"page_token": token});
    let parent = |token: &str| json!({"parent": "tenants/acme", "page_token": token});
    for (method, request) in [
        ("TenantService/ListTenants", fields("nonsense")),
        ("TenantService/ListTenants", fields(&spoilt)),
        ("EventTypeService/ListEventTypes", fields(token)),
        ("SubscriptionService/ListSubscriptions", parent(token)),
        ("DeliveryService/ListDeliveries", parent("x")),
        ("DeliveryService/ListEvents", parent("x")),
        ("NodeService/ListNodes", fields("x")),
    ] {
        let refused = shop.grpc.refused(method, request).await;
        let expected = [("page_token".to_owned(), "PAGE_TOKEN_INVALID".to_owned())];
        assert_eq!(refused.violations(), expected, "{method}");
    }
    let refused = shop.grpc.refused("TenantService/ListTenants", json!({"page_size": -1})).await;
    assert_eq!(refused.violations(), [("page_size".to_owned(), "OUT_OF_RANGE".to_owned())]);
    let whole = shop.grpc.ok("TenantService/ListTenants", json!({"page_size": 5000})).await;
    assert_eq!(whole["tenants"].as_array().unwrap().len(), 4);
}

fn names(list: &[Value]) -> Vec<String> {
    list.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}
