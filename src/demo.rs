//! `pregon demo`: the main job, to be watched.
//!
//! A standalone Pregón in a temporary directory and a receiver, in one process, but talking as
//! they would over a network: everything goes through the gRPC port and through HTTP. It loads the
//! sample events, publishes each, and prints every request as the receiver saw it. One receiver
//! path refuses each event once, so that a retry is to be seen too.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use pregon_core::clock::{SharedClock, SystemClock};
use tokio::time::Instant;

use crate::receiver::verify::{Secret, Verdict};
use crate::receiver::{Receipt, Receiver, ReceiverOptions};
use crate::settings::StandaloneArgs;
use crate::standalone::Standalone;

mod client;
mod samples;

use client::Client;
use samples::SAMPLES;

/// How long the demo waits for its receipts: the retry comes after five seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The tenant that the samples are published for.
const TENANT: &str = "demo";

/// Options of the demo.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Where gRPC is served meanwhile; port 0 takes a free one.
    #[arg(long, env = "PREGON_LISTEN", default_value = "127.0.0.1:0", value_name = "ADDR:PORT")]
    listen: SocketAddr,

    /// End when every event was received, instead of staying up.
    ///
    /// The exit status is 0 only if every signature was verified.
    #[arg(long)]
    exit: bool,
}

impl DemoArgs {
    /// Runs the demo until it is interrupted, or with --exit until all was received.
    pub async fn run(self) -> anyhow::Result<()> {
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let settings =
            StandaloneArgs::for_demo(self.listen, directory.path()).map_err(|wrong| {
                anyhow::anyhow!(
                    "{}",
                    wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
                )
            })?;
        let standalone = Standalone::start(settings).await?;
        let played = tokio::select! {
            played = play(standalone.addr(), self.exit) => played,
            () = crate::interrupted() => Ok(()),
        };
        standalone.stop().await?;
        played
    }
}

/// Sets everything up, publishes, watches, and stays up unless told to `exit`.
async fn play(grpc: SocketAddr, exit: bool) -> anyhow::Result<()> {
    let clock: SharedClock = std::sync::Arc::new(SystemClock);
    let mut receiver = Receiver::start(ReceiverOptions::default(), clock).await?;
    println!("pregon demo: gRPC on {grpc}, a receiver on http://{}", receiver.addr());

    let mut client = Client::connect(grpc).await?;
    prepare(&mut client, &receiver).await?;
    println!("\npublishing {} sample events for tenants/{TENANT}", SAMPLES.len());
    let mut expected = HashMap::new();
    for sample in &SAMPLES {
        let event = client.publish(TENANT, sample.event_type, sample.json).await?;
        println!("  {:<36} {}", sample.event_type, event.event);
        expected.insert(event.id, sample.event_type);
    }

    println!("\nwhat the receiver saw (one path answers 503 once, to show a retry):");
    let outcome = watch(&mut receiver, expected).await;
    balance(&mut client).await?;
    match (exit, outcome) {
        (true, outcome) => outcome,
        (false, outcome) => {
            if let Err(error) = outcome {
                println!("\n{error:#}");
            }
            println!("\nTry it yourself while this runs (Ctrl-C ends it):");
            println!("  grpcurl -plaintext {grpc} list");
            println!(
                "  grpcurl -plaintext -d '{{\"parent\":\"tenants/{TENANT}\"}}' {grpc} \
                 pregon.v1.DeliveryService/ListDeliveries"
            );
            while let Some(receipt) = receiver.next().await {
                print(&receipt);
            }
            Ok(())
        }
    }
}

/// Makes the tenant, the types, and two subscriptions: one whose receiver is well, one whose
/// receiver refuses each event once.
async fn prepare(client: &mut Client, receiver: &Receiver) -> anyhow::Result<()> {
    client.create_tenant(TENANT, "Demo").await?;
    for sample in &SAMPLES {
        client.create_event_type(sample.event_type, sample.description, sample.json).await?;
    }
    let to = receiver.addr();
    let well = client
        .create_subscription(
            TENANT,
            "well",
            &format!("http://{to}/hook"),
            &["order.*", "payment.*", "agreement.*", "crypto_delivered"],
        )
        .await?;
    let moody = client
        .create_subscription(
            TENANT,
            "moody",
            &format!("http://{to}/fail-first/1"),
            &["facturacion.*"],
        )
        .await?;
    for subscription in [well, moody] {
        let material = client.reveal_secret(&subscription).await?;
        let secret = Secret::parse(&material).map_err(|reason| anyhow::anyhow!(reason))?;
        receiver.trust([secret]);
    }
    Ok(())
}

/// Prints receipts until every expected event was acknowledged with a good signature.
async fn watch(receiver: &mut Receiver, mut expected: HashMap<String, &str>) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    let mut verified = 0;
    while !expected.is_empty() {
        let next = tokio::time::timeout_at(until, receiver.next()).await;
        let Ok(Some(receipt)) = next else {
            let missing: Vec<_> = expected.into_values().collect();
            bail!("not received within {PATIENCE:?}: {}", missing.join(", "));
        };
        print(&receipt);
        let Verdict::Verified = receipt.verdict else {
            bail!("a signature was not verified: {}", receipt.verdict);
        };
        if receipt.plan.status.is_success()
            && let Some(id) = receipt.webhook_id()
            && expected.remove(id).is_some()
        {
            verified += 1;
        }
    }
    println!("\nall {verified} events received, every signature verified");
    Ok(())
}

fn print(receipt: &Receipt) {
    print!("\n{receipt}");
}

/// Prints the books once they show that nothing is under way.
async fn balance(client: &mut Client) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let report = client.report(TENANT).await?;
        let (events, deliveries) =
            (report.events.unwrap_or_default(), report.deliveries.unwrap_or_default());
        if deliveries.pending + events.awaiting_match > 0 && Instant::now() < until {
            tokio::task::yield_now().await;
            continue;
        }
        println!(
            "\nthe books: {} events accepted = {} matched + {} unmatched + {} waiting; \
             {} deliveries = {} succeeded + {} failed + {} cancelled + {} pending",
            events.accepted,
            events.matched,
            events.unmatched,
            events.awaiting_match,
            deliveries.created,
            deliveries.succeeded,
            deliveries.failed,
            deliveries.cancelled,
            deliveries.pending,
        );
        return Ok(());
    }
}
