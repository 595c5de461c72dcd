//! What one scenario came to.

use std::time::Duration;

use serde::Serialize;

use super::redis::RedisCost;
use super::scenario::{Answers, Scenario};
use super::setup::Books;
use super::usage::{Cpu, Usage, per};
use crate::clock::Moment;
use crate::load::LoadReport;
use crate::sink::SinkReport;

/// What was seen of one scenario.
#[derive(Debug)]
pub struct Seen {
    /// When the measurement began: with the load, or when the receiver was up again.
    pub start: Moment,
    /// What was used until then.
    pub before: Usage,
    /// What was used until all was settled.
    pub after: Usage,
    /// Deliveries that waited when the receiver was up again, if it had been down.
    pub waiting: Option<u64>,
    /// How publishing went.
    pub load: LoadReport,
    /// What the sink counted.
    pub sink: SinkReport,
    /// The server's own books.
    pub books: Books,
}

/// What one scenario came to.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Key of the scenario.
    pub scenario: &'static str,
    /// Which of the rounds this is, from 0.
    pub round: u32,
    /// Deliveries that every acknowledged event should have led to.
    pub expected: u64,
    /// Different deliveries that the sink received.
    pub delivered: u64,
    /// Of these, per second from the start of the measurement to the last receipt.
    pub per_second: f64,
    /// `per_second` as a share of what the slots of its lanes allow, where receivers take their time.
    pub of_slots: Option<f64>,
    /// Deliveries that waited when the receiver was up again, if it had been down. The measurement
    /// began then.
    pub waiting: Option<u64>,
    /// The mean of the ceiling before and after, in requests per second.
    pub ceiling: f64,
    /// `per_second` as a share of it.
    pub ratio: f64,
    /// CPU from the start of the measurement until everything was settled.
    pub cpu: Cpu,
    /// Share of the machine's CPU that others took meanwhile.
    pub others: f64,
    /// Growth of the store's directory, in bytes per event.
    pub stored_per_event: f64,
    /// Bytes that the server, or Redis, caused to be written to storage, per event.
    pub written_per_event: f64,
    /// The same, per delivery.
    pub written_per_delivery: f64,
    /// Most memory that the server, or control plane and nodes, held, in bytes.
    pub peak_memory: u64,
    /// What Redis spent on each event, if there is one.
    pub redis: Option<RedisCost>,
    /// How publishing went.
    pub load: LoadReport,
    /// What the sink counted.
    pub sink: SinkReport,
    /// Requests that the receiver which never answers was sent.
    pub hanging: Option<u64>,
    /// The server's own books.
    pub books: Books,
    /// Whatever did not add up.
    pub faults: Vec<String>,
}

impl Outcome {
    /// What the figures of a scenario say.
    ///
    /// # Errors
    /// When nobody can say how many cores there are.
    pub fn new(scenario: &Scenario, seen: Seen) -> anyhow::Result<Self> {
        let Seen { start, before, after, waiting, load, sink, books } = seen;
        let delivered = sink.unique();
        let per_1000 = |cpu: f64| per(cpu * 1000.0, delivered);
        let per_event = |bytes: u64| per(bytes as f64, load.acked);
        let per_second = crate::per_second(delivered, sink.last.since(start));
        let (used, then) = (&after.deployment, &before.deployment);
        let redis = before.redis.as_ref().zip(after.redis.as_ref());
        let written = used.written.saturating_sub(then.written);
        // What was published while the receiver was down was so before the measurement.
        let load_cpu = match waiting {
            None => Duration::from_secs_f64(load.cpu_seconds),
            Some(_) => Duration::ZERO,
        };
        Ok(Self {
            scenario: scenario.key,
            round: 0,
            expected: load.acked * scenario.fan_out,
            delivered,
            per_second,
            of_slots: scenario.slots_allow().map(|allowed| per_second / allowed),
            waiting,
            ceiling: 0.0,
            ratio: 0.0,
            cpu: Cpu {
                load: per_1000(load.cpu_seconds),
                server: per_1000((used.server - then.server).as_secs_f64()),
                redis: per_1000((used.redis - then.redis).as_secs_f64()),
                sink: per_1000((after.sink - before.sink).as_secs_f64()),
            },
            others: after.others_since(&before, load_cpu)?,
            stored_per_event: per_event(used.stored.saturating_sub(then.stored)),
            written_per_event: per_event(written),
            written_per_delivery: per(written as f64, delivered),
            peak_memory: 0,
            redis: redis
                .map(|(before, after)| RedisCost::between(before, after, load.acked, delivered)),
            load,
            sink,
            hanging: None,
            books,
            faults: Vec::new(),
        })
    }

    /// Says which round this was, and what the ceiling was meanwhile.
    pub fn set_ceiling(&mut self, round: u32, ceiling: f64) {
        self.round = round;
        self.ceiling = ceiling;
        self.ratio = if ceiling > 0.0 { self.per_second / ceiling } else { 0.0 };
    }

    /// Whatever did not go as it should.
    pub fn check(&mut self, warm_up: u64, scenario: &Scenario) {
        let mut faults =
            self.books.faults(warm_up + self.load.acked, scenario.fan_out, scenario.hanging);
        if self.delivered != self.expected {
            faults.push(format!("{} of {} deliveries arrived", self.delivered, self.expected));
        }
        if self.load.acked == 0 {
            faults.push("nothing was acknowledged".to_owned());
        }
        for (error, count) in &self.load.errors {
            faults.push(format!("{count} events not published: {error}"));
        }
        match scenario.receiver.answers {
            Answers::Good => {}
            Answers::Retried => {
                let should = self.load.acked.div_ceil(Answers::REFUSE_EVERY) * scenario.fan_out;
                if self.sink.refused != should {
                    faults.push(format!("{} refused once, not {should}", self.sink.refused));
                }
            }
            Answers::Down => {
                let waiting = self.waiting.unwrap_or(0);
                if waiting != self.expected || self.sink.refused == 0 {
                    let refused = self.sink.refused;
                    faults.push(format!(
                        "{waiting} of {} deliveries waited, {refused} attempts were refused",
                        self.expected
                    ));
                }
            }
        }
        self.faults = faults;
    }

    /// The outcome in a line.
    pub fn line(&self) -> String {
        let backlog = self.waiting.map(|waiting| format!("backlog of {waiting} at "));
        format!(
            "{}{:.0} deliveries/s, {:.1} % of {:.0}; received p50 {:.1} ms, p99 {:.1} ms; \
             server {:.3} CPU s per 1,000; others took {:.0} %{}",
            backlog.unwrap_or_default(),
            self.per_second,
            self.ratio * 100.0,
            self.ceiling,
            self.sink.latency.p50_us / 1000.0,
            self.sink.latency.p99_us / 1000.0,
            self.cpu.server,
            self.others * 100.0,
            if self.faults.is_empty() { "" } else { "; FAULTY" },
        )
    }
}
