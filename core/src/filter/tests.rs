mod bounds;
mod properties;

use super::*;
use crate::error::Rule;

const DATA: &str = r#"{
    "id": "o1", "amount": 5000, "fraction": 1.5, "one": 1, "onef": 1.0, "x": 7, "neg": -3,
    "big": 9223372036854775808, "max": 9223372036854775807, "country": "PE", "null": null,
    "yes": true, "no": false, "b-c": "dash", "esc\u0061pe": "l\u00ednea\n", "text": "abc\u0061",
    "a": {"b": {"c": 1}, "list": [1, 2, {"d": "deep"}]},
    "same": {"list": [1.0, 2, {"d": "deep"}], "b": {"c": 1}},
    "tags": ["x", "y"], "numbers": [3, 1, 2.5], "empty": [], "none": {},
    "items": [{"sku": "a", "n": 1}, {"sku": "b", "n": 20}],
    "when": "2024-05-06T07:08:09Z"
}"#;

fn verdict_on(source: &str, data: &str) -> Verdict {
    crate::json::check(data.as_bytes(), 64).expect("test data is JSON");
    let filter = Filter::compile(source).unwrap_or_else(|wrong| panic!("{source}: {wrong}"));
    let data = Bytes::copy_from_slice(data.as_bytes());
    filter.matches(&FilterInput {
        id: "o1-captured",
        version: 2,
        event_type: "order.captured",
        occur_time_ms: 1_700_000_000_123,
        accept_time_ms: 1_700_000_001_000,
        environment: "LIVE",
        tenant: "acme",
        data: &data,
    })
}

fn verdict(source: &str) -> Verdict {
    verdict_on(source, DATA)
}

fn reason(source: &str) -> String {
    match verdict(source) {
        Verdict::Unevaluable(reason) => reason,
        Verdict::True | Verdict::False => panic!("{source} was evaluated"),
    }
}

#[test]
fn expressions_over_json_data() {
    for source in [
        "event.data.amount > 100",
        "event.data.amount + 1 > 5",
        "event.data.amount + 1 == 5001",
        "-event.data.x < 0",
        "-event.data.neg == 3",
        "event.data.x % 2 == 1",
        "event.data.fraction * 2.0 == 3.0",
        "event.data.one == 1.0",
        "event.data.onef == 1",
        "event.data.one == event.data.onef",
        "event.data.max > 9223372036854775806",
        "event.data.big > 1.0",
        "type(event.data.big) == double",
        "type(event.data.amount) == int",
        "type(event.data.onef) == double",
        "type(event.data.a) == map",
        "type(event.data.tags) == list",
        "type(event.data[\"null\"]) == null_type",
        "event.data[\"null\"] == null",
        "event.data.yes && !event.data.no",
        "event.data.items.exists(i, i.sku == \"a\")",
        "event.data.items.all(i, i.n > 0)",
        "event.data.items.exists_one(i, i.n == 20)",
        "event.data.items.filter(i, i.n > 5).size() == 1",
        "event.data.items.map(i, i.n) == [1, 20]",
        "event.data.items.map(i, i.sku + \"!\").join(\",\") == \"a!,b!\"",
        "[1, 20] == event.data.items.map(i, i.n)",
        "[1, 2, event.data.a.list[2]] == event.data.a.list",
        "\"x\" in event.data.tags",
        "!(\"z\" in event.data.tags)",
        "1 in event.data.numbers && 3.0 in event.data.numbers",
        "\"amount\" in event.data",
        "event.data.country in [\"PE\", \"AR\"]",
        "!(event.data.country in [\"CL\"])",
        "has(event.data.a.b)",
        "has(event.data.a.b.c) && !has(event.data.a.x)",
        "has(event.id) && has(event.data)",
        "event.data.?nope.orValue(\"\") == \"\"",
        "event.data.?country.orValue(\"\") == \"PE\"",
        "event.data.?a.?b.?c.orValue(0) == 1",
        "event.data.?a.?zz.?c.orValue(0) == 0",
        "event.data.?country.optMap(c, c + \"!\").orValue(\"\") == \"PE!\"",
        "optional.of(event.data.x).value() == 7 && !optional.none().hasValue()",
        "event.data[\"b-c\"] == \"dash\"",
        "event.data[?\"b-c\"].orValue(\"\") == \"dash\"",
        "event.data.a.list[2].d == \"deep\"",
        "event.data.a.list[event.data.one] == 2",
        "event.data.a[\"li\" + \"st\"][0] == 1",
        "event.data.escape == \"línea\\n\"",
        "event.data.text == \"abca\" && event.data.text.size() == 4",
        "event.data.a == event.data.a",
        "event.data.same.b == event.data.a.b",
        "event.data.same == event.data.a",
        "event.data.a != event.data.tags",
        "event.data.empty == []",
        "event.data.empty + event.data.tags == [\"x\", \"y\"]",
        "size(event.data.tags) == 2 && event.data.none.size() == 0",
        "size(event.data.a.list) == 3",
        "event.data.a.exists(k, k == \"list\")",
        "event.data.text.matches(\"^a.*a$\") && matches(event.data.text, \"bc\")",
        "event.data.text.contains(\"bc\") && event.data.text.endsWith(\"ca\")",
        "event.data.text.replace(\"a\", \"zz\") == \"zzbczz\"",
        "event.data.text.replace(\"a\", \"zz\", 1) == \"zzbca\"",
        "event.data.text.split(\"\") == [\"a\", \"b\", \"c\", \"a\"]",
        "\"a,b,c\".split(\",\", 2) == [\"a\", \"b,c\"]",
        "\"abc\".split(\"\", 2) == [\"a\", \"bc\"]",
        "\"abc\".split(\"\", 0) == []",
        "\"ñandú ñ\".indexOf(\"ñ\") == 0 && \"ñandú ñ\".indexOf(\"ñ\", 1) == 6",
        "\"ñandú ñ\".lastIndexOf(\"ñ\") == 6 && \"ñandú ñ\".lastIndexOf(\"ñ\", 5) == 0",
        "\"abc\".indexOf(\"z\") == -1 && \"abc\".lastIndexOf(\"\") == 3",
        "\"ABC\".lowerAscii() == \"abc\" && \" x \".trim() == \"x\"",
        "event.data.text.substring(1, 3) == \"bc\"",
        "timestamp(event.data.when).getFullYear() == 2024",
        "event.data.x > 5 ? true : false",
    ] {
        assert_eq!(verdict(source), Verdict::True, "{source}");
    }
}

