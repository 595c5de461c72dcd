//! What the receiver sees.

use pregon_core::model::Auth;

use super::*;

/// The lines of a request's head behind the first, and its body.
fn parts(request: &str) -> (Vec<String>, String) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    (head.lines().skip(1).map(str::to_owned).collect(), body.to_owned())
}

/// Asks once and answers with what the receiver saw.
async fn seen_of(callback: Callback, more: &[Resource]) -> (Vec<String>, String) {
    let receiver = Receiver::answering(200, "true").await;
    let node = Node::start(&Callback { url: receiver.url(), ..callback }).await;
    if !more.is_empty() {
        node.write(more).await;
    }
    assert!(node.ask().await.allowed);
    parts(&receiver.seen()[0])
}

fn position(head: &[String], line: &str) -> usize {
    let found = head.iter().position(|other| other == line);
    found.unwrap_or_else(|| panic!("no {line:?} in {head:?}"))
}

#[tokio::test]
async fn the_data_goes_out_as_it_was_given() {
    let receiver = Receiver::answering(200, "true").await;
    let node = Node::start(&auth(&receiver.url())).await;
    let json = "{\"b\" : 1.0,\n\"a\":12345678901234567890}";
    let exact = v1::CheckRequest { data: Some(Data::Json(json.into())), ..request() };
    assert!(node.check(exact).await.unwrap().allowed);
    let field = |text: &str| prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue(text.into())),
    };
    let fields = [("b".to_owned(), field("1")), ("a".to_owned(), field("2"))].into();
    let object = Some(Data::Object(prost_types::Struct { fields }));
    assert!(node.check(v1::CheckRequest { data: object, ..request() }).await.unwrap().allowed);
    let bodies: Vec<String> = receiver.seen().iter().map(|seen| parts(seen).1).collect();
    assert_eq!(bodies, [json, r#"{"a":"2","b":"1"}"#]);
    let (head, _) = parts(&receiver.seen()[0]);
    position(&head, "content-type: application/json");
    position(&head, "user-agent: pregon-test");
}

#[tokio::test]
async fn the_crypto_onramp_asks_about_an_email_and_signs_in_the_body() {
    let ask = |contract: &str| Callback {
        contract: contract_id(contract),
        ..auth("http://127.0.0.1:1/")
    };
    let (_, body) = seen_of(ask("crypto_onramp"), &[]).await;
    assert_eq!(body, r#"{"email":"ada@acme.example"}"#);
    let key = Resource::Secret(callback_secret(&ask("crypto_onramp"), "k1"));
    let (_, body) = seen_of(ask("crypto_onramp"), &[key]).await;
    let start = r#"{"email":"ada@acme.example","signature":""#;
    let signature = body.strip_prefix(start).and_then(|rest| rest.strip_suffix("\"}"));
    let signature = signature.unwrap_or_else(|| panic!("{body}"));
    assert_eq!(signature.len(), 64, "{body}");
    assert!(signature.bytes().all(|b| b.is_ascii_hexdigit()), "{body}");
}

#[tokio::test]
async fn a_contracts_callback_sees_check_tenant_and_callback() {
    let rule = r#"
callback:
  body: { id: "${check.id}", at: "${int(check.time)}", who: "${tenant.id}/${callback.id}", plan: "${tenant.labels.plan}", kind: "${callback.labels.kind}" }
  headers: { x-check: "${check.id}" }
"#;
    let receiver = Receiver::answering(200, "true").await;
    let mut ours = auth(&receiver.url());
    ours.contract = contract_id("mine");
    ours.common.labels.insert("kind".into(), "login".into());
    let mut acme = tenant("acme");
    acme.common.labels.insert("plan".into(), "gold".into());
    let node = Node::unready();
    let all = [contract("mine", rule), Resource::Tenant(acme), Resource::Callback(ours)];
    node.write(&all).await;
    let response = node.ask().await;
    let (head, body) = parts(&receiver.seen()[0]);
    let id = &response.check;
    let expected = format!(
        r#"{{"id":"{id}","at":1700000000,"who":"acme/auth","plan":"gold","kind":"login"}}"#
    );
    assert_eq!(body, expected);
    position(&head, &format!("x-check: {id}"));
}

#[tokio::test]
async fn credentials_stand_between_the_contracts_headers_and_the_callbacks_own() {
    let name = auth("http://127.0.0.1:1/").name();
    let sealed = |text| sealed(&name, text);
    let basic = "authorization: Basic YWRhOnMzY3JldA==";
    let kinds = [
        (Auth::Bearer { token: sealed("t0ken") }, "authorization: Bearer t0ken"),
        (Auth::Basic { username: "ada".into(), password: sealed("s3cret") }, basic),
        (Auth::ApiKey { header: "x-key".into(), value: sealed("k3y") }, "x-key: k3y"),
    ];
    for (auth_kind, line) in kinds {
        let own = vec![("x-own".to_owned(), "1".into())];
        let ours = Callback { auth: auth_kind, headers: own, ..auth("http://127.0.0.1:1/") };
        let (head, _) = seen_of(ours, &[]).await;
        let order = ["user-agent: pregon-test", line, "x-own: 1"].map(|it| position(&head, it));
        assert!(order.is_sorted(), "{head:?}");
    }
}

#[tokio::test]
async fn a_credential_that_does_not_open_refuses_the_callback() {
    let receiver = Receiver::answering(200, "true").await;
    let good = auth(&receiver.url());
    let node = Node::start(&good).await;
    let elsewhere = callback("acme", "other", &receiver.url()).name();
    let token = sealed(&elsewhere, "t0ken");
    node.write(&[Resource::Callback(Callback { auth: Auth::Bearer { token }, ..good })]).await;
    let refused = node.service.0.configuration.refused();
    assert_eq!(refused[0].resource, "tenants/acme/callbacks/auth");
    assert!(refused[0].reason.starts_with("auth: "), "{}", refused[0].reason);
    assert!(node.ask().await.allowed, "the last good one stays");
    assert!(!receiver.seen()[0].contains("authorization"));
}
