//! What every gRPC server of Pregón needs, once.
//!
//! A call passes, from the outside in: the [`server::Listener`] (which addresses may be bound, how
//! many connections, TLS), tonic's HTTP/2 (streams, frames, headers, keepalive), one [`call`] layer
//! (load shedding, who may call what by the [`access`] table, deadline, panic, revision, log, [`audit`]), then
//! the handler. A handler learns its [`caller`], parses with [`time`] and [`page`], answers `Result<_, Refusal>`, and [`status::status`]
//! says the refusal in `google.rpc` details. [`server::Server`] adds reflection and [`health`] and
//! drains.

pub mod access;
mod arriving;
pub mod audit;
mod auth;
pub mod call;
pub mod caller;
pub mod files;
mod hash;
pub mod health;
pub mod keys;
pub mod method;
pub mod object;
pub mod page;
pub mod portal;
mod rate;
pub mod revision;
mod routes;
pub mod server;
mod share;
pub mod status;
pub mod time;
mod tls;
pub mod tokens;
mod unsent;

/// The size that every service of ours gives to `max_decoding_message_size`. A larger message is
/// answered with RESOURCE_EXHAUSTED.
pub const MESSAGE_LEN: usize = pregon_core::limits::MESSAGE_LEN;
