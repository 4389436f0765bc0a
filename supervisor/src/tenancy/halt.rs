//! Keeping a tenant without a worker, and giving it another one.

use jatis_shared::{ids::TenantId, schema::TenantState};

use super::{Change, Tenancy, Wanted, known};
use crate::{
    error::Error,
    fleet::{Snapshot, Status},
    store::tenants::{self, NewValues},
};

/// What came of something that only a worker can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Nothing runs for the tenant, and nothing shall.
    NothingRuns,
}

impl Tenancy {
    /// Has a tenant's worker run that was stopped or paused, and waits for it, at most
    /// `supervision.ready_timeout`.
    ///
    /// # Errors
    /// When there is no such tenant, it is being deleted, or the database is away.
    pub async fn start(&self, id: TenantId) -> Result<(), Error> {
        let change = Change {
            wanted: Some(Wanted::Active),
            ..Change::default()
        };
        self.update(id, change).await?;
        let patience = self.config.supervision.ready_timeout;
        self.fleet.ready(id, patience).await;
        Ok(())
    }

    /// Keeps a tenant without a worker, for good: returns when its worker has drained and is gone.
    /// Its messages are taken and wait in its queue. Gives how the worker left, if there was one.
    ///
    /// # Errors
    /// When there is no such tenant, it is being deleted, or the database is away.
    pub async fn halt(&self, id: TenantId) -> Result<Option<Snapshot>, Error> {
        self.stage.serving()?;
        self.directory.get(id).ok_or(Error::TenantNotFound(id))?;
        let turn = self.progress.turn_of(id).lock_owned().await;
        let tenancy = self.clone();
        let work = async move {
            let wanted = NewValues {
                wanted: Some(Wanted::Stopped),
                ..NewValues::default()
            };
            let row = tenancy
                .db
                .run(move |client| tenants::change(client, id, &wanted))
                .await?;
            let Some(row) = row else {
                tenancy.row(id).await?;
                return Err(Error::TenantDeleting(id));
            };
            tenancy.directory.set(known(&row));
            let left = tenancy.fleet.stop(id).await;
            drop(turn);
            Ok(left)
        };
        self.tasks.carry_out(work).await
    }

    /// Drains a tenant's worker and starts another, and waits for that, at most
    /// `supervision.ready_timeout`. Nothing is held against it.
    ///
    /// # Errors
    /// When there is no such tenant.
    pub async fn restart(&self, id: TenantId) -> Result<Outcome, Error> {
        self.stage.serving()?;
        let known = self.directory.get(id).ok_or(Error::TenantNotFound(id))?;
        if !matches!(known.state, TenantState::Active | TenantState::Paused) {
            return Ok(Outcome::NothingRuns);
        }
        let turn = self.progress.turn_of(id).lock_owned().await;
        let tenancy = self.clone();
        let work = async move {
            tenancy.memories.pardon(id);
            tenancy.fleet.stop(id).await;
            tenancy.keep(known).await.map(|()| drop(turn))
        };
        self.tasks.carry_out(work).await?;
        self.fleet.settled(id).await;
        Ok(Outcome::Done)
    }

    /// Starts a worker that rests, is in quarantine or was refused, as if it had never failed, and
    /// waits for it, at most `supervision.ready_timeout`.
    ///
    /// # Errors
    /// When there is no such tenant.
    pub async fn release(&self, id: TenantId) -> Result<Outcome, Error> {
        self.stage.serving()?;
        self.directory.get(id).ok_or(Error::TenantNotFound(id))?;
        if !self.fleet.release(id) {
            return Ok(Outcome::NothingRuns);
        }
        self.fleet.settled(id).await;
        Ok(Outcome::Done)
    }

    /// What is known of a tenant in memory, however the database is: what is wanted of it, and in
    /// which words clients see it.
    #[must_use]
    pub fn status_of(&self, state: TenantState, worker: Option<&Snapshot>) -> Status {
        match state {
            TenantState::Active | TenantState::Paused => {
                worker.map_or(Status::Starting, Snapshot::status)
            }
            // Its messages are taken and wait, like those of a paused one.
            TenantState::Stopped => Status::Paused,
            TenantState::Draining => Status::Draining,
            TenantState::Deleting | TenantState::Dropping => Status::Deleting,
        }
    }
}
