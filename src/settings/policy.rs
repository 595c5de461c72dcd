//! What both planes must agree on: which receivers there may be, and how large an event.

use std::path::PathBuf;

use clap::Args;
use pregon_core::limits;
use pregon_core::url::{AddressPolicy, EgressRules};

use super::Wrongs;
use super::pools::{self, PoolLine};

/// These settings, as text.
#[derive(Args, Clone, Debug)]
pub struct PolicyArgs {
    /// Addresses that receivers may have although they are not public, as CIDR, perhaps with ports
    /// (10.0.0.0/8:8443); may be repeated.
    ///
    /// None, because a subscription's URL must not reach into the platform's own network. Pregón's
    /// own port and Redis stay closed all the same.
    #[arg(long, env = "PREGON_ALLOW_EGRESS", value_name = "CIDR", value_delimiter = ',')]
    allow_egress: Vec<String>,

    /// Whom requests may go to and nobody else: a network (203.0.113.0/24), a host
    /// (hooks.example.com), all hosts below one (*.example.com), perhaps with ports
    /// (*.example.com:443); may be repeated.
    ///
    /// Whoever is public, if not given. It narrows and opens nothing: see --allow-egress.
    #[arg(long, env = "PREGON_EGRESS_ONLY", value_name = "RULE", value_delimiter = ',')]
    egress_only: Vec<String>,

    /// Whom requests may not go to, in the form of --egress-only; may be repeated.
    ///
    /// It goes before everything that allows.
    #[arg(long, env = "PREGON_EGRESS_DENY", value_name = "RULE", value_delimiter = ',')]
    egress_deny: Vec<String>,

    /// A NAT64 prefix of the network, of length 32, 40, 48, 56, 64 or 96; may be repeated.
    ///
    /// Addresses under it are judged by the IPv4 address inside, as those of 64:ff9b::/96 always
    /// are.
    #[arg(long, env = "PREGON_NAT64_PREFIX", value_name = "PREFIX", value_delimiter = ',')]
    nat64_prefix: Vec<String>,

    /// File with the egress pools, one a line: ways out of the network by source address or proxy.
    ///
    /// None: requests leave as the system routes, by the pool `default`.
    #[arg(long, env = "PREGON_EGRESS_POOLS_FILE", value_name = "FILE")]
    egress_pools_file: Option<PathBuf>,

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
    /// Whom requests may go to.
    pub rules: EgressRules,
    /// The egress pools.
    pub pools: Vec<PoolLine>,
    /// Bytes of an event's data.
    pub max_event_bytes: usize,
    /// `User-Agent` of requests whose contract names none.
    pub user_agent: String,
}

impl PolicyArgs {
    pub(super) fn read(self, wrong: &mut Wrongs) -> Policy {
        Policy {
            addresses: AddressPolicy {
                allow: wrong.list("--allow-egress", &self.allow_egress),
                nat64: wrong.list("--nat64-prefix", &self.nat64_prefix),
            },
            allow_http: self.allow_http,
            rules: EgressRules {
                allow: wrong.list("--egress-only", &self.egress_only),
                deny: wrong.list("--egress-deny", &self.egress_deny),
            },
            pools: self.egress_pools_file.map_or_else(Vec::new, |path| pools::read(&path, wrong)),
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
