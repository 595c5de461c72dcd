//! The control plane: what platform teams call to say how events travel, and to ask what became
//! of them.
//!
//! One file per gRPC service, and every handler is parse, call, map. What subscriptions and callbacks
//! have in common is in one place (`receiver`). A handler parses the whole request first and reports
//! every wrong field at once. A write reads what it depends on, decides, and
//! commits with what it read as preconditions: where somebody else was faster, the commit does not
//! happen and the handler reads and decides again (`commit`). So a refusal always tells of a
//! state that was really there, and no write is lost or made on stale grounds.
//!
//! What must hold of a set rather than of one document (how many subscriptions a tenant has, which
//! secrets a subscription has) is guarded by one document per tenant (`family`), and who uses a
//! contract by one per contract (`contracts`). Pausing, disabling and deleting write configuration
//! only: nodes follow it and act on what waits.
//!
//! Nothing here opens a connection to a receiver, and nothing here ever prints a key.

mod api_keys;
mod assign;
mod audit;
mod callbacks;
mod catalog;
mod commit;
mod contracts;
mod deliveries;
mod egress;
mod etag;
mod event_types;
mod family;
mod filters;
mod given;
mod heads;
mod lanes;
mod listing;
mod lookup;
mod make;
mod map;
mod mask;
mod master_keys;
mod nodes;
mod options;
mod parse;
mod reach;
mod receiver;
mod remains;
mod repeat;
mod secrets;
mod sensitive;
mod service;
mod services;
mod subscriptions;
mod tenants;
mod turns;
mod watches;

pub use api_keys::ApiKeys;
pub use audit::AuditLogs;
pub use callbacks::Callbacks;
pub use contracts::Contracts;
pub use deliveries::Deliveries;
pub use egress::EgressPools;
pub use event_types::EventTypes;
pub use master_keys::MasterKeys;
pub use nodes::Nodes;
pub use options::{Control, ControlOptions};
pub use secrets::Secrets;
pub use services::Services;
pub use subscriptions::Subscriptions;
pub use tenants::Tenants;
