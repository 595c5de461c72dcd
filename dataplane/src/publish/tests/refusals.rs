use std::sync::atomic::Ordering;

use pregon_core::trace::TraceContext;
use pregon_rpc::call::within;
use tonic::Code;

use super::*;

/// What is over a tenant's limit is refused, not taken and thrown away; room comes with what ends.
#[tokio::test(start_paused = true)]
async fn a_tenant_may_have_so_much_outstanding() {
    let node = Node::start().await;
    let mut small = tenant("acme");
    small.limits.max_pending = 3;
    node.config.write(&[Resource::Tenant(small)]);
    node.service.0.admission.configuration.wait_for(102, ANSWER).await.unwrap();
    for _ in 0..3 {
        node.publish(request("")).await.unwrap();
    }
    let status = node.publish(request("")).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::ResourceExhausted, "QUOTA_EXCEEDED".into())
    );
    assert!(status.message().contains("limits.max_pending of tenants/acme is 3"), "{status}");
    assert!(status.get_details_retry_info().is_some());
    node.publish(request_with(|request, _| request.validate_only = true)).await.unwrap();
    node.intake.done.store(2, std::sync::atomic::Ordering::Relaxed);
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let results = node.batch(vec![request(""), request(""), request("")]).await.unwrap();
    let taken: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(taken, [true, true, false], "each event on its own");
}

#[tokio::test]
async fn an_event_is_stored_as_it_was_given_and_answered_in_full() {
    let node = Node::start().await;
    let call = from_anyone(request_with(|request, event| {
        event.version = 3;
        event.environment = v1::Environment::Test.into();
        event.occur_time = Some(prost_types::Timestamp { seconds: 5, nanos: 7_000_000 });
        request.min_revision = 101;
    }));
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let trace = TraceContext::parse(traceparent, Some("vendor=1"));
    let answered = within(trace.clone(), node.service.publish(call)).await;
    let answer = answered.unwrap().into_inner();
    assert_eq!(
        answer,
        v1::PublishResponse {
            event: "tenants/acme/events/e1@3".into(),
            id: "e1".into(),
            version: 3,
            duplicate: false,
            durability: v1::Durability::Fsync.into(),
            accept_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            served_revision: 101,
        }
    );
    let stored = node.intake.stored.lock().unwrap()[0].clone();
    assert_eq!(&stored.data[..], b"{\"a\": 1.0}");
    assert_eq!(stored.occur_time, Some(Timestamp::from_millis(5007)));
    assert_eq!(stored.environment, pregon_core::event::Environment::Test);
    assert_eq!(stored.trace, trace);
    assert_eq!((stored.min_revision, stored.version), (101, 3));
}

#[tokio::test]
async fn an_id_is_assigned_where_none_is_given() {
    let node = Node::start().await;
    let answer = node.publish(request("")).await.unwrap();
    assert!(answer.id.starts_with("pg_") && answer.id.len() == 23, "{}", answer.id);
    assert_eq!(answer.event, format!("tenants/acme/events/{}", answer.id));
    assert_eq!(node.intake.stored.lock().unwrap()[0].id, None);
}

#[tokio::test]
async fn a_repeat_is_a_duplicate_and_other_content_is_refused() {
    let node = Node::start().await;
    let first = node.publish(request("e1")).await.unwrap();
    let again = node.publish(request("e1")).await.unwrap();
    assert_eq!(again, v1::PublishResponse { duplicate: true, ..first });
    let other = request_with(|_, event| event.data = Some(Data::Json("{}".into())));
    let status = node.publish(other).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::AlreadyExists, "EVENT_ID_REUSED".into()));
    let resource = status.get_details_resource_info().unwrap();
    assert_eq!(resource.resource_name, "tenants/acme/events/e1");
}

