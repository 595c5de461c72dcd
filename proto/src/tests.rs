//! The descriptor set is what users see by reflection: it has the services, and a comment on
//! everything of ours. And no message prints a key.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};

use crate::{FILE_DESCRIPTOR_SET, v1};

/// Numbers of the fields of descriptor.proto that a path of `SourceCodeInfo` is made of.
mod tag {
    pub const FILE_MESSAGE: i32 = 4;
    pub const FILE_ENUM: i32 = 5;
    pub const FILE_SERVICE: i32 = 6;
    pub const MESSAGE_FIELD: i32 = 2;
    pub const MESSAGE_NESTED: i32 = 3;
    pub const MESSAGE_ENUM: i32 = 4;
    pub const MESSAGE_ONEOF: i32 = 8;
    pub const ENUM_VALUE: i32 = 2;
    pub const SERVICE_METHOD: i32 = 2;
}

/// Every service of the API with its RPCs. A service or an RPC that is added or lost has to be
/// added or lost here too.
const SERVICES: [(&str, &[&str]); 14] = [
    (
        "ApiKeyService",
        &[
            "CreateApiKey",
            "GetApiKey",
            "ListApiKeys",
            "RotateApiKey",
            "RevokeApiKey",
            "CreatePortalToken",
        ],
    ),
    ("AuditLogService", &["ListAuditEntries"]),
    (
        "CallbackService",
        &[
            "CreateCallback",
            "GetCallback",
            "ListCallbacks",
            "UpdateCallback",
            "DeleteCallback",
            "PauseCallback",
            "ResumeCallback",
        ],
    ),
    ("CheckService", &["Check"]),
    (
        "ContractService",
        &["CreateContract", "GetContract", "ListContracts", "UpdateContract", "DeleteContract"],
    ),
    (
        "DeliveryService",
        &[
            "GetEvent",
            "ExplainEvent",
            "ListEvents",
            "GetDelivery",
            "ListDeliveries",
            "ListAttempts",
            "GetAttempt",
            "ReplayDelivery",
            "ReplayDeliveries",
            "RetryNow",
            "DeliverMissing",
            "CancelDelivery",
            "CancelEvent",
            "EraseEvent",
            "EraseEvents",
            "WatchDeliveries",
            "GetReconciliationReport",
        ],
    ),
    ("EgressService", &["ListEgressAddresses"]),
    ("EventService", &["Publish", "PublishBatch", "PublishStream"]),
    (
        "EventTypeService",
        &[
            "CreateEventType",
            "GetEventType",
            "ListEventTypes",
            "UpdateEventType",
            "DeleteEventType",
            "ImportEventTypes",
        ],
    ),
    ("MasterKeyService", &["ListMasterKeys", "ResealDocuments"]),
    ("NodeService", &["GetNode", "ListNodes", "WatchConfiguration", "WaitForRevision"]),
    (
        "SecretService",
        &[
            "CreateSecret",
            "GetSecret",
            "ListSecrets",
            "DeleteSecret",
            "RotateSecret",
            "RevokeSecret",
            "RevealSecret",
            "GetJwks",
        ],
    ),
    (
        "SubscriptionService",
        &[
            "CreateSubscription",
            "GetSubscription",
            "ListSubscriptions",
            "UpdateSubscription",
            "DeleteSubscription",
            "PauseSubscription",
            "ResumeSubscription",
            "OpenLane",
            "DisableSubscription",
            "ApproveSubscription",
            "RejectSubscription",
            "VerifySubscription",
            "TestSubscription",
            "PreviewDelivery",
            "GetSubscriptionHealth",
        ],
    ),
    (
        "TenantService",
        &["CreateTenant", "GetTenant", "ListTenants", "UpdateTenant", "DeleteTenant"],
    ),
];

fn descriptor_set() -> FileDescriptorSet {
    FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("the build wrote a descriptor set")
}

/// The files of our package: not the vendored ones, nor the well-known types.
fn our_files(set: &FileDescriptorSet) -> impl Iterator<Item = &FileDescriptorProto> {
    set.file.iter().filter(|file| file.package() == "pregon.v1")
}

