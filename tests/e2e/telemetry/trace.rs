//! One trace from the client's own span to the receiver, over all processes that took part.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{contract, under};
use crate::harness::collector::otlp::{Kind, Span, Status, text};
use crate::harness::collector::tree::{self, Node, Tree};
use crate::harness::planes::Plan;
use crate::harness::shop::{Shop, subscription};
use crate::harness::telling::now;
use crate::harness::{Answer, Caller, Collector, Env, Grpcurl, Planes, Receiver, Standalone};

const PUBLISH: &str = "pregon.v1.EventService/Publish";
const PROCESS: &str = "process order.captured";
/// What an attempt may go through, in this order.
const STAGES: [&str; 5] = ["render", "dns", "connect", "tls", "first byte"];

/// The spans of a name, the earliest first.
fn named<'a>(tree: &'a Tree, name: &str) -> Vec<&'a Span> {
    let mut found: Vec<_> = tree.spans().into_iter().filter(|span| span.name == name).collect();
    found.sort_by_key(|span| span.start);
    found
}

/// The names of what is right below.
fn below(node: &Node) -> Vec<&str> {
    node.children.iter().map(|child| child.span.name.as_str()).collect()
}

/// The process that told of a span.
fn instance(span: &Span) -> &str {
    text(&span.resource, "service.instance.id").unwrap()
}

#[tokio::test]
async fn one_trace_from_the_client_to_the_receiver() {
    let collector = Collector::start().await;
    let env = Env::to(&collector);
    let planes = Planes::start(Plan { env: Some(&env), ..Plan::default() }).await;
    let receiver = Receiver::start(|request| match request.earlier {
        0 => Answer::Status(503),
        _ => Answer::Status(204),
    })
    .await;
    let mut shop = Shop::open(planes.grpcurl()).await;
    contract(&mut shop, "quick", "").await;
    shop.subscribe_with("erp", under("quick", &receiver.url("/hook?who=erp"))).await;
    shop.served().await;

    let (client, began) = (Caller::new(0xc1), now());
    let first = Grpcurl::new(planes.nodes[0].addr());
    let through = client.through(&first).with_header("tracestate", "shop=till-7");
    let published = through.ok("EventService/Publish", shop.request("o1", "{}")).await;
    client.tell(&collector, "checkout", began).await;
    let delivery = shop.delivery("o1", "erp", "SUCCEEDED").await;
    let attempts = shop.attempts(&delivery).await;
    let requests = receiver.expect("/hook", 2).await;

    let whole = |tree: &Tree| {
        tree.trace_id == client.trace_id
            && tree.find("checkout").is_some()
            && tree.find(PUBLISH).is_some()
            && ["POST", "settle", PROCESS].iter().all(|name| named(tree, name).len() == 2)
    };
    let tree = collector.trace("the whole trace", whole).await;
    let keys = ["pregon.attempt.number", "http.response.status_code", "error.type"];
    println!("{}", tree::print(std::slice::from_ref(&tree), &keys));

    // From the client's span down to the event's.
    assert_eq!(tree.roots.len(), 1, "all of it hangs together");
    let root = &tree.roots[0];
    assert_eq!((root.span.name.as_str(), below(root)), ("checkout", vec![PUBLISH]));
    let call = &root.children[0];
    assert_eq!((call.span.kind, instance(&call.span)), (Kind::Server, "n0"));
    assert_eq!(text(&call.span.attributes, "rpc.response.status_code"), Some("OK"));
    assert_eq!((&call.span.status, below(call)), (&Status::Unset, vec!["publish order.captured"]));
    let event = &call.children[0];
    assert_eq!((event.span.kind, instance(&event.span)), (Kind::Producer, "n0"));
    assert_eq!(event.span.attributes["messaging.message.id"], published["event"]);
    assert_eq!(below(event), [PROCESS, PROCESS]);
    // Each time it was worked on, by whichever node had it.
    let worked = [(&event.children[0], &requests[0]), (&event.children[1], &requests[1])];
    for (number, (work, request)) in (1..).zip(worked) {
        let steps: &[&str] = match number {
            1 => &["claim", "match", "POST", "settle"],
            _ => &["claim", "POST", "settle"],
        };
        assert_eq!((work.span.kind, below(work)), (Kind::Consumer, steps.to_vec()));
        let [link] = &work.span.links[..] else { panic!("{:?}", work.span.links) };
        assert_eq!((&link.trace_id, &link.span_id), (&tree.trace_id, &event.span.span_id));
        let node = instance(&work.span);
        assert!(work.children.iter().all(|step| instance(&step.span) == node), "{number}");

        let post = work.find("POST").unwrap();
        assert_attempt(post, number);
        let sent = format!("00-{}-{}-01", tree.trace_id, post.span.span_id);
        assert_eq!(request.header("traceparent"), sent, "attempt {number}");
        assert_eq!(request.header("tracestate"), "shop=till-7");
        let shown = &attempts[usize::try_from(number - 1).unwrap()];
        assert_eq!(shown["node"], format!("nodes/{node}"));
        assert_eq!(post.span.attributes["pregon.delivery.name"], delivery["name"]);
        // The query may hold what identifies people.
        assert_eq!(post.span.attributes["url.full"], receiver.url("/hook"));
    }
    let posts = named(&tree, "POST");
    assert_eq!(posts[0].links, []);
    let [link] = &posts[1].links[..] else { panic!("{:?}", posts[1].links) };
    assert_eq!((&link.trace_id, &link.span_id), (&tree.trace_id, &posts[0].span_id));
}

