//! A node's EventService over stores that break on demand.

mod batches;
mod callers;
mod engine;
mod refusals;
mod streams;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use pregon_core::clock::{ManualClock, Timestamp};
use pregon_core::id::TenantId;
use pregon_core::model::Resource;
use pregon_proto::v1::event::Data;
use pregon_rpc::audit;
use pregon_rpc::caller::Role;
use pregon_store::StoreError;
use tokio_util::sync::DropGuard;
use tonic_types::StatusExt;

use super::*;
use crate::snapshot::{Follower, FollowerOptions};
use crate::testing::{FakeConfig, FakeIntake, event_type, held, tenant};

/// What `order.captured` must look like.
const SCHEMA: &str = r#"{"type":"object","properties":{"amount":{"type":"integer"}}}"#;

/// A call as it comes to the service where nobody is authenticated.
fn from_anyone<T>(message: T) -> Request<T> {
    from(Caller::anyone(), message)
}

/// A call as it comes to the service from this caller.
fn from<T>(caller: Caller, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller);
    request
}

/// Where a request comes from that came by no call.
fn ours() -> Origin<'static> {
    static ANYONE: LazyLock<Caller> = LazyLock::new(Caller::anyone);
    static NOWHERE: LazyLock<audit::Origin> =
        LazyLock::new(|| audit::Origin::of(&Request::new(())));
    Origin { caller: &ANYONE, trace: None, told: &NOWHERE, many: false }
}

/// A caller who may publish for this tenant only.
fn publisher_of(tenant: &str) -> Caller {
    let tenants = BTreeSet::from([TenantId::parse(tenant).unwrap()]);
    Caller::new("bound", Role::Publisher, Some(tenants))
}

struct Node {
    config: Arc<FakeConfig>,
    intake: Arc<FakeIntake>,
    clock: Arc<ManualClock>,
    draining: CancellationToken,
    service: EventServiceImpl,
    _stop: DropGuard,
}

impl Node {
    /// A node with the tenant `acme` and the types `order.captured` (with a schema) and `any`.
    async fn start() -> Self {
        let node = Self::unready();
        node.config.write(&[
            Resource::Tenant(tenant("acme")),
            event_type("order.captured", SCHEMA),
            event_type("any", ""),
        ]);
        node.service.0.admission.configuration.wait_for(101, ANSWER).await.unwrap();
        node
    }

    /// A node that follows an empty store.
    fn unready() -> Self {
        let (config, intake) = (Arc::new(FakeConfig::default()), FakeIntake::new());
        let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
        let (follower, configuration) = Follower::new(FollowerOptions {
            egress: crate::testing::receiver::egress(),
            telemetry: pregon_telemetry::Telemetry::off(),
            store: config.clone(),
            keys: held(),
            clock: clock.clone(),
        });
        let (stop, draining) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(follower.run(stop.clone()));
        let service = EventServiceImpl::new(PublishOptions {
            telemetry: pregon_telemetry::Telemetry::off(),
            configuration,
            intake: intake.clone(),
            clock: clock.clone(),
            max_event_bytes: 1024,
            draining: draining.clone(),
        });
        Self { config, intake, clock, draining, service, _stop: stop.drop_guard() }
    }

    async fn publish(&self, request: v1::PublishRequest) -> Result<v1::PublishResponse, Status> {
        self.service.publish(from_anyone(request)).await.map(Response::into_inner)
    }

    async fn batch(
        &self,
        requests: Vec<v1::PublishRequest>,
    ) -> Result<Vec<Result<v1::PublishResponse, Status>>, Status> {
        let request = from_anyone(v1::PublishBatchRequest { requests });
        let results = self.service.publish_batch(request).await?.into_inner().results;
        let outcome = |result: v1::PublishBatchResult| match result.outcome.unwrap() {
            v1::publish_batch_result::Outcome::Result(response) => Ok(response),
            v1::publish_batch_result::Outcome::Status(status) => Err(unwire(&status)),
        };
        Ok(results.into_iter().map(outcome).collect())
    }

    fn break_store(&self, fault: StoreError) {
        *self.intake.fault.lock().unwrap() = Some(fault);
    }

    /// Calls to the store wait until permits are given.
    fn close_gate(&self) {
        self.intake.gate.forget_permits(usize::MAX);
    }

    fn calls(&self) -> Vec<usize> {
        self.intake.calls.lock().unwrap().clone()
    }
}

const ANSWER: Duration = Duration::from_secs(2);

fn request(id: &str) -> v1::PublishRequest {
    v1::PublishRequest {
        tenant: "tenants/acme".into(),
        event: Some(v1::Event {
            id: id.into(),
            r#type: "any".into(),
            data: Some(Data::Json("{\"a\": 1.0}".into())),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A request that is changed by a function.
fn request_with(
    change: impl FnOnce(&mut v1::PublishRequest, &mut v1::Event),
) -> v1::PublishRequest {
    let mut request = request("e1");
    let mut event = request.event.take().unwrap();
    change(&mut request, &mut event);
    v1::PublishRequest { event: Some(event), ..request }
}

/// A status within an answer, as if it were a call's own.
fn unwire(status: &tonic_types::Status) -> Status {
    use prost::Message;
    let code = tonic::Code::from_i32(status.code);
    Status::with_details(code, status.message.clone(), status.encode_to_vec().into())
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

/// Field and rule of every violation.
fn violations(status: &Status) -> Vec<(String, String)> {
    let request = status.get_details_bad_request().unwrap();
    request.field_violations.into_iter().map(|v| (v.field, v.reason)).collect()
}
