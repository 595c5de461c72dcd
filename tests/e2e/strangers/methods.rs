//! Every method there is, by every caller there can be.
//!
//! The methods come from the descriptors; who may call them is written down here once more, from
//! the API's text, so that a mistake in the server's table does not excuse itself.

use std::collections::HashMap;
use std::net::SocketAddr;

use pregon_proto::FILE_DESCRIPTOR_SET;
use prost::{Message as _, encoding};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use serde_json::json;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{Token, guarded};
use crate::harness::{World, raw};
use crate::on_both;

on_both!(
    every_method_refuses_strangers_and_roles_that_are_too_small,
    no_method_reaches_another_tenant,
    each_plane_has_its_own_methods,
);

const ROLES: [&str; 6] = ["admin", "operator", "tenant_manager", "viewer", "auditor", "publisher"];

/// Methods of other packages, which every server has: open to everybody, or to every token.
const PROBE: &str = "/grpc.health.v1.Health/Check";
const SHARED: [&str; 3] = [
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// A method of ours: its path and its request message.
pub(crate) struct Method {
    pub(crate) path: String,
    pub(crate) input: String,
}

/// The API, as its descriptors tell it.
pub(crate) struct Api {
    pub(crate) methods: Vec<Method>,
    messages: HashMap<String, DescriptorProto>,
}

impl Api {
    pub(crate) fn read() -> Self {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let (mut methods, mut messages) = (Vec::new(), HashMap::new());
        for file in set.file.iter().filter(|file| file.package() == "pregon.v1") {
            for message in &file.message_type {
                messages.insert(format!(".pregon.v1.{}", message.name()), message.clone());
            }
            for service in &file.service {
                methods.extend(service.method.iter().map(|method| Method {
                    path: format!("/pregon.v1.{}/{}", service.name(), method.name()),
                    input: method.input_type().to_owned(),
                }));
            }
        }
        assert!(methods.len() > 40, "the whole API");
        Self { methods, messages }
    }

    /// A message that names a tenant wherever it can name one.
    pub(crate) fn naming(&self, input: &str, tenant: &str, depth: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let fields = &self.messages[input].field;
        // Beside a parent it is a filter.
        let bare = !fields.iter().any(|it| ["name", "parent"].contains(&it.name()));
        for field in fields {
            let number = u32::try_from(field.number()).unwrap();
            let value = match (field.r#type(), field.name()) {
                (Type::String, "name" | "parent" | "tenant" | "callback") => {
                    format!("tenants/{tenant}").into_bytes()
                }
                (Type::String, "subscription") if bare => format!("tenants/{tenant}").into_bytes(),
                (Type::String, "tenant_id") => tenant.into(),
                (Type::Message, _) if self.goes_into(field.type_name(), depth) => {
                    self.naming(field.type_name(), tenant, depth + 1)
                }
                (Type::Int64, "sequence") => {
                    encoding::int64::encode(number, &1, &mut bytes);
                    continue;
                }
                _ => continue,
            };
            encoding::bytes::encode(number, &value, &mut bytes);
        }
        bytes
    }

    /// Whether a field's message may name a tenant: requests in requests, and their resources.
    fn goes_into(&self, message: &str, depth: usize) -> bool {
        depth < 2 && self.messages.contains_key(message)
    }
}

/// The smallest role that may call a method of ours: reads are for viewers, keys are not shown to
/// them; tenants, the catalogue and approval are the operator's; whoever publishes asks callbacks.
pub(crate) fn wanted(path: &str) -> &'static str {
    let (service, method) = path.strip_prefix("/pregon.v1.").unwrap().split_once('/').unwrap();
    let verbs = ["Get", "List", "WaitFor", "Watch", "Explain"];
    let reads = verbs.iter().any(|verb| method.starts_with(verb));
    match service {
        "EventService" | "CheckService" => "publisher",
        "DeliveryService" if reads && method != "GetReconciliationReport" => "viewer",
        _ if reads => "auditor",
        "MasterKeyService" => "admin",
        "TenantService" | "EventTypeService" | "ContractService" => "operator",
        "SubscriptionService"
            if ["ApproveSubscription", "RejectSubscription"].contains(&method) =>
        {
            "operator"
        }
        "SubscriptionService"
        | "SecretService"
        | "CallbackService"
        | "DeliveryService"
        | "ApiKeyService" => "tenant_manager",
        other => panic!("{other} has a write that nobody thought of"),
    }
}

