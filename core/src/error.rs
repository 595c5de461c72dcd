//! The one vocabulary of refusals: what a caller is told, and whether repeating helps.
//!
//! A refusal is a [`Refusal`]: a stable [`Reason`], the gRPC [`Code`] that the reason implies, and
//! the facts. Wrong input is always reported whole: every wrong field is one [`Violation`], so a
//! caller mends everything at once. Nothing here ever holds a secret or event data.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// gRPC status codes that Pregón answers with, and what each says about a repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is wrong as it stands; a repeat fails the same way.
    InvalidArgument,
    /// The resource does not exist (or belongs to someone else).
    NotFound,
    /// A position that is no longer kept.
    OutOfRange,
    /// The id is taken.
    AlreadyExists,
    /// Somebody else wrote first: read, then repeat.
    Aborted,
    /// The state of the system forbids it until something else changes.
    FailedPrecondition,
    /// A quota, a rate or the store's room is used up: repeat later.
    ResourceExhausted,
    /// Nothing wrong with the request: repeat it with the same id.
    Unavailable,
    /// No credential, or not a valid one.
    Unauthenticated,
    /// The credential does not reach that far.
    PermissionDenied,
    /// A method that this server does not have.
    Unimplemented,
    /// A fault of ours.
    Internal,
}

impl Code {
    /// Whether the very same request may succeed when repeated.
    pub fn retryable(self) -> bool {
        match self {
            Code::ResourceExhausted | Code::Unavailable => true,
            Code::InvalidArgument
            | Code::NotFound
            | Code::OutOfRange
            | Code::AlreadyExists
            | Code::Aborted
            | Code::FailedPrecondition
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::Unimplemented
            | Code::Internal => false,
        }
    }
}

/// Declares a closed vocabulary: an enum whose variants each have one stable word.
#[macro_export]
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every word of this vocabulary, in order of declaration.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The stable word, as it appears in the API, logs and metrics.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Why a request was refused; goes out as `google.rpc.ErrorInfo.reason`.
    Reason {
        /// One or more fields are wrong; see the violations.
        FieldsInvalid = "FIELDS_INVALID",
        /// No such resource, or another tenant's.
        ResourceNotFound = "RESOURCE_NOT_FOUND",
        /// A stream position that is no longer kept.
        ResumeTokenExpired = "RESUME_TOKEN_EXPIRED",
        /// The name is taken.
        ResourceExists = "RESOURCE_EXISTS",
        /// The same event id and version with other content.
        EventIdReused = "EVENT_ID_REUSED",
        /// The same request_id with another body.
        RequestIdReused = "REQUEST_ID_REUSED",
        /// The resource moved on since the caller read it.
        EtagMismatch = "ETAG_MISMATCH",
        /// A subscription still uses the contract.
        ContractInUse = "CONTRACT_IN_USE",
        /// The resource has children and `force` was not set.
        ChildrenExist = "CHILDREN_EXIST",
        /// Built-in resources cannot be changed.
        BuiltIn = "BUILT_IN",
        /// The resource's state forbids the change.
        StateConflict = "STATE_CONFLICT",
        /// The tenant is suspended.
        TenantSuspended = "TENANT_SUSPENDED",
        /// The last secret of a subscription whose contract needs one.
        LastSecret = "LAST_SECRET",
        /// A node refused the revision.
        RevisionRefused = "REVISION_REFUSED",
        /// The revision has never been committed.
        RevisionUnknown = "REVISION_UNKNOWN",
        /// Too many requests in a stretch of time.
        RateLimited = "RATE_LIMITED",
        /// A limit of the tenant is reached.
        QuotaExceeded = "QUOTA_EXCEEDED",
        /// The store has no room.
        StoreFull = "STORE_FULL",
        /// The server sheds load.
        LoadShed = "LOAD_SHED",
        /// A message is larger than the server takes; a repeat fails the same way.
        MessageTooLarge = "MESSAGE_TOO_LARGE",
        /// The store does not answer or refuses.
        StoreUnavailable = "STORE_UNAVAILABLE",
        /// The node has no configuration yet.
        NotReady = "NOT_READY",
        /// The server is going down.
        Draining = "DRAINING",
        /// The node does not serve the wanted revision yet.
        RevisionNotServed = "REVISION_NOT_SERVED",
        /// No node took the work.
        NoNode = "NO_NODE",
        /// No credential was sent.
        CredentialMissing = "CREDENTIAL_MISSING",
        /// The credential is not known.
        CredentialInvalid = "CREDENTIAL_INVALID",
        /// The credential's time has passed.
        CredentialExpired = "CREDENTIAL_EXPIRED",
        /// The credential was revoked.
        CredentialRevoked = "CREDENTIAL_REVOKED",
        /// The credential's role does not allow the method.
        RoleMissing = "ROLE_MISSING",
        /// The credential does not reach the environment.
        EnvironmentDenied = "ENVIRONMENT_DENIED",
        /// The credential is for other tenants.
        TenantDenied = "TENANT_DENIED",
        /// The credential is for other event types.
        EventTypeDenied = "EVENT_TYPE_DENIED",
        /// Another process of the deployment serves the method.
        NotServedHere = "NOT_SERVED_HERE",
        /// The API has no such method.
        MethodUnknown = "METHOD_UNKNOWN",
        /// A fault of ours; the log has the details.
        Internal = "INTERNAL",
    }
}

