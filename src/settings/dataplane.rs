//! The settings of `pregon dataplane`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use pregon_rpc::server::Listen;
use pregon_store::audit::AuditKept;
use pregon_store::redis::{History, RedisOptions};

use crate::keys::kms::TransitOptions;

use super::audit::AuditArgs;
use super::control::MasterKeyArgs;
use super::listen::ListenArgs;
use super::node::{Node, NodeArgs};
use super::policy::{Policy, PolicyArgs};
use super::redis::RedisArgs;
use super::{WrongSetting, Wrongs};

/// Where it listens: loopback, beside the ports of standalone and of control planes.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7072);
/// The longest that anything is kept.
const YEAR: u64 = 365 * 86_400;

/// Settings of `pregon dataplane`, as text.
#[derive(Args, Clone, Debug)]
pub struct DataplaneArgs {
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    redis: RedisArgs,
    #[command(flatten)]
    master_key: MasterKeyArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    history: HistoryArgs,
}

/// How much history nodes leave in Redis, as text.
#[derive(Args, Clone, Debug)]
struct HistoryArgs {
    /// How long finished events are kept for reading and replay, 1h to 365d.
    ///
    /// The same for all nodes: they keep it within its bounds by turns.
    #[arg(long, env = "PREGON_HISTORY_AGE", default_value = "7d", value_name = "DURATION")]
    history_age: String,

    /// How long events with a failed delivery are kept, 1h to 365d.
    ///
    /// 30d: somebody may still want to replay them.
    #[arg(long, env = "PREGON_HISTORY_FAILED_AGE", default_value = "30d", value_name = "DURATION")]
    history_failed_age: String,

    /// How many finished events are kept at most, 0 (any number) or 1000 to 1000000000.
    ///
    /// A million of 500 bytes take about 700 MB of Redis's memory.
    #[arg(long, env = "PREGON_HISTORY_EVENTS", default_value = "1000000", value_name = "N")]
    history_events: String,

    #[command(flatten)]
    audit: AuditArgs,
}

/// Settings of `pregon dataplane`, read.
#[derive(Clone, Debug)]
pub struct DataplaneSettings {
    /// Where gRPC is served.
    pub listen: Listen,
    /// Its Redis.
    pub redis: RedisOptions,
    /// File with the master keys.
    pub master_key_file: PathBuf,
    /// Who opens those of them that are wrapped.
    pub kms: Option<TransitOptions>,
    /// What both planes must agree on.
    pub policy: Policy,
    /// The node.
    pub node: Node,
    /// What leaves for a collector.
    pub telemetry: pregon_telemetry::Settings,
}

impl DataplaneArgs {
    /// Reads all settings, or reports every wrong one.
    ///
    /// # Errors
    ///
    /// All settings that cannot be used.
    pub fn read(self) -> Result<DataplaneSettings, Vec<WrongSetting>> {
        let mut wrong = Wrongs::default();
        let redis = self.redis.read(&mut wrong);
        let listen = self.listen.read(LISTEN, false, &mut wrong);
        let history = self.history.read(&mut wrong);
        let (master_key_file, kms) = self.master_key.read(&mut wrong);
        let settings = DataplaneSettings {
            listen,
            redis: RedisOptions { history, janitor: true, ..redis },
            master_key_file,
            kms,
            policy: self.policy.read(&mut wrong),
            node: self.node.read(&mut wrong),
            telemetry: wrong.telemetry(),
        };
        wrong.or(settings)
    }
}

impl HistoryArgs {
    fn read(self, wrong: &mut Wrongs) -> History {
        let events = match self.history_events.as_str() {
            "0" => 0,
            text => wrong.number("--history-events", text, 1000, 1_000_000_000),
        };
        History {
            max_age: wrong.duration("--history-age", &self.history_age, 3600, YEAR),
            failed_age: wrong.duration(
                "--history-failed-age",
                &self.history_failed_age,
                3600,
                YEAR,
            ),
            max_events: events as u64,
            audit: AuditKept { age: self.audit.read(wrong), ..AuditKept::default() },
        }
    }
}
