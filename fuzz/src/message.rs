//! Messages of the API, as they come from the wire to their handlers.
//!
//! Both planes run over a store in memory. Only calls are made that change nothing, or that are told to
//! change nothing (`validate_only`), so that each input meets the same world.

mod world;

use std::cell::OnceCell;
use std::fmt::Debug;

use pregon_core::attempt::MASKED;
use pregon_proto::v1;
use pregon_proto::v1::api_key_service_server::ApiKeyService as _;
use pregon_proto::v1::callback_service_server::CallbackService as _;
use pregon_proto::v1::contract_service_server::ContractService as _;
use pregon_proto::v1::delivery_service_server::DeliveryService as _;
use pregon_proto::v1::event_service_server::EventService as _;
use pregon_proto::v1::event_type_service_server::EventTypeService as _;
use pregon_proto::v1::secret_service_server::SecretService as _;
use pregon_proto::v1::subscription_service_server::SubscriptionService as _;
use pregon_proto::v1::tenant_service_server::TenantService as _;
use prost::Message;
use tokio::runtime::Runtime;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use world::{World, from_anyone};

/// Bytes of a header block that common clients take.
const HEADERS: usize = 8 * 1024;

/// A byte that chooses a method, and its request as the wire has it.
///
/// - What can be decoded is written and read as the same.
/// - A request is answered in the same way each time, and never with an error of our own.
/// - A refusal fits into the headers that clients take, and one of an argument names field and rule.
/// - What a method that creates answers, it takes, and the same comes of it; but for credentials, which
///   are not shown.
pub fn message(data: &[u8]) {
    let Some((choice, request)) = data.split_first() else { return };
    thread_local! {
        static WORLD: OnceCell<(Runtime, World)> = const { OnceCell::new() };
    }
    WORLD.with(|world| {
        let (runtime, world) = world.get_or_init(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            let world = runtime.block_on(World::open());
            (runtime, world)
        });
        runtime.block_on(call(world, *choice, request));
    });
}

/// The request, and that it is written as it was read.
fn decoded<T: Message + Default + PartialEq + Debug>(request: &[u8]) -> Option<T> {
    let message = T::decode(request).ok()?;
    let written = message.encode_to_vec();
    let read = T::decode(&written[..]).expect("a message that was written");
    // A number that is none is unequal to itself.
    assert!(read == message || read.encode_to_vec() == written);
    Some(message)
}

/// What a method answers, and that it answers so again.
macro_rules! ask {
    ($service:expr, $method:ident, $request:expr) => {{
        let request = $request;
        let answer = $service.$method(from_anyone(request.clone())).await.map(Response::into_inner);
        let again = $service.$method(from_anyone(request)).await.map(Response::into_inner);
        match (&answer, &again) {
            (Ok(answer), Ok(again)) => assert!(
                answer == again || answer.encode_to_vec() == again.encode_to_vec(),
                "one request has one answer: {answer:?}, {again:?}"
            ),
            (Err(status), Err(again)) => {
                assert_eq!((status.code(), status.message()), (again.code(), again.message()));
                told(status);
            }
            (Ok(_), Err(status)) | (Err(status), Ok(_)) => {
                panic!("refused at one time only: {status}")
            }
        }
        answer
    }};
}

/// Methods by number: those that read, and those that can be told to change nothing.
macro_rules! methods {
    ($world:ident, $choice:ident, $bytes:ident;
     reads { $($read:ident.$read_method:ident($Read:ident);)* }
     writes { $($write:ident.$write_method:ident($Write:ident);)* }
     creates { $($create:ident.$create_method:ident($Create:ident).$field:ident;)* }) => {{
        const METHODS: &[&str] = &[$(stringify!($read_method),)* $(stringify!($write_method),)*
            $(stringify!($create_method),)*];
        let method = METHODS[usize::from($choice) % METHODS.len()];
        $(if method == stringify!($read_method) {
            let Some(request) = decoded::<v1::$Read>($bytes) else { return };
            let _ = ask!($world.$read, $read_method, request);
            return;
        })*
        $(if method == stringify!($write_method) {
            let Some(request) = decoded::<v1::$Write>($bytes) else { return };
            let request = v1::$Write { validate_only: true, ..request };
            let _ = ask!($world.$write, $write_method, request);
            return;
        })*
        $(if method == stringify!($create_method) {
            let Some(request) = decoded::<v1::$Create>($bytes) else { return };
            let request = v1::$Create { validate_only: true, ..request };
            let Ok(answer) = ask!($world.$create, $create_method, request.clone()) else { return };
            let made = answer.$field.clone().expect("what would be made is shown");
            if made.hides() {
                return;
            }
            let request = v1::$Create { $field: Some(made), ..request };
            let again = ask!($world.$create, $create_method, request);
            let again = again.expect("what is shown is taken").$field;
            assert_eq!(again, answer.$field, "what is shown is made again");
            return;
        })*
    }};
}