impl Reason {
    /// The gRPC code that this reason implies.
    pub fn code(self) -> Code {
        match self {
            Reason::FieldsInvalid => Code::InvalidArgument,
            Reason::ResourceNotFound => Code::NotFound,
            Reason::ResumeTokenExpired => Code::OutOfRange,
            Reason::ResourceExists | Reason::EventIdReused | Reason::RequestIdReused => {
                Code::AlreadyExists
            }
            Reason::EtagMismatch => Code::Aborted,
            Reason::ContractInUse
            | Reason::ChildrenExist
            | Reason::BuiltIn
            | Reason::StateConflict
            | Reason::TenantSuspended
            | Reason::LastSecret
            | Reason::RevisionRefused
            | Reason::RevisionUnknown => Code::FailedPrecondition,
            Reason::RateLimited
            | Reason::QuotaExceeded
            | Reason::StoreFull
            | Reason::LoadShed
            | Reason::MessageTooLarge => Code::ResourceExhausted,
            Reason::StoreUnavailable
            | Reason::NotReady
            | Reason::Draining
            | Reason::RevisionNotServed
            | Reason::NoNode => Code::Unavailable,
            Reason::CredentialMissing
            | Reason::CredentialInvalid
            | Reason::CredentialExpired
            | Reason::CredentialRevoked => Code::Unauthenticated,
            Reason::RoleMissing
            | Reason::EnvironmentDenied
            | Reason::TenantDenied
            | Reason::EventTypeDenied => Code::PermissionDenied,
            Reason::NotServedHere | Reason::MethodUnknown => Code::Unimplemented,
            Reason::Internal => Code::Internal,
        }
    }
}

words! {
    /// Which rule a field broke; goes out as `google.rpc.BadRequest.FieldViolation.reason`.
    Rule {
        /// The field must be set.
        Required = "REQUIRED",
        /// The text does not have the form it must have.
        Malformed = "MALFORMED",
        /// Longer than allowed.
        TooLong = "TOO_LONG",
        /// More items than allowed.
        TooMany = "TOO_MANY",
        /// A number or time outside its range.
        OutOfRange = "OUT_OF_RANGE",
        /// Set at creation, for good.
        Immutable = "IMMUTABLE",
        /// A mask path that names no field, or one that callers cannot set.
        UnknownField = "UNKNOWN_FIELD",
        /// A field whose feature this release does not have: refused, never ignored.
        Unsupported = "UNSUPPORTED",
        /// A URL that the deployment or the contract does not allow.
        UrlRefused = "URL_REFUSED",
        /// A header that callers may not set.
        HeaderRefused = "HEADER_REFUSED",
        /// Not an event type pattern.
        PatternInvalid = "PATTERN_INVALID",
        /// A CEL expression that cannot be used (line and column in the description).
        ExpressionInvalid = "EXPRESSION_INVALID",
        /// A contract document with an error (line, column and key in the description).
        ContractInvalid = "CONTRACT_INVALID",
        /// Not a usable JSON Schema.
        SchemaInvalid = "SCHEMA_INVALID",
        /// Not JSON as Pregón accepts it (byte offset in the description).
        EventJsonInvalid = "EVENT_JSON_INVALID",
        /// The data fails its type's schema (JSON pointer and keyword in the description).
        EventSchemaMismatch = "EVENT_SCHEMA_MISMATCH",
        /// The data is larger than allowed (both sizes in the description).
        EventTooLarge = "EVENT_TOO_LARGE",
        /// A page token that this server did not give for this request, or an old one.
        PageTokenInvalid = "PAGE_TOKEN_INVALID",
    }
}

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Proto path of the field, as in `subscription.event_types[2]`.
    pub field: String,
    /// The rule it broke.
    pub rule: Rule,
    /// The rule and its bound in words.
    pub description: String,
}

/// Collects every violation of a request before any is answered.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Starts with nothing wrong.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes one wrong field.
    pub fn add(&mut self, field: impl Into<String>, rule: Rule, description: impl fmt::Display) {
        self.0.push(Violation { field: field.into(), rule, description: description.to_string() });
    }

    /// Takes the value of a parse, or notes what was wrong with the field.
    pub fn check<T>(&mut self, field: impl Into<String>, parsed: Result<T, Wrong>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.add(field, wrong.rule, wrong.description);
                None
            }
        }
    }

    /// Whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was noted, in order.
    pub fn as_slice(&self) -> &[Violation] {
        &self.0
    }

    /// `Ok` when nothing was noted, else the refusal that lists everything.
    pub fn finish(self) -> Result<(), Refusal> {
        if self.0.is_empty() { Ok(()) } else { Err(Refusal::fields(self.0)) }
    }
}

