//! Values of another type or out of bounds.

use super::refused;

#[test]
fn values_of_another_type() {
    refused(&[
        (
            "traceparent: \"yes\"",
            &["2:14: traceparent: must be true or false, without quotes (it is text)"],
        ),
        ("timeouts: 15s", &["2:11: timeouts: must be a list (it is text)"]),
        (
            "timeouts: [15]",
            &[
                "2:12: timeouts[0]: must be a duration from 1s to 30s with its units, as in 30s or 1h30m (it is a number)",
            ],
        ),
        (
            "timeouts: [15s, 31s]",
            &[
                "2:17: timeouts[1]: must be a duration from 1s to 30s with its units, as in 30s or 1h30m (it is text)",
            ],
        ),
        ("timeouts: []", &["2:11: timeouts: must have 1 to 32 elements, not 0"]),
        (
            "description: 12",
            &["2:14: description: must be text; put it in quotes (it is a number)"],
        ),
        ("body_format: xml", &["2:14: body_format: must be one of json, form, multipart"]),
        ("canonical: jcs", &["2:12: canonical: must be one of verbatim, json_stringify, rfc8785"]),
        ("headers: [x-a]", &["2:10: headers: must be a mapping (it is a list)"]),
        (
            "headers: { x-a: 1 }",
            &["2:17: headers.x-a: must be text; put it in quotes (it is a number)"],
        ),
        ("secret: text", &["2:9: secret: must be a mapping (it is text)"]),
        (
            "secret: { required: 1 }",
            &["2:21: secret.required: must be true or false, without quotes (it is a number)"],
        ),
        ("secret: { bytes: [24] }", &["2:18: secret.bytes: must have 2 to 2 elements, not 1"]),
        (
            "secret: { bytes: [24, 64], generate: 64 }",
            &["2:9: secret: secret.generate must make a key within secret.bytes"],
        ),
        (
            "secret: { prefix: 'a b' }",
            &["2:9: secret: secret.prefix must be up to 32 visible ASCII characters"],
        ),
        (
            "auth: [digest]",
            &["2:8: auth[0]: must be one of none, bearer, basic, api_key, oauth2, mtls"],
        ),
        ("egress: 'a b'", &["2:9: egress: must be 1 to 64 of A-Z a-z 0-9 _ -"]),
        ("provisioning: manual", &["2:15: provisioning: must be one of self, approval"]),
        (
            "event_types: ['order*']",
            &["2:15: event_types[0]: must be * or an event type or an event type and .* behind it"],
        ),
        ("event_types: []", &["2:14: event_types: must have 1 to 64 elements, not 0"]),
        (
            "acknowledge: true",
            &["2:14: acknowledge: must be text; put it in quotes (it is true or false)"],
        ),
        ("acknowledge: [200, 204]", &["2:14: acknowledge: must be text (it is a list)"]),
        (
            "content_type: ''",
            &[
                "2:15: content_type: must be visible ASCII with spaces and tabs inside only: it is a header's value",
            ],
        ),
        (
            "user_agent: 'Pregón'",
            &[
                "2:13: user_agent: must be visible ASCII with spaces and tabs inside only: it is a header's value",
            ],
        ),
        (
            "callback: { body: { a: \"${event.id}\" } }",
            &[
                "2:24: callback.body.a: expression: 1:6: unknown name event; known here: check, tenant, callback",
            ],
        ),
        (
            "callback: { verdict: \"response.statuss == 200\" }",
            &["2:22: callback.verdict: expression: 1:9: response has no field statuss"],
        ),
    ]);
}

#[test]
fn retries_and_urls_and_paths() {
    refused(&[
        (
            "retry:\n  delays: [1s]\n  exponential: { initial: 1s, max_delay: 1m, attempts: 3 }",
            &["3:3: retry: must have delays or exponential, and not both; or be none"],
        ),
        ("retry: {}", &["2:8: retry: must have delays or exponential, and not both; or be none"]),
        ("retry: never", &["2:8: retry: must be none, or a mapping with delays or exponential"]),
        (
            "retry: { delays: [500ms] }",
            &[
                "2:19: retry.delays[0]: must be a duration from 1s to 7d with its units, as in 30s or 1h30m (it is text)",
            ],
        ),
        (
            "retry: { delays: [8d] }",
            &[
                "2:19: retry.delays[0]: must be a duration from 1s to 7d with its units, as in 30s or 1h30m (it is text)",
            ],
        ),
        (
            "retry: { delays: [1s], jitter: 0.6 }",
            &["2:32: retry.jitter: must be a number from 0 to 0.5 (it is a number)"],
        ),
        ("retry: { delays: [1s], from: begin }", &["2:30: retry.from: must be one of start, end"]),
        (
            "retry: { delays: [1s], retry_after: none }",
            &[
                "2:37: retry.retry_after: must be a duration from 1s to 7d with its units, as in 30s or 1h30m (it is text)",
            ],
        ),
        (
            "retry: { exponential: { initial: 1s, factor: 11, attempts: 101 } }",
            &[
                "2:23: retry.exponential: max_delay is missing",
                "2:46: retry.exponential.factor: must be a number from 1 to 10 (it is a number)",
                "2:60: retry.exponential.attempts: must be a whole number from 1 to 100 (it is a number)",
            ],
        ),
        ("url: { schemes: [ftp] }", &["2:18: url.schemes[0]: must be one of http, https"]),
        (
            "url: { schemes: [htps] }",
            &["2:18: url.schemes[0]: must be one of http, https; did you mean https?"],
        ),
        ("url: { schemes: [] }", &["2:17: url.schemes: must have 1 to 2 elements, not 0"]),
        ("url: {}", &["2:6: url: must have at least one of schemes, ports and query"]),
        (
            "url: { ports: [0, 70000] }",
            &[
                "2:16: url.ports[0]: must be a whole number from 1 to 65535 (it is a number)",
                "2:19: url.ports[1]: must be a whole number from 1 to 65535 (it is a number)",
            ],
        ),
        (
            "sensitive: [event.user]",
            &["2:13: sensitive[0]: must begin with event.data or check.data"],
        ),
        (
            "sensitive:\n  - event.data.list[0].name",
            &[
                "3:5: sensitive[0]: what stands at byte 15 of \"event.data.list[0].name\" is not .name, [\"name\"] or [*]",
            ],
        ),
        (
            "sensitive: [event.data..a]",
            &[
                "2:13: sensitive[0]: what stands at byte 10 of \"event.data..a\" is not .name, [\"name\"] or [*]",
            ],
        ),
    ]);
}
