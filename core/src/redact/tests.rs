use proptest::prelude::*;

use super::*;
use crate::json::check;
use crate::limits::JSON_DEPTH;

fn paths(sources: &[&str]) -> Vec<SensitivePath> {
    sources.iter().map(|source| SensitivePath::parse(source).unwrap()).collect()
}

fn redacted(json: &str, sources: &[&str]) -> String {
    let json = Bytes::copy_from_slice(json.as_bytes());
    let out = redact(&json, SensitiveRoot::Event, &paths(sources));
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn values_are_replaced_and_the_rest_stays() {
    let json = " { \"a\" : { \"b\" : [1, {\"c\": 2}] , \"d\":1.0 },\n \"list\":[ {\"c\":1,\"d\":2}, 7 ,[{\"c\":3}],{\"c\" : {\"c\":4}} ] } ";
    for (sources, expected) in [
        (&["event.data.a.b"][..], json.replace("[1, {\"c\": 2}]", "\"[redacted]\"")),
        (
            &["event.data.list[*].c"],
            json.replace("\"c\":1", "\"c\":\"[redacted]\"").replace("{\"c\":4}", "\"[redacted]\""),
        ),
        (&["event.data.list[*][*].c"], json.replace("\"c\":3", "\"c\":\"[redacted]\"")),
        (
            &["event.data.a.d", "event.data.list"],
            " { \"a\" : { \"b\" : [1, {\"c\": 2}] , \"d\":\"[redacted]\" },\n \"list\":\"[redacted]\" } ".to_owned(),
        ),
        (&["event.data"], " \"[redacted]\" ".to_owned()),
        // The shorter path takes the subtree with it, in either order.
        (&["event.data.a.b[*].c", "event.data.a"], redacted(json, &["event.data.a"])),
        (&["event.data.a", "event.data.a.b[*].c"], redacted(json, &["event.data.a"])),
    ] {
        assert_eq!(redacted(json, sources), expected, "{sources:?}");
    }
    assert_eq!(redacted("[1,2]", &["event.data[*]"]), r#"["[redacted]","[redacted]"]"#);
    assert_eq!(redacted("7", &["event.data"]), r#""[redacted]""#);
    assert_eq!(
        redacted(r#"{"x-y":1,"":2}"#, &[r#"event.data["x-y"]"#]),
        r#"{"x-y":"[redacted]","":2}"#
    );
    assert_eq!(
        redacted(r#"{"x-y":1,"":2}"#, &[r#"event.data[""]"#]),
        r#"{"x-y":1,"":"[redacted]"}"#
    );
}

#[test]
fn names_are_compared_unescaped() {
    let json = r#"{"\u0065mail":"x@example.com","e\u006dail2":1}"#;
    assert_eq!(
        redacted(json, &["event.data.email"]),
        r#"{"\u0065mail":"[redacted]","e\u006dail2":1}"#
    );
    assert_eq!(
        redacted(json, &[r#"event.data["\u0065mail"]"#]),
        redacted(json, &["event.data.email"])
    );
}

#[test]
fn what_leads_nowhere_changes_nothing_and_copies_nothing() {
    let json = Bytes::from_static(br#" {"a":{"b":[1,"b"]},"l":[{"x":1}],"s":"a.b"} "#);
    let paths = paths(&[
        "event.data.x",
        "event.data.a.x",
        "event.data.a[*]",
        "event.data.a.b.x",
        "event.data.a.b[*].x",
        "event.data.l.x",
        "event.data.s.a",
        "event.data.s[*]",
        "event.data[*].a",
        "check.data.a",
        "check.data",
    ]);
    let out = redact(&json, SensitiveRoot::Event, &paths);
    assert_eq!(out, json);
    assert_eq!(out.as_ptr(), json.as_ptr());
    let out = redact(&json, SensitiveRoot::Check, &paths);
    assert_eq!(&out[..], b" \"[redacted]\" ");
}

#[test]
fn more_paths_than_one_walk_takes() {
    let names: Vec<_> = (0..200).map(|i| format!("n{i}")).collect();
    let members: Vec<_> = names.iter().map(|name| format!("\"{name}\":[1]")).collect();
    let json = format!("{{{},\"kept\":[1]}}", members.join(","));
    let sources: Vec<_> = names.iter().map(|name| format!("event.data.{name}")).collect();
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    let expected =
        json.replace("[1]", "\"[redacted]\"").replace("\"kept\":\"[redacted]\"", "\"kept\":[1]");
    assert_eq!(redacted(&json, &sources), expected);
}

#[test]
fn paths_keep_their_text_and_root() {
    for (source, root) in [
        ("event.data", SensitiveRoot::Event),
        ("check.data.email", SensitiveRoot::Check),
        (r#"event.data.list[*]["a b"].c_1"#, SensitiveRoot::Event),
    ] {
        let path = SensitivePath::parse(source).unwrap();
        assert_eq!((path.root(), path.as_str(), &*path.to_string()), (root, source, source));
    }
}

#[test]
fn wrong_paths_are_refused() {
    for source in [
        "",
        "data.a",
        "event",
        "event.dat",
        "event.type",
        "event.database",
        " event.data",
        "event.data ",
        "event.data.",
        "event.data.a..b",
        "event.data.?a",
        "event.data[0]",
        "event.data[?0]",
        "event.data[]",
        "event.data[**]",
        "event.data[*",
        "event.data.*",
        "event.data.a-b",
        "event.data[\"a]",
        "event.data[?\"a\"]",
        "response.data.a",
    ] {
        assert_eq!(
            SensitivePath::parse(source).expect_err(source).rule,
            Rule::Malformed,
            "{source}"
        );
    }
    let wrong = SensitivePath::parse("event.data.a[0]").unwrap_err();
    let expected = r#"what stands at byte 12 of "event.data.a[0]" is not .name, ["name"] or [*]"#;
    assert_eq!(wrong.description, expected);

    let steps = |count: usize| SensitivePath::parse(&format!("event.data{}", "[*]".repeat(count)));
    assert!(steps(16).is_ok());
    assert_eq!(steps(17).unwrap_err().rule, Rule::TooMany);
    let long = |count: usize| SensitivePath::parse(&format!("event.data.{}", "a".repeat(count)));
    assert!(long(245).is_ok());
    assert_eq!(long(246).unwrap_err().rule, Rule::TooLong);
}

/// A value with a secret where one of the paths below leads, and only there: its text, and the
/// same with [`REDACTED`] in the secret's place.
fn planted() -> impl Strategy<Value = (String, String)> {
    let space = prop::sample::select(vec!["", "", " ", "\n\t"]);
    let email = prop::sample::select(vec!["email", "\\u0065mail", "e\\u006da\\u0069l"]);
    let other = prop::sample::select(vec![
        "1.0",
        "\"email\"",
        "[]",
        "{}",
        "null",
        "{\"email\":2}",
        "[{\"x\":[1]}]",
        "\"\\\"}\"",
    ]);
    let secret = prop::sample::select(vec![
        "\"hunter2\"",
        "{\"deep\":[\"hunter2\"]}",
        "[\"hunter2\",{\"email\":\"hunter2\"}]",
        "{\"hunter2\":1}",
    ]);
    let users = prop::collection::vec((email.clone(), secret.clone(), other.clone()), 0..4);
    (space, email, other, secret, users).prop_map(|(space, email, other, secret, users)| {
        let write = |hidden: bool| {
            let show = |secret: &'static str| if hidden { "\"[redacted]\"" } else { secret };
            let users: Vec<_> = users
                .iter()
                .map(|(email, secret, other)| {
                    format!("{{\"id\":{other}{space},\"{email}\":{space}{}}}", show(secret))
                })
                .collect();
            format!(
                "{space}{{\"other\":{other},\"a\":{{{space}\"{email}\"{space}:{}{space},\"z\":{other}}},\
                 \"users\":[{}{space}],\"last\":{other}}}{space}",
                show(secret),
                users.join(","),
            )
        };
        (write(false), write(true))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn secrets_go_and_all_else_stays((json, expected) in planted()) {
        prop_assert_eq!(check(json.as_bytes(), JSON_DEPTH), Ok(()));
        let out = redacted(&json, &["event.data.a.email", "event.data.users[*].email"]);
        prop_assert!(!out.contains("hunter2"));
        prop_assert_eq!(check(out.as_bytes(), JSON_DEPTH), Ok(()));
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn any_text_stays_valid(json in crate::json::json_text()) {
        prop_assume!(check(json.as_bytes(), JSON_DEPTH).is_ok());
        let sources = ["event.data.a", "event.data[*]", "event.data.b[*].a", r#"event.data["\u0000"]"#];
        for source in sources {
            let out = redacted(&json, &[source]);
            prop_assert_eq!(check(out.as_bytes(), JSON_DEPTH), Ok(()));
            prop_assert_eq!(redacted(&out, &[source]), out);
        }
    }

    #[test]
    fn unchecked_texts_do_not_panic(json in "[{}\\[\\]:,\"ab\\\\ 1é]{0,30}") {
        // What is not JSON may be cut within a letter: what comes out need not be text.
        let redact = |sources| redact(&Bytes::copy_from_slice(json.as_bytes()), SensitiveRoot::Event, &paths(sources));
        let _ = redact(&["event.data", "event.data.a", "event.data[*].b", "event.data.a.b"]);
        let _ = redact(&["event.data.a", "event.data[*].b", "event.data[*][*]"]);
    }

    #[test]
    fn any_path_parses_or_is_refused(source in "(event|check)\\.data[.a\\[\\]*\"?0\\\\]{0,20}") {
        if let Ok(path) = SensitivePath::parse(&source) {
            prop_assert_eq!(path.as_str(), source);
        }
    }
}

#[test]
fn a_value_is_found_where_a_path_leads() {
    let data = br#"{"who":{"mail":"a\u0040b"},"list":[{"n":1.0},{"n":7}],"no":null}"#;
    let holds =
        |path: &str, value: &str| super::holds(data, &SensitivePath::parse(path).unwrap(), value);
    assert!(holds("event.data.who.mail", "a@b"));
    assert!(holds("event.data.list[*].n", "7") && holds("event.data.list[*].n", "1.0"));
    assert!(holds("event.data.no", "null"));
    for (path, value) in [
        ("event.data.who.mail", "a\\u0040b"),
        ("event.data.who", "a@b"),
        ("event.data.list[*].n", "1"),
        ("event.data.list", "7"),
        ("check.data.who.mail", "a@b"),
        ("event.data.gone", "null"),
    ] {
        assert!(!holds(path, value), "{path} {value}");
    }
}
