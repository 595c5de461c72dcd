//! What is measured.

use super::RunArgs;
use crate::load::Mode;

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
    /// More arguments for the server.
    pub server_args: &'static [&'static str],
    /// Measured only when asked for by name.
    pub optional: bool,
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
    server_args: &[],
    optional: false,
};

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
    Scenario {
        key: "unary",
        title: "unary, 64 callers",
        mode: Mode::Unary,
        concurrency: 64,
        connections: 4,
        ..BASE
    },
    Scenario { key: "fan-out", title: "fan-out 1→10, batches", fan_out: 10, ..BASE },
    Scenario {
        key: "rate",
        title: "1,000 events/s, unary",
        mode: Mode::Unary,
        concurrency: 64,
        connections: 4,
        rate: Some(1000),
        ..BASE
    },
    Scenario {
        key: "alone",
        title: "200 events/s, healthy receiver alone",
        mode: Mode::Unary,
        concurrency: 64,
        rate: Some(200),
        ..BASE
    },
    Scenario {
        key: "beside",
        title: "200 events/s, beside one that never answers",
        mode: Mode::Unary,
        concurrency: 64,
        rate: Some(200),
        hanging: true,
        ..BASE
    },
    Scenario {
        key: "unsynced",
        title: "batches of 100, durability `memory`",
        server_args: &["--durability", "memory"],
        optional: true,
        ..BASE
    },
    Scenario {
        key: "memory",
        title: "batches of 100, store in memory",
        server_args: &["--in-memory"],
        optional: true,
        ..BASE
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