/// The first attempt was refused, the second was not; each has its stages below.
fn assert_attempt(post: &Node, number: i64) {
    let span = &post.span;
    assert_eq!(
        (span.kind, &span.attributes["pregon.attempt.number"]),
        (Kind::Client, &json!(number))
    );
    let (code, outcome, status) = match number {
        1 => (503, "RETRY", Status::Error("answered 503".into())),
        _ => (204, "SUCCEEDED", Status::Unset),
    };
    assert_eq!(span.attributes["http.response.status_code"], code);
    assert_eq!(text(&span.attributes, "pregon.attempt.outcome"), Some(outcome));
    assert_eq!(span.status, status);
    let class = text(&span.attributes, "error.type");
    assert_eq!(class, (number == 1).then_some("STATUS"));
    let stages = below(post);
    let known: Vec<_> = STAGES.into_iter().filter(|stage| stages.contains(stage)).collect();
    assert_eq!(stages, known, "stages in their order");
    assert!(stages.contains(&"first byte"), "{stages:?}");
    if number == 1 {
        assert!(stages.contains(&"connect"), "{stages:?}");
    }
    for stage in &post.children {
        let within = span.start <= stage.span.start && stage.span.end <= span.end;
        assert!(within, "{} is within its attempt", stage.span.name);
    }
}

#[tokio::test]
async fn a_write_is_traced_to_every_node_that_serves_it() {
    let collector = Collector::start().await;
    let env = Env::to(&collector);
    let planes = Planes::start(Plan { env: Some(&env), ..Plan::default() }).await;
    let mut shop = Shop::open(planes.grpcurl()).await;
    let client = Caller::new(0xc2);
    shop.grpc = client.through(&shop.grpc);
    let made = shop.subscribe_with("erp", json!({"url": "http://127.0.0.1:9/"})).await;
    let (write, serve) = ("write configuration", "serve configuration");
    let whole = |tree: &Tree| tree.find(write).is_some() && named(tree, serve).len() == 2;
    let whole = |tree: &Tree| tree.trace_id == client.trace_id && whole(tree);
    let tree = collector.trace("the write and both nodes", whole).await;
    println!("{}", tree::print(std::slice::from_ref(&tree), &["pregon.configuration.revision"]));

    let root = &tree.roots[0];
    assert_eq!(root.span.name, "pregon.v1.SubscriptionService/CreateSubscription");
    assert_eq!(root.span.parent.as_ref(), Some(&client.span_id));
    assert_eq!((root.span.service().as_str(), below(root)), ("pregon/control", vec![write]));
    let written = &root.children[0];
    let resources = text(&written.span.attributes, "pregon.resources").unwrap();
    assert!(resources.contains(&subscription("erp")), "{resources}");
    assert_eq!(
        (written.span.kind, written.span.service().as_str()),
        (Kind::Producer, "pregon/control")
    );
    let served: BTreeSet<_> = written.children.iter().map(|node| instance(&node.span)).collect();
    assert_eq!(served, ["n0", "n1"].into());
    let revision: i64 = made["revision"].as_str().unwrap().parse().unwrap();
    for node in &written.children {
        assert_eq!((node.span.kind, node.span.name.as_str()), (Kind::Consumer, serve));
        assert_eq!(node.span.attributes["pregon.configuration.revision"], revision);
    }
}

