//! What holds for every expression.

use super::*;
use proptest::prelude::*;

/// Expressions made of pieces that fit often enough.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "1",
        "1.5",
        "\"a\"",
        "true",
        "null",
        "[]",
        "2u",
        "-1",
        "b\"x\"",
        "type(1)",
        "0.0 / 0.0",
        "duration(\"1h\")",
        "optional.none()",
        "event.id",
        "event.time",
        "event.data",
        "event.data.a",
        "event.data.?a",
        "event.data.l[?0]",
        "event.data.l[2].?a",
        "event.attributes",
        "event.attributes.?subject",
        "tenant.labels.tier",
        "attempt.time",
        "attempt.number",
        "delivery.replay",
        "request.body",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let op = prop::sample::select(vec!["+", "-", "*", "==", "<", "&&", "||", "in"]);
        let call = prop::sample::select(vec![
            "json(_)",
            "hex(_)",
            "base64(_)",
            "sha256(_)",
            "hex(sha256(_))",
            "string(_)",
            "bytes(_)",
            "int(_)",
            "_.rfc3339(3)",
            "_.rfc3339(_)",
            "_.format(\"yyyy a XXX\", \"Asia/Tokyo\")",
            "_.format(_, _)",
            "_.map(x, x)",
            "_.map(x, [x])",
            "_.filter(x, true)",
            "_.optMap(x, x)",
            "optional.of(_)",
            "_.orValue(1)",
            "_.a",
            "_.?a",
            "_[0]",
            "_[?0]",
            "has(_.a)",
            "[_, 1]",
            "[?_]",
            "_.split(\"\")",
            "_.join(\",\")",
            "_.replace(\"a\", \"b\")",
            "_.lowerAscii()",
            "_.size()",
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
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_expression_has_a_value_or_a_reason(source in expression()) {
        if let Ok(expression) = Expression::compile(&source, Site::Template) {
            for data in [
                r#"{"a":1,"b":"ÿé","l":[1,"a",{"a":2.0}]}"#,
                r#"{"a":{"a":[]},"b":null,"l":"ÿno"}"#,
                r#"[1, 2.50, "ÿ"]"#,
            ] {
                let world = World::new(data);
                for outcome in [expression.value(&world.scope()), expression.verbatim(&world.scope())] {
                    match outcome {
                        Err(reason) => {
                            prop_assert!(!reason.contains("engine failed"), "{} panicked", source);
                            prop_assert!(!reason.contains('ÿ'), "{} leaked data", source);
                        }
                        Ok(Output::Json(text)) => {
                            prop_assert!(crate::json::check(&text, 80).is_ok(), "{} is not JSON", source);
                        }
                        Ok(Output::Double(double)) => prop_assert!(double.is_finite()),
                        Ok(Output::Absent | Output::Null | Output::Bool(_) | Output::Int(_) | Output::Text(_)) => {}
                    }
                }
                expression.holds(&world.scope());
            }
        }
    }

    #[test]
    fn any_source_compiles_or_is_refused(source in "[ -~\n]{0,40}|(event|response|check|\\.|\\?|\\[|\\]|has|\\(|\\)|json|data|labels|\"|0|x){0,12}") {
        for site in [Site::Filter, Site::Template, Site::Answer, Site::Verdict, Site::CheckTemplate] {
            match Expression::compile(&source, site) {
                Ok(expression) => { let _ = expression.value(&World::new(DATA).scope()); }
                Err(wrong) => prop_assert_eq!(wrong.rule, Rule::ExpressionInvalid),
            }
        }
    }

    #[test]
    fn scalars_are_spliced_as_written(n in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,2})?") {
        let world = World::new(&format!("{{\"x\" : [ {n} ]}}"));
        let found = compiled("event.data.x[0]", Site::Template).verbatim(&world.scope());
        prop_assert_eq!(found, json(&n));
    }
}
