//! What a delivery costs in this crate: rendering a body and headers and signing them, for every
//! built-in contract. The budget is 20 µs each.
//!
//! `cargo bench -p pregon-core --bench contracts`

#![allow(missing_docs, reason = "criterion's macros write functions")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed benchmark")]

use std::collections::BTreeMap;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use pregon_core::clock::Timestamp;
use pregon_core::contract::{
    Contract, RenderInput, SigningKey, SigningKeys, builtins, render, sign,
};
use pregon_core::event::{Environment, Event};
use pregon_core::id::{
    DeliveryKey, EventId, EventTypeId, LaneNo, Position, SecretId, SubscriptionId, TenantId,
};
use pregon_core::model::SecretAlgorithm;
use pregon_core::secret::SecretBytes;
use pregon_core::url::EndpointUrl;

/// Bytes of event data, as near as the contract's own example lets it come.
const DATA: usize = 500;

/// The example of the contract's first type without white space, or an order, padded with a member.
fn data(contract: &Contract) -> Bytes {
    let example =
        contract.types().first().map_or(r#"{"id":"o1","total":150.00}"#, |it| it.example.as_str());
    let value: serde_json::Value = serde_json::from_str(example).unwrap();
    let text = value.to_string();
    let (whole, room) = (text.strip_suffix('}').unwrap(), DATA.saturating_sub(text.len() + 10));
    Bytes::from(match room {
        0 => text,
        room => format!(r#"{whole},"note":"{}"}}"#, "ñ ".repeat(room / 3)),
    })
}

fn event(contract: &Contract) -> Event {
    let kind = contract.types().first().map(|it| it.id.clone());
    Event {
        position: Position { ms: 1_700_000_000_000, partition: 1, n: 1 },
        tenant: TenantId::parse("acme").unwrap(),
        id: EventId::parse("evt_2fQZxYw1rTnB7kcD0a9LmP").unwrap(),
        version: 0,
        event_type: kind.unwrap_or_else(|| EventTypeId::parse("order.captured").unwrap()),
        environment: Environment::Live,
        given_occur_time: Some(Timestamp::from_millis(1_666_823_801_600)),
        erased: None,
        min_revision: 0,
        trace: None,
        terms: None,
        attributes: BTreeMap::from([("subject".to_owned(), "orders/17".to_owned())]),
        data: data(contract),
    }
}

/// One HMAC key, where the contract signs.
fn keys(contract: &Contract) -> SigningKeys {
    if !contract.uses_hmac() {
        return SigningKeys::default();
    }
    let (id, bytes) = (SecretId::parse("k1").unwrap(), SecretBytes::new(vec![7; 32]));
    let key = SigningKey::new(id, SecretAlgorithm::Hmac, &bytes, Timestamp::MIN, None);
    SigningKeys::new(vec![key.unwrap()])
}

fn contracts(criterion: &mut Criterion) {
    let labels = BTreeMap::new();
    let subscription = SubscriptionId::parse("erp").unwrap();
    let url = EndpointUrl::parse_stored("https://example.com/hook").unwrap();
    let user_agent = Bytes::from_static(b"Pregon/0.1");
    let mut group = criterion.benchmark_group("render and sign");
    for built_in in builtins() {
        let contract = &built_in.contract;
        let (event, keys) = (event(contract), keys(contract));
        let input = RenderInput {
            event: &event,
            tenant_labels: &labels,
            delivery: DeliveryKey { position: event.position, lane: LaneNo(1), replay: None },
            create_time: event.accept_time(),
            test: false,
            subscription: &subscription,
            subscription_labels: &labels,
            url: &url,
            attempt: 1,
            attempt_time: Timestamp::from_millis(1_700_000_000_000),
            user_agent: &user_agent,
        };
        let name = format!("{} ({} B of data)", contract.id(), event.data.len());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let input = black_box(&input);
                let rendered = render(contract, input).unwrap();
                sign(contract, &rendered, input, &keys).unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, contracts);
criterion_main!(benches);
