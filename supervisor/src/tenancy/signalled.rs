//! Sizes that somebody gave a worker by a signal, on their way into the database: what runs is what
//! is wanted, so what is wanted follows.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jatis_shared::{ids::TenantId, telemetry::Chain};
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Change, Tenancy};
use crate::{error::Error, random};

/// The sizes that are not written yet: the latest of each tenant.
#[derive(Debug, Default)]
pub struct Signalled {
    sizes: Mutex<BTreeMap<TenantId, u16>>,
    news: Notify,
}

impl Signalled {
    /// A tenant's worker has so many threads, because of a signal.
    pub fn note(&self, tenant: TenantId, threads: u16) {
        self.lock().insert(tenant, threads);
        self.news.notify_one();
    }

    /// Another size is wanted, or none any more.
    pub(super) fn forget(&self, tenant: TenantId) {
        self.lock().remove(&tenant);
    }

    fn take(&self) -> Option<(TenantId, u16)> {
        self.lock().pop_first()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TenantId, u16>> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenancy {
    /// Has what is wanted follow what signals did, until `over`.
    pub async fn follow_signals(&self, over: &CancellationToken) {
        let mut failures = 0;
        while over
            .run_until_cancelled(self.signalled.news.notified())
            .await
            .is_some()
        {
            while let Some((tenant, threads)) = self.signalled.take() {
                match over.run_until_cancelled(self.follow(tenant, threads)).await {
                    None => return,
                    Some(Ok(()) | Err(Error::TenantNotFound(_) | Error::TenantDeleting(_))) => {
                        failures = 0;
                    }
                    Some(Err(error)) => {
                        warn!(tenant.id = %tenant, error = %Chain(&error),
                            "that {tenant} has {threads} threads by a signal cannot be written down yet; trying again");
                        // Unless somebody has asked for another size meanwhile.
                        self.signalled.lock().entry(tenant).or_insert(threads);
                        let pause = self.config.worker.probe();
                        over.run_until_cancelled(sleep(pause.jittered(failures, random::dice())))
                            .await;
                        failures += 1;
                    }
                }
            }
        }
    }

    async fn follow(&self, tenant: TenantId, threads: u16) -> Result<(), Error> {
        let change = Change {
            workers: Some(threads),
            ..Change::default()
        };
        self.change(tenant, change).await.map(drop)
    }
}
