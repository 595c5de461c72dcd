//! Pregón's data plane: publish, claim, match, render, sign, POST, settle.
//!
//! A node is stateless. It reads its configuration into a [`snapshot`], takes events in by
//! [`publish`], and delivers them through [`egress`], the one way out. All nodes are alike; any
//! may be killed at any moment.

pub mod egress;
pub mod publish;
pub mod snapshot;
