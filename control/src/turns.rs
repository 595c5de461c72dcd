//! Turns among the writes of a tenant within one process.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use pregon_core::id::TenantId;
use tokio::sync::{Mutex, MutexGuard};

/// Turns that can be had at the same time, each for some of the tenants.
const TURNS: usize = 64;

/// Who changes a tenant's children just now, in this process.
#[derive(Debug)]
pub(crate) struct Turns(Vec<Mutex<()>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..TURNS).map(|_| Mutex::new(())).collect())
    }
}

impl Turns {
    /// Waits for a tenant's turn, which ends with the guard.
    pub(crate) async fn take(&self, tenant: &TenantId) -> MutexGuard<'_, ()> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(tenant);
        let index = usize::try_from(hash % TURNS as u64).unwrap_or(0);
        self.0[index].lock().await
    }
}
