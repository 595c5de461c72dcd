//! What a server can promise, read once at the start.
//!
//! A level of durability is a promise to publishers, so it is checked against what the server
//! does, not against what its operator meant: whoever asks for a level that the server cannot give
//! is told so at the start, and not when events are gone. What it evicts would be lost silently;
//! such a server is refused whatever the level.

use std::collections::HashMap;
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use crate::intake::Durability;
use crate::redis::RedisOptions;
use crate::redis::engine::fault::OpenError;
use crate::redis::engine::fault::{Fault, Result};
use crate::redis::engine::link::Link;
use crate::redis::engine::sure::Confirm;
use crate::redis::engine::value;

/// A server that syncs once a second cannot confirm so many writes, one after the other, each
/// within [`SOON`].
const PROBES: usize = 3;
/// See [`PROBES`].
const SOON: Duration = Duration::from_millis(250);
/// Oldest Redis, and oldest Valkey, that have the commands and script flags used here.
const REDIS_MIN: Version = Version(7, 0);
const VALKEY_MIN: Version = Version(7, 2);
/// The first of either that can wait for its disk.
const WAITAOF_MIN: Version = Version(7, 2);

/// Major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::redis) struct Version(u32, u32);

/// How often the append-only file is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::redis) enum Sync {
    /// There is no such file.
    Off,
    /// Before each reply.
    Always,
    /// Each second.
    EverySecond,
    /// When the system likes.
    Never,
    /// There is a file; the server does not tell.
    Untold,
}

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) struct Facts {
    valkey: bool,
    version: Version,
    primary: bool,
    cluster: bool,
    policy: String,
    max_memory: u64,
    sync: Sync,
    /// It does not sync while its file is rewritten.
    pauses: bool,
    replicas: u32,
}

/// What acknowledged writes survive, and what is to be done for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) struct Promise {
    /// The level that publishers are told.
    pub durability: Durability,
    /// The server's limit in bytes; none: it has none.
    pub max_memory: Option<u64>,
    /// What a write waits for.
    pub confirm: Confirm,
}

impl Promise {
    /// Reads what the server is, and refuses one that cannot keep the promise.
    pub async fn read(link: &Link, options: &RedisOptions) -> std::result::Result<Self, OpenError> {
        let facts = match Facts::read(link).await {
            Ok(facts) => facts,
            // What speaks TLS, or is no Redis at all, cannot be read.
            Err(fault @ (Fault::Silent(_) | Fault::Corrupt(_))) => {
                let why = link.why().await.map(OpenError::Unreachable);
                return Err(why.unwrap_or_else(|| OpenError::from_fault(fault)));
            }
            Err(fault) => return Err(OpenError::from_fault(fault)),
        };
        let promise = facts.promise(options.durability, options.replicas)?;
        if promise.confirm == Confirm::Disk {
            let early = confirms_early(link).await.map_err(OpenError::from_fault)?;
            facts.is_believed(early)?;
        }
        tracing::info!(
            server = facts.name(),
            durability = %promise.durability,
            power_cut = facts.power_cut(promise.durability),
            "connected to Redis"
        );
        Ok(promise)
    }
}

impl Facts {
    async fn read(link: &Link) -> Result<Self> {
        let info = value::text(link.query(&redis::cmd("INFO")).await?)?;
        // Managed services forbid it; then these things are not known.
        let sync = told(link, "appendfsync").await;
        let pauses = told(link, "no-appendfsync-on-rewrite").await;
        let facts = Self::parse(&info, sync.as_deref());
        Ok(Self { pauses: pauses.as_deref() == Some("yes"), ..facts })
    }

    fn parse(info: &str, sync: Option<&str>) -> Self {
        let lines: HashMap<&str, &str> =
            info.lines().filter_map(|line| line.trim().split_once(':')).collect();
        let says = |name: &str| lines.get(name).copied().unwrap_or_default();
        let valkey = says("server_name") == "valkey";
        let version = says(if valkey { "valkey_version" } else { "redis_version" });
        let online = |slot: &u32| says(&format!("slave{slot}")).contains("state=online");
        let slots = says("connected_slaves").parse().unwrap_or(0);
        Self {
            valkey,
            version: Version::parse(version),
            primary: says("role") != "slave",
            cluster: says("cluster_enabled") == "1",
            policy: says("maxmemory_policy").to_owned(),
            max_memory: says("maxmemory").parse().unwrap_or(0),
            sync: match (says("aof_enabled"), sync) {
                ("1", Some("always")) => Sync::Always,
                ("1", Some("everysec")) => Sync::EverySecond,
                ("1", Some("no")) => Sync::Never,
                ("1", _) => Sync::Untold,
                (_, _) => Sync::Off,
            },
            pauses: false,
            replicas: u32::try_from((0..slots).filter(online).count()).unwrap_or(0),
        }
    }

    fn name(&self) -> String {
        let name = if self.valkey { "Valkey" } else { "Redis" };
        format!("{name} {}.{}", self.version.0, self.version.1)
    }

    /// What this server promises at that level, or why it cannot.
    fn promise(
        &self,
        durability: Durability,
        replicas: u32,
    ) -> std::result::Result<Promise, OpenError> {
        self.is_usable()?;
        let confirm = match durability {
            Durability::Memory => Confirm::Nothing,
            Durability::Fsync => self.can_sync()?,
            Durability::Replicated if replicas == 0 => {
                return refuse("--replicas", "must be 1 or more with --durability replicated");
            }
            Durability::Replicated if self.replicas < replicas => {
                let here = self.replicas;
                let rule = format!(
                    "replicated wants {replicas} connected replicas (--replicas), but the server \
                     has {here}"
                );
                return refuse("--durability", rule);
            }
            Durability::Replicated => Confirm::Replicas(replicas),
        };
        let max_memory = (self.max_memory > 0).then_some(self.max_memory);
        Ok(Promise { durability, max_memory, confirm })
    }

