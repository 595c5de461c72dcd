//! What expressions give: kinds, bytes that are kept, functions, reasons.

use super::*;

#[test]
fn each_kind_of_value_has_its_output() {
    for (source, expected) in [
        ("event.data.text", text("PII-text")),
        ("event.data.esc", text("a/b")),
        ("event.data.n", Ok(Output::Int(7))),
        ("event.data.one", Ok(Output::Double(1.0))),
        ("event.data.big", Ok(Output::Double(9_223_372_036_854_775_808.0))),
        ("event.data.yes", Ok(Output::Bool(true))),
        ("event.data[\"null\"]", Ok(Output::Null)),
        ("null", Ok(Output::Null)),
        ("2u", Ok(Output::Int(2))),
        ("1 + 2", Ok(Output::Int(3))),
        ("1.5 * 2.0", Ok(Output::Double(3.0))),
        ("optional.none()", Ok(Output::Absent)),
        ("optional.of(optional.of(1))", Ok(Output::Int(1))),
        ("optional.of(optional.none())", Ok(Output::Absent)),
        ("event.data.?none", Ok(Output::Absent)),
        ("event.data.?none.a.b", Ok(Output::Absent)),
        ("event.data.?n.a", Ok(Output::Absent)),
        ("event.data.?n", Ok(Output::Int(7))),
        ("event.data.list[?0]", Ok(Output::Double(1.0))),
        ("event.data.list[?9]", Ok(Output::Absent)),
        ("event.data[?\"n\"]", Ok(Output::Int(7))),
        ("event.data[?\"null\"]", Ok(Output::Null)),
        ("event.data.?none.orValue([])", json("[]")),
        ("event.data.?list.orValue([])", json("[ 1.0 , {\"x\" : 1} ]")),
    ] {
        assert_eq!(value(source), expected, "{source}");
    }
}

#[test]
fn lists_and_objects_keep_their_bytes() {
    let odd = r#"{ "b" :1.0 ,"a": [ 1e2, "\u00e9" ] }"#;
    for source in [
        "event.data.odd",
        "event.data.?odd",
        "event.data[\"odd\"]",
        "event.data[\"o\" + \"dd\"]",
        "event.data.yes ? event.data.odd : event.data.list",
        "event.data.?odd.orValue([])",
        "event.data.?none.or(event.data.?odd)",
        "[event.data.odd][0]",
    ] {
        assert_eq!(value(source), json(odd), "{source}");
        assert_eq!(verbatim(source), json(odd), "{source}");
    }
    assert_eq!(value("event.data"), json(DATA));
    assert_eq!(verbatim("event.data"), json(DATA));
    let world = World::new(" [1 ]\n");
    assert_eq!(compiled("event.data", Site::Template).value(&world.scope()), json("[1 ]"));
}

#[test]
fn a_bare_path_is_spliced_as_it_stands() {
    for (source, expected) in [
        ("event.data.one", json("1.0")),
        ("event.data.hundred", json("1e2")),
        ("event.data.big", json("9223372036854775808")),
        ("event.data.esc", json("\"\\u0061\\/b\"")),
        ("event.data.?esc", json("\"\\u0061\\/b\"")),
        ("event.data[\"null\"]", json("null")),
        ("event.data.?none", Ok(Output::Absent)),
        ("event.data.?n.a", Ok(Output::Absent)),
        ("event.data.none", Err("event.data.none is absent".to_owned())),
        ("event.data.none.?a", Err("event.data.none.a is absent".to_owned())),
        // Anything more than a path gives what CEL has.
        ("event.data.yes ? event.data.one : 0.0", Ok(Output::Double(1.0))),
        ("event.data.one + 0.0", Ok(Output::Double(1.0))),
        ("event.id", text("o1")),
    ] {
        assert_eq!(verbatim(source), expected, "{source}");
    }
}

