//! Every bound that callers can meet, each with its reason. A bound that belongs to one machine
//! part only stands beside that part.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Ids of tenants, subscriptions, secrets and contracts: short enough for keys and logs.
pub const ID_LEN: usize = 64;
/// Event type names: room for a few dotted segments.
pub const EVENT_TYPE_LEN: usize = 128;
/// Publisher-given event ids: a UUID, a ULID or a composed key fit.
pub const EVENT_ID_LEN: usize = 128;
/// `display_name`: one line on a screen.
pub const DISPLAY_NAME_LEN: usize = 128;
/// Labels a resource: enough for classification, not for storage.
pub const LABELS: usize = 32;
/// Label keys, as in Kubernetes.
pub const LABEL_KEY_LEN: usize = 63;
/// Label values.
pub const LABEL_VALUE_LEN: usize = 256;
/// Descriptions of event types.
pub const DESCRIPTION_LEN: usize = 4096;
/// JSON Schemas: compiled once, but held by every node.
pub const SCHEMA_LEN: usize = 64 * 1024;
/// `request_id` of a write.
pub const REQUEST_ID_LEN: usize = 64;
/// How long a `request_id` is remembered.
pub const REQUEST_ID_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Receiver URLs: what common HTTP servers accept as a request line.
pub const URL_LEN: usize = 8 * 1024;
/// Patterns a subscription.
pub const PATTERNS: usize = 64;
/// CEL filters: one condition, not a program.
pub const FILTER_LEN: usize = 2 * 1024;
/// Custom headers a subscription.
pub const HEADERS: usize = 20;
/// Names and values of a subscription's custom headers together.
pub const HEADERS_LEN: usize = 4 * 1024;
/// A contract's document.
pub const CONTRACT_LEN: usize = 64 * 1024;
/// Contracts of the platform's own: every node compiles all of them.
pub const CONTRACTS: usize = 1000;
/// Characters of the reason for which an event is erased.
pub const ERASURE_REASON_LEN: usize = 200;
/// API keys in all, ended ones included: every process holds all of them.
pub const API_KEYS: usize = 4096;
/// API keys that have not ended and are for a tenant by name.
pub const API_KEYS_OF_TENANT: usize = 100;
/// Tenants of one API key; a key for more is a key for all.
pub const API_KEY_TENANTS: usize = 100;
/// Secrets of an API key that are valid at the same time: rotations that overlap.
pub const API_KEY_SECRETS: usize = 5;
/// The lowest limit of bytes a second of an API key: an event of 1 MiB is paid off in 17 minutes.
pub const API_KEY_BYTES_MIN: u32 = 1024;
/// The shortest life of a portal token: a page has to load.
pub const PORTAL_TTL_MIN: Duration = Duration::from_secs(60);
/// The longest: a working day and more.
pub const PORTAL_TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// What a portal token has where nobody says.
pub const PORTAL_TTL_DEFAULT: Duration = Duration::from_secs(3600);
/// Bytes that a node's attempts in flight hold at most where nobody says: with what waits in
/// memory, callers' requests and the process itself less than 512 MiB.
pub const IN_FLIGHT_BYTES_DEFAULT: usize = 192 * 1024 * 1024;
/// The least that may be said: some of the largest events.
pub const IN_FLIGHT_BYTES_MIN: usize = 16 * 1024 * 1024;
/// The most.
pub const IN_FLIGHT_BYTES_MAX: usize = 64 * 1024 * 1024 * 1024;
/// Contracts that may extend one contract: they are written with it.
pub const CONTRACT_CHILDREN: usize = 100;
/// Sensitive paths of a contract, an event type or a subscription.
pub const SENSITIVE_PATHS: usize = 64;
/// A sensitive path: as many bytes as a name or two in each of a few steps.
pub const SENSITIVE_PATH_LEN: usize = 256;
/// Steps of a sensitive path: redaction recurses as deep.
pub const SENSITIVE_STEPS: usize = 16;
/// Text of a credential: tokens in JSON Web Token form reach a few KiB.
pub const CREDENTIAL_LEN: usize = 8 * 1024;
/// User name of basic authentication, and identifier of an OAuth 2.0 client.
pub const USERNAME_LEN: usize = 256;
/// Scopes that a token is asked for with.
pub const OAUTH2_SCOPES: usize = 32;
/// Characters of one of them, and of the audience.
pub const OAUTH2_TEXT_LEN: usize = 512;
/// Callbacks a tenant.
pub const CALLBACKS: u32 = 100;
/// How long a callback's answer may take when nothing is said.
pub const CALLBACK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3);
/// What a callback's answer may take: people wait for it.
pub const CALLBACK_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(10);
/// How long an allowed answer may be remembered.
pub const CALLBACK_CACHE: Duration = Duration::from_secs(3600);
/// How long a test send may take when nothing is said.
pub const TEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(20);
/// What a test send may take.
pub const TEST_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);
/// Notes and reasons of state changes.
pub const NOTE_LEN: usize = 1024;
/// Default cap of attempts in flight to one subscription, of one node.
pub const CONCURRENCY_DEFAULT: u32 = 64;
/// Highest cap of attempts in flight to one subscription.
pub const CONCURRENCY_MAX: u32 = 1024;
/// Where a lane's concurrency starts before the receiver has shown what it bears.
pub const CONCURRENCY_START: u32 = 8;
/// Keys of a subscription that may sign or are about to.
pub const LIVE_SECRETS: usize = 10;
/// Rules in one list of those that say whom requests may go to: each is looked at when a connection is
/// opened.
pub const EGRESS_RULES: usize = 64;
/// Subscriptions a tenant, by default.
pub const SUBSCRIPTIONS_DEFAULT: u32 = 100;
/// Subscriptions a tenant, at most: a node matches each event against all of its tenant's.
pub const SUBSCRIPTIONS_MAX: u32 = 10_000;
/// Waiting deliveries, by default: of a subscription.
pub const PENDING_DEFAULT: u32 = 1_000_000;
/// Event data, by default; the deployment may lower or raise it up to [`EVENT_DATA_MAX`].
pub const EVENT_DATA_DEFAULT: usize = 256 * 1024;
/// Event data, at most: a PublishBatch message is 4 MiB.
pub const EVENT_DATA_MAX: usize = 1024 * 1024;
/// Attributes of an event: what a filter or a header wants beside the data, not more data.
pub const ATTRIBUTES: usize = 16;
/// Keys of attributes: names, as of JSON members.
pub const ATTRIBUTE_KEY_LEN: usize = 32;
/// Values of attributes, in characters: what a receiver's header line holds with ease.
pub const ATTRIBUTE_VALUE_LEN: usize = 256;
/// How far ahead an event may be scheduled: a month, as reminders and trials are long.
pub const DELIVER_AHEAD: Duration = Duration::from_secs(30 * 24 * 3600);
/// What `deliver_within` of an event may be: clocks of nodes differ by less than the least.
pub const DELIVER_WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=DELIVER_AHEAD;
/// Subscriptions that an event may be for by name: a choice, not a list of all.
pub const EVENT_SUBSCRIPTIONS: usize = 16;
/// Data of a check: as of an event, by default.
pub const CHECK_DATA_LEN: usize = 256 * 1024;
/// Depth of event data: deeper texts are attacks on parsers.
pub const JSON_DEPTH: usize = 64;
/// Events in one PublishBatch.
pub const PUBLISH_BATCH: usize = 1000;
/// Unacknowledged messages of a PublishStream.
pub const PUBLISH_STREAM_WINDOW: usize = 1000;
/// A gRPC message, received.
pub const MESSAGE_LEN: usize = 4 * 1024 * 1024;
/// Page size when none is asked for.
pub const PAGE_DEFAULT: u32 = 50;
/// Page size at most; larger requests are capped.
pub const PAGE_MAX: u32 = 1000;
/// How long a page token is good for.
pub const PAGE_TOKEN_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long a publish waits for its `min_revision` to be served.
pub const MIN_REVISION_WAIT: Duration = Duration::from_secs(2);
/// How long the same event id is recognised at least.
pub const DEDUPE_WINDOW: Duration = Duration::from_secs(24 * 3600);
/// How long a delivery of a paused subscription waits before it ends as EXPIRED.
pub const PAUSED_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// After how long of nothing but failures a subscription is disabled by default: a long weekend
/// and two days to mend it.
pub const DISABLE_AFTER_DEFAULT: Duration = Duration::from_secs(5 * 24 * 3600);
/// Response bytes read before the connection is closed: no acknowledgement needs more.
pub const RESPONSE_READ: usize = 64 * 1024;
/// Response bytes kept with an attempt that was not acknowledged.
pub const RESPONSE_KEPT: usize = 4 * 1024;
/// Response header block of a receiver.
pub const RESPONSE_HEADERS_LEN: usize = 16 * 1024;
/// Response header lines of a receiver.
pub const RESPONSE_HEADERS: usize = 100;
/// Overlap of a rotation when none is asked for.
pub const ROTATE_OVERLAP_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// Overlap of a rotation at most.
pub const ROTATE_OVERLAP_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Deliveries that one ReplayDeliveries may touch when no limit is given.
pub const REPLAY_DEFAULT: u32 = 10_000;
/// Deliveries that one ReplayDeliveries may touch at most.
pub const REPLAY_MAX: u32 = 1_000_000;