#[test]
fn expressions_over_the_event() {
    for source in [
        "event.id == \"o1-captured\"",
        "event.version == 2",
        "event.unique_id == \"o1-captured-v2\"",
        "event.type.startsWith(\"order.\")",
        "event.type == \"order.captured\"",
        "event.environment == \"LIVE\" && event.tenant == \"acme\"",
        "event.time > timestamp(\"2020-01-01T00:00:00Z\")",
        "event.time == timestamp(\"2023-11-14T22:13:20.123Z\")",
        "event.time < event.accept_time",
        "event.accept_time - event.time < duration(\"1s\")",
        "event.time.getHours() == 22 && event.time.getHours(\"America/Lima\") == 17",
    ] {
        assert_eq!(verdict(source), Verdict::True, "{source}");
    }
    assert!(!verdict("event.version == 3").is_match());
    assert!(verdict("event.version == 2").is_match());
}

#[test]
fn any_top_level_value_is_data() {
    assert_eq!(verdict_on("event.data == 7", " 7 "), Verdict::True);
    assert_eq!(verdict_on("event.data == \"x\"", "\"x\""), Verdict::True);
    assert_eq!(verdict_on("event.data[1] == 2", "[1, 2]"), Verdict::True);
    assert_eq!(verdict_on("event.data.exists(x, x == 2)", "[1, 2]"), Verdict::True);
    assert_eq!(verdict_on("event.data == null", "null"), Verdict::True);
}

