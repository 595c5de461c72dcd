//! What a node measures now and then, whether anything happens or not: how much there is to do, what
//! waits in the store, and whether the node is up to date.
//!
//! A value that cannot be read just now keeps the last one that could; the store's errors are
//! counted where they happen.

use std::sync::Arc;
use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_store::{Backlog, ConfigStore};
use pregon_telemetry::Telemetry;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::egress::Egress;
use crate::snapshot::Configuration;
use crate::worker::Load;

/// How often: a few times within the interval at which metrics usually leave, so that what they
/// say is not old.
const EVERY: Duration = Duration::from_secs(10);

/// What is measured, and where it is reported.
pub(crate) struct Gauges {
    pub(crate) telemetry: Telemetry,
    pub(crate) configuration: Configuration,
    pub(crate) config: Arc<dyn ConfigStore>,
    pub(crate) backlog: Arc<dyn Backlog>,
    pub(crate) load: Arc<Load>,
    pub(crate) egress: Egress,
}

impl Gauges {
    /// Measures until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut behind_since = None;
        let measuring = async {
            loop {
                tick.tick().await;
                self.measure_node();
                self.measure_configuration(&mut behind_since).await;
                self.measure_backlog().await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = measuring => {}
        }
    }

    fn measure_node(&self) {
        let (open, idle) = self.egress.connections();
        let metrics = self.telemetry.metrics();
        metrics.node(self.load.in_flight(), self.load.claimed());
        let load = &self.load;
        let shut = [load.closed(), load.paused(), load.broken(), load.recovering(), load.rated()];
        metrics.lanes(load.lanes(), shut);
        metrics.connections(open, idle);
    }

    /// How long the node has been behind the store: since the first look that found it so.
    async fn measure_configuration(&self, behind_since: &mut Option<Instant>) {
        let metrics = self.telemetry.metrics();
        let served = self.configuration.served_revision();
        let Ok(head) = self.config.head().await else { return };
        let lag = if served >= head.revision {
            *behind_since = None;
            Duration::ZERO
        } else {
            behind_since.get_or_insert_with(Instant::now).elapsed()
        };
        metrics.configuration(served, lag);
    }

    async fn measure_backlog(&self) {
        let Ok(report) = self.backlog.backlog().await else { return };
        let age = |oldest: Timestamp| report.now.since(oldest);
        let oldest = report.oldest.map_or(Duration::ZERO, age);
        self.telemetry.metrics().backlog(report.events, &report.deliveries, oldest);
    }
}
