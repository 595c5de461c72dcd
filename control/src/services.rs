//! The services that a control plane gives.

use std::sync::Arc;

use pregon_proto::v1::api_key_service_server::ApiKeyServiceServer;
use pregon_proto::v1::audit_log_service_server::AuditLogServiceServer;
use pregon_proto::v1::callback_service_server::CallbackServiceServer;
use pregon_proto::v1::contract_service_server::ContractServiceServer;
use pregon_proto::v1::delivery_service_server::DeliveryServiceServer;
use pregon_proto::v1::egress_service_server::EgressServiceServer;
use pregon_proto::v1::event_type_service_server::EventTypeServiceServer;
use pregon_proto::v1::master_key_service_server::MasterKeyServiceServer;
use pregon_proto::v1::node_service_server::NodeServiceServer;
use pregon_proto::v1::secret_service_server::SecretServiceServer;
use pregon_proto::v1::subscription_service_server::SubscriptionServiceServer;
use pregon_proto::v1::tenant_service_server::TenantServiceServer;
use pregon_rpc::server::{Server, ServerError};

use crate::{
    ApiKeys, AuditLogs, Callbacks, Contracts, Control, Deliveries, EgressPools, EventTypes,
    MasterKeys, Nodes, Secrets, Subscriptions, Tenants,
};

/// The gRPC services of the control plane, to be added to a server.
#[derive(Clone, Debug)]
pub struct Services {
    /// `pregon.v1.TenantService`
    pub tenants: TenantServiceServer<Tenants>,
    /// `pregon.v1.EventTypeService`
    pub event_types: EventTypeServiceServer<EventTypes>,
    /// `pregon.v1.ContractService`
    pub contracts: ContractServiceServer<Contracts>,
    /// `pregon.v1.SubscriptionService`
    pub subscriptions: SubscriptionServiceServer<Subscriptions>,
    /// `pregon.v1.SecretService`
    pub secrets: SecretServiceServer<Secrets>,
    /// `pregon.v1.CallbackService`
    pub callbacks: CallbackServiceServer<Callbacks>,
    /// `pregon.v1.DeliveryService`
    pub deliveries: DeliveryServiceServer<Deliveries>,
    /// `pregon.v1.NodeService`
    pub nodes: NodeServiceServer<Nodes>,
    /// `pregon.v1.MasterKeyService`
    pub master_keys: MasterKeyServiceServer<MasterKeys>,
    /// `pregon.v1.EgressService`
    pub egress: EgressServiceServer<EgressPools>,
    /// `pregon.v1.ApiKeyService`
    pub api_keys: ApiKeyServiceServer<ApiKeys>,
    /// `pregon.v1.AuditLogService`
    pub audit_logs: AuditLogServiceServer<AuditLogs>,
}

impl Control {
    /// Its services, each refusing messages above [`pregon_core::limits::MESSAGE_LEN`].
    pub fn services(self: &Arc<Self>) -> Services {
        const LEN: usize = pregon_core::limits::MESSAGE_LEN;
        let it = || Arc::clone(self);
        Services {
            tenants: TenantServiceServer::new(Tenants::new(it())).max_decoding_message_size(LEN),
            event_types: EventTypeServiceServer::new(EventTypes::new(it()))
                .max_decoding_message_size(LEN),
            contracts: ContractServiceServer::new(Contracts::new(it()))
                .max_decoding_message_size(LEN),
            subscriptions: SubscriptionServiceServer::new(Subscriptions::new(it()))
                .max_decoding_message_size(LEN),
            secrets: SecretServiceServer::new(Secrets::new(it())).max_decoding_message_size(LEN),
            callbacks: CallbackServiceServer::new(Callbacks::new(it()))
                .max_decoding_message_size(LEN),
            deliveries: DeliveryServiceServer::new(Deliveries::new(it()))
                .max_decoding_message_size(LEN),
            audit_logs: AuditLogServiceServer::new(AuditLogs::new(it()))
                .max_decoding_message_size(LEN),
            master_keys: MasterKeyServiceServer::new(MasterKeys::new(it()))
                .max_decoding_message_size(LEN),
            egress: EgressServiceServer::new(EgressPools::new(it())).max_decoding_message_size(LEN),
            api_keys: ApiKeyServiceServer::new(ApiKeys::new(it())).max_decoding_message_size(LEN),
            nodes: NodeServiceServer::new(Nodes::new(it())).max_decoding_message_size(LEN),
        }
    }
}

impl Services {
    /// Methods that are made for waiting, by path: their time limit is that of waits.
    pub const WAITS: [&str; 2] = [
        "/pregon.v1.NodeService/WaitForRevision",
        "/pregon.v1.SubscriptionService/TestSubscription",
    ];

    /// Adds all of them to a server.
    pub fn add_to(self, server: Server) -> Result<Server, ServerError> {
        server
            .with(self.tenants)?
            .with(self.event_types)?
            .with(self.contracts)?
            .with(self.subscriptions)?
            .with(self.secrets)?
            .with(self.callbacks)?
            .with(self.deliveries)?
            .with(self.egress)?
            .with(self.master_keys)?
            .with(self.api_keys)?
            .with(self.audit_logs)?
            .with(self.nodes)
    }
}
