//! What both planes must agree on: which receivers there may be, and how large an event.

use clap::Args;
use pregon_core::limits;
use pregon_core::url::AddressPolicy;

use super::Wrongs;

/// These settings, as text.
#[derive(Args, Clone, Debug)]
pub struct PolicyArgs {
    /// Addresses that receivers may have although they are not public, as CIDR; may be repeated.
    ///
    /// None, because a subscription's URL must not reach into the platform's own network.
    #[arg(long, env = "PREGON_ALLOW_EGRESS", value_name = "CIDR", value_delimiter = ',')]
    allow_egress: Vec<String>,

    /// Allow http:// receivers.
    ///
    /// Off, because what is delivered travels in clear.
    #[arg(long, env = "PREGON_ALLOW_HTTP")]
    allow_http: bool,

    /// Bytes of an event's data at most, 1 to 1048576.
    ///
    /// 256 KiB: receivers' servers commonly refuse a body above a megabyte, and a node holds
    /// hundreds in memory.
    #[arg(long, env = "PREGON_MAX_EVENT_BYTES", default_value = "262144", value_name = "BYTES")]
    max_event_bytes: String,

    /// `User-Agent` of requests whose contract names none.
    #[arg(long, env = "PREGON_USER_AGENT", value_name = "TEXT")]
    user_agent: Option<String>,
}

/// These settings, read.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Which addresses may be dialled.
    pub addresses: AddressPolicy,
    /// http:// receivers.
    pub allow_http: bool,
    /// Bytes of an event's data.
    pub max_event_bytes: usize,
    /// `User-Agent` of requests whose contract names none.
    pub user_agent: String,
}

impl PolicyArgs {
    pub(super) fn read(self, wrong: &mut Wrongs) -> Policy {
        Policy {
            addresses: wrong.addresses("--allow-egress", &self.allow_egress),
            allow_http: self.allow_http,
            max_event_bytes: wrong.number(
                "--max-event-bytes",
                &self.max_event_bytes,
                1,
                limits::EVENT_DATA_MAX,
            ),
            user_agent: wrong.user_agent(self.user_agent),
        }
    }
}
