//! What is remembered of every tenant's worker: in memory for those who ask, in the database for
//! the next supervisor.
//!
//! The fleet says what has changed and never waits; a loop writes it down, the latest state of each
//! tenant, for as long as it takes. A database that is away delays that and nothing else.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jatis_shared::{ids::TenantId, retry::Backoff, telemetry::Chain};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    fleet::Memory,
    random,
    store::{
        Db, StoreError,
        runtime::{self, RuntimeRow},
    },
};

/// The memories of all tenants. At most one a tenant, so their number is bounded.
#[derive(Debug, Default)]
pub struct Memories {
    inner: Mutex<Inner>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<TenantId, Memory>,
    /// Whose latest memory is not in the database yet.
    unsaved: BTreeSet<TenantId>,
    /// Whether what earlier supervisors left has been read, in this time in charge.
    is_loaded: bool,
}

impl Memories {
    /// What is known of a tenant; nothing held against it, if nothing is.
    #[must_use]
    pub fn recall(&self, tenant: TenantId) -> Memory {
        self.lock().known.get(&tenant).cloned().unwrap_or_default()
    }

    /// Takes in the latest, to be written down soon.
    pub fn remember(&self, tenant: TenantId, memory: Memory) {
        let mut inner = self.lock();
        inner.known.insert(tenant, memory);
        inner.unsaved.insert(tenant);
        drop(inner);
        self.news.notify_one();
    }

    /// Holds nothing against a tenant any more.
    pub fn pardon(&self, tenant: TenantId) {
        self.remember(tenant, Memory::default());
    }

    /// Forgets a tenant that is no more.
    pub fn forget(&self, tenant: TenantId) {
        let mut inner = self.lock();
        inner.known.remove(&tenant);
        inner.unsaved.remove(&tenant);
    }

    /// Another supervisor may be in charge now, whose memory will count.
    pub fn unload(&self) {
        *self.lock() = Inner::default();
    }

    /// Reads what earlier supervisors left, once in a time in charge. To be done before the first
    /// worker starts.
    ///
    /// # Errors
    /// When the database is away, or holds what this version does not know.
    pub async fn load(&self, db: &Db) -> Result<(), StoreError> {
        if self.lock().is_loaded {
            return Ok(());
        }
        let rows = db.run(runtime::all).await?;
        let mut inner = self.lock();
        for row in rows {
            inner.known.entry(row.tenant).or_insert(Memory {
                crash_times: row.crash_times,
                quarantined_until: row.quarantined_until,
                quarantines: row.probe_step,
                suspects: row.suspects,
            });
        }
        inner.is_loaded = true;
        Ok(())
    }

    /// Writes down what changes, until `over`.
    pub async fn run(&self, db: &Db, pause: Backoff, over: &CancellationToken) {
        let mut failures = 0;
        while over
            .run_until_cancelled(self.news.notified())
            .await
            .is_some()
        {
            while let Some(Err(error)) = over.run_until_cancelled(self.save(db)).await {
                warn!(error = %Chain(&error), "what is remembered of workers cannot be written down yet; trying again");
                let pause = pause.jittered(failures, random::dice());
                failures += 1;
                over.run_until_cancelled(sleep(pause)).await;
            }
            failures = 0;
        }
    }

    /// Writes down, within this time, what is not in the database yet: another supervisor is about
    /// to take over, and would know less than this one.
    pub async fn save_within(&self, db: &Db, limit: Duration) {
        match timeout(limit, self.save(db)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(error = %Chain(&error), "what workers did last is not written down; the next supervisor does not know it");
            }
            Err(_elapsed) => {
                warn!(
                    "what workers did last is not written down in time; the next supervisor does not know it"
                );
            }
        }
    }

    /// Writes down what is not in the database yet; to be repeated when it failed.
    ///
    /// Cancel-safe: what may not be written yet is written again.
    async fn save(&self, db: &Db) -> Result<(), StoreError> {
        while let Some(row) = self.unsaved() {
            let written = row.clone();
            db.run(move |client| runtime::save(client, &row)).await?;
            self.saved(&written);
        }
        Ok(())
    }

    /// One that is not saved.
    fn unsaved(&self) -> Option<RuntimeRow> {
        let inner = self.lock();
        let tenant = inner.unsaved.first()?;
        Some(inner.row(*tenant))
    }

    /// It is in the database, and has nothing more to be written, unless it has changed meanwhile.
    fn saved(&self, row: &RuntimeRow) {
        let mut inner = self.lock();
        if inner.row(row.tenant) == *row {
            inner.unsaved.remove(&row.tenant);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What is known of a tenant, as it is stored.
    fn row(&self, tenant: TenantId) -> RuntimeRow {
        let memory = self.known.get(&tenant).cloned().unwrap_or_default();
        RuntimeRow {
            tenant,
            crash_times: memory.crash_times,
            quarantined_until: memory.quarantined_until,
            probe_step: memory.quarantines,
            suspects: memory.suspects,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_the_latest_of_a_tenant_is_written_down_and_nothing_of_a_forgotten_one() {
        let memories = Memories::default();
        let [tenant, gone] = [1, 2].map(|number| TenantId::from(Uuid::from_u128(number)));
        for quarantines in 1..4 {
            let memory = Memory {
                quarantines,
                ..Memory::default()
            };
            memories.remember(tenant, memory.clone());
            memories.remember(gone, memory);
        }
        memories.forget(gone);
        let row = memories.unsaved().expect("one is not saved");
        assert_eq!((row.tenant, row.probe_step), (tenant, 3));
        assert_eq!(memories.unsaved().as_ref(), Some(&row), "not written yet");
        memories.saved(&row);
        assert_eq!(memories.unsaved(), None);
        assert_eq!(memories.recall(tenant).quarantines, 3);
        assert_eq!(memories.recall(gone), Memory::default());
    }

    #[test]
    fn what_changes_while_it_is_written_down_is_written_again() {
        let memories = Memories::default();
        let tenant = TenantId::from(Uuid::from_u128(1));
        let memory = |quarantines| Memory {
            quarantines,
            ..Memory::default()
        };
        memories.remember(tenant, memory(1));
        let row = memories.unsaved().expect("one is not saved");
        memories.remember(tenant, memory(2));
        memories.saved(&row);
        let row = memories.unsaved().expect("the change is not saved");
        assert_eq!(row.probe_step, 2);
        memories.saved(&row);
        assert_eq!(memories.unsaved(), None);
    }
}
