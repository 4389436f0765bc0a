//! The janitor takes away what deleted tenants leave behind.
//!
//! ```text
//!   tenant dropping ─▶ leaf detached ─▶ leaf dropped ─▶ rows deleted ─▶ tenant's row deleted
//! ```
//!
//! Each step is found from the catalogue and may be repeated, so a crash anywhere is finished by
//! the next round, and no step need be on disk before the next one is. Detaching waits for whoever
//! reads the parent table at that moment, and while one detach is pending no other may begin: so no
//! lock is waited for longer than `database.lock_timeout`, what did not work is tried again for
//! ever, and [`Janitor::backlog`] shows how long. Creating tenants goes on meanwhile; the lock of
//! the janitor is its own. A janitor that died may keep it until the statement it was at has ended,
//! which that same timeout bounds.

use std::{sync::Arc, time::Duration};

use jatis_connect::postgres::Target;
use jatis_shared::{
    config::Database, ids::TenantId, retry::Backoff, schema::LOCK_JANITOR, telemetry::Chain,
};
use jiff::Timestamp;
use postgres::{Client, types::Type};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{
    leaves::{Attempt, LeafState, detach, drop_leaf, finish_pending, leaf_state},
    rows::delete_rows,
};
use super::{
    Db, StoreError, on_blocking_thread,
    server::{self, Purpose},
};
use crate::random;

mod leaves;
mod rows;

/// Tenants whose rows are still to be taken away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    pub tenants: u64,
    /// When the first of them was deleted.
    pub since: Option<Timestamp>,
}

/// What a pass came to, in tenants.
struct Pass {
    gone: u64,
    left: u64,
}

/// Takes deleted tenants away. Clones share it.
#[derive(Clone)]
pub struct Janitor {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    target: Target,
    lock_timeout: Duration,
    /// The pause while something waits.
    retry: Backoff,
    /// The pause while nothing does; a deletion ends it.
    interval: Duration,
    /// Rows deleted by one statement.
    step_rows: i64,
    wake: Notify,
    backlog: watch::Sender<Backlog>,
}

