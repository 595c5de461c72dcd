use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::compiled::{
    Accessor, KeyChoice, Member, SignatureEncoding, SignatureHeader, SignaturePlace,
};
use super::document::tests::built_in;
use super::*;
use crate::clock::Timestamp;
use crate::error::Rule;
use crate::event::{Environment, Event};
use crate::expr::Site;
use crate::id::{
    ContractId, DeliveryKey, EventId, EventTypeId, LaneNo, Position, ReplayTag, SecretId,
    SubscriptionId, TenantId,
};
use crate::model::SecretAlgorithm;
use crate::secret::SecretBytes;
use crate::url::EndpointUrl;

static AGENT: Bytes = Bytes::from_static(b"Pregon/0.1");

/// 2022-10-26T22:36:41.600Z
const OCCURRED: i64 = 1_666_823_801_600;

pub(super) fn event(id: &str, data: &str) -> Event {
    Event {
        position: Position { ms: 1_700_000_000_000, partition: 1, n: 1 },
        tenant: TenantId::parse("acme").unwrap(),
        id: EventId::parse(id).unwrap(),
        version: 0,
        event_type: EventTypeId::parse("order.captured").unwrap(),
        environment: Environment::Live,
        given_occur_time: Some(Timestamp::from_millis(OCCURRED)),
        erased: None,
        min_revision: 0,
        trace: None,
        terms: None,
        attributes: Default::default(),
        data: Bytes::copy_from_slice(data.as_bytes()),
    }
}

/// What stands around an event.
pub(super) struct Around {
    subscription: SubscriptionId,
    labels: BTreeMap<String, String>,
    url: EndpointUrl,
    pub delivery: DeliveryKey,
    pub attempt: u32,
    pub attempt_time: Timestamp,
}

impl Around {
    pub(super) fn at(seconds: i64) -> Self {
        Self {
            subscription: SubscriptionId::parse("erp").unwrap(),
            labels: [("tier".to_owned(), "gold".to_owned())].into(),
            url: EndpointUrl::parse_stored("https://example.com/hook?a=1").unwrap(),
            delivery: DeliveryKey {
                position: Position { ms: 1_700_000_000_000, partition: 1, n: 1 },
                lane: LaneNo(36),
                replay: None,
            },
            attempt: 1,
            attempt_time: Timestamp::from_millis(seconds * 1000 + 999),
        }
    }

    pub(super) fn input<'a>(&'a self, event: &'a Event) -> RenderInput<'a> {
        RenderInput {
            event,
            tenant_labels: &self.labels,
            delivery: self.delivery,
            create_time: event.accept_time(),
            test: false,
            subscription: &self.subscription,
            subscription_labels: &self.labels,
            url: &self.url,
            attempt: self.attempt,
            attempt_time: self.attempt_time,
            user_agent: &AGENT,
        }
    }
}

pub(super) fn key(id: &str, text: &str, from: i64, until: Option<i64>) -> SigningKey {
    let secret = standard_webhooks().secret().form.parse(text).unwrap();
    let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
    let id = SecretId::parse(id).unwrap();
    SigningKey::new(id, SecretAlgorithm::Hmac, &secret, at(from), until.map(at)).unwrap()
}

pub(super) fn lines(headers: &[HeaderLine]) -> Vec<(&str, &str)> {
    headers.iter().map(|h| (&*h.name, std::str::from_utf8(&h.value).unwrap())).collect()
}

fn bare() -> ContractSpec {
    ContractSpec::new(ContractId::parse("bare").unwrap()).unwrap()
}

fn rendered(spec: ContractSpec, event: &Event) -> Rendered {
    render(&Contract::new(spec).unwrap(), &Around::at(1_700_000_000).input(event)).unwrap()
}

