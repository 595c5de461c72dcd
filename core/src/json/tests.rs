use super::*;
use proptest::prelude::*;
use serde_json::Value as Tree;

const DEPTH: usize = 64;

fn refused(text: impl AsRef<[u8]>) -> (usize, JsonErrorKind) {
    match check(text.as_ref(), DEPTH) {
        Ok(()) => panic!("accepted {:?}", String::from_utf8_lossy(text.as_ref())),
        Err(error) => (error.offset, error.kind),
    }
}

#[test]
fn what_rfc_8259_allows_is_accepted() {
    for text in [
        "0",
        "-0",
        "1.0",
        "-1.5e-7",
        "1E+2",
        "1e-400",
        "12345678901234567890123",
        "true",
        "false",
        "null",
        "\"\"",
        "\"\u{7f}\u{2028}ñ\u{1f600}\"",
        r#""\"\\\/\b\f\n\r\t\u0000\u00e9\uD83D\uDE00""#,
        " \t\r\n[ ] ",
        "{}",
        "{ \"a\" : [ 1 , { } , \"x\" ] , \"b\" : null }",
        r#"{"":1," ":2,"__proto__":3}"#,
        "[[[[[[[[]]]]]]]]",
    ] {
        assert_eq!(check(text.as_bytes(), DEPTH), Ok(()), "{text}");
    }
}

#[test]
fn what_is_not_json_is_refused_with_its_offset() {
    use JsonErrorKind::*;
    for (text, offset, kind) in [
        (&b""[..], 0, Empty),
        (b"  ", 2, UnexpectedEnd),
        (b"\xef\xbb\xbf1", 0, ByteOrderMark),
        (b"\"a\xff\"", 2, Utf8),
        (b"\"\xed\xa0\x80\"", 1, Utf8),
        (b"[1,]", 3, Unexpected),
        (b"[1 2]", 3, Unexpected),
        (b"[1", 2, UnexpectedEnd),
        (b"[1}", 2, Unexpected),
        (b"{\"a\":1]", 6, Unexpected),
        (b"{\"a\" 1}", 5, Unexpected),
        (b"{a:1}", 1, Unexpected),
        (b"{\"a\":1,}", 7, Unexpected),
        (b"]", 0, Unexpected),
        (b"tru", 3, UnexpectedEnd),
        (b"trua", 3, Unexpected),
        (b"'a'", 0, Unexpected),
        (b"\"a", 2, UnexpectedEnd),
        (b"\"a\\", 3, UnexpectedEnd),
        (b"\"\\x\"", 1, InvalidEscape),
        (b"\"\\u12g4\"", 1, InvalidEscape),
        (b"\"a\nb\"", 2, ControlCharacter),
        (b"\"a\0b\"", 2, Nul),
        (b"\0", 0, Nul),
        (b"1\0", 1, Nul),
        (b"[1,\0]", 3, Nul),
        (b"01", 1, InvalidNumber),
        (b"-", 1, UnexpectedEnd),
        (b"-a", 1, InvalidNumber),
        (b"1.", 2, UnexpectedEnd),
        (b"1.e1", 2, InvalidNumber),
        (b"1e+", 3, UnexpectedEnd),
        (b"+1", 0, Unexpected),
        (b".5", 0, Unexpected),
        (b"0x10", 1, TrailingData),
        (b"NaN", 0, NotFinite),
        (b"[Infinity]", 1, NotFinite),
        (b"-Infinity", 1, NotFinite),
        (b"1 2", 2, TrailingData),
        (b"{} x", 3, TrailingData),
        (b"1 // no", 2, TrailingData),
    ] {
        assert_eq!(refused(text), (offset, kind), "{:?}", String::from_utf8_lossy(text));
    }
}

#[test]
fn numbers_that_are_infinite_as_a_double_are_refused() {
    let kind = JsonErrorKind::NumberOutOfRange;
    assert_eq!(refused("[1e400]"), (1, kind));
    assert_eq!(refused("-1e309"), (0, kind));
    assert_eq!(refused("1e99999999999999999999"), (0, kind));
    assert_eq!(refused("9".repeat(310)), (0, kind));
    assert_eq!(refused("1.7976931348623159e308"), (0, kind));
    for fits in ["1.7976931348623157e308", "0e999999999", "1e-99999999999999999999"] {
        assert_eq!(check(fits.as_bytes(), DEPTH), Ok(()), "{fits}");
    }
    assert_eq!(check("9".repeat(308).as_bytes(), DEPTH), Ok(()));
    assert_eq!(check(format!("0.{}", "9".repeat(5000)).as_bytes(), DEPTH), Ok(()));
}

