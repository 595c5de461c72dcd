//! The truth table, row by row, for both failure policies.

use v1::CheckCause::{FailurePolicy as OnError, Status as ByStatus, Verdict as ByVerdict};
use v1::ErrorClass;

use super::*;

/// Asks a receiver that answers so, under both policies.
async fn under_both(callback: &Callback) -> [v1::CheckResponse; 2] {
    let deny = Callback { on_error: FailurePolicy::Deny, ..callback.clone() };
    let allow = Callback { on_error: FailurePolicy::Allow, ..callback.clone() };
    let node = Node::start(&deny).await;
    let denied = node.ask().await;
    node.write(&[Resource::Callback(allow)]).await;
    [denied, node.ask().await]
}

/// The row is the same under both policies.
async fn same(receiver: &Receiver, allowed: bool, cause: v1::CheckCause, status: i32) {
    for response in under_both(&auth(&receiver.url())).await {
        assert_eq!(decided(&response), (allowed, cause), "{response:?}");
        assert_eq!(response.response_status, status);
        assert_eq!(response.error_class(), ErrorClass::Unspecified);
        assert!(!response.detail.is_empty() && response.check.starts_with("chk_"));
    }
}

/// The row is decided by the policy.
async fn by_policy(callback: &Callback, status: i32, class: ErrorClass) {
    let [denied, allowed] = under_both(callback).await;
    assert_eq!(decided(&denied), (false, OnError), "{denied:?}");
    assert_eq!(decided(&allowed), (true, OnError), "{allowed:?}");
    for response in [denied, allowed] {
        assert_eq!((response.response_status, response.error_class()), (status, class));
        assert!(response.detail.contains("on_error is "), "{}", response.detail);
    }
}

#[tokio::test]
async fn what_looks_like_a_positive_boolean_allows() {
    for body in [
        "true",
        "\"true\"",
        "1",
        "\"1\"",
        "yes",
        "si",
        "sí",
        " OK\r\n",
        "{\"allowed\":true}",
        "{\"authorized\":\"yes\",\"user\":7}",
        "{\"result\":1}",
    ] {
        for status in [200, 201, 299] {
            same(&Receiver::answering(status, body).await, true, ByVerdict, status.into()).await;
        }
    }
}

#[tokio::test]
async fn every_other_2xx_denies() {
    for body in [
        "",
        "false",
        "0",
        "null",
        "\"false\"",
        "2",
        "[]",
        "[true]",
        "{}",
        "{\"allowed\":false}",
        "{\"allowed\":true,\"valid\":false}",
        "{\"data\":{\"allowed\":true}}",
        "<html><body>true</body></html>",
        "no",
    ] {
        same(&Receiver::answering(200, body).await, false, ByVerdict, 200).await;
    }
    same(&Receiver::answering(204, "").await, false, ByVerdict, 204).await;
}

#[tokio::test]
async fn other_statuses_deny_whatever_the_body_says() {
    for status in [302, 400, 401, 403, 404, 410, 600] {
        same(&Receiver::answering(status, "true").await, false, ByStatus, status.into()).await;
    }
}

#[tokio::test]
async fn statuses_that_say_later_leave_it_to_the_policy() {
    for status in [408, 429, 500, 502, 503, 599] {
        let receiver = Receiver::answering(status, "true").await;
        by_policy(&auth(&receiver.url()), status.into(), ErrorClass::Status).await;
        assert_eq!(receiver.seen().len(), 2, "one request for a check");
    }
}

#[tokio::test]
async fn no_answer_leaves_it_to_the_policy() {
    let silent = Receiver::start(Answer::Silence).await;
    // The shortest timeout that a callback may have: it is waited for.
    let impatient = Callback { timeout_ms: 100, ..auth(&silent.url()) };
    by_policy(&impatient, 0, ErrorClass::Timeout).await;
    let closing = Receiver::start(Answer::Close).await;
    by_policy(&auth(&closing.url()), 0, ErrorClass::Protocol).await;
    let garbage = Receiver::start(Answer::Bytes(b"true\r\n\r\n".as_slice().into())).await;
    by_policy(&auth(&garbage.url()), 0, ErrorClass::Protocol).await;
    let slamming = Receiver::start(Answer::Slam).await;
    let tls = format!("https://{}/ask", slamming.address);
    by_policy(&auth(&tls), 0, ErrorClass::Tls).await;
    by_policy(&auth("http://no.such.example/ask"), 0, ErrorClass::Dns).await;
    let elsewhere = format!("http://127.0.0.2:{}/ask", silent.address.port());
    by_policy(&auth(&elsewhere), 0, ErrorClass::Denied).await;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    by_policy(&auth(&format!("http://{nobody}/ask")), 0, ErrorClass::Connect).await;
}

#[tokio::test]
async fn an_answer_that_is_too_long_or_breaks_off_leaves_it_to_the_policy() {
    let most = limits::RESPONSE_READ;
    let padded = |len: usize| "true".to_owned() + &" ".repeat(len - 4);
    let receiver = Receiver::answering(200, &padded(most)).await;
    same(&receiver, true, ByVerdict, 200).await;
    for status in [200, 404] {
        let receiver = Receiver::answering(status, &padded(most + 1)).await;
        by_policy(&auth(&receiver.url()), status.into(), ErrorClass::Protocol).await;
    }
    let cut =
        b"HTTP/1.1 200 x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n4\r\ntrue\r\nz";
    let receiver = Receiver::start(Answer::Bytes(cut.as_slice().into())).await;
    by_policy(&auth(&receiver.url()), 200, ErrorClass::Protocol).await;
}

#[tokio::test]
async fn a_verdict_of_its_own_replaces_the_contracts() {
    let verdict = "response.status == 200 && response.json.level > 3 \
                   && check.data.email.endsWith('acme.example')";
    let receiver = Receiver::answering(200, "{\"level\":4}").await;
    let callback = Callback { verdict: verdict.into(), ..auth(&receiver.url()) };
    let node = Node::start(&callback).await;
    assert_eq!(decided(&node.ask().await), (true, ByVerdict));
    receiver.will(answer(200, "{\"level\":3,\"allowed\":true}"));
    assert_eq!(decided(&node.ask().await), (false, ByVerdict));
    receiver.will(answer(201, "{\"level\":4}"));
    assert_eq!(decided(&node.ask().await), (false, ByVerdict));
    // Without an answer of its own it is no verdict.
    receiver.will(answer(200, "true"));
    let response = node.ask().await;
    assert_eq!(decided(&response), (false, OnError));
    assert!(!response.detail.contains("ada@"), "{}", response.detail);
    by_policy(&callback, 200, ErrorClass::Unspecified).await;
    receiver.will(answer(404, "{\"level\":4}"));
    assert_eq!(decided(&node.ask().await), (false, ByStatus));
}

#[tokio::test]
async fn the_contracts_verdict_holds_where_the_callback_has_none() {
    let receiver = Receiver::answering(200, "granted").await;
    let callback = Callback { contract: contract_id("mine"), ..auth(&receiver.url()) };
    let node = Node::start(&auth(&receiver.url())).await;
    let rule = r#"callback: { verdict: "response.body == 'granted'" }"#;
    node.write(&[contract("mine", rule), Resource::Callback(callback)]).await;
    assert_eq!(decided(&node.ask().await), (true, ByVerdict));
    receiver.will(answer(200, "true"));
    assert_eq!(decided(&node.ask().await), (false, ByVerdict));
}
