//! Pregón's data plane: publish, claim, match, render, sign, POST, settle.
//!
//! A node is stateless. It reads its configuration into a [`snapshot`], takes events in by
//! [`publish`], and its [`worker`] claims them under leases and delivers them through [`egress`],
//! the one way out, which is also that of questions to callbacks ([`check`]). [`plane`] puts one together. All nodes are alike; any may be killed at any
//! moment.

pub mod check;
pub mod egress;
mod gauges;
pub mod node;
mod outbound;
pub mod plane;
pub mod publish;
pub mod snapshot;
#[cfg(test)]
mod testing;
pub mod worker;
