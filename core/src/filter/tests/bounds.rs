//! What a filter may cost.

use super::*;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Evaluates and asserts a bound on time; generous, as test machines are shared and slow.
fn bounded(source: &str, data: &str) -> Verdict {
    let filter = Filter::compile(source).unwrap_or_else(|wrong| panic!("{source}: {wrong}"));
    let data = Bytes::copy_from_slice(data.as_bytes());
    let start = Instant::now();
    let verdict = filter.matches(&input(&data));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{source} took {took:?}");
    verdict
}

#[test]
fn work_is_bounded() {
    let stopped = |verdict: Verdict| match verdict {
        Verdict::Unevaluable(reason) => reason,
        Verdict::True | Verdict::False => panic!("not stopped"),
    };
    let long =
        format!("{{\"s\":\"{}\",\"l\":[{}]}}", "a".repeat(200_000), vec!["1"; 10_000].join(","));
    let too_much = "the filter does more work than it may";
    for source in [
        format!("[\"x\"]{}.size() == 1", ".map(a, a + a)".repeat(50)),
        format!("[[1]]{}.size() == 1", ".map(a, a + a)".repeat(50)),
        format!("[\"x\"]{}.size() == 1", ".map(a, [a, a, a, a, a, a, a, a])".repeat(30)),
        format!("\"aaaa\"{}.size() == 1", ".replace(\"a\", \"aaaaaaaaaaaaaaaa\")".repeat(30)),
        "event.data.l.map(x, event.data.s).size() == 1".to_owned(),
        "event.data.l.exists(x, event.data.s.contains(\"b\"))".to_owned(),
        "event.data.l.exists(x, event.data.s.matches(\"(a|aa)*b\"))".to_owned(),
        "event.data.l.exists(x, x + 1 in event.data.l)".to_owned(),
        "event.data.l.exists(x, event.data[\"l\" + \"\"][0] == 2)".to_owned(),
        "event.data.l.map(x, event.data.s).join(event.data.s) == \"\"".to_owned(),
        "event.data.l.exists(x, event.data.s.indexOf(\"b\") > 0)".to_owned(),
    ] {
        assert_eq!(stopped(bounded(&source, &long)), too_much, "{source}");
    }
    let half = "a".repeat(100_000);
    let search = format!("{{\"s\":\"{half}b\",\"t\":\"{half}c\"}}");
    assert_eq!(bounded("event.data.s.indexOf(event.data.t) == -1", &search), Verdict::True);
    assert_eq!(bounded("event.data.s.lastIndexOf(event.data.t) == -1", &search), Verdict::True);
    let many = format!("[{}]", vec!["1"; 10_001].join(","));
    let elements = "a comprehension runs over more than 10000 elements";
    assert_eq!(stopped(bounded("event.data.exists(x, x == 2)", &many)), elements);
    // Absorbed by `||`, it still does not count as an answer.
    assert_eq!(stopped(bounded("event.data.exists(x, x == 2) || true", &many)), elements);
    let parts = "a text is split into more than 10000 parts";
    let text = |n| format!("{{\"s\":\"{}\"}}", ",".repeat(n));
    assert_eq!(stopped(bounded("event.data.s.split(\",\").size() > 1", &text(10_000))), parts);
    assert_eq!(stopped(bounded("event.data.s.split(\"\").size() > 1", &text(10_001))), parts);
    assert_eq!(bounded("event.data.s.split(\",\").size() == 10000", &text(9999)), Verdict::True);
    let fits = format!("[{}]", vec!["1"; 10_000].join(","));
    assert_eq!(bounded("event.data.exists(x, x == 2)", &fits), Verdict::False);
    assert_eq!(bounded("event.data.map(x, x + 1).all(y, y == 2)", &fits), Verdict::True);
    let body = vec!["x != 2"; 40].join(" && ");
    assert_eq!(bounded(&format!("event.data.all(x, {body})"), &fits), Verdict::True);
}

#[test]
fn large_objects_compare_within_bounds() {
    let members = |from: usize, n: usize| {
        let all: Vec<_> = (0..n).map(|i| format!("\"k{}\":{i}", (i + from) % n)).collect();
        format!("{{{}}}", all.join(","))
    };
    let text = |n: usize| {
        format!(
            "{{\"a\":{},\"b\":{}}}",
            members(0, n),
            members(0, n).replace("{\"k0\"", "{ \"k0\"")
        )
    };
    assert_eq!(bounded("event.data.a == event.data.b", &text(100)), Verdict::True);
    let verdict = bounded("event.data.a == event.data.b", &text(8000));
    assert!(matches!(verdict, Verdict::Unevaluable(_)), "{verdict:?}");
}

/// Prints what evaluations cost: `cargo test --release -p pregon-core timings -- --ignored --nocapture`.
#[test]
#[ignore = "prints timings, asserts nothing"]
fn timings() {
    let small = DATA.replace(['\n', ' '], "");
    for source in [
        "event.type == \"order.captured\"",
        "event.data.amount > 100",
        "event.data.country in [\"PE\", \"AR\"]",
        "event.data.?country.orValue(\"\") == \"PE\"",
        "event.data.amount > 100 && event.data.country == \"PE\" && event.type.startsWith(\"order.\")",
        "event.time > timestamp(\"2020-01-01T00:00:00Z\")",
        "event.data.text.matches(\"^a.*a$\")",
        "event.data.items.exists(i, i.sku == \"b\")",
    ] {
        let filter = Filter::compile(source).expect("compiles");
        let data = Bytes::from(small.clone());
        let rounds = 200_000;
        let start = Instant::now();
        for _ in 0..rounds {
            black_box(filter.matches(black_box(&input(&data))));
        }
        let each = start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds);
        println!("{each:.3} us, {} bytes of data: {source}", data.len());
    }
    let long = format!("[{}]", vec!["1"; 10_000].join(","));
    let text = format!("{{\"s\":\"{}\",\"l\":{long}}}", "a".repeat(200_000));
    for (source, data) in [
        (format!("event.data.all(x, {})", vec!["x != 2"; 40].join(" && ")), &long),
        ("event.data.l.exists(x, event.data.s.contains(\"b\"))".to_owned(), &text),
        ("event.data.l.exists(x, event.data.s.matches(\"(a|aa)*b\"))".to_owned(), &text),
        ("event.data.l.exists(x, x + 1 in event.data.l)".to_owned(), &text),
        (format!("[\"x\"]{}.size() == 1", ".map(a, a + a)".repeat(50)), &text),
    ] {
        let filter = Filter::compile(&source).expect("compiles");
        let data = Bytes::from(data.clone());
        let start = Instant::now();
        let verdict = filter.matches(&input(&data));
        println!("{:?}, {verdict:?}: {source:.60}", start.elapsed());
    }
    let start = Instant::now();
    for _ in 0..100 {
        black_box(Filter::compile(black_box("event.data.amount > 100 && event.type == \"x\"")))
            .ok();
    }
    println!("{:?} to compile", start.elapsed() / 100);
}
