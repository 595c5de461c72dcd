use std::sync::Arc;

use serde_json::json;

use super::super::otlp::{Attributes, Kind, Link};
use super::*;

fn span(trace: &str, id: &str, parent: Option<&str>, start: u64) -> Span {
    let resource = [("service.name".to_owned(), json!("pregon"))];
    Span {
        trace_id: trace.into(),
        span_id: id.into(),
        parent: parent.map(str::to_owned),
        name: format!("span {id}"),
        kind: Kind::Internal,
        start,
        end: start + 1_500_000,
        attributes: Attributes::new(),
        links: Vec::new(),
        events: Vec::new(),
        status: Status::Unset,
        resource: Arc::new(resource.into()),
    }
}

#[test]
fn a_trace_is_printed_as_a_tree() {
    let mut failed = span("t1", "c", Some("a"), 30);
    failed.status = Status::Error("TIMEOUT".into());
    failed.kind = Kind::Client;
    failed.attributes = [("code".to_owned(), json!(503)), ("other".to_owned(), json!("x"))].into();
    failed.attributes.insert("method".into(), json!("POST"));
    let mut linked = span("t2", "e", Some("z"), 50);
    linked.links =
        vec![Link { trace_id: "t1".into(), span_id: "a".into(), attributes: Attributes::new() }];
    // In any order, one of them twice, one whose parent is somebody else's.
    let spans = [
        linked,
        failed.clone(),
        span("t1", "d", Some("b"), 25),
        failed,
        span("t1", "b", Some("a"), 20),
    ];
    let spans = [&spans[..], &[span("t1", "a", None, 10)]].concat();
    let trees = Tree::all(&spans);
    let expected = "\
trace t1
span a INTERNAL pregon 1.50 ms
├─ span b INTERNAL pregon 1.50 ms
│  └─ span d INTERNAL pregon 1.50 ms
└─ span c CLIENT pregon 1.50 ms ERROR TIMEOUT method=POST code=503
trace t2
(its parent is elsewhere) span e INTERNAL pregon 1.50 ms → t1/a
";
    assert_eq!(print(&trees, &["method", "code", "none"]), expected);
    let order: Vec<_> = trees[0].spans().iter().map(|span| span.span_id.as_str()).collect();
    assert_eq!(order, ["a", "b", "d", "c"]);
    assert_eq!(trees[0].find("span b").unwrap().children[0].span.span_id, "d");
    assert!(trees[0].find("span e").is_none());
    assert_eq!(trees[0].services().into_iter().collect::<Vec<_>>(), ["pregon"]);
}

#[test]
#[should_panic(expected = "their own ancestors")]
fn a_ring_is_noticed() {
    Tree::all(&[span("t", "a", Some("b"), 1), span("t", "b", Some("a"), 2)]);
}
