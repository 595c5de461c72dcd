//! `verification`: every key that is wrong, by its place.

use super::refused;

/// A signature that a challenge can be signed with.
const SIGNED: &str = "signatures: [{ algorithm: hmac_sha256, header: x-s }]";

#[test]
fn verifications() {
    refused(&[
        ("verification: {}", &["2:15: verification: steps is missing"]),
        (
            "verification: { steps: [], again: 1d }",
            &[
                "2:24: verification.steps: must have 1 to 4 elements, not 0",
                "2:28: verification: unknown key \"again\"; known are steps, challenge, retry, repeat",
            ],
        ),
        (
            "verification: { steps: [{ method: PUT }] }",
            &[
                "2:25: verification.steps[0]: expect is missing",
                "2:35: verification.steps[0].method: must be one of GET, POST, HEAD, OPTIONS",
            ],
        ),
        (
            "verification: { steps: [{ body: { a: 1 }, expect: \"true\" }] }",
            &["2:33: verification.steps[0].body: is for method POST"],
        ),
        (
            "verification: { repeat: 1s, steps: [{ expect: \"true\" }], retry: often, challenge: { length: 7, alphabet: emoji } }",
            &[
                "2:25: verification.repeat: must be a duration from 10s to 30d with its units, as in 30s or 1h30m (it is text)",
                "2:65: verification.retry: must be none, or a mapping with delays or exponential",
                "2:93: verification.challenge.length: must be a whole number from 8 to 128 (it is a number)",
                "2:106: verification.challenge.alphabet: must be one of alphanumeric, digits, hex",
            ],
        ),
        (
            "verification: { steps: [{ sign: right, expect: \"true\" }] }",
            &["2:33: verification.steps[0].sign: needs one of signatures to sign with"],
        ),
        (
            "signatures: [{ algorithm: hmac_sha256, header: x-s, payload: \"${event.type}\" }]\nverification: { steps: [{ sign: wrong, expect: \"true\" }] }",
            &[
                "3:33: verification.steps[0].sign: cannot sign: signatures speak of what only an event has",
            ],
        ),
        (
            &format!(
                "{SIGNED}\nverification: {{ steps: [{{ sign: right, headers: {{ X-S: a, host: b }}, expect: \"true\" }}] }}"
            ),
            &[
                "3:51: verification.steps[0].headers.X-S: header X-S is set twice",
                "3:59: verification.steps[0].headers.host: must be a header's name, and not one that the sender sets",
            ],
        ),
    ]);
}

#[test]
fn what_a_challenge_may_speak_of() {
    refused(&[
        (
            "verification: { steps: [{ query: { t: \"${event.id}\", \"\": a }, expect: response.status == 200 }] }",
            &[
                "2:39: verification.steps[0].query.t: expression: 1:6: unknown name event; known here: challenge, tenant, subscription, request, secret",
                "2:54: verification.steps[0].query[\"\"]: a parameter's name must have 1 to 128 bytes",
            ],
        ),
        (
            "verification: { steps: [{ query: { t: \"${secret}\" }, expect: \"true\" }] }",
            &[
                "2:39: verification.steps[0].query.t: ${secret} cannot stand here: the secret can stand in a header, and elsewhere within a hash or hmac(…) only",
            ],
        ),
        (
            "verification: { steps: [{ method: POST, body: { t: \"${secret}\" }, expect: \"true\" }] }",
            &[
                "2:52: verification.steps[0].body.t: ${secret} cannot stand here: the secret can stand in a header, and elsewhere within a hash or hmac(…) only",
            ],
        ),
        (
            "verification: { steps: [{ query: { t: \"${hex(sha256(request.body))}\" }, expect: attempt.number == 1 }] }",
            &[
                "2:39: verification.steps[0].query.t: ${hex(sha256(request.body))} cannot stand here: the body is known in headers and signatures only",
                "2:81: verification.steps[0].expect: expression: 1:8: unknown name attempt; known here: challenge, tenant, subscription, response, secret",
            ],
        ),
        (
            "headers: { x-k: \"${challenge.text}\" }",
            &[
                "2:17: headers.x-k: expression: 1:10: unknown name challenge; known here: event, tenant, subscription, delivery, attempt, request, key, secret, signature",
            ],
        ),
    ]);
}
