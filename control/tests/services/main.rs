//! The services over the embedded engine in memory, called through their tonic traits.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod callers;
mod deliveries;
mod event_types;
mod input;
mod nodes;
mod races;
mod repeats;
mod replays;
mod secrets;
mod server;
mod subscriptions;
mod tenants;
mod world;