/// Whether a method is about what all tenants share: the catalogue, and the ways out.
pub(crate) fn is_of_all(path: &str) -> bool {
    let services = ["EventTypeService/", "ContractService/", "EgressService/"];
    services.iter().any(|service| path.contains(service))
}

/// Whether a role includes another: admin ⊃ operator ⊃ tenant manager ⊃ viewer ⊃ auditor; publisher
/// stands alone.
fn includes(role: &str, wanted: &str) -> bool {
    let line = ["auditor", "viewer", "tenant_manager", "operator", "admin"];
    let place = |role| line.iter().position(|it| *it == role);
    match (place(role), place(wanted)) {
        (Some(role), Some(wanted)) => role >= wanted,
        _ => role == wanted,
    }
}

fn refusal(answer: &Result<Vec<u8>, Status>) -> Option<(Code, String)> {
    let status = answer.as_ref().err()?;
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    Some((status.code(), reason))
}

fn assert_refused(what: &str, answer: &Result<Vec<u8>, Status>, code: Code, reason: &str) {
    assert_eq!(refusal(answer), Some((code, reason.to_owned())), "{what}");
}

/// What a caller who may call the method is never told, whatever else is wrong.
fn assert_let_in(what: &str, answer: &Result<Vec<u8>, Status>) {
    let code = refusal(answer).map(|(code, _)| code);
    let out = matches!(
        code,
        Some(Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented | Code::Internal)
    );
    assert!(!out, "{what}: {answer:?}");
}

/// Whether a method is for nodes to answer.
fn is_of_nodes(path: &str) -> bool {
    path.contains(".EventService/") || path.contains(".CheckService/")
}

/// Ways to each method: to the nodes for events and questions, to management for everything else.
pub(crate) struct Ways {
    management: Channel,
    events: Channel,
}

impl Ways {
    pub(crate) async fn to(pregon: &impl World) -> Self {
        Self {
            management: connect(pregon.management()).await,
            events: connect(pregon.events()[0]).await,
        }
    }

    pub(crate) fn of(&self, path: &str) -> &Channel {
        if is_of_nodes(path) { &self.events } else { &self.management }
    }

    /// The other server, if there are two.
    fn not_of(&self, path: &str) -> &Channel {
        if is_of_nodes(path) { &self.management } else { &self.events }
    }
}

async fn connect(addr: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap()
}

async fn every_method_refuses_strangers_and_roles_that_are_too_small<W: World>() {
    let mut tokens = Vec::new();
    for role in ROLES {
        tokens.push(Token::of(role).await);
    }
    let unknown = Token::of("admin").await;
    let (pregon, _dir) = guarded::<W>(&tokens.iter().collect::<Vec<_>>()).await;
    let ways = Ways::to(&pregon).await;
    let call = async |path: &str, token: Option<&Token>| {
        raw::call(ways.of(path), path, Vec::new(), token.map(|it| it.token.as_str())).await
    };

    let api = Api::read();
    let paths = api.methods.iter().map(|method| method.path.as_str()).chain(SHARED);
    let (mut refused, mut let_in) = (0, 0);
    for path in paths {
        let stranger = call(path, None).await;
        assert_refused(path, &stranger, Code::Unauthenticated, "CREDENTIAL_MISSING");
        let wrong = call(path, Some(&unknown)).await;
        assert_refused(path, &wrong, Code::Unauthenticated, "CREDENTIAL_INVALID");
        for (role, token) in ROLES.iter().zip(&tokens) {
            let what = format!("{path} by {role}");
            let answer = call(path, Some(token)).await;
            if SHARED.contains(&path) || includes(role, wanted(path)) {
                assert_let_in(&what, &answer);
                let_in += 1;
            } else {
                assert_refused(&what, &answer, Code::PermissionDenied, "ROLE_MISSING");
                refused += 1;
            }
        }
    }
    println!(
        "{} methods: {let_in} calls let in, {refused} refused for their role",
        api.methods.len()
    );
    assert_let_in(PROBE, &call(PROBE, None).await);
    // What no server has is not told from what a caller may not call.
    let answer = call("/pregon.v1.TenantService/Forgotten", Some(&tokens[0])).await;
    assert_refused("a method of nobody's", &answer, Code::PermissionDenied, "ROLE_MISSING");
}

