//! Metrics that are read when they are exported: of the process, and of telemetry itself.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::{Entry, label};
use crate::pipe::{Loss, Signal, Tallies};

/// What this module registers.
pub(super) const READ: &[Entry] = &[DROPPED, EXPORTED, QUEUE, CPU_TIME, MEMORY];

const DROPPED: Entry = Entry {
    name: "pregon.telemetry.dropped",
    kind: "counter",
    unit: "{item}",
    labels: &["signal", "reason"],
    help: "Spans, log records and metric exports that were dropped.",
};
const EXPORTED: Entry = Entry {
    name: "pregon.telemetry.exported",
    kind: "counter",
    unit: "{item}",
    labels: &["signal"],
    help: "Spans, log records and metric exports that the collector took.",
};
const QUEUE: Entry = Entry {
    name: "pregon.telemetry.queue",
    kind: "gauge",
    unit: "{item}",
    labels: &["signal"],
    help: "Spans and log records that wait to be exported.",
};
const CPU_TIME: Entry = Entry {
    name: "process.cpu.time",
    kind: "counter",
    unit: "s",
    labels: &[],
    help: "Processor time that this process used.",
};
const MEMORY: Entry = Entry {
    name: "process.memory.usage",
    kind: "gauge",
    unit: "By",
    labels: &[],
    help: "Memory of this process that is resident.",
};

/// Registers them; the meter's provider keeps them.
pub(crate) fn observe(meter: &Meter, tallies: &Arc<Tallies>) {
    let read = Arc::clone(tallies);
    let _ = meter
        .u64_observable_counter(DROPPED.name)
        .with_unit(DROPPED.unit)
        .with_description(DROPPED.help)
        .with_callback(move |to| {
            for (signal, tally) in read.each() {
                for why in Loss::ALL {
                    let labels = [of(signal), label("reason", why.word())];
                    to.observe(tally.dropped(*why), &labels);
                }
            }
        })
        .build();
    let read = Arc::clone(tallies);
    let _ = meter
        .u64_observable_counter(EXPORTED.name)
        .with_unit(EXPORTED.unit)
        .with_description(EXPORTED.help)
        .with_callback(move |to| {
            for (signal, tally) in read.each() {
                to.observe(tally.exported(), &[of(signal)]);
            }
        })
        .build();
    let read = Arc::clone(tallies);
    let _ = meter
        .u64_observable_gauge(QUEUE.name)
        .with_unit(QUEUE.unit)
        .with_description(QUEUE.help)
        .with_callback(move |to| {
            for (signal, tally) in read.each().filter(|(it, _)| *it != Signal::Metrics) {
                to.observe(tally.queued(), &[of(signal)]);
            }
        })
        .build();
    let _ = meter
        .f64_observable_counter(CPU_TIME.name)
        .with_unit(CPU_TIME.unit)
        .with_description(CPU_TIME.help)
        .with_callback(|to| to.observe(cpu_seconds(), &[]))
        .build();
    let _ = meter
        .u64_observable_gauge(MEMORY.name)
        .with_unit(MEMORY.unit)
        .with_description(MEMORY.help)
        .with_callback(|to| {
            if let Some(bytes) = resident_bytes() {
                to.observe(bytes, &[]);
            }
        })
        .build();
}

fn of(signal: Signal) -> KeyValue {
    label("signal", signal.word())
}

/// Processor time of this process, in user and system mode.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    // Both are exact as doubles for some hundred million years.
    #[allow(clippy::cast_precision_loss)]
    let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    seconds
}

/// Resident memory, where the system says it (`/proc`, Linux).
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}
