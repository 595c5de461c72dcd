//! Receivers: what subscriptions and callbacks have in common.
//!
//! A receiver is a URL of a tenant's that is POSTed to. It has headers that go along, a way in which
//! Pregón identifies itself, a contract that has a say in all three, and keys of its own. It comes
//! into being with its first key, its place in the tenant's count and that among its contract's
//! users in one commit, and goes with its keys in one.
//!
//! Every write is here once, for both kinds: `create`, `update`, `delete`, and the moves of `state`.
//! [`Receiver`] says what a kind has of its own. Each field is parsed by itself first (`edit`). Then
//! URL, headers and auth are held against each other and against the contract ([`Endpoint`]), so
//! that a change of the contract can ask the same question of everybody under it.

pub(crate) use create::Creation;
pub(crate) use delete::Deletion;
pub(crate) use endpoint::Identity;
pub(crate) use handlers::{handlers, shows};
pub(crate) use headers::shown_headers;
pub(crate) use kind::{Move, Receiver, Shows, to_wire};
pub(crate) use read::Filter;
pub(crate) use state::Moving;
pub(crate) use update::Update;

mod auth;
mod create;
mod delete;
mod edit;
mod endpoint;
mod handlers;
mod headers;
mod hints;
mod kind;
mod read;
mod state;
mod update;
