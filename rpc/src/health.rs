//! The gRPC health service's states.
//!
//! Everything starts as NOT_SERVING: a server says that it serves when it can, not when its port is
//! open. The server as a whole (the empty service name) serves when all of its services do.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

/// The name that stands for the server as a whole.
const WHOLE: &str = "";

/// Says which services serve.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    states: Arc<Mutex<States>>,
}

#[derive(Debug, Default)]
struct States {
    serving: BTreeMap<&'static str, bool>,
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
        for name in states.serving.keys().copied().chain([WHOLE]) {
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
        for (name, serving) in states.serving.iter().map(|(n, s)| (*n, *s)).chain([(WHOLE, whole)])
        {
            let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
            self.reporter.set_service_status(name, status).await;
        }
    }
}
