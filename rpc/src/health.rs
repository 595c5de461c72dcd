//! The gRPC health service's states.
//!
//! Everything starts as NOT_SERVING: a server says that it serves when it can, not when its port is
//! open. The server as a whole serves when all of its services do, under two names: the empty one,
//! and [`READINESS`].
//!
//! What readiness depends on are named conditions, each with a reason while it does not hold. The
//! health service has no field for reasons, so they go out beside its answers as [`NOT_READY`].
//! Reasons name resources: only who may read everything is told them, anybody learns the bare
//! state.
//!
//! [`LIVENESS`] is another question: whether the process works at all. It serves from the start, and
//! through a store that is away and a drain, for an orchestrator that ends what does not live would
//! only make those worse.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Mutex;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

/// The name that stands for the server as a whole.
const WHOLE: &str = "";
/// The same, for who would rather say what he means: whether calls should be sent here.
pub const READINESS: &str = "readiness";
/// Whether the process works, whatever it waits for: whether it should be left alone.
pub const LIVENESS: &str = "liveness";

/// Metadata of an answer to `Check`, once for each condition that does not hold: `name: reason`.
pub const NOT_READY: &str = "pregon-not-ready-bin";

/// Bytes of a reason that are reported: some documents, secrets and errors are named, none listed.
const REASON_LEN: usize = 512;

/// Says which services serve.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    states: Arc<Mutex<States>>,
    /// What does not hold, line by line.
    reasons: Arc<RwLock<Vec<String>>>,
}

#[derive(Debug, Default)]
struct States {
    serving: BTreeMap<&'static str, bool>,
    /// What readiness depends on; with a reason: it does not hold.
    conditions: BTreeMap<&'static str, Option<String>>,
    stuck: bool,
    ended: bool,
}

impl States {
    fn holds(&self) -> bool {
        self.conditions.values().all(Option::is_none)
    }

    /// Why the server as a whole is not ready; empty: it is.
    fn reasons(&self) -> Vec<String> {
        let failing = self.conditions.iter().filter_map(|(name, fault)| {
            let fault = fault.as_deref()?;
            Some(format!("{name}: {}", &fault[..fault.floor_char_boundary(REASON_LEN)]))
        });
        let mut reasons: Vec<_> = failing.collect();
        if self.ended {
            reasons.push("drain: the process is going down".to_owned());
        } else if reasons.is_empty() && self.serving.values().any(|&serving| !serving) {
            reasons.push("start: the process does not serve yet".to_owned());
        }
        reasons
    }
}

impl Health {
    /// The state of these services: none serves yet.
    pub(crate) async fn new(services: impl IntoIterator<Item = &'static str>) -> Self {
        let reporter = HealthReporter::new();
        let health = Self { reporter, states: Arc::default(), reasons: Arc::default() };
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

    /// Says whether a condition of readiness holds; `fault` says why not, and no secret. The names
    /// are words of the process's own: there are as many as the code has.
    pub async fn set_condition(&self, name: &'static str, fault: Option<String>) {
        self.change(|states| drop(states.conditions.insert(name, fault))).await;
    }

    /// Why the server as a whole is not ready, a line for each condition; empty: it is.
    pub fn reasons(&self) -> Vec<String> {
        self.reasons.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says whether every service serves, as far as its conditions hold.
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
        *self.reasons.write().unwrap_or_else(PoisonError::into_inner) = states.reasons();
        let holds = states.holds();
        let whole = holds && states.serving.values().all(|&serving| serving);
        let names = [(WHOLE, whole), (READINESS, whole), (LIVENESS, !states.stuck)];
        for (name, serving) in states.serving.iter().map(|(n, s)| (*n, holds && *s)).chain(names) {
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

    #[tokio::test]
    async fn what_is_not_ready_says_which_condition_does_not_hold_and_why() {
        let health = Health::new(["a"]).await;
        assert_eq!(health.reasons(), ["start: the process does not serve yet"]);
        health.set_condition("store", Some("does not answer".into())).await;
        health.set_condition("configuration", Some("é".repeat(1000))).await;
        health.set_all(true).await;
        assert_eq!(said(&health, "a").await, Said::NotServing);
        assert_eq!(said(&health, READINESS).await, Said::NotServing);
        let reasons = health.reasons();
        assert_eq!((reasons.len(), reasons[1].as_str()), (2, "store: does not answer"));
        assert!(reasons[0].len() <= "configuration: ".len() + REASON_LEN);

        health.set_condition("configuration", None).await;
        assert_eq!(health.reasons(), ["store: does not answer"]);
        health.set_condition("store", None).await;
        assert_eq!(said(&health, READINESS).await, Said::Serving);
        assert!(health.reasons().is_empty());
        health.end().await;
        assert_eq!(health.reasons(), ["drain: the process is going down"]);
    }
}
