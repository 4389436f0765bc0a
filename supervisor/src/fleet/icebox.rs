//! Where the tasks of a fleet put what they know when they stand still.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jatis_shared::ids::TenantId;
use tokio::sync::Notify;

use super::handover::Frozen;

/// What each tenant's task has put here; nothing for one without a process.
#[derive(Debug, Default)]
pub(super) struct Icebox {
    frozen: Mutex<HashMap<TenantId, Option<Frozen>>>,
    news: Notify,
}

impl Icebox {
    pub(super) fn put(&self, tenant: TenantId, frozen: Option<Frozen>) {
        self.lock().insert(tenant, frozen);
        self.news.notify_one();
    }

    /// Resolves when something has been put here since the last time.
    pub(super) async fn changed(&self) {
        self.news.notified().await;
    }

    /// Which tenants have put something here.
    pub(super) fn has(&self, tenant: TenantId) -> bool {
        self.lock().contains_key(&tenant)
    }

    /// Takes everything out.
    pub(super) fn take(&self) -> Vec<Frozen> {
        self.lock()
            .drain()
            .filter_map(|(_, frozen)| frozen)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Option<Frozen>>> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
