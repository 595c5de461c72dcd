use std::time::Duration;

use super::*;

fn document() -> Node {
    let text = "\
contract: own
timeouts: [15s, 5x, 30]
retrys: 3
attempts: 101
jitter: '0.1'
traceparent: yes
nested:
  list:
    - {form: Base_64}
    - {fomr: hex}
  \"odd key\": 5
";
    read(text).unwrap()
}

#[test]
fn typed_readers_name_the_key_the_rule_and_the_bounds() {
    let node = document();
    let mut reader = Reader::new();
    let known = ["contract", "timeouts", "retry", "attempts", "jitter", "traceparent", "nested"];
    let map = reader.map(&At::root(&node), &known).unwrap();
    let at = |key| map.get(key).unwrap();
    assert_eq!(at("contract").text(), Ok("own"));
    let second = Duration::from_secs(1);
    let timeouts = reader.list_of(at("timeouts"), 1..=32, |reader, timeout| {
        reader.check(timeout.duration(second..=30 * second))
    });
    assert_eq!(timeouts, None);
    reader.check(at("attempts").integer(1..=100));
    reader.check(at("jitter").number(0.0..=0.5));
    reader.check(at("traceparent").boolean());
    reader.check(at("attempts").text());
    reader.check(at("nested").text());
    reader.check(at("contract").members());
    reader.check(at("timeouts").elements(4..=5));
    reader.check(map.required("retry").cloned());
    let nested = reader.map(at("nested"), &["list", "odd key"]).unwrap();
    reader.check(nested.get("odd key").unwrap().text());
    let forms = [("text", 0), ("hex", 1), ("base64", 2)];
    reader.list_of(nested.get("list").unwrap(), 0..=2, |reader, element| {
        let map = reader.map(element, &["form"])?;
        let form = reader.check(map.required("form").cloned())?;
        reader.check(form.choice(&forms))
    });
    assert!(!reader.is_empty());
    let faults = reader.finish().unwrap_err();
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    let expected = [
        "1:1: retry is missing",
        "1:11: contract: must be a mapping (it is text)",
        "2:11: timeouts: must have 4 to 5 elements, not 3",
        "2:17: timeouts[1]: must be a duration from 1s to 30s with its units, as in 30s or 1h30m (it is text)",
        "2:21: timeouts[2]: must be a duration from 1s to 30s with its units, as in 30s or 1h30m (it is a number)",
        "3:1: unknown key \"retrys\"; did you mean \"retry\"?",
        "4:11: attempts: must be a whole number from 1 to 100 (it is a number)",
        "4:11: attempts: must be text; put it in quotes (it is a number)",
        "5:9: jitter: must be a number from 0 to 0.5 (it is text)",
        "6:14: traceparent: must be true or false, without quotes (it is text)",
        "8:3: nested: must be text (it is a mapping)",
        "9:14: nested.list[0].form: must be one of text, hex, base64; did you mean base64?",
        "10:7: nested.list[1]: form is missing",
        "10:8: nested.list[1]: unknown key \"fomr\"; known are form",
        "11:14: nested[\"odd key\"]: must be text; put it in quotes (it is a number)",
    ];
    assert_eq!(faults, expected);
}

#[test]
fn typed_readers_give_values() {
    let node = read("{a: [true, false], b: 7, c: 0.25, d: 1h30m, e: hex, f: null, g: ''}").unwrap();
    let mut reader = Reader::new();
    let map = reader.map(&At::root(&node), &["a", "b", "c", "d", "e", "f", "g"]).unwrap();
    let at = |key| map.get(key).unwrap();
    let flags = reader.list_of(at("a"), 0..=2, |reader, flag| reader.check(flag.boolean()));
    assert_eq!(flags, Some(vec![true, false]));
    assert_eq!(at("b").integer(0..=7), Ok(7));
    assert_eq!(at("c").number(0.0..=0.5), Ok(0.25));
    assert_eq!(at("d").duration(Duration::ZERO..=Duration::MAX), Ok(Duration::from_secs(5400)));
    assert_eq!(at("e").choice(&[("text", 0), ("hex", 1)]), Ok(1));
    assert!(at("f").is_null() && !at("g").is_null());
    assert_eq!(at("g").text(), Ok(""));
    let keys = At::root(&node).members().unwrap();
    assert_eq!(keys.iter().map(|m| m.key.text.as_str()).collect::<String>(), "abcdefg");
    assert_eq!(map.at().path(), "");
    assert_eq!(reader.finish(), Ok(()));
}

#[test]
fn faults_are_bounded_and_reported_in_order() {
    let text: String = (0..FAULTS + 10).map(|n| format!("k{n}: 1\n")).collect();
    let node = read(&text).unwrap();
    let mut reader = Reader::new();
    reader.map(&At::root(&node), &["contract"]);
    let faults = reader.finish().unwrap_err();
    assert_eq!(faults.len(), FAULTS);
    assert!(faults.is_sorted());
    assert_eq!(faults[0].to_string(), "1:1: unknown key \"k0\"; known are contract");
}

#[test]
fn a_long_key_is_cut_where_it_is_quoted() {
    let node = read(&format!("\"{}\": 1", "é".repeat(500))).unwrap();
    let mut reader = Reader::new();
    reader.map(&At::root(&node), &["contract"]);
    let faults = reader.finish().unwrap_err();
    let cut = "é".repeat(64);
    assert_eq!(faults[0].text, format!("unknown key \"{cut}\"…; known are contract"));
}

#[test]
fn the_key_that_was_meant_is_named() {
    let known = ["event_types", "timeouts", "acknowledge", "url", "body", "retry"];
    for (typed, meant) in [
        ("eventTypes", Some("event_types")),
        ("event-types", Some("event_types")),
        ("timeout", Some("timeouts")),
        ("aknowledge", Some("acknowledge")),
        ("URL", Some("url")),
        ("uri", Some("url")),
        ("retrys", Some("retry")),
        ("boby", Some("body")),
        ("x", None),
        ("", None),
        ("headers", None),
    ] {
        assert_eq!(typed::near(typed, known.into_iter()), meant, "{typed}");
    }
}

#[test]
fn durations_are_whole_numbers_with_units_in_descending_order() {
    for (text, seconds) in [
        ("30s", 30),
        ("5m", 300),
        ("3h", 10_800),
        ("2d", 172_800),
        ("1h30m", 5400),
        ("1d2h3m4s", 93_784),
        ("0s", 0),
        ("90m", 5400),
    ] {
        assert_eq!(duration::parse(text), Some(Duration::from_secs(seconds)), "{text}");
    }
    for text in [
        "",
        "5",
        "s",
        "5x",
        "500ms",
        "1.5h",
        "-5s",
        "+5s",
        "5 s",
        "5s ",
        "30m1h",
        "1s1s",
        "1h1h",
        "5M",
        "1h30",
        "99999999999999999999s",
        "999999999999999999d",
        "٣s",
        "5é",
    ] {
        assert_eq!(duration::parse(text), None, "{text}");
    }
}
