//! Nothing that is a secret, or may be one, leaves with telemetry or stands in the log.

use serde_json::json;

use super::{contract, under};
use crate::harness::shop::Shop;
use crate::harness::{Answer, Caller, Collector, Env, Receiver, Request, Standalone};

/// What must not be seen anywhere, by where it was put.
const DATA: &str = "canary-in-the-data";
const QUERY: &str = "canary-in-the-query";
const HEADER: &str = "canary-in-a-header";
const BEARER: &str = "canary-in-the-authentication";
const KEY: &str = "canary-in-the-key-of-a-subscription";
const ANSWER: &str = "canary-in-the-answer";
const OTLP: &str = "canary-for-the-collector";
const GRANT: &str = "canary-in-the-client-secret";
const TOKEN: &str = "canary-in-the-fetched-token";
const SECRET: &str = "whsec_Y2FuYXJ5LWluLXRoZS1zZWNyZXQtY2FuYXJ5LTMy";

#[tokio::test]
async fn canaries_are_seen_by_the_receiver_and_nobody_else() {
    let collector = Collector::start().await;
    let header = format!("x-collector={OTLP}");
    let env = Env::to(&collector).with("OTEL_EXPORTER_OTLP_HEADERS", &header);
    let args = ["--in-memory", "--log", "debug"];
    let mut pregon = Standalone::telling(&args, None, &env).await;
    let granted = json!({"access_token": TOKEN, "token_type": "Bearer"}).to_string();
    let receiver = Receiver::start(move |request: &Request| match request.path() {
        "/bad" => Answer::Body(500, ANSWER.into()),
        "/asked" => Answer::Body(200, ANSWER.into()),
        "/token" => Answer::Body(200, granted.clone()),
        // It refuses the token that it was given, twice: the retry comes a second after the first
        // token was fetched, so it has another fetched and goes out once more with that.
        "/granted" if request.earlier < 2 => Answer::Status(401),
        _ => Answer::Status(204),
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    shop.grpc = Caller::new(0xa1).through(&shop.grpc);
    contract(&mut shop, "quick", "").await;
    for id in ["good", "bad"] {
        let mut fields = under("quick", &receiver.url(&format!("/{id}?token={QUERY}")));
        fields["headers"] = json!([{"name": "x-custom", "value": HEADER}]);
        fields["auth"] = json!({"bearer": {"token": BEARER}});
        shop.subscribe_with(id, fields).await;
    }
    let signed = json!({"url": receiver.url(&format!("/signed?token={QUERY}")),
        "auth": {"api_key": {"header": "x-api-key", "value": KEY}}});
    shop.subscribe_with("signed", signed).await;
    let parent = "tenants/acme/subscriptions/signed";
    let imported = json!({"parent": parent, "secret": {"material": SECRET}});
    shop.write("SecretService/CreateSecret", imported).await;
    let grant = json!({"oauth2": {"token_url": receiver.url("/token"), "client_id": "us",
        "client_secret": GRANT}});
    let mut fields = under("quick", &receiver.url("/granted"));
    fields["auth"] = grant;
    shop.subscribe_with("granted", fields).await;
    // Nobody asks for the certificate there: its key is loaded, and TLS fails.
    let made = rcgen::generate_simple_self_signed(vec!["us.test".to_owned()]).unwrap();
    let key = made.signing_key.serialize_pem();
    let plain = receiver.url("/never").replace("http:", "https:");
    let mut fields = under("quick", &plain);
    fields["auth"] = json!({"mtls": {"certificate_pem": made.cert.pem(), "key_pem": key}});
    shop.subscribe_with("certified", fields).await;
    // A host that nobody listens at: its error names what could not be reached.
    let mut closed = under("quick", &format!("http://127.0.0.1:9/closed?token={QUERY}"));
    closed["auth"] = json!({"bearer": {"token": BEARER}});
    shop.subscribe_with("closed", closed).await;
    let callback = json!({"parent": "tenants/acme", "callback_id": "login", "callback": {
        "url": receiver.url(&format!("/asked?token={QUERY}")), "auth": {"bearer": {"token": BEARER}}}});
    shop.write("CallbackService/CreateCallback", callback).await;
    shop.served().await;

    let data = json!({"card": DATA}).to_string();
    shop.publish("o1", &data).await;
    let ask = json!({"callback": "tenants/acme/callbacks/login", "json": data,
        "min_revision": shop.revision});
    shop.grpc.ok("CheckService/Check", ask).await;
    let test = json!({"name": parent, "event": {"type": "order.captured", "json": data}});
    shop.grpc.ok("SubscriptionService/TestSubscription", test).await;
    shop.settled().await;
    let sent = receiver.requests("/good").remove(0);
    assert!(sent.text().contains(DATA) && sent.target.contains(QUERY), "{sent:?}");
    assert_eq!(
        (sent.header("x-custom"), sent.header("authorization")),
        (HEADER, &*format!("Bearer {BEARER}"))
    );
    let sent = receiver.requests("/signed").remove(0);
    assert_eq!(sent.header("x-api-key"), KEY);
    assert!(sent.header("webhook-signature").starts_with("v1,"), "{sent:?}");
    let basic = data_encoding::BASE64.encode(format!("us:{GRANT}").as_bytes());
    let asked = receiver.requests("/token");
    assert_eq!(asked.len(), 2, "once more after the 401");
    assert_eq!(asked[0].header("authorization"), format!("Basic {basic}"));
    let sent_with = receiver.requests("/granted").remove(0);
    assert_eq!(sent_with.header("authorization"), format!("Bearer {TOKEN}"));

    pregon.terminate().await;
    assert!(pregon.exit(std::time::Duration::from_secs(30)).await.success(), "{}", pregon.output());
    // One each of good and signed, two each of granted, bad, closed and certified.
    let all = |logs: &[_]| (logs.len() >= 10).then_some(());
    collector.logs_with("records of all attempts", all).await;
    collector
        .spans_with("spans", |spans| spans.iter().any(|it| it.name == "POST").then_some(()))
        .await;
    collector.points_with("metrics", |points| (!points.is_empty()).then_some(())).await;
    let (files, said) = (collector.files(), pregon.output());
    let (material, signature) = (&SECRET["whsec_".len()..], sent.header("webhook-signature"));
    let raw = "canary-in-the-secret-canary-32";
    // A line of the key's base64, and what the client shows of its secret.
    let pem = key.lines().nth(1).unwrap();
    let fetched = [GRANT, TOKEN, &basic, pem];
    let put = [DATA, QUERY, HEADER, BEARER, KEY, ANSWER, OTLP, material, raw, signature];
    for canary in put.into_iter().chain(fetched) {
        for (place, text) in [("what the collector got", &files), ("the log", &said)] {
            let at = text.find(canary);
            let around = at.map(|at| &text[at.saturating_sub(200)..(at + 60).min(text.len())]);
            assert_eq!(around, None, "{canary} is in {place}");
        }
    }
}
