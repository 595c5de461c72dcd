//! What processes and machine use.

use std::time::Duration;

use serde::Serialize;

use super::child::Part;
use super::deployment::{Deployment, Used};
use super::redis::Info;
use crate::clock::Moment;
use crate::proc;

/// Seconds of CPU per 1,000 deliveries, by process.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cpu {
    /// The load generator.
    pub load: f64,
    /// The server, or control plane and nodes; none in the ceiling.
    pub server: f64,
    /// Redis, if there is one.
    pub redis: f64,
    /// The sink.
    pub sink: f64,
}

/// What processes and machine have used at one moment.
#[derive(Debug)]
pub struct Usage {
    /// When that was.
    pub at: Moment,
    /// CPU of the sink.
    pub sink: Duration,
    /// CPU of everything on the machine.
    pub machine: Duration,
    /// CPU of this process.
    pub own: Duration,
    /// The deployment.
    pub deployment: Used,
    /// What Redis says of itself, if there is one.
    pub redis: Option<Info>,
}

impl Usage {
    /// Now, with a deployment and a sink.
    ///
    /// # Errors
    /// When one of their processes is gone.
    pub async fn now(deployment: Option<&Deployment>, sink: &Part) -> anyhow::Result<Self> {
        let redis = match deployment.and_then(|deployment| deployment.redis.as_ref()) {
            Some(redis) => Some(redis.info().await?),
            None => None,
        };
        Ok(Self {
            at: Moment::now(),
            sink: proc::cpu(sink.pid)?,
            machine: proc::machine_cpu()?,
            own: proc::own_cpu()?,
            deployment: deployment.map(Deployment::used).transpose()?.unwrap_or_default(),
            redis,
        })
    }

    /// Share of the machine's CPU that nobody of ours took since `before`, when the load took
    /// `load`.
    ///
    /// # Errors
    /// When nobody can say how many cores there are.
    pub fn others_since(&self, before: &Usage, load: Duration) -> anyhow::Result<f64> {
        let (now, then) = (&self.deployment, &before.deployment);
        let ours = (now.server - then.server) + (now.redis - then.redis);
        let ours = ours + (self.sink - before.sink) + (self.own - before.own) + load;
        let others = (self.machine - before.machine).saturating_sub(ours);
        let cores = std::thread::available_parallelism()?.get();
        let whole = self.at.since(before.at).as_secs_f64() * cores as f64;
        Ok((others.as_secs_f64() / whole).min(1.0))
    }
}

/// So much for each; nothing where there is none.
pub fn per(amount: f64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { amount / count as f64 }
}
