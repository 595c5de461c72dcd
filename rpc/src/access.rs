//! Who may call which method: the one table of both planes.
//!
//! A method that does not stand here is denied to everybody, an admin included; a test holds the
//! table against the descriptor set, so that a new method cannot be forgotten. Reads want a viewer, or
//! an auditor where they show nothing of events; writes the role that the API gives them.
//!
//! A credential may be for some tenants only. Which tenant a call is about stands in its message,
//! and only handlers look into messages; so each method says here how far it reaches, and the layer
//! lets such a credential through only where that is safe.

use std::collections::HashMap;

use crate::caller::Role;

/// Who may call a method, and how far the method reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who may call it.
    pub who: Who,
    /// What it touches.
    pub reach: Reach,
}

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Strangers too.
    Everyone,
    /// Whoever has a valid credential.
    Known,
    /// Whoever has this role, or one that includes it.
    Role(Role),
}

/// What a method touches, for credentials that are for some tenants only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The tenants that the message names: its handler asks
    /// [`Caller::may_touch`](crate::caller::Caller::may_touch) about each.
    Named,
    /// Nothing of any tenant's: what everybody may know.
    Shared,
    /// What belongs to all tenants together: closed to credentials that are for some.
    All,
    /// Credentials of the tenants that the message names: closed to portal tokens.
    Credentials,
}

