//! What has to come, and whether it did: every sample under its contract, byte for byte and rightly
//! signed, and one event of the flaky receiver twice.

use std::time::Duration;

use anyhow::{bail, ensure};
use tokio::time::Instant;

use super::client::Client;
use super::samples::{SAMPLES, Sample, contract};
use super::{DEFAULT, print};
use crate::receiver::verify::Verdict;
use crate::receiver::{Receipt, Receiver};

/// How long the demo waits for its receipts: the retry comes after five seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the books may take to show that nothing is under way.
const BOOKS: Duration = Duration::from_secs(5);

/// What is still to come.
struct Awaited {
    samples: Vec<&'static Sample>,
    /// Requests under the default contract: one is refused, one is not.
    refused: bool,
    retried: bool,
}

impl Awaited {
    fn is_over(&self) -> bool {
        self.samples.is_empty() && self.refused && self.retried
    }

    /// What is missing, in words.
    fn missing(&self) -> String {
        let samples = self.samples.iter().map(|sample| sample.event_type);
        let retry = (!self.retried).then_some("the retry");
        samples.chain(retry).collect::<Vec<_>>().join(", ")
    }

    /// Crosses out what a request is; gives what to say of it.
    fn take(&mut self, receipt: &Receipt) -> anyhow::Result<String> {
        let (name, verdict) = (receipt.contract(), receipt.verdict());
        let expected = match contract(name)?.uses_hmac() {
            true => Verdict::Verified,
            false => Verdict::SignsNothing,
        };
        ensure!(verdict == expected, "a request under {name} is {verdict}");
        if name == DEFAULT {
            return Ok(match receipt.plan.status.is_success() {
                false => {
                    self.refused = true;
                    "refused once: a retry will come".to_owned()
                }
                true => {
                    ensure!(self.refused, "what was to be refused first was not");
                    self.retried = true;
                    "the retry of what was refused".to_owned()
                }
            });
        }
        let found = self
            .samples
            .iter()
            .position(|sample| sample.contract == name && sample.is(&receipt.body));
        let Some(found) = found else {
            bail!("a body under {name} is not its sample byte for byte");
        };
        let sample = self.samples.swap_remove(found);
        let apart = if contract(name)?.uses_hmac() { ", its signature apart" } else { "" };
        Ok(format!("equal to the sample of {} byte for byte{apart}", sample.event_type))
    }
}

/// Prints receipts until everything has come.
pub(super) async fn watch(receiver: &mut Receiver) -> anyhow::Result<()> {
    let mut awaited = Awaited { samples: SAMPLES.iter().collect(), refused: false, retried: false };
    let until = Instant::now() + PATIENCE;
    while !awaited.is_over() {
        let next = tokio::time::timeout_at(until, receiver.next()).await;
        let Ok(Some(receipt)) = next else {
            bail!("not received within {PATIENCE:?}: {}", awaited.missing());
        };
        print(&receipt);
        println!("  → {}", awaited.take(&receipt)?);
    }
    println!(
        "\nall {} samples received byte for byte, every signature verified, one retry",
        SAMPLES.len()
    );
    Ok(())
}

/// Prints the books once they show that nothing is under way.
pub(super) async fn balance(client: &mut Client) -> anyhow::Result<()> {
    let until = Instant::now() + BOOKS;
    loop {
        let report = client.report().await?;
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
