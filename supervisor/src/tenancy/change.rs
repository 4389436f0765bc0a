//! Changing tenants: name, concurrency, pause; and making one that is not there.
//!
//! A change is written and made known in one go that nothing cuts off; the request then waits for
//! the worker's word with the tenant's turn in hand, so that changes are answered in the order in
//! which they took effect.

use jatis_shared::{ids::TenantId, schema::TenantState};
use tokio::sync::OwnedMutexGuard;
use tracing::info;

use super::{Change, Resized, Tenancy, Tenant, Upserted, known};
use crate::{
    error::Error,
    fleet::Desired,
    store::tenants::{self, NewValues, TenantRow},
};

/// A tenant's turn, taken.
type Turn = OwnedMutexGuard<()>;

/// A change that is written.
pub(super) struct Changed {
    row: TenantRow,
    /// What the worker has been told, if that is what was changed.
    told: Option<Desired>,
    turn: Turn,
}

impl Tenancy {
    /// Sets a tenant's concurrency, for good, and waits until its worker has it, at most
    /// `supervision.resize_timeout`. Messages in flight are not touched.
    ///
    /// # Errors
    /// When there is no such tenant, it is being deleted, or the database is away.
    pub async fn resize(&self, id: TenantId, workers: u16) -> Result<Resized, Error> {
        let change = Change {
            workers: Some(workers),
            ..Change::default()
        };
        let changed = self.change(id, change).await?;
        let snapshot = match changed.told {
            Some(desired) => self.fleet.applied(desired).await,
            None => None,
        };
        let applied_workers = snapshot.map_or(0, |snapshot| snapshot.applied_threads);
        Ok(Resized {
            workers,
            applied_workers,
        })
    }

    /// Changes a tenant, for good, and waits until its worker has followed, at most
    /// `supervision.resize_timeout`. Nothing that is in flight is lost: what a pause finds begun is
    /// finished, and the rest goes back to the queue.
    ///
    /// # Errors
    /// When there is no such tenant, it is being deleted, or the database is away.
    pub async fn update(&self, id: TenantId, change: Change) -> Result<Tenant, Error> {
        if change == Change::default() {
            return self.get(id).await;
        }
        let changed = self.change(id, change).await?;
        self.applied(changed).await
    }

    /// Changes a tenant, or makes it if there is none. Of several at once that find none, one makes
    /// it. `wanted` is for tenants that are there.
    ///
    /// # Errors
    /// As [`create`](Self::create) and [`update`](Self::update).
    pub async fn upsert(&self, id: TenantId, change: Change) -> Result<Upserted, Error> {
        self.stage.serving()?;
        let turn = self.progress.turn_of(id).lock_owned().await;
        let tenancy = self.clone();
        let work = async move { tenancy.change_or_make(id, change, turn).await };
        match self.tasks.carry_out(work).await? {
            Written::Changed(changed) => self.applied(changed).await.map(Upserted::Updated),
            Written::Made(row) => self.made(row).await.map(Upserted::Created),
        }
    }

    async fn change_or_make(
        &self,
        id: TenantId,
        change: Change,
        turn: Turn,
    ) -> Result<Written, Error> {
        // The table is asked, not the directory: it also knows what a lost answer left behind.
        if let Some((row, told)) = self.write(id, change.clone()).await? {
            return Ok(Written::Changed(Changed { row, told, turn }));
        }
        let row = self.new_row(id, change.name, change.workers);
        self.make(row).await.map(Written::Made)
    }

    pub(super) async fn change(&self, id: TenantId, change: Change) -> Result<Changed, Error> {
        self.stage.serving()?;
        self.directory.get(id).ok_or(Error::TenantNotFound(id))?;
        let turn = self.progress.turn_of(id).lock_owned().await;
        let tenancy = self.clone();
        let work = async move {
            let Some((row, told)) = tenancy.write(id, change).await? else {
                // It is leaving, or has gone since it was looked for.
                tenancy.row(id).await?;
                return Err(Error::TenantDeleting(id));
            };
            Ok(Changed { row, told, turn })
        };
        self.tasks.carry_out(work).await
    }

    /// Writes a change and makes it known: gives the tenant, and what its worker has been told if
    /// that has changed. `None` when there is no such tenant that is not on its way out. Whoever
    /// calls has the tenant's turn.
    async fn write(
        &self,
        id: TenantId,
        change: Change,
    ) -> Result<Option<(TenantRow, Option<Desired>)>, Error> {
        let Change {
            name,
            workers,
            wanted,
        } = change;
        let new = NewValues {
            name,
            workers,
            wanted,
        };
        let changed = self
            .db
            .run(move |client| tenants::change(client, id, &new))
            .await?;
        let Some(row) = changed else {
            return Ok(None);
        };
        let known = known(&row);
        info!(tenant.id = %id, state = known.state.as_str(), workers = known.workers,
            "tenant {id} changed");
        self.directory.set(known);
        let desired = self.desired(known);
        let told = match (workers, wanted) {
            // What changes of it takes effect when it is started.
            _ if known.state == TenantState::Stopped => None,
            (Some(_), _) => {
                self.signalled.forget(id);
                self.fleet.resize(desired);
                Some(desired)
            }
            (None, Some(_)) => {
                self.fleet.ensure(desired);
                Some(desired)
            }
            (None, None) => None,
        };
        Ok(Some((row, told)))
    }

    /// The tenant when its worker has followed, or its time for that is over.
    async fn applied(&self, changed: Changed) -> Result<Tenant, Error> {
        let Changed { row, told, turn } = changed;
        if let Some(desired) = told {
            self.fleet.applied(desired).await;
        }
        drop(turn);
        self.shown_one(row).await
    }
}

/// What came of an upsert.
enum Written {
    Changed(Changed),
    Made(TenantRow),
}