/// Methods by path, each with its access.
#[derive(Clone, Debug)]
pub struct Table(HashMap<&'static str, Access>);

impl Table {
    /// A table of these methods.
    pub fn new(methods: &[(&'static str, Access)]) -> Self {
        Self(methods.iter().copied().collect())
    }

    /// The table of the API.
    pub fn api() -> Self {
        Self::new(API)
    }

    /// The access to a method, if the method is listed.
    pub fn get(&self, path: &str) -> Option<Access> {
        self.0.get(path).copied()
    }
}

const fn role(role: Role, reach: Reach) -> Access {
    Access { who: Who::Role(role), reach }
}

/// Probes have no credentials, and learn no more than whether the server serves.
const PROBE: Access = Access { who: Who::Everyone, reach: Reach::Shared };
/// A stream, which holds a place among the calls: not for strangers.
const WATCH: Access = Access { who: Who::Known, reach: Reach::Shared };
/// The API is no secret, but strangers need not be told which services are here.
const REFLECTION: Access = Access { who: Who::Known, reach: Reach::Shared };
/// Reads of what is configured for tenants.
const AUDIT: Access = role(Role::Auditor, Reach::Named);
/// Reads of the catalogue.
const AUDIT_SHARED: Access = role(Role::Auditor, Reach::Shared);
/// Reads over all tenants. What nodes say is among them: it names documents that were refused.
const AUDIT_ALL: Access = role(Role::Auditor, Reach::All);
/// Reads of events, of what was sent and of what was answered.
const VIEW: Access = role(Role::Viewer, Reach::Named);
/// Writes of what tenants have, and reads that show keys.
const MANAGE: Access = role(Role::TenantManager, Reach::Named);
/// Writes of tenants.
const OPERATE: Access = role(Role::Operator, Reach::Named);
/// Writes of the catalogue.
const OPERATE_ALL: Access = role(Role::Operator, Reach::All);
/// Writes of everything at once.
const ADMIN_ALL: Access = role(Role::Admin, Reach::All);
/// Reads of credentials.
const AUDIT_CREDENTIALS: Access = role(Role::Auditor, Reach::Credentials);
/// Writes of credentials.
const MANAGE_CREDENTIALS: Access = role(Role::TenantManager, Reach::Credentials);
/// Publishes.
const PUBLISH: Access = role(Role::Publisher, Reach::Named);

/// Every method of both planes, health and reflection.
pub const API: &[(&str, Access)] = &[
    ("/grpc.health.v1.Health/Check", PROBE),
    ("/grpc.health.v1.Health/Watch", WATCH),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", REFLECTION),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", REFLECTION),
    ("/pregon.v1.TenantService/CreateTenant", OPERATE),
    ("/pregon.v1.TenantService/GetTenant", AUDIT),
    ("/pregon.v1.TenantService/ListTenants", AUDIT_ALL),
    ("/pregon.v1.TenantService/UpdateTenant", OPERATE),
    ("/pregon.v1.TenantService/DeleteTenant", OPERATE),
    ("/pregon.v1.EventTypeService/CreateEventType", OPERATE_ALL),
    ("/pregon.v1.EventTypeService/GetEventType", AUDIT_SHARED),
    ("/pregon.v1.EventTypeService/ListEventTypes", AUDIT_SHARED),
    ("/pregon.v1.EventTypeService/UpdateEventType", OPERATE_ALL),
    ("/pregon.v1.EventTypeService/DeleteEventType", OPERATE_ALL),
    ("/pregon.v1.EventTypeService/ImportEventTypes", OPERATE_ALL),
    ("/pregon.v1.ContractService/CreateContract", OPERATE_ALL),
    ("/pregon.v1.ContractService/GetContract", AUDIT_SHARED),
    ("/pregon.v1.ContractService/ListContracts", AUDIT_SHARED),
    ("/pregon.v1.ContractService/UpdateContract", OPERATE_ALL),
    ("/pregon.v1.ContractService/DeleteContract", OPERATE_ALL),
    ("/pregon.v1.SubscriptionService/CreateSubscription", MANAGE),
    ("/pregon.v1.SubscriptionService/GetSubscription", AUDIT),
    ("/pregon.v1.SubscriptionService/ListSubscriptions", AUDIT),
    ("/pregon.v1.SubscriptionService/UpdateSubscription", MANAGE),
    ("/pregon.v1.SubscriptionService/DeleteSubscription", MANAGE),
    ("/pregon.v1.SubscriptionService/PauseSubscription", MANAGE),
    ("/pregon.v1.SubscriptionService/ResumeSubscription", MANAGE),
    ("/pregon.v1.SubscriptionService/OpenLane", MANAGE),
    ("/pregon.v1.SubscriptionService/DisableSubscription", MANAGE),
    ("/pregon.v1.SubscriptionService/ApproveSubscription", OPERATE),
    ("/pregon.v1.SubscriptionService/RejectSubscription", OPERATE),
    ("/pregon.v1.SubscriptionService/VerifySubscription", MANAGE),
    ("/pregon.v1.SubscriptionService/TestSubscription", MANAGE),
    ("/pregon.v1.SubscriptionService/PreviewDelivery", MANAGE),
    ("/pregon.v1.SubscriptionService/GetSubscriptionHealth", AUDIT),
    ("/pregon.v1.SecretService/CreateSecret", MANAGE),
    ("/pregon.v1.SecretService/GetSecret", AUDIT),
    ("/pregon.v1.SecretService/ListSecrets", AUDIT),
    ("/pregon.v1.SecretService/DeleteSecret", MANAGE),
    ("/pregon.v1.SecretService/RotateSecret", MANAGE),
    ("/pregon.v1.SecretService/RevokeSecret", MANAGE),
    ("/pregon.v1.SecretService/RevealSecret", MANAGE),
    ("/pregon.v1.SecretService/GetJwks", AUDIT),
    ("/pregon.v1.CallbackService/CreateCallback", MANAGE),
    ("/pregon.v1.CallbackService/GetCallback", AUDIT),
    ("/pregon.v1.CallbackService/ListCallbacks", AUDIT),
    ("/pregon.v1.CallbackService/UpdateCallback", MANAGE),
    ("/pregon.v1.CallbackService/DeleteCallback", MANAGE),
    ("/pregon.v1.CallbackService/PauseCallback", MANAGE),
    ("/pregon.v1.CallbackService/ResumeCallback", MANAGE),
    ("/pregon.v1.DeliveryService/GetEvent", VIEW),
    ("/pregon.v1.DeliveryService/ExplainEvent", VIEW),
    ("/pregon.v1.DeliveryService/ListEvents", VIEW),
    ("/pregon.v1.DeliveryService/GetDelivery", VIEW),
    ("/pregon.v1.DeliveryService/ListDeliveries", VIEW),
    ("/pregon.v1.DeliveryService/ListAttempts", VIEW),
    ("/pregon.v1.DeliveryService/GetAttempt", VIEW),
    ("/pregon.v1.DeliveryService/ReplayDelivery", MANAGE),
    ("/pregon.v1.DeliveryService/ReplayDeliveries", MANAGE),
    ("/pregon.v1.DeliveryService/RetryNow", MANAGE),
    ("/pregon.v1.DeliveryService/DeliverMissing", MANAGE),
    ("/pregon.v1.DeliveryService/CancelDelivery", MANAGE),
    ("/pregon.v1.DeliveryService/CancelEvent", MANAGE),
    ("/pregon.v1.DeliveryService/EraseEvent", MANAGE),
    ("/pregon.v1.DeliveryService/EraseEvents", MANAGE),
    ("/pregon.v1.DeliveryService/WatchDeliveries", VIEW),
    ("/pregon.v1.DeliveryService/GetReconciliationReport", AUDIT),
    ("/pregon.v1.NodeService/GetNode", AUDIT_ALL),
    ("/pregon.v1.NodeService/ListNodes", AUDIT_ALL),
    ("/pregon.v1.NodeService/WaitForRevision", AUDIT_ALL),
    ("/pregon.v1.NodeService/WatchConfiguration", AUDIT_ALL),
    ("/pregon.v1.EgressService/ListEgressAddresses", AUDIT_SHARED),
    ("/pregon.v1.MasterKeyService/ListMasterKeys", AUDIT_ALL),
    ("/pregon.v1.MasterKeyService/ResealDocuments", ADMIN_ALL),
    ("/pregon.v1.ApiKeyService/CreateApiKey", MANAGE_CREDENTIALS),
    ("/pregon.v1.ApiKeyService/GetApiKey", AUDIT_CREDENTIALS),
    ("/pregon.v1.ApiKeyService/ListApiKeys", AUDIT_CREDENTIALS),
    ("/pregon.v1.ApiKeyService/RotateApiKey", MANAGE_CREDENTIALS),
    ("/pregon.v1.ApiKeyService/RevokeApiKey", MANAGE_CREDENTIALS),
    ("/pregon.v1.ApiKeyService/CreatePortalToken", MANAGE_CREDENTIALS),
    ("/pregon.v1.AuditLogService/ListAuditEntries", AUDIT_CREDENTIALS),
    ("/pregon.v1.EventService/Publish", PUBLISH),
    ("/pregon.v1.EventService/PublishBatch", PUBLISH),
    ("/pregon.v1.EventService/PublishStream", PUBLISH),
    ("/pregon.v1.CheckService/Check", PUBLISH),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// Every method that a server of ours can serve, from the descriptors.
    fn described() -> BTreeSet<String> {
        let sets = [
            pregon_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let sets = sets.map(|set| FileDescriptorSet::decode(set).unwrap());
        let files = sets.iter().flat_map(|set| &set.file);
        let methods = files.flat_map(|file| {
            file.service.iter().flat_map(move |service| {
                service.method.iter().map(move |method| {
                    format!("/{}.{}/{}", file.package(), service.name(), method.name())
                })
            })
        });
        methods.collect()
    }

    #[test]
    fn every_method_stands_in_the_table_once_and_no_other_does() {
        let listed: BTreeSet<_> = API.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(listed.len(), API.len(), "a method stands twice");
        let described = described();
        let forgotten: Vec<_> = described.difference(&listed).collect();
        let gone: Vec<_> = listed.difference(&described).collect();
        assert!(forgotten.is_empty() && gone.is_empty(), "{forgotten:?}, {gone:?}");
    }

    #[test]
    fn reads_want_a_viewer_or_an_auditor_and_writes_more() {
        for (path, access) in API.iter().filter(|(path, _)| path.starts_with("/pregon.v1.")) {
            let Who::Role(role) = access.who else { panic!("{path} wants no role") };
            let (_, method) = path.rsplit_once('/').unwrap();
            let reads = ["Get", "List", "WaitFor", "Watch", "Explain"]
                .iter()
                .any(|verb| method.starts_with(verb));
            assert_eq!(matches!(role, Role::Viewer | Role::Auditor), reads, "{path}");
            let publishes = path.contains("EventService/") || path.contains("CheckService/");
            assert_eq!(role == Role::Publisher, publishes, "{path}");
        }
    }

    /// The table of the page, from the descriptors and [`API`].
    fn table() -> String {
        use std::fmt::Write as _;
        let roles = [
            Role::Auditor,
            Role::Viewer,
            Role::TenantManager,
            Role::Operator,
            Role::Admin,
            Role::Publisher,
        ];
        let mut text = String::from("| method |");
        for role in roles {
            write!(text, " {} |", role.word().replace('_', " ")).unwrap();
        }
        text.push_str("\n|---|");
        text.push_str(&":-:|".repeat(roles.len()));
        for path in described() {
            let Some(method) = path.strip_prefix("/pregon.v1.") else { continue };
            let access = Table::api().get(&path).unwrap();
            let Who::Role(needed) = access.who else { panic!("{path} wants no role") };
            write!(text, "\n| `{}` |", method.replace('/', ".")).unwrap();
            for role in roles {
                text.push_str(match (role.covers(needed), access.reach) {
                    (false, _) => "  |",
                    (true, Reach::All) => " all |",
                    (true, Reach::Named | Reach::Shared) => " yes |",
                    (true, Reach::Credentials) => " keys |",
                });
            }
        }
        text
    }

    #[test]
    fn the_page_shows_who_may_call_what() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let text = std::fs::read_to_string(page).unwrap();
        let (begin, end) = ("<!-- roles: begin -->\n", "\n<!-- roles: end -->");
        let shown = text.split_once(begin).and_then(|(_, rest)| rest.split_once(end));
        let shown = shown.expect("the page has the table").0;
        assert_eq!(shown, table(), "put this into the page:\n{}", table());
    }
}
