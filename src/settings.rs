//! The settings of a process, as a table with reasons.
//!
//! Each can be given as a flag or by its environment variable; the flag wins. They are taken as
//! text first and read all together, so that every wrong one is reported at once. Nothing reads
//! the environment after the start.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use pregon_rpc::server::Listen;

use crate::keys::kms::TransitOptions;

/// Where `pregon standalone` listens: loopback, where it needs neither TLS nor tokens.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);

use audit::AuditArgs;
pub use control::{ControlArgs, ControlSettings};
pub use dataplane::{DataplaneArgs, DataplaneSettings};
pub use init::{InitArgs, InitSettings};
use kms::KMS_ADDRESS;
pub use kms::KmsArgs;
pub use listen::ListenArgs;
pub use node::{Node, NodeArgs};
pub use policy::{Policy, PolicyArgs};
pub use pools::PoolLine;

mod audit;
mod control;
mod dataplane;
mod init;
mod kms;
mod listen;
mod node;
mod policy;
mod pools;
mod redis;

/// Settings of `pregon standalone`, as text.
#[derive(Args, Clone, Debug)]
pub struct StandaloneArgs {
    /// Where gRPC is served: both planes.
    #[command(flatten)]
    listen: ListenArgs,

    /// Directory of the store: events, configuration, and the master key unless one is given.
    ///
    /// One process at a time may use it.
    #[arg(long, env = "PREGON_DATA_DIR", default_value = "pregon-data", value_name = "DIR")]
    data_dir: PathBuf,

    /// Keep everything in memory and nothing on disk.
    ///
    /// For trials and tests: all is gone with the process.
    #[arg(long, env = "PREGON_IN_MEMORY")]
    in_memory: bool,

    /// What an acknowledged publish survives: `fsync` a power cut, `memory` the process's end.
    ///
    /// fsync, because an acknowledged event must never be lost; writes are committed in groups, so
    /// it costs little under load.
    #[arg(long, env = "PREGON_DURABILITY", default_value = "fsync", value_name = "LEVEL")]
    durability: String,

    /// File with the keys that seal secrets: 32 bytes each, in hex or base64 or wrapped by a KMS,
    /// one a line, the current one first.
    ///
    /// Without it, a key is made in the data directory: whoever reads the directory can read the
    /// secrets. Keep the file elsewhere where that matters.
    #[arg(long, env = "PREGON_MASTER_KEY_FILE", value_name = "FILE")]
    master_key_file: Option<PathBuf>,

    #[command(flatten)]
    kms: KmsArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    node: NodeArgs,

    /// How long finished events are kept for reading and replay, 1h to 365d.
    #[arg(long, env = "PREGON_HISTORY_AGE", default_value = "7d", value_name = "DURATION")]
    history_age: String,

    /// How long events with a failed delivery are kept, 1h to 365d.
    ///
    /// 30d: somebody may still want to replay them.
    #[arg(long, env = "PREGON_HISTORY_FAILED_AGE", default_value = "30d", value_name = "DURATION")]
    history_failed_age: String,

    /// How many finished events are kept at most, 1000 to 1000000000.
    ///
    /// Ten million of 500 bytes take about 8 GB of disk.
    #[arg(long, env = "PREGON_HISTORY_EVENTS", default_value = "10000000", value_name = "N")]
    history_events: String,

    #[command(flatten)]
    audit: AuditArgs,
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongSetting {
    /// The flag.
    pub flag: &'static str,
    /// The rule it broke.
    pub rule: String,
}

impl fmt::Display for WrongSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.flag, self.rule)
    }
}

/// What a publish must survive, as far as this engine can promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// On disk before the reply.
    Fsync,
    /// The operating system has it before the reply.
    Memory,
}

/// Settings of `pregon standalone`, read.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where gRPC is served, and what guards it.
    pub listen: Listen,
    /// The store's directory; none: in memory.
    pub data_dir: Option<PathBuf>,
    /// What a publish survives.
    pub durability: Level,
    /// File with the master keys.
    pub master_key_file: Option<PathBuf>,
    /// Who opens those of them that are wrapped.
    pub kms: Option<TransitOptions>,
    /// Which receivers there may be, and how large an event.
    pub policy: Policy,
    /// The node.
    pub node: Node,
    /// How long finished events are kept.
    pub history_age: Duration,
    /// How long events with a failed delivery are kept.
    pub history_failed_age: Duration,
    /// How many finished events are kept.
    pub history_events: u64,
    /// How long entries of the audit log are kept.
    pub audit_retention: Duration,
    /// What leaves for a collector.
    pub telemetry: pregon_telemetry::Settings,
}

