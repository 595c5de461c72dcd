//! What expressions cost: compiling one, and the evaluations that contracts ask for most.
//! `cargo run --release -p pregon-core --example expression_cost`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::expr::{AttemptView, EventView, Expression, Labelled, Scope, Site};
use pregon_core::json::{self, Path};

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
    println!("{best:>10.1?}  {name}");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let note = "x".repeat(420);
    let data = Bytes::from(format!(
        "{{\"id\":\"o1\",\"note\":\"{note}\",\"amount\":5000,\"external_reference\":\"R-1\"}}"
    ));
    let labels = BTreeMap::from([("tier".to_owned(), "gold".to_owned())]);
    let scope = Scope {
        event: Some(EventView {
            id: "o1-captured",
            version: 2,
            event_type: "order.captured",
            occur_time: Timestamp::from_millis(1_700_000_000_123),
            accept_time: Timestamp::from_millis(1_700_000_001_000),
            environment: "LIVE",
            tenant: "acme",
            attributes: Some(&labels),
            data: &data,
        }),
        tenant: Some(Labelled { id: "acme", labels: &labels }),
        attempt: Some(AttemptView { number: 1, time: Timestamp::from_millis(1_700_000_002_500) }),
        ..Scope::default()
    };
    println!("event data: {} bytes", data.len());
    let path = Path::parse(".external_reference")?;
    best("scan for external_reference, no expression", || {
        black_box(json::find(black_box(&data), path.steps()));
    });
    for source in [
        "event.data.external_reference",
        "event.type.split(\".\", 2)[0]",
        "event.data.?msg.orValue([])",
        "event.data",
        "tenant.labels.tier",
        "event.attributes.?tier",
        "int(attempt.time)",
        "event.time.rfc3339(3)",
        "event.time.format(\"dd/MM/yyyy HH:mm:ss\", \"America/Argentina/Buenos_Aires\")",
        "hex(sha256(event.id))",
        "event.data.amount > 100 && event.type.startsWith(\"order.\")",
    ] {
        let expression = Expression::compile(source, Site::Template)?;
        if let Err(reason) = expression.value(&scope) {
            return Err(format!("{source}: {reason}").into());
        }
        best(source, || drop(black_box(expression.value(black_box(&scope)))));
    }
    let path = Expression::compile("event.data.external_reference", Site::Template)?;
    best("event.data.external_reference, verbatim", || {
        drop(black_box(path.verbatim(black_box(&scope))));
    });
    let start = Instant::now();
    for _ in 0..100 {
        drop(black_box(Expression::compile(
            black_box("event.type.split(\".\", 2)[0]"),
            Site::Filter,
        )));
    }
    println!("{:>10.1?}  to compile", start.elapsed() / 100);
    Ok(())
}
