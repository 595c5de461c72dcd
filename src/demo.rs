//! `pregon demo`: the main job, to be watched.
//!
//! A standalone Pregón in a temporary directory and a receiver, in one process, but talking as
//! they would over a network: everything goes through the gRPC port and through https. Five
//! companies' contracts have a subscription each ([`stage`]); their samples are published
//! ([`samples`]); and every request is printed as the receiver saw it, with what its contract says
//! of it ([`watch`]). One receiver path refuses each event once, so that a retry is to be seen too.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use pregon_core::clock::SystemClock;

use crate::receiver::tls::Tls;
use crate::receiver::{Receipt, Receiver, ReceiverOptions};
use crate::settings::StandaloneArgs;
use crate::standalone::Standalone;

mod client;
mod expected;
mod samples;
mod stage;

use client::Client;
use samples::SAMPLES;

/// The tenant that the samples are published for.
const TENANT: &str = "demo";
/// The contract of the subscription that is refused once: its first retry comes after 5 s.
const DEFAULT: &str = "standard_webhooks";
/// That subscription.
const FLAKY: &str = "flaky";

/// Options of the demo.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Where gRPC is served meanwhile; port 0 takes a free one.
    #[arg(long, env = "PREGON_LISTEN", default_value = "127.0.0.1:0", value_name = "ADDR:PORT")]
    listen: SocketAddr,

    /// End when every event was received, instead of staying up.
    ///
    /// The exit status is 0 only if every request was verified and equal to its sample.
    #[arg(long)]
    exit: bool,
}

impl DemoArgs {
    /// Runs the demo until it is interrupted, or with --exit until all was received.
    pub async fn run(self) -> anyhow::Result<()> {
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let tls = Tls::generate(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        let authority = directory.path().join("receiver-ca.pem");
        std::fs::write(&authority, tls.authority()).context("cannot write a certificate")?;
        let mut settings =
            StandaloneArgs::for_demo(self.listen, directory.path()).map_err(|wrong| {
                anyhow::anyhow!(
                    "{}",
                    wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
                )
            })?;
        settings.node.egress_ca_file = Some(authority);
        let standalone = Standalone::start(settings).await?;
        let played = tokio::select! {
            played = play(standalone.addr(), tls, self.exit) => played,
            () = crate::interrupted() => Ok(()),
        };
        standalone.stop().await?;
        played
    }
}

/// Sets everything up, publishes, watches, and stays up unless told to `exit`.
async fn play(grpc: SocketAddr, tls: Tls, exit: bool) -> anyhow::Result<()> {
    let options = ReceiverOptions { tls: Some(tls), ..ReceiverOptions::default() };
    let mut receiver = Receiver::start(options, Arc::new(SystemClock)).await?;
    println!("pregon demo: gRPC on {grpc}, a receiver on https://{}", receiver.addr());
    let mut client = Client::connect(grpc, TENANT).await?;
    let outcome = show(&mut client, &mut receiver).await;
    if exit {
        return outcome;
    }
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

/// The whole story; an error is what did not hold.
async fn show(client: &mut Client, receiver: &mut Receiver) -> anyhow::Result<()> {
    let secret = secret();
    stage::prepare(client, receiver, &secret).await?;
    stage::test(client, receiver).await?;
    stage::check(client, receiver, &secret).await?;
    println!("\npublishing {} sample events for tenants/{TENANT}", SAMPLES.len());
    for sample in &SAMPLES {
        let event = client.publish(sample).await?;
        println!("  {:<36} {}", sample.event_type, event.event);
    }
    println!("\nwhat the receiver saw:");
    expected::watch(receiver).await?;
    expected::balance(client).await
}

/// A secret of the demo's own, for the contract whose secrets are any text.
fn secret() -> String {
    let mut bytes = [0; 16];
    crate::random::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn print(receipt: &Receipt) {
    print!("\n{receipt}");
}
