//! What a node is told: its name, its way out, how much it takes on, how it goes down.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pregon_core::id::NodeId;
use pregon_core::limits;
use pregon_core::rate::{HOST_RATES_MAX, HostRate};
use pregon_dataplane::egress::NAME_SERVERS;

use super::Wrongs;

/// These settings, as text.
#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    /// PEM file with certificates that receivers may use besides those of public authorities.
    ///
    /// Authorities of your own, and certificates that receivers have signed themselves: such a one
    /// is believed for the names that it holds.
    #[arg(long, env = "PREGON_EGRESS_CA_FILE", value_name = "FILE")]
    egress_ca_file: Option<PathBuf>,

    /// Name servers that receivers' names are asked of, up to three: an address, perhaps with a port
    /// (127.0.0.1:5353); may be repeated.
    ///
    /// Those of /etc/resolv.conf, if not given. /etc/hosts comes first in any case, and names are
    /// absolute: search domains never apply.
    #[arg(long, env = "PREGON_DNS_SERVERS", value_name = "ADDR[:PORT]", value_delimiter = ',')]
    dns_server: Vec<String>,

    /// How fast requests may be sent to a host, for all subscriptions and nodes together:
    /// RULE=PER_SECOND or RULE=PER_SECOND/BURST, with a rule as of --egress-only
    /// (hooks.example.com:443=50, *.example.com=20/5, *=200); may be repeated.
    ///
    /// None, if not given. The first rule that names a host holds, for each host and port by itself.
    /// All nodes must have the same.
    #[arg(long, env = "PREGON_HOST_RATE", value_name = "RULE=N", value_delimiter = ',')]
    host_rate: Vec<String>,

    /// Attempts in flight at most, 1 to 65536.
    ///
    /// Each holds a connection. 4096 leaves hundreds of receivers that hang room beside those that
    /// answer. Where the process may open too few files for it, there are fewer, and the log says
    /// so.
    #[arg(long, env = "PREGON_MAX_IN_FLIGHT", default_value = "4096", value_name = "N")]
    max_in_flight: String,

    /// Bytes that attempts in flight hold at most, 16777216 to 68719476736.
    ///
    /// Of each the event and the body made of it, counted as twice the event. 192 MiB: with all else
    /// a process stays below 512 MiB, and 4096 attempts have 24 KiB events. With larger ones there
    /// are fewer attempts in flight.
    #[arg(
        long,
        env = "PREGON_MAX_IN_FLIGHT_BYTES",
        default_value = "201326592",
        value_name = "BYTES"
    )]
    max_in_flight_bytes: String,

    /// How long a node keeps work that it claimed without a sign of life, 16s to 10m.
    ///
    /// 20s: longer than an attempt may take, short enough for a takeover nobody minds.
    #[arg(long, env = "PREGON_LEASE", default_value = "20s", value_name = "DURATION")]
    lease: String,

    /// How long attempts under way may take to finish after SIGTERM, 0s to 10m.
    ///
    /// If not given: a second more than the longest attempt that a served contract allows, so that
    /// no attempt is cut off and made again by another node. That is 31s at most.
    #[arg(long, env = "PREGON_DRAIN_LIMIT", value_name = "DURATION")]
    drain_limit: Option<String>,

    /// After how long of nothing but failures a subscription is disabled, 1h to 90d, or never.
    ///
    /// 5d: a long weekend and two days to mend it. Its owner is told when four fifths are over. What
    /// its contract takes as the receiver's last word (410 under Standard Webhooks) disables at once.
    #[arg(long, env = "PREGON_DISABLE_AFTER", default_value = "5d", value_name = "DURATION")]
    disable_after: String,

    /// Name of this node, as it appears in NodeService and in attempts.
    ///
    /// `node-` and eight random digits if not given. No two nodes may have the same.
    #[arg(long, env = "PREGON_NODE_ID", value_name = "ID")]
    node_id: Option<String>,
}

