//! API keys: credentials that are made by API and kept with the configuration.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Common;
use crate::clock::Timestamp;
use crate::event::Environment;
use crate::id::{ApiKeyId, TenantId};

/// A credential of a caller: `apiKeys/{k}`.
///
/// The document holds no secret: a key's secret part is 256 random bits, of which only the SHA-256
/// is kept. There is nothing to guess, so the hash needs no salt and no slowness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Common fields.
    #[serde(flatten)]
    pub common: Common,
    /// The word of its role, as `pregon_rpc::caller::Role` knows it. A word that a reader does not
    /// know makes the key useless there.
    pub role: String,
    /// The only tenants that it may touch; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<BTreeSet<TenantId>>,
    /// Patterns of the only event types that it may publish; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<String>,
    /// The only environment that it reaches; none: both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// What it may use in each process.
    #[serde(default)]
    pub limits: ApiKeyLimits,
    /// Its secrets, the newest last.
    pub secrets: Vec<ApiKeySecret>,
    /// When it stops being valid; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<Timestamp>,
    /// From when it is revoked; none: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke_time: Option<Timestamp>,
    /// It was revoked, whatever a reader's clock says of `revoke_time`.
    #[serde(default)]
    pub revoked: bool,
    /// Who made it.
    #[serde(default)]
    pub creator: String,
    /// Under whose name it uses calls and connections, which callers share out; empty: its own.
    #[serde(default)]
    pub share: String,
}

/// What an API key may use, in each process. 0: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_field_names, reason = "the API calls them so")]
pub struct ApiKeyLimits {
    /// Calls a second.
    #[serde(default)]
    pub calls_per_second: u32,
    /// Published events a second.
    #[serde(default)]
    pub events_per_second: u32,
    /// Bytes of published data a second.
    #[serde(default)]
    pub bytes_per_second: u32,
}

/// One of the secrets of an API key, by its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeySecret {
    /// SHA-256 of the whole key, in 64 lower-case hex digits.
    pub sha256: String,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it stops being valid, if a rotation put another in its place; none: with the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<Timestamp>,
}

/// Whether an API key is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiKeyState {
    /// It is valid.
    Active,
    /// Its time has passed.
    Expired,
    /// It was revoked.
    Revoked,
}

impl ApiKey {
    /// Whether it is valid.
    pub fn state(&self, now: Timestamp) -> ApiKeyState {
        let past = |end: Option<Timestamp>| end.is_some_and(|end| end <= now);
        match (self.revoked || past(self.revoke_time), past(self.expire_time)) {
            (true, _) => ApiKeyState::Revoked,
            (false, true) => ApiKeyState::Expired,
            (false, false) => ApiKeyState::Active,
        }
    }

    /// When it stops being valid; none: never.
    pub fn end(&self) -> Option<Timestamp> {
        self.expire_time.into_iter().chain(self.revoke_time).min()
    }
}