impl Janitor {
    /// A janitor that does nothing until it [`run`](Self::run)s.
    ///
    /// # Errors
    /// [`StoreError::Target`].
    pub fn new(db: Db, database: &Database) -> Result<Self, StoreError> {
        let inner = Inner {
            db,
            target: server::target(database, Purpose::Schema)?,
            lock_timeout: database.lock_timeout,
            retry: database.janitor(),
            interval: database.janitor_interval,
            step_rows: i64::from(database.janitor_rows),
            wake: Notify::new(),
            backlog: watch::Sender::new(Backlog::default()),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// A tenant is in state `dropping`: begin with it now. One that nobody told of is found
    /// within `database.janitor_interval`.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// What waits, as of the latest look.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        *self.inner.backlog.borrow()
    }

    /// Takes away what waits, again and again, until `stop`; to be run only by the supervisor in
    /// charge. Ends after the statement it is at: locks are waited for no longer than
    /// `database.lock_timeout`, and what is left undone is found again at the next start.
    ///
    /// Dropped mid-way, the pass under way goes on to its end on its thread.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut fruitless: u32 = 0;
        while !stop.is_cancelled() {
            let pause = match self.pass(stop).await {
                Ok(Pass { left: 0, .. }) => {
                    fruitless = 0;
                    self.inner.interval
                }
                Ok(Pass { gone, left }) => {
                    fruitless = if gone == 0 { fruitless + 1 } else { 0 };
                    tracing::debug!(
                        gone,
                        left,
                        "something is in the way of a deleted tenant's end"
                    );
                    self.pause(fruitless)
                }
                Err(error) => {
                    fruitless += 1;
                    tracing::warn!(
                        error = %Chain(&error),
                        attempt = fruitless,
                        "cannot take deleted tenants away yet; trying again"
                    );
                    self.pause(fruitless)
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.inner.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// The pause after so many passes in a row that took nobody away.
    fn pause(&self, fruitless: u32) -> Duration {
        let retry = self.inner.retry;
        retry.jittered(fruitless.saturating_sub(1), random::dice())
    }

    /// One pass over all that waits. A connection of its own is opened only when there is work.
    async fn pass(&self, stop: &CancellationToken) -> Result<Pass, StoreError> {
        if self.look().await?.tenants == 0 {
            return Ok(Pass { gone: 0, left: 0 });
        }
        let (inner, stop) = (Arc::clone(&self.inner), stop.clone());
        let swept = on_blocking_thread(move || sweep(&inner, &stop)).await;
        let left = self.look().await?.tenants;
        swept.map(|gone| Pass { gone, left })
    }

    async fn look(&self) -> Result<Backlog, StoreError> {
        let backlog = self.inner.db.run(backlog).await?;
        self.inner.backlog.send_replace(backlog);
        Ok(backlog)
    }
}

const BACKLOG: &str = "
    SELECT count(*), min(updated_at)
    FROM tenants
    WHERE state = 'dropping'";

fn backlog(client: &mut Client) -> Result<Backlog, StoreError> {
    let look = StoreError::sql("look for deleted tenants");
    let row = client.query_typed_one(BACKLOG, &[]).map_err(&look)?;
    let tenants: i64 = row.try_get(0).map_err(&look)?;
    Ok(Backlog {
        tenants: u64::try_from(tenants).unwrap_or_default(),
        since: row.try_get(1).map_err(&look)?,
    })
}

/// Takes away what can be; gives how many tenants it were. A lock in the way of one tenant does not
/// keep the others, but while a detach is pending nothing else is detached.
fn sweep(inner: &Inner, stop: &CancellationToken) -> Result<u64, StoreError> {
    let mut client = inner.target.connect()?;
    if !try_lock(&mut client)? {
        tracing::debug!("another janitor is at work");
        return Ok(0);
    }
    spare_the_disk(&mut client)?;
    let timeout = inner.lock_timeout;
    let mut gone = 0;
    let mut detaching = unless_locked(finish_pending(&mut client, timeout))?.unwrap_or(false);
    for tenant in dropping(&mut client)? {
        if stop.is_cancelled() {
            break;
        }
        match leaf_state(&mut client, tenant)? {
            LeafState::Attached if !detaching => continue,
            LeafState::Attached => match detach(&mut client, tenant, timeout)? {
                Attempt::Detached => {}
                Attempt::Read => continue,
                Attempt::Pending => {
                    detaching = false;
                    continue;
                }
            },
            LeafState::Detached | LeafState::Absent => {}
        }
        let taken = drop_leaf(&mut client, tenant)
            .and_then(|()| delete_rows(&mut client, tenant, inner.step_rows, stop));
        gone += u64::from(unless_locked(taken)?.unwrap_or(false));
    }
    // The end of the session gives the lock back.
    client
        .close()
        .map_err(StoreError::sql("end the janitor's session"))?;
    Ok(gone)
}

/// Commits of this session wait for no disk. Should the server lose its latest ones, what they did
/// is found undone in the catalogue; dropping a table waits all the same, for all before it as well.
fn spare_the_disk(client: &mut Client) -> Result<(), StoreError> {
    client
        .batch_execute("SET synchronous_commit = off")
        .map_err(StoreError::sql("begin the janitor's session"))
}

/// `None` when a lock was in the way: somebody reads, and the next round tries again.
fn unless_locked<T>(outcome: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match outcome {
        Err(error) if error.is_lock_timeout() => Ok(None),
        outcome => outcome.map(Some),
    }
}

fn try_lock(client: &mut Client) -> Result<bool, StoreError> {
    client
        .query_typed_one(
            "SELECT pg_try_advisory_lock($1)",
            &[(&LOCK_JANITOR, Type::INT8)],
        )
        .and_then(|row| row.try_get(0))
        .map_err(StoreError::sql("try the lock of the janitor"))
}

fn dropping(client: &mut Client) -> Result<Vec<TenantId>, StoreError> {
    let look = StoreError::sql("look for deleted tenants");
    let rows = client
        .query_typed(
            "SELECT id FROM tenants WHERE state = 'dropping' ORDER BY updated_at",
            &[],
        )
        .map_err(&look)?;
    rows.iter()
        .map(|row| row.try_get::<_, Uuid>(0).map(TenantId::from).map_err(&look))
        .collect()
}
