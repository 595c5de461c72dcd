//! What a request costs before it is sent: rendering and signing a 500-byte event under the default
//! contract. `cargo run --release -p pregon-core --example contract_cost`

use std::hint::black_box;
use std::time::Instant;

use pregon_core::clock::Timestamp;
use pregon_core::contract::{
    Contract, RenderInput, SigningKey, SigningKeys, render, sign, standard_webhooks,
};
use pregon_core::event::{Environment, Event};
use pregon_core::id::{
    DeliveryKey, EventId, EventTypeId, LaneNo, Position, SecretId, SubscriptionId, TenantId,
};
use pregon_core::model::SecretAlgorithm;
use pregon_core::secret::SecretBytes;
use pregon_core::url::EndpointUrl;

/// Rounds of a measurement; the best is printed, which is what the code costs undisturbed.
const ROUNDS: usize = 20;
/// Calls of a round.
const CALLS: u32 = 20_000;

fn best(name: &str, mut call: impl FnMut()) {
    let round = |_| {
        let start = Instant::now();
        (0..CALLS).for_each(|_| call());
        start.elapsed() / CALLS
    };
    let best = (0..ROUNDS).map(round).min().unwrap_or_default();
    println!("{name}: {best:?}");
}

fn event() -> Result<Event, Box<dyn std::error::Error>> {
    let data = format!("{{\"id\":\"o1\",\"note\":\"{}\"}}", "x".repeat(480));
    let position = Position { ms: 1_700_000_000_000, partition: 1, n: 1 };
    Ok(Event {
        position,
        tenant: TenantId::parse("acme")?,
        id: EventId::assigned(position),
        version: 0,
        event_type: EventTypeId::parse("order.captured")?,
        environment: Environment::Live,
        given_occur_time: None,
        min_revision: 0,
        traceparent: None,
        attributes: Default::default(),
        data: data.into(),
    })
}

fn keys(count: i64) -> Result<SigningKeys, Box<dyn std::error::Error>> {
    let key = |n: i64| {
        let id = SecretId::parse(&format!("k{n}"))?;
        let secret = SecretBytes::new(vec![u8::try_from(n).unwrap_or(0); 32]);
        SigningKey::new(id, SecretAlgorithm::Hmac, &secret, Timestamp::from_millis(n), None)
    };
    Ok(SigningKeys::new((0..count).map(key).collect::<Result<_, _>>()?))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (contract, event): (Contract, Event) = (standard_webhooks(), event()?);
    let subscription = SubscriptionId::parse("erp")?;
    let url = EndpointUrl::parse_stored("https://example.com/hook")?;
    let input = RenderInput {
        event: &event,
        delivery: DeliveryKey { position: event.position, lane: LaneNo(7), replay: None },
        subscription: &subscription,
        url: &url,
        attempt: 1,
        attempt_time: Timestamp::from_millis(1_700_000_000_500),
        user_agent: "Pregon/0.1",
    };
    let (one, two) = (keys(1)?, keys(2)?);
    let request = render(&contract, &input)?;
    println!("event data: {} bytes, body: {} bytes", event.data.len(), request.body.len());
    best("render", || drop(black_box(render(&contract, black_box(&input)))));
    best("sign, one key", || drop(black_box(sign(&contract, &request, black_box(&input), &one))));
    best("sign, two keys", || drop(black_box(sign(&contract, &request, black_box(&input), &two))));
    best("render and sign", || {
        let request = render(&contract, black_box(&input));
        if let Ok(request) = request {
            drop(black_box(sign(&contract, &request, &input, &one)));
        }
    });
    Ok(())
}
