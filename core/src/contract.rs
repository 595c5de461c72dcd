//! To come.

pub mod condition;
pub mod retry;
