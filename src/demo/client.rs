//! The calls that the demo makes, as any client would.

use std::net::SocketAddr;

use anyhow::{Context, anyhow};
use pregon_core::clock::Timestamp;
use pregon_proto::v1;
use pregon_proto::v1::callback_service_client::CallbackServiceClient;
use pregon_proto::v1::check_service_client::CheckServiceClient;
use pregon_proto::v1::delivery_service_client::DeliveryServiceClient;
use pregon_proto::v1::event_service_client::EventServiceClient;
use pregon_proto::v1::event_type_service_client::EventTypeServiceClient;
use pregon_proto::v1::secret_service_client::SecretServiceClient;
use pregon_proto::v1::subscription_service_client::SubscriptionServiceClient;
use pregon_proto::v1::tenant_service_client::TenantServiceClient;
use tonic::transport::{Channel, Endpoint};

use super::samples::Sample;

/// A connection to Pregón.
pub(super) struct Client {
    channel: Channel,
    /// The tenant's resource name.
    tenant: String,
    /// The latest revision that a write of ours got; what follows is done at it or later.
    revision: i64,
}

impl Client {
    /// Connects, to act for one tenant.
    pub(super) async fn connect(addr: SocketAddr, tenant: &str) -> anyhow::Result<Self> {
        let channel = Endpoint::try_from(format!("http://{addr}"))?.connect().await?;
        Ok(Self { channel, tenant: format!("tenants/{tenant}"), revision: 0 })
    }

