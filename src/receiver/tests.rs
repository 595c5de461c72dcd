//! A receiver on port 0, spoken to in plain HTTP/1.1.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use http::StatusCode;
use pregon_core::clock::{ManualClock, Timestamp};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::verify::Verdict;
use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const SOON: Duration = Duration::from_secs(5);

async fn start(script: Script, secrets: &[&str]) -> Receiver {
    let secrets = secrets.iter().map(|text| Secret::new(text)).collect();
    let options = ReceiverOptions { script, secrets, ..ReceiverOptions::default() };
    Receiver::start(options, ManualClock::at(NOW)).await.unwrap()
}

/// Sends one request and reads until the other side closes.
async fn send(addr: SocketAddr, path: &str, headers: &str, body: &[u8]) -> String {
    let mut conn = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    conn.write_all(head.as_bytes()).await.unwrap();
    // A receiver that has read enough may close while we still write.
    let _ = conn.write_all(body).await;
    let mut answer = Vec::new();
    let _ = timeout(SOON, conn.read_to_end(&mut answer)).await.expect("the receiver ends it");
    String::from_utf8(answer).unwrap()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).map_or(0, |code| code.parse().unwrap())
}

fn signed(key: &[u8], id: &str, at: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(format!("{id}.{at}.").as_bytes());
    mac.update(body);
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    format!("webhook-id: {id}\r\nwebhook-timestamp: {at}\r\nwebhook-signature: v1,{signature}\r\n")
}

#[tokio::test]
async fn a_request_is_verified_kept_and_answered() {
    let (first, second) = ([1; 32], [2; 32]);
    let text = |key: [u8; 32]| format!("whsec_{}", STANDARD.encode(key));
    let mut receiver = start(Script::default(), &[&text(first)]).await;
    let body = "{\"a\":\"ñ\"}".as_bytes();

    let headers = signed(&second, "e1", NOW.seconds(), body);
    assert_eq!(status(&send(receiver.addr(), "/hook?x=1", &headers, body).await), 200);
    let receipt = receiver.next().await.unwrap();
    assert_eq!(receipt.verdict(), Verdict::WrongSignature);
    assert_eq!((receipt.number, receipt.time, &receipt.body[..]), (1, NOW, body));
    assert_eq!((receipt.webhook_id(), receipt.uri.to_string()), (Some("e1"), "/hook?x=1".into()));

    receiver.trust([Secret::new(&text(second))]);
    for (at, verdict) in [(0, Verdict::Verified), (-301, Verdict::Stale)] {
        let headers = signed(&second, "e1", NOW.seconds() + at, body);
        send(receiver.addr(), "/hook", &headers, body).await;
        assert_eq!(receiver.next().await.unwrap().verdict(), verdict);
    }
    send(receiver.addr(), "/hook", "", body).await;
    assert_eq!(receiver.next().await.unwrap().verdict(), Verdict::Unsigned);
}

#[tokio::test]
async fn a_script_is_followed() {
    let answers = vec![StatusCode::INTERNAL_SERVER_ERROR, StatusCode::OK];
    let script = Script { answers, body: "text".into(), retry_after: Some(5), ..Script::default() };
    let receiver = start(script, &[]).await;
    let first = send(receiver.addr(), "/", "", b"").await;
    assert_eq!(status(&first), 500);
    assert!(first.contains("retry-after: 5\r\n") && first.ends_with("\r\n\r\ntext"), "{first}");
    for _ in 0..2 {
        assert_eq!(status(&send(receiver.addr(), "/", "", b"").await), 200);
    }
}

#[tokio::test]
async fn more_than_it_bears_in_a_second_is_refused() {
    let script = Script { per_second: Some(2), ..Script::default() };
    let receiver = start(script, &[]).await;
    let mut seen = Vec::new();
    for path in ["/", "/status/404", "/", "/delay/600000"] {
        seen.push(status(&send(receiver.addr(), path, "", b"").await));
    }
    assert_eq!(seen, [200, 404, 503, 503], "all in the second at which the clock stands");
}

