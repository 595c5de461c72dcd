//! What is measured.

use std::net::SocketAddr;

use clap::ValueEnum;

use super::RunArgs;
use crate::load::{Ids, Mode};

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
    /// Subscriptions that match each event.
    pub fan_out: u64,
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
    /// Events of a flat-out scenario, over all its subscriptions.
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

/// A starting point for the table below: flat out in batches to one subscription.
const BASE: Scenario = Scenario {
    key: "",
    title: "",
    mode: Mode::Batch,
    concurrency: 4,
    connections: 1,
    rate: None,
    fan_out: 1,
    hanging: false,
    ids: Ids::Given,
    store: Store::Embedded(&[]),
    telemetry: Telemetry::Off,
    optional: false,
};
/// The same while a collector is told of it.
const TOLD: Scenario = Scenario { telemetry: Telemetry::Sampled, optional: true, ..BASE };
/// The same over Redis, which syncs every second, and one node.
const REDIS: Scenario =
    Scenario { store: Store::Redis { sync: Sync::EverySecond, nodes: 1 }, ..BASE };
/// Over Redis that syncs before each reply.
const ALWAYS: Scenario = Scenario { store: Store::Redis { sync: Sync::Always, nodes: 1 }, ..BASE };
/// One event a call, from many callers.
const UNARY: Scenario = Scenario { mode: Mode::Unary, concurrency: 64, connections: 4, ..BASE };
/// A few events a second, so that only waiting counts.
const FEW: Scenario = Scenario { rate: Some(200), connections: 1, ..UNARY };

/// All scenarios, in the order in which they are measured.
pub const ALL: &[Scenario] = &[
    Scenario { key: "batch", title: "batches of 100, 4 callers", ..BASE },
    Scenario {
        key: "stream",
        title: "2 streams",
        mode: Mode::Stream,
        concurrency: 2,
        connections: 2,
        ..BASE
    },
    Scenario { key: "unary", title: "unary, 64 callers", ..UNARY },
    Scenario { key: "fan-out", title: "fan-out 1→10, batches", fan_out: 10, ..BASE },
    Scenario { key: "rate", title: "1,000 events/s, unary", rate: Some(1000), ..UNARY },
    Scenario { key: "alone", title: "200 events/s, healthy receiver alone", ..FEW },
    Scenario {
        key: "beside",
        title: "200 events/s, beside one that never answers",
        hanging: true,
        ..FEW
    },
    Scenario {
        key: "unsynced",
        title: "batches of 100, durability `memory`",
        store: Store::Embedded(&["--durability", "memory"]),
        optional: true,
        ..BASE
    },
    Scenario {
        key: "memory",
        title: "batches of 100, store in memory",
        store: Store::Embedded(&["--in-memory"]),
        optional: true,
        ..BASE
    },
    Scenario { key: "batch-told", title: "batches, telemetry at 1 %", ..TOLD },
    Scenario {
        key: "batch-told-all",
        title: "batches, telemetry at 1 % and every attempt",
        telemetry: Telemetry::Attempts,
        ..TOLD
    },
    Scenario {
        key: "unary-told",
        title: "unary, telemetry at 1 %",
        telemetry: Telemetry::Sampled,
        optional: true,
        ..UNARY
    },
    Scenario { key: "redis-batch", title: "Redis: batches of 100, 4 callers", ..REDIS },
    Scenario {
        key: "redis-assigned",
        title: "Redis: the same, ids assigned",
        ids: Ids::Assigned,
        ..REDIS
    },
    Scenario {
        key: "redis-stream",
        title: "Redis: 2 streams",
        mode: Mode::Stream,
        concurrency: 2,
        connections: 2,
        ..REDIS
    },
    Scenario { key: "redis-unary", title: "Redis: unary, 64 callers", store: REDIS.store, ..UNARY },
    Scenario {
        key: "redis-fan-out", title: "Redis: fan-out 1→10, batches", fan_out: 10, ..REDIS
    },
    Scenario {
        key: "redis-two-nodes",
        title: "Redis: two nodes, batches of 100, 4 callers",
        store: Store::Redis { sync: Sync::EverySecond, nodes: 2 },
        connections: 2,
        ..REDIS
    },
    Scenario {
        key: "redis-rate",
        title: "Redis: 1,000 events/s, unary",
        rate: Some(1000),
        store: REDIS.store,
        ..UNARY
    },
    Scenario {
        key: "redis-alone",
        title: "Redis: 200 events/s, healthy receiver alone",
        store: REDIS.store,
        ..FEW
    },
    Scenario {
        key: "redis-beside",
        title: "Redis: 200 events/s, beside one that never answers",
        hanging: true,
        store: REDIS.store,
        ..FEW
    },
    Scenario { key: "redis-always", title: "Redis `always`: batches of 100, 4 callers", ..ALWAYS },
    Scenario {
        key: "redis-always-unary",
        title: "Redis `always`: unary, 64 callers",
        store: ALWAYS.store,
        ..UNARY
    },
    Scenario {
        key: "redis-always-two-nodes",
        title: "Redis `always`: two nodes, batches of 100, 4 callers",
        store: Store::Redis { sync: Sync::Always, nodes: 2 },
        connections: 2,
        ..ALWAYS
    },
    Scenario {
        key: "redis-always-rate",
        title: "Redis `always`: 1,000 events/s, unary",
        rate: Some(1000),
        store: ALWAYS.store,
        ..UNARY
    },
];

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