#[test]
fn what_has_no_answer_says_why_without_data() {
    for (source, why) in [
        ("event.data.nope > 1", "event.data.nope is absent"),
        ("event.data.a[0].b == 1", "event.data.a[0].b is absent"),
        (
            "event.data.country > 1",
            "found no matching overload for '_>_' applied to '(string, int)'",
        ),
        (
            "event.data.country + 1 == 2",
            "found no matching overload for '_+_' applied to '(string, int)'",
        ),
        ("event.data.amount", "the result is int, not bool"),
        ("event.data", "the result is map, not bool"),
        ("event.data.max + 1 > 0", "overflow in add"),
        ("event.data.x / 0 == 1", "division by zero"),
        ("event.data.tags[event.data.x] == \"x\"", "index out of bounds"),
        ("event.data[event.data.country] == 1", "no such member"),
        ("event.data.items.exists(i, i.zzz == 1)", "no such member"),
        ("timestamp(event.data.country) > event.time", "function timestamp failed"),
        ("int(event.data.country) == 1", "function int failed"),
        ("event.data.country.charAt(9) == \"\"", "function charAt failed"),
        (
            "event.data.a + event.data.a == 1",
            "found no matching overload for '_+_' applied to '(map, map)'",
        ),
        (
            "event.data.x.startsWith(\"a\")",
            "found no matching overload for 'startsWith' applied to 'int.(string)'",
        ),
        (
            "event.data.country && true",
            "found no matching overload for '_&&_' applied to '(string, bool)'",
        ),
    ] {
        assert_eq!(reason(source), why, "{source}");
        assert!(!reason(source).contains("PE"), "event data in a reason");
    }
    assert!(!verdict("event.data.nope > 1").is_match());
    // CEL's logic decides where one side is enough.
    assert_eq!(verdict("event.data.nope > 1 || event.data.x == 7"), Verdict::True);
    assert_eq!(verdict("event.data.nope > 1 && event.data.x == 8"), Verdict::False);
}

#[test]
fn wrong_sources_are_refused_with_their_place() {
    for (source, text) in [
        ("", "1:1: "),
        ("event.", "1:7: "),
        ("event.data.x >", "1:15: "),
        ("true &&\n  order.x == 1", "2:3: unknown name order"),
        ("order == 1", "1:1: unknown name order"),
        ("\"é😀\" == order", "1:9: unknown name order"),
        ("event == 1", "1:1: event is not a value; name one of its fields"),
        ("event.?id == 1", "1:1: event is not a value; name one of its fields"),
        ("event.kind == 1", "1:6: event has no field kind"),
        ("has(event.kind)", "event has no field kind"),
        ("event.id.x == 1", "event.id has no members"),
        ("now() > event.time", "unknown function now"),
        ("event.data.x.foo() == 1", "unknown function foo"),
        ("startsWith(event.id, \"a\")", "function startsWith is called as x.startsWith()"),
        ("event.id.startsWith()", "function startsWith does not take 0 arguments"),
        (
            "event.data.a.exists(x, event.data.b.exists(y, y == x))",
            "comprehensions cannot be nested",
        ),
        ("event.data.a.map(x, x.map(y, y)) == []", "comprehensions cannot be nested"),
        ("event.data.a.exists(event, event == 1)", "event cannot name a variable"),
        ("event.data.a.exists(x, x == 1) && x == 1", "unknown name x"),
        ("{\"a\": 1}.a == 1", "maps and messages cannot be made"),
        ("event.id.matches(\"(\")", "not a regular expression"),
        ("event.id.matches(\"(?:a{1000}){1000}\")", "the pattern is too large"),
        ("event.id.matches(event.type)", "matches takes its pattern as a literal"),
        ("event.time > timestamp(\"soon\")", "not a timestamp"),
        ("event.time - event.time > duration(\"1x\")", "not a duration"),
        ("_x(1)", "unknown function _x"),
        ("\"%s\".format([1]) == \"1\"", "unknown function format"),
    ] {
        let wrong = Filter::compile(source).expect_err(source);
        assert_eq!(wrong.rule, Rule::ExpressionInvalid, "{source}");
        assert!(wrong.description.contains(text), "{source}: {}", wrong.description);
        let place = wrong.description.split(' ').next().unwrap_or_default();
        assert_eq!(place.matches(':').count(), 2, "{source}: {}", wrong.description);
    }
}

#[test]
fn the_source_has_a_bound() {
    let fits = format!("event.id == \"{}\"", "x".repeat(MAX_SOURCE - 15));
    assert_eq!(fits.len(), MAX_SOURCE - 1);
    assert!(Filter::compile(&fits).is_ok());
    let wrong = Filter::compile(&format!("{fits}  ")).expect_err("too long");
    assert_eq!(wrong.rule, Rule::TooLong);
    assert_eq!(wrong.description, "filter of 2049 bytes, at most 2048");
}

