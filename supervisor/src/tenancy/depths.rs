//! How many deliveries were ready in each tenant's queue when the broker was last asked.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jatis_shared::ids::TenantId;

/// The latest depths. One task writes them (`cli::serve`), views and metrics read.
#[derive(Debug, Default)]
pub struct Depths {
    ready: Mutex<HashMap<TenantId, u64>>,
}

impl Depths {
    /// Deliveries ready for a tenant; `None` while the broker has not told.
    #[must_use]
    pub fn get(&self, tenant: TenantId) -> Option<u64> {
        self.lock().get(&tenant).copied()
    }

    /// Takes these for all that is known.
    pub fn replace(&self, depths: impl IntoIterator<Item = (TenantId, u64)>) {
        *self.lock() = depths.into_iter().collect();
    }

    /// Forgets a deleted tenant.
    pub fn forget(&self, tenant: TenantId) {
        self.lock().remove(&tenant);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, u64>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
