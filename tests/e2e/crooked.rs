//! Receivers whose answers are crooked, endless or too telling, and nodes that may open few files.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::process::Process;
use crate::harness::shop::Shop;
use crate::harness::{Grpcurl, Receiver, World};
use crate::on_both;

on_both!(an_answer_whose_status_came_is_heard, what_a_receiver_echoes_is_not_kept);

/// A receiver that answers each request with the same bytes, and keeps the connection open. What
/// stands in the request takes the place of `{echo}`. With it, how many requests came.
async fn answering(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut request = Vec::new();
                while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
                    let text = String::from_utf8_lossy(&request).into_owned();
                    // Data of these stories ends like this.
                    if !text.ends_with("}}") {
                        continue;
                    }
                    counter.fetch_add(1, Ordering::SeqCst);
                    request.clear();
                    let echo = text.replace("\r\n", "\n");
                    let answer = answer.replace("{length}", &echo.len().to_string());
                    if stream.write_all(answer.replace("{echo}", &echo).as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, count)
}

async fn an_answer_whose_status_came_is_heard<W: World>() {
    let long = "HTTP/1.1 200 OK\r\nx-policy: ".to_owned() + &"y".repeat(17_000);
    let long: &'static str = Box::leak((long + "\r\ncontent-length: 0\r\n\r\n").into_boxed_str());
    let pregon = W::in_memory().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let contract = "contract: hasty\nbody: { d: \"${event.data}\" }\ntimeouts: [1s]\nexamples:\n  \
                    - event: { type: order.captured, data: '{}' }\n";
    let contract = json!({"contract_id": "hasty", "contract": {"document": contract}});
    shop.write("ContractService/CreateContract", contract).await;
    let answers = [
        ("space", "HTTP/1.1 200 OK\r\nx-a : 1\r\ncontent-length: 0\r\n\r\n", false),
        ("folded", "HTTP/1.1 200 OK\r\nx-a: 1\r\n  2\r\ncontent-length: 0\r\n\r\n", false),
        ("colonless", "HTTP/1.1 200 OK\r\nnonsense\r\ncontent-length: 0\r\n\r\n", false),
        ("long", long, true),
        ("open", "HTTP/1.1 200 OK\r\n\r\nok", true),
        ("short", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok", true),
    ];
    let mut receivers = Vec::new();
    for (id, answer, cut) in answers {
        let (address, count) = answering(answer).await;
        let url = format!("http://{address}/hook");
        shop.subscribe_with(id, json!({"url": url, "contract": "contracts/hasty"})).await;
        receivers.push((id, count, cut));
    }
    shop.publish("e1", "{\"a\":{}}").await;
    for (id, count, cut) in receivers {
        let delivery = shop.delivery("e1", id, "SUCCEEDED").await;
        let attempts = shop.attempts(&delivery).await;
        let [attempt] = &attempts[..] else { panic!("{id}: {attempts:?}") };
        assert_eq!(count.load(Ordering::SeqCst), 1, "{id}: {attempt}");
        assert_eq!(attempt["response"]["status"], 200, "{id}: {attempt}");
        assert_eq!(attempt["response"]["truncated"], cut, "{id}: {attempt}");
    }
}

async fn what_a_receiver_echoes_is_not_kept<W: World>() {
    let answer = "HTTP/1.1 500 No\r\ncontent-length: {length}\r\n\r\n{echo}";
    let (address, _) = answering(answer).await;
    let pregon = W::in_memory().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let fields = json!({
        "url": format!("http://{address}/hook"),
        "auth": {"bearer": {"token": "t0ken-of-the-shop"}},
        "headers": [{"name": "X-Shop-Key", "value": "k3y-of-the-shop"}, {"name": "X-Api-Version", "value": "7"}],
        "sensitive_paths": ["event.data.a.card"],
    });
    shop.subscribe_with("erp", fields).await;
    shop.publish("e1", "{\"a\":{\"card\":\"4111-2222\",\"total\":5}}").await;
    let delivery = shop.delivery("e1", "erp", "PENDING").await;
    let attempt = crate::harness::eventually("it is tried", || async {
        shop.attempts(&delivery).await.first().cloned().ok_or(())
    })
    .await;
    let body = attempt["response"]["body"].as_str().unwrap();
    for shown in
        ["authorization: [redacted]", "X-Shop-Key: [redacted]", "\"[redacted]\"", "\"total\":5"]
    {
        assert!(body.contains(shown), "{shown}: {body}");
    }
    for hidden in ["t0ken-of-the-shop", "k3y-of-the-shop", "4111-2222"] {
        assert!(!attempt.to_string().contains(hidden), "{hidden}: {attempt}");
    }
    // What was sent is shown as it went out.
    let headers = attempt["request"]["headers"].as_array().unwrap();
    let header = |name: &str| headers.iter().find(|it| it["name"] == name).map(|it| &it["value"]);
    assert_eq!(header("X-Api-Version"), Some(&json!("7")), "{attempt}");
    assert_eq!(header("authorization"), Some(&json!("[masked]")), "{attempt}");
    assert_eq!(header("webhook-signature"), Some(&json!("[masked]")), "{attempt}");
}

#[tokio::test]
async fn a_node_that_may_open_few_files_takes_on_no_more() {
    let args = ["standalone", "--listen", "127.0.0.1:0", "--in-memory", "--allow-http"];
    let args = [&args[..], &["--allow-egress", "127.0.0.0/8"]].concat();
    let mut process = Process::with_files(256, &args);
    let address = process.address().await;
    process.line_with("the process may open 256 files: ").await;
    // More deliveries than there are files, to a receiver that does not answer: callers are served.
    let receiver = Receiver::start(|_| crate::harness::Answer::Never).await;
    let mut shop = Shop::open(Grpcurl::new(address)).await;
    for n in 0..60 {
        shop.subscribe(&format!("s{n}"), &receiver, &format!("/{n}")).await;
    }
    for n in 0..10 {
        shop.publish(&format!("e{n}"), "{}").await;
    }
    shop.served().await;
    shop.publish("last", "{}").await;
    assert!(!process.output().contains("Too many open files"), "{}", process.output());
}

#[tokio::test]
async fn a_file_of_authorities_without_a_certificate_is_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content, said) in [
        ("empty", &b""[..], "it is empty"),
        ("der", b"\x30\x82\x01\x00", "it is DER"),
        ("key", b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n", "a private key"),
    ] {
        let file = dir.path().join(name);
        std::fs::write(&file, content).unwrap();
        let file = file.display().to_string();
        let args = ["standalone", "--in-memory", "--listen", "127.0.0.1:0", "--egress-ca-file"];
        let (status, output) = Process::run(&[&args[..], &[&file]].concat(), &[]).await;
        assert!(!status.success(), "{output}");
        assert!(output.contains("--egress-ca-file") && output.contains(said), "{output}");
    }
}