/// Collects the names of what has no comment in one file.
struct Walk<'a> {
    commented: BTreeSet<&'a [i32]>,
    seen: usize,
    missing: Vec<String>,
}

impl<'a> Walk<'a> {
    fn over(file: &'a FileDescriptorProto) -> Self {
        let info = file.source_code_info.as_ref();
        let commented = info
            .iter()
            .flat_map(|info| &info.location)
            .filter(|location| !location.leading_comments().trim().is_empty())
            .map(|location| location.path.as_slice())
            .collect();
        let mut walk = Self { commented, seen: 0, missing: Vec::new() };
        for (message, index) in file.message_type.iter().zip(0..) {
            walk.message(message, file.package(), &[tag::FILE_MESSAGE, index]);
        }
        for (item, index) in file.enum_type.iter().zip(0..) {
            walk.enumeration(item, file.package(), &[tag::FILE_ENUM, index]);
        }
        for (service, index) in file.service.iter().zip(0..) {
            walk.service(service, file.package(), &[tag::FILE_SERVICE, index]);
        }
        walk
    }

    fn check(&mut self, name: String, path: &[i32]) {
        self.seen += 1;
        if !self.commented.contains(path) {
            self.missing.push(name);
        }
    }

    fn message(&mut self, message: &DescriptorProto, scope: &str, path: &[i32]) {
        if message.options.as_ref().is_some_and(|o| o.map_entry()) {
            return; // made by the compiler for a map field
        }
        let name = format!("{scope}.{}", message.name());
        self.check(name.clone(), path);
        for (field, index) in message.field.iter().zip(0..) {
            let path = [path, &[tag::MESSAGE_FIELD, index]].concat();
            self.check(format!("{name}.{}", field.name()), &path);
        }
        for (oneof, index) in message.oneof_decl.iter().zip(0..) {
            let synthetic = message
                .field
                .iter()
                .any(|field| field.proto3_optional() && field.oneof_index == Some(index));
            if !synthetic {
                let path = [path, &[tag::MESSAGE_ONEOF, index]].concat();
                self.check(format!("{name}.{}", oneof.name()), &path);
            }
        }
        for (nested, index) in message.nested_type.iter().zip(0..) {
            let path = [path, &[tag::MESSAGE_NESTED, index]].concat();
            self.message(nested, &name, &path);
        }
        for (nested, index) in message.enum_type.iter().zip(0..) {
            let path = [path, &[tag::MESSAGE_ENUM, index]].concat();
            self.enumeration(nested, &name, &path);
        }
    }

    fn enumeration(&mut self, item: &EnumDescriptorProto, scope: &str, path: &[i32]) {
        let name = format!("{scope}.{}", item.name());
        self.check(name.clone(), path);
        for (value, index) in item.value.iter().zip(0..) {
            let path = [path, &[tag::ENUM_VALUE, index]].concat();
            self.check(format!("{name}.{}", value.name()), &path);
        }
    }

    fn service(&mut self, service: &ServiceDescriptorProto, scope: &str, path: &[i32]) {
        let name = format!("{scope}.{}", service.name());
        self.check(name.clone(), path);
        for (method, index) in service.method.iter().zip(0..) {
            let path = [path, &[tag::SERVICE_METHOD, index]].concat();
            self.check(format!("{name}/{}", method.name()), &path);
        }
    }
}

#[test]
fn everything_has_a_comment() {
    let set = descriptor_set();
    let walks: Vec<_> = our_files(&set).map(Walk::over).collect();
    let missing: Vec<_> = walks.iter().flat_map(|walk| &walk.missing).collect();
    assert!(missing.is_empty(), "without a comment: {missing:#?}");
    // Were the walk to go over nothing, it would find nothing missing.
    let seen: usize = walks.iter().map(|walk| walk.seen).sum();
    assert!(seen > 300, "the walk saw only {seen} items");
}

