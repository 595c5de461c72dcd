//! Headers of a receiver's own, as they are stored.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Headers of a subscription or a callback, in the order in which they go out.
pub type OwnHeaders = Vec<(String, HeaderText)>;

/// The value of a header: text, or `{"sealed": …}` where it is a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HeaderText {
    /// As it goes out.
    Plain(String),
    /// A credential.
    Sealed {
        /// The value under the master key, bound by [`HeaderText::binding`]; base64.
        sealed: String,
    },
}

impl HeaderText {
    /// What the sealed value of this header of this resource is bound to: it opens under this and
    /// no other.
    pub fn binding(resource: &impl fmt::Display, header: &str) -> String {
        format!("{resource}/headers/{}", header.to_ascii_lowercase())
    }
}

impl From<&str> for HeaderText {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}