/// What a server does not have is refused, and who may call it is told where it is; strangers learn
/// nothing at all.
async fn each_plane_has_its_own_methods<W: World>() {
    let admin = Token::of("admin").await;
    let publisher = Token::of("publisher").await;
    let (pregon, _dir) = guarded::<W>(&[&admin, &publisher]).await;
    let (ways, api) = (Ways::to(&pregon).await, Api::read());
    if pregon.events() == [pregon.management()] {
        return;
    }
    for Method { path, .. } in &api.methods {
        let there = ways.not_of(path);
        let stranger = raw::call(there, path, Vec::new(), None).await;
        assert_refused(path, &stranger, Code::Unauthenticated, "CREDENTIAL_MISSING");
        let (may, may_not, plane) = match is_of_nodes(path) {
            true => (&publisher, &admin, "pregon dataplane"),
            false => (&admin, &publisher, "pregon control"),
        };
        let answer = raw::call(there, path, Vec::new(), Some(&may_not.token)).await;
        assert_refused(path, &answer, Code::PermissionDenied, "ROLE_MISSING");
        let answer = raw::call(there, path, Vec::new(), Some(&may.token)).await;
        assert_refused(path, &answer, Code::Unimplemented, "NOT_SERVED_HERE");
        assert!(answer.unwrap_err().message().contains(plane), "{path}");
    }
}

async fn no_method_reaches_another_tenant<W: World>() {
    let bound = |role: &'static str| async move {
        Token::new(&["--name", role, "--role", role, "--tenants", "acme"]).await
    };
    let (operator, admin, publisher) =
        (Token::of("operator").await, bound("admin").await, bound("publisher").await);
    let (pregon, _dir) = guarded::<W>(&[&operator, &admin, &publisher]).await;
    let grpc = pregon.grpcurl().with_token(&operator.token);
    for tenant in ["acme", "other"] {
        let create = json!({"tenant_id": tenant, "tenant": {}});
        grpc.ok("TenantService/CreateTenant", create).await;
    }
    let (ways, api) = (Ways::to(&pregon).await, Api::read());
    let mut named = 0;
    for Method { path, input } in &api.methods {
        let token = if wanted(path) == "publisher" { &publisher } else { &admin };
        let call = async |tenant: &str| {
            let message = api.naming(input, tenant, 0);
            raw::call(ways.of(path), path, message, Some(&token.token)).await
        };
        let catalogue = is_of_all(path);
        let over_all = ["NodeService/", "MasterKeyService/", "/ListTenants"];
        let over_all = over_all.iter().any(|it| path.contains(it));
        if path.contains("ApiKeyService/") {
            continue; // keys are below no tenant: the story of API keys tells of them
        }
        if catalogue && wanted(path) == "auditor" {
            assert_let_in(path, &call("other").await);
            continue;
        }
        for tenant in ["other", "nobody", "-"] {
            let answer = call(tenant).await;
            match &answer {
                // One answer for each event: the refusal stands in it.
                Ok(bytes) if path.contains("PublishBatch") || path.contains("PublishStream") => {
                    let told = bytes.windows(13).any(|part| part == b"TENANT_DENIED");
                    assert!(told, "{path} {tenant}: {answer:?}");
                }
                _ => assert_refused(path, &answer, Code::PermissionDenied, "TENANT_DENIED"),
            }
        }
        if !catalogue && !over_all {
            assert_let_in(path, &call("acme").await);
            named += 1;
        }
    }
    println!("{named} methods told tenants apart");
    // The other tenant is as it was.
    grpc.ok("TenantService/GetTenant", json!({"name": "tenants/other"})).await;
}
