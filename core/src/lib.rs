//! Pregón's vocabulary and pure rules.
//!
//! Everything here is a value or a total function over values: no I/O, no async, no clock and no
//! randomness of its own. What enters from outside (wall clock, random bytes, DNS answers) enters
//! as an argument, so that time and chance can be simulated.

pub mod attempt;
pub mod clock;
pub mod contract;
pub mod error;
pub mod event;
pub mod expr;
pub mod filter;
pub mod form;
pub mod header;
pub mod id;
pub mod json;
pub mod jwk;
pub mod limits;
pub mod model;
pub mod multipart;
pub mod outcome;
pub mod pattern;
pub mod pool;
pub mod rate;
pub mod rate_headers;
pub mod re2;
pub mod redact;
pub mod retry_after;
pub mod schema;
pub mod seal;
pub mod secret;
pub mod time_pattern;
pub mod tls;
pub mod trace;
pub mod url;
pub mod yaml;
