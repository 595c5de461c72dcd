//! The calls that the demo makes, as any client would.

use std::net::SocketAddr;

use anyhow::{Context, anyhow};
use pregon_proto::v1;
use pregon_proto::v1::delivery_service_client::DeliveryServiceClient;
use pregon_proto::v1::event_service_client::EventServiceClient;
use pregon_proto::v1::event_type_service_client::EventTypeServiceClient;
use pregon_proto::v1::secret_service_client::SecretServiceClient;
use pregon_proto::v1::subscription_service_client::SubscriptionServiceClient;
use pregon_proto::v1::tenant_service_client::TenantServiceClient;
use tonic::transport::{Channel, Endpoint};

/// A connection to Pregón.
pub(super) struct Client {
    channel: Channel,
    /// The latest revision that a write of ours got; publishes are matched at it or later.
    revision: i64,
}

impl Client {
    pub(super) async fn connect(addr: SocketAddr) -> anyhow::Result<Self> {
        let channel = Endpoint::try_from(format!("http://{addr}"))?.connect().await?;
        Ok(Self { channel, revision: 0 })
    }

    pub(super) async fn create_tenant(
        &mut self,
        id: &str,
        display_name: &str,
    ) -> anyhow::Result<()> {
        let request = v1::CreateTenantRequest {
            tenant_id: id.to_owned(),
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

    pub(super) async fn create_event_type(
        &mut self,
        id: &str,
        description: &str,
        example: &str,
    ) -> anyhow::Result<()> {
        let request = v1::CreateEventTypeRequest {
            event_type_id: id.to_owned(),
            event_type: Some(v1::EventType {
                description: description.to_owned(),
                example: example.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut service = EventTypeServiceClient::new(self.channel.clone());
        let reply = service.create_event_type(request).await.context("CreateEventType")?;
        self.revision = reply.into_inner().revision;
        Ok(())
    }

    /// Returns the subscription's name.
    pub(super) async fn create_subscription(
        &mut self,
        tenant: &str,
        id: &str,
        url: &str,
        event_types: &[&str],
    ) -> anyhow::Result<String> {
        let request = v1::CreateSubscriptionRequest {
            parent: format!("tenants/{tenant}"),
            subscription_id: id.to_owned(),
            subscription: Some(v1::Subscription {
                url: url.to_owned(),
                event_types: event_types.iter().map(ToString::to_string).collect(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut service = SubscriptionServiceClient::new(self.channel.clone());
        let reply =
            service.create_subscription(request).await.context("CreateSubscription")?.into_inner();
        self.revision = reply.revision;
        Ok(reply.subscription.context("CreateSubscription answered without the subscription")?.name)
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

    pub(super) async fn publish(
        &mut self,
        tenant: &str,
        event_type: &str,
        json: &str,
    ) -> anyhow::Result<v1::PublishResponse> {
        let request = v1::PublishRequest {
            tenant: format!("tenants/{tenant}"),
            event: Some(v1::Event {
                r#type: event_type.to_owned(),
                data: Some(v1::event::Data::Json(json.to_owned())),
                ..Default::default()
            }),
            min_revision: self.revision,
            ..Default::default()
        };
        let mut service = EventServiceClient::new(self.channel.clone());
        Ok(service.publish(request).await.context("Publish")?.into_inner())
    }

    pub(super) async fn report(
        &mut self,
        tenant: &str,
    ) -> anyhow::Result<v1::GetReconciliationReportResponse> {
        let mut service = DeliveryServiceClient::new(self.channel.clone());
        let request = v1::GetReconciliationReportRequest {
            parent: format!("tenants/{tenant}"),
            ..Default::default()
        };
        let reply = service.get_reconciliation_report(request).await;
        Ok(reply.context("GetReconciliationReport")?.into_inner())
    }
}