#[tokio::test]
async fn the_first_requests_of_each_event_fail() {
    let receiver = start(Script::default(), &[]).await;
    let mut seen = Vec::new();
    for id in ["a", "b", "a", "a"] {
        let headers = format!("webhook-id: {id}\r\n");
        seen.push(status(&send(receiver.addr(), "/fail-first/1/x", &headers, b"").await));
    }
    assert_eq!(seen, [503, 503, 200, 200]);
    let other = send(receiver.addr(), "/fail-first/1/y", "webhook-id: a\r\n", b"").await;
    assert_eq!(status(&other), 503, "another path is another subscription");
}

#[tokio::test]
async fn a_connection_is_closed_without_an_answer() {
    let mut receiver = start(Script::default(), &[]).await;
    assert_eq!(send(receiver.addr(), "/close", "", b"{}").await, "");
    assert_eq!(receiver.next().await.unwrap().answer(), "CLOSE");
}

#[tokio::test]
async fn a_body_over_a_mebibyte_is_not_kept() {
    let mut receiver = start(Script::default(), &[]).await;
    let body = vec![b'a'; 1024 * 1024];
    assert_eq!(status(&send(receiver.addr(), "/", "", &body).await), 200);
    assert_eq!(receiver.next().await.unwrap().body.len(), body.len());
    send(receiver.addr(), "/", "", &[&body[..], b"a"].concat()).await;
    let receipt = receiver.next().await.unwrap();
    assert_eq!((receipt.answer(), receipt.body.len()), ("413".into(), 0));
}

#[tokio::test]
async fn a_path_names_the_contract_and_a_callback_answers() {
    // The example of the contract's document.
    let body = concat!(
        r#"{"eventName":"crypto_delivered","orderId":"5a3288ea-0bd4-44d2-af11-aae1f88bbd61","#,
        r#""timeStamp":"2022-10-26T22:36:41.658Z","#,
        r#""signature":"ac1084a3e462dfab7f1197635ae0352d5baa8388ac51d37db2dd5ccf019ebe0f"}"#
    );
    let mut receiver = start(Script::default(), &["un-secreto-de-ejemplo"]).await;
    for (path, contract, verdict, status_code) in [
        ("/contract/crypto_onramp/hook", "crypto_onramp", Verdict::Verified, 200),
        ("/contract/tusfacturas/status/201", "tusfacturas", Verdict::SignsNothing, 201),
        ("/hook", "standard_webhooks", Verdict::Unsigned, 200),
        ("/contract/strange", "standard_webhooks", Verdict::Unsigned, 400),
    ] {
        let answer = send(receiver.addr(), path, "", body.as_bytes()).await;
        let receipt = receiver.next().await.unwrap();
        assert_eq!(
            (status(&answer), receipt.contract(), receipt.verdict()),
            (status_code, contract, verdict),
            "{path}"
        );
    }
    let answer = send(receiver.addr(), "/callback/false", "", b"{}").await;
    assert!(answer.ends_with("\r\n\r\nfalse"), "{answer}");
}

/// On a clock that jumps to the next timer whenever nothing else happens.
#[tokio::test]
async fn slow_answers_take_their_time() {
    let receiver = start(Script::default(), &[]).await;
    let addr = receiver.addr();
    let mut waits = Vec::new();
    for (path, bytes) in [("/delay/2500", 0), ("/hang", 0), ("/drip", 3000)] {
        let mut conn = TcpStream::connect(addr).await.unwrap();
        let head = format!("GET {path} HTTP/1.0\r\n\r\n");
        conn.write_all(head.as_bytes()).await.unwrap();
        tokio::time::pause();
        let started = Instant::now();
        let mut answer = String::new();
        let _ = conn.read_to_string(&mut answer).await;
        waits.push(started.elapsed().as_secs());
        tokio::time::resume();
        assert_eq!(answer.matches('.').count().saturating_sub(1), bytes, "{path}");
    }
    assert_eq!(waits, [2, 600, 600]);
}

#[tokio::test]
async fn a_dropped_receiver_is_gone() {
    let receiver = start(Script::default(), &[]).await;
    let addr = receiver.addr();
    let mut conn = TcpStream::connect(addr).await.unwrap();
    conn.write_all(b"GET /hang HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    drop(receiver);
    let read = timeout(SOON, conn.read(&mut [0; 16])).await.expect("the connection ends");
    assert!(matches!(read, Ok(0) | Err(_)));
    assert!(TcpStream::connect(addr).await.is_err());
}
