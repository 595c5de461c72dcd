//! The plain settings of a contract, and their bounds.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::words;
use crate::id::EventTypeId;
use crate::model::Auth;
use crate::secret::SecretForm;

/// Attempt timeouts that a contract may list.
pub const TIMEOUTS: RangeInclusive<usize> = 1..=32;
/// What an attempt's timeout may be: below a second fails on a far network, above half a minute
/// ties up a slot.
pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);
/// An attempt's timeout where the contract names none.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
/// Headers and signatures a contract may set: as many as a subscription.
pub const HEADERS: usize = 20;
/// The way out of the network where a contract names none.
pub const EGRESS_DEFAULT: &str = "default";

/// What kind of text the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// JSON.
    Json,
    /// `application/x-www-form-urlencoded`, of a flat object of scalars.
    Form,
    /// `multipart/form-data`, of the same.
    Multipart,
}

impl BodyFormat {
    /// `content-type` of such a body; of parts, without the boundary.
    pub fn content_type(self) -> &'static [u8] {
        match self {
            BodyFormat::Json => b"application/json",
            BodyFormat::Form => b"application/x-www-form-urlencoded",
            BodyFormat::Multipart => b"multipart/form-data",
        }
    }
}

/// When a body is compressed with gzip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gzip {
    /// Signatures are over what was compressed.
    BeforeSigning,
    /// Signatures are over the body before.
    AfterSigning,
}

/// In which form the body is sent and signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canonical {
    /// As it was rendered.
    Verbatim,
    /// What `JSON.stringify(JSON.parse(text))` gives in ECMAScript.
    JsonStringify,
    /// The JSON Canonicalization Scheme of RFC 8785.
    Rfc8785,
}

words! {
    /// A way for Pregón to identify itself to a receiver, beside signatures; as documents name it.
    AuthKind {
        /// Not at all.
        None = "none",
        /// A bearer token.
        Bearer = "bearer",
        /// HTTP Basic authentication.
        Basic = "basic",
        /// A key in a header.
        ApiKey = "api_key",
        /// A token of OAuth 2.0 client credentials.
        Oauth2 = "oauth2",
        /// A client certificate of TLS.
        Mtls = "mtls",
    }
}

words! {
    /// A key of a contract that a subscription may say anew, where the contract lists it.
    Overridable {
        /// When a failed attempt is repeated.
        Retry = "retry",
        /// How long attempts may take.
        Timeouts = "timeouts",
        /// Which answers acknowledge.
        Acknowledge = "acknowledge",
    }
}

impl Auth {
    /// Which kind it is.
    pub fn kind(&self) -> AuthKind {
        match self {
            Auth::None => AuthKind::None,
            Auth::Bearer { .. } => AuthKind::Bearer,
            Auth::Basic { .. } => AuthKind::Basic,
            Auth::ApiKey { .. } => AuthKind::ApiKey,
            Auth::Oauth2 { .. } => AuthKind::Oauth2,
            Auth::Mtls { .. } => AuthKind::Mtls,
        }
    }
}

/// An event type that a contract brings along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractType {
    /// Its name.
    pub id: EventTypeId,
    /// What it tells.
    pub description: String,
    /// JSON Schema of its data, as JSON text; empty: anything goes.
    pub schema: String,
    /// An example of its data, as JSON text; empty: none.
    pub example: String,
}

/// What a contract asks of a subscription's secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRule {
    /// Whether a request may not go out unsigned.
    pub required: bool,
    /// How a secret looks as text.
    pub form: SecretForm,
}
