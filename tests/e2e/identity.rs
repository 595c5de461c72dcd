//! Who the receiver is, and who Pregón is to it: certificates against nginx, and tokens of an
//! authorization server, both of which others wrote.

use std::sync::{Arc, Mutex};

use data_encoding::HEXLOWER;
use pregon_core::tls::Pin;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};

use crate::harness::issuer::Issuer;
use crate::harness::nginx::{Nginx, VERSIONS};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::shop::{Shop, subscription};
use crate::harness::{Request, World, eventually};
use crate::on_both;

on_both!(
    certificates_are_shown_to_nginx_and_nginxs_are_believed_as_said,
    a_token_is_fetched_used_spent_and_told_to_nobody,
);

/// An authority of this name.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate of an authority and its key, in PEM. OpenSSL takes one for self-signed whose subject
/// is its issuer, so it has a name of its own.
fn pair(authority: &CertifiedIssuer<'static, KeyPair>, name: &str) -> [String; 2] {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    [params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem()]
}

/// What `openssl req -x509` makes: self-signed, an authority by its own word, for another name.
fn self_signed() -> (String, String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["elsewhere.test".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let made = params.self_signed(&key).unwrap();
    (made.pem(), key.serialize_pem(), Pin::of(made.der()).to_string())
}

/// The last attempt at the delivery of an event to a subscription, once there is one in that state.
async fn attempt(shop: &Shop, event: &str, id: &str, state: &str) -> Value {
    let delivery = shop.delivery(event, id, state).await;
    eventually(&format!("there is an attempt of {event} for {id}"), || async {
        shop.attempts(&delivery).await.pop().ok_or("none")
    })
    .await
}

/// Creates a callback and asks it.
async fn ask(shop: &mut Shop, id: &str, url: &str, auth: &Value) -> Value {
    let callback = json!({"url": url, "auth": auth});
    let request = json!({"parent": "tenants/acme", "callback_id": id, "callback": callback});
    shop.write("CallbackService/CreateCallback", request).await;
    let name = format!("tenants/acme/callbacks/{id}");
    let request = json!({"callback": name, "json": "{}", "min_revision": shop.revision});
    shop.grpc.ok("CheckService/Check", request).await
}

async fn certificates_are_shown_to_nginx_and_nginxs_are_believed_as_said<W: World>() {
    let pregon = W::in_memory().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let [theirs, clients, strangers] = ["theirs", "clients", "strangers"].map(authority);
    let [certificate, key] = pair(&theirs, "server");
    let ca = theirs.pem();
    let nginx = Nginx::start([&certificate, &key], Some(&clients.pem())).await;
    let [ours, our_key] = pair(&clients, "client");
    let own = json!({"ca_pem": ca, "mtls": {"certificate_pem": ours, "key_pem": our_key}});
    let [other, other_key] = pair(&strangers, "stranger");
    let stranger = json!({"ca_pem": ca, "mtls": {"certificate_pem": other, "key_pem": other_key}});
    for version in 0..VERSIONS.len() {
        for (kind, auth) in [
            ("own", own.clone()),
            ("stranger", stranger.clone()),
            ("nobody", json!({"ca_pem": ca})),
            ("public", json!({"none": {}})),
        ] {
            let id = format!("{kind}{version}");
            let url = nginx.url(version, &format!("/{id}"));
            let made = shop.subscribe_with(&id, json!({"url": url, "auth": auth})).await;
            assert!(!made.to_string().contains("PRIVATE KEY"), "a key is shown: {made}");
        }
    }
    shop.served().await;
    shop.publish("e1", "{}").await;
    for (version, name) in VERSIONS.iter().enumerate() {
        attempt(&shop, "e1", &format!("own{version}"), "SUCCEEDED").await;
        let id = format!("own{version}");
        assert!(nginx.log().contains(&format!("{name} SUCCESS ")), "{}", nginx.log());
        assert!(nginx.log().contains(&format!(" 204 /{id}")), "{}", nginx.log());
        let refused = attempt(&shop, "e1", &format!("public{version}"), "PENDING").await;
        assert_eq!(refused["errorClass"], "ERROR_CLASS_TLS", "{refused}");
        let why = refused["reason"].as_str().unwrap();
        assert!(why.starts_with("the certificate's issuer is unknown: "), "{why}");
        // nginx takes the handshake and answers 400 to whom it does not let in.
        for kind in ["stranger", "nobody"] {
            let refused = attempt(&shop, "e1", &format!("{kind}{version}"), "PENDING").await;
            assert_eq!(refused["response"]["status"], 400, "{refused}");
        }
        let allowed =
            ask(&mut shop, &format!("ask{version}"), &nginx.url(version, "/ask"), &own).await;
        assert_eq!(allowed["allowed"], true, "{allowed}");
        let request = json!({
            "name": subscription(&id), "event": {"type": "order.captured", "json": "{}"},
        });
        let tested = shop.grpc.ok("SubscriptionService/TestSubscription", request).await;
        assert_eq!(tested["attempt"]["response"]["status"], 204, "{tested}");
    }

    let (certificate, key, pin) = self_signed();
    let nginx = Nginx::start([&certificate, &key], None).await;
    let another = HEXLOWER.encode(&[7; 32]);
    for version in 0..VERSIONS.len() {
        let url = nginx.url(version, "/pinned");
        let pinned = |pin: &str| json!({"url": url, "auth": {"pinned_sha256": [pin]}});
        shop.subscribe_with(&format!("pinned{version}"), pinned(&pin)).await;
        shop.subscribe_with(&format!("changed{version}"), pinned(&another)).await;
    }
    shop.served().await;
    shop.publish("e2", "{}").await;
    for version in 0..VERSIONS.len() {
        attempt(&shop, "e2", &format!("pinned{version}"), "SUCCEEDED").await;
        let refused = attempt(&shop, "e2", &format!("changed{version}"), "PENDING").await;
        assert_eq!(refused["errorClass"], "ERROR_CLASS_TLS", "{refused}");
        assert!(refused["reason"].as_str().unwrap().contains(&pin), "{refused}");
    }
    for line in our_key.lines().filter(|line| !line.starts_with('-')) {
        assert!(!pregon.output().contains(line), "a key is in the log");
    }
}

const CLIENT: &str = "shop:1";
const SECRET: &str = "hush hush+%-SECRET";

fn grant(url: &str, style: &str) -> Value {
    json!({"oauth2": {
        "token_url": url, "client_id": CLIENT, "client_secret": SECRET,
        "scopes": ["send", "orders:write"], "style": format!("OAUTH2_STYLE_{style}"),
    }})
}

async fn a_token_is_fetched_used_spent_and_told_to_nobody<W: World>() {
    let pregon = W::in_memory().await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let basic = Issuer::start(CLIENT, SECRET, "client_secret_basic", 3600).await;
    let post = Issuer::start(CLIENT, SECRET, "client_secret_post", 3600).await;
    let revoked: Arc<Mutex<Vec<String>>> = Arc::default();
    let refuses = Arc::clone(&revoked);
    // It answers with what it got, as broken receivers do.
    let receiver = Receiver::start(move |request: &Request| {
        let header = request.header("authorization");
        let token = header.strip_prefix("Bearer ").unwrap_or_default();
        let taken = !token.is_empty() && !refuses.lock().unwrap().iter().any(|it| it == token);
        match (taken, request.path()) {
            (false, _) => Answer::Body(401, format!("not {token}")),
            (true, "/ask") => Answer::Body(200, "true".to_owned()),
            (true, "/echo") => Answer::Body(500, format!("got {token}")),
            (true, _) => Answer::Status(204),
        }
    })
    .await;
    let url = |id: &str| receiver.url(&format!("/{id}"));
    for (id, issuer, style) in
        [("basic", &basic, "BASIC"), ("post", &post, "POST"), ("echo", &basic, "BASIC")]
    {
        let auth = grant(&issuer.token_url(), style);
        let made = shop.subscribe_with(id, json!({"url": url(id), "auth": auth})).await;
        assert!(!made.to_string().contains("SECRET"), "{made}");
    }
    shop.served().await;
    shop.publish("e1", "{}").await;
    for (id, issuer) in [("basic", &basic), ("post", &post)] {
        attempt(&shop, "e1", id, "SUCCEEDED").await;
        let request = receiver.requests(&format!("/{id}")).remove(0);
        let granted = issuer.tokens().into_iter();
        let mut bearers = granted.map(|(token, scope)| (format!("Bearer {token}"), scope));
        let own = bearers.find(|(bearer, _)| bearer == request.header("authorization"));
        assert_eq!(own.expect("a token of the issuer's").1, "send orders:write");
    }
    let echoed = attempt(&shop, "e1", "echo", "PENDING").await;
    assert_eq!(echoed["response"]["status"], 500, "{echoed}");

    // What the receiver revokes is fetched anew.
    revoked.lock().unwrap().extend(basic.tokens().into_iter().map(|(token, _)| token));
    shop.publish("e2", "{}").await;
    shop.delivery("e2", "basic", "SUCCEEDED").await;
    let last = receiver.requests("/basic").pop().unwrap();
    let token = last.header("authorization").strip_prefix("Bearer ").unwrap().to_owned();
    assert!(!revoked.lock().unwrap().contains(&token), "{token} is revoked");

    let auth = grant(&basic.token_url(), "BASIC");
    let allowed = ask(&mut shop, "ask", &url("ask"), &auth).await;
    assert_eq!(allowed["allowed"], true, "{allowed}");
    let request =
        json!({"name": subscription("post"), "event": {"type": "order.captured", "json": "{}"}});
    let tested = shop.grpc.ok("SubscriptionService/TestSubscription", request).await;
    assert_eq!(tested["attempt"]["response"]["status"], 204, "{tested}");

    // A token that is not to be had is not the receiver's fault, and costs no attempt.
    let mut wrong = grant(&basic.token_url(), "BASIC");
    wrong["oauth2"]["client_secret"] = json!("another-SECRET");
    let closed = grant("http://127.0.0.1:9/token", "BASIC");
    for (id, auth) in [("wrong", &wrong), ("closed", &closed)] {
        shop.subscribe_with(id, json!({"url": url(id), "auth": auth})).await;
    }
    shop.served().await;
    shop.publish("e3", "{}").await;
    for (id, why) in [("wrong", "answered 401 invalid_client"), ("closed", "connection refused")] {
        let failed = attempt(&shop, "e3", id, "PENDING").await;
        assert_eq!(failed["errorClass"], "ERROR_CLASS_TOKEN", "{failed}");
        assert!(failed["reason"].as_str().unwrap().contains(why), "{failed}");
        assert_eq!(shop.delivery("e3", id, "PENDING").await["attemptCount"], 0);
        assert_eq!(receiver.requests(&format!("/{id}")).len(), 0);
    }
    assert!(basic.refusals() > 0);
    for id in ["wrong", "closed"] {
        let auth = grant(&basic.token_url(), "BASIC");
        let update = json!({"subscription": {"name": subscription(id), "auth": auth}});
        shop.write("SubscriptionService/UpdateSubscription", update).await;
        assert_eq!(shop.delivery("e3", id, "SUCCEEDED").await["attemptCount"], 1);
    }

    let tokens = basic.tokens().into_iter().chain(post.tokens());
    let hidden: Vec<_> = tokens.map(|(token, _)| token).chain(["SECRET".to_owned()]).collect();
    let mut shown = pregon.output();
    for (event, id) in [("e1", "echo"), ("e2", "basic"), ("e3", "wrong")] {
        for state in ["PENDING", "SUCCEEDED"] {
            let filters = json!({
                "event": format!("tenants/acme/events/{event}"),
                "subscription": subscription(id), "state": format!("DELIVERY_STATE_{state}"),
            });
            for delivery in shop.deliveries(filters).await {
                for attempt in shop.attempts(&delivery).await {
                    let request = json!({"name": attempt["name"]});
                    let whole = shop.grpc.ok("DeliveryService/GetAttempt", request).await;
                    shown.push_str(&whole.to_string());
                }
            }
        }
    }
    shown.push_str(&tested.to_string());
    assert!(shown.contains("got [redacted]"), "the receiver's answer is not shown: {shown}");
    for text in hidden {
        assert!(!shown.contains(&text), "a credential is shown: {text}");
    }
}