async fn call(world: &World, choice: u8, bytes: &[u8]) {
    methods! { world, choice, bytes;
        reads {
            tenants.get_tenant(GetTenantRequest);
            tenants.list_tenants(ListTenantsRequest);
            event_types.get_event_type(GetEventTypeRequest);
            event_types.list_event_types(ListEventTypesRequest);
            contracts.get_contract(GetContractRequest);
            contracts.list_contracts(ListContractsRequest);
            subscriptions.get_subscription(GetSubscriptionRequest);
            subscriptions.list_subscriptions(ListSubscriptionsRequest);
            subscriptions.preview_delivery(PreviewDeliveryRequest);
            subscriptions.get_subscription_health(GetSubscriptionHealthRequest);
            callbacks.list_callbacks(ListCallbacksRequest);
            secrets.list_secrets(ListSecretsRequest);
            secrets.get_jwks(GetJwksRequest);
            deliveries.get_event(GetEventRequest);
            deliveries.list_events(ListEventsRequest);
            deliveries.explain_event(ExplainEventRequest);
            deliveries.get_delivery(GetDeliveryRequest);
            deliveries.list_deliveries(ListDeliveriesRequest);
            deliveries.get_attempt(GetAttemptRequest);
            deliveries.list_attempts(ListAttemptsRequest);
            deliveries.get_reconciliation_report(GetReconciliationReportRequest);
            api_keys.list_api_keys(ListApiKeysRequest);
        }
        writes {
            tenants.update_tenant(UpdateTenantRequest);
            tenants.delete_tenant(DeleteTenantRequest);
            event_types.update_event_type(UpdateEventTypeRequest);
            event_types.delete_event_type(DeleteEventTypeRequest);
            event_types.import_event_types(ImportEventTypesRequest);
            contracts.update_contract(UpdateContractRequest);
            contracts.delete_contract(DeleteContractRequest);
            subscriptions.update_subscription(UpdateSubscriptionRequest);
            subscriptions.delete_subscription(DeleteSubscriptionRequest);
            subscriptions.pause_subscription(PauseSubscriptionRequest);
            subscriptions.disable_subscription(DisableSubscriptionRequest);
            callbacks.update_callback(UpdateCallbackRequest);
            secrets.create_secret(CreateSecretRequest);
            secrets.rotate_secret(RotateSecretRequest);
            deliveries.replay_delivery(ReplayDeliveryRequest);
            deliveries.cancel_delivery(CancelDeliveryRequest);
            deliveries.cancel_event(CancelEventRequest);
            api_keys.create_api_key(CreateApiKeyRequest);
            events.publish(PublishRequest);
        }
        creates {
            tenants.create_tenant(CreateTenantRequest).tenant;
            event_types.create_event_type(CreateEventTypeRequest).event_type;
            contracts.create_contract(CreateContractRequest).contract;
            subscriptions.create_subscription(CreateSubscriptionRequest).subscription;
            callbacks.create_callback(CreateCallbackRequest).callback;
        }
    }
}

/// Resources as they are shown.
trait Shown {
    /// Whether it has something that is not shown.
    fn hides(&self) -> bool;
}

macro_rules! shown {
    (all: $($All:ident)*; but credentials: $($But:ident)*) => {
        $(impl Shown for v1::$All {
            fn hides(&self) -> bool {
                false
            }
        })*
        $(impl Shown for v1::$But {
            fn hides(&self) -> bool {
                self.auth.is_some() || self.headers.iter().any(|it| it.value == MASKED)
            }
        })*
    };
}

shown! { all: Tenant EventType Contract; but credentials: Subscription Callback }

/// What holds of every refusal.
fn told(status: &Status) {
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::ResourceExhausted
        | Code::PermissionDenied
        | Code::Unimplemented => {}
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => panic!("no answer to a request: {status}"),
    }
    let details = status.get_error_details();
    assert!(details.error_info().is_some(), "{status}");
    if status.code() == Code::InvalidArgument {
        for violation in details.bad_request().map_or(&[][..], |it| &it.field_violations) {
            assert!(!violation.field.is_empty() && !violation.reason.is_empty(), "{status}");
            assert!(!violation.description.is_empty(), "{status}");
        }
    }
    // The message percent-encoded, the details in base64.
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'%';
    let message = status.message().bytes().map(|byte| if plain(&byte) { 1 } else { 3 });
    let size = message.sum::<usize>() + status.details().len().div_ceil(3) * 4;
    assert!(size < HEADERS, "{size} bytes of headers");
}
