use super::*;

mod contracts;
mod properties;
mod typed_values;

fn refused(text: &str) -> String {
    match read(text) {
        Ok(node) => panic!("accepted {text:?} as {node:?}"),
        Err(fault) => fault.to_string(),
    }
}

/// The tree in JSON's notation; scalars that are not typed as strings.
fn shown(node: &Node) -> String {
    match &node.value {
        Value::Map(members) => {
            let members =
                members.iter().map(|(key, value)| format!("{:?}:{}", key.text, shown(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::List(elements) => {
            format!("[{}]", elements.iter().map(shown).collect::<Vec<_>>().join(","))
        }
        Value::Scalar { text, .. } => match node.typed() {
            Some(Typed::Text(_)) | None => format!("{text:?}"),
            Some(Typed::Null | Typed::Bool(_) | Typed::Number(_)) => text.clone(),
        },
    }
}

fn accepted(text: &str) -> String {
    match read(text) {
        Ok(node) => shown(&node),
        Err(fault) => panic!("refused {text:?}: {fault}"),
    }
}

#[test]
fn the_subset_is_read() {
    let cases = [
        ("a: b", r#"{"a":"b"}"#),
        ("---\na: b\n...\n", r#"{"a":"b"}"#),
        ("# note\na: b # note\r\nc: d\r\n", r#"{"a":"b","c":"d"}"#),
        ("a:\n- 1\n- two\n- [x, {y: z}]\n", r#"{"a":[1,"two",["x",{"y":"z"}]]}"#),
        ("- - a\n  - b\n- c: d\n  e: f\n", r#"[["a","b"],{"c":"d","e":"f"}]"#),
        ("{}", "{}"),
        ("a: |\n  one\n   two\n\nb: >-\n  one\n  two\n", r#"{"a":"one\n two\n","b":"one two"}"#),
        ("a: one\n  two\n", r#"{"a":"one two"}"#),
        (
            "a: ''\nb: 'it''s'\nc: \"\\t\\u00e9\\U0001F600\"",
            "{\"a\":\"\",\"b\":\"it's\",\"c\":\"\\té😀\"}",
        ),
        ("\"...\": x\n'<<': y\n5: z", r#"{"...":"x","<<":"y","5":"z"}"#),
        ("a: ?x\nb: really ?\nc: d", r#"{"a":"?x","b":"really ?","c":"d"}"#),
        ("a: ${event.type.split(\".\", 2)[0]}", r#"{"a":"${event.type.split(\".\", 2)[0]}"}"#),
        ("a: ${event.data.?msg.orValue([])}", r#"{"a":"${event.data.?msg.orValue([])}"}"#),
        ("a: [order.*]", r#"{"a":["order.*"]}"#),
        ("[a: b]", r#"[{"a":"b"}]"#),
    ];
    for (text, tree) in cases {
        assert_eq!(accepted(text), tree, "{text:?}");
    }
}

#[test]
fn only_true_false_null_and_json_numbers_without_quotes_are_typed() {
    for text in ["true", "false", "null", "0", "-0", "12", "-1.50", "1E2", "1e+21", "0.5e-3"] {
        assert_eq!(accepted(&format!("a: {text}")), format!("{{\"a\":{text}}}"));
        let string = format!("{{\"a\":{text:?}}}");
        assert_eq!(accepted(&format!("a: '{text}'")), string);
        assert_eq!(accepted(&format!("a: |-\n  {text}")), string);
    }
    for text in [
        "yes",
        "no",
        "on",
        "True",
        "NULL",
        "~",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x1F",
        "0o7",
        "1_000",
        ".nan",
        ".inf",
        "NaN",
        "--1",
        "1 2",
        "2024-01-01",
        "1:2",
        "5m",
        "-a",
        "1.0.0",
        "٣",
    ] {
        if text != "-" {
            assert_eq!(accepted(&format!("a: {text}")), format!("{{\"a\":{text:?}}}"));
        }
        assert!(!is_number(text), "{text}");
    }
}

#[test]
fn every_value_and_key_has_its_place_in_characters() {
    let node = read("é: {ñ: 1,\n  b: [x, ü, y]}\nc:\n  - d: |\n      text\n").unwrap();
    let mut places = Vec::new();
    fn walk(node: &Node, places: &mut Vec<(String, usize, usize)>) {
        match &node.value {
            Value::Map(members) => {
                places.push(("{".into(), node.line, node.column));
                for (key, value) in members {
                    places.push((key.text.clone(), key.line, key.column));
                    walk(value, places);
                }
            }
            Value::List(elements) => {
                places.push(("[".into(), node.line, node.column));
                elements.iter().for_each(|element| walk(element, places));
            }
            Value::Scalar { text, .. } => places.push((text.clone(), node.line, node.column)),
        }
    }
    walk(&node, &mut places);
    let places: Vec<_> =
        places.iter().map(|(text, line, column)| (text.as_str(), *line, *column)).collect();
    let expected = [
        ("{", 1, 1),
        ("é", 1, 1),
        ("{", 1, 4),
        ("ñ", 1, 5),
        ("1", 1, 8),
        ("b", 2, 3),
        ("[", 2, 6),
        ("x", 2, 7),
        ("ü", 2, 10),
        ("y", 2, 13),
        ("c", 3, 1),
        ("[", 4, 3),
        ("{", 4, 5),
        ("d", 4, 5),
        ("text\n", 5, 7),
    ];
    assert_eq!(places, expected);
    // The same by the other way in.
    let node = read("{\"é\": {\"ñ\": 1,\n  \"b\": [\"x\", true]}}").unwrap();
    let mut places = Vec::new();
    walk(&node, &mut places);
    let places: Vec<_> =
        places.iter().map(|(text, line, column)| (text.as_str(), *line, *column)).collect();
    let expected = [
        ("{", 1, 1),
        ("é", 1, 2),
        ("{", 1, 7),
        ("ñ", 1, 8),
        ("1", 1, 13),
        ("b", 2, 3),
        ("[", 2, 8),
        ("x", 2, 9),
        ("true", 2, 14),
    ];
    assert_eq!(places, expected);
}

#[test]
fn what_is_refused_says_where_and_what_to_do() {
    let alias =
        "an alias (*) is not allowed: repeat the value; text that starts with * needs quotes";
    let anchor = "an anchor (&) is not allowed: remove it; text that starts with & needs quotes";
    let tag = "a tag (!) is not allowed: remove it; text that starts with ! needs quotes";
    let missing = "a value is missing; write it, or null, or \"\" for an empty text";
    let second = "a second document; only one is read: remove it and the line with ---";
    let complex = "a complex key (?) is not allowed; write key: value";
    let tab = "a tab; indent with spaces, and in double quotes write \\t";
    let directive = "a directive (%) is not allowed; remove the line";
    let control = "a control character; in double quotes, write it as an escape, as in \\x1B";
    let nobody = "a code point that is no character; remove it";
    let cases = [
        ("a: &x b", "1:4", anchor),
        ("a: b\nc: &x\n  d: e", "2:4", anchor),
        ("&x a: b", "1:1", anchor),
        ("a: !!str &x b", "1:4", anchor),
        ("a: & b", "1:4", anchor),
        ("a: *x", "1:4", alias),
        ("a: 1\nevents: [*]", "2:10", alias),
        ("*x : b", "1:1", alias),
        ("a:\n  - !!str b", "2:5", tag),
        ("a: !own {}", "1:4", tag),
        ("!x\na: b", "1:1", tag),
        ("a: !e!x b", "1:4", tag),
        ("<<: {a: b}", "1:1", "a merge key (<<) is not allowed; write the members out"),
        ("a: {b: 1, <<: c}", "1:11", "a merge key (<<) is not allowed; write the members out"),
        ("a: 1\nb: 2\n'a': 3", "3:1", "duplicate key \"a\", first at 1:1"),
        ("x: {é: 1, é: 2}", "1:11", "duplicate key \"é\", first at 1:5"),
        ("{\"a\": 1, \"\\u0061\": 2}", "1:10", "duplicate key \"a\", first at 1:2"),
        ("? a\n: b", "1:3", complex),
        ("?\n  a\n: b", "2:3", complex),
        ("{? a : b}", "1:4", complex),
        ("{a: b}: c", "1:1", "a key must be text, not a mapping or a list"),
        ("x:\n  [a, b]: c", "2:3", "a key must be text, not a mapping or a list"),
        ("? - a\n: b", "1:3", "a key must be text, not a mapping or a list"),
        (": b", "1:1", "a key is missing before the colon"),
        ("%YAML 1.2\n---\na: b", "1:1", directive),
        ("# note\n\n%TAG ! x\n---\na: b", "3:1", directive),
        ("a: b\n---\nc: d", "2:1", second),
        ("---\na: b\n...\n---\n", "4:1", second),
        ("a:\n\tb: c", "2:1", tab),
        ("a: b\t# c", "1:5", tab),
        (
            "{\"a\":\t1,\n \"a\": 2}",
            "1:6",
            "a tab; use spaces (tabs are read in JSON only, and this is not: duplicate member name at 2:2)",
        ),
        ("a: b\0", "1:5", "a NUL character; remove it"),
        ("a: b\nc: \"\u{7}\"", "2:5", control),
        ("a: \u{85}b", "1:4", control),
        ("é\u{fffe}", "1:2", nobody),
        ("a: \u{fdd0}", "1:4", nobody),
        ("a: \u{10ffff}", "1:4", nobody),
        ("\u{feff}a: b", "1:1", "a byte order mark; save the document without one"),
        ("a: \u{feff}b", "1:4", "a byte order mark; in double quotes, write \\uFEFF"),
        ("a: b\rc: d", "1:5", "a carriage return without a line feed; end lines with a line feed"),
        ("a: 1\nb:\nc: 2", "2:1", missing),
        ("a: 1\nb:", "2:1", missing),
        ("a: {b: , c: 1}", "1:5", missing),
        ("a: {b}", "1:5", missing),
        ("a:\n  - 1\n  -\n  - 2", "3:4", missing),
        ("---\n", "2:1", missing),
        ("a: 1e400", "1:4", "a number that no double can hold; put it in quotes"),
        ("", "1:1", "the document is empty"),
        ("# only a note\n", "1:1", "the document is empty"),
        ("a: @b", "1:4", "text that starts with @ needs quotes"),
        ("a: `b`", "1:4", "text that starts with ` needs quotes"),
        ("a: b\n c: d", "2:3", "mapping values are not allowed in this context"),
        ("a: [b", "2:1", "while parsing a flow sequence, expected ',' or ']'"),
        ("a: 'b", "1:4", "while scanning a quoted scalar, found unexpected end of stream"),
        (
            "a: { b: ${event.id} }",
            "1:10",
            "while parsing a flow mapping, did not find expected ',' or '}'; text with ${…} needs quotes in flow style, and \
             where it holds \": \" or \" #\"",
        ),
        (
            "a: ${b ? c : d}",
            "1:12",
            "mapping values are not allowed in this context; text with ${…} needs quotes in flow \
             style, and where it holds \": \" or \" #\"",
        ),
    ];
    let mut wrong = Vec::new();
    for (text, place, rule) in cases {
        let (said, expected) = (refused(text), format!("{place}: {rule}"));
        if said != expected {
            wrong.push(format!("{text:?}\n  said     {said}\n  expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn size_and_depth_are_bounded() {
    let longest = format!("a: {}", "x".repeat(DOCUMENT_LEN - 3));
    assert!(read(&longest).is_ok());
    assert_eq!(refused(&format!("{longest}x")), "1:1: a document of 65537 bytes; at most 65536");
    let flow = |depth: usize| format!("{}x{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(&flow(DEPTH)).is_ok());
    assert_eq!(refused(&flow(DEPTH + 1)), "1:33: nested deeper than 32 levels");
    let json = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(&json(DEPTH)).is_ok());
    assert_eq!(refused(&json(DEPTH + 1)), "1:33: nested deeper than 32 levels");
    let block = |depth: usize| {
        let lines = (0..depth).map(|level| format!("{}k:\n", " ".repeat(level)));
        format!("{}{}v", lines.collect::<String>(), " ".repeat(depth))
    };
    assert!(read(&block(DEPTH)).is_ok());
    assert_eq!(refused(&block(DEPTH + 1)), "33:33: nested deeper than 32 levels");
    assert_eq!(refused(&"- ".repeat(30_000)), "1:65: nested deeper than 32 levels");
    assert_eq!(refused(&"[".repeat(200)), "1:33: nested deeper than 32 levels");
    // The parser looks ahead for a key, and has its own bound.
    assert_eq!(refused(&"[".repeat(DOCUMENT_LEN)), "1:256: recursion limit exceeded");
}

#[test]
fn json_is_read_by_its_own_rules() {
    let long = "k".repeat(2000);
    let text =
        format!("{{\n\t\"{long}\": \"\\ud83d\\ude00\\/\",\n\t\"a\":null,\"b\":[-0.0,\"yes\"]}}");
    assert_eq!(accepted(&text), format!("{{\"{long}\":\"😀/\",\"a\":null,\"b\":[-0.0,\"yes\"]}}"));
    assert_eq!(accepted(" 12 "), "12");
    assert_eq!(accepted("\"x\""), "\"x\"");
}
