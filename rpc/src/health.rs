//! The gRPC health service's states.
//!
//! Everything starts as NOT_SERVING: a server says that it serves when it can, not when its port is
//! open. The server as a whole serves when all of its services do, under two names: the empty one,
//! and [`READINESS`].
//!
//! [`LIVENESS`] is another question: whether the process works at all. It serves from the start, and
//! through a store that is away and a drain, for an orchestrator that ends what does not live would
//! only make those worse.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

/// The name that stands for the server as a whole.
const WHOLE: &str = "";
/// The same, for who would rather say what he means: whether calls should be sent here.
pub const READINESS: &str = "readiness";
/// Whether the process works, whatever it waits for: whether it should be left alone.
pub const LIVENESS: &str = "liveness";

/// Says which services serve.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    states: Arc<Mutex<States>>,
}

#[derive(Debug, Default)]
struct States {
    serving: BTreeMap<&'static str, bool>,
    stuck: bool,
    ended: bool,
}

impl Health {
    /// The state of these services: none serves yet.
    pub(crate) async fn new(services: impl IntoIterator<Item = &'static str>) -> Self {
        let health = Self { reporter: HealthReporter::new(), states: Arc::default() };
        health.states.lock().await.serving.extend(services.into_iter().map(|name| (name, false)));
        health.set_all(false).await;
        health
    }

    /// The service that answers for it.
    pub(crate) fn service(&self) -> HealthService {
        HealthService::from_health_reporter(self.reporter.clone())
    }

    /// Says whether one service serves (by its full name, as in `Service::NAME`). A name that the
    /// server does not have is ignored.
    pub async fn set(&self, service: &'static str, serving: bool) {
        self.change(|states| {
            if let Some(state) = states.serving.get_mut(service) {
                *state = serving;
            }
        })
        .await;
    }

    /// Says whether the process works.
    pub async fn set_alive(&self, alive: bool) {
        self.change(|states| states.stuck = !alive).await;
    }

    /// Says whether every service serves.
    pub async fn set_all(&self, serving: bool) {
        self.change(|states| states.serving.values_mut().for_each(|state| *state = serving)).await;
    }

    /// Tells everybody who watches that nothing serves any more, and lets them go: a watch would
    /// hold the drain up for as long as it could. From here on nothing serves again.
    pub(crate) async fn end(&self) {
        self.change(|states| {
            states.serving.values_mut().for_each(|state| *state = false);
            states.ended = true;
        })
        .await;
        let states = self.states.lock().await;
        let mut reporter = self.reporter.clone();
        for name in states.serving.keys().copied().chain([WHOLE, READINESS, LIVENESS]) {
            reporter.clear_service_status(name).await;
        }
    }

    async fn change(&self, change: impl FnOnce(&mut States)) {
        let mut states = self.states.lock().await;
        if states.ended {
            return;
        }
        change(&mut states);
        let whole = states.serving.values().all(|&serving| serving);
        let names = [(WHOLE, whole), (READINESS, whole), (LIVENESS, !states.stuck)];
        for (name, serving) in states.serving.iter().map(|(n, s)| (*n, *s)).chain(names) {
            let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
            self.reporter.set_service_status(name, status).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Request;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus as Said;
    use tonic_health::pb::health_server::Health as _;

    use super::*;

    async fn said(health: &Health, name: &str) -> Said {
        let request = HealthCheckRequest { service: name.to_owned() };
        let answer = health.service().check(Request::new(request)).await.unwrap();
        answer.into_inner().status()
    }

    #[tokio::test]
    async fn a_process_lives_before_it_is_ready_and_while_it_is_not() {
        let health = Health::new(["a", "b"]).await;
        let ready = async || [said(&health, "").await, said(&health, READINESS).await];
        assert_eq!(ready().await, [Said::NotServing; 2]);
        assert_eq!(said(&health, LIVENESS).await, Said::Serving);
        health.set("a", true).await;
        assert_eq!(ready().await, [Said::NotServing; 2]);
        health.set_all(true).await;
        assert_eq!(ready().await, [Said::Serving; 2]);
        health.set_alive(false).await;
        assert_eq!(ready().await, [Said::Serving; 2]);
        assert_eq!(said(&health, LIVENESS).await, Said::NotServing);
        health.set_alive(true).await;
        health.set_all(false).await;
        assert_eq!(said(&health, LIVENESS).await, Said::Serving);
    }
}