/// Wrong fields that a message names: many clients show the message and not the details.
const NAMED: usize = 3;

/// Longest name of a field within a message, in bytes.
const NAMED_FIELD: usize = 80;

/// Longest description within a message, in bytes. All of it fits a status message.
const NAMED_WORDS: usize = 110;

/// Names the first wrong fields of several.
fn summary(violations: &[Violation]) -> String {
    let among = if violations.len() > NAMED { ", among them" } else { "" };
    let each = violations.iter().take(NAMED).map(|it| {
        let (field, words) = (short(&it.field, NAMED_FIELD), short(&it.description, NAMED_WORDS));
        format!("`{field}`: {words}")
    });
    let each: Vec<_> = each.collect();
    format!("{} fields are wrong{among}: {}", violations.len(), each.join("; "))
}

/// A text of at most `len` bytes; what was longer ends in an ellipsis.
fn short(text: &str, len: usize) -> Cow<'_, str> {
    if text.len() <= len {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(len - '…'.len_utf8())]))
}

/// What is wrong with one value, before anybody knows which field it stands in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{description}")]
pub struct Wrong {
    /// The rule that was broken.
    pub rule: Rule,
    /// The rule and its bound in words.
    pub description: String,
}

impl Wrong {
    /// A broken rule and its description.
    pub fn new(rule: Rule, description: impl Into<String>) -> Self {
        Self { rule, description: description.into() }
    }
}

/// A refused request: everything that the caller is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refusal {
    /// The stable reason; implies the code.
    pub reason: Reason,
    /// One sentence for a person.
    pub message: String,
    /// Wrong fields (only with [`Reason::FieldsInvalid`]).
    pub violations: Vec<Violation>,
    /// The resource that is missing or in the way: its type and name.
    pub resource: Option<(&'static str, String)>,
    /// When a repeat makes sense.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal without further facts.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            violations: Vec::new(),
            resource: None,
            retry_after: None,
        }
    }

    /// Wrong fields, all at once.
    pub fn fields(violations: Vec<Violation>) -> Self {
        let message = match violations.as_slice() {
            [one] => format!("{}: {}", one.field, one.description),
            many => summary(many),
        };
        Self { violations, ..Self::new(Reason::FieldsInvalid, message) }
    }

    /// One wrong field.
    pub fn field(field: impl Into<String>, rule: Rule, description: impl Into<String>) -> Self {
        Self::fields(vec![Violation { field: field.into(), rule, description: description.into() }])
    }

    /// A resource that is not there. `kind` is the word of the vocabulary, as in `tenant`.
    pub fn not_found(kind: &'static str, name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            resource: Some((kind, name.clone())),
            ..Self::new(Reason::ResourceNotFound, format!("{kind} {name} does not exist"))
        }
    }

    /// A resource that is in the way.
    pub fn exists(kind: &'static str, name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            resource: Some((kind, name.clone())),
            ..Self::new(Reason::ResourceExists, format!("{kind} {name} exists already"))
        }
    }

    /// Adds which resource it is about. `kind` is the word of the vocabulary, as in `tenant`.
    pub fn about(self, kind: &'static str, name: impl fmt::Display) -> Self {
        Self { resource: Some((kind, name.to_string())), ..self }
    }

    /// Adds when to repeat.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The gRPC code of the reason.
    pub fn code(&self) -> Code {
        self.reason.code()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &[(&str, &str)]) -> String {
        let mut wrong = Violations::new();
        for (field, words) in fields {
            wrong.add(*field, Rule::Malformed, words);
        }
        wrong.finish().unwrap_err().message
    }

    #[test]
    fn a_message_names_the_first_wrong_fields() {
        let (a, b, c, d) = (("a", "1"), ("b.x", "2"), ("c", "3"), ("d", "4"));
        assert_eq!(message(&[a]), "a: 1");
        assert_eq!(message(&[a, b]), "2 fields are wrong: `a`: 1; `b.x`: 2");
        assert_eq!(message(&[a, b, c]), "3 fields are wrong: `a`: 1; `b.x`: 2; `c`: 3");
        let four = "4 fields are wrong, among them: `a`: 1; `b.x`: 2; `c`: 3";
        assert_eq!(message(&[a, b, c, d]), four);
    }

    #[test]
    fn a_message_about_long_fields_is_bounded() {
        let long = "é".repeat(400);
        let text = message(&[(&long, &long), ("b", &long), ("c", &long), ("d", &long)]);
        assert!(text.len() < 640, "{}", text.len());
        assert!(text.contains("…; `b`: é") && text.contains("…; `c`: é"), "{text}");
    }
}
