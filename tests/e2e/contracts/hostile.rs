//! Thousands of hostile events to a receiver in Node that does what the contract's documentation says:
//! each is refused at publish with a clear error, or accepted by the receiver. Never taken by us and
//! rejected by it.

#[path = "../../../core/tests/node_json/author.rs"]
#[allow(dead_code, reason = "texts alone are wanted here")]
mod author;

use std::process::Stdio;

use author::Author;
use pregon_proto::v1::event::Data;
use pregon_proto::v1::event_service_client::EventServiceClient;
use pregon_proto::v1::publish_batch_result::Outcome;
use pregon_proto::v1::{Event, PublishBatchRequest, PublishRequest};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tonic::transport::Channel;

use super::{import, subscribe};
use crate::harness::load::patience;
use crate::harness::poll::within;
use crate::harness::shop::{Shop, subscription};
use crate::harness::standalone::Standalone;
use crate::harness::{World, root};

/// Events that must be accepted.
const EVENTS: usize = 10_000;
/// Events of one call.
const BATCH: usize = 250;
/// The integrator's secret: any text.
const SECRET: &str = "clave del integrador ñ €";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_in_node_accepts_all_that_is_taken() {
    let (_node, port) = node().await;
    let pregon = <Standalone as World>::in_memory().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    import(&mut shop, "crypto_onramp").await;
    let url = format!("http://127.0.0.1:{port}/");
    subscribe(&mut shop, "onramp", "crypto_onramp", &url, json!({})).await;
    let secret = json!({"parent": subscription("onramp"), "secret": {"material": SECRET}});
    shop.write("SecretService/CreateSecret", secret).await;
    shop.served().await;

    let mut client =
        EventServiceClient::connect(format!("http://{}", pregon.addr())).await.unwrap();
    let (mut author, mut taken, mut refused) = (Author::new(), 0, 0);
    for first in (0..).step_by(BATCH) {
        if taken >= EVENTS {
            break;
        }
        let texts = (first..first + BATCH).map(|n| event(n, &mut author)).collect();
        for (text, outcome) in batch(&mut client, texts).await {
            match outcome {
                Ok(()) => taken += 1,
                Err(rules) => {
                    refused += 1;
                    let known = ["EVENT_JSON_INVALID", "EVENT_SCHEMA_MISMATCH"];
                    assert!(
                        rules.iter().all(|rule| known.contains(&rule.as_str())),
                        "{rules:?} {text}"
                    );
                }
            }
        }
    }
    println!("{taken} events taken, {refused} refused at publish");
    within(patience(taken), "every event is accepted by the receiver", || async {
        let report = shop.grpc.report("tenants/acme").await;
        let ended =
            report["deliveries"]["pending"] == "0" && report["events"]["awaitingMatch"] == "0";
        if ended { Ok(()) } else { Err(report) }
    })
    .await;
    let stats = stats(port).await;
    assert_eq!(stats["rejected"], json!([]));
    assert_eq!(stats["accepted"], taken);
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["succeeded"], taken.to_string());
}

/// An event's data: an order's id and whatever the author thinks of, as a member or beside it.
fn event(n: usize, author: &mut Author) -> String {
    let id = format!("\"orderId\":\"{n:08x}-0bd4-44d2-af11-aae1f88bbd61\"");
    let text = author.text();
    let inside = text.trim().strip_prefix('{').map(str::trim_start);
    match inside {
        Some(members) if !members.starts_with('}') => format!("{{{id},{members}"),
        Some(_) | None => format!("{{ \"order\" : {text}, {id} }}"),
    }
}

/// Publishes some; each with what became of it: the rules that it broke.
async fn batch(
    client: &mut EventServiceClient<Channel>,
    texts: Vec<String>,
) -> Vec<(String, Result<(), Vec<String>>)> {
    let requests = texts.iter().map(|text| PublishRequest {
        tenant: "tenants/acme".into(),
        event: Some(Event {
            r#type: "payment_received".into(),
            data: Some(Data::Json(text.clone())),
            ..Event::default()
        }),
        ..PublishRequest::default()
    });
    let request = PublishBatchRequest { requests: requests.collect() };
    let answer = client.publish_batch(request).await.expect("the batch is taken").into_inner();
    let outcomes = answer.results.into_iter().map(|result| match result.outcome.unwrap() {
        Outcome::Result(_) => Ok(()),
        Outcome::Status(status) => Err(rules(&status)),
    });
    texts.into_iter().zip(outcomes).collect()
}

/// The rules that a refusal names.
fn rules(status: &tonic_types::Status) -> Vec<String> {
    let bad = status.details.iter().filter(|detail| detail.type_url.ends_with("BadRequest"));
    let bad = bad.map(|detail| {
        <tonic_types::pb::BadRequest as prost::Message>::decode(&*detail.value).unwrap()
    });
    let rules: Vec<_> =
        bad.flat_map(|bad| bad.field_violations).map(|violation| violation.reason).collect();
    assert!(!rules.is_empty(), "a refusal names its rules: {}", status.message);
    rules
}

/// Starts the receiver; it ends with its handle.
async fn node() -> (Child, u16) {
    let script = root().join("tests/verify/onramp.mjs");
    let mut command = Command::new("node");
    command.arg(script).arg(SECRET).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("cannot run node ({error}): scripts/tools.sh puts it into .tools/bin, for PATH")
    });
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).await.unwrap();
    (child, line.trim().parse().expect("it prints its port"))
}

async fn stats(port: u16) -> Value {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}
