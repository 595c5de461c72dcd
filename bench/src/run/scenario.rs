//! What is measured.

mod all;

use std::net::SocketAddr;

use clap::ValueEnum;

use super::RunArgs;
use crate::load::{Ids, Mode};

pub use all::ALL;

/// Attempts that are in flight at most to one subscription, as every scenario leaves it.
const SLOTS: u32 = 64;
/// The most data in a call in batch mode: half of what a server takes.
const BATCH_BYTES: u32 = 2 * 1024 * 1024;

/// One way to publish and to receive.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name on the command line and in JSON.
    pub key: &'static str,
    /// Its name in the table.
    pub title: &'static str,
    /// By which RPC events are published.
    pub mode: Mode,
    /// Callers, or streams.
    pub concurrency: u16,
    /// Connections of the callers.
    pub connections: u16,
    /// Events per second; flat out when absent.
    pub rate: Option<u32>,
    /// Deliveries of a scenario without a rate, in percent of --events.
    pub share: u64,
    /// Bytes of data of each event; as --size says when absent.
    pub data: Option<u32>,
    /// Tenants, which events go round; each has the same subscriptions.
    pub tenants: u16,
    /// Subscriptions that match each event.
    pub fan_out: u64,
    /// How their receivers are.
    pub receiver: Receiver,
    /// Whether connections are opened and lanes grown before. If not, the subscriptions are a
    /// second old when the first event comes.
    pub warm_up: bool,
    /// Beside them, one whose receiver never answers.
    pub hanging: bool,
    /// Who names the events.
    pub ids: Ids,
    /// What they are kept in.
    pub store: Store,
    /// What leaves for a collector.
    pub telemetry: Telemetry,
    /// Measured only when asked for by name.
    pub optional: bool,
}

/// What events are kept in, and so what is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// `pregon standalone`, with more arguments.
    Embedded(&'static [&'static str]),
    /// A Redis of the scenario's own with a control plane and nodes.
    Redis {
        /// How often it syncs its append-only file.
        sync: Sync,
        /// Nodes; publishers are spread over them.
        nodes: u16,
    },
}

/// How receivers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Milliseconds from a request to its answer.
    pub delay_ms: u16,
    /// Hosts that subscriptions are spread over; connections are kept for each.
    pub hosts: u8,
    /// What they answer.
    pub answers: Answers,
    /// Whether they want https.
    pub tls: bool,
}

/// What receivers answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// 200.
    Good,
    /// 500 to the first request with each tenth event, else 200; what failed is due a second later.
    Retried,
    /// 503 until some seconds after all events are published, then 200; what failed is due a second
    /// later.
    ///
    /// Measured is the backlog: deliveries per second from the moment that the receiver is up until
    /// the last one arrives, and what was used from that moment on. The second between two attempts
    /// does not hold that up where there is more to deliver than a second's worth.
    Down,
}

/// What the server tells a collector, which runs on the same cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telemetry {
    /// Nothing; there is no collector.
    Off,
    /// Metrics, 1 % of all traces, and attempts of those and whatever failed.
    Sampled,
    /// The same, and every attempt.
    Attempts,
}

/// Redis's `appendfsync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Each second: durability `memory`.
    EverySecond,
    /// Before each reply: durability `fsync`.
    Always,
}

/// Which kind of store is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// `pregon standalone`.
    Embedded,
    /// A control plane and nodes over Redis.
    Redis,
}

/// How much of it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Times that everything is measured.
    pub rounds: u32,
    /// Deliveries of a flat-out scenario whose share is 100 %.
    pub events: u64,
    /// Seconds of a scenario with a rate.
    pub seconds: f64,
    /// Seconds of each measurement of the ceiling.
    pub ceiling_seconds: f64,
    /// Events before the measurement, that open connections and let lanes grow.
    pub warm_up: u64,
    /// Bytes of data of each event.
    pub data: u32,
}

