//! Clocks that differ: a plane's is ahead of the others' or behind them, by a little or by an hour.
//! What was made to sign at once signs, and nothing fails for a clock. And clocks that step while
//! their process runs: what was planned before is done, and soon.

use pregon_core::clock::{Clock as _, SystemClock, Timestamp};
use tempfile::TempDir;

use crate::harness::planes::Plan;
use crate::harness::{Answer, Env, Planes, Receiver, Shop, Standalone};

/// Where Debian's package has it; `scripts/tools.sh` installs it.
const FAKETIME: &str = "libfaketime.so.1";

/// A process's clock, so many seconds ahead.
fn ahead(seconds: i64) -> Env {
    faked().with("FAKETIME", &format!("{seconds:+}"))
}

/// A process whose clock is not the machine's; how far time has gone is.
fn faked() -> Env {
    let library = std::path::Path::new("/usr/lib")
        .join(format!("{}-linux-gnu/faketime", std::env::consts::ARCH))
        .join(FAKETIME);
    assert!(library.exists(), "{} is not there: run scripts/tools.sh", library.display());
    Env::default()
        .with("LD_PRELOAD", &library.display().to_string())
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

/// A clock that is set while its process runs.
struct Clock(TempDir);

impl Clock {
    fn new() -> Self {
        let clock = Self(tempfile::tempdir().unwrap());
        clock.set(0);
        clock
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn env(&self) -> Env {
        let file = self.path("clock").display().to_string();
        faked().with("FAKETIME_TIMESTAMP_FILE", &file).with("FAKETIME_NO_CACHE", "1")
    }

    /// So many seconds ahead, from the next look on.
    fn set(&self, seconds: i64) {
        std::fs::write(self.path("next"), format!("{seconds:+}")).unwrap();
        std::fs::rename(self.path("next"), self.path("clock")).unwrap();
    }
}

/// Where a clock is set, in seconds: each way by a second, three and an hour.
const STEPS: [i64; 7] = [1, 0, 3, 0, 3600, 0, -3600];

/// What was refused before a step is tried again after it, at about the time that was planned, and
/// what comes after it is delivered.
async fn all_is_delivered(mut shop: Shop, clocks: &[&Clock], is_told: bool) {
    let receiver = Receiver::start(|request| match (request.path(), request.earlier) {
        ("/refuses", 0) => Answer::Status(503),
        _ => Answer::Status(204),
    })
    .await;
    shop.subscribe("takes", &receiver, "/takes").await;
    shop.subscribe("refuses", &receiver, "/refuses").await;
    shop.served().await;
    for (n, seconds) in STEPS.into_iter().enumerate() {
        let (before, after) = (format!("before-{n}"), format!("after-{n}"));
        shop.publish(&before, "{}").await;
        let waits = shop.delivery(&before, "refuses", "PENDING").await;
        crate::harness::eventually("it is refused once", || async {
            match receiver.requests("/refuses").iter().any(|it| it.header("webhook-id") == before) {
                true => Ok(()),
                false => Err(waits.clone()),
            }
        })
        .await;
        clocks.iter().for_each(|clock| clock.set(seconds));
        shop.publish(&after, "{}").await;
        for event in [&before, &after] {
            shop.delivery(event, "takes", "SUCCEEDED").await;
            shop.delivery(event, "refuses", "SUCCEEDED").await;
        }
        let delivery = shop.delivery(&after, "takes", "SUCCEEDED").await;
        let started = shop.attempts(&delivery).await[0]["startTime"].clone();
        println!("the clock at {seconds:+} s: an attempt began at {started}");
        if is_told && seconds.abs() > 60 {
            let started = Timestamp::parse(started.as_str().unwrap()).unwrap();
            let ahead = started.seconds() - SystemClock.now().seconds();
            assert!((ahead - seconds).abs() < 600, "the clock was not set: it is {ahead} s ahead");
        }
    }
    let report = shop.settled().await;
    assert_eq!(report["deliveries"]["failed"], "0", "{report}");
    assert_eq!(report["deliveries"]["cancelled"], "0", "{report}");
    assert_eq!(report["deliveries"]["succeeded"], (4 * STEPS.len()).to_string(), "{report}");
}

#[tokio::test]
async fn a_process_whose_clock_steps_delivers_all() {
    let clock = Clock::new();
    let dir = tempfile::tempdir().unwrap();
    let pregon = Standalone::telling(&[], Some(dir), &clock.env()).await;
    all_is_delivered(Shop::open(pregon.grpcurl()).await, &[&clock], true).await;
}

#[tokio::test]
async fn nodes_whose_clock_steps_deliver_all() {
    let clock = Clock::new();
    let env = clock.env();
    let plan = Plan { nodes: 2, node_env: Some(&env), ..Plan::default() };
    let planes = Planes::start(plan).await;
    all_is_delivered(Shop::open(planes.grpcurl()).await, &[&clock], true).await;
}

#[tokio::test]
async fn a_control_plane_whose_clock_steps_stops_nothing() {
    let clock = Clock::new();
    let env = clock.env();
    let plan = Plan { nodes: 1, control_env: Some(&env), ..Plan::default() };
    let planes = Planes::start(plan).await;
    all_is_delivered(Shop::open(planes.grpcurl()).await, &[&clock], false).await;
}
