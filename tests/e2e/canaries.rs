//! What is a secret is found nowhere but at its receiver, and where a call exists to show it.
//!
//! A canary is put into every field that takes a credential, into credentials themselves, and into
//! requests that are wrong. Then the store's files, what was said, every answer of the API and the
//! audit log are looked through, for each canary as it is, in hex and in base64.

use std::time::Duration;

use data_encoding::{BASE64, BASE64URL, HEXLOWER, HEXUPPER};
use serde_json::{Value, json};

use crate::harness::shop::Shop;
use crate::harness::{Answer, Grpcurl, Receiver, Request, World};
use crate::on_both;

on_both!(canaries_are_found_nowhere);

/// A canary of 24 bytes, of which each shows what it was put into.
fn canary(of: &str) -> String {
    format!("CANARY{of:-<18}")
}

/// Every way that a text could stand somewhere: as it is, in hex, and in base64, wherever in the
/// encoded text it begins.
fn forms(canary: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![
        canary.as_bytes().to_vec(),
        HEXLOWER.encode(canary.as_bytes()).into_bytes(),
        HEXUPPER.encode(canary.as_bytes()).into_bytes(),
    ];
    for before in 0..3 {
        let padded = [&vec![0; before][..], canary.as_bytes()].concat();
        for encoding in [BASE64, BASE64URL] {
            let text = encoding.encode(&padded[..padded.len() / 3 * 3]);
            // The first characters hold bits of what is before.
            forms.push(text.into_bytes().split_off(before.div_ceil(3) * 4));
        }
    }
    forms
}

/// Where in a text a canary is, with what is around it.
fn found(text: &[u8], canary: &str) -> Option<String> {
    let finders = forms(canary);
    let at = finders
        .iter()
        .find_map(|form| text.windows(form.len()).position(|part| part == form.as_slice()))?;
    let around = &text[at.saturating_sub(120)..(at + 120).min(text.len())];
    Some(String::from_utf8_lossy(around).into_owned())
}

#[test]
fn each_form_of_a_canary_is_found() {
    let it = canary("here");
    for before in 0..5 {
        let text = [&vec![b'x'; before][..], it.as_bytes(), b"yz"].concat();
        assert!(found(&text, &it).is_some());
        for encoded in [HEXLOWER.encode(&text), HEXUPPER.encode(&text)] {
            assert!(found(encoded.as_bytes(), &it).is_some(), "{encoded}");
        }
        for encoded in [BASE64.encode(&text), BASE64URL.encode(&text)] {
            assert!(found(encoded.as_bytes(), &it).is_some(), "{before} {encoded}");
        }
    }
    assert_eq!(found(b"CANARYelsewhere", &it), None);
}

/// The way that wants a receiver under TLS; its receiver is not there.
const MTLS: &str = "mtls";

/// Every way to identify oneself to a receiver, each with its own canary.
fn auths(of: &str, token_url: &str) -> Vec<(&'static str, Value, Vec<String>)> {
    let own = |kind: &str| canary(&format!("{kind}-{of}"));
    let grant = json!({"token_url": token_url, "client_id": "us", "client_secret": own("grant")});
    let made = rcgen::generate_simple_self_signed(vec!["us.test".to_owned()]).unwrap();
    let key = made.signing_key.serialize_pem();
    let certificate = json!({"certificate_pem": made.cert.pem(), "key_pem": key});
    vec![
        ("oauth2", json!({"oauth2": grant}), vec![own("grant"), canary("token")]),
        (MTLS, json!({"mtls": certificate}), vec![key.lines().nth(1).unwrap()[16..40].to_owned()]),
        ("bearer", json!({"bearer": {"token": own("bearer")}}), vec![own("bearer")]),
        (
            "basic",
            json!({"basic": {"username": "us", "password": own("basic")}}),
            vec![own("basic")],
        ),
        ("key", json!({"api_key": {"header": "x-api-key", "value": own("key")}}), vec![own("key")]),
    ]
}

