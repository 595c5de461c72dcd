//! Documents that are refused: each fault with its line, its column and its words.

mod places;
mod values;
mod verification;

use crate::contract::Contract;
use crate::error::Rule;

/// The least that has an example.
const EXAMPLES: &str = "examples: [{ event: { type: a, data: '{\"n\":1}' } }]\n";

/// Every fault of a document, in the order told.
fn faults(document: &str) -> Vec<String> {
    let faults = Contract::read(document, 0).expect_err("refused");
    faults.iter().map(ToString::to_string).collect()
}

/// Documents and the faults of each.
type Faults<'a> = &'a [(&'a str, &'a [&'a str])];

/// Holds the faults of whole documents.
#[track_caller]
fn documents(table: Faults<'_>) {
    for (document, expected) in table {
        assert_eq!(&faults(document), expected, "{document}");
    }
}

/// Holds the faults of keys that stand from line 2 on, between the id and an example.
#[track_caller]
fn refused(table: Faults<'_>) {
    for (keys, expected) in table {
        let found = faults(&format!("contract: c\n{keys}\n{EXAMPLES}"));
        assert_eq!(&found, expected, "{keys}");
    }
}

#[test]
fn keys_that_are_unknown() {
    refused(&[
        ("signature: []", &["2:1: unknown key \"signature\"; did you mean \"signatures\"?"]),
        ("x", &["3:1: simple key expect ':'"]),
        (
            "Content-Type: a/b",
            &["2:1: unknown key \"Content-Type\"; did you mean \"content_type\"?"],
        ),
        (
            "secret:\n  form: text\n  byte: [1, 2]",
            &["4:3: secret: unknown key \"byte\"; did you mean \"bytes\"?"],
        ),
        (
            "secret: { colour: red }",
            &[
                "2:11: secret: unknown key \"colour\"; known are required, form, prefix, bytes, generate",
            ],
        ),
        (
            "retry: { delay: [1s] }",
            &[
                "2:8: retry: must have delays or exponential, and not both; or be none",
                "2:10: retry: unknown key \"delay\"; did you mean \"delays\"?",
            ],
        ),
        (
            "signatures: [{ algorithm: hmac_sha256, header: x-s, encodings: hex }]",
            &["2:53: signatures[0]: unknown key \"encodings\"; did you mean \"encoding\"?"],
        ),
        (
            "callback: { verdict: default, on_error: allow }",
            &["2:31: callback: unknown key \"on_error\"; known are body, headers, verdict"],
        ),
    ]);
    documents(&[(
        "contract: c\nexamples:\n  - event: { type: a, data: '1', dat: 2 }\n    expects: {}\n",
        &[
            "3:34: examples[0].event: unknown key \"dat\"; did you mean \"data\"?",
            "4:5: examples[0]: unknown key \"expects\"; did you mean \"expect\"?",
        ],
    )]);
}

#[test]
fn expressions() {
    refused(&[
        (
            "body:\n  a: 1\n  b: ${event.tipe}",
            &["4:6: body.b: expression: 1:6: event has no field tipe"],
        ),
        (
            "body:\n  a: 1\n  b: at ${event.id} and ${events.id}",
            &["4:6: body.b: expression: 1:1: unknown name events"],
        ),
        (
            "body: { a: \"${md4(event.id)}\" }",
            &["2:12: body.a: expression: 1:4: unknown function md4"],
        ),
        ("body: { a: \"${event.id\" }", &["2:12: body.a: ${ without its }"]),
        (
            "headers: { x-a: \"${response.status}\" }",
            &[
                "2:17: headers.x-a: expression: 1:9: unknown name response; known here: event, tenant, subscription, delivery, attempt, request, key, secret, signature",
            ],
        ),
        (
            "acknowledge: response.status = 200",
            &[
                "2:14: acknowledge: expression: 1:17: Syntax error: token recognition error at: '= '",
            ],
        ),
        (
            "refuse: attempt.count > 3",
            &["2:9: refuse: expression: 1:8: attempt has no field count"],
        ),
        (
            "acknowledge: response.status",
            &["2:14: acknowledge: expression: the result is int, not bool"],
        ),
        (
            "disable: \"event.data.list.exists(a, a.exists(b, b == 1))\"",
            &["2:10: disable: expression: 1:35: comprehensions cannot be nested"],
        ),
        (
            "body: { a: \"${event.time.format('QQ', 'UTC')}\" }",
            &["2:12: body.a: expression: 1:19: time pattern: QQ has no meaning; quote it as 'QQ'"],
        ),
        (
            "body: { a: \"${event.time.format(\\\"yyyy\\\", \\\"Mars/Olympus\\\")}\" }",
            &["2:12: body.a: not a time zone; use an IANA name such as America/Lima, or UTC"],
        ),
    ]);
}

#[test]
fn values_in_places_where_they_cannot_stand() {
    const SIGN: &str = "signatures: [{ algorithm: hmac_sha256, header: x-s, ";
    refused(&[
        (
            "body: { a: \"${hex(sha1(secret))}\" }",
            &[
                "2:12: body.a: ${hex(sha1(secret))} cannot stand here: keys are known in payload and each only",
            ],
        ),
        (
            "headers: { x-k: \"${key.id}\" }",
            &[
                "2:17: headers.x-k: ${key.id} cannot stand here: keys are known in payload and each only",
            ],
        ),
        (
            &format!("{SIGN}payload: \"${{signature + key.id}}\" }}]"),
            &[
                "2:62: signatures[0].payload: ${signature + key.id} cannot stand here: the signature is known in each only",
            ],
        ),
        (
            &format!("{SIGN}each: \"${{signature}}${{secret}}\" }}]"),
            &[
                "2:59: signatures[0].each: ${secret} cannot stand here: the secret can stand in payload, and elsewhere within a hash or hmac(…) only",
            ],
        ),
        (
            "body: { a: \"data ${event.data}\" }",
            &[
                "2:12: body.a: ${event.data} cannot stand here: it is JSON, which is a whole value of the body; json(…) makes text of it",
            ],
        ),
        (
            "body: { a: \"${request.body}\" }",
            &[
                "2:12: body.a: ${request.body} cannot stand here: the body is known in headers and signatures only",
            ],
        ),
        (
            "body: { a: \"${sha256(request.body)}\" }",
            &[
                "2:12: body.a: ${sha256(request.body)} cannot stand here: the body is known in headers and signatures only",
            ],
        ),
        (
            "headers: { x-a: \"${event.data}\" }",
            &[
                "2:17: headers.x-a: ${event.data} cannot stand here: it is JSON, which is a whole value of the body; json(…) makes text of it",
            ],
        ),
        (
            "headers: { x-a: \"${signature}\" }",
            &[
                "2:17: headers.x-a: ${signature} cannot stand here: the signature is known in each only",
            ],
        ),
        (
            "body: { \"...\": \"x\" }",
            &["2:16: body[\"...\"]: the value of \"...\" must be one ${expression}"],
        ),
        (
            "signatures: [{ algorithm: hmac_sha256, header: x-s, payload: \"${event.data}\" }]",
            &[
                "2:62: signatures[0].payload: ${event.data} cannot stand here: it is JSON, which is a whole value of the body; json(…) makes text of it",
            ],
        ),
    ]);
}

#[test]
fn signatures() {
    refused(&[
        (
            "signatures:\n  - { algorithm: hmac_sha256 }",
            &["3:5: signatures[0]: must have one of header, body and query"],
        ),
        (
            "signatures:\n  - { algorithm: hmac_sha256, header: x-s, body: s }",
            &["3:5: signatures[0]: must have one of header, body and query"],
        ),
        ("signatures:\n  - { header: x-s }", &["3:5: signatures[0]: algorithm is missing"]),
        (
            "signatures:\n  - { algorithm: hmac-sha-256, header: x-s }",
            &[
                "3:18: signatures[0].algorithm: must be one of hmac_sha1, hmac_sha256, hmac_sha512, ed25519, md5, sha1, sha256, sha512, rsa_sha256, rsa_pss_sha256, ecdsa_p256, ecdsa_p521, ecdsa_secp256k1; did you mean hmac_sha256?",
            ],
        ),
        (
            "signatures:\n  - { algorithm: hmac_md5, header: x-s }",
            &[
                "3:18: signatures[0].algorithm: must be one of hmac_sha1, hmac_sha256, hmac_sha512, ed25519, md5, sha1, sha256, sha512, rsa_sha256, rsa_pss_sha256, ecdsa_p256, ecdsa_p521, ecdsa_secp256k1",
            ],
        ),
        (
            "signatures:\n  - { algorithm: hmac_sha256, body: a..b }",
            &[
                "3:37: signatures[0].body: must be names of A-Z a-z 0-9 _ -, none of digits only, joined by full stops; an element of a list is name[0]",
            ],
        ),
        (
            "signatures:\n  - { algorithm: hmac_sha256, body: \"a.0\" }",
            &[
                "3:37: signatures[0].body: must be names of A-Z a-z 0-9 _ -, none of digits only, joined by full stops; an element of a list is name[0]",
            ],
        ),
        (
            "signatures:\n  - { algorithm: hmac_sha256, header: content-length }",
            &[
                "3:39: signatures[0].header: must be a header's name, and not one that the sender sets",
            ],
        ),
        (
            "signatures:\n  - { algorithm: hmac_sha256, header: \"x s\" }",
            &[
                "3:39: signatures[0].header: must be a header's name, and not one that the sender sets",
            ],
        ),
        (
            "signatures:\n  - { algorithm: hmac_sha256, header: x-s }\n  - { algorithm: ed25519, header: X-S }",
            &["4:5: signatures[1]: another has the same name; give each its own"],
        ),
        (
            "signatures:\n  - { name: a, algorithm: hmac_sha256, header: x-s }\n  - { name: b, algorithm: ed25519, header: X-S, separator: \" \" }",
            &[
                "4:5: signatures[1]: must have the prefix and separator of the others in this header",
            ],
        ),
        ("body_format: form\ncanonical: rfc8785", &["3:12: canonical: is for body_format json"]),
        (
            "secret: { required: true }",
            &["2:9: secret: required needs one of signatures to use it"],
        ),
    ]);
}

#[test]
fn headers() {
    refused(&[
        ("headers:\n  x-a: \"1\"\n  X-A: \"2\"", &["4:3: headers.X-A: header X-A is set twice"]),
        ("headers:\n  x-a: \"1\"\n  x-a: \"2\"", &["4:3: duplicate key \"x-a\", first at 3:3"]),
        (
            "headers:\n  x-a: \"1\"\n  x-s: \"2\"\nsignatures:\n  - { algorithm: hmac_sha256, header: X-S }",
            &["4:3: headers.x-s: header x-s is set twice"],
        ),
        (
            "signatures:\n  - { algorithm: hmac_sha256, header: X-S }\ncallback:\n  headers: { x-s: a }",
            &["5:14: callback.headers.x-s: header x-s is set twice"],
        ),
        (
            "headers:\n  Host: example.com",
            &["3:3: headers.Host: must be a header's name, and not one that the sender sets"],
        ),
        (
            "headers:\n  content-type: a/b",
            &[
                "3:3: headers.content-type: must be a header's name, and not one that the sender sets",
            ],
        ),
        (
            "headers:\n  \"x a\": a/b",
            &["3:3: headers[\"x a\"]: must be a header's name, and not one that the sender sets"],
        ),
    ]);
}

#[test]
fn types_and_examples() {
    documents(&[
        ("contract: c\n", &["1:1: needs at least one of examples, or a type with an example"]),
        (
            "contract: c\ntypes:\n  - type: a\n",
            &["1:1: needs at least one of examples, or a type with an example"],
        ),
        ("contract: c\nexamples: []\n", &["2:11: examples: must have 1 to 100 elements, not 0"]),
        (
            "contract: c\ntypes:\n  - type: a\n    schema: '{\"type\":\"objekt\"}'\n    example: '{}'\n",
            &[
                "4:13: types[0].schema: JSON Schema: at \"/type\": \"objekt\" is not valid under any of the schemas listed in the 'anyOf' keyword",
            ],
        ),
        (
            "contract: c\ntypes:\n  - type: a\n    schema: '{\"type\":'\n    example: '{}'\n",
            &["4:13: types[0].schema: JSON Schema: unexpected end of text at byte 8"],
        ),
        (
            "contract: c\ntypes:\n  - type: a\n    schema: '{\"required\":[\"id\"]}'\n    example: '{\"i\":1}'\n",
            &[
                "5:14: types[0].example: JSON Schema: the example does not match: data at \"\" fails required: member \"id\" is missing",
            ],
        ),
        (
            "contract: c\ntypes:\n  - type: a\n    example: '{\"i\":1,}'\n",
            &["4:14: types[0].example: must be JSON text: unexpected character at byte 7"],
        ),
        (
            "contract: c\nevent_types: [b]\ntypes:\n  - type: a\n    example: '1'\n",
            &["4:5: types[0]: the contract does not carry events of this type"],
        ),
        (
            "contract: c\ntypes:\n  - { type: a, example: '1' }\n  - { type: a, example: '1' }\n",
            &["4:5: types[1]: type a stands twice"],
        ),
        (
            "contract: c\nbody: { n: \"${event.data.n}\" }\nexamples:\n  - event: { type: a, data: '{\"m\":1}' }\n",
            &[
                "4:5: examples[0]: the example cannot be rendered: ${event.data.n}: event.data.n is absent",
            ],
        ),
        (
            "contract: c\nbody: { n: \"${event.data.n}\" }\nexamples:\n  - event: { type: a, data: '{\"n\":1}' }\n    expect: { body: '{\"n\":2}' }\n",
            &[
                "5:21: examples[0].expect.body: differs from what is rendered at byte 5: expected …\"{\\\"n\\\":2}\", rendered …\"{\\\"n\\\":1}\"",
            ],
        ),
        (
            "contract: c\nheaders: { x-a: \"${event.id}\" }\nexamples:\n  - event: { id: e1, type: a, data: '1' }\n    expect:\n      headers: { x-a: e2, x-b: e1 }\n      signed: { v1: x }\n",
            &[
                "6:23: examples[0].expect.headers.x-a: differs from what is rendered at byte 1: expected …\"e2\", rendered …\"e1\"",
                "6:32: examples[0].expect.headers.x-b: the request has no such header",
                "7:21: examples[0].expect.signed.v1: no such signature was made",
            ],
        ),
        (
            "contract: c\nsecret: { form: hex }\nsignatures: [{ algorithm: hmac_sha256, header: x-s }]\nexamples:\n  - event: { type: a, data: '1' }\n    secret: xyz\n",
            &["5:5: examples[0]: secret: must be 1 to 256 bytes as hexadecimal digits"],
        ),
        (
            "contract: c\nexamples:\n  - event: { type: a, data: '1', id: 'a.b', time: yesterday, environment: PROD, version: -1 }\n",
            &[
                "3:38: examples[0].event.id: must be 1 to 128 of A-Z a-z 0-9 _ : -",
                "3:51: examples[0].event.time: must be a time such as 2022-10-26T22:36:41.600Z",
                "3:75: examples[0].event.environment: must be one of LIVE, TEST",
                "3:90: examples[0].event.version: must be a whole number from 0 to 2147483647 (it is a number)",
            ],
        ),
        (
            "contract: c\nexamples:\n  - { attempt: 0 }\n",
            &[
                "3:5: examples[0]: event is missing",
                "3:16: examples[0].attempt: must be a whole number from 1 to 100 (it is a number)",
            ],
        ),
    ]);
}

#[test]
fn documents_that_are_too_deep() {
    let deep = |levels: usize| {
        format!("contract: c\nbody: {}1{}\n{EXAMPLES}", "[".repeat(levels), "]".repeat(levels))
    };
    assert!(Contract::read(&deep(31), 0).is_ok());
    assert_eq!(faults(&deep(32)), ["2:38: nested deeper than 32 levels"]);
    let long = format!("contract: c\n# {}\n", "x".repeat(65_536));
    assert_eq!(faults(&long), ["1:1: a document of 65551 bytes; at most 65536"]);
}

#[test]
fn all_faults_are_reported_at_once_and_in_order() {
    let document = "\
contract: a b
event_types: [order.*, 'x y']
body:
  id: ${event.idd}
  n: ${event.data.n}
headers: { X-Id: \"${event.id}\", x-id: \"2\" }
signatures: [{ algorithm: hmac_sha256, header: x-s, bodies: s }]
acknowledge: response.status
timeouts: [0s]
retries: none
examples: [{ event: { type: order.paid } }]
";
    let known = "known are contract, extends, description, event_types, types, let, body, body_format, canonical, \
        content_type, user_agent, gzip, batch, headers, traceparent, secret, signatures, acknowledge, refuse, disable, \
        timeouts, retry, overridable, url, auth, egress, provisioning, sensitive, callback, verification, examples";
    let retries = format!("10:1: unknown key \"retries\"; {known}");
    let expected = [
        "1:11: contract: must be 1 to 64 of A-Z a-z 0-9 _ -",
        "2:24: event_types[1]: must be * or an event type or an event type and .* behind it",
        "4:7: body.id: expression: 1:6: event has no field idd",
        "6:33: headers.x-id: header x-id is set twice",
        "7:53: signatures[0]: unknown key \"bodies\"; known are name, algorithm, form, payload, encoding, \
         keys, order, header, each, prefix, separator, body, query",
        "8:14: acknowledge: expression: the result is int, not bool",
        "9:12: timeouts[0]: must be a duration from 1s to 30s with its units, as in 30s or 1h30m (it is text)",
        &retries,
        "11:21: examples[0].event: data is missing",
    ];
    assert_eq!(faults(document), expected);
    let rules: Vec<_> = Contract::read(document, 0).unwrap_err().iter().map(|f| f.rule).collect();
    let expressions = rules.iter().filter(|rule| **rule == Rule::ExpressionInvalid).count();
    assert_eq!((rules.len(), expressions), (9, 2));
}

#[test]
fn batches_without_a_list() {
    const RULE: &str = "needs a list with one element, which is always there, in the body: at list, \
                        or the body itself";
    let at = |column: usize, key: &str| format!("3:{column}: {key}: {RULE}");
    for (keys, expected) in [
        ("body: { a: 1 }\nbatch: { max_events: 2 }", at(8, "batch")),
        ("body: { a: [1, 2] }\nbatch: { list: a, max_events: 2 }", at(16, "batch.list")),
        (
            "body: { a: ['${event.data.b}'] }\nbatch: { list: a, max_events: 2 }",
            at(16, "batch.list"),
        ),
        ("body: { a: [1] }\nbatch: { list: b, max_events: 2 }", at(16, "batch.list")),
    ] {
        let found = faults(&format!("contract: c\n{keys}\n{EXAMPLES}"));
        assert_eq!(found[0], expected, "{keys}");
    }
    let form = "body_format: form\nbody: { a: '1' }\nbatch: { max_events: 2 }";
    assert!(
        faults(&format!("contract: c\n{form}\n{EXAMPLES}"))[0].contains("is for body_format json")
    );
    for bound in [
        "max_events: 1",
        "max_events: 1001",
        "max_events: 2, max_bytes: 10",
        "max_events: 2, max_wait: 11s",
    ] {
        let document = format!("contract: c\nbody: [1]\nbatch: {{ {bound} }}\n{EXAMPLES}");
        assert!(faults(&document)[0].starts_with("3:"), "{bound}");
    }
}
