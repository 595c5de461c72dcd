//! What every gRPC server of Pregón needs, once.
//!
//! A call passes, from the outside in: the [`server::Listener`] (which addresses may be bound, how
//! many connections), tonic's HTTP/2 (streams, frames, headers, keepalive), one [`call`] layer
//! (load shedding, deadline, panic, revision, log; authentication goes there), then the handler.
//! A handler parses with [`time`] and [`page`], answers `Result<_, Refusal>`, and [`status::status`]
//! says the refusal in `google.rpc` details. [`server::Server`] adds reflection and [`health`] and
//! drains.

pub mod call;
pub mod health;
pub mod method;
pub mod page;
pub mod revision;
pub mod server;
pub mod status;
pub mod time;

/// The size that every service of ours gives to `max_decoding_message_size`. tonic answers a
/// larger message with OUT_OF_RANGE.
pub const MESSAGE_LEN: usize = pregon_core::limits::MESSAGE_LEN;
