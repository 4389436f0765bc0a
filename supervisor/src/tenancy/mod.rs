//! Tenants: create, show, resize and delete them.
//!
//! Each use case writes what is wanted into the database and then lets the same function act that
//! also acts at boot, on a timer and when the broker returns (`converge`): whatever a crash cuts
//! off here, the next convergence finishes.

use std::sync::Arc;

use jatis_shared::{config::Config, ids::TenantId, schema::TenantState, telemetry::Chain};
use tracing::{info, warn};

use crate::{
    broker::Broker,
    directory::{Directory, Known},
    error::Error,
    fleet::{Fleet, Snapshot},
    messaging::Waiters,
    metrics::Metrics,
    random,
    stage::StageWatch,
    store::{
        Db, Janitor, StoreError,
        stats::{self, Totals},
        tenants::{self, Creation, TenantRow},
    },
};

pub use crate::fleet::Status;
pub use converge::Progress;
pub use depths::Depths;
pub use view::{Deleted, NewTenant, Resized, Runtime, Tenant, TenantPage, TenantQuery};

mod converge;
mod depths;
mod view;

/// The use cases of tenants.
#[derive(Clone)]
pub struct Tenancy {
    pub db: Db,
    pub broker: Broker,
    pub fleet: Fleet,
    pub directory: Arc<Directory>,
    pub depths: Arc<Depths>,
    pub janitor: Janitor,
    pub metrics: Metrics,
    pub waiters: Waiters,
    pub progress: Arc<Progress>,
    pub stage: StageWatch,
    pub config: Arc<Config>,
}

impl Tenancy {
    /// Creates a tenant: row, partition, queues, worker. Answers once its worker runs, or after
    /// `supervision.ready_timeout` with a tenant that is still starting.
    ///
    /// # Errors
    /// When the id is taken, or the database is away. The broker being away is none: the tenant
    /// exists then, and starts when the broker returns.
    pub async fn create(&self, new: NewTenant) -> Result<Tenant, Error> {
        self.stage.serving()?;
        let id = new.id.unwrap_or_else(|| TenantId::from(random::uuid()));
        let row = tenants::NewRow {
            id,
            name: new.name.unwrap_or_else(|| id.to_string()),
            workers: new.workers.unwrap_or(self.config.workers),
            topology: self.config.rabbitmq.queue_type,
        };
        let row = self.make(row).await?;
        self.fleet
            .ready(id, self.config.supervision.ready_timeout)
            .await;
        self.shown_one(row).await
    }

    /// Makes a tenant's row and partition, and has its queues and worker follow.
    async fn make(&self, new: tenants::NewRow) -> Result<TenantRow, Error> {
        let id = new.id;
        let turn = self.progress.turn_of(id);
        let _turn = turn.lock().await;
        let created = match tenants::create(&self.db, new).await {
            Ok(Creation::Created(row)) => Ok(row),
            Ok(Creation::Exists) => Err(Error::TenantExists(id)),
            Ok(Creation::Leaving) => Err(Error::TenantDeleting(id)),
            Err(error) => Err(error.into()),
        };
        let row = match created {
            Ok(row) => row,
            Err(error) => {
                // No turn is kept for an id that became no tenant.
                if self.directory.get(id).is_none() {
                    self.progress.forget(id);
                }
                return Err(error);
            }
        };
        info!(tenant.id = %id, number = u32::from(row.number), "tenant {id} created");
        let known = known(&row);
        self.directory.set(known);
        if let Err(error) = self.keep(known).await {
            warn!(tenant.id = %id, error = %Chain(&error), "tenant {id} has no queues yet; trying again");
        }
        Ok(row)
    }

    /// One tenant with what runs for it.
    ///
    /// # Errors
    /// When there is none, or the database is away.
    pub async fn get(&self, id: TenantId) -> Result<Tenant, Error> {
        self.stage.serving()?;
        let row = self.row(id).await?;
        self.shown_one(row).await
    }

