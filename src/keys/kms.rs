//! Who opens the master keys that a key file has wrapped: a key-management service (KMS).
//!
//! The key file then holds no key, and whoever copies it has none: a process asks the KMS to open its
//! lines, at its start and when the file changes, and keeps what it got in memory alone. There are two
//! ways: [`NoKms`] takes the file as it is, and [`Transit`] asks the transit engine of a Vault or an
//! OpenBao. What goes wrong is one of the [`trouble::Trouble`]s, each with what an operator can do about it.

mod exchange;
#[cfg(test)]
pub mod testing;
mod transit;
pub(super) mod trouble;

use async_trait::async_trait;
use pregon_core::seal::WrappedKey;
use pregon_core::secret::SecretBytes;

pub use exchange::Address;
pub use transit::{Transit, TransitOptions};
pub use trouble::KmsFault;

/// Opens wrapped keys.
#[async_trait]
pub trait Kms: Send + Sync {
    /// What is in a wrapped key. It is kept in memory by whoever asks, and nowhere else.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened now.
    async fn open(&self, wrapped: &WrappedKey) -> Result<SecretBytes, KmsFault>;
}

/// No KMS is named: the key file is taken as it is.
pub struct NoKms;

#[async_trait]
impl Kms for NoKms {
    async fn open(&self, _: &WrappedKey) -> Result<SecretBytes, KmsFault> {
        Err(KmsFault::Unnamed)
    }
}
