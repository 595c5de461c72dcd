//! Why a request came to no response.

use std::borrow::Cow;
use std::time::Duration;

use pregon_core::outcome::ErrorClass;

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it failed.
    pub class: ErrorClass,
    /// A few words for people. Never of the URL's path or query, the headers or a body.
    pub detail: Cow<'static, str>,
    /// How long no other request to that receiver can fare better, where that is known.
    pub again: Option<Duration>,
}

impl Fault {
    pub(crate) fn new(class: ErrorClass, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { class, detail: detail.into(), again: None }
    }
}