/// These settings, read.
#[derive(Clone, Debug)]
pub struct Node {
    /// PEM of further certificate authorities.
    pub egress_ca_file: Option<PathBuf>,
    /// Name servers of its own; empty: the system's.
    pub dns_servers: Vec<SocketAddr>,
    /// How fast hosts may be sent to.
    pub host_rates: Vec<HostRate>,
    /// Attempts in flight.
    pub max_in_flight: usize,
    /// Bytes that they hold.
    pub max_in_flight_bytes: usize,
    /// How long claims last.
    pub lease: Duration,
    /// How long attempts may take to finish after SIGTERM; none: as long as any of them may take.
    pub drain_limit: Option<Duration>,
    /// After how long of nothing but failures a subscription is disabled; none: never.
    pub disable_after: Option<Duration>,
    /// Its name.
    pub id: Option<NodeId>,
}

impl NodeArgs {
    pub(super) fn read(self, wrong: &mut Wrongs) -> Node {
        if let Some(path) = &self.egress_ca_file {
            wrong.readable("--egress-ca-file", path);
        }
        Node {
            egress_ca_file: self.egress_ca_file,
            dns_servers: name_servers(&self.dns_server, wrong),
            host_rates: host_rates(&self.host_rate, wrong),
            max_in_flight: wrong.number("--max-in-flight", &self.max_in_flight, 1, 65_536),
            max_in_flight_bytes: wrong.number(
                "--max-in-flight-bytes",
                &self.max_in_flight_bytes,
                limits::IN_FLIGHT_BYTES_MIN,
                limits::IN_FLIGHT_BYTES_MAX,
            ),
            lease: wrong.duration("--lease", &self.lease, 16, 600),
            drain_limit: self.drain_limit.map(|it| wrong.duration("--drain-limit", &it, 0, 600)),
            disable_after: match self.disable_after.as_str() {
                "never" => None,
                given => Some(wrong.duration("--disable-after", given, 3600, 90 * 24 * 3600)),
            },
            id: self.node_id.and_then(|text| match NodeId::parse(&text) {
                Ok(node) => Some(node),
                Err(rule) => wrong.add("--node-id", rule, None),
            }),
        }
    }
}

fn host_rates(texts: &[String], wrong: &mut Wrongs) -> Vec<HostRate> {
    const FLAG: &str = "--host-rate";
    if texts.len() > HOST_RATES_MAX {
        wrong.add(FLAG, format_args!("must be given {HOST_RATES_MAX} times at most"), ());
    }
    wrong.list(FLAG, texts)
}

/// Where DNS is served (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

fn name_servers(texts: &[String], wrong: &mut Wrongs) -> Vec<SocketAddr> {
    const FLAG: &str = "--dns-server";
    if texts.len() > NAME_SERVERS {
        wrong.add(FLAG, format_args!("must be given {NAME_SERVERS} times at most"), ());
    }
    let mut servers = Vec::with_capacity(texts.len());
    for text in texts.iter().map(|text| text.trim()) {
        let alone = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DNS_PORT));
        match text.parse::<SocketAddr>().ok().or_else(alone).filter(|it| it.port() > 0) {
            Some(server) => servers.push(server),
            None => {
                let rule = "must be an address, perhaps with a port, as in 127.0.0.1:5353";
                wrong.add(FLAG, format_args!("{text:?} {rule}"), ());
            }
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: NodeArgs,
    }

    #[test]
    fn a_file_that_is_not_there_is_said_with_all_else() {
        let line = ["pregon", "--egress-ca-file", "/nowhere/file", "--lease", "1s"];
        let mut wrong = Wrongs::default();
        Line::try_parse_from(line).unwrap().args.read(&mut wrong);
        let flags: Vec<_> = wrong.0.iter().map(|it| it.flag).collect();
        assert_eq!(flags, ["--egress-ca-file", "--lease"]);
    }
}
