//! A node's CheckService over a configuration store in memory and receivers on loopback sockets.

mod bounds;
mod question;
mod refusals;
mod table;
mod wire;

use std::collections::BTreeSet;

use pregon_core::clock::{ManualClock, Timestamp};
use pregon_core::id::TenantId;
use pregon_core::model::{Callback, FailurePolicy, Resource};
use pregon_proto::v1::check_request::Data;
use pregon_rpc::caller::Role;
use tokio_util::sync::DropGuard;
use tonic_types::StatusExt;

use super::*;
use crate::snapshot::{Follower, FollowerOptions};
use crate::testing::documents::{callback, callback_secret, contract, sealed};
use crate::testing::receiver::{Answer, Receiver, answer, egress};
use crate::testing::{FakeConfig, held, tenant};

/// Longer than anything here takes.
const AMPLE: Duration = Duration::from_secs(20);

struct Node {
    config: Arc<FakeConfig>,
    draining: CancellationToken,
    service: CheckServiceImpl,
    _stop: DropGuard,
}

impl Node {
    /// A node with the tenant `acme` and this callback.
    async fn start(callback: &Callback) -> Self {
        let node = Self::unready();
        let tenant = Resource::Tenant(tenant("acme"));
        node.write(&[tenant, Resource::Callback(callback.clone())]).await;
        node
    }

    /// A node that follows an empty store.
    fn unready() -> Self {
        let config = Arc::new(FakeConfig::default());
        let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_500));
        let (follower, configuration) = Follower::new(FollowerOptions {
            egress: crate::testing::receiver::egress(),
            telemetry: pregon_telemetry::Telemetry::off(),
            store: config.clone(),
            keys: held(),
            clock: clock.clone(),
        });
        let (stop, draining) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(follower.run(stop.clone()));
        let service = CheckServiceImpl::new(CheckOptions {
            telemetry: pregon_telemetry::Telemetry::off(),
            configuration,
            egress: egress(),
            clock,
            user_agent: "pregon-test".into(),
            draining: draining.clone(),
            seed: 7,
        });
        Self { config, draining, service, _stop: stop.drop_guard() }
    }

    /// Writes resources and waits until they are served.
    async fn write(&self, resources: &[Resource]) {
        let revision = self.config.write(resources);
        self.service.0.configuration.wait_for(revision, AMPLE).await.unwrap();
    }

    async fn check(&self, request: v1::CheckRequest) -> Result<v1::CheckResponse, Status> {
        self.check_as(Caller::anyone(), request).await
    }

    async fn check_as(
        &self,
        caller: Caller,
        request: v1::CheckRequest,
    ) -> Result<v1::CheckResponse, Status> {
        let mut request = Request::new(request);
        request.extensions_mut().insert(caller);
        self.service.check(request).await.map(Response::into_inner)
    }

    /// Asks `tenants/acme/callbacks/auth` about `{"email":"ada@acme.example"}`.
    async fn ask(&self) -> v1::CheckResponse {
        self.check(request()).await.unwrap()
    }

    /// The same of a caller who gives up after this long.
    async fn ask_within(&self, time: Duration) -> v1::CheckResponse {
        let question = parse::parse(request(), &Caller::anyone()).unwrap();
        let now = Instant::now();
        self.service.0.check(&question, &Caller::anyone(), now, Some(now + time)).await.unwrap()
    }
}

fn auth(url: &str) -> Callback {
    callback("acme", "auth", url)
}

fn request() -> v1::CheckRequest {
    v1::CheckRequest {
        callback: "tenants/acme/callbacks/auth".into(),
        data: Some(Data::Json(r#"{"email":"ada@acme.example"}"#.into())),
        ..Default::default()
    }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

/// What was decided, and by what.
fn decided(response: &v1::CheckResponse) -> (bool, v1::CheckCause) {
    (response.allowed, response.cause())
}

fn contract_id(id: &str) -> pregon_core::id::ContractId {
    pregon_core::id::ContractId::parse(id).unwrap()
}
