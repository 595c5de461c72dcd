//! Clocks that differ: a plane's is ahead of the others' or behind them, by a little or by an hour.
//! What was made to sign at once signs, and nothing fails for a clock.

use crate::harness::planes::Plan;
use crate::harness::{Env, Planes, Receiver, Shop};

/// Where Debian's package has it; `scripts/tools.sh` installs it.
const FAKETIME: &str = "libfaketime.so.1";

/// A process's clock, so many seconds ahead.
fn ahead(seconds: i64) -> Env {
    let library = std::path::Path::new("/usr/lib")
        .join(format!("{}-linux-gnu/faketime", std::env::consts::ARCH))
        .join(FAKETIME);
    assert!(library.exists(), "{} is not there: run scripts/tools.sh", library.display());
    Env::default()
        .with("LD_PRELOAD", &library.display().to_string())
        .with("FAKETIME", &format!("{seconds:+}"))
        .with("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

async fn first_events_are_delivered(control: i64, nodes: i64) {
    let (control_env, node_env) = (ahead(control), ahead(nodes));
    let plan = Plan {
        nodes: 1,
        control_env: Some(&control_env),
        node_env: Some(&node_env),
        ..Plan::default()
    };
    let planes = Planes::start(plan).await;
    let receiver = Receiver::friendly().await;
    let mut shop = Shop::open(planes.grpcurl()).await;
    for n in 0..3 {
        let name = format!("s{n}");
        shop.subscribe(&name, &receiver, &format!("/{name}")).await;
        // At the revision of the subscription: before any clock has caught up.
        shop.publish(&format!("e{n}"), "{}").await;
        shop.delivery(&format!("e{n}"), &name, "SUCCEEDED").await;
    }
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["failed"], "0", "{report}");
    assert_eq!(report["deliveries"]["cancelled"], "0", "{report}");
}

#[tokio::test]
async fn control_is_ahead() {
    for seconds in [1, 3, 3600] {
        first_events_are_delivered(seconds, 0).await;
    }
}

#[tokio::test]
async fn control_is_behind() {
    for seconds in [-1, -3, -3600] {
        first_events_are_delivered(seconds, 0).await;
    }
}

#[tokio::test]
async fn nodes_are_ahead_of_everybody() {
    first_events_are_delivered(0, 3600).await;
}

#[tokio::test]
async fn nodes_are_behind_everybody() {
    first_events_are_delivered(0, -3600).await;
}
