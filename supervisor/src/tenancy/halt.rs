//! Keeping a tenant without a worker, and giving it another one.

use jatis_shared::{ids::TenantId, schema::TenantState};

use super::{Change, Tenancy, Wanted, known};
use crate::{
    directory::Known,
    error::Error,
    fleet::{Snapshot, StateName, Status},
    store::tenants::{self, NewValues},
};

/// What came of something that a worker has to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// It is wanted from now on, and the worker has not followed in time.
    NotInTime,
    /// Nothing runs for the tenant, and nothing shall.
    NothingRuns,
}

impl Tenancy {
    /// Has a tenant's worker run that was stopped or paused, and waits for it, at most
    /// `supervision.ready_timeout`.
    ///
    /// # Errors
    /// When there is no such tenant, it is being deleted, or the database is away.
    pub async fn start(&self, id: TenantId) -> Result<Outcome, Error> {
        self.want(id, Wanted::Active).await
    }

    /// Keeps a tenant's worker connected and has it store nothing, and waits for that, at most
    /// `supervision.ready_timeout`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn pause(&self, id: TenantId) -> Result<Outcome, Error> {
        self.want(id, Wanted::Paused).await
    }

    async fn want(&self, id: TenantId, wanted: Wanted) -> Result<Outcome, Error> {
        let change = Change {
            wanted: Some(wanted),
            ..Change::default()
        };
        self.update(id, change).await?;
        Ok(self.settled(id, wanted).await)
    }

    /// Whether the tenant's worker is where it is wanted, soon.
    async fn settled(&self, id: TenantId, wanted: Wanted) -> Outcome {
        let state = match wanted {
            Wanted::Active => StateName::Running,
            Wanted::Paused => StateName::Paused,
            Wanted::Stopped => StateName::Stopped,
        };
        match self.fleet.settled(id, state).await {
            Some(last) if last.state == state => Outcome::Done,
            Some(_) | None => Outcome::NotInTime,
        }
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
        self.directory.get(id).ok_or(Error::TenantNotFound(id))?;
        let turn = self.progress.turn_of(id).lock_owned().await;
        let tenancy = self.clone();
        let work = async move {
            // Looked up with the turn in hand: somebody may just have stopped or deleted it.
            let known = tenancy.directory.get(id).ok_or(Error::TenantNotFound(id))?;
            let Some(wanted) = wanted(known) else {
                return Ok(None);
            };
            tenancy.memories.pardon(id);
            tenancy.fleet.stop(id).await;
            tenancy.keep(known).await?;
            drop(turn);
            Ok(Some(wanted))
        };
        match self.tasks.carry_out(work).await? {
            Some(wanted) => Ok(self.settled(id, wanted).await),
            None => Ok(Outcome::NothingRuns),
        }
    }

    /// Starts a worker that rests, is in quarantine or was refused, as if it had never failed, and
    /// waits for it, at most `supervision.ready_timeout`.
    ///
    /// # Errors
    /// When there is no such tenant.
    pub async fn release(&self, id: TenantId) -> Result<Outcome, Error> {
        self.stage.serving()?;
        let known = self.directory.get(id).ok_or(Error::TenantNotFound(id))?;
        match wanted(known) {
            Some(wanted) if self.fleet.release(id) => Ok(self.settled(id, wanted).await),
            Some(_) | None => Ok(Outcome::NothingRuns),
        }
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

/// What a worker of the tenant shall do; `None` when there shall be none.
const fn wanted(known: Known) -> Option<Wanted> {
    match known.state {
        TenantState::Active => Some(Wanted::Active),
        TenantState::Paused => Some(Wanted::Paused),
        TenantState::Stopped
        | TenantState::Draining
        | TenantState::Deleting
        | TenantState::Dropping => None,
    }
}
