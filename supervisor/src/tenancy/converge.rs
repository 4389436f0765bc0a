//! Makes what runs equal to what is wanted: at boot, after each change, on a timer, when the broker
//! returns and when the supervisor gains or loses its charge. Always the same functions.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{FutureExt, StreamExt, stream};
use jatis_shared::{control::Dependency, ids::TenantId, schema::TenantState, telemetry::Chain};
use tracing::{debug, warn};

use super::{Tenancy, known};
use crate::{directory::Known, error::Error, fleet::Desired, store::tenants};

/// How often rows are read again because the directory changed meanwhile, before the next round.
const READ_ATTEMPTS: usize = 5;

/// Held by whoever acts on a tenant.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// What need not be done again, and who is at what.
#[derive(Debug, Default)]
pub struct Progress {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By tenant: how its queues were found when they were last declared.
    queues: HashMap<TenantId, Queues>,
    /// By tenant: who holds it acts on the tenant; everybody else waits or passes by.
    turns: HashMap<TenantId, Turn>,
}

/// A tenant's queues, as of an epoch of the broker's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queues {
    Declared {
        epoch: u64,
    },
    /// There are some with other arguments, and the tenant makes do with them.
    Others {
        epoch: u64,
    },
}

impl Tenancy {
    /// Reads every tenant and converges each; stops what runs for tenants that are no more.
    ///
    /// # Errors
    /// When the database is away. What a single tenant lacks is logged and tried next time.
    pub async fn converge(&self) -> Result<(), Error> {
        self.memories.load(&self.db).await?;
        if !self.read_directory().await? {
            debug!("tenants change faster than they are read; the next round tries again");
            return Ok(());
        }
        let parallel = usize::from(self.config.supervision.converge_parallel);
        // A tenant enters the directory before the fleet: whoever is in the fleet now and not in
        // the directory after that is wanted no more.
        let running = self.fleet.tenants().into_iter();
        let strays = running.filter(|tenant| self.directory.get(*tenant).is_none());
        stream::iter(strays)
            .for_each_concurrent(parallel, |tenant| self.fleet.stop(tenant).map(drop))
            .await;
        stream::iter(self.directory.all())
            .for_each_concurrent(parallel, |known| self.converge_one(known.id))
            .await;
        Ok(())
    }

    /// Stops every worker: this supervisor is not in charge.
    pub async fn retire(&self) {
        let tenants = self.fleet.tenants();
        stream::iter(tenants)
            .for_each_concurrent(None, |tenant| self.fleet.stop(tenant).map(drop))
            .await;
        self.memories.unload();
    }

    /// Converges one tenant, unless somebody is at it just now: then the next round does.
    async fn converge_one(&self, id: TenantId) {
        let turn = self.progress.turn_of(id);
        let Ok(_turn) = turn.try_lock() else { return };
        // Read with the turn taken, so nothing older than what others did in theirs.
        let Some(known) = self.directory.get(id) else {
            return;
        };
        let outcome = match known.state {
            TenantState::Active | TenantState::Paused => self.keep(known).await,
            TenantState::Stopped => {
                self.fleet.stop(id).await;
                Ok(())
            }
            TenantState::Draining | TenantState::Deleting => {
                drop(self.depart(id));
                Ok(())
            }
            TenantState::Dropping => {
                self.janitor.wake();
                Ok(())
            }
        };
        if let Err(error) = outcome {
            warn!(tenant.id = %id, error = %Chain(&error), "tenant {id} does not converge; trying again");
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
            paused: known.state == TenantState::Paused,
        }
    }

    /// Declares the queues of a tenant if this connection to the broker has not yet, and has its
    /// worker run. The worker runs even if the queues cannot be declared now: they may exist, and
    /// it waits for the broker by itself. Whoever calls has the tenant's turn, or walks it out.
    pub(super) async fn keep(&self, known: Known) -> Result<(), Error> {
        let declared = self.declare(known).await;
        self.fleet.ensure(self.desired(known));
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
        let queues = Queues::Declared { epoch };
        if is_served && self.progress.lock().queues.get(&known.id) == Some(&queues) {
            return Ok(());
        }
        let declared = self.broker.declare(known.id, known.topology).await;
        match &declared {
            Ok(()) => self.progress.found(known.id, queues),
            Err(error) if error.is_another_queue() => {
                self.progress.found(known.id, Queues::Others { epoch });
            }
            Err(_) => {}
        }
        declared.map_err(Error::BrokerUnavailable)
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

impl Progress {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn of a tenant, to be locked by whoever acts on it.
    pub(super) fn turn_of(&self, tenant: TenantId) -> Turn {
        Turn::clone(self.lock().turns.entry(tenant).or_default())
    }

    fn found(&self, tenant: TenantId, queues: Queues) {
        self.lock().queues.insert(tenant, queues);
    }

    /// Whether the broker has a main queue for a tenant, as far as is known: one was found in this
    /// epoch of the broker's connection.
    #[must_use]
    pub fn has_queue(&self, tenant: TenantId, epoch: u64) -> bool {
        match self.lock().queues.get(&tenant) {
            Some(Queues::Declared { epoch: of } | Queues::Others { epoch: of }) => *of == epoch,
            None => false,
        }
    }

    /// The broker has no main queue for a tenant that it was declared for, or will soon have none.
    pub fn undeclared(&self, tenant: TenantId) {
        self.lock().queues.remove(&tenant);
    }

    /// Forgets a tenant that is none (any more).
    pub(super) fn forget(&self, tenant: TenantId) {
        let mut inner = self.lock();
        inner.queues.remove(&tenant);
        inner.turns.remove(&tenant);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn one_at_a_time_acts_on_a_tenant() {
        let progress = Progress::default();
        let [tenant, other] = [1, 2].map(|number| TenantId::from(Uuid::from_u128(number)));
        let first = progress.turn_of(tenant);
        let held = first.try_lock().expect("nobody has it");
        assert!(progress.turn_of(tenant).try_lock().is_err());
        assert!(
            progress.turn_of(tenant).try_lock().is_err(),
            "a refusal changes nothing"
        );
        assert!(progress.turn_of(other).try_lock().is_ok());
        drop(held);
        assert!(progress.turn_of(tenant).try_lock().is_ok());
    }
}