#[test]
fn lists_made_in_cel_are_written_in_order() {
    for (source, expected) in [
        ("[3, 1.5, \"a\\\"\\n\", true, null, 2u]", "[3,1.5,\"a\\\"\\n\",true,null,2]"),
        ("[event.data.odd, [event.data.one]]", "[{ \"b\" :1.0 ,\"a\": [ 1e2, \"\\u00e9\" ] },[1]]"),
        ("event.data.items.map(i, i.sku)", "[\"a\",\"b\"]"),
        ("event.data.items.map(i, i.n)", "[1.5,20]"),
        ("event.data.items.filter(i, i.n > 5)", "[{\"sku\": \"b\", \"n\": 20}]"),
        ("[event.data.?none, event.data.?n]", "[7]"),
        ("[?event.data.?none, 1]", "[1]"),
        ("event.type.split(\".\", 2)", "[\"order\",\"captured.twice\"]"),
        ("event.data.empty + [1]", "[1]"),
        ("[]", "[]"),
    ] {
        assert_eq!(value(source), json(expected), "{source}");
    }
}

#[test]
fn numbers_are_written_as_javascript_does() {
    for (number, expected) in [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (100.0, "100"),
        (123.456, "123.456"),
        (0.1, "0.1"),
        (0.000_001, "0.000001"),
        (0.000_001_5, "0.0000015"),
        (0.000_000_1, "1e-7"),
        (1.25e-7, "1.25e-7"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (123_456_789_012_345_680_000.0, "123456789012345680000"),
        (9_007_199_254_740_993.0, "9007199254740992"),
        (f64::MAX, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
        (-1e-7, "-1e-7"),
    ] {
        let mut out = Vec::new();
        crate::json::write_number(&mut out, number);
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}

#[test]
fn functions_of_our_own() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for (source, expected) in [
        ("hex(sha256(\"\"))", empty),
        ("hex(sha256(b\"\"))", empty),
        ("hex(sha256(bytes(\"\")))", empty),
        ("hex(b\"\\x00\\xff\")", "00ff"),
        ("base64(b\"\\xff\\xef\\xff\\xfa\")", "/+//+g=="),
        ("base64(sha256(\"\"))", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
        ("base64(\"\")", ""),
        ("base64(event.id)", "bzE="),
        ("base64url(b\"\\xff\\xef\\xff\\xfa\")", "_-__-g"),
        ("hex(event.id)", "6f31"),
        ("hex(md5(\"\"))", "d41d8cd98f00b204e9800998ecf8427e"),
        ("hex(sha1(\"\"))", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        ("hex(sha512(\"\")).substring(0, 32)", "cf83e1357eefb8bdf1542850d66d8007"),
        ("string(crc32(\"123456789\"))", "3421780262"),
        // RFC 2202, test case 2; RFC 4231, test case 2.
        ("hex(hmac(\"md5\", \"Jefe\", event.data.ask))", "750c783e6ab0b503eaa86e310a5db738"),
        (
            "hex(hmac(\"sha1\", b\"Jefe\", event.data.ask))",
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
        ),
        (
            "hex(hmac(\"sha256\", \"Jefe\", event.data.ask))",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            "hex(hmac(\"sha512\", \"Jefe\", bytes(event.data.ask))).substring(0, 32)",
            "164b7a7bfcf819e2e395fbe73b56e0a3",
        ),
        ("percentEncode(\"aZ9-._~ /ñ%+\")", "aZ9-._~%20%2F%C3%B1%25%2B"),
        ("raw(event.data.one)", "1.0"),
        ("raw(event.data.text)", "PII-text"),
        ("raw(event.data.odd.a)", r#"[ 1e2, "\u00e9" ]"#),
        ("raw(event.data.?yes)", "true"),
        ("raw(event.data.?nope).orValue(\"-\")", "-"),
        ("string(attempt.time.unixMillis())", "1666823900500"),
        ("json(event.data.?nope.orValue({}))", "{}"),
        ("key.id + string(key.number) + signature", "k12c2ln"),
        ("secret.upperAscii()", "S3CRET"),
        (
            "hex(sha256(event.id + secret))",
            "441fafc392dbf3e560f19d280040f05d98cc55352fa0756178283ab839ad0172",
        ),
        ("json(event.data.odd)", r#"{ "b" :1.0 ,"a": [ 1e2, "\u00e9" ] }"#),
        ("json(event.data.text)", "\"PII-text\""),
        ("json(event.data.?text)", "\"PII-text\""),
        ("json([1, event.data.one, null])", "[1,1,null]"),
        ("json(true)", "true"),
        ("json(tenant.labels)", "{\"a-b\":\"dash\",\"tier\":\"gold\"}"),
        ("event.time.rfc3339(0)", "2022-10-26T22:36:41Z"),
        ("event.time.rfc3339(1)", "2022-10-26T22:36:41.6Z"),
        ("event.time.rfc3339(3)", "2022-10-26T22:36:41.600Z"),
        ("event.time.rfc3339(attempt.number)", "2022-10-26T22:36:41.600Z"),
        (
            "timestamp(\"2024-02-29T23:59:59.123456789-01:00\").rfc3339(9)",
            "2024-03-01T00:59:59.123456789Z",
        ),
        ("timestamp(\"0001-01-01T00:00:00Z\").rfc3339(0)", "0001-01-01T00:00:00Z"),
        (
            "event.time.format(\"dd/MM/yyyy HH:mm:ss\", \"America/Argentina/Buenos_Aires\")",
            "26/10/2022 19:36:41",
        ),
        (
            "event.time.format(\"yyyy-MM-dd'T'HH:mm:ss.SSSXXX\", event.data.zone)",
            "2022-10-27T07:36:41.600+09:00",
        ),
        ("event.time.format(\"HH\" + \"mm\", \"UTC\")", "2236"),
        ("event.type.split(\".\", 2)[0]", "order"),
        ("event.type.split(\".\", 2)[1]", "captured.twice"),
        ("event.type.substring(6).replace(\".\", \"-\")", "captured-twice"),
        ("[event.id, event.tenant].join(\"/\").upperAscii().lowerAscii()", "o1/acme"),
        ("string(event.data.n) + \":\" + string(event.data.yes)", "7:true"),
    ] {
        assert_eq!(value(source), text(expected), "{source}");
    }
}

#[test]
fn what_has_no_output_says_why_without_data() {
    for (source, why) in [
        ("event.time", "the result is a timestamp: format it, as in x.rfc3339(3)"),
        ("event.accept_time - event.time", "the result is a duration: format it, as in string(x)"),
        ("sha256(event.id)", "the result is bytes: format it, as in hex(x) or base64(x)"),
        ("[event.time]", "the result is a timestamp: format it, as in x.rfc3339(3)"),
        (
            "event.data.?text.optMap(x, event.time)",
            "the result is a timestamp: format it, as in x.rfc3339(3)",
        ),
        ("type(1)", "the result is a type, which cannot be written"),
        ("1.0 / 0.0", "the result is a number that is not finite"),
        ("[0.0 / 0.0]", "the result is a number that is not finite"),
        ("18446744073709551615u", "the result is a uint beyond the range of int"),
        ("event.data.nope", "event.data.nope is absent"),
        ("event.data.text.nope", "event.data.text.nope is absent"),
        ("tenant.labels.nope", "tenant.labels[\"nope\"] is absent"),
        ("int(event.data.text)", "function int failed"),
        ("event.time.format(event.data.text, \"UTC\")", "function format failed"),
        ("event.time.format(\"HH\", event.data.text)", "function format failed"),
        ("event.time.rfc3339(event.data.n + 3)", "function rfc3339 failed"),
        (
            "json(event.time)",
            "found no matching overload for 'json' applied to '(google.protobuf.Timestamp)'",
        ),
        ("hex(event.data.n)", "found no matching overload for 'hex' applied to '(int)'"),
        ("base64(event.data.n)", "found no matching overload for 'base64' applied to '(int)'"),
        ("hmac(event.data.text, secret, event.id)", "function hmac failed"),
        ("raw(event.data.nope)", "event.data.nope is absent"),
        ("sha256(event.data.n)", "found no matching overload for 'sha256' applied to '(int)'"),
        ("event.data.text.format(\"HH\", \"UTC\")", "found no matching overload"),
    ] {
        let reason = value(source).expect_err(source);
        assert!(reason.starts_with(why), "{source}: {reason}");
        assert!(!reason.contains("PII"), "event data in a reason");
    }
    let mut world = World::new(DATA);
    world.request = Bytes::from_static(b"\xff");
    let body = compiled("request.body", Site::Template).value(&world.scope());
    let bytes = "the result is bytes: format it, as in hex(x) or base64(x)";
    assert_eq!(body, Err(bytes.to_owned()));
    let hashed = compiled("hex(sha256(request.body))", Site::Template).value(&world.scope());
    let ff = "a8100ae6aa1940d0b663bb31cd466142ebbdbd5187131b92d93818987832eb89";
    assert_eq!(hashed, text(ff));
    assert_eq!(format!("{:?}", value("event.data.text")), "Ok(Text(8 bytes))");
}

#[test]
fn lists_are_equal_whoever_made_them() {
    let world = World::new(r#"{"l": ["a", "b"], "m": [{"l": ["a", "b"]}], "s": "a,b", "e": []}"#);
    for source in [
        "event.data.s.split(\",\") == event.data.l",
        "event.data.l == event.data.s.split(\",\")",
        "event.data.m.exists(m, event.data.s.split(\",\") == m.l)",
        "event.data.m.all(m, m.l == event.data.l)",
        "event.data.l.map(x, x) == event.data.l.filter(x, true)",
        "event.data.?l.orValue([]) == event.data.s.split(\",\")",
        "event.data.s.split(\",\") == event.data.?l.orValue([])",
        "!(event.data.s.split(\",\") != event.data.l)",
        "event.data.s.split(\"\") != event.data.l",
        "event.data.?l == optional.of(event.data.l)",
        "event.data.?none == optional.none()",
        "size(event.data.l) + 0 == size(event.data.e) + 2",
    ] {
        let verdict = compiled(source, Site::Filter).holds(&world.scope());
        assert_eq!(verdict, Verdict::True, "{source}");
    }
}

#[test]
fn lists_within_lists_are_equal_whoever_made_them() {
    let world = World::new(r#"{"ids": ["a", "b"], "m": [[1, 2], [3]], "o": {"k": 1}, "s": "a,b"}"#);
    for (source, right) in [
        ("event.data.ids in [[\"a\", \"b\"]]", true),
        ("event.data.ids in [[\"b\", \"a\"]]", false),
        ("event.data.ids in [event.data.m[0], event.data.ids]", true),
        ("event.data.o in [event.data.ids, event.data.o]", true),
        ("event.data.s.split(\",\") in [event.data.ids]", true),
        ("event.data.m[1] in event.data.m.map(l, l)", true),
        ("!(event.data.ids in [[\"a\"], []])", true),
        ("[event.data.m[0]] == [[1, 2]]", true),
        ("[[1, 2]] == [event.data.m[0]]", true),
        ("[[1, 2], [3]] == event.data.m", true),
        ("[event.data.m[0]] != [[1, 3]]", true),
        ("[[event.data.m[1]], []] == [[[3]], []]", true),
        ("optional.of([event.data.m[0]]) == optional.of([[1, 2]])", true),
        ("event.data.m.exists(l, l in [[3]])", true),
        ("\"k\" in event.data.o", true),
        ("1 in [[1]]", false),
    ] {
        let verdict = compiled(source, Site::Filter).holds(&world.scope());
        let expected = if right { Verdict::True } else { Verdict::False };
        assert_eq!(verdict, expected, "{source}");
    }
}

#[test]
fn work_is_bounded_at_every_site() {
    let long =
        format!("{{\"s\":\"{}\",\"l\":[{}]}}", "a".repeat(200_000), vec!["1"; 10_000].join(","));
    let world = World::new(&long);
    let why =
        |source: &str| compiled(source, Site::Template).value(&world.scope()).expect_err(source);
    let too_much = "the expression does more work than it may";
    for source in [
        "event.data.l.map(x, event.data.s)",
        "event.data.l.map(x, hex(sha256(event.data.s)))",
        "event.data.l.map(x, json(event.data.l))",
        "event.data.l.map(x, event.data.l)",
        "event.data.l.map(x, event.time.format(\"'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'\", string(\"UTC\")))",
        "event.data.l.map(x, base64(bytes(event.data.s)))",
    ] {
        assert_eq!(why(source), too_much, "{source}");
    }
    let many = World::new(&format!("[{}]", vec!["1"; 10_001].join(",")));
    let why = compiled("event.data.map(x, x)", Site::Template).value(&many.scope());
    assert_eq!(why, Err("a comprehension runs over more than 10000 elements".to_owned()));
    let deep = format!("[1]{}", ".map(a, [[[[a]]]])".repeat(20));
    let why = compiled(&deep, Site::Template).value(&world.scope());
    assert_eq!(why, Err("lists nested deeper than 64".to_owned()));
}
