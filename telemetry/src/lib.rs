//! What Pregón tells of itself, and how that leaves: spans, metrics and records of attempts, by
//! OTLP to an OpenTelemetry collector.
//!
//! Telemetry serves whoever runs Pregón and may never cost them an event. So whoever tells
//! something never waits: spans and records go into bounded queues ([`pipe`]), and what does not
//! fit is dropped and counted. One task a signal exports what is there ([`export`]); a collector
//! that is slow, gone, or refuses costs its data and nothing else.
//!
//! - **Spans** are written down when they are over, from what the work knows anyway; nothing is
//!   allocated for a trace that is not recorded. Whether it is, the head of the trace decides
//!   ([`sampler`]); attempts that failed are kept whatever it decided. Ids that several processes
//!   must agree on follow from the delivery (`pregon_core::trace`).
//! - **Metrics** are one struct ([`metrics`]) whose names, units, labels and help stand in one
//!   table, held against a golden file. Deliveries and events are counted from settlements that
//!   the store took, so that the counters agree with the books.
//! - **Records of attempts** are log records with everything that a history of years needs, but
//!   no bodies and no secrets. **Entries of the audit log** are log records too, without what
//!   resources were and became.
//!
//! This is the only crate that names OpenTelemetry. There are no process-wide statics: every node
//! of a process may have telemetry of its own.

mod attempt;
mod audit;
mod envelope;
mod export;
mod handle;
pub mod metrics;
mod otlp;
mod pipe;
mod record;
mod sampler;
pub mod settings;
mod span;
mod start;

pub use attempt::AttemptSeen;
pub use handle::Telemetry;
pub use settings::Settings;
pub use span::{Kind, Span, Value};
pub use start::{Identity, Running, StartError, start};
