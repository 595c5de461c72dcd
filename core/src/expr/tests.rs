mod outputs;
mod properties;
mod sites;

use super::*;
use crate::clock::Timestamp;
use bytes::Bytes;
use std::collections::BTreeMap;

const DATA: &str = r#"{
    "n": 7, "one": 1.0, "hundred": 1e2, "big": 9223372036854775808, "yes": true, "null": null, "ask": "what do ya want for nothing?",
    "text": "PII-text", "esc": "\u0061\/b", "zone": "Asia/Tokyo",
    "odd": { "b" :1.0 ,"a": [ 1e2, "\u00e9" ] }, "list": [ 1.0 , {"x" : 1} ], "empty": [],
    "items": [{"sku": "a", "n": 1.5}, {"sku": "b", "n": 20}]
}"#;

/// Owns what a scope borrows: every part is there.
struct World {
    attributes: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    headers: Vec<(String, String)>,
    data: Bytes,
    request: Bytes,
    response: Bytes,
    check: Bytes,
}

fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl World {
    fn new(data: &str) -> Self {
        crate::json::check(data.as_bytes(), 64).expect("test data is JSON");
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            attributes: strings(&[("subject", "order/1"), ("x-y", "z\"q")]),
            labels: strings(&[("tier", "gold"), ("a-b", "dash")]),
            headers: vec![
                header("retry-after", "30"),
                header("via", "one"),
                header("x", "y"),
                header("via", "two"),
            ],
            data: Bytes::copy_from_slice(data.as_bytes()),
            request: Bytes::from_static("{\"é\":1}".as_bytes()),
            response: Bytes::from_static(b" {\"ok\": true, \"codes\": [ 1, 2 ]} "),
            check: Bytes::from_static(b"{\"email\": \"a@b\", \"n\": 1.0}"),
        }
    }

    fn scope(&self) -> Scope<'_> {
        let labels = &self.labels;
        Scope {
            event: Some(EventView {
                id: "o1",
                version: 2,
                event_type: "order.captured.twice",
                occur_time: Timestamp::from_millis(1_666_823_801_600),
                accept_time: Timestamp::from_millis(1_666_823_802_000),
                environment: "LIVE",
                tenant: "acme",
                attributes: Some(&self.attributes),
                data: &self.data,
            }),
            tenant: Some(Labelled { id: "acme", labels }),
            subscription: Some(SubscriptionView {
                id: "erp",
                labels,
                url: "https://example.com/hook",
                environment: "TEST",
            }),
            delivery: Some(DeliveryView {
                id: "d1",
                create_time: Timestamp::from_millis(1_666_823_802_001),
                replay: true,
                test: false,
            }),
            attempt: Some(AttemptView {
                number: 3,
                time: Timestamp::from_millis(1_666_823_900_500),
            }),
            request: Some(RequestView {
                method: "POST",
                url: "https://example.com/hook?x=1",
                body: &self.request,
            }),
            response: Some(ResponseView {
                status: 429,
                headers: &self.headers,
                body: &self.response,
            }),
            check: Some(CheckView {
                id: "c1",
                time: Timestamp::from_millis(1_666_823_900_000),
                data: &self.check,
            }),
            challenge: None,
            callback: Some(Labelled { id: "kyc", labels }),
            key: Some(KeyView {
                id: "k1",
                number: 2,
                secret: Some(SecretView { key: b"s3cret", is_text: true }),
            }),
            signature: Some("c2ln"),
        }
    }
}

fn compiled(source: &str, site: Site) -> Expression {
    Expression::compile(source, site).unwrap_or_else(|wrong| panic!("{source}: {wrong}"))
}

fn refused(source: &str, site: Site) -> String {
    let wrong = Expression::compile(source, site).expect_err(source);
    assert_eq!(wrong.rule, Rule::ExpressionInvalid, "{source}");
    wrong.description
}

fn value_at(source: &str, site: Site) -> Result<Output, String> {
    compiled(source, site).value(&World::new(DATA).scope())
}

fn value(source: &str) -> Result<Output, String> {
    value_at(source, Site::Template)
}

fn verbatim(source: &str) -> Result<Output, String> {
    compiled(source, Site::Template).verbatim(&World::new(DATA).scope())
}

fn text(value: &str) -> Result<Output, String> {
    Ok(Output::Text(value.to_owned()))
}

fn json(value: &str) -> Result<Output, String> {
    Ok(Output::Json(Bytes::copy_from_slice(value.as_bytes())))
}

fn check(source: &str, site: Site) {
    let world = World::new(DATA);
    assert_eq!(compiled(source, site).holds(&world.scope()), Verdict::True, "{source}");
}