#[test]
fn lone_surrogates_are_refused_at_their_backslash() {
    let kind = JsonErrorKind::LoneSurrogate;
    assert_eq!(refused(r#""a\ud800""#), (2, kind));
    assert_eq!(refused(r#""\udc00\ud800""#), (1, kind));
    assert_eq!(refused(r#""\ud800\u0041""#), (1, kind));
    assert_eq!(refused(r#""\ud800\n""#), (1, kind));
    assert_eq!(refused(r#"{"\ud800":1}"#), (2, kind));
}

#[test]
fn depth_counts_open_containers() {
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert_eq!(check(nested(64).as_bytes(), 64), Ok(()));
    assert_eq!(refused(nested(65)), (64, JsonErrorKind::TooDeep));
    assert_eq!(check(b"1", 0), Ok(()));
    assert!(check(b"[]", 0).is_err());
    let objects = format!("{}1{}", "{\"a\":".repeat(65), "}".repeat(65));
    assert_eq!(refused(objects), (64 * 5, JsonErrorKind::TooDeep));
    // A bound that lets everything in costs heap, not stack.
    assert_eq!(check(nested(200_000).as_bytes(), usize::MAX), Ok(()));
}

#[test]
fn duplicate_names_are_found_after_unescaping() {
    let kind = JsonErrorKind::DuplicateName;
    let text = br#"{"a":1,"b":{"a":2},"a":3}"#;
    let error = check(text, DEPTH).expect_err("duplicate");
    assert_eq!(error, JsonError { offset: 19, kind });
    assert_eq!(error.to_string(), "duplicate member name at byte 19");
    assert_eq!(refused(r#"{"a":1,"\u0061":2}"#), (7, kind));
    assert_eq!(refused(r#"{"\ud83d\ude00":1,"😀":2}"#), (18, kind));
    assert_eq!(refused(r#"[{"x":{"/":1,"\/":2}}]"#), (13, kind));
    assert_eq!(check(br#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}"#, DEPTH), Ok(()));
}

#[test]
fn duplicates_in_large_objects_are_found_wherever_they_are() {
    for count in [15usize, 16, 17, 18, 40, 1000] {
        let names: Vec<String> = (0..count).map(|i| format!("n{i}")).collect();
        let text = |names: &[String]| {
            let members: Vec<_> = names.iter().map(|n| format!("\"{n}\":{{\"n0\":0}}")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert_eq!(check(text(&names).as_bytes(), DEPTH), Ok(()), "{count}");
        for (first, second) in [(0, count - 1), (count - 2, count - 1), (0, 1)] {
            for spelled in ["n", "\\u006e"] {
                let mut names = names.clone();
                names[second] = format!("{spelled}{first}");
                let text = text(&names);
                let (offset, kind) = refused(&text);
                assert_eq!(kind, JsonErrorKind::DuplicateName);
                let expected = text.rmatch_indices(&format!("\"{spelled}{first}\":{{")).next();
                assert_eq!(Some(offset), expected.map(|(at, _)| at), "{count} {second}");
            }
        }
    }
}

#[test]
fn hostile_names_stay_cheap() {
    // Names with long common prefixes, plain and escaped: as slow as a comparison sort can get.
    let text = |prefix: &str| {
        let members: Vec<_> = (0..2000).map(|i| format!("\"{prefix}{i}\":0")).collect();
        format!("{{{}}}", members.join(","))
    };
    for prefix in ["x".repeat(100), "\\u0061".repeat(16)] {
        assert_eq!(check(text(&prefix).as_bytes(), DEPTH), Ok(()));
    }
}

#[test]
fn plain_runs_stop_at_each_special_byte_in_each_position() {
    for special in (0u8..0x20).chain([b'"', b'\\']) {
        for at in 0..20 {
            let mut bytes = vec![b'\xc3'; 20];
            bytes[at] = special;
            assert_eq!(plain_run(&bytes), at, "{special:#x} at {at}");
            assert!(!is_plain(special));
        }
    }
    assert_eq!(plain_run(b"!#[]~\x7f\xff  "), 9);
}

#[test]
fn paths_find_source_bytes() {
    let text = br#" {"a":[{"b-c": 1.0 },{"d":"x"}],"e\u0066":{"g":[ 1, 2 ]},"n":null} "#;
    let find = |path: &str| {
        let found = Path::parse(path).expect("a path").find(text);
        found.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    assert_eq!(find(r#".a[0]["b-c"]"#).as_deref(), Some("1.0"));
    assert_eq!(find(".a[1].d").as_deref(), Some("\"x\""));
    assert_eq!(find(".ef.g").as_deref(), Some("[ 1, 2 ]"));
    assert_eq!(find(r#"["e\u0066"].?g[?1]"#).as_deref(), Some("2"));
    assert_eq!(find(".n").as_deref(), Some("null"));
    assert_eq!(find("").map(|all| all.len()), Some(text.len() - 2));
    for missing in [".x", ".a[2]", ".a.b", ".n.x", ".ef[0]", "[0]", ".a[1].d[0]"] {
        assert_eq!(find(missing), None, "{missing}");
    }
    let absent = |path: &str| Path::parse(path).expect("a path").miss_is_absence(text);
    assert!(absent(".?x"));
    assert!(absent(".?x.y"));
    assert!(absent(".a[?7].y"));
    assert!(!absent(".x.?y"));
    assert!(!absent(".x"));
}

#[test]
fn wrong_paths_are_refused() {
    for path in
        ["a", ".", ".1", "[", "[]", "[1", "[x]", "[-1]", ".a b", "[\"a]", ".a..b", "[\"\\x\"]"]
    {
        let wrong = Path::parse(path).expect_err(path);
        assert_eq!(wrong.rule, crate::error::Rule::Malformed);
    }
}

#[test]
fn numbers_are_int_or_double() {
    let number = |text: &str| Node::of(text.as_bytes()).as_number();
    assert_eq!(number("7"), Some(Number::Int(7)));
    assert_eq!(number("-0"), Some(Number::Int(0)));
    assert_eq!(number("9223372036854775807"), Some(Number::Int(i64::MAX)));
    assert_eq!(number("9223372036854775808"), Some(Number::Double(9_223_372_036_854_775_808.0)));
    assert_eq!(number("-9223372036854775808"), Some(Number::Int(i64::MIN)));
    assert_eq!(number("1.0"), Some(Number::Double(1.0)));
    assert_eq!(number("1e2"), Some(Number::Double(100.0)));
    assert_eq!(number("\"1\""), None);
}

#[test]
fn strings_are_written_with_minimal_escapes() {
    let mut out = Vec::new();
    write_string(&mut out, "\"\\/\u{8}\t\n\u{c}\r\u{0}\u{1f}\u{7f}\u{2028}<é😀>");
    let expected = "\"\\\"\\\\/\\b\\t\\n\\f\\r\\u0000\\u001f\u{7f}\u{2028}<é😀>\"";
    assert_eq!(String::from_utf8_lossy(&out), expected);
}

#[test]
fn compacting_leaves_strings_alone() {
    let text = b" { \"a b\" : [ 1.0 , \"x \\\" y\" ] ,\n\t\"c\" : 1E2 } ";
    assert_eq!(compact(text), b"{\"a b\":[1.0,\"x \\\" y\"],\"c\":1E2}");
}

/// Texts that are JSON, with white space and escapes in odd places.
pub(crate) fn json_text() -> impl Strategy<Value = String> {
    let space = prop_oneof![4 => Just(String::new()), 1 => "[ \t\r\n]{1,3}"];
    let string = prop::collection::vec(
        prop_oneof![
            4 => "[a-c ñ😀\u{7f}]".prop_map(|s: String| s),
            1 => prop::sample::select(vec!["\\n", "\\\"", "\\\\", "\\/", "\\u0000", "\\u0061", "\\ud83d\\ude00"])
                .prop_map(str::to_owned),
        ],
        0..5,
    )
    .prop_map(|parts| format!("\"{}\"", parts.concat()));
    let number = "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,2})?";
    let literal = prop::sample::select(vec!["true", "false", "null"]).prop_map(str::to_owned);
    let leaf = prop_oneof![string.clone(), number, literal];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        let spaced = (space.clone(), inner, space.clone()).prop_map(|(a, v, b)| a + &v + &b);
        let member = (space.clone(), string.clone(), space.clone(), spaced.clone())
            .prop_map(|(a, name, b, v)| format!("{a}{name}{b}:{v}"));
        prop_oneof![
            prop::collection::vec(spaced, 0..6).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec(member, 0..6).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    })
}

/// JSON texts with a few bytes changed, and arbitrary bytes of its alphabet.
fn broken_text() -> impl Strategy<Value = Vec<u8>> {
    let alphabet =
        prop::sample::select(b"{}[]:,\"\\/ \n\x00truefalsn0123456789-+.eEudcD8NI\xc3\xb1".to_vec());
    let edit = (any::<prop::sample::Index>(), alphabet.clone(), 0..3u8);
    let edited = (json_text(), prop::collection::vec(edit, 0..4)).prop_map(|(text, edits)| {
        let mut bytes = text.into_bytes();
        for (at, byte, how) in edits {
            let at = at.index(bytes.len() + 1);
            match how {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                _ if at < bytes.len() => drop(bytes.remove(at)),
                _ => {}
            }
        }
        bytes
    });
    prop_oneof![3 => edited, 1 => prop::collection::vec(alphabet, 0..12)]
}

/// What serde_json makes of it, keeping duplicate members apart.
fn agrees(node: Node<'_>, tree: &Tree) -> bool {
    match tree {
        Tree::Null => node.kind() == Kind::Null && node.source() == b"null",
        Tree::Bool(b) => node.as_bool() == Some(*b),
        Tree::Number(n) => match node.as_number() {
            Some(Number::Int(i)) => n.as_i64() == Some(i) || (i == 0 && n.as_f64() == Some(0.0)),
            Some(Number::Double(d)) => {
                // serde_json's default parsing may be off by one unit in the last place.
                n.as_f64().is_some_and(|m| m == d || ((m - d) / d).abs() < 1e-15)
            }
            None => false,
        },
        Tree::String(s) => node.as_str().as_deref() == Some(s),
        Tree::Array(all) => {
            node.kind() == Kind::Array
                && node.elements().count() == all.len()
                && node.elements().zip(all).all(|(node, tree)| agrees(node, tree))
                && (0..all.len()).all(|i| node.element(i) == node.elements().nth(i))
        }
        Tree::Object(all) => {
            node.kind() == Kind::Object
                && node.members().count() == all.len()
                && node.members().all(|(name, value)| {
                    all.get(&*name.text()).is_some_and(|tree| agrees(value, tree))
                        && node.member(&name.text()) == Some(value)
                })
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn generated_json_is_accepted_and_read_as_serde_json_does(text in json_text()) {
        let tree: Tree = serde_json::from_str(&text).expect("the generator makes JSON");
        match check(text.as_bytes(), DEPTH) {
            Ok(()) => prop_assert!(agrees(Node::of(text.as_bytes()), &tree), "{}", text),
            Err(error) => prop_assert_eq!(error.kind, JsonErrorKind::DuplicateName),
        }
    }

    #[test]
    fn check_agrees_with_serde_json_but_for_our_own_rules(text in broken_text()) {
        let theirs = serde_json::from_slice::<Tree>(&text);
        match check(&text, DEPTH) {
            Ok(()) => prop_assert!(theirs.is_ok(), "{:?}", String::from_utf8_lossy(&text)),
            Err(error) => {
                prop_assert!(error.offset <= text.len());
                let ours = matches!(error.kind, JsonErrorKind::DuplicateName | JsonErrorKind::TooDeep);
                prop_assert!(ours || theirs.is_err(), "{} {:?}", error, String::from_utf8_lossy(&text));
            }
        }
    }

    #[test]
    fn compact_texts_mean_the_same_and_cannot_shrink(text in json_text()) {
        let small = compact(text.as_bytes());
        let before: Tree = serde_json::from_str(&text).expect("JSON");
        let after: Tree = serde_json::from_slice(&small).expect("still JSON");
        prop_assert_eq!(before, after);
        prop_assert_eq!(compact(&small), small);
    }

    #[test]
    fn written_strings_read_back(s in any::<String>()) {
        let mut out = Vec::new();
        write_string(&mut out, &s);
        prop_assert_eq!(check(&out, 0), Ok(()));
        let read = Node::of(&out).as_str();
        prop_assert_eq!(read.as_deref(), Some(s.as_str()));
        prop_assert_eq!(serde_json::from_slice::<String>(&out).ok(), Some(s));
    }

    #[test]
    fn unchecked_texts_neither_panic_nor_hang(text in broken_text()) {
        let node = Node::of(&text);
        let mut seen = 0;
        for (name, value) in node.members() {
            let _ = (name.text(), name.is("a"), value.as_number(), value.as_str());
            seen += 1;
        }
        seen += node.elements().count();
        prop_assert!(seen <= text.len());
        let _ = (node.as_str(), node.as_number(), compact(&text), find(&text, &[Step::Element(1)]));
    }
}

/// Prints what a check costs: `cargo test --release -p pregon-core timings -- --ignored --nocapture`.
#[test]
#[ignore = "prints timings, asserts nothing"]
fn timings() {
    let member =
        |i: usize| format!("\"name{i}\":{{\"id\":\"o-{i}\",\"amount\":{i}.50,\"ok\":true}}");
    let wide: Vec<_> = (0..4000).map(member).collect();
    let narrow: Vec<_> = (0..20).map(member).collect();
    for members in [narrow, wide] {
        let text = format!("{{{}}}", members.join(","));
        let rounds = 100_000_000 / text.len();
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            assert!(check(std::hint::black_box(text.as_bytes()), DEPTH).is_ok());
        }
        let each = start.elapsed().as_secs_f64() / rounds as f64;
        let speed = text.len() as f64 / each / 1e6;
        println!("check: {} bytes, {:.2} us, {speed:.0} MB/s", text.len(), each * 1e6);
    }
}