/// Requests that are wrong where they hold a canary: the refusal does not repeat it.
fn wrong(canaries: &mut Vec<String>) -> Vec<(&'static str, Value)> {
    let mut own = |of: &str| {
        canaries.push(canary(of));
        canary(of)
    };
    let subscription = |fields: Value| {
        let mut subscription = json!({"url": "https://example.com/", "event_types": ["*"]});
        for (name, value) in fields.as_object().unwrap() {
            subscription[name] = value.clone();
        }
        json!({"parent": "tenants/acme", "subscription": subscription})
    };
    let create = "SubscriptionService/CreateSubscription";
    let parent = "tenants/acme/subscriptions/bearer";
    vec![
        (create, subscription(json!({"auth": {"bearer": {"token": format!("{} ", own("w1"))}}}))),
        (
            create,
            subscription(json!({"auth": {"basic":
                {"username": "u", "password": format!("{}\n", own("w2"))}}})),
        ),
        (
            create,
            subscription(json!({"auth": {"api_key":
                {"header": "x-key", "value": format!("{}\n", own("w3"))}}})),
        ),
        (
            create,
            subscription(
                json!({"headers": [{"name": "x-h", "value": format!("{}\n", own("w4"))}]}),
            ),
        ),
        (
            create,
            subscription(json!({"auth": {"oauth2":
                {"token_url": "nowhere", "client_id": "u", "client_secret": own("w10")}}})),
        ),
        (
            create,
            subscription(json!({"auth": {"mtls": {"certificate_pem": own("w11"), "key_pem":
                format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", own("w12"))}}})),
        ),
        (create, subscription(json!({"url": format!("https://u:{}@example.com/", own("w5"))}))),
        (
            "SecretService/CreateSecret",
            json!({"parent": parent, "secret": {"material": format!("whsec_{}!", own("w6"))}}),
        ),
        (
            "SecretService/CreateSecret",
            json!({"parent": parent, "secret": {"algorithm": "SECRET_ALGORITHM_RSA",
                "material": own("w7")}}),
        ),
        (
            "EventService/Publish",
            json!({"tenant": "tenants/acme", "event": {"type": "order.captured",
                "json": format!("{{\"card\": \"{}\", }}", own("w8"))}}),
        ),
        (
            "EventService/Publish",
            json!({"tenant": "tenants/acme", "event": {"type": "card.used",
                "json": json!({"card": own("w9")}).to_string()}}),
        ),
    ]
}

/// Every answer of a method that reads, over what the story has made.
async fn all_that_is_shown(grpc: &Grpcurl, events: &[&str]) -> Vec<(String, String)> {
    let mut reads: Vec<(String, Value)> = [
        "TenantService/ListTenants",
        "EventTypeService/ListEventTypes",
        "ContractService/ListContracts",
        "NodeService/ListNodes",
        "ApiKeyService/ListApiKeys",
        "AuditLogService/ListAuditEntries",
    ]
    .map(|method| (method.to_owned(), json!({"page_size": 500})))
    .into();
    for list in [
        "SubscriptionService/ListSubscriptions",
        "CallbackService/ListCallbacks",
        "DeliveryService/ListEvents",
        "DeliveryService/ListDeliveries",
        "DeliveryService/GetReconciliationReport",
    ] {
        reads.push((list.to_owned(), json!({"parent": "tenants/acme"})));
    }
    for event in events {
        let name = format!("tenants/acme/events/{event}");
        reads.push(("DeliveryService/ExplainEvent".to_owned(), json!({"name": name})));
    }
    let names = async |method: &str, field: &str| -> Vec<String> {
        let list = grpc.ok(method, json!({"parent": "tenants/acme"})).await;
        let list = list[field].as_array().expect("a list");
        list.iter().map(|it| it["name"].as_str().expect("a name").to_owned()).collect()
    };
    for name in names("SubscriptionService/ListSubscriptions", "subscriptions").await {
        let parent = json!({"parent": name});
        reads.push(("SecretService/ListSecrets".to_owned(), parent.clone()));
        reads.push(("SecretService/GetJwks".to_owned(), parent));
        reads.push(("SubscriptionService/GetSubscriptionHealth".to_owned(), json!({"name": name})));
    }
    for name in names("DeliveryService/ListDeliveries", "deliveries").await {
        reads.push(("DeliveryService/ListAttempts".to_owned(), json!({"parent": name})));
        let first = json!({"name": format!("{name}/attempts/1")});
        reads.push(("DeliveryService/GetAttempt".to_owned(), first));
    }
    let mut shown = Vec::new();
    for (method, request) in reads {
        let (messages, end) = grpc.stream(&method, &request).await;
        shown.push((format!("{method} {request}"), format!("{messages:?} {end:?}")));
    }
    shown
}

async fn canaries_are_found_nowhere<W: World>() {
    let mut pregon = W::on_disk(&["--log", "debug"]).await;
    // It sends back whatever it was sent.
    let receiver = Receiver::start(|request: &Request| {
        if request.path() == "/token" {
            let granted = json!({"access_token": canary("token"), "token_type": "bearer"});
            return Answer::Body(200, granted.to_string());
        }
        let names = ["authorization", "x-api-key", "x-custom-token"];
        let echo: Vec<_> = names.iter().map(|name| request.header(name).to_owned()).collect();
        Answer::Body(500, echo.join(" "))
    })
    .await;
    let mut shop = Shop::open(pregon.grpcurl()).await;
    let mut secrets: Vec<String> = Vec::new();
    let mut keys: Vec<String> = Vec::new();
    let mut owned = |of: String| {
        secrets.push(canary(&of));
        canary(&of)
    };
    let (mut subscriptions, mut callbacks) = (Vec::new(), Vec::new());
    for (into, of) in [(&mut subscriptions, "sub"), (&mut callbacks, "call")] {
        for (kind, auth, own) in auths(of, &receiver.url("/token")) {
            let header = owned(format!("h-{kind}-{of}"));
            keys.extend(own);
            let headers = json!([{"name": "x-custom-token", "value": header, "credential": true}]);
            let url = match kind {
                MTLS => "https://127.0.0.1:9/".to_owned(),
                kind => receiver.url(&format!("/{kind}")),
            };
            into.push((kind, json!({"url": url, "auth": auth, "headers": headers})));
        }
    }
    let card = json!({"event_type_id": "card.used", "event_type": {
        "json_schema": json!({"properties": {"card": {"type": "integer"}}}).to_string()}});
    shop.write("EventTypeService/CreateEventType", card).await;
    for (kind, fields) in subscriptions {
        shop.subscribe_with(kind, fields).await;
        let material = BASE64.encode(owned(format!("material-{kind}")).as_bytes());
        let secret = json!({"material": format!("whsec_{material}")});
        let create =
            json!({"parent": format!("tenants/acme/subscriptions/{kind}"), "secret": secret});
        shop.write("SecretService/CreateSecret", create).await;
    }
    for (kind, fields) in callbacks {
        let create = json!({"parent": "tenants/acme", "callback_id": kind, "callback": fields});
        shop.write("CallbackService/CreateCallback", create).await;
    }
    // What Pregón makes itself.
    let made = json!({"api_key": {"role": "API_KEY_ROLE_TENANT_MANAGER"}});
    let made = shop.grpc.ok("ApiKeyService/CreateApiKey", made).await;
    let key = made["key"].as_str().expect("the key").to_owned();
    let rotated = json!({"name": made["apiKey"]["name"]});
    let rotated = shop.grpc.ok("ApiKeyService/RotateApiKey", rotated).await;
    let newer = rotated["key"].as_str().expect("the key").to_owned();
    let lend = json!({"tenant": "tenants/acme", "user": "jane"});
    let lent = shop.grpc.ok("ApiKeyService/CreatePortalToken", lend).await;
    let portal = lent["token"].as_str().expect("the token").to_owned();
    shop.served().await;

    // Used: sent, refused, tested, asked, shown.
    shop.publish("o1", "{}").await;
    for (kind, ..) in auths("sub", "") {
        if kind != MTLS {
            receiver.expect(&format!("/{kind}"), 1).await;
        }
        let name = format!("tenants/acme/subscriptions/{kind}");
        let test = json!({"name": name, "event": {"type": "order.captured", "json": "{}"}});
        shop.grpc.ok("SubscriptionService/TestSubscription", test).await;
        let ask = json!({"callback": format!("tenants/acme/callbacks/{kind}"), "json": "{}",
            "min_revision": shop.revision});
        shop.grpc.ok("CheckService/Check", ask).await;
    }
    let mut errors = Vec::new();
    for (method, request) in wrong(&mut secrets) {
        let refused = shop.grpc.refused(method, request).await;
        errors.push((format!("{method}'s refusal"), format!("{refused:?}")));
    }
    let unknown = format!("pgk_{}", canary("credential"));
    let answer = shop.grpc.with_token(&unknown).call("TenantService/ListTenants", json!({})).await;
    errors.push(("an unknown credential".to_owned(), format!("{answer:?}")));
    secrets.push(canary("credential"));
    // Changed, so that the audit log has it before and after.
    let again = json!({"subscription": {"name": "tenants/acme/subscriptions/bearer",
        "auth": {"bearer": {"token": canary("another")}}}, "update_mask": {"paths": ["auth"]}});
    shop.write("SubscriptionService/UpdateSubscription", again).await;
    secrets.push(canary("another"));

    let mut places = all_that_is_shown(&shop.grpc, &["o1"]).await;
    assert!(places.len() > 25, "only {} answers", places.len());
    places.append(&mut errors);
    pregon.terminate().await;
    assert!(pregon.exit(Duration::from_secs(30)).await.success(), "{}", pregon.output());
    let kept = pregon.kept().await;
    assert!(found(&kept, "tenants/acme/subscriptions/bearer").is_some(), "the store was read");
    let said = pregon.output();
    // Each ends with what nobody can guess.
    secrets.extend([key, newer, portal].map(|whole| whole[whole.len() - 24..].to_owned()));
    assert!(secrets.len() + keys.len() > 40, "only {secrets:?} and {keys:?}");
    for canary in secrets.iter().chain(&keys) {
        let texts = places.iter().map(|(place, text)| (place.as_str(), text.as_bytes()));
        for (place, text) in texts.chain([("the store", &kept[..]), ("the log", said.as_bytes())]) {
            assert_eq!(found(text, canary), None, "{canary} is in {place}");
        }
    }
}