impl StandaloneArgs {
    /// The settings of the demo: a store in `directory`, receivers on loopback, and otherwise the
    /// defaults.
    ///
    /// # Errors
    ///
    /// None, as the tests see to.
    pub fn for_demo(listen: SocketAddr, directory: &Path) -> Result<Settings, Vec<WrongSetting>> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: StandaloneArgs,
        }
        let line = ["pregon", "--allow-egress", "127.0.0.0/8"];
        let args = match <Line as clap::Parser>::try_parse_from(line) {
            Ok(line) => line.args,
            Err(error) => {
                return Err(vec![WrongSetting { flag: "environment", rule: error.to_string() }]);
            }
        };
        let mut settings = args.read()?;
        settings.listen = Listen::open(listen);
        settings.data_dir = Some(directory.to_owned());
        Ok(settings)
    }

    /// Reads all settings, or reports every wrong one.
    ///
    /// # Errors
    ///
    /// All settings that cannot be used.
    pub fn read(self) -> Result<Settings, Vec<WrongSetting>> {
        let mut wrong = Wrongs::default();
        let settings = Settings {
            listen: self.listen.read(LISTEN, true, &mut wrong),
            data_dir: (!self.in_memory).then_some(self.data_dir),
            durability: match self.durability.as_str() {
                "fsync" => Level::Fsync,
                "memory" => Level::Memory,
                _ => wrong.add("--durability", "must be fsync or memory", Level::Fsync),
            },
            master_key_file: self
                .master_key_file
                .inspect(|path| wrong.master_key(path, self.kms.is_given())),
            kms: self.kms.read(&mut wrong),
            policy: self.policy.read(&mut wrong),
            node: self.node.read(&mut wrong),
            history_age: wrong.duration("--history-age", &self.history_age, 3600, 365 * 86_400),
            history_failed_age: wrong.duration(
                "--history-failed-age",
                &self.history_failed_age,
                3600,
                365 * 86_400,
            ),
            history_events: wrong.number(
                "--history-events",
                &self.history_events,
                1000,
                1_000_000_000,
            ) as u64,
            audit_retention: self.audit.read(&mut wrong),
            telemetry: wrong.telemetry(),
        };
        wrong.or(settings)
    }
}

/// Collects wrong settings; each reader gives a stand-in so that reading goes on.
#[derive(Default)]
struct Wrongs(Vec<WrongSetting>);

impl Wrongs {
    /// The settings, if nothing is wrong with them.
    fn or<T>(self, settings: T) -> Result<T, Vec<WrongSetting>> {
        if self.0.is_empty() { Ok(settings) } else { Err(self.0) }
    }

    fn add<T>(&mut self, flag: &'static str, rule: impl fmt::Display, stand_in: T) -> T {
        self.0.push(WrongSetting { flag, rule: rule.to_string() });
        stand_in
    }

    /// The standard variables of OpenTelemetry, which are no flags.
    fn telemetry(&mut self) -> pregon_telemetry::Settings {
        pregon_telemetry::Settings::read(|name| std::env::var(name).ok()).unwrap_or_else(|rules| {
            for rule in rules {
                self.add("environment", rule, ());
            }
            pregon_telemetry::Settings::default()
        })
    }

    /// A file that is read later: whether it is there and may be read is said with everything else.
    fn readable(&mut self, flag: &'static str, path: &Path) {
        if let Err(error) = std::fs::File::open(path) {
            self.add(flag, format_args!("cannot read {}: {error}", path.display()), ());
        }
    }

    /// The same of the master keys, contents included; `kms`: whether somebody is named who opens them.
    fn master_key(&mut self, path: &Path, kms: bool) {
        match crate::keys::read(path) {
            Ok(given) if !kms => {
                if let Some(place) = crate::keys::first_wrapped(&given) {
                    let path = path.display();
                    let rule =
                        format_args!("must be set: key {place} of {path} is wrapped by a KMS");
                    self.add(KMS_ADDRESS, rule, ());
                }
            }
            Ok(_) => {}
            Err(error) => {
                let rule = format_args!("cannot read {}: {error:#}", path.display());
                self.add("--master-key-file", rule, ());
            }
        }
    }

