//! What a tenant may use.

use serde::{Deserialize, Serialize};

use crate::limits;

/// What a tenant may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantLimits {
    /// Subscriptions it may have.
    pub max_subscriptions: u32,
    /// Events a second it may publish; 0: no limit.
    #[serde(default)]
    pub publish_per_second: u32,
    /// Attempts a second that may start for it, over all nodes; 0: no limit.
    #[serde(default)]
    pub attempts_per_second: u32,
    /// Events that are not matched yet and deliveries that have not ended, at most.
    pub max_pending: u32,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self {
            max_subscriptions: limits::SUBSCRIPTIONS_DEFAULT,
            publish_per_second: 0,
            attempts_per_second: 0,
            max_pending: limits::PENDING_DEFAULT,
        }
    }
}
