use std::time::Duration;

use serde_json::json;

use super::*;

#[test]
fn a_span_is_read_with_all_that_it_says() {
    let span = json!({
        "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331",
        "parentSpanId": "00f067aa0ba902b7", "name": "attempt", "kind": 3,
        "startTimeUnixNano": "1795346115446000000", "endTimeUnixNano": "1795346115447500000",
        "attributes": [
            {"key": "text", "value": {"stringValue": "a"}},
            {"key": "whole", "value": {"intValue": "9007199254740993"}},
            {"key": "broken", "value": {"doubleValue": 0.5}},
            {"key": "sure", "value": {"boolValue": true}},
            {"key": "many", "value": {"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "b"}]}}},
            {"key": "inner", "value": {"kvlistValue": {"values": [{"key": "k", "value": {"intValue": "2"}}]}}},
            {"key": "nothing", "value": {}},
        ],
        "links": [{"traceId": "aa", "spanId": "bb", "attributes": []}],
        "events": [{"name": "sent", "timeUnixNano": "7"}],
        "status": {"code": 2, "message": "STATUS"},
    });
    let resource = json!({"attributes": [
        {"key": "service.name", "value": {"stringValue": "pregon"}},
        {"key": "pregon.plane", "value": {"stringValue": "dataplane"}},
    ]});
    let line =
        json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]});
    let spans = spans(&format!("{line}\n{line}\n"));
    assert_eq!(spans.len(), 2, "one of each line");
    let span = &spans[0];
    assert_eq!(span.parent.as_deref(), Some("00f067aa0ba902b7"));
    assert_eq!((span.kind, span.duration()), (Kind::Client, Duration::from_micros(1500)));
    let said: Value = span.attributes.clone().into_iter().collect();
    let expected = json!({
        "text": "a", "whole": 9_007_199_254_740_993_i64, "broken": 0.5, "sure": true, "many": [1, "b"],
        "inner": {"k": 2}, "nothing": null,
    });
    assert_eq!(said, expected);
    let link = Link { trace_id: "aa".into(), span_id: "bb".into(), attributes: Attributes::new() };
    assert_eq!(span.links, [link]);
    let event = Event { name: "sent".into(), time: 7, attributes: Attributes::new() };
    assert_eq!(span.events, [event]);
    assert_eq!(span.status, Status::Error("STATUS".into()));
    assert_eq!(span.service(), "pregon/dataplane");
}

#[test]
fn what_is_left_out_is_at_its_default() {
    let line =
        json!({"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [{"name": "s"}]}]}]});
    let span = &spans(&line.to_string())[0];
    assert_eq!((span.parent.clone(), span.kind), (None, Kind::Unspecified));
    assert_eq!((&span.status, span.service()), (&Status::Unset, "?".to_owned()));
    let line = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "b"}}]}]}]});
    let log = &logs(&line.to_string())[0];
    assert_eq!((log.trace_id.clone(), log.span_id.clone(), log.time), (None, None, 0));
    assert_eq!((&log.body, log.severity.as_str()), (&json!("b"), ""));
}

#[test]
fn metrics_are_read_as_points_of_their_form() {
    let number = |data: Value| json!({"dataPoints": [data]});
    let sum = |temporality: u8, monotonic: bool| {
        let mut sum = number(
            json!({"asInt": "3", "attributes": [{"key": "k", "value": {"stringValue": "v"}}]}),
        );
        sum["aggregationTemporality"] = temporality.into();
        sum["isMonotonic"] = monotonic.into();
        sum
    };
    let histogram = number(json!({
        "count": "3", "sum": 4.5, "explicitBounds": [1.0, 2.0], "bucketCounts": ["1", "1", "1"],
    }));
    let metrics = json!([
        {"name": "g", "unit": "s", "description": "G.", "gauge": number(json!({"asDouble": 0.5}))},
        {"name": "c", "sum": sum(2, true)},
        {"name": "delta", "sum": sum(1, true)},
        {"name": "up and down", "sum": sum(2, false)},
        {"name": "h", "histogram": histogram},
    ]);
    let line = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]});
    let points = points(&line.to_string());
    let measures: Vec<_> = points.iter().map(|point| point.measure.clone()).collect();
    let (bounds, buckets) = (vec![1.0, 2.0], vec![1, 1, 1]);
    let histogram = Measure::Histogram { count: 3, sum: 4.5, bounds, buckets };
    let sums = [Measure::Counter(3.0), Measure::Sum(3.0), Measure::Sum(3.0)];
    assert_eq!(measures, [&[Measure::Gauge(0.5)], &sums[..], &[histogram]].concat());
    assert_eq!((points[0].unit.as_str(), points[0].help.as_str()), ("s", "G."));
    assert!(points[1].is("c", &[("k", "v")]) && points[1].is("c", &[]));
    assert!(!points[1].is("c", &[("k", "w")]) && !points[1].is("d", &[]));
    assert_eq!(points[4].number(), 3.0);
}

#[test]
#[should_panic(expected = "no JSON")]
fn half_a_line_is_noticed() {
    spans(r#"{"resourceSpans":["#);
}

#[test]
#[should_panic(expected = "no resourceSpans")]
fn another_signal_is_noticed() {
    spans(r#"{"resourceLogs":[]}"#);
}