#[tokio::test]
async fn a_contract_decides_whether_receivers_see_the_trace() {
    let collector = Collector::start().await;
    let pregon = Standalone::telling(&["--in-memory"], None, &Env::to(&collector)).await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    contract(&mut shop, "quick", "").await;
    contract(&mut shop, "silent", "traceparent: false").await;
    shop.subscribe_with("told", under("quick", &receiver.url("/told"))).await;
    shop.subscribe_with("untold", under("silent", &receiver.url("/untold"))).await;
    let client = Caller::new(0xc3);
    let through = client.through(&shop.grpc).with_header("tracestate", "shop=till-7");
    through.ok("EventService/Publish", shop.request("o1", "{}")).await;
    shop.settled().await;
    let told = receiver.requests("/told").remove(0);
    assert!(told.header("traceparent").contains(&client.trace_id), "{told:?}");
    let untold = receiver.requests("/untold").remove(0);
    assert_eq!((untold.header("traceparent"), untold.header("tracestate")), ("", ""));
    // The trace knows of both.
    let both = |tree: &Tree| tree.trace_id == client.trace_id && named(tree, "POST").len() == 2;
    collector.trace("both attempts", both).await;
}

#[tokio::test]
async fn contexts_pass_through_where_nothing_is_told() {
    let pregon = Standalone::in_memory().await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.subscribe("erp", &receiver, "/hook").await;
    for (id, client) in [("yes", Caller::new(0xc4)), ("no", Caller::unsampled(0xc5))] {
        let through = client.through(&shop.grpc);
        through.ok("EventService/Publish", shop.request(id, "{}")).await;
    }
    shop.publish("none", "{}").await;
    let requests = receiver.expect("/hook", 3).await;
    let sent: BTreeMap<_, _> = requests
        .iter()
        .map(|request| (request.header("webhook-id"), request.header("traceparent")))
        .collect();
    let trace = |caller: &Caller| format!("00-{}-", caller.trace_id);
    assert!(sent["yes"].starts_with(&trace(&Caller::new(0xc4))), "{sent:?}");
    assert!(sent["yes"].ends_with("-01") && sent["no"].ends_with("-00"), "{sent:?}");
    assert!(sent["no"].starts_with(&trace(&Caller::new(0xc5))), "{sent:?}");
    assert_eq!(sent["none"], "", "there is nothing to connect");
}

#[tokio::test]
async fn a_check_takes_the_trace_to_the_callbacks_receiver() {
    let collector = Collector::start().await;
    let pregon = Standalone::telling(&["--in-memory"], None, &Env::to(&collector)).await;
    let receiver = Receiver::start(|_| Answer::Body(200, "true".into())).await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let callback = json!({"parent": "tenants/acme", "callback_id": "login",
        "callback": {"url": receiver.url("/may")}});
    shop.write("CallbackService/CreateCallback", callback).await;
    let client = Caller::new(0xc6);
    let ask = json!({"callback": "tenants/acme/callbacks/login", "json": "{}",
        "min_revision": shop.revision});
    let through = client.through(&shop.grpc).with_header("tracestate", "shop=till-7");
    assert_eq!(through.ok("CheckService/Check", ask).await["allowed"], true);

    let asked = |tree: &Tree| tree.trace_id == client.trace_id && tree.spans().len() == 2;
    let tree = collector.trace("the call and the question", asked).await;
    let root = &tree.roots[0];
    assert_eq!(root.span.name, "pregon.v1.CheckService/Check");
    assert_eq!(root.span.parent.as_ref(), Some(&client.span_id));
    assert_eq!(below(root), ["POST"]);
    let post = &root.children[0].span;
    assert_eq!(
        (post.kind, &post.attributes["http.response.status_code"]),
        (Kind::Client, &json!(200))
    );
    let request = receiver.requests("/may").remove(0);
    let sent = format!("00-{}-{}-01", tree.trace_id, post.span_id);
    assert_eq!(request.header("traceparent"), sent);
    assert_eq!(request.header("tracestate"), "shop=till-7");
}