impl Size {
    /// As much as the arguments say.
    pub fn of(args: &RunArgs) -> Self {
        let usual = match args.quick {
            true => Self {
                rounds: 1,
                events: 2000,
                seconds: 2.0,
                ceiling_seconds: 0.3,
                warm_up: 200,
                data: args.size,
            },
            false => Self {
                rounds: 3,
                events: 100_000,
                seconds: 20.0,
                ceiling_seconds: 2.0,
                warm_up: 2000,
                data: args.size,
            },
        };
        Self {
            rounds: args.rounds.unwrap_or(usual.rounds),
            events: args.events.unwrap_or(usual.events),
            seconds: args.seconds.unwrap_or(usual.seconds),
            ..usual
        }
    }
}

impl Scenario {
    /// How much of this one is measured.
    pub fn size(&self, size: &Size) -> Size {
        // Lanes grow with each answer, so a few events for each are enough.
        let warm_up = (size.warm_up / self.fan_out).max(size.warm_up / 10);
        Size {
            events: (size.events * self.share / 100 / self.fan_out).max(1),
            warm_up: (warm_up * self.share.clamp(10, 100) / 100).max(1),
            data: self.data.unwrap_or(size.data),
            ..*size
        }
    }

    /// Route of a tenant's subscription at the sink: no two of one tenant have the same, so that no
    /// event comes to a route twice.
    pub fn route(&self, tenant: u16, subscription: u64) -> u64 {
        (u64::from(tenant) * self.fan_out + subscription)
            % self.fan_out.max(self.receiver.hosts.into())
    }

    /// The host that a route is on, counted from the sink's first.
    pub fn host(&self, route: u64) -> u8 {
        u8::try_from(route % u64::from(self.receiver.hosts)).unwrap_or(0)
    }

    /// Deliveries per second that its slots allow, where receivers take their time.
    pub fn slots_allow(&self) -> Option<f64> {
        let lanes = u64::from(self.tenants) * self.fan_out;
        let slots = f64::from(SLOTS) * lanes as f64;
        (self.receiver.delay_ms > 0).then(|| slots * 1000.0 / f64::from(self.receiver.delay_ms))
    }

    /// Whether its deliveries are tried again by a schedule of the benchmark's own.
    pub fn retries(&self) -> bool {
        match self.receiver.answers {
            Answers::Good => false,
            Answers::Retried | Answers::Down => true,
        }
    }
}

impl Answers {
    /// The first request with each event whose number this divides is refused under `Retried`.
    pub const REFUSE_EVERY: u64 = 10;
}

impl Size {
    /// Events of this size in a call in batch mode.
    pub fn batch(&self) -> u32 {
        (BATCH_BYTES / self.data.max(1)).clamp(1, 100)
    }
}

impl Receiver {
    /// At once, with 200, in clear.
    pub const FAST: Self = Self { delay_ms: 0, hosts: 1, answers: Answers::Good, tls: false };
}

impl Store {
    /// Of which kind it is.
    pub fn kind(self) -> StoreKind {
        match self {
            Store::Embedded(_) => StoreKind::Embedded,
            Store::Redis { .. } => StoreKind::Redis,
        }
    }
}

impl Telemetry {
    /// The server's environment, where a collector listens at `address`.
    pub fn environment(self, address: SocketAddr) -> Vec<(&'static str, String)> {
        let attempts = match self {
            Telemetry::Off => return Vec::new(),
            Telemetry::Sampled => "sampled",
            Telemetry::Attempts => "all",
        };
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}")),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio".to_owned()),
            ("OTEL_TRACES_SAMPLER_ARG", "0.01".to_owned()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "5000".to_owned()),
            ("PREGON_OTEL_ATTEMPTS", attempts.to_owned()),
        ]
    }
}

impl Sync {
    /// As Redis is told.
    pub fn word(self) -> &'static str {
        match self {
            Sync::EverySecond => "everysec",
            Sync::Always => "always",
        }
    }

    /// The level of durability that Pregón can promise with it.
    pub fn durability(self) -> &'static str {
        match self {
            Sync::EverySecond => "memory",
            Sync::Always => "fsync",
        }
    }
}

impl Mode {
    /// Its name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Unary => "unary",
            Mode::Batch => "batch",
            Mode::Stream => "stream",
        }
    }
}

impl Ids {
    /// Its name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Ids::Given => "given",
            Ids::Assigned => "assigned",
        }
    }
}