#[tokio::test]
async fn every_wrong_field_is_reported_at_once() {
    let node = Node::start().await;
    let status = node
        .publish(request_with(|request, event| {
            request.tenant = "acme".into();
            request.min_revision = -1;
            event.id = "a.b".into();
            event.version = -1;
            event.environment = 9;
            event.occur_time = Some(prost_types::Timestamp { seconds: 0, nanos: -1 });
            event.r#type = "order.captured".into();
            event.data = Some(Data::Json("{\"amount\":\"x\"}".into()));
            event.attributes.insert("a b".into(), "v".into());
            event.attributes.insert("note".into(), "ñ".repeat(257));
            event.ordering_key = "k".into();
            event.deliver_time = Some(prost_types::Timestamp { seconds: 1 << 35, nanos: 0 });
            event.deliver_within = Some(prost_types::Duration { seconds: 0, nanos: 1 });
            event.subscriptions.push("tenants/acme".into());
        }))
        .await
        .unwrap_err();
    let expected = [
        ("tenant", "MALFORMED"),
        ("min_revision", "OUT_OF_RANGE"),
        ("event.ordering_key", "UNSUPPORTED"),
        ("event.id", "MALFORMED"),
        ("event.version", "OUT_OF_RANGE"),
        ("event.environment", "MALFORMED"),
        ("event.occur_time", "MALFORMED"),
        ("event.deliver_time", "OUT_OF_RANGE"),
        ("event.deliver_within", "OUT_OF_RANGE"),
        ("event.subscriptions[0]", "MALFORMED"),
        ("event.attributes[\"a b\"]", "MALFORMED"),
        ("event.attributes[\"note\"]", "TOO_LONG"),
        ("event.json", "EVENT_SCHEMA_MISMATCH"),
    ];
    let expected = expected.map(|(field, rule)| (field.to_owned(), rule.to_owned()));
    assert_eq!(violations(&status), expected);
    assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, "FIELDS_INVALID".into()));
    assert_eq!(node.calls(), [0; 0]);
}

#[tokio::test]
async fn data_is_checked() {
    let node = Node::start().await;
    let object = |value| {
        let value = prost_types::Value { kind: Some(value) };
        let fields = [("a".to_owned(), value)].into();
        Data::Object(prost_types::Struct { fields })
    };
    let json = |text: &str| Some(Data::Json(text.into()));
    let number = prost_types::value::Kind::NumberValue;
    for (data, field, rule, words) in [
        (None, "event.json", "REQUIRED", "json or object"),
        (json(""), "event.json", "EVENT_JSON_INVALID", "byte 0"),
        (json("{\"a\":1,\"a\":2}"), "event.json", "EVENT_JSON_INVALID", "duplicate"),
        (json("[1] x"), "event.json", "EVENT_JSON_INVALID", "byte 4"),
        (json(&"[".repeat(65)), "event.json", "EVENT_JSON_INVALID", "deep"),
        (json(&format!("\"{}\"", "a".repeat(1023))), "event.json", "EVENT_TOO_LARGE", "1025 bytes"),
        (Some(object(number(f64::NAN))), "event.object", "EVENT_JSON_INVALID", "finite"),
    ] {
        let status = node.publish(request_with(|_, event| event.data = data)).await.unwrap_err();
        assert_eq!(violations(&status), [(field.to_owned(), rule.to_owned())]);
        let described = status.get_details_bad_request().unwrap();
        let described = &described.field_violations[0].description;
        assert!(described.contains(words), "{described}");
    }
    let largest = format!("\"{}\"", "a".repeat(1022));
    node.publish(request_with(|_, event| event.data = json(&largest))).await.unwrap();
    let five = request_with(|_, event| {
        event.id = "five".into();
        event.data = Some(object(number(5000.0)));
    });
    node.publish(five).await.unwrap();
    assert_eq!(&node.intake.stored.lock().unwrap()[1].data[..], b"{\"a\":5000}");
}

#[tokio::test]
async fn data_must_satisfy_its_types_schema() {
    let node = Node::start().await;
    let with = |text: &str| {
        request_with(|_, event| {
            event.r#type = "order.captured".into();
            event.data = Some(Data::Json(text.into()));
        })
    };
    let status = node.publish(with("{\"amount\":\"SECRET\"}")).await.unwrap_err();
    assert_eq!(violations(&status), [("event.json".into(), "EVENT_SCHEMA_MISMATCH".into())]);
    let described = status.get_details_bad_request().unwrap();
    let described = &described.field_violations[0].description;
    assert!(described.contains("/amount") && described.contains("type"), "{described}");
    assert!(!described.contains("SECRET"));
    node.publish(with("{\"amount\":5}")).await.unwrap();
}

#[tokio::test]
async fn what_was_created_a_moment_ago_is_found() {
    let node = Node::start().await;
    let wanted = || {
        request_with(|request, event| {
            request.tenant = "tenants/new".into();
            event.r#type = "new.type".into();
        })
    };
    let status = node.publish(wanted()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::NotFound, "RESOURCE_NOT_FOUND".into()));
    assert_eq!(status.get_details_resource_info().unwrap().resource_name, "tenants/new");

    // The follower is told late; the publish asks by itself.
    node.config.write(&[Resource::Tenant(tenant("new"))]);
    let status = node.publish(wanted()).await.unwrap_err();
    assert_eq!(status.get_details_resource_info().unwrap().resource_name, "eventTypes/new.type");
    let revision = node.config.write(&[event_type("new.type", "")]);
    assert_eq!(node.publish(wanted()).await.unwrap().served_revision, revision);
}

