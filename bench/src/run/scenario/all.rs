//! All scenarios, as a table.

use super::{Answers, Receiver, Scenario, Store, Sync, Telemetry};
use crate::load::{Ids, Mode};

/// A starting point for the table below: flat out in batches to one subscription.
const BASE: Scenario = Scenario {
    key: "",
    title: "",
    mode: Mode::Batch,
    concurrency: 4,
    connections: 1,
    rate: None,
    share: 100,
    data: None,
    tenants: 1,
    fan_out: 1,
    receiver: Receiver::FAST,
    warm_up: true,
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
/// 40,000 events at once to a subscription that was made a second ago.
const COLD: Scenario = Scenario {
    title: "cold: batches to a subscription of a second ago",
    share: 40,
    warm_up: false,
    ..BASE
};
/// 20,000 events at once to a receiver that takes 20 ms: 64 slots allow 3,200/s.
const SLOW: Scenario = Scenario {
    title: "one receiver of 20 ms, batches",
    share: 20,
    receiver: Receiver { delay_ms: 20, ..Receiver::FAST },
    ..BASE
};
/// 1,000 tenants whose receivers take 50 ms; 20 subscriptions share a host.
const TENANTS: Scenario = Scenario {
    title: "1,000 tenants, receivers of 50 ms, batches",
    tenants: 1000,
    receiver: Receiver { delay_ms: 50, hosts: 50, ..Receiver::FAST },
    ..BASE
};
/// 50 receivers that take 50 ms want each event.
const FAN_OUT_50: Scenario = Scenario {
    title: "fan-out 1→50, receivers of 50 ms, batches",
    fan_out: 50,
    receiver: Receiver { delay_ms: 50, hosts: 50, ..Receiver::FAST },
    ..BASE
};
/// Each tenth event is refused once with 500 and due again a second later. The last of them come a
/// second after all others, which is in the rate.
const RETRIES: Scenario = Scenario {
    title: "10 % of answers are 500, batches",
    receiver: Receiver { answers: Answers::Retried, ..Receiver::FAST },
    ..BASE
};
/// https to a receiver with a certificate of its own. The ceiling is in clear.
const TLS: Scenario = Scenario {
    title: "https, batches",
    receiver: Receiver { tls: true, ..Receiver::FAST },
    ..BASE
};
/// Events ten times as large; the ceiling is of requests that are, too.
const BIG_5K: Scenario =
    Scenario { title: "5 KiB of data, batches", share: 20, data: Some(5 * 1024), ..BASE };
/// Events 200 times as large, 20 a call; the ceiling is of requests that are, too.
const BIG_100K: Scenario =
    Scenario { title: "100 KiB of data, batches", share: 4, data: Some(100 * 1024), ..BASE };
/// 100,000 deliveries wait for a receiver that was down. What is measured is the backlog: see
/// [`Answers::Down`].
const DOWN_UP: Scenario = Scenario {
    title: "backlog after 503, once the receiver is up",
    receiver: Receiver { answers: Answers::Down, ..Receiver::FAST },
    ..BASE
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
    Scenario { key: "cold", ..COLD },
    Scenario { key: "slow-20ms", ..SLOW },
    Scenario { key: "tenants", ..TENANTS },
    Scenario { key: "fan-out-50", ..FAN_OUT_50 },
    Scenario { key: "down-up", ..DOWN_UP },
    Scenario { key: "retries", ..RETRIES },
    Scenario { key: "tls", ..TLS },
    Scenario { key: "big-5k", ..BIG_5K },
    Scenario { key: "big-100k", ..BIG_100K },
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
    Scenario {
        key: "redis-cold",
        title: "Redis: cold: batches to a subscription of a second ago",
        store: REDIS.store,
        ..COLD
    },
    Scenario {
        key: "redis-slow-20ms",
        title: "Redis: one receiver of 20 ms, batches",
        store: REDIS.store,
        ..SLOW
    },
    Scenario {
        key: "redis-tenants",
        title: "Redis: 1,000 tenants, receivers of 50 ms, batches",
        store: REDIS.store,
        ..TENANTS
    },
    Scenario {
        key: "redis-fan-out-50",
        title: "Redis: fan-out 1→50, receivers of 50 ms, batches",
        store: REDIS.store,
        ..FAN_OUT_50
    },
    Scenario {
        key: "redis-down-up",
        title: "Redis: backlog after 503, once the receiver is up",
        store: REDIS.store,
        ..DOWN_UP
    },
    Scenario {
        key: "redis-retries",
        title: "Redis: 10 % of answers are 500, batches",
        store: REDIS.store,
        ..RETRIES
    },
    Scenario { key: "redis-tls", title: "Redis: https, batches", store: REDIS.store, ..TLS },
    Scenario {
        key: "redis-big-5k",
        title: "Redis: 5 KiB of data, batches",
        store: REDIS.store,
        ..BIG_5K
    },
    Scenario {
        key: "redis-big-100k",
        title: "Redis: 100 KiB of data, batches",
        store: REDIS.store,
        ..BIG_100K
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
