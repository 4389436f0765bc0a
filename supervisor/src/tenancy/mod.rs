//! Tenants: create, show, change and delete them.
//!
//! Each use case writes what is wanted into the database and then lets the same function act that
//! also acts at boot, on a timer and when the broker returns (`converge`): whatever a crash cuts
//! off here, the next convergence finishes. A client that leaves cuts nothing off (`tasks`).

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

pub use crate::{fleet::Status, store::tenants::Wanted};
pub use converge::Progress;
pub use departure::Departures;
pub use depths::Depths;
pub use halt::Outcome;
pub use memory::Memories;
pub use signalled::Signalled;
pub use statistics::Statistics;
pub use tasks::Tasks;
pub use view::{
    Change, Deleted, Deletion, Manner, NewTenant, Resized, Runtime, Tenant, TenantPage,
    TenantQuery, Upserted,
};

mod change;
mod converge;
mod departure;
mod depths;
mod halt;
mod memory;
mod signalled;
mod statistics;
mod tasks;
mod view;

/// The use cases of tenants.
#[derive(Clone)]
pub struct Tenancy {
    pub db: Db,
    pub broker: Broker,
    pub fleet: Fleet,
    pub directory: Arc<Directory>,
    pub depths: Arc<Depths>,
    pub memories: Arc<Memories>,
    pub signalled: Arc<Signalled>,
    pub janitor: Janitor,
    pub metrics: Metrics,
    pub waiters: Waiters,
    pub progress: Arc<Progress>,
    pub tasks: Tasks,
    pub departures: Departures,
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
        let row = self.new_row(id, new.name, new.workers);
        let turn = self.progress.turn_of(id).lock_owned().await;
        let tenancy = self.clone();
        let making = async move {
            let _turn = turn;
            tenancy.make(row).await
        };
        let row = self.tasks.carry_out(making).await?;
        self.made(row).await
    }

    fn new_row(&self, id: TenantId, name: Option<String>, workers: Option<u16>) -> tenants::NewRow {
        tenants::NewRow {
            id,
            name: name.unwrap_or_else(|| id.to_string()),
            workers: workers.unwrap_or(self.config.workers),
            topology: self.config.rabbitmq.queue_type,
        }
    }

    /// A tenant just made, once its worker runs.
    async fn made(&self, row: TenantRow) -> Result<Tenant, Error> {
        let patience = self.config.supervision.ready_timeout;
        self.fleet.ready(row.id, patience).await;
        self.shown_one(row).await
    }

    /// Makes a tenant's row and partition, and has its queues and worker follow. Whoever calls has
    /// the tenant's turn.
    async fn make(&self, new: tenants::NewRow) -> Result<TenantRow, Error> {
        let id = new.id;
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
        // Before the new one opens any: the others' share may have become smaller.
        self.fleet.share_connections(self.directory.len());
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
        // What publishing goes by: to a tenant that is shown to leave, nobody can publish any more.
        let known = self.directory.get(row.id);
        let state = known.map_or(row.state, |known| known.state);
        let status = self.status_of(state, self.fleet.snapshot(row.id).as_ref());
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
