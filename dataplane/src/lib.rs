//! Pregón's data plane: publish, claim, match, render, sign, POST, settle.
//!
//! A node is stateless. It reads its configuration into a [`snapshot`], takes events in by
//! [`publish`], and its [`worker`] claims them under leases and delivers them through [`egress`],
//! the one way out, which is also that of questions to callbacks ([`check`]) and of what receivers
//! are asked before events go to them (`verify`). [`plane`] puts one together. All nodes are alike; any may be killed at any
//! moment.

pub mod check;
pub mod egress;
mod gauges;
pub mod node;
mod oauth;
mod outbound;
pub mod plane;
pub mod publish;
pub mod snapshot;
#[cfg(test)]
mod testing;
mod verify;
pub mod worker;
