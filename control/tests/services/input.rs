//! Bad input, and how it is told.

use pregon_proto::v1;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use tonic_types::StatusExt as _;

use crate::world::{World, ask, assert_wrong, create, subscription};

/// What a subscription with this change is refused for.
async fn wrong(change: impl FnOnce(&mut v1::Subscription)) -> Vec<(String, String)> {
    let world = World::with_tenant().await;
    let mut given = subscription();
    change(&mut given);
    match ask!(world.subscriptions, create_subscription, create("erp", given)) {
        Ok(_) => Vec::new(),
        Err(status) => crate::world::violations::<()>(Err(status)),
    }
}

#[tokio::test]
async fn urls() {
    let cases = [
        ("http://example.com/", "URL_REFUSED"),
        ("ftp://example.com/", "URL_REFUSED"),
        ("https://a@example.com/", "URL_REFUSED"),
        ("https://example.com/#x", "URL_REFUSED"),
        ("https://127.0.0.1/", "URL_REFUSED"),
        ("https://[::1]/", "URL_REFUSED"),
        ("https://EXAMPLE.com/", "MALFORMED"),
        ("https://0x7f.1/", "MALFORMED"),
        ("https://example.com", "MALFORMED"),
        ("nonsense", "MALFORMED"),
        ("", "REQUIRED"),
    ];
    for (url, rule) in cases {
        let found = wrong(|it| it.url = url.into()).await;
        assert_eq!(found, [("subscription.url".to_owned(), rule.to_owned())], "{url}");
    }
    let long = format!("https://example.com/{}", "a".repeat(8 * 1024));
    let found = wrong(|it| it.url = long).await;
    assert_eq!(found, [("subscription.url".to_owned(), "TOO_LONG".to_owned())]);
}

#[tokio::test]
async fn patterns_and_filters() {
    let found = wrong(|it| it.event_types = vec!["*".into(); 65]).await;
    assert_eq!(found, [("subscription.event_types".to_owned(), "TOO_MANY".to_owned())]);
    let long = format!("\"{}\" == event.type", "a".repeat(2048));
    let found = wrong(|it| it.filter = long).await;
    assert_eq!(found, [("subscription.filter".to_owned(), "TOO_LONG".to_owned())]);
    for filter in ["event.data.amount >", "nobody.knows == 1", "this_fn(event.data)"] {
        let found = wrong(|it| it.filter = filter.into()).await;
        let rule = "EXPRESSION_INVALID".to_owned();
        assert_eq!(found, [("subscription.filter".to_owned(), rule)], "{filter}");
    }
}

#[tokio::test]
async fn headers() {
    let header = |name: &str, value: &str| v1::Header {
        name: name.into(),
        value: value.into(),
        ..Default::default()
    };
    let refused = [
        "Connection",
        "transfer-encoding",
        "Host",
        "content-type",
        "Content-Foo",
        "user-agent",
        "traceparent",
        "webhook-signature",
        "a b",
    ];
    for name in refused {
        let found = wrong(|it| it.headers = vec![header(name, "x")]).await;
        let rule = "HEADER_REFUSED".to_owned();
        assert_eq!(found, [("subscription.headers[0]".to_owned(), rule)], "{name}");
    }
    let many = (0..21).map(|i| header(&format!("x-{i}"), "v")).collect();
    let found = wrong(|it| it.headers = many).await;
    assert_eq!(found, [("subscription.headers[20]".to_owned(), "TOO_MANY".to_owned())]);
    let found = wrong(|it| it.headers = vec![header("x", &"v".repeat(4096))]).await;
    assert_eq!(found, [("subscription.headers[0]".to_owned(), "TOO_LONG".to_owned())]);
}

#[tokio::test]
async fn a_refusal_names_the_resource() {
    let world = World::with_tenant().await;
    let get = v1::GetSubscriptionRequest { name: "tenants/acme/subscriptions/none".into() };
    let status = ask!(world.subscriptions, get_subscription, get).unwrap_err();
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.domain.as_str(), info.reason.as_str()), ("pregon", "RESOURCE_NOT_FOUND"));
    let resource = details.resource_info().unwrap();
    assert_eq!(resource.resource_type, "subscription");
    assert_eq!(resource.resource_name, "tenants/acme/subscriptions/none");

    let request = v1::CreateTenantRequest {
        tenant_id: "acme".into(),
        tenant: Some(v1::Tenant::default()),
        ..Default::default()
    };
    let status = ask!(world.tenants, create_tenant, request).unwrap_err();
    let details = status.get_error_details();
    assert_eq!(details.resource_info().unwrap().resource_name, "tenants/acme");
}

#[tokio::test]
async fn a_token_is_good_for_its_own_request_only() {
    let world = World::with_tenant().await;
    for id in ["a", "b", "c"] {
        world.subscription("acme", id).await;
    }
    let request = v1::ListSubscriptionsRequest {
        parent: "tenants/acme".into(),
        page_size: 1,
        labels: Default::default(),
        ..Default::default()
    };
    let page = ask!(world.subscriptions, list_subscriptions, request.clone()).unwrap();
    let next = v1::ListSubscriptionsRequest {
        page_token: page.next_page_token.clone(),
        page_size: 2,
        ..request.clone()
    };
    let page_two = ask!(world.subscriptions, list_subscriptions, next).unwrap();
    assert_eq!(page_two.subscriptions.len(), 2);
    let elsewhere = v1::ListSubscriptionsRequest {
        parent: "tenants/-".into(),
        page_token: page.next_page_token.clone(),
        ..request
    };
    let answer = ask!(world.subscriptions, list_subscriptions, elsewhere);
    assert_wrong(answer, &[("page_token", "PAGE_TOKEN_INVALID")]);
    let tenants = v1::ListTenantsRequest { page_token: page.next_page_token, ..Default::default() };
    let answer = ask!(world.tenants, list_tenants, tenants);
    assert_wrong(answer, &[("page_token", "PAGE_TOKEN_INVALID")]);
}

#[tokio::test]
async fn a_closed_store_is_unavailable() {
    let world = World::with_tenant().await;
    world.embedded.close();
    let get = v1::GetTenantRequest { name: "tenants/acme".into() };
    let status = ask!(world.tenants, get_tenant, get).unwrap_err();
    assert_eq!(crate::world::reason(&status), (tonic::Code::Unavailable, "DRAINING".to_owned()));
    assert!(status.get_error_details().retry_info().is_some());
}
