//! What each site knows, and every name of every root.

use super::*;

#[test]
fn every_field_of_every_root_has_its_value() {
    let int = |value| Ok(Output::Int(value));
    for (source, site, expected) in [
        ("event.id", Site::Filter, text("o1")),
        ("event.version", Site::Filter, int(2)),
        ("event.unique_id", Site::Filter, text("o1-v2")),
        ("event.type", Site::Filter, text("order.captured.twice")),
        ("int(event.time)", Site::Filter, int(1_666_823_801)),
        ("event.accept_time.rfc3339(3)", Site::Filter, text("2022-10-26T22:36:42.000Z")),
        ("event.environment", Site::Filter, text("LIVE")),
        ("event.tenant", Site::Filter, text("acme")),
        ("event.attributes.subject", Site::Filter, text("order/1")),
        ("event.data.n", Site::Filter, int(7)),
        ("tenant.id", Site::Filter, text("acme")),
        ("tenant.labels.tier", Site::Filter, text("gold")),
        ("subscription.id", Site::Filter, text("erp")),
        ("subscription.labels[\"a-b\"]", Site::Filter, text("dash")),
        ("subscription.url", Site::Filter, text("https://example.com/hook")),
        ("subscription.environment", Site::Filter, text("TEST")),
        ("delivery.id", Site::Template, text("d1")),
        ("delivery.create_time.rfc3339(3)", Site::Template, text("2022-10-26T22:36:42.001Z")),
        ("delivery.replay", Site::Template, Ok(Output::Bool(true))),
        ("delivery.test", Site::Template, Ok(Output::Bool(false))),
        ("attempt.number", Site::Template, int(3)),
        ("int(attempt.time)", Site::Template, int(1_666_823_900)),
        ("request.method", Site::Template, text("POST")),
        ("request.url", Site::Template, text("https://example.com/hook?x=1")),
        ("request.body", Site::Template, text("{\"é\":1}")),
        ("response.status", Site::Answer, int(429)),
        ("response.headers[\"retry-after\"]", Site::Answer, text("30")),
        ("response.headers.via", Site::Answer, text("one, two")),
        ("response.body", Site::Answer, text(" {\"ok\": true, \"codes\": [ 1, 2 ]} ")),
        ("response.json.ok", Site::Answer, Ok(Output::Bool(true))),
        ("response.json.codes", Site::Verdict, json("[ 1, 2 ]")),
        ("check.id", Site::Verdict, text("c1")),
        ("check.time.rfc3339(0)", Site::CheckTemplate, text("2022-10-26T22:38:20Z")),
        ("check.data.email", Site::CheckTemplate, text("a@b")),
        ("callback.id", Site::CheckTemplate, text("kyc")),
        ("callback.labels.tier", Site::Verdict, text("gold")),
    ] {
        assert_eq!(value_at(source, site), expected, "{source}");
    }
}

#[test]
fn conditions_over_answers_and_checks() {
    for (source, site) in [
        ("response.status == 429 && attempt.number > 2", Site::Answer),
        ("response.status in [429, 503]", Site::Answer),
        ("int(response.headers[\"retry-after\"]) == 30", Site::Answer),
        ("response.headers.?missing.orValue(\"\") == \"\"", Site::Answer),
        ("has(response.json) && response.json.ok", Site::Answer),
        ("response.?json.?ok.orValue(false)", Site::Answer),
        ("response.body.contains(\"ok\")", Site::Answer),
        ("response.json.codes.exists(c, c == 2) && check.id == \"c1\"", Site::Verdict),
    ] {
        check(source, site);
    }
}

#[test]
fn a_response_that_is_not_json_has_none() {
    let mut world = World::new(DATA);
    world.response = Bytes::from_static(b"<html>\xff");
    let holds = |source| compiled(source, Site::Answer).holds(&world.scope());
    assert_eq!(holds("has(response.json)"), Verdict::False);
    assert_eq!(holds("response.?json.?ok.orValue(false)"), Verdict::False);
    assert_eq!(holds("response.?json.hasValue()"), Verdict::False);
    assert_eq!(holds("response.body == \"<html>\u{fffd}\""), Verdict::True);
    assert_eq!(
        holds("response.json.ok"),
        Verdict::Unevaluable("response.json.ok is absent".to_owned())
    );
    let value = compiled("response.?json", Site::Answer).verbatim(&world.scope());
    assert_eq!(value, Ok(Output::Absent));
}