#[test]
fn a_missing_comment_is_found() {
    let set = descriptor_set();
    let mut file = our_files(&set)
        .find(|file| file.name().ends_with("/node_service.proto"))
        .expect("node_service.proto is in the set")
        .clone();
    let path = [tag::FILE_SERVICE, 0, tag::SERVICE_METHOD, 2];
    let info = file.source_code_info.as_mut().expect("source info");
    info.location.retain(|location| location.path != path);
    assert_eq!(Walk::over(&file).missing, ["pregon.v1.NodeService/WatchConfiguration"]);
}

#[test]
fn every_service_has_its_rpcs() {
    let set = descriptor_set();
    let found: BTreeMap<_, Vec<_>> = our_files(&set)
        .flat_map(|file| &file.service)
        .map(|service| {
            let methods = service.method.iter().map(|m| m.name()).collect();
            (service.name(), methods)
        })
        .collect();
    let expected: BTreeMap<_, Vec<_>> =
        SERVICES.into_iter().map(|(service, methods)| (service, methods.to_vec())).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_set_holds_every_file_that_it_imports() {
    let set = descriptor_set();
    let present: BTreeSet<_> = set.file.iter().map(FileDescriptorProto::name).collect();
    for file in &set.file {
        for import in &file.dependency {
            assert!(
                present.contains(import.as_str()),
                "{} imports {import}, which is missing",
                file.name()
            );
        }
    }
}

/// One value of each message with a field whose comment says that it is write only, or shown once,
/// that field filled.
fn key_bearers(key: &str) -> BTreeMap<&'static str, String> {
    let key = || key.to_owned();
    let api_key = v1::ApiKeyAuth { value: key(), ..Default::default() };
    let created = v1::CreateApiKeyResponse { key: key(), ..Default::default() };
    let lent = v1::CreatePortalTokenResponse { token: key(), ..Default::default() };
    let rotated = v1::RotateApiKeyResponse { key: key(), ..Default::default() };
    let basic = v1::BasicAuth { password: key(), ..Default::default() };
    let bearer = v1::BearerAuth { token: key(), ..Default::default() };
    let mtls = v1::MtlsAuth { key_pem: key(), ..Default::default() };
    let oauth2 = v1::Oauth2Auth { client_secret: key(), ..Default::default() };
    let new = v1::NewSecret { material: key(), ..Default::default() };
    let rotate = v1::RotateSecretRequest { material: key(), ..Default::default() };
    let secret = v1::Secret { material: key(), ..Default::default() };
    BTreeMap::from([
        ("ApiKeyAuth", format!("{api_key:?}")),
        ("CreateApiKeyResponse", format!("{created:?}")),
        ("CreatePortalTokenResponse", format!("{lent:?}")),
        ("RotateApiKeyResponse", format!("{rotated:?}")),
        ("BasicAuth", format!("{basic:?}")),
        ("BearerAuth", format!("{bearer:?}")),
        ("MtlsAuth", format!("{mtls:?}")),
        ("NewSecret", format!("{new:?}")),
        ("Oauth2Auth", format!("{oauth2:?}")),
        ("RotateSecretRequest", format!("{rotate:?}")),
        ("Secret", format!("{secret:?}")),
    ])
}

#[test]
fn no_message_prints_a_key() {
    let mut printed = key_bearers("hunter2");
    let set = descriptor_set();
    let mut secret = BTreeSet::new();
    for file in our_files(&set) {
        let info = file.source_code_info.as_ref().expect("source info");
        for location in &info.location {
            if let [tag::FILE_MESSAGE, message, tag::MESSAGE_FIELD, _] = location.path[..]
                && ["Write only.", "is shown here only"]
                    .iter()
                    .any(|words| location.leading_comments().contains(words))
            {
                let index = usize::try_from(message).expect("an index");
                secret.insert(file.message_type[index].name());
            }
        }
    }
    let covered: BTreeSet<_> = printed.keys().copied().collect();
    assert_eq!(secret, covered, "what is secret is hidden and tested");

    // The one answer that shows a key again.
    let key = || "hunter2".to_owned();
    let revealed = v1::RevealSecretResponse { material: key(), material_der: key() };
    printed.insert("RevealSecretResponse", format!("{revealed:?}"));
    for (message, text) in printed {
        assert!(!text.contains("hunter2"), "{message} prints its key: {text}");
    }
}
