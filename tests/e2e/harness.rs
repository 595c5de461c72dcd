//! What every story uses: processes that end with the test, grpcurl, a receiver, a publisher, and
//! waiting with a bound.

pub mod collector;
pub mod golden;
pub mod grpcurl;
pub mod issuer;
pub mod load;
pub mod nginx;
pub mod planes;
pub mod poll;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod receiver;
pub mod redis;
pub mod shop;
pub mod standalone;
pub mod switch;
pub mod telling;
pub mod tls;
pub mod vault;
pub mod verifier;
pub mod watcher;
pub mod world;

pub use collector::Collector;
pub use grpcurl::Grpcurl;
pub use planes::Planes;
pub use poll::eventually;
pub use receiver::{Answer, Receiver, Request};
pub use shop::Shop;
pub use standalone::Standalone;
pub use telling::{Caller, Env};
pub use world::World;

use std::path::PathBuf;

/// The top of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A program that `scripts/tools.sh` installs, by its path below `.tools`.
///
/// # Panics
///
/// When it is not there.
pub fn tool(name: &str) -> PathBuf {
    let path = root().join(".tools").join(name);
    assert!(path.exists(), "{} is not there: run scripts/tools.sh first", path.display());
    path
}