#[test]
fn a_long_response_is_read_in_part() {
    let mut world = World::new(DATA);
    world.response = Bytes::from("a".repeat(70_000));
    let size = compiled("response.body.size()", Site::Answer).value(&world.scope());
    assert_eq!(size, Ok(Output::Int(65_536)));
}

#[test]
fn maps_of_text_are_cel_maps() {
    for source in [
        "has(subscription.labels.tier) && !has(subscription.labels.none)",
        "subscription.labels.?none.orValue(\"x\") == \"x\"",
        "subscription.labels[?\"a-b\"].orValue(\"\") == \"dash\"",
        "\"a-b\" in subscription.labels && !(\"b\" in tenant.labels)",
        "subscription.labels.size() == 2 && size(event.attributes) == 2",
        "subscription.labels.exists(key, subscription.labels[key] == \"gold\")",
        "event.attributes[\"x-\" + \"y\"] == \"z\\\"q\"",
        "subscription.labels == tenant.labels",
        "event.attributes.?subject.orValue(\"\") == \"order/1\"",
        "has(event.attributes) && has(event.id)",
    ] {
        check(source, Site::Filter);
    }
    for source in [
        "response.headers.size() == 3 && response.headers[\"v\" + \"ia\"] == \"one, two\"",
        "\"x\" in response.headers && !has(response.headers.y)",
    ] {
        check(source, Site::Answer);
    }
    assert_eq!(value("tenant.labels"), json("{\"a-b\":\"dash\",\"tier\":\"gold\"}"));
    assert_eq!(value("event.attributes.?none"), Ok(Output::Absent));
    assert_eq!(value("event.attributes.none"), Err("event.attributes[\"none\"] is absent".into()));
}

#[test]
fn an_event_without_attributes_has_an_empty_map() {
    let world = World::new(DATA);
    let mut scope = world.scope();
    scope.event = scope.event.map(|event| EventView { attributes: None, version: 0, ..event });
    let value = |source| compiled(source, Site::Template).value(&scope);
    assert_eq!(value("event.attributes.?subject"), Ok(Output::Absent));
    assert_eq!(value("event.attributes"), json("{}"));
    assert_eq!(value("event.unique_id"), text("o1"));
}

#[test]
fn parts_that_the_caller_does_not_know_are_absent() {
    let scope = Scope::default();
    for source in [
        "event.id",
        "event.data.n",
        "event.attributes.x",
        "event.attributes.?x",
        "event.data.?x",
        "tenant.labels",
        "delivery.replay",
        "attempt.time",
        "request.body",
    ] {
        let why = compiled(source, Site::Template).value(&scope).expect_err(source);
        assert!(why.ends_with(" is absent"), "{source}: {why}");
    }
}

#[test]
fn each_site_refuses_what_it_does_not_know() {
    let known = "event, tenant, subscription";
    for (source, site, text) in [
        (
            "attempt.number == 1",
            Site::Filter,
            format!("1:1: unknown name attempt; known here: {known}"),
        ),
        ("request.body", Site::Filter, format!("1:1: unknown name request; known here: {known}")),
        (
            "1 + response.status",
            Site::Template,
            format!(
                "1:5: unknown name response; known here: {known}, delivery, attempt, request, \
                 key, secret, signature"
            ),
        ),
        (
            "has(request.body)",
            Site::Answer,
            format!("unknown name request; known here: {known}, delivery, attempt, response"),
        ),
        (
            "has(event.attributes.x)",
            Site::Verdict,
            "unknown name event; known here: check, tenant, callback, response".to_owned(),
        ),
        (
            "response.status",
            Site::CheckTemplate,
            "unknown name response; known here: check, tenant, callback".to_owned(),
        ),
    ] {
        let wrong = refused(source, site);
        // The place in front depends on the node; it is held where it is simple.
        assert!(
            wrong
                .contains(text.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':').trim()),
            "{source}: {wrong}"
        );
    }
    assert_eq!(refused("order == 1", Site::Answer), "1:1: unknown name order");
}

