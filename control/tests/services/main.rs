//! The services over the embedded engine in memory, called through their tonic traits.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod api_keys;
mod approval;
mod audit;
mod auth;
mod callbacks;
mod callers;
mod catalogue;
mod contract_users;
mod contracts;
mod creation;
mod deliveries;
mod egress;
mod environments;
mod erasing;
mod event_types;
mod explain;
mod explain_cost;
mod extends;
mod headers;
mod health;
mod identity;
mod input;
mod jwks;
mod nodes;
mod pages;
mod pairs;
mod pools;
mod previews;
mod races;
mod receivers;
mod repeats;
mod replays;
mod secrets;
mod sensitive;
mod server;
mod subscriptions;
mod tenants;
mod test_sends;
mod trust;
mod verification;
mod watch;
mod world;
