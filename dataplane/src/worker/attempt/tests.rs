//! Attempts of a whole node at a receiver on a loopback socket.

use pregon_core::id::ContractId;
use pregon_core::model::{Auth, Oauth2Style, Resource, Subscription};
use pregon_core::outcome::{AttemptOutcome, EndReason, ErrorClass};

use crate::testing::documents::{contract, sealed};
use crate::testing::receiver::{Receiver, answer};
use crate::testing::whole::Whole;
use crate::testing::{event_type, secret, subscription, tenant};

/// A node with the subscription `s1` of `acme`, under this contract.
async fn node(contract_keys: &str, change: impl FnOnce(&mut Subscription)) -> (Whole, Receiver) {
    let receiver = Receiver::answering(200, "{\"ok\":true}").await;
    let whole = Whole::start();
    let mut ours = subscription("acme", 1, &["*"]);
    ours.url = receiver.url();
    ours.contract = ContractId::parse("mine").unwrap();
    change(&mut ours);
    whole
        .write(&[
            contract("mine", contract_keys),
            Resource::Tenant(tenant("acme")),
            Resource::Subscription(ours),
            Resource::Secret(secret("acme", 1, "k1", 0)),
        ])
        .await;
    (whole, receiver)
}

/// The body of a request.
fn body(request: &str) -> &str {
    request.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn the_contract_judges_the_whole_answer() {
    let keys = r#"
acknowledge: response.json.ok == true
refuse: response.headers["x-why"] == "never"
retry: none
"#;
    let (whole, receiver) = node(keys, |_| ()).await;
    let key = whole.publish(1, "{}").await;
    let record = whole.attempts(key, 1).await.remove(0);
    assert_eq!(record.outcome, Some(AttemptOutcome::Succeeded));
    assert_eq!(record.response, None, "of what was acknowledged nothing is kept");
    assert_eq!(record.contract_revision, record.configuration_revision);

    // Far behind what the log keeps: the contract sees it, the log does not.
    let padded = format!("{{\"pad\":\"{}\",\"ok\":true}}", "x".repeat(60_000));
    receiver.will(answer(500, &padded));
    let key = whole.publish(1, "{}").await;
    let record = whole.attempts(key, 1).await.remove(0);
    assert_eq!((record.outcome, record.status), (Some(AttemptOutcome::Succeeded), 500));

    receiver.will(answer(200, "{\"ok\":false}"));
    let key = whole.publish(1, "{}").await;
    let record = whole.attempts(key, 1).await.remove(0);
    assert_eq!(record.outcome, Some(AttemptOutcome::Failed));
    assert_eq!(record.end.unwrap().reason, Some(EndReason::AttemptsExhausted));
    assert_eq!(record.error_class, Some(ErrorClass::Status));
    assert_eq!(record.response.unwrap().body, b"{\"ok\":false}");

    let refused = b"HTTP/1.1 200 x\r\nX-Why: never\r\ncontent-length: 2\r\n\r\n{}";
    receiver.will(crate::testing::receiver::Answer::Bytes(refused.as_slice().into()));
    let key = whole.publish(1, "{}").await;
    let record = whole.attempts(key, 1).await.remove(0);
    assert_eq!(record.end.unwrap().reason, Some(EndReason::Refused));
}

#[tokio::test]
async fn what_was_signed_into_the_body_is_sent_with_the_credential() {
    let keys = r#"
body: { n: "${attempt.number}", d: "${event.data}", plan: "${tenant.labels.?plan.orValue('')}" }
headers: { x-contract: "1" }
signatures: [{ name: s, algorithm: hmac_sha256, body: sig }]
"#;
    let own = |ours: &mut Subscription| {
        ours.auth = Auth::Bearer { token: sealed(&ours.name(), "t0ken") };
        ours.headers = vec![("x-own".into(), "1".into())];
    };
    let (whole, receiver) = node(keys, own).await;
    let key = whole.publish(1, "{\"a\": 1.0}").await;
    let record = whole.attempts(key, 1).await.remove(0);
    assert_eq!(record.secrets.len(), 1);
    let request = receiver.seen().remove(0);
    let start = r#"{"n":1,"d":{"a": 1.0},"plan":"","sig":""#;
    assert!(body(&request).starts_with(start), "{request}");
    let lines = ["x-contract: 1", "authorization: Bearer t0ken", "x-own: 1"];
    let places = lines.map(|line| request.find(&format!("\r\n{line}\r\n")).expect(line));
    assert!(places.is_sorted(), "{request}");
}

#[tokio::test]
async fn subscriptions_share_a_body_and_sign_it_each_with_its_own_key() {
    let keys = "signatures: [{ name: s, algorithm: hmac_sha256, body: sig }]";
    let (whole, receiver) = node(keys, |_| ()).await;
    let mut other = subscription("acme", 2, &["*"]);
    other.url = receiver.url();
    other.contract = ContractId::parse("mine").unwrap();
    whole.write(&[Resource::Subscription(other)]).await;
    let key = whole.publish(1, "{\"a\":1}").await;
    whole.attempts(key, 1).await;
    receiver.saw(2).await;
    let seen = receiver.seen();
    let mut bodies: Vec<&str> = seen.iter().map(|request| body(request)).collect();
    bodies.sort_by_key(|body| body.len());
    assert_eq!(bodies[0], "{\"a\":1}", "the second subscription has no key");
    assert!(bodies[1].starts_with("{\"a\":1,\"sig\":\""), "{}", bodies[1]);
}

#[tokio::test]
async fn a_pending_delivery_goes_on_under_the_contract_as_it_is_now() {
    let keys = |n: u8| format!("body: {n}\nretry: {{ delays: [1s], from: end }}");
    let (whole, receiver) = node(&keys(1), |_| ()).await;
    receiver.will(answer(500, ""));
    let key = whole.publish(1, "{}").await;
    let first = whole.attempts(key, 1).await.remove(0);
    let revision = whole.write(&[contract("mine", &keys(2))]).await;
    receiver.will(answer(200, ""));
    // The shortest delay that a contract may have passes: a second.
    let second = whole.attempts(key, 2).await.remove(1);
    assert_eq!((second.number, second.contract_revision), (2, revision));
    assert!(first.contract_revision < revision);
    let seen = receiver.seen();
    assert_eq!(seen.iter().map(|it| body(it)).collect::<Vec<_>>(), ["1", "2"]);
}

#[tokio::test]
async fn what_a_receiver_echoes_is_kept_without_credentials_and_sensitive_values() {
    let keys = "sensitive: [event.data.card]\nretry: none\nheaders: { x-contract: plain-text }";
    let own = |ours: &mut Subscription| {
        let (username, password) = ("shop".into(), sealed(&ours.name(), "pa55word"));
        ours.auth = Auth::Basic { username, password };
        ours.headers = vec![("x-shop-key".into(), "k3y+val/ue".into())];
        ours.sensitive_paths = vec!["event.data.mail".into()];
    };
    let (whole, receiver) = node(keys, own).await;
    let Resource::EventType(mut kind) = event_type("a.b", "") else { unreachable!() };
    kind.sensitive_paths = vec!["event.data.born".into()];
    whole.write(&[Resource::EventType(kind)]).await;
    let base64 = |text: &[u8]| data_encoding::BASE64.encode(text);
    let pair = base64(b"shop:pa55word");
    let echo = [
        format!("authorization: Basic {pair}"),
        "password pa55word".into(),
        format!("in base64 {}", base64(b"pa55word")),
        "k3y+val/ue and k3y+val\\/ue".into(),
        format!("signed with {}", base64(&[7; 32])),
        r#"{"card":[4111222233334444],"mail":"ada@example.org","born":"1815-12-10","id":123456}"#
            .into(),
        "plain-text".into(),
    ];
    let echo = echo.join("\n");
    let head = format!("HTTP/1.1 500 x\r\nx-echo: Basic {pair}\r\ncontent-length: {}", echo.len());
    let bytes = format!("{head}\r\n\r\n{echo}").into_bytes();
    receiver.will(crate::testing::receiver::Answer::Bytes(bytes.into()));
    let data =
        r#"{"card":[4111222233334444],"mail":"ada@example.org","born":"1815-12-10","id":123456}"#;
    let key = whole.publish(1, data).await;
    let record = whole.attempts(key, 1).await.remove(0);
    let kept = record.response.unwrap();
    let want = [
        "authorization: [redacted]",
        "password [redacted]",
        "in base64 [redacted]",
        "[redacted] and [redacted]",
        "signed with [redacted]",
        r#"{"card":[[redacted]],"mail":"[redacted]","born":"[redacted]","id":123456}"#,
        "plain-text",
    ];
    let body = String::from_utf8(kept.body).unwrap();
    assert_eq!(body.lines().collect::<Vec<_>>(), want.map(|line| line));
    assert!(kept.headers.contains(&("x-echo".to_owned(), "[redacted]".to_owned())));
}

#[tokio::test]
async fn without_a_token_nothing_is_shown_as_sent_and_the_lane_waits() {
    // It has no token to give.
    let endpoint = Receiver::answering(200, "{}").await;
    let (whole, receiver) = node("", |ours| {
        ours.auth = Auth::Oauth2 {
            token_url: endpoint.url(),
            client_id: "shop".into(),
            client_secret: sealed(&ours.name(), "pa55word"),
            scopes: Vec::new(),
            audience: String::new(),
            style: Oauth2Style::Basic,
        };
        ours.headers = vec![("x-shop".into(), "7".into())];
    })
    .await;
    let key = whole.publish(1, "{}").await;
    let first = whole.attempts(key, 1).await.remove(0);
    assert_eq!(first.error_class, Some(ErrorClass::Token));
    assert_eq!(first.reason, "token endpoint: the answer has no token_type");
    assert_eq!((first.outcome, first.headers.len()), (Some(AttemptOutcome::Retry), 0));
    // What comes while the lane is closed is not attempted before the endpoint may be asked again.
    let key = whole.publish(1, "{}").await;
    let next = whole.attempts(key, 1).await.remove(0);
    let apart = next.start.since(first.start);
    assert!(apart >= std::time::Duration::from_millis(950), "{apart:?}");
    assert!(receiver.seen().is_empty());
}

#[tokio::test]
async fn what_goes_out_together_fails_alone_where_it_cannot_and_is_kept_from_the_others() {
    let keys = r#"
body: [{ a: "${event.data.a}" }]
headers: { x-to: "${event.data.?to.orValue('')}" }
sensitive: [event.data.name]
batch: { max_events: 3, max_wait: 10s }
retry: none
"#;
    let (whole, receiver) = node(keys, |_| ()).await;
    receiver.will(answer(400, "Ana Juan Perez, Juan"));
    let unsayable = whole.publish(1, r#"{"a":1,"to":"ñ","name":"Eva"}"#).await;
    let first = whole.publish(1, r#"{"a":2,"to":"a","name":"Juan"}"#).await;
    let second = whole.publish(1, r#"{"a":3,"to":"b","name":"Ana Juan Perez"}"#).await;
    let record = whole.attempts(unsayable, 1).await.remove(0);
    assert_eq!(record.end.unwrap().reason, Some(EndReason::RenderFailed));
    // The answer is kept once, for it may echo each of them.
    for (key, body) in [(first, "[redacted], [redacted]"), (second, "")] {
        let record = whole.attempts(key, 1).await.remove(0);
        assert_eq!((record.key, record.status), (key, 400));
        let kept = record.response.unwrap();
        assert_eq!((kept.body.as_slice(), kept.truncated), (body.as_bytes(), body.is_empty()));
    }
    let requests = receiver.seen();
    assert_eq!(requests.len(), 1);
    assert_eq!(body(&requests[0]), r#"[{"a":2},{"a":3}]"#);
    assert!(requests[0].contains("\r\nx-to: a\r\n"));
}