#[test]
fn wrong_names_and_literals_are_refused_with_their_place() {
    for (source, text) in [
        ("event.ordering_key", "1:6: event has no field ordering_key"),
        ("tenant.url", "tenant has no field url"),
        ("delivery", "1:1: delivery is not a value; name one of its fields"),
        ("has(delivery.x)", "delivery has no field x"),
        ("subscription.labels.a.b", "entries of subscription.labels have no members"),
        ("subscription.labels[0]", "subscription.labels has no element; name an entry"),
        ("attempt.number.x", "attempt.number has no members"),
        ("event.data.list.exists(request, true)", "request cannot name a variable"),
        ("event.time.format(\"YYYY\", \"UTC\")", "1:19: time pattern: YYYY has no meaning"),
        ("event.time.format(\"HH\",\n  \"Mars\")", "2:3: not a time zone"),
        ("event.time.format(\"HH\")", "unknown function format of strings"),
        ("event.time.rfc3339(10)", "1:20: rfc3339 takes 0 to 9 digits"),
        ("event.time.rfc3339()", "function rfc3339 does not take 0 arguments"),
        ("rfc3339(event.time, 3)", "function rfc3339 is called as x.rfc3339()"),
        ("event.id.sha256()", "function sha256 is called as sha256(x)"),
        ("hex()", "function hex does not take 0 arguments"),
        (
            "hmac(\"sha3\", secret, event.id)",
            "1:6: hmac takes one of md5, sha1, sha256, sha512, quoted",
        ),
        ("raw(event.id)", "raw takes a path into JSON, as in raw(event.data.amount)"),
        ("raw(1)", "raw takes a path into JSON"),
        ("secret.text", "secret has no members"),
        ("key.secret", "key has no field secret"),
        ("json(1, 2)", "function json does not take 2 arguments"),
        ("md4(event.id)", "unknown function md4"),
        ("event.data.list.map(a, event.data.list.map(b, a))", "comprehensions cannot be nested"),
        ("{\"a\": event.id}", "maps and messages cannot be made in an expression"),
    ] {
        let wrong = refused(source, Site::Template);
        assert!(wrong.contains(text), "{source}: {wrong}");
    }
    let wrong = refused("response.headers[\"Retry-After\"] == \"\"", Site::Answer);
    assert!(wrong.contains("in lower case here: \"retry-after\""), "{wrong}");
    let long = format!("\"{}\"", "x".repeat(MAX_SOURCE));
    let wrong = Expression::compile(&long, Site::Answer).expect_err("too long");
    assert_eq!(wrong.rule, Rule::TooLong);
    assert_eq!(wrong.description, "expression of 2050 bytes, at most 2048");
}

#[test]
fn an_expression_knows_what_it_speaks_of() {
    let expression = compiled("event.id + string(attempt.number)", Site::Template);
    assert!(expression.speaks_of(Root::Event) && expression.speaks_of(Root::Attempt));
    assert!(!expression.speaks_of(Root::Subscription) && !expression.speaks_of_body());
    assert!(compiled("hex(sha256(request.body))", Site::Template).speaks_of_body());
    assert!(!compiled("request.url", Site::Template).speaks_of_body());
    assert!(compiled("has(tenant.labels.x)", Site::Filter).speaks_of(Root::Tenant));
    assert!(
        compiled("event.data.list.all(x, x == delivery.id)", Site::Template)
            .speaks_of(Root::Delivery)
    );
    assert_eq!(expression.source(), "event.id + string(attempt.number)");
    assert_eq!(format!("{:?}", compiled("1", Site::Answer)), "Expression(\"1\")");
}

#[test]
fn the_secret_is_bare_outside_of_a_hash_only() {
    for (source, bare) in [
        ("hmac(\"sha256\", secret, event.id)", false),
        ("hex(sha512(event.id + \":\" + secret))", false),
        ("hex(sha1(secret)) + event.id", false),
        ("md5(secret) == sha1(secret) ? \"a\" : \"b\"", false),
        ("event.data.list.map(secret, secret)", false),
        ("secret", true),
        ("hex(sha1(secret)) + secret", true),
        ("secret.startsWith(\"a\") ? \"a\" : \"b\"", true),
        ("crc32(secret)", true),
        ("base64(secret)", true),
    ] {
        assert_eq!(compiled(source, Site::Template).bares_secret(), bare, "{source}");
    }
}
