//! The tenants as this supervisor knows them, in memory: what publishing asks on every request.
//!
//! A copy of rows in the database, never the truth. `tenancy` writes it, after each change and on
//! each convergence; everybody else reads. A copy taken from rows that were read before a later
//! change is refused ([`Directory::replace`]). Beside the copy it counts the publishes under way, so
//! that whoever drains a tenant can wait for those that were let in before it was closed.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use jatis_shared::{
    ids::{TenantId, TenantNumber},
    schema::TenantState,
    topology::QueueType,
};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// What is known of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub id: TenantId,
    pub number: TenantNumber,
    pub state: TenantState,
    pub topology: QueueType,
    /// Pool threads wanted.
    pub workers: u16,
}

/// A moment in the directory's life; see [`Directory::replace`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(u64);

/// Every tenant whose worker runs, shall run or is being stopped.
#[derive(Debug, Default)]
pub struct Directory {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    version: u64,
    tenants: HashMap<TenantId, Entry>,
    numbers: HashMap<TenantNumber, TenantId>,
}

#[derive(Debug)]
struct Entry {
    known: Known,
    publishing: TaskTracker,
}

/// A publish under way; counted until the last clone is dropped, which is to be when its fate is
/// known.
pub type Passage = TaskTrackerToken;

impl Directory {
    /// What is known of a tenant.
    #[must_use]
    pub fn get(&self, tenant: TenantId) -> Option<Known> {
        let inner = self.read();
        inner.tenants.get(&tenant).map(|entry| entry.known)
    }

    /// What is known of a tenant that is to be published to, and the passage of the publish. The two
    /// are one step: whoever closes a tenant and then waits for [`published`](Self::published)
    /// misses no publish that saw it open.
    #[must_use]
    pub fn enter(&self, tenant: TenantId) -> Option<(Known, Passage)> {
        let inner = self.read();
        let entry = inner.tenants.get(&tenant)?;
        Some((entry.known, entry.publishing.token()))
    }

    /// Waits until no publish to the tenant is under way; none shall be let in any more.
    ///
    /// Cancel-safe.
    pub async fn published(&self, tenant: TenantId) {
        let publishing = self
            .read()
            .tenants
            .get(&tenant)
            .map(|entry| entry.publishing.clone());
        if let Some(publishing) = publishing {
            publishing.close();
            publishing.wait().await;
        }
    }

    /// The tenant whose messages carry this number.
    #[must_use]
    pub fn by_number(&self, number: TenantNumber) -> Option<TenantId> {
        self.read().numbers.get(&number).copied()
    }

    /// How many tenants there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().tenants.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tenants, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Known> {
        let inner = self.read();
        inner.tenants.values().map(|entry| entry.known).collect()
    }

    /// Notes a tenant that was created or changed.
    pub fn set(&self, known: Known) {
        let mut inner = self.write();
        inner.version += 1;
        inner.insert(known);
    }

    /// Forgets a tenant that is deleted.
    pub fn remove(&self, tenant: TenantId) {
        let mut inner = self.write();
        inner.version += 1;
        if let Some(entry) = inner.tenants.remove(&tenant) {
            inner.numbers.remove(&entry.known.number);
        }
    }

    /// The present moment, taken before rows are read for [`replace`](Self::replace).
    #[must_use]
    pub fn version(&self) -> Version {
        Version(self.read().version)
    }

    /// Takes these rows for the whole directory, unless it was changed since `read_at`: then the
    /// rows may be older than the change, nothing happens, and the answer is false.
    #[must_use]
    pub fn replace(&self, read_at: Version, rows: impl IntoIterator<Item = Known>) -> bool {
        let mut inner = self.write();
        if inner.version != read_at.0 {
            return false;
        }
        let mut before = std::mem::take(&mut inner.tenants);
        inner.numbers.clear();
        for known in rows {
            if let Some(entry) = before.remove(&known.id) {
                inner.tenants.insert(known.id, entry);
            }
            inner.insert(known);
        }
        true
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn insert(&mut self, known: Known) {
        self.numbers.insert(known.number, known.id);
        let entry = self.tenants.entry(known.id).or_insert_with(|| Entry {
            known,
            publishing: TaskTracker::new(),
        });
        entry.known = known;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use uuid::Uuid;

    use super::*;

    fn known(number: u32, state: TenantState) -> Known {
        Known {
            id: TenantId::from(Uuid::from_u128(u128::from(number))),
            number: TenantNumber::try_from(number).expect("a number in range"),
            state,
            topology: QueueType::Quorum,
            workers: 1,
        }
    }

    #[test]
    fn rows_read_before_a_change_do_not_undo_it() {
        let directory = Directory::default();
        let (active, deleting) = (
            known(7, TenantState::Active),
            known(7, TenantState::Deleting),
        );
        let read_at = directory.version();
        directory.set(deleting);
        assert!(!directory.replace(read_at, [active]));
        assert_eq!(directory.get(active.id), Some(deleting));
        assert!(directory.replace(directory.version(), [active]));
        assert_eq!(directory.get(active.id), Some(active));
    }

    #[tokio::test]
    async fn who_closes_a_tenant_can_wait_for_the_publishes_that_were_let_in() {
        let directory = Directory::default();
        let open = known(7, TenantState::Active);
        let closed = known(7, TenantState::Draining);
        directory.set(open);
        let (seen, passage) = directory.enter(open.id).expect("it is known");
        assert_eq!(seen, open);
        directory.set(closed);
        assert!(directory.replace(directory.version(), [closed]));
        let mut published = std::pin::pin!(directory.published(open.id));
        assert_eq!(published.as_mut().now_or_never(), None, "one is under way");
        drop(passage);
        published.await;
        directory.published(open.id).await;
    }

    #[test]
    fn a_tenant_is_found_by_its_number_until_it_is_removed() {
        let directory = Directory::default();
        let tenant = known(9, TenantState::Active);
        directory.set(tenant);
        assert_eq!(directory.by_number(tenant.number), Some(tenant.id));
        directory.remove(tenant.id);
        assert_eq!(
            (directory.by_number(tenant.number), directory.len()),
            (None, 0)
        );
    }
}