#[test]
fn deep_sources_are_refused_on_a_small_stack() {
    let nested = |open: &str, middle: &str, close: &str, n: usize| {
        format!("{}{middle}{}", open.repeat(n), close.repeat(n))
    };
    for source in [
        nested("(", "true", ")", 1000),
        nested("[", "1", "]", 1000),
        nested("!", "true", "", 2000),
        nested("-", "1", "", 2000),
        nested("", "1", "+1", 1000),
        nested("", "event.data", ".a", 900),
        nested("", "x", ".a", 900),
        nested("", "event.data", "[0]", 600),
        nested("", "event.data", "[event.id]", 150),
        nested("true?", "true", ":true", 150),
        nested("", "event.data", ".map(a,a)", 180),
        nested("size(", "1", ")", 280),
        nested("a{b:", "1", "}", 300),
        nested("", "true", "||true", 290),
        nested("{", "", "", 2000),
        nested("'''", "", "", 600),
    ] {
        // Refused or not, but without a fault; threads of tests have 2 MiB of stack.
        if let Ok(filter) = Filter::compile(&source) {
            let data = Bytes::from_static(b"{}");
            filter.matches(&input(&data));
        }
    }
    assert_eq!(verdict(&format!("{} == 41", nested("", "1", "+1", 40))), Verdict::True);
    assert_eq!(
        verdict(&nested("", "event.id == \"q\"", " || event.id == \"o1-captured\"", 60)),
        Verdict::True
    );
}

fn input(data: &Bytes) -> FilterInput<'_> {
    FilterInput {
        id: "i",
        version: 0,
        event_type: "t",
        occur_time_ms: 0,
        accept_time_ms: 0,
        environment: "LIVE",
        tenant: "a",
        data,
    }
}

#[test]
fn filters_are_shared_between_threads() {
    fn assert_shareable<T: Send + Sync + Clone + 'static>() {}
    assert_shareable::<Filter>();
    let filter = Filter::compile("event.data.n > 1").expect("compiles");
    assert_eq!(filter.source(), "event.data.n > 1");
    assert_eq!(format!("{filter:?}"), "Filter(\"event.data.n > 1\")");
    std::thread::scope(|scope| {
        for n in 0..4 {
            let filter = filter.clone();
            scope.spawn(move || {
                let data = Bytes::from(format!("{{\"n\":{n}}}"));
                assert_eq!(filter.matches(&input(&data)).is_match(), n > 1);
            });
        }
    });
}

/// What can be known to match nothing is refused where it is written, with what to write instead.
#[test]
fn a_filter_that_matches_nothing_for_ever_is_refused_where_it_is_written() {
    for (source, said) in [
        ("1 + 1", "1:3: a condition is true or false, and this is an int"),
        ("'paid'", "this is a string"),
        ("double(event.data.price)", "this is a double"),
        ("[1, 2]", "this is a list"),
        ("event.data.price * 1.21 > 100.0", "write double(…) around the path"),
        ("has(event.data.a) && 0.5 + event.data.a.b[0] > 1.0", "write double(…)"),
        ("size(event.data.list) * 1.5 > 3.0", "write both as doubles"),
        ("event.version > 1 ? 'a' : 'b'", "this is a string"),
    ] {
        Filter::compile(source).expect("what is stored stays");
        let wrong = Filter::written(source).unwrap_err();
        assert_eq!(wrong.rule, Rule::ExpressionInvalid);
        assert!(wrong.description.contains(said), "{source}: {}", wrong.description);
    }
    for source in [
        "true",
        "event.data.flag",
        "double(event.data.price) * 1.21 > 100.0",
        "event.data.price > 100.0",
        "event.data.a + event.data.b > 3",
        "event.data.list.exists(x, x > 1.5)",
        "event.data.?price.orValue(0.0) * 1.21 > 100.0",
        "event.data.name.matches('^a') || event.version % 2 == 0",
        "event.data.kind == 'a' ? event.data.flag : false",
    ] {
        Filter::written(source).unwrap_or_else(|wrong| panic!("{source}: {}", wrong.description));
    }
}