    fn take<E>(
        &mut self,
        flag: &'static str,
        parsed: Result<SocketAddr, E>,
        rule: &str,
    ) -> SocketAddr {
        parsed.unwrap_or_else(|_| self.add(flag, rule, SocketAddr::from(([127, 0, 0, 1], 0))))
    }

    fn number(&mut self, flag: &'static str, text: &str, least: usize, most: usize) -> usize {
        match text.parse::<usize>() {
            Ok(number) if (least..=most).contains(&number) => number,
            _ => self.add(flag, format!("must be a whole number from {least} to {most}"), least),
        }
    }

    fn duration(&mut self, flag: &'static str, text: &str, least: u64, most: u64) -> Duration {
        match parse_duration(text) {
            Some(length) if (least..=most).contains(&length.as_secs()) => length,
            _ => {
                let rule =
                    format!("must be a duration from {least}s to {most}s, as in 20s, 5m, 2h or 7d");
                self.add(flag, rule, Duration::from_secs(least))
            }
        }
    }

    /// Items of a list, each in the form that its type has.
    fn list<T: FromStr>(&mut self, flag: &'static str, texts: &[String]) -> Vec<T>
    where
        T::Err: fmt::Display,
    {
        let mut items = Vec::with_capacity(texts.len());
        for text in texts {
            match text.trim().parse() {
                Ok(item) => items.push(item),
                Err(rule) => self.add(flag, format!("{text:?} {rule}"), ()),
            }
        }
        items
    }

    fn user_agent(&mut self, given: Option<String>) -> String {
        let text =
            given.unwrap_or_else(|| concat!("Pregon/", env!("CARGO_PKG_VERSION")).to_owned());
        if (1..=256).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            text
        } else {
            self.add("--user-agent", "must be 1 to 256 visible ASCII characters", text)
        }
    }
}

/// Reads `20s`, `5m`, `2h`, `7d` or `250ms`.
fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let seconds = match &text[digits..] {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: StandaloneArgs,
    }

    fn read(line: &[&str]) -> Result<Settings, Vec<WrongSetting>> {
        let line = std::iter::once("pregon").chain(line.iter().copied());
        Line::try_parse_from(line).unwrap().args.read()
    }

    #[test]
    fn defaults_are_usable() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.listen, Listen::open(LISTEN));
        assert_eq!(settings.node.lease, Duration::from_secs(20));
        assert!(settings.policy.addresses.allow.is_empty() && !settings.policy.allow_http);
    }

    #[test]
    fn every_wrong_setting_is_reported_at_once() {
        let wrong = read(&[
            "--listen",
            "nowhere",
            "--lease",
            "1s",
            "--durability",
            "hope",
            "--max-in-flight",
            "0",
            "--allow-egress",
            "10.0.0.0/8,loopback",
            "--egress-only",
            "*.example.com:443,https://example.com",
            "--egress-deny",
            "10.0.0.0/8:0",
            "--nat64-prefix",
            "64:ff9b::/97",
            "--egress-pools-file",
            "/nowhere/pools",
            "--dns-server",
            "9.9.9.9,127.0.0.1:5353,dns.example",
            "--node-id",
            "a b",
            "--master-key-file",
            "/nowhere/key",
            "--tokens-file",
            "/nowhere/tokens",
        ])
        .unwrap_err();
        let flags: Vec<_> = wrong.iter().map(|setting| setting.flag).collect();
        assert_eq!(
            flags,
            [
                "--listen",
                "--tokens-file",
                "--durability",
                "--master-key-file",
                "--allow-egress",
                "--nat64-prefix",
                "--egress-only",
                "--egress-deny",
                "--egress-pools-file",
                "--dns-server",
                "--max-in-flight",
                "--lease",
                "--node-id"
            ]
        );
        assert!(wrong[3].to_string().contains("cannot read /nowhere/key: "));
        assert!(wrong[11].to_string().contains("16s to 600s"));
    }

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!(parse_duration("7d"), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        for bad in ["", "5", "s", "5 m", "-5s", "5w", "99999999999999999999s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
