//! What holds for every filter.

use super::*;
use proptest::prelude::*;

/// Expressions made of pieces that fit often enough.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "1",
        "0",
        "1.5",
        "\"a\"",
        "true",
        "null",
        "[]",
        "event.id",
        "event.version",
        "event.time",
        "event.data",
        "event.data.a",
        "event.data.b",
        "event.data.l",
        "event.data.l[0]",
        "2u",
        "event.data.?a",
        "duration(\"1h\")",
        "optional.none()",
        "b\"x\"",
        "type(1)",
        "-1",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let op = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "==", "!=", "<", ">=", "&&", "||", "in",
        ]);
        let call = prop::sample::select(vec![
            "size(_)",
            "string(_)",
            "int(_)",
            "double(_)",
            "timestamp(_)",
            "_.size()",
            "_.trim()",
            "_.exists(x, x == 1)",
            "_.map(x, x)",
            "_.filter(x, true)",
            "_.a",
            "_[0]",
            "_.?a",
            "_[?\"a\"]",
            "_.orValue(1)",
            "_.split(\"\")",
            "_.join()",
            "-_",
            "!_",
            "[_, 1]",
            "has(_.a)",
            "_.getHours()",
            "_.reverse()",
            "_.substring(1)",
            "uint(_)",
            "bytes(_)",
            "_.charAt(0)",
        ]);
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (call, inner.clone()).prop_map(|(call, x)| call.replace('_', &format!("({x})"))),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_expression_has_a_verdict(source in expression()) {
        let wanted = [
            r#"{"a":1,"b":"é","l":[1,"a",{"a":2}]}"#,
            r#"{"a":{"a":[]},"b":null,"l":"no"}"#,
            "[1,2]",
        ];
        if let Ok(filter) = Filter::compile(&source) {
            for data in wanted {
                let data = Bytes::from_static(data.as_bytes());
                if let Verdict::Unevaluable(reason) = filter.matches(&input(&data)) {
                    prop_assert!(!reason.contains("engine failed"), "{} panicked", source);
                    prop_assert!(!reason.contains('é'), "{} leaked data", source);
                }
            }
        }
    }

    #[test]
    fn any_source_compiles_or_is_refused(source in "[ -~\n]{0,40}|[a-z.()\\[\\]\"'{}?:+!&|<>=é0-9]{0,60}") {
        if let Err(wrong) = Filter::compile(&source) {
            prop_assert_eq!(wrong.rule, Rule::ExpressionInvalid);
        }
    }

    #[test]
    fn integers_compare_as_integers(a in any::<i64>(), b in any::<i64>()) {
        let data = Bytes::from(format!("{{\"a\":{a},\"b\":{b}}}"));
        let filter = Filter::compile("event.data.a < event.data.b").expect("compiles");
        prop_assert_eq!(filter.matches(&input(&data)).is_match(), a < b);
    }

    #[test]
    fn strings_compare_after_unescaping(s in any::<String>()) {
        let mut json = Vec::from(b"{\"s\":".as_slice());
        crate::json::write_string(&mut json, &s);
        json.extend_from_slice(b",\"t\":\"");
        for unit in s.encode_utf16() {
            json.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
        }
        json.extend_from_slice(b"\"}");
        let data = Bytes::from(json);
        let filter = Filter::compile("event.data.s == event.data.t").expect("compiles");
        prop_assert_eq!(filter.matches(&input(&data)), Verdict::True);
    }
}
