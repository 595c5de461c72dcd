use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn schema(text: &str) -> Schema {
    Schema::compile(text).unwrap_or_else(|wrong| panic!("{text:.200}: {wrong}"))
}

fn refused(text: &str) -> String {
    let wrong = Schema::compile(text).expect_err(text);
    assert_eq!(wrong.rule, Rule::SchemaInvalid, "{text:.200}");
    wrong.description
}

fn mismatch(schema_text: &str, data: &str) -> (String, String) {
    let error = schema(schema_text).validate(data.as_bytes()).expect_err(data);
    (error.pointer, error.keyword)
}

const ORDER: &str = r##"{
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "https://example.com/order",
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "string", "pattern": "^o[0-9]+$"},
        "amount": {"type": "integer", "minimum": 1},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "maxItems": 3},
        "kind": {"enum": ["a", "b"]},
        "at": {"type": "string", "format": "date-time"}
    },
    "additionalProperties": false,
    "$defs": {"line": {"$anchor": "line", "type": "object", "required": ["sku"]}}
}"##;

#[test]
fn data_is_validated_and_the_first_mismatch_named() {
    let order = schema(ORDER);
    for data in [
        r#"{"id":"o1"}"#,
        r#"{"id":"o1","amount":5000,"lines":[{"sku":"x"}],"kind":"a","at":"not a time"}"#,
        r#"{"id":"o1","amount":5000.0}"#,
    ] {
        assert_eq!(order.validate(data.as_bytes()), Ok(()), "{data}");
    }
    for (data, pointer, keyword) in [
        ("[]", "", "type"),
        ("{}", "", "required"),
        (r#"{"id":"secret"}"#, "/id", "pattern"),
        (r#"{"id":"o1","amount":0}"#, "/amount", "minimum"),
        (r#"{"id":"o1","amount":1.5}"#, "/amount", "type"),
        (r#"{"id":"o1","lines":[{"sku":1},{}]}"#, "/lines/1", "required"),
        (r#"{"id":"o1","kind":"secret"}"#, "/kind", "enum"),
        (r#"{"id":"o1","more":1}"#, "", "additionalProperties"),
        ("{", "", "json"),
    ] {
        let error = order.validate(data.as_bytes()).expect_err(data);
        assert_eq!((error.pointer.as_str(), error.keyword.as_str()), (pointer, keyword), "{data}");
        assert!(!error.to_string().contains("secret"));
    }
    let error = order.validate(br#"{"id":"o1","lines":[{}]}"#).expect_err("sku");
    let words = "data at \"/lines/0\" fails required: member \"sku\" is missing";
    assert_eq!(error.to_string(), words);
    assert_eq!(mismatch("false", "1"), (String::new(), "false".to_owned()));
    assert_eq!(mismatch(r#"{"properties":{"a/b":{"type":"null"}}}"#, r#"{"a/b":1}"#).0, "/a~1b");
    assert_eq!(schema("true").validate(b"1"), Ok(()));
    assert_eq!(schema("{}").validate(b"null"), Ok(()));
}

#[test]
fn a_mismatch_names_the_member_and_the_type() {
    let long = "m".repeat(300);
    for (data, words) in [
        (r#"{"id":7}"#, "fails type: must be string, is number"),
        (r#"{"id":"o1","lines":{}}"#, "fails type: must be array, is object"),
        (r#"{"id":"o1","amount":1.5}"#, "fails type: must be integer, is number"),
        (
            r#"{"id":"o1","more":"secret"}"#,
            "fails additionalProperties: member \"more\" is not allowed",
        ),
        (r#"{"id":"o1","amount":0}"#, "fails minimum"),
    ] {
        let error = schema(ORDER).validate(data.as_bytes()).expect_err(data).to_string();
        assert!(error.ends_with(words) && !error.contains("secret"), "{error}");
    }
    let either = schema(r#"{"type":["string","null"],"unevaluatedProperties":false}"#);
    let error = either.validate(b"true").expect_err("type").to_string();
    assert!(error.contains("null") && error.contains(" or ") && error.contains("string"));
    let data = format!("{{\"id\":\"o1\",\"{long}\":1}}");
    let error = schema(ORDER).validate(data.as_bytes()).expect_err("long").to_string();
    assert!(error.len() < 200, "{error}");
}

#[test]
fn documents_that_are_no_schema_are_refused() {
    assert_eq!(refused("{\"a\":1,\"a\":2}"), "duplicate member name at byte 7");
    assert_eq!(refused("{"), "unexpected end of text at byte 1");
    assert_eq!(refused("7"), "a schema is an object or a boolean");
    assert!(refused(r#"{"type":"text"}"#).starts_with("at \"/type\": "));
    assert!(refused(r#"{"properties":{"a":{"minimum":"1"}}}"#).contains("/properties/a/minimum"));
    assert!(refused(r#"{"pattern":"("}"#).contains("/pattern"));
    for pattern in ["(?=a)", "(a)\\\\1", "(?:a{1000}){1000}"] {
        refused(&format!("{{\"pattern\":\"{pattern}\"}}"));
    }
    let draft7 = r#"{"$schema":"http://json-schema.org/draft-07/schema#"}"#;
    assert_eq!(refused(draft7), format!("$schema must be {DIALECT}"));
    let long = format!("{{\"title\":\"{}\"}}", "x".repeat(MAX_SCHEMA));
    assert_eq!(Schema::compile(&long).expect_err("long").rule, Rule::TooLong);
}

#[test]
fn references_stay_in_the_document() {
    for reference in
        ["https://example.com/x", "other.json", "file:///etc/passwd", "//x/y", "?a", DIALECT]
    {
        let text = format!("{{\"items\":{{\"$ref\":\"{reference}\"}}}}");
        assert_eq!(refused(&text), format!("$ref {reference:?} leaves the document"));
    }
    refused(r#"{"$defs":{"unused":{"$ref":"https://example.com/x"}}}"#);
    assert_eq!(refused(r##"{"$ref":"#/$defs/a"}"##), "$ref \"#/$defs/a\" leads nowhere");
    assert_eq!(refused(r##"{"$ref":"#a"}"##), "$ref \"#a\" leads nowhere");
    assert_eq!(refused(r##"{"items":{"$dynamicRef":"#a"}}"##), "$dynamicRef is not supported");
    assert_eq!(refused(r#"{"items":{"$id":"x"}}"#), "$id is only supported at the top");
    let anchored = r##"{"items":{"$ref":"#t"},"$defs":{"t":{"$anchor":"t","type":"null"}}}"##;
    assert_eq!(mismatch(anchored, "[null,1]"), ("/1".to_owned(), "type".to_owned()));
    // A property of that name is no reference.
    schema(r#"{"properties":{"$ref":{"type":"string"},"$id":{}}}"#);
}

/// A list nested as deep as data may be.
fn nested(open: &str, middle: &str, close: &str) -> String {
    format!("{}{middle}{}", open.repeat(64), close.repeat(64))
}

/// Validates under a generous bound, as test machines are shared and slow.
fn bounded(schema_text: &str, data: &str) -> bool {
    let schema = schema(schema_text);
    let start = Instant::now();
    let valid = schema.validate(data.as_bytes()).is_ok();
    assert!(start.elapsed() < Duration::from_secs(5), "{schema_text:.200}");
    valid
}

#[test]
fn recursion_into_the_data_is_fine() {
    let tree = r##"{"type":"object","properties":{"left":{"$ref":"#"},"right":{"$ref":"#"}}}"##;
    assert!(bounded(
        tree,
        &nested("{\"left\":", "{}", "}").replacen("{\"left\":", "", 1).replacen('}', "", 1)
    ));
    let any = r##"{"anyOf":[
        {"type":["string","number","boolean","null"]},
        {"type":"array","items":{"$ref":"#"}},
        {"type":"object","additionalProperties":{"$ref":"#"}}]}"##;
    assert!(bounded(any, &nested("[", "1", "]")));
    assert!(bounded(
        any,
        &nested("{\"a\":", "[]", "}").replacen("{\"a\":", "", 1).replacen('}', "", 1)
    ));
    // Nearly the longest chain that is allowed, by descent this time.
    let winding = r##"{"allOf":[{"anyOf":[{"oneOf":[{"if":true,"then":{"$ref":"#/$defs/a"}}]}]}],
        "$defs":{"a":{"not":{"not":{"items":{"$ref":"#"}}}}}}"##;
    assert!(bounded(winding, &nested("[", "1", "]")));
    let list = r##"{"oneOf":[{"type":"null"},{"items":{"$ref":"#"},"type":"array"}]}"##;
    assert!(!bounded(list, &nested("[", "1", "]")));
}

#[test]
fn schemas_that_run_away_are_refused() {
    let cycle = "a subschema refers back to itself on the same value";
    assert_eq!(refused(r##"{"$ref":"#"}"##), cycle);
    assert_eq!(refused(r##"{"allOf":[{"anyOf":[{"$ref":"#"}]}]}"##), cycle);
    assert_eq!(
        refused(
            r##"{"$ref":"#/$defs/a","$defs":{"a":{"not":{"$ref":"#/$defs/b"}},"b":{"if":{"$ref":"#/$defs/a"}}}}"##
        ),
        cycle
    );
    // Two branches that both recur: 2^64 at the bottom of deep data.
    for twice in [
        r##"{"anyOf":[{"items":{"$ref":"#"}},{"items":{"$ref":"#"}}]}"##,
        r##"{"allOf":[{"items":{"$ref":"#"}}],"contains":{"$ref":"#"}}"##,
        r##"{"additionalProperties":{"$ref":"#"},"patternProperties":{"a":{"$ref":"#"},"b":{"$ref":"#"}}}"##,
        r##"{"allOf":[{"items":{"$ref":"#"}}],"unevaluatedItems":false}"##,
    ] {
        assert!(refused(twice).starts_with("validation may look at a value "), "{twice}");
    }
    // The same without recursion, each definition using the next twice.
    let defs: Vec<_> = (0..40)
        .map(|i| format!("\"d{i}\":{{\"allOf\":[{{\"$ref\":\"#/$defs/d{0}\"}},{{\"$ref\":\"#/$defs/d{0}\"}}]}}", i + 1))
        .collect();
    let text = format!("{{\"$ref\":\"#/$defs/d0\",\"$defs\":{{{},\"d40\":{{}}}}}}", defs.join(","));
    assert!(refused(&text).starts_with("validation may look at a value "));
    let chain = |n: usize| {
        let defs: Vec<_> =
            (0..n).map(|i| format!("\"d{i}\":{{\"$ref\":\"#/$defs/d{}\"}}", i + 1)).collect();
        format!(
            "{{\"$ref\":\"#/$defs/d0\",\"$defs\":{{{},\"d{n}\":{{\"type\":\"null\"}}}}}}",
            defs.join(",")
        )
    };
    assert_eq!(refused(&chain(1000)), "a chain of 1002 subschemas, at most 600");
    // The longest one allowed fits a stack of 2 MiB, which is what threads of tests have.
    assert!(bounded(&chain(598), "null"));
    assert!(!bounded(&chain(598), "1"));
}

#[test]
fn patterns_run_in_linear_time() {
    let data = format!("\"{}\"", "a".repeat(250_000));
    assert!(!bounded(r#"{"pattern":"^(a|aa)+$b"}"#, &data));
    assert!(!bounded(r#"{"pattern":"(a*)*b"}"#, &data));
}

#[test]
fn large_arrays_are_compared_within_bounds() {
    let many: Vec<String> = (0..40_000).map(|i| i.to_string()).collect();
    assert!(bounded(r#"{"uniqueItems":true}"#, &format!("[{}]", many.join(","))));
    let lists: Vec<String> = (0..20_000).map(|i| format!("[{i}]")).collect();
    assert!(bounded(r#"{"uniqueItems":true}"#, &format!("[{}]", lists.join(","))));
}

proptest! {
    #[test]
    fn any_document_compiles_or_is_refused(
        keyword in prop::sample::select(vec![
            "type", "properties", "items", "$ref", "allOf", "pattern", "enum", "not", "$id",
            "required", "minimum", "dependentSchemas", "unevaluatedItems", "$anchor", "$vocabulary",
        ]),
        value in prop::sample::select(vec![
            "1", "\"a\"", "\"#\"", "\"object\"", "[]", "[1]", "[{}]", "{}", "{\"a\":1}", "null",
            "true", "[\"a\"]", "{\"a\":{}}", "-1", "\"[\"",
        ]),
        data in prop::sample::select(vec!["1", "{\"a\":[1]}", "[[]]", "\"a\""]),
    ) {
        match Schema::compile(&format!("{{\"{keyword}\":{value}}}")) {
            Ok(schema) => drop(schema.validate(data.as_bytes())),
            Err(wrong) => {
                prop_assert_eq!(wrong.rule, Rule::SchemaInvalid);
                prop_assert!(wrong.description != "cannot be compiled");
            }
        }
    }
}

#[test]
fn word_boundaries_are_of_ascii_letters() {
    let schema = r#"{"properties":{"a":{"pattern":"^na\\b"}},"patternProperties":{"x\\b":false}}"#;
    let schema = Schema::compile(schema).unwrap();
    let valid = |data: &str| schema.validate(data.as_bytes()).is_ok();
    // `ï` is no letter of ECMA-262's: a word ends before it.
    assert!(valid(r#"{"a":"naïve"}"#) && !valid(r#"{"a":"nab"}"#));
    assert!(!valid(r#"{"xï":1}"#) && valid(r#"{"xb":1}"#));
}

#[test]
fn what_patterns_do_not_know_is_named() {
    for schema in [
        r#"{"pattern":"^(?=a)"}"#,
        r#"{"properties":{"a":{"pattern":"(?<!a)b"}}}"#,
        r#"{"items":{"patternProperties":{"^(?!x)":true}}}"#,
    ] {
        let wrong = Schema::compile(schema).unwrap_err();
        assert!(wrong.description.contains("look-around is not supported"), "{wrong:?}");
    }
    let wrong = Schema::compile(r#"{"pattern":"(a)\\1"}"#).unwrap_err();
    assert!(wrong.description.contains("back-references are not supported"), "{wrong:?}");
    Schema::compile(r#"{"const":{"pattern":"(?=a)"},"$defs":{"pattern":{"type":"string"}}}"#)
        .expect("data is no pattern");
}
