//! Makes what runs equal to what is wanted: at boot, after each change, on a timer, when the broker
//! returns and when the supervisor gains or loses its charge. Always the same functions.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::{StreamExt, stream};
use jatis_shared::{control::Dependency, ids::TenantId, schema::TenantState, telemetry::Chain};
use tracing::{debug, warn};

use super::{Deleted, Tenancy, known};
use crate::{
    directory::Known,
    error::Error,
    fleet::Desired,
    store::{stats, tenants},
};

/// How often rows are read again because the directory changed meanwhile, before the next round.
const READ_ATTEMPTS: usize = 5;

/// What need not be done again.
#[derive(Debug, Default)]
pub struct Progress {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By tenant: the epoch of the broker's connection in which its queues were declared.
    declared: HashMap<TenantId, u64>,
    /// Tenants that somebody is removing just now.
    removing: HashSet<TenantId>,
}

impl Tenancy {
    /// Reads every tenant and converges each; stops what runs for tenants that are no more.
    ///
    /// # Errors
    /// When the database is away. What a single tenant lacks is logged and tried next time.
    pub async fn converge(&self) -> Result<(), Error> {
        if !self.read_directory().await? {
            debug!("tenants change faster than they are read; the next round tries again");
            return Ok(());
        }
        let parallel = usize::from(self.config.supervision.converge_parallel);
        let tenants = self.directory.all();
        let wanted: HashSet<TenantId> = tenants.iter().map(|known| known.id).collect();
        let strays = self
            .fleet
            .tenants()
            .into_iter()
            .filter(|tenant| !wanted.contains(tenant));
        stream::iter(strays)
            .for_each_concurrent(parallel, |tenant| self.fleet.stop(tenant))
            .await;
        stream::iter(tenants)
            .for_each_concurrent(parallel, |known| self.converge_one(known))
            .await;
        Ok(())
    }

    /// Stops every worker: this supervisor is not in charge.
    pub async fn retire(&self) {
        let tenants = self.fleet.tenants();
        stream::iter(tenants)
            .for_each_concurrent(None, |tenant| self.fleet.stop(tenant))
            .await;
    }

    /// Converges one tenant. Repeating it is harmless.
    pub(super) async fn converge_one(&self, known: Known) {
        let outcome = match known.state {
            TenantState::Active => self.keep(known).await,
            TenantState::Deleting => match self.remove(known).await {
                // Whoever deletes it just now will finish, or the next round does.
                Ok(_) | Err(Error::TenantDeleting(_)) => Ok(()),
                Err(error) => Err(error),
            },
            TenantState::Dropping => {
                self.janitor.wake();
                Ok(())
            }
        };
        if let Err(error) = outcome {
            warn!(tenant.id = %known.id, error = %Chain(&error), "tenant {} does not converge; trying again", known.id);
        }
    }

    /// What the fleet shall run for a tenant.
    pub(super) fn desired(&self, known: Known) -> Desired {
        let threads = known.workers.min(self.config.worker.max_threads);
        let connections = self.config.connections(threads, self.directory.len());
        Desired {
            tenant: known.id,
            number: known.number,
            threads,
            connections,
        }
    }

    /// Declares the queues of a tenant if this connection to the broker has not yet, and has its
    /// worker run. The worker runs even if the queues cannot be declared now: they may exist, and
    /// it waits for the broker by itself.
    async fn keep(&self, known: Known) -> Result<(), Error> {
        let declared = self.declare(known).await;
        // The row may be older than a deletion that has begun since; the directory is not.
        if self
            .directory
            .get(known.id)
            .is_some_and(|now| now.state == TenantState::Active)
        {
            self.fleet.ensure(self.desired(known));
        }
        declared
    }

    /// Declares a tenant's queues: once for each connection to the broker, and as long as its worker
    /// does without the broker, since then somebody may have deleted them. While there is no
    /// connection it is left for the round that follows the next.
    async fn declare(&self, known: Known) -> Result<(), Error> {
        let Some(epoch) = self.broker.watch().borrow().epoch() else {
            return Ok(());
        };
        let worker = self.fleet.snapshot(known.id);
        let is_served = worker.is_none_or(|worker| worker.waiting_for != Some(Dependency::Broker));
        if is_served && self.progress.lock().declared.get(&known.id) == Some(&epoch) {
            return Ok(());
        }
        let declared = self.broker.declare(known.id, known.topology).await;
        declared.map_err(Error::BrokerUnavailable)?;
        self.progress.lock().declared.insert(known.id, epoch);
        Ok(())
    }

    /// Drains a tenant's worker, deletes its queues and hands its rows to the janitor.
    pub(super) async fn remove(&self, known: Known) -> Result<Deleted, Error> {
        let id = known.id;
        let Some(_removing) = self.progress.begin_removing(id) else {
            return Err(Error::TenantDeleting(id));
        };
        self.fleet.stop(id).await;
        let messages_unprocessed = self
            .broker
            .delete(id)
            .await
            .map_err(Error::BrokerUnavailable)?;
        let totals = self.db.run(move |client| stats::totals(client, id)).await?;
        self.db
            .run(move |client| tenants::mark_dropping(client, id))
            .await?;
        self.directory.remove(id);
        self.progress.lock().declared.remove(&id);
        self.waiters.forget(id);
        self.depths.forget(id);
        self.metrics.forget(id);
        self.janitor.wake();
        Ok(Deleted {
            messages_deleted: totals.stored,
            messages_unprocessed,
        })
    }

    /// Makes the directory equal to the table; false when it kept changing meanwhile.
    async fn read_directory(&self) -> Result<bool, Error> {
        for _ in 0..READ_ATTEMPTS {
            let read_at = self.directory.version();
            let rows = self.db.run(tenants::all).await?;
            if rows.iter().any(|row| row.state == TenantState::Dropping) {
                self.janitor.wake();
            }
            let rows = rows
                .iter()
                .filter(|row| row.state != TenantState::Dropping)
                .map(known);
            if self.directory.replace(read_at, rows) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Marks a tenant as being removed, until dropped.
struct Removing<'a> {
    progress: &'a Progress,
    tenant: TenantId,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` when somebody is at it already.
    fn begin_removing(&self, tenant: TenantId) -> Option<Removing<'_>> {
        let is_first = self.lock().removing.insert(tenant);
        // Made only when it is handed out, and with the lock free again: dropping it takes the lock.
        is_first.then(|| Removing {
            progress: self,
            tenant,
        })
    }
}

impl Drop for Removing<'_> {
    fn drop(&mut self) {
        self.progress.lock().removing.remove(&self.tenant);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn one_at_a_time_removes_a_tenant() {
        let progress = Progress::default();
        let [tenant, other] = [1, 2].map(|number| TenantId::from(Uuid::from_u128(number)));
        let first = progress.begin_removing(tenant);
        assert!(first.is_some());
        assert!(progress.begin_removing(tenant).is_none());
        assert!(
            progress.begin_removing(tenant).is_none(),
            "a refusal changes nothing"
        );
        assert!(progress.begin_removing(other).is_some());
        drop(first);
        assert!(progress.begin_removing(tenant).is_some());
    }
}
