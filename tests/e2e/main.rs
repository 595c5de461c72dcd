//! Pregón end to end: real processes on loopback, driven as a user drives them.
//!
//! Each file is a story: start what it needs on port 0, act, check one thing that a user would see.
//! Conditions are waited for with a stated bound, never slept for, and nothing asserts speed; what
//! a test measures it prints. `scripts/tools.sh` installs what the stories need (grpcurl, the
//! official Standard Webhooks library of Python); `scripts/test.sh` does that and runs everything.
//!
//! `PREGON_TEST_EVENTS` says how many events the stories under load publish (10,000 by default),
//! `PREGON_TEST_SUBSCRIPTIONS` how many subscriptions the one about configuration writes (1,000).

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

mod api_keys;
mod audit;
mod bad_input;
mod bad_resources;
mod breaker;
mod canaries;
mod collector;
mod contracts;
mod crash_loop;
mod crooked;
mod dashboards;
mod deletion;
mod demo;
mod drain;
mod egress;
mod erase;
mod explain;
mod filters;
mod full;
mod greedy;
mod health;
mod identity;
mod isolation;
mod keys;
mod kill;
mod kms;
mod lateness;
mod neighbours;
mod once_more;
mod outcomes;
mod pages;
mod pause;
mod planes;
mod pools;
mod quota;
mod rates;
mod replay;
mod retries;
mod schedules;
mod settings;
mod skew;
mod starvation;
mod strangers;
mod surface;
mod telemetry;
mod transcript;
mod verify;
mod waiting;
mod watch;
mod without_server;
mod writes;