    /// A page of tenants, newest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn list(&self, query: TenantQuery) -> Result<TenantPage, Error> {
        self.stage.serving()?;
        let TenantQuery {
            limit,
            after,
            name,
            runtime,
        } = query;
        let page = self
            .db
            .run(move |client| tenants::page(client, limit, after, name.as_deref()))
            .await?;
        let next = page
            .rows
            .last()
            .map(|row| row.number)
            .filter(|_| page.has_next);
        let tenants = if runtime {
            self.shown(page.rows).await?
        } else {
            page.rows.into_iter().map(|row| self.plain(row)).collect()
        };
        Ok(TenantPage { tenants, next })
    }

    /// Sets a tenant's concurrency, for good, and waits until its worker has it, at most
    /// `supervision.resize_timeout`. Messages in flight are not touched.
    ///
    /// # Errors
    /// When there is no such tenant, it is being deleted, or the database is away.
    pub async fn resize(&self, id: TenantId, workers: u16) -> Result<Resized, Error> {
        self.stage.serving()?;
        self.directory.get(id).ok_or(Error::TenantNotFound(id))?;
        let turn = self.progress.turn_of(id);
        let _turn = turn.lock().await;
        let updated = self
            .db
            .run(move |client| tenants::set_workers(client, id, workers))
            .await?;
        let known = known(&updated.ok_or(Error::TenantNotFound(id))?);
        self.directory.set(known);
        let snapshot = self.fleet.resize(self.desired(known)).await;
        let applied_workers = snapshot.map_or(0, |snapshot| snapshot.applied_threads);
        Ok(Resized {
            workers,
            applied_workers,
        })
    }

    /// Deletes a tenant. From the first moment it takes no messages; when the answer comes its
    /// worker and queues are gone and its rows invisible. The janitor drops its partition.
    ///
    /// # Errors
    /// When there is no such tenant, it is being deleted already, or a server is away: what has
    /// begun is then finished by the next convergence.
    pub async fn delete(&self, id: TenantId) -> Result<Deleted, Error> {
        self.stage.serving()?;
        let row = self.row(id).await?;
        let turn = self.progress.turn_of(id);
        let _turn = turn.lock().await;
        if !self
            .db
            .run(move |client| tenants::mark_deleting(client, id))
            .await?
        {
            // Somebody else has begun it, or has ended it while this request waited for its turn.
            let is_gone = self.directory.get(id).is_none();
            return Err(if is_gone {
                Error::TenantNotFound(id)
            } else {
                Error::TenantDeleting(id)
            });
        }
        let known = Known {
            state: TenantState::Deleting,
            ..known(&row)
        };
        self.directory.set(known);
        let deleted = self.remove(known).await?;
        info!(tenant.id = %id, messages = deleted.messages_deleted, "tenant {id} deleted");
        Ok(deleted)
    }

    /// A tenant that is not gone for clients.
    async fn row(&self, id: TenantId) -> Result<TenantRow, Error> {
        let row = self.db.run(move |client| tenants::get(client, id)).await?;
        row.filter(|row| row.state != TenantState::Dropping)
            .ok_or(Error::TenantNotFound(id))
    }

    /// These tenants with what runs for them.
    async fn shown(&self, rows: Vec<TenantRow>) -> Result<Vec<Tenant>, StoreError> {
        let ids: Vec<TenantId> = rows.iter().map(|row| row.id).collect();
        let totals = self
            .db
            .run(move |client| stats::totals_of(client, &ids))
            .await?;
        let shown = rows.into_iter().map(|row| {
            let Totals { dead, .. } = totals.get(&row.id).copied().unwrap_or_default();
            let runtime = self
                .fleet
                .snapshot(row.id)
                .map(|snapshot| self.runtime(snapshot, dead));
            Tenant {
                runtime,
                ..self.plain(row)
            }
        });
        Ok(shown.collect())
    }

    async fn shown_one(&self, row: TenantRow) -> Result<Tenant, Error> {
        let id = row.id;
        self.shown(vec![row])
            .await?
            .pop()
            .ok_or(Error::TenantNotFound(id))
    }

    fn plain(&self, row: TenantRow) -> Tenant {
        let status = match row.state {
            TenantState::Active => self
                .fleet
                .snapshot(row.id)
                .map_or(Status::Starting, |snapshot| snapshot.status()),
            TenantState::Deleting | TenantState::Dropping => Status::Deleting,
        };
        let TenantRow {
            id,
            name,
            workers,
            created_at,
            updated_at,
            ..
        } = row;
        Tenant {
            id,
            name,
            workers,
            status,
            created_at,
            updated_at,
            runtime: None,
        }
    }

    fn runtime(&self, snapshot: Snapshot, dead_letters: u64) -> Runtime {
        Runtime {
            state: snapshot.state.as_str(),
            waiting_for: snapshot.waiting_for,
            pid: snapshot.pid,
            generation: snapshot.generation,
            active_workers: snapshot.threads.live,
            queue_depth: self
                .depths
                .get(snapshot.tenant)
                .map(|ready| ready + snapshot.unacked),
            dead_letters,
            restarts: snapshot.restarts,
            since: snapshot.since,
            last_exit: snapshot.last_exit,
        }
    }
}

fn known(row: &TenantRow) -> Known {
    Known {
        id: row.id,
        number: row.number,
        state: row.state,
        topology: row.topology,
        workers: row.workers,
    }
}
