//! DeliveryService: reading, cancelling, the books.

use std::time::Duration;

use pregon_core::attempt::{AttemptRecord, RecordKind};
use pregon_core::id::TenantId;
use pregon_core::outcome::PendingReason;
use pregon_proto::v1;
use pregon_proto::v1::contract_service_server::ContractService as _;
use pregon_proto::v1::delivery_service_server::DeliveryService as _;
use pregon_proto::v1::event_type_service_server::EventTypeService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use pregon_proto::v1::{DeliveryState, EndReason};
use pregon_store::settlement::{BatchSettle, DeliverySettle, Settlement, Transition};
use pregon_store::work::DueRequest;
use tonic::Code;

use crate::world::{
    URL, World, ask, assert_refused, assert_wrong, at, claim, contract, subscription,
};

const ERP: &str = "tenants/acme/subscriptions/erp";

fn of_acme() -> v1::ListDeliveriesRequest {
    v1::ListDeliveriesRequest { parent: "tenants/acme".into(), ..Default::default() }
}

async fn list(world: &World, request: v1::ListDeliveriesRequest) -> Vec<v1::Delivery> {
    let page = ask!(world.deliveries, list_deliveries, request).unwrap();
    assert_eq!(page.next_page_token, "");
    page.deliveries
}

#[tokio::test]
async fn events_are_shown_as_they_were_published() {
    let world = World::with_tenant().await;
    world.tenant("beta").await;
    let data = "{\"amount\": 5000.0, \"ñ\":null }";
    world.publish("acme", Some("o1"), data).await;
    world.clock.advance(Duration::from_secs(1));
    world.publish("acme", Some("o2"), "[]").await;
    world.publish("beta", Some("o1"), "{}").await;
    let get = v1::GetEventRequest { name: "tenants/acme/events/o1".into() };
    let event = ask!(world.deliveries, get_event, get).unwrap().event.unwrap();
    assert_eq!(event.data, Some(v1::event::Data::Json(data.into())));
    assert_eq!((event.name.as_str(), event.id.as_str()), ("tenants/acme/events/o1", "o1"));
    assert_eq!((event.r#type.as_str(), event.accept_time), ("order.captured", at(0)));
    let request = v1::ListEventsRequest { parent: "tenants/acme".into(), ..Default::default() };
    let page = ask!(world.deliveries, list_events, request.clone()).unwrap();
    let ids: Vec<_> = page.events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, ["o2", "o1"], "newest first");
    let range = v1::TimeRange { start_time: at(0), end_time: at(1) };
    let some = v1::ListEventsRequest { time_range: Some(range), ..request.clone() };
    assert_eq!(ask!(world.deliveries, list_events, some).unwrap().events.len(), 1);
    let all = v1::ListEventsRequest { parent: "tenants/-".into(), ..Default::default() };
    assert_eq!(ask!(world.deliveries, list_events, all).unwrap().events.len(), 3);
    let none = v1::ListEventsRequest { event_type: "eventTypes/other".into(), ..request };
    assert!(ask!(world.deliveries, list_events, none).unwrap().events.is_empty());
    for name in ["tenants/acme/events/o3", "tenants/none/events/o1", "tenants/acme/events/o1@1"] {
        let answer = ask!(world.deliveries, get_event, v1::GetEventRequest { name: name.into() });
        assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
}

#[tokio::test]
async fn pages_of_events_stay_within_a_message() {
    let world = World::with_tenant().await;
    let data = format!("\"{}\"", "x".repeat(250_000));
    for _ in 0..30 {
        world.publish("acme", None, &data).await;
    }
    let (mut seen, mut pages, mut token) = (Vec::new(), 0, String::new());
    loop {
        let request = v1::ListEventsRequest {
            parent: "tenants/acme".into(),
            page_size: 1000,
            page_token: token,
            ..Default::default()
        };
        let page = ask!(world.deliveries, list_events, request).unwrap();
        assert!(prost::Message::encoded_len(&page) < 4 * 1024 * 1024);
        seen.extend(page.events.into_iter().map(|event| event.id));
        pages += 1;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 30);
    assert!(pages < 15, "{pages}");
}

#[tokio::test]
async fn a_delivery_shows_whose_it_is() {
    let world = World::with_subscription().await;
    let lane = world.lane(ERP).await;
    world.publish("acme", Some("o1"), "{}").await;
    let keys = world.settle_new(&[lane], Transition::Retry(Duration::from_secs(5))).await;
    let name = format!("tenants/acme/deliveries/{}", keys[0]);
    let get = || v1::GetDeliveryRequest { name: name.clone() };
    let it = ask!(world.deliveries, get_delivery, get()).unwrap().delivery.unwrap();
    assert_eq!((it.subscription.as_str(), it.event.as_str()), (ERP, "tenants/acme/events/o1"));
    assert_eq!((it.state(), it.attempt_count), (DeliveryState::Pending, 1));
    assert_eq!(it.pending_reason(), v1::PendingReason::RetryScheduled);
    assert_eq!((it.next_attempt_time, it.end_time), (at(5), None));
    assert_eq!(it.contract, "contracts/standard_webhooks");
    // The lane's owner is known after it has gone, and after another one took its name.
    let delete = v1::DeleteSubscriptionRequest { name: ERP.into(), ..Default::default() };
    ask!(world.subscriptions, delete_subscription, delete).unwrap();
    let it = ask!(world.deliveries, get_delivery, get()).unwrap().delivery.unwrap();
    assert_eq!(it.subscription, ERP);
    let of_it = v1::ListDeliveriesRequest { subscription: ERP.into(), ..of_acme() };
    assert_eq!(list(&world, of_it.clone()).await.len(), 1);
    world.subscription("acme", "erp").await;
    assert_eq!(list(&world, of_it).await.len(), 0, "the new one's");
    // Another tenant's does not exist.
    let other = name.replace("acme", "beta");
    let answer = ask!(world.deliveries, get_delivery, v1::GetDeliveryRequest { name: other });
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn deliveries_are_filtered() {
    let world = World::with_subscription().await;
    world.subscription("acme", "crm").await;
    let crm = world.lane("tenants/acme/subscriptions/crm").await;
    world.failed_delivery().await;
    world.clock.advance(Duration::from_secs(10));
    world.publish("acme", Some("o1"), "{}").await;
    world.settle_new(&[crm], Transition::Succeeded).await;
    assert_eq!(list(&world, of_acme()).await.len(), 2);
    let failed = DeliveryState::Failed.into();
    let some = list(&world, v1::ListDeliveriesRequest { state: failed, ..of_acme() }).await;
    assert_eq!((some.len(), some[0].subscription.as_str()), (1, ERP));
    assert_eq!(some[0].end_reason(), EndReason::AttemptsExhausted);
    let event = "tenants/acme/events/o1".to_owned();
    let some = list(&world, v1::ListDeliveriesRequest { event, ..of_acme() }).await;
    assert_eq!((some.len(), some[0].state()), (1, DeliveryState::Succeeded));
    let event = "tenants/acme/events/none".to_owned();
    assert!(list(&world, v1::ListDeliveriesRequest { event, ..of_acme() }).await.is_empty());
    let range = v1::TimeRange { start_time: at(5), end_time: None };
    let late = v1::ListDeliveriesRequest { time_range: Some(range), ..of_acme() };
    assert_eq!(list(&world, late).await.len(), 1);
    let reason = EndReason::Refused.into();
    assert!(
        list(&world, v1::ListDeliveriesRequest { end_reason: reason, ..of_acme() })
            .await
            .is_empty()
    );
    let all = v1::ListDeliveriesRequest { parent: "tenants/-".into(), ..Default::default() };
    assert_eq!(list(&world, all).await.len(), 2);
    let request = v1::ListDeliveriesRequest {
        parent: "tenants/a b".into(),
        event: "o1".into(),
        subscription: "erp".into(),
        event_type: "x".into(),
        state: 9,
        end_reason: 99,
        time_range: Some(v1::TimeRange { start_time: at(5), end_time: at(1) }),
        page_size: -1,
        ..Default::default()
    };
    let wrong = [
        ("end_reason", "OUT_OF_RANGE"),
        ("event", "MALFORMED"),
        ("event_type", "MALFORMED"),
        ("page_size", "OUT_OF_RANGE"),
        ("parent", "MALFORMED"),
        ("state", "OUT_OF_RANGE"),
        ("subscription", "MALFORMED"),
        ("time_range.end_time", "OUT_OF_RANGE"),
    ];
    assert_wrong(ask!(world.deliveries, list_deliveries, request), &wrong);
}

#[tokio::test]
async fn an_attempt_shows_what_was_sent_and_what_came_back() {
    let world = World::with_subscription().await;
    // What the subscription says today is not what was sent.
    let secret =
        v1::Header { name: "X-Token".into(), value: "hunter2".into(), ..Default::default() };
    let plain = v1::Header { name: "X-Shop".into(), value: "8".into(), ..Default::default() };
    let request = v1::UpdateSubscriptionRequest {
        subscription: Some(v1::Subscription {
            name: ERP.into(),
            headers: vec![secret, plain],
            ..Default::default()
        }),
        ..Default::default()
    };
    ask!(world.subscriptions, update_subscription, request).unwrap();
    let parent = world.failed_delivery().await;
    let request = v1::ListAttemptsRequest { parent: parent.clone(), ..Default::default() };
    let attempts = ask!(world.deliveries, list_attempts, request).unwrap().attempts;
    let [it] = &attempts[..] else { panic!("{attempts:?}") };
    assert_eq!(it.name, format!("{parent}/attempts/1"));
    assert_eq!((it.number, it.node.as_str(), it.start_time), (1, "nodes/n1", at(0)));
    assert_eq!(it.outcome(), v1::AttemptOutcome::Failed);
    assert_eq!(it.error_class(), v1::ErrorClass::Status);
    assert_eq!(it.remote_address, "203.0.113.7:443");
    let timing = it.timing.unwrap();
    assert!(timing.dns.is_none() && timing.connect.unwrap().nanos == 1_500_000);
    let response = it.response.as_ref().unwrap();
    assert_eq!((response.status, response.body.as_str()), (503, "busy \u{fffd}"));
    assert!(response.truncated);

    let sent = it.request.as_ref().unwrap();
    assert_eq!((sent.method.as_str(), sent.url.as_str()), ("POST", URL));
    assert!(sent.body.contains("\"type\":\"order.captured\""), "{}", sent.body);
    assert!(sent.body.contains("{\"amount\":5000}"), "{}", sent.body);
    let header = |name: &str| {
        let found = sent.headers.iter().find(|header| header.name == name);
        found.map(|header| header.value.as_str())
    };
    assert_eq!(header("content-type"), Some("application/json"));
    assert_eq!(header("user-agent"), Some("pregon/test"));
    assert_eq!(header("webhook-timestamp"), Some("1790000000"));
    assert_eq!(header("webhook-signature"), Some("[masked]"));
    assert_eq!((header("x-shop"), header("x-api-key")), (Some("7"), Some("[masked]")));
    assert!(header("x-token").is_none() && it.resent);

    world.publish("acme", None, "{}").await;
    let lane = world.lane(ERP).await;
    let keys = world.settle_new(&[lane], Transition::Succeeded).await;
    let name = format!("tenants/acme/deliveries/{}/attempts/1", keys[0]);
    let get = v1::GetAttemptRequest { name };
    let unsigned = ask!(world.deliveries, get_attempt, get).unwrap().attempt.unwrap();
    let headers = unsigned.request.unwrap().headers;
    assert!(headers.iter().any(|header| header.name == "webhook-id"), "{headers:?}");
    assert!(headers.iter().all(|header| header.name != "webhook-signature"), "{headers:?}");
    assert!(!unsigned.resent);

    let get = v1::GetAttemptRequest { name: it.name.clone() };
    assert_eq!(ask!(world.deliveries, get_attempt, get).unwrap().attempt.as_ref(), Some(it));
    let get = v1::GetAttemptRequest { name: format!("{parent}/attempts/2") };
    let answer = ask!(world.deliveries, get_attempt, get);
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    let name = format!("{}/attempts/1", parent.replace("acme", "beta"));
    let answer = ask!(world.deliveries, get_attempt, v1::GetAttemptRequest { name });
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn what_is_sensitive_is_not_shown() {
    let world = World::with_tenant().await;
    let rules = "sensitive: [event.data.card]\nheaders: { x-who: \"${event.data.?who}\" }";
    let made = world.contract("mine", rules).await;
    world.event_type("order.captured").await;
    let given = v1::EventType {
        name: "eventTypes/order.captured".into(),
        sensitive_paths: vec!["event.data.items[*].name".into()],
        ..Default::default()
    };
    let request = v1::UpdateEventTypeRequest { event_type: Some(given), ..Default::default() };
    let kind = ask!(world.event_types, update_event_type, request).unwrap().event_type.unwrap();
    assert_eq!(kind.sensitive_paths, ["event.data.items[*].name"]);
    world
        .subscribe(
            "acme",
            "erp",
            v1::Subscription {
                contract: made.name.clone(),
                sensitive_paths: vec!["event.data.who".into()],
                ..subscription()
            },
        )
        .await;
    let lane = world.lane(ERP).await;
    let data = "{\"who\":\"hush-1\",\"card\":{\"n\":\"hush-2\"},\"items\":[{\"name\":\"hush-3\",\"q\":1}]}";
    world.publish("acme", None, data).await;
    let failed = Transition::Failed(pregon_core::outcome::EndReason::AttemptsExhausted);
    let under = pregon_core::id::ContractId::parse("mine").unwrap();
    let keys = world.settle_under(&[lane], failed, &under, made.revision).await;
    let name = format!("tenants/acme/deliveries/{}", keys[0]);
    let shown = async || {
        let get = v1::GetAttemptRequest { name: format!("{name}/attempts/1") };
        ask!(world.deliveries, get_attempt, get).unwrap().attempt.unwrap().request.unwrap()
    };
    let it = shown().await;
    let body = "{\"t\":\"order.captured\",\"d\":{\"who\":\"[redacted]\",\"card\":\"[redacted]\",\
                \"items\":[{\"name\":\"[redacted]\",\"q\":1}]}}";
    assert_eq!(it.body, body);
    assert!(!format!("{it:?}").contains("hush"), "{it:?}");
    let get = v1::GetDeliveryRequest { name: name.clone() };
    let delivery = ask!(world.deliveries, get_delivery, get.clone()).unwrap().delivery.unwrap();
    assert_eq!(delivery.contract, "contracts/mine");

    // Labels of the contract change nothing about what was sent, nor does the same document.
    let labels = [("team".to_owned(), "shop".to_owned())].into();
    let given = v1::Contract { name: made.name.clone(), labels, ..Default::default() };
    let request = v1::UpdateContractRequest { contract: Some(given), ..Default::default() };
    ask!(world.contracts, update_contract, request).unwrap();
    assert_eq!(shown().await.body, body);
    let given = v1::Contract {
        name: made.name.clone(),
        document: made.document.clone(),
        ..Default::default()
    };
    let request = v1::UpdateContractRequest { contract: Some(given), ..Default::default() };
    ask!(world.contracts, update_contract, request).unwrap();
    assert_eq!(shown().await.body, body);

    // Under another document it would not be what was sent.
    let document = contract("mine", "description: changed");
    let given = v1::Contract { name: made.name, document, ..Default::default() };
    let request = v1::UpdateContractRequest { contract: Some(given), ..Default::default() };
    ask!(world.contracts, update_contract, request).unwrap();
    assert_eq!(shown().await.body, "[not shown: the contract has changed since]");
    let gone = v1::DeleteSubscriptionRequest { name: ERP.into(), ..Default::default() };
    ask!(world.subscriptions, delete_subscription, gone).unwrap();
    let delivery = ask!(world.deliveries, get_delivery, get).unwrap().delivery.unwrap();
    assert_eq!(delivery.contract, "contracts/mine", "as its last attempt went");
    let delete = v1::DeleteContractRequest { name: "contracts/mine".into(), ..Default::default() };
    ask!(world.contracts, delete_contract, delete).unwrap();
    assert_eq!(shown().await.body, "[not shown: the contract has been deleted since]");
}

#[tokio::test]
async fn a_waiting_delivery_is_cancelled_once() {
    let world = World::with_subscription().await;
    let lane = world.lane(ERP).await;
    world.publish("acme", None, "{}").await;
    let keys = world.settle_new(&[lane], Transition::Waiting(PendingReason::LaneFull)).await;
    let name = format!("tenants/acme/deliveries/{}", keys[0]);
    let cancel = |request_id: &str| v1::CancelDeliveryRequest {
        name: name.clone(),
        request_id: request_id.into(),
        validate_only: false,
    };
    let dry = v1::CancelDeliveryRequest { validate_only: true, ..cancel("one") };
    let dry = ask!(world.deliveries, cancel_delivery, dry).unwrap().delivery.unwrap();
    assert_eq!(dry.state(), DeliveryState::Pending);
    let done = ask!(world.deliveries, cancel_delivery, cancel("one")).unwrap().delivery.unwrap();
    assert_eq!((done.state(), done.end_reason()), (DeliveryState::Cancelled, EndReason::ByCaller));
    let again = ask!(world.deliveries, cancel_delivery, cancel("one")).unwrap().delivery.unwrap();
    assert_eq!(again, done);
    let other = world.failed_delivery().await;
    let reused = v1::CancelDeliveryRequest { name: other.clone(), ..cancel("one") };
    let answer = ask!(world.deliveries, cancel_delivery, reused);
    assert_refused(answer, Code::AlreadyExists, "REQUEST_ID_REUSED");
    let ended = v1::CancelDeliveryRequest { name: other, ..cancel("") };
    let answer = ask!(world.deliveries, cancel_delivery, ended);
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
}

#[tokio::test]
async fn the_books_balance() {
    let world = World::with_subscription().await;
    let lane = world.lane(ERP).await;
    world.failed_delivery().await;
    world.publish("acme", None, "{}").await;
    world.settle_new(&[lane], Transition::Succeeded).await;
    world.publish("acme", None, "{}").await;
    world.settle_new(&[], Transition::Succeeded).await;
    world.publish("acme", None, "{}").await;
    let report = |parent: &str| v1::GetReconciliationReportRequest {
        parent: parent.into(),
        time_range: None,
    };
    for parent in ["tenants/acme", "tenants/-"] {
        let it = ask!(world.deliveries, get_reconciliation_report, report(parent)).unwrap();
        let events = it.events.unwrap();
        assert_eq!((events.accepted, events.matched), (4, 2), "{parent}");
        assert_eq!((events.unmatched, events.awaiting_match), (1, 1));
        let deliveries = it.deliveries.unwrap();
        assert_eq!((deliveries.created, deliveries.succeeded, deliveries.failed), (2, 1, 1));
        assert_eq!((it.orphans.len(), it.as_of), (0, at(0)));
    }
    let mut ranged = report("tenants/acme");
    ranged.time_range = Some(v1::TimeRange::default());
    let answer = ask!(world.deliveries, get_reconciliation_report, ranged);
    assert_wrong(answer, &[("time_range", "UNSUPPORTED")]);
    let answer = ask!(world.deliveries, get_reconciliation_report, report("tenants/none"));
    assert_refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn a_lost_attempt_is_shown_and_its_repeat_preferred() {
    let world = World::with_subscription().await;
    let lane = world.lane(ERP).await;
    world.publish("acme", None, "{}").await;
    let keys = world.settle_new(&[lane], Transition::Retry(Duration::from_secs(5))).await;
    world.clock.advance(Duration::from_secs(5));
    let due = DueRequest { want: 10, default_slots: 10, ..DueRequest::default() };
    let due = world.store.work.due(0, &claim(), due).await.unwrap();
    assert_eq!(due.batch.unwrap().len(), 1);
    world.clock.advance(Duration::from_secs(60));
    let (batches, _) = world.store.work.take_over(0, &claim(), 1, 1).await.unwrap();
    let (key, token) = (keys[0], batches[0].token);
    let tenant = TenantId::parse("acme").unwrap();
    let refused = Transition::Failed(pregon_core::outcome::EndReason::RenderFailed);
    let repeat = AttemptRecord {
        kind: RecordKind::Ended,
        number: 2,
        outcome: None,
        reason: "no active secret".into(),
        ..world.record(key, &tenant, refused)
    };
    let moved = DeliverySettle { key, tenant, attempts: 1, age: Duration::ZERO, to: refused };
    let settle = BatchSettle { token, events: Vec::new(), deliveries: vec![moved] };
    let attempts = vec![(token, repeat.into())];
    let settlement = Settlement { batches: vec![settle], attempts, close: Vec::new() };
    world.store.work.settle(settlement).await.unwrap();

    let parent = format!("tenants/acme/deliveries/{key}");
    let request = v1::ListAttemptsRequest { parent: parent.clone(), ..Default::default() };
    let attempts = ask!(world.deliveries, list_attempts, request.clone()).unwrap().attempts;
    let reported: Vec<_> = attempts.iter().map(|it| (it.number, it.outcome())).collect();
    let (retry, failed) = (v1::AttemptOutcome::Retry, v1::AttemptOutcome::Failed);
    assert_eq!(reported, [(1, retry), (2, v1::AttemptOutcome::Unspecified), (2, failed)]);
    assert!(attempts[1].reason.contains("lease"), "{}", attempts[1].reason);
    assert_eq!((attempts[2].reason.as_str(), &attempts[2].request), ("no active secret", &None));
    let get = v1::GetAttemptRequest { name: format!("{parent}/attempts/2") };
    let shown = ask!(world.deliveries, get_attempt, get).unwrap().attempt.unwrap();
    assert_eq!(shown, attempts[2]);
    // Pages go on where the last one ended, though two have one number.
    let first = v1::ListAttemptsRequest { page_size: 2, ..request.clone() };
    let first = ask!(world.deliveries, list_attempts, first).unwrap();
    let rest = v1::ListAttemptsRequest { page_token: first.next_page_token, ..request };
    let rest = ask!(world.deliveries, list_attempts, rest).unwrap();
    assert_eq!((first.attempts.len(), rest.attempts), (2, attempts[2..].to_vec()));
    assert_eq!(rest.next_page_token, "");
}

/// Nothing of a deleted tenant is seen from then on, and another of its name inherits nothing.
#[tokio::test]
async fn a_deleted_tenant_is_gone() {
    let world = World::with_subscription().await;
    let lane = world.lane(ERP).await;
    world.publish("acme", Some("o-1"), "{}").await;
    let delivery = world.settle_new(&[lane], Transition::Succeeded).await.remove(0);
    let delivery = format!("tenants/acme/deliveries/{delivery}");
    let event = "tenants/acme/events/o-1";
    let seen = async || {
        let get = v1::GetEventRequest { name: event.into() };
        let event = ask!(world.deliveries, get_event, get);
        let get = v1::GetDeliveryRequest { name: delivery.clone() };
        let one = ask!(world.deliveries, get_delivery, get);
        let list = v1::ListEventsRequest { parent: "tenants/-".into(), ..Default::default() };
        let events = ask!(world.deliveries, list_events, list).unwrap().events;
        let list = v1::ListDeliveriesRequest { parent: "tenants/-".into(), ..Default::default() };
        let deliveries = ask!(world.deliveries, list_deliveries, list).unwrap().deliveries;
        let own = v1::ListEventsRequest { parent: "tenants/acme".into(), ..Default::default() };
        let own = ask!(world.deliveries, list_events, own).map_or(0, |answer| answer.events.len());
        (event.is_ok(), one.is_ok(), events.len(), deliveries.len(), own)
    };
    assert_eq!(seen().await, (true, true, 1, 1, 1));
    let delete =
        v1::DeleteTenantRequest { name: "tenants/acme".into(), force: true, ..Default::default() };
    ask!(world.tenants, delete_tenant, delete.clone()).unwrap();
    assert_eq!(seen().await, (false, false, 0, 0, 0));
    world.clock.advance(Duration::from_secs(60));
    world.tenant("acme").await;
    assert_eq!(seen().await, (false, false, 0, 0, 0), "another of the same name");
    let report =
        v1::GetReconciliationReportRequest { parent: "tenants/acme".into(), ..Default::default() };
    let report = ask!(world.deliveries, get_reconciliation_report, report).unwrap();
    assert_eq!(report.events.unwrap(), v1::EventCounts::default());
    world.publish("acme", None, "{}").await;
    assert_eq!(seen().await, (false, false, 1, 0, 1), "its own is there");

    ask!(world.tenants, delete_tenant, delete).unwrap();
    let request = v1::CreateTenantRequest {
        tenant_id: "acme".into(),
        tenant: Some(v1::Tenant::default()),
        ..Default::default()
    };
    let answer = ask!(world.tenants, create_tenant, request.clone());
    assert_refused(answer, Code::FailedPrecondition, "STATE_CONFLICT");
    world.settle_new(&[], Transition::Succeeded).await;
    ask!(world.tenants, create_tenant, request).unwrap();
    assert_eq!(seen().await, (false, false, 0, 0, 0));
}