    pub(super) async fn create_tenant(&mut self, display_name: &str) -> anyhow::Result<()> {
        let request = v1::CreateTenantRequest {
            tenant_id: self.tenant.trim_start_matches("tenants/").to_owned(),
            tenant: Some(v1::Tenant {
                display_name: display_name.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut service = TenantServiceClient::new(self.channel.clone());
        self.revision =
            service.create_tenant(request).await.context("CreateTenant")?.into_inner().revision;
        Ok(())
    }

    /// Creates the event types that a contract brings along; gives their names.
    pub(super) async fn import_event_types(
        &mut self,
        contract: &str,
    ) -> anyhow::Result<Vec<String>> {
        let request = v1::ImportEventTypesRequest {
            contract: format!("contracts/{contract}"),
            ..Default::default()
        };
        let mut service = EventTypeServiceClient::new(self.channel.clone());
        let reply = service.import_event_types(request).await.context("ImportEventTypes")?;
        let reply = reply.into_inner();
        self.revision = self.revision.max(reply.revision);
        Ok(reply.created)
    }

    /// Creates a subscription under a contract; gives it as it now is.
    pub(super) async fn create_subscription(
        &mut self,
        id: &str,
        contract: &str,
        url: &str,
        event_types: Vec<String>,
    ) -> anyhow::Result<v1::Subscription> {
        let request = v1::CreateSubscriptionRequest {
            parent: self.tenant.clone(),
            subscription_id: id.to_owned(),
            subscription: Some(v1::Subscription {
                url: url.to_owned(),
                contract: format!("contracts/{contract}"),
                event_types,
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut service = SubscriptionServiceClient::new(self.channel.clone());
        let reply = service.create_subscription(request).await;
        let reply = reply.with_context(|| format!("CreateSubscription {id}"))?.into_inner();
        self.revision = reply.revision;
        reply.subscription.context("CreateSubscription answered without the subscription")
    }

    /// Approves a subscription that waits for it; gives it as it now is.
    pub(super) async fn approve(&mut self, subscription: &str) -> anyhow::Result<v1::Subscription> {
        let request = v1::ApproveSubscriptionRequest {
            name: subscription.to_owned(),
            note: "checked by the demo".to_owned(),
            ..Default::default()
        };
        let mut service = SubscriptionServiceClient::new(self.channel.clone());
        let reply = service.approve_subscription(request).await.context("ApproveSubscription")?;
        let reply = reply.into_inner();
        self.revision = reply.revision;
        reply.subscription.context("ApproveSubscription answered without the subscription")
    }

    /// Sends the example of an event type to a subscription.
    pub(super) async fn test(
        &mut self,
        subscription: &str,
        event_type: &str,
    ) -> anyhow::Result<v1::TestSubscriptionResponse> {
        let event_type = format!("eventTypes/{event_type}");
        let request = v1::TestSubscriptionRequest {
            name: subscription.to_owned(),
            sample: Some(v1::test_subscription_request::Sample::EventType(event_type)),
            ..Default::default()
        };
        let mut service = SubscriptionServiceClient::new(self.channel.clone());
        Ok(service.test_subscription(request).await.context("TestSubscription")?.into_inner())
    }

    /// Creates a callback under a contract; gives its name.
    pub(super) async fn create_callback(
        &mut self,
        id: &str,
        contract: &str,
        url: &str,
    ) -> anyhow::Result<String> {
        let request = v1::CreateCallbackRequest {
            parent: self.tenant.clone(),
            callback_id: id.to_owned(),
            callback: Some(v1::Callback {
                url: url.to_owned(),
                contract: format!("contracts/{contract}"),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut service = CallbackServiceClient::new(self.channel.clone());
        let reply = service.create_callback(request).await.context("CreateCallback")?.into_inner();
        self.revision = reply.revision;
        Ok(reply.callback.context("CreateCallback answered without the callback")?.name)
    }

    /// Asks a callback.
    pub(super) async fn check(
        &mut self,
        callback: &str,
        json: &str,
    ) -> anyhow::Result<v1::CheckResponse> {
        let request = v1::CheckRequest {
            callback: callback.to_owned(),
            data: Some(v1::check_request::Data::Json(json.to_owned())),
            min_revision: self.revision,
            ..Default::default()
        };
        let mut service = CheckServiceClient::new(self.channel.clone());
        Ok(service.check(request).await.context("Check")?.into_inner())
    }

    /// Gives a subscription or callback a secret of ours.
    pub(super) async fn create_secret(
        &mut self,
        parent: &str,
        material: &str,
    ) -> anyhow::Result<()> {
        let secret = v1::Secret { material: material.to_owned(), ..Default::default() };
        let request = v1::CreateSecretRequest {
            parent: parent.to_owned(),
            secret: Some(secret),
            ..Default::default()
        };
        let mut service = SecretServiceClient::new(self.channel.clone());
        self.revision =
            service.create_secret(request).await.context("CreateSecret")?.into_inner().revision;
        Ok(())
    }

    /// The first secret of a subscription, as text.
    pub(super) async fn reveal_secret(&mut self, subscription: &str) -> anyhow::Result<String> {
        let mut service = SecretServiceClient::new(self.channel.clone());
        let list = v1::ListSecretsRequest { parent: subscription.to_owned(), ..Default::default() };
        let secrets = service.list_secrets(list).await.context("ListSecrets")?.into_inner().secrets;
        let name =
            secrets.first().ok_or_else(|| anyhow!("{subscription} has no secret"))?.name.clone();
        let reveal = v1::RevealSecretRequest { name };
        Ok(service.reveal_secret(reveal).await.context("RevealSecret")?.into_inner().material)
    }

    /// Publishes what makes a sample.
    pub(super) async fn publish(&mut self, sample: &Sample) -> anyhow::Result<v1::PublishResponse> {
        let occur_time = Timestamp::parse(sample.occur_time).map(|time| prost_types::Timestamp {
            seconds: time.seconds(),
            nanos: i32::try_from(time.millis().rem_euclid(1000)).unwrap_or(0) * 1_000_000,
        });
        let request = v1::PublishRequest {
            tenant: self.tenant.clone(),
            event: Some(v1::Event {
                id: sample.id.to_owned(),
                r#type: sample.event_type.to_owned(),
                data: Some(v1::event::Data::Json(sample.data()?)),
                occur_time,
                ..Default::default()
            }),
            min_revision: self.revision,
            ..Default::default()
        };
        let mut service = EventServiceClient::new(self.channel.clone());
        let reply = service.publish(request).await;
        Ok(reply.with_context(|| format!("Publish {}", sample.event_type))?.into_inner())
    }

    pub(super) async fn report(&mut self) -> anyhow::Result<v1::GetReconciliationReportResponse> {
        let mut service = DeliveryServiceClient::new(self.channel.clone());
        let request = v1::GetReconciliationReportRequest {
            parent: self.tenant.clone(),
            ..Default::default()
        };
        let reply = service.get_reconciliation_report(request).await;
        Ok(reply.context("GetReconciliationReport")?.into_inner())
    }
}