    fn is_usable(&self) -> std::result::Result<(), OpenError> {
        let least = if self.valkey { VALKEY_MIN } else { REDIS_MIN };
        let name = self.name();
        if self.version < least {
            let Version(major, minor) = least;
            return refuse(
                "--redis-url",
                format!("the server is {name}, and must be {major}.{minor} or later"),
            );
        }
        if self.cluster {
            return refuse(
                "--redis-url",
                format!("the server is a node of a cluster; name a single {name}"),
            );
        }
        if !self.primary {
            return refuse("--redis-url", "the server is a replica; name its primary");
        }
        match self.policy.as_str() {
            "noeviction" => Ok(()),
            // A service that does not tell: it says so when it is full, or it loses events.
            "" => {
                tracing::warn!("the server does not tell its maxmemory-policy: see to noeviction");
                Ok(())
            }
            policy => refuse(
                "--redis-url",
                format!(
                    "the server's maxmemory-policy is {policy}, which drops events when memory is \
                     short; it must be noeviction"
                ),
            ),
        }
    }

    fn can_sync(&self) -> std::result::Result<Confirm, OpenError> {
        match self.sync {
            Sync::Always | Sync::EverySecond | Sync::Never if self.pauses => refuse(
                "--durability",
                "fsync wants no-appendfsync-on-rewrite no: with yes, nothing is synced while the \
                 file is rewritten",
            ),
            Sync::Always => Ok(Confirm::Nothing),
            Sync::Off => {
                refuse("--durability", "fsync wants appendonly yes, and the server has no")
            }
            Sync::Never => refuse(
                "--durability",
                "fsync wants appendfsync always or everysec: with no, nobody can tell when a write \
                 is on disk",
            ),
            Sync::EverySecond | Sync::Untold if self.version >= WAITAOF_MIN => Ok(Confirm::Disk),
            Sync::EverySecond => refuse(
                "--durability",
                format!("fsync wants appendfsync always on {} (7.2 can wait)", self.name()),
            ),
            Sync::Untold => refuse(
                "--durability",
                format!(
                    "fsync wants appendfsync always on {}, and the server does not tell: CONFIG \
                     GET is refused",
                    self.name()
                ),
            ),
        }
    }

    /// Whether a confirmation of the disk is to be believed, which came early or did not. Valkey up
    /// to 9.1 at least confirms with everysec before the file is synced; with always it needs no
    /// confirmation, and where it does not tell which of the two it has, early may be either.
    fn is_believed(&self, early: bool) -> std::result::Result<(), OpenError> {
        let name = self.name();
        match self.sync {
            _ if !early => Ok(()),
            Sync::Untold if !self.valkey => Ok(()),
            Sync::Untold => refuse(
                "--durability",
                format!(
                    "fsync wants appendfsync always on {name}, and the server does not tell: \
                     CONFIG GET is refused"
                ),
            ),
            Sync::Off | Sync::Always | Sync::EverySecond | Sync::Never => refuse(
                "--durability",
                format!(
                    "fsync wants appendfsync always on {name}: with everysec it confirms writes \
                     before they are on disk"
                ),
            ),
        }
    }

    /// What is gone when the power of the server's machine is cut.
    fn power_cut(&self, durability: Durability) -> &'static str {
        match (durability, self.sync) {
            (Durability::Fsync, _) | (_, Sync::Always) => "loses nothing acknowledged",
            (Durability::Replicated, _) => "loses nothing acknowledged while a replica goes on",
            (Durability::Memory, Sync::Off) => "loses all since the last snapshot, if there is one",
            (Durability::Memory, Sync::EverySecond) => "loses a second, at most two",
            (Durability::Memory, Sync::Never) => "loses what the system had not written: 30 s",
            (Durability::Memory, Sync::Untold) => "loses what appendfsync left: it is not told",
        }
    }
}

impl Version {
    /// From `7.0.15`; what cannot be read is older than all.
    fn parse(text: &str) -> Self {
        let mut numbers = text.split('.').map(|part| part.parse().unwrap_or(0));
        Self(numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

/// A setting of the server, if it tells.
async fn told(link: &Link, name: &str) -> Option<String> {
    let mut config = redis::cmd("CONFIG");
    config.arg("GET").arg(name);
    let value = match link.query(&config).await.ok()? {
        Value::Array(pair) => pair.into_iter().nth(1),
        Value::Map(pairs) => pairs.into_iter().next().map(|(_, value)| value),
        _ => None,
    };
    value::text(value?).ok()
}

/// Whether the server confirms writes sooner than a disk that is synced once a second can.
async fn confirms_early(link: &Link) -> Result<bool> {
    for _ in 0..PROBES {
        let began = Instant::now();
        Confirm::Disk.all(link, &[]).await?;
        if began.elapsed() > SOON {
            return Ok(false);
        }
    }
    Ok(true)
}

fn refuse<T>(setting: &'static str, rule: impl Into<String>) -> std::result::Result<T, OpenError> {
    Err(OpenError::Setting { setting, rule: rule.into() })
}

#[cfg(test)]
mod tests;