#[tokio::test]
async fn nothing_is_said_not_to_exist_while_the_store_does_not_say() {
    let node = Node::start().await;
    node.config.down.store(true, Ordering::SeqCst);
    let unknown = request_with(|request, _| request.tenant = "tenants/new".into());
    let status = node.publish(unknown).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, "STORE_UNAVAILABLE".into()));
    let late = request_with(|request, _| request.min_revision = 102);
    let status = node.publish(late).await.unwrap_err();
    let expected = (Code::Unavailable, "REVISION_NOT_SERVED".into());
    assert_eq!((status.code(), reason(&status)), expected);
    node.publish(request("e1")).await.unwrap();
}

#[tokio::test]
async fn a_revision_is_waited_for_or_known_not_to_exist() {
    let node = Node::start().await;
    let at = |revision| request_with(|request, _| request.min_revision = revision);
    let revision = node.config.write(&[event_type("x", "")]);
    assert_eq!(node.publish(at(revision)).await.unwrap().served_revision, revision);
    let status = node.publish(at(revision + 1)).await.unwrap_err();
    let expected = (Code::FailedPrecondition, "REVISION_UNKNOWN".into());
    assert_eq!((status.code(), reason(&status)), expected);

    // Committed, but the node hears nothing of it.
    node.config.muted.store(true, Ordering::SeqCst);
    let revision = node.config.write(&[event_type("y", "")]);
    let begun = tokio::time::Instant::now();
    let status = node.publish(at(revision)).await.unwrap_err();
    assert_eq!(reason(&status), "REVISION_NOT_SERVED");
    assert!((1900..2500).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_suspended_tenant_publishes_nothing() {
    let node = Node::start().await;
    let mut acme = tenant("acme");
    acme.suspended = true;
    let revision = node.config.write(&[Resource::Tenant(acme)]);
    let status =
        node.publish(request_with(|request, _| request.min_revision = revision)).await.unwrap_err();
    let expected = (Code::FailedPrecondition, "TENANT_SUSPENDED".into());
    assert_eq!((status.code(), reason(&status)), expected);
}

#[tokio::test]
async fn validate_only_checks_and_stores_nothing() {
    let node = Node::start().await;
    let answer = node.publish(request_with(|request, _| request.validate_only = true)).await;
    let expected = v1::PublishResponse {
        event: "tenants/acme/events/e1".into(),
        id: "e1".into(),
        served_revision: 101,
        ..Default::default()
    };
    assert_eq!(answer.unwrap(), expected);
    let bad = request_with(|request, event| {
        request.validate_only = true;
        event.r#type = "unknown".into();
    });
    assert_eq!(node.publish(bad).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(node.calls(), [0; 0]);
}

#[tokio::test]
async fn a_tenants_rate_is_held() {
    let node = Node::start().await;
    let mut acme = tenant("acme");
    acme.limits.publish_per_second = 2;
    let revision = node.config.write(&[Resource::Tenant(acme)]);
    let wanted = |id: &str| {
        let id = id.to_owned();
        request_with(move |request, event| {
            request.min_revision = revision;
            event.id = id;
        })
    };
    node.publish(wanted("a")).await.unwrap();
    node.publish(wanted("b")).await.unwrap();
    let status = node.publish(wanted("c")).await.unwrap_err();
    let expected = (Code::ResourceExhausted, "RATE_LIMITED".into());
    assert_eq!((status.code(), reason(&status)), expected);
    let wait = status.get_details_retry_info().unwrap().retry_delay;
    assert_eq!(wait, Some(Duration::from_millis(500)));
    node.clock.advance(Duration::from_millis(500));
    node.publish(wanted("c")).await.unwrap();
}

#[tokio::test]
async fn a_node_that_is_not_there_yet_or_any_more_says_so() {
    let node = Node::unready();
    node.config.down.store(true, Ordering::SeqCst);
    tokio::task::yield_now().await;
    let status = node.publish(request("e1")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, "NOT_READY".into()));

    let node = Node::start().await;
    node.draining.cancel();
    let status = node.publish(request("e1")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, "DRAINING".into()));
    assert!(status.get_details_retry_info().is_some());
    let status = node.batch(vec![request("e1")]).await.unwrap_err();
    assert_eq!(reason(&status), "DRAINING");
}

#[tokio::test]
async fn what_the_store_says_is_passed_on() {
    let node = Node::start().await;
    for (fault, reason_word, words) in [
        (StoreError::Unavailable("gone".into()), "STORE_UNAVAILABLE", "repeat with the same id"),
        (StoreError::Full("9 GiB".into()), "STORE_FULL", "9 GiB"),
        (StoreError::Closed, "DRAINING", "closed"),
    ] {
        node.break_store(fault);
        let status = node.publish(request("e1")).await.unwrap_err();
        assert_eq!(reason(&status), reason_word);
        assert!(status.message().contains(words), "{}", status.message());
    }
}
