//! The traits that planes are given, by caller, and the types that they speak in.

pub mod audit;
pub mod author;
pub mod backlog;
pub mod batch;
pub mod config;
pub mod erase;
pub mod error;
pub mod intake;
pub mod lane_log;
pub mod log;
pub mod node;
pub mod operate;
pub mod rate;
pub mod settlement;
pub mod test_send;
pub mod watch;
pub mod work;