#[test]
fn standard_webhooks_has_its_wire_form() {
    let contract = standard_webhooks();
    let mut event = event("o1-captured", r#"{ "id":"o1", "amount": 5000.0 }"#);
    let around = Around::at(1_700_000_000);
    let request = render(&contract, &around.input(&event)).unwrap();
    assert_eq!(
        request.body,
        r#"{"type":"order.captured","timestamp":"2022-10-26T22:36:41.600Z","data":{ "id":"o1", "amount": 5000.0 }}"#
    );
    let expected = [
        ("content-type", "application/json"),
        ("user-agent", "Pregon/0.1"),
        ("webhook-id", "o1-captured"),
        ("webhook-timestamp", "1700000000"),
    ];
    assert_eq!(lines(request.headers()), expected);

    event.version = 3;
    let request = render(&contract, &around.input(&event)).unwrap();
    assert_eq!(lines(request.headers())[2], ("webhook-id", "o1-captured-v3"));
}

#[test]
fn standard_webhooks_has_its_rules() {
    let contract = standard_webhooks();
    assert_eq!(contract.id().as_str(), "standard_webhooks");
    assert_eq!(
        contract.header_names(),
        [
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
            "webhook-signature",
            // Those of a question to a callback.
            "webhook-id",
            "webhook-timestamp"
        ]
    );
    assert_eq!(contract.timeout(1), Duration::from_secs(15));
    assert_eq!(contract.timeout(u32::MAX), Duration::from_secs(15));
    assert!(contract.secret().required && contract.traceparent() && contract.url().is_none());
    assert_eq!(contract.retry(), &Retry::standard());
    assert_eq!(contract.sharing(), Sharing::Attempt);
    assert!(contract.carries(&EventTypeId::parse("order.captured").unwrap()));
    let (event, around, body) = (event("e", "1"), Around::at(0), Bytes::new());
    let judged = |status| {
        let answer = Answer { status, headers: &[], body: &body };
        let judged = contract.judge(&answer, &around.input(&event));
        (judged.acknowledged, judged.refused, judged.disable)
    };
    assert_eq!(judged(204), (true, false, false));
    assert_eq!(judged(410), (false, true, true));
    assert_eq!(judged(500), (false, false, false));
    assert!(!contract.reads_answer());
}

#[test]
fn data_alone_is_not_even_copied() {
    let event = event("e", " [1, 2.0 ,\"\\u0041\"]\n");
    let request = rendered(bare(), &event);
    assert_eq!(request.body, event.data);
    assert_eq!(request.body.as_ptr(), event.data.as_ptr());
}

#[test]
fn every_accessor_in_a_body_and_a_header() {
    let body = Template::Object(vec![
        Member::Named("id".into(), Template::text("${event.id}", Site::Template).unwrap()),
        Member::Named("v".into(), Template::text("${event.version}", Site::Template).unwrap()),
        Member::Named(
            "mixed \"q\"".into(),
            Template::text("a\"${event.version}/$${x}/${tenant.id}", Site::Template).unwrap(),
        ),
        Member::Named("n".into(), Template::literal("1.0").unwrap()),
        Member::Named(
            "list".into(),
            Template::List(vec![
                Template::text("${attempt.number}", Site::Template).unwrap(),
                Template::text("${delivery.replay}", Site::Template).unwrap(),
                Template::text("${event.data}", Site::Template).unwrap(),
                Template::literal("null").unwrap(),
                Template::text("", Site::Template).unwrap(),
            ]),
        ),
        Member::Named("url".into(), Template::text("${request.url}", Site::Template).unwrap()),
        Member::Named(
            "at".into(),
            Template::text("${ int( event.accept_time ) }", Site::Template).unwrap(),
        ),
        Member::Named(
            "env".into(),
            Template::text("${event.environment}", Site::Template).unwrap(),
        ),
    ]);
    let header =
        |name: &str, text| (Arc::from(name), TextTemplate::parse(text, Site::Template).unwrap());
    let headers = vec![
        header("x-delivery-id", "${delivery.id}"),
        header("x-try", "${attempt.number} of ${subscription.id}, ${attempt.time.rfc3339(0)}"),
    ];
    let contract = Contract::new(ContractSpec { body, headers, ..bare() }).unwrap();
    assert_eq!(contract.sharing(), Sharing::Subscription);

    let event = event("e", "{}");
    let mut around = Around::at(1_700_000_000);
    around.attempt = 2;
    let original = around.delivery.to_string();
    around.delivery.replay = Some(ReplayTag::from_bits([1; 5]));
    let request = render(&contract, &around.input(&event)).unwrap();
    assert_eq!(
        request.body,
        r#"{"id":"e","v":0,"mixed \"q\"":"a\"0/${x}/acme","n":1.0,"list":[2,true,{},null,""],"url":"https://example.com/hook?a=1","at":1700000000,"env":"LIVE"}"#
    );
    let expected =
        [("x-delivery-id", original.as_str()), ("x-try", "2 of erp, 2023-11-14T22:13:20Z")];
    assert_eq!(lines(request.headers())[2..], expected);
}

#[test]
fn a_contract_may_name_its_content_type_and_user_agent() {
    let spec = ContractSpec {
        content_type: Some(text("application/cloudevents+json; charset=utf-8")),
        user_agent: Some(text("MercadoPago Webhook")),
        ..bare()
    };
    let request = rendered(spec, &event("e", "1"));
    let expected = [
        ("content-type", "application/cloudevents+json; charset=utf-8"),
        ("user-agent", "MercadoPago Webhook"),
    ];
    assert_eq!(lines(request.headers()), expected);
}

#[test]
fn a_header_that_cannot_hold_its_value_fails() {
    let event = event("e", "1");
    let around = Around::at(0);
    let input =
        RenderInput { user_agent: &Bytes::from_static(b"a\r\nx: y"), ..around.input(&event) };
    let contract = Contract::new(bare()).unwrap();
    let error = render(&contract, &input).unwrap_err();
    assert_eq!(error, RenderError::HeaderValue { name: "user-agent".into() });
}

#[test]
fn contracts_that_contradict_themselves_are_refused() {
    let refused = |spec: ContractSpec| {
        assert_eq!(Contract::new(spec).unwrap_err().rule, Rule::ContractInvalid);
    };
    let header = |name: &str, text: &str| {
        vec![(Arc::from(name), TextTemplate::parse(text, Site::Template).unwrap())]
    };
    refused(ContractSpec { timeouts: vec![], ..bare() });
    refused(ContractSpec { timeouts: vec![Duration::from_secs(31)], ..bare() });
    refused(ContractSpec { timeouts: vec![Duration::from_millis(999)], ..bare() });
    refused(ContractSpec { timeouts: vec![Duration::from_secs(5); 33], ..bare() });
    for name in ["", "a b", "Host", "host", "content-length", "connection", "user-agent"] {
        refused(ContractSpec { headers: header(name, "x"), ..bare() });
    }
    refused(ContractSpec { headers: header("x-data", "${event.data}"), ..bare() });
    refused(ContractSpec { headers: header("x-sign", "${signature}"), ..bare() });
    refused(ContractSpec { headers: [header("x-a", "1"), header("x-a", "2")].concat(), ..bare() });
    let many = (0..21).flat_map(|i| header(&format!("x-{i}"), "1")).collect();
    refused(ContractSpec { headers: many, ..bare() });
    refused(ContractSpec { content_type: Some(text("a\nb")), ..bare() });
    refused(ContractSpec { user_agent: Some(text("é")), ..bare() });
    refused(ContractSpec {
        body: Template::text("a ${event.data}", Site::Template).unwrap(),
        ..bare()
    });
    refused(ContractSpec {
        body: Template::text("${request.body}", Site::Template).unwrap(),
        ..bare()
    });
    refused(ContractSpec {
        body: Template::Object(vec![
            Member::Named("a".into(), Template::literal("1").unwrap()),
            Member::Named("a".into(), Template::literal("2").unwrap()),
        ]),
        ..bare()
    });
    let mut deep = Template::text("x", Site::Template).unwrap();
    for _ in 0..33 {
        deep = Template::List(vec![deep]);
    }
    refused(ContractSpec { body: deep, ..bare() });
    let required = SecretRule { required: true, ..bare().secret };
    refused(ContractSpec { secret: required, ..bare() });
    let mut spec = built_in("standard_webhooks");
    spec.headers = header("webhook-signature", "x");
    refused(spec);
}

#[test]
fn timeouts_go_by_attempt_and_the_last_repeats() {
    let timeouts = vec![Duration::from_secs(20), Duration::from_secs(5)];
    let contract = Contract::new(ContractSpec { timeouts, ..bare() }).unwrap();
    let seconds = [1, 2, 3, u32::MAX].map(|attempt| contract.timeout(attempt).as_secs());
    assert_eq!(seconds, [20, 5, 5, 5]);
}

/// The example of the Standard Webhooks libraries' own tests.
#[test]
fn the_official_example_is_signed_as_published() {
    let mut spec = built_in("standard_webhooks");
    spec.body = Template::text("${event.data}", Site::Template).unwrap();
    let contract = Contract::new(spec).unwrap();
    let event = event("msg_p5jXN8AQM9LWM0D4loKWxJek", r#"{"test": 2432232314}"#);
    let around = Around::at(1_614_265_330);
    let keys = SigningKeys::new(vec![key("k", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 0, None)]);
    let request = render(&contract, &around.input(&event)).unwrap();
    let signed = sign(&contract, &request, &around.input(&event), &keys).unwrap();
    let expected = ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert_eq!(lines(&signed.headers).last(), Some(&expected));
    assert_eq!(signed.body, request.body);
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(|f| format!("{f:?}")),
        any::<String>().prop_map(|s| serde_json::to_string(&s).unwrap()),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|v| format!("[{}]", v.join(" , "))),
            prop::collection::vec(inner, 0..4).prop_map(|v| {
                let member = |(i, value): (usize, &String)| format!("\"k{i}\" : {value}");
                format!("{{{}}}", v.iter().enumerate().map(member).collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn the_publishers_bytes_reach_the_receiver_unchanged(data in json(), version in 0u32..3) {
        let event = Event { version, ..event("e", &data) };
        let around = Around::at(1);
        let request = render(&standard_webhooks(), &around.input(&event)).unwrap();
        let head = r#"{"type":"order.captured","timestamp":"2022-10-26T22:36:41.600Z","data":"#;
        prop_assert_eq!(&request.body, &format!("{head}{data}}}"));
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&request.body).is_ok());
    }

    #[test]
    fn the_signature_is_over_the_bytes_that_are_sent(
        data in json(), secret in prop::collection::vec(any::<u8>(), 24..=64), seconds in 0i64..4_000_000_000,
    ) {
        use hmac::Mac;
        let contract = standard_webhooks();
        let event = event("evt_1", &data);
        let around = Around::at(seconds);
        let id = SecretId::parse("k").unwrap();
        let bytes = SecretBytes::new(secret.clone());
        let key = SigningKey::new(id, SecretAlgorithm::Hmac, &bytes, Timestamp::MIN, None).unwrap();
        let input = around.input(&event);
        let request = render(&contract, &input).unwrap();
        let signed = sign(&contract, &request, &input, &SigningKeys::new(vec![key])).unwrap();

        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&secret).unwrap();
        mac.update(&[format!("evt_1.{seconds}.").as_bytes(), &request.body].concat());
        let expected = data_encoding::BASE64.encode(&mac.finalize().into_bytes());
        let expected = format!("v1,{expected}");
        let lines = lines(&signed.headers);
        prop_assert_eq!(lines.last(), Some(&("webhook-signature", &*expected)));
    }

    #[test]
    fn no_expression_panics(text in "[$]{0,2}[{]?.{0,20}") {
        let _ = Accessor::parse(&text, Site::Template);
        let _ = TextTemplate::parse(&text, Site::Template);
        let _ = Template::literal(&text);
    }

    #[test]
    fn any_literal_text_becomes_one_json_string(text: String, name: String) {
        let escaped = text.replace("${", "$${");
        let body = Template::Object(vec![Member::Named(name.as_str().into(), Template::text(&escaped, Site::Template).unwrap())]);
        let request = rendered(ContractSpec { body, ..bare() }, &event("e", "1"));
        let read: std::collections::BTreeMap<String, String> = serde_json::from_slice(&request.body).unwrap();
        prop_assert_eq!(read, [(name, text)].into());
    }
}

fn text(text: &str) -> TextTemplate {
    TextTemplate::parse(text, Site::Template).unwrap()
}

#[test]
fn signatures_may_have_other_places_and_forms() {
    let mut spec = built_in("standard_webhooks");
    spec.signatures.truncate(1);
    spec.signatures[0].encoding = SignatureEncoding::Hex;
    spec.signatures[0].keys = KeyChoice::Newest;
    spec.signatures[0].place = SignaturePlace::Header {
        header: SignatureHeader::named("x-signature".into()),
        each: TextTemplate::parse("sha256=${signature}", Site::Template).unwrap(),
        prefix: TextTemplate::parse("t=${int(attempt.time)};", Site::Template).unwrap(),
        separator: ",".into(),
    };
    let contract = Contract::new(spec).unwrap();
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let keys = SigningKeys::new(vec![key("old", secret, 0, None), key("new", secret, 1, None)]);
    let event = event("e", "1");
    let around = Around::at(5);
    let request = render(&contract, &around.input(&event)).unwrap();
    let signed = sign(&contract, &request, &around.input(&event), &keys).unwrap();
    let lines = lines(&signed.headers);
    let value = lines.last().unwrap().1;
    assert!(value.starts_with("t=5;sha256=") && value.len() == 11 + 64, "{value}");
    assert_eq!(signed.keys, [SecretId::parse("new").unwrap()]);
}
