//! What is set up before anything is published, and tried: subscriptions, secrets, a test send, two
//! callbacks.

use anyhow::{Context as _, bail, ensure};
use pregon_core::pattern::Pattern;
use pregon_proto::v1::{CheckCause, SubscriptionState};

use super::client::Client;
use super::samples::{SAMPLES, contract};
use super::{DEFAULT, FLAKY, print};
use crate::receiver::Receiver;
use crate::receiver::verify::{Secret, Verdict};

/// Contracts in the order of their samples.
fn contracts() -> Vec<&'static str> {
    let mut contracts: Vec<_> = SAMPLES.iter().map(|sample| sample.contract).collect();
    contracts.dedup();
    contracts
}

/// Makes the tenant, the types, and a subscription under each contract, and one more under the
/// default one, whose receiver refuses each event once.
pub(super) async fn prepare(
    client: &mut Client,
    receiver: &Receiver,
    secret: &str,
) -> anyhow::Result<()> {
    client.create_tenant("Demo").await?;
    println!("\neach contract brings its event types along, and has a subscription of its own:");
    for name in contracts() {
        let types = client.import_event_types(name).await?;
        let patterns = contract(name)?.event_types().iter().map(Pattern::to_string).collect();
        let url = format!("https://{}/contract/{name}", receiver.addr());
        let subscription = client.create_subscription(name, name, &url, patterns).await?;
        println!("  {name:<28} {:>2} types  {}", types.len(), state(subscription.state()));
        if contract(name)?.approval() {
            ensure!(
                subscription.state() == SubscriptionState::PendingApproval,
                "{name} must wait for approval"
            );
            let approved = client.approve(&subscription.name).await?;
            ensure!(approved.state() == SubscriptionState::Active, "{name} must be approved");
            println!("  {name:<28} ApproveSubscription  {}", state(approved.state()));
        }
        if contract(name)?.uses_hmac() {
            client.create_secret(&subscription.name, secret).await?;
            receiver.trust([Secret::new(secret)]);
        }
    }
    let url = format!("https://{}/contract/{DEFAULT}/fail-first/1", receiver.addr());
    let patterns = vec!["facturacion.*".to_owned()];
    let flaky = client.create_subscription(FLAKY, DEFAULT, &url, patterns).await?;
    println!("  {DEFAULT:<28} for facturacion.* once more, refused once, to show a retry");
    let material = client.reveal_secret(&flaky.name).await?;
    receiver.trust([Secret::new(&material)]);
    Ok(())
}

fn state(state: SubscriptionState) -> &'static str {
    state.as_str_name().trim_start_matches("SUBSCRIPTION_STATE_")
}

/// Sends the example of a type to a receiver, without publishing anything.
pub(super) async fn test(client: &mut Client, receiver: &mut Receiver) -> anyhow::Result<()> {
    let subscription = format!("tenants/{}/subscriptions/tusfacturas", super::TENANT);
    let tested = client.test(&subscription, "facturacion.encolado").await?;
    let attempt = tested.attempt.context("TestSubscription answered without the attempt")?;
    let status = attempt.response.context("the test was not answered")?.status;
    println!("\nTestSubscription sends an example, answered {status}:");
    let receipt = receiver.next().await.context("the receiver has ended")?;
    print(&receipt);
    ensure!(status == 200 && receipt.contract() == "tusfacturas", "the test send went wrong");
    Ok(())
}

/// Asks two callbacks of which one allows.
pub(super) async fn check(
    client: &mut Client,
    receiver: &mut Receiver,
    secret: &str,
) -> anyhow::Result<()> {
    const CONTRACT: &str = "crypto_onramp";
    println!("\nCheck asks a callback, and its answer decides:");
    for (id, answer, expected) in [("known", "true", true), ("unknown", "false", false)] {
        let url = format!("https://{}/contract/{CONTRACT}/callback/{answer}", receiver.addr());
        let callback = client.create_callback(id, CONTRACT, &url).await?;
        client.create_secret(&callback, secret).await?;
        let data = format!(r#"{{"email":"{id}@example.com"}}"#);
        let checked = client.check(&callback, &data).await?;
        let word = if checked.allowed { "ALLOWED" } else { "DENIED" };
        println!("\n{callback}: {word} ({})", checked.detail);
        let receipt = receiver.next().await.context("the receiver has ended")?;
        print(&receipt);
        ensure!(checked.cause() == CheckCause::Verdict, "{id}: the verdict must decide");
        ensure!(checked.allowed == expected, "{id}: the answer was {answer}");
        let Verdict::Verified = receipt.verdict() else {
            bail!("a question was not verified: {}", receipt.verdict());
        };
    }
    Ok(())
}
