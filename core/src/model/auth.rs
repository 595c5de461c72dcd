//! Who Pregón is to a receiver, and who the receiver is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::words;

/// How Pregón identifies itself to a receiver, beside signatures. What must not be shown is sealed
/// under the master key, with the resource's name and `/auth` behind it as associated data; base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// `authorization: Bearer <token>`
    Bearer {
        /// The token, sealed.
        token: String,
    },
    /// `authorization: Basic <username:password>`
    Basic {
        /// User name, without a colon.
        username: String,
        /// The password, sealed.
        password: String,
    },
    /// A key in a header of the receiver's choice.
    ApiKey {
        /// The header's name, in lower case.
        header: String,
        /// The header's value, sealed.
        value: String,
    },
    /// `authorization: Bearer <token>`, with a token that is fetched as OAuth 2.0 client credentials.
    Oauth2 {
        /// Where it is fetched; equals its WHATWG form.
        token_url: String,
        /// The client's identifier.
        client_id: String,
        /// The client's secret, sealed.
        client_secret: String,
        /// Scopes asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        scopes: Vec<String>,
        /// Audience asked for; empty: none.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        audience: String,
        /// How the client identifies itself there.
        style: Oauth2Style,
    },
    /// A certificate, shown in the TLS handshake.
    Mtls {
        /// The certificate and those behind it: PEM as [`crate::tls::Chain`] reads it.
        certificate: String,
        /// Its key, sealed; PEM.
        key: String,
        /// Until when the certificate is valid.
        not_after: Timestamp,
    },
}

words! {
    /// How a client identifies itself to a token endpoint.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    Oauth2Style {
        /// In the `authorization` header.
        Basic = "BASIC",
        /// In the form.
        Post = "POST",
    }
}

impl Auth {
    /// Whether there is none; for `serde`.
    pub fn is_none(&self) -> bool {
        *self == Auth::None
    }

    /// What sealed credentials of this resource are bound to: they open under this and no other.
    pub fn binding(resource: &impl fmt::Display) -> String {
        format!("{resource}/auth")
    }
}

/// By which certificates a receiver is believed to be itself; by default by those that the public
/// roots and the deployment's own vouch for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// Roots of the receiver's own, in place of those: PEM as [`crate::tls::roots`] reads it; empty:
    /// none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ca_pem: String,
    /// Certificates of its own, by their SHA-256 as [`crate::tls::Pin`] reads it; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pinned: Vec<String>,
}

impl Trust {
    /// Whether nothing is said: the public roots and the deployment's hold; for `serde`.
    pub fn is_public(&self) -> bool {
        self.ca_pem.is_empty() && self.pinned.is_empty()
    }
}
