//! Why a request cannot be made.

use std::borrow::Cow;
use std::sync::Arc;

use crate::{form, limits};

/// Largest body, in bytes: twice the largest event data. A template can repeat the data.
pub const BODY_LEN: usize = 2 * limits::EVENT_DATA_MAX;

/// Longest text of the parameters of one request, percent-encoded, in bytes: with the longest path
/// it stays within what common HTTP servers take as a request's line, 8 KiB.
pub const QUERY_LEN: usize = 4 * 1024;

/// Why a request could not be made; the delivery fails as RENDER_FAILED. Names and sources are the
/// contract's; no event data is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The contract requires a signature, and no key is active at the attempt's time.
    #[error("no active secret")]
    NoActiveSecret,
    /// A signature cannot be made: the library does not take the key, or failed.
    #[error("the signature {name} cannot be made with its key")]
    Unsigned {
        /// The signature.
        name: Box<str>,
    },
    /// A header's value came out as something that cannot be a header's value.
    #[error("header {name} cannot hold its value")]
    HeaderValue {
        /// The header.
        name: Arc<str>,
    },
    /// An expression of a template has no value that fits its place.
    #[error("${{{source_text}}}: {reason}")]
    Value {
        /// The expression.
        source_text: Box<str>,
        /// Why.
        reason: Cow<'static, str>,
    },
    /// A member's name occurs twice, once of them spliced in or added by a signature.
    #[error("member {name} occurs twice in one object")]
    NameTwice {
        /// The name, where it is the contract's.
        name: Box<str>,
    },
    /// A signature's place is not there.
    #[error("the body has no object to hold the signature {name}")]
    NoPlace {
        /// The signature.
        name: Box<str>,
    },
    /// The body has no list for several events.
    #[error("the body has no list at the place that batch.list names")]
    NoList,
    /// The body is larger than [`BODY_LEN`].
    #[error("the body is larger than {BODY_LEN} bytes")]
    TooLarge,
    /// The parameters of the URL are longer than [`QUERY_LEN`].
    #[error("the URL's parameters are longer than {QUERY_LEN} bytes")]
    QueryTooLong,
    /// The body cannot be sent as a form.
    #[error("the body cannot be sent as a form: {0}")]
    Form(#[from] form::FormError),
}

impl RenderError {
    /// A signature of this name cannot be made.
    pub(super) fn unsigned(name: &str) -> Self {
        RenderError::Unsigned { name: shown(name) }
    }
}

/// A name of the contract, cut where it is long.
pub(super) fn shown(name: &str) -> Box<str> {
    name.chars().take(64).collect::<String>().into()
}
