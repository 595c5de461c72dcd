//! Values that a document says once.

use super::accepted::read;
use super::places::{headers, holds, keys, mac, sent};
use crate::contract::Contract;
use crate::contract::tests::{Around, event};

#[test]
fn a_name_is_what_it_stands_for() {
    let contract = read(
        r#"let:
  at: ${attempt.time.unixMillis()}
  first: ${event.data.?list[?0]}
  who: "shop ${event.tenant} of ${event.data.n}"
  claims: '{"iss":"${who}","at":${at}}'
body: { at: "${at}", who: "${who}", n: "${event.data.n}", list: "${first.orValue({})}", claims: "${claims}" }
headers: { x-claims: "${base64url(claims)}", x-more: "${size(who) + at}" }
acknowledge: response.body == who"#,
    );
    let signed = sent(&contract, r#"{"n":1.50,"list":[]}"#);
    let claims = r#"{\"iss\":\"shop acme of 1.5\",\"at\":1700000000999}"#;
    let expected = format!(
        r#"{{"at":1700000000999,"who":"shop acme of 1.5","n":1.50,"list":{{}},"claims":"{claims}"}}"#
    );
    assert_eq!(signed.body, expected);
    let base64 = data_encoding::BASE64URL_NOPAD.encode(claims.replace('\\', "").as_bytes());
    assert_eq!(headers(&signed), [("x-claims", &*base64), ("x-more", "1700000001015")]);

    let (event, around) = (event("e", r#"{"n":1}"#), Around::at(0));
    let body = bytes::Bytes::from_static(b"shop acme of 1");
    let answer = crate::contract::Answer { status: 500, headers: &[], body: &body };
    assert!(contract.judge(&answer, &around.input(&event)).acknowledged);
}

#[test]
fn a_token_says_its_claims_once_and_is_verified() {
    let contract = read(
        r#"let:
  head: ${base64url('{"alg":"HS256","typ":"JWT"}')}
  claims: ${base64url('{"iat":' + string(int(attempt.time)) + ',"sha256":"' + hex(sha256(request.body)) + '"}')}
signatures:
  - { algorithm: hmac_sha256, encoding: base64url, header: Authorization-Token, payload: "${head}.${claims}", each: "${head}.${claims}.${signature}" }"#,
    );
    let signed = sent(&contract, r#"{"a":1}"#);
    let token = headers(&signed)[0].1.split(',').next().unwrap();
    let (text, signature) = token.rsplit_once('.').unwrap();
    let bytes = data_encoding::BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
    assert_eq!(data_encoding::HEXLOWER.encode(&bytes), mac("new", text));
    assert!(text.starts_with("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."));
    assert_eq!(keys().iter().count(), 2);
}

#[test]
fn a_time_that_has_a_name_is_told_to_the_receiver() {
    let contract = read(
        r#"let: { at: "${attempt.time.unixMillis()}" }
signatures: [{ algorithm: hmac_sha256, header: x-s, prefix: "t=${at},", each: "v1=${signature}", payload: "${at}.${request.body}" }]"#,
    );
    holds(&contract, &sent(&contract, r#"{"a":1}"#), true);
}

#[test]
fn names_of_questions_and_of_events_are_told_apart() {
    let document = r#"contract: c
let: { who: "${check.data.email}", what: "${event.type}" }
callback: { body: { who: "${who}" } }
headers: { x-what: "${what}" }
examples: [{ event: { type: a, data: '{}' } }]"#;
    let contract = Contract::read(document, 0).unwrap();
    assert!(contract.callback().is_some());
    let wrong = document.replace("x-what: \"${what}\"", "x-what: \"${who}\"");
    let faults = Contract::read(&wrong, 0).unwrap_err();
    let text = faults[0].to_string();
    assert!(
        text.starts_with("4:20: headers.x-what: expression: 1:1: unknown name check; known"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_a_name_is_refused() {
    for (line, expected) in [
        ("let: { event: a }", "let.event: event is a name already"),
        ("let: { size: a }", "let.size: size is a name already"),
        ("let: { Aa: a }", "let.Aa: a name must be 1 to 64 of a-z 0-9 _, no digit first"),
        ("let: { a: \"${b}\", b: x }", "let.a: expression: 1:1: unknown name b"),
        ("let: { a: \"${event.idd}\" }", "let.a: expression: 1:6: event has no field idd"),
        ("let: { a: \"${a}\" }", "let.a: expression: 1:1: unknown name a"),
        ("let: { a: \"${1\" }", "let.a: ${ without its }"),
        ("let: { a: [1] }", "let.a: must be text"),
        (
            "let: { a: \"${request.body}\" }\nbody: { a: \"${a}\" }",
            "body.a: ${request.body} cannot stand here: the body is known in headers and signatures only",
        ),
        (
            "let: { a: \"${key.id}\" }\nsignatures: [{ algorithm: hmac_sha256, header: x, each: \"${[1].map(key, a)[0]}\" }]",
            "signatures[0].each: expression: 1:14: variable key hides what a speaks of",
        ),
    ] {
        let document =
            format!("contract: c\n{line}\nexamples: [{{ event: {{ type: a, data: '{{}}' }} }}]");
        let faults = Contract::read(&document, 0).unwrap_err();
        let text = faults[0].to_string();
        assert!(text.contains(expected), "{line}: {text}");
    }
    // Each name stands for four of the one before.
    let mut document = String::from("contract: c\nlet:\n  a0: ${event.id}\n");
    for n in 1..8 {
        let before = format!("a{}", n - 1);
        document += &format!("  a{n}: ${{{before} + {before} + {before} + {before}}}\n");
    }
    document += "examples: [{ event: { type: a, data: '{}' } }]";
    let faults = Contract::read(&document, 0).unwrap_err();
    assert!(
        faults[0].to_string().contains("names stand for more than 4096 parts here"),
        "{}",
        faults[0]
    );
}
