//! The janitor takes away what deleted tenants leave behind.
//!
//! ```text
//!   tenant dropping ─▶ leaf detached ─▶ leaf dropped ─▶ rows deleted ─▶ tenant's row deleted
//! ```
//!
//! Each step is found from the catalogue and may be repeated, so a crash anywhere is finished by
//! the next round. Detaching waits for whoever reads the parent table at that moment, and while one
//! detach is pending no other may begin: so no lock is waited for longer than
//! `database.lock_timeout`, what did not work is tried again for ever, and [`Janitor::backlog`]
//! shows how long. Creating tenants goes on meanwhile; the lock of the janitor is its own.

use std::{sync::Arc, time::Duration};

use jatis_connect::postgres::Target;
use jatis_shared::{
    config::Database,
    ids::TenantId,
    retry::Backoff,
    schema::{LOCK_JANITOR, leaf},
    telemetry::Chain,
};
use jiff::Timestamp;
use postgres::{Client, types::Type};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Db, StoreError, on_blocking_thread,
    server::{self, Purpose},
};
use crate::random;

/// Every table with rows of a tenant, but its leaf, and `tenants` with what cascades from it.
///
/// CAUTION: the migrations decide; a test compares.
const TABLES: [&str; 7] = [
    "tenant_runtime",
    "dead_letters",
    "message_tombstones",
    "message_counts",
    "accept_counts",
    "amqp_keys",
    "idempotency_keys",
];

/// Tenants whose rows are still to be taken away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    pub tenants: u64,
    /// When the first of them was deleted.
    pub since: Option<Timestamp>,
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
        let mut fruitless = 0;
        while !stop.is_cancelled() {
            let pause = match self.pass(stop).await {
                Ok(Backlog { tenants: 0, .. }) => {
                    fruitless = 0;
                    self.inner.interval
                }
                Ok(Backlog { tenants, .. }) => {
                    fruitless += 1;
                    tracing::debug!(
                        tenants,
                        "partitions of deleted tenants are still being read"
                    );
                    self.inner.retry.jittered(fruitless - 1, random::dice())
                }
                Err(error) => {
                    fruitless += 1;
                    tracing::warn!(
                        error = %Chain(&error),
                        attempt = fruitless,
                        "cannot take deleted tenants away yet; trying again"
                    );
                    self.inner.retry.jittered(fruitless - 1, random::dice())
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.inner.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One pass over all that waits; gives what still does. A connection of its own is opened only
    /// when there is work.
    async fn pass(&self, stop: &CancellationToken) -> Result<Backlog, StoreError> {
        let before = self.look().await?;
        if before.tenants == 0 {
            return Ok(before);
        }
        let (inner, stop) = (Arc::clone(&self.inner), stop.clone());
        let swept = on_blocking_thread(move || sweep(&inner, &stop)).await;
        let after = self.look().await?;
        swept.map(|()| after)
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

/// Takes away what can be. A lock in the way of one tenant does not keep the others, but while a
/// detach is pending nothing else is detached.
fn sweep(inner: &Inner, stop: &CancellationToken) -> Result<(), StoreError> {
    let mut client = inner.target.connect()?;
    if !try_lock(&mut client)? {
        tracing::debug!("another janitor is at work");
        return Ok(());
    }
    let timeout = inner.lock_timeout;
    let mut detaching = unless_locked(finish_pending(&mut client, timeout))?.is_some();
    for tenant in dropping(&mut client)? {
        if stop.is_cancelled() {
            break;
        }
        match leaf_state(&mut client, tenant)? {
            LeafState::Attached if !detaching => continue,
            LeafState::Attached => {
                if unless_locked(wait_for_readers(&mut client, &leaf(tenant)))?.is_none() {
                    continue;
                }
                detaching = unless_locked(detach(&mut client, tenant, timeout))?.is_some();
                if !detaching {
                    continue;
                }
            }
            LeafState::Detached | LeafState::Absent => {}
        }
        if unless_locked(drop_leaf(&mut client, tenant))?.is_some() {
            delete_rows(&mut client, tenant, inner.step_rows, stop)?;
        }
    }
    // The end of the session gives the lock back.
    client
        .close()
        .map_err(StoreError::sql("end the janitor's session"))
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

/// Waits until nobody uses a leaf: detaching needs that in the end, and would wait for it with the
/// parent locked and every other detach held up. Waiting here also sends an autovacuum of the leaf
/// away, which the server does not do for a wait shorter than its `deadlock_timeout`.
fn wait_for_readers(client: &mut Client, leaf: &str) -> Result<(), StoreError> {
    let wait = StoreError::sql("wait for readers of a deleted tenant's partition");
    let mut transaction = client.transaction().map_err(&wait)?;
    transaction
        .batch_execute(&format!("LOCK TABLE ONLY {leaf} IN ACCESS EXCLUSIVE MODE"))
        .map_err(&wait)?;
    transaction.commit().map_err(&wait)
}

/// Runs a statement that waits with the parent locked, so that creating a tenant waits behind it:
/// a tenth of the time that other locks are waited for. It stands alone, outside any transaction,
/// as CONCURRENTLY demands.
fn alter_parent(
    client: &mut Client,
    statement: &str,
    lock_timeout: Duration,
) -> Result<(), postgres::Error> {
    let (short, whole) = (lock_timeout / 10, lock_timeout);
    client.batch_execute(&format!("SET lock_timeout = {}", short.as_millis().max(1)))?;
    let outcome = client.batch_execute(statement);
    client.batch_execute(&format!("SET lock_timeout = {}", whole.as_millis()))?;
    outcome
}

/// Finishes a detach that was interrupted, whosever leaf it is: the server allows one at a time.
fn finish_pending(client: &mut Client, lock_timeout: Duration) -> Result<(), StoreError> {
    let finish = StoreError::sql("finish an interrupted detach");
    if !detaches_concurrently(client)? {
        return Ok(());
    }
    let pending = client
        .query_typed(
            "SELECT inhrelid::regclass::text
             FROM pg_inherits
             WHERE inhparent = 'messages'::regclass AND inhdetachpending",
            &[],
        )
        .map_err(&finish)?;
    for row in pending {
        let leaf: String = row.try_get(0).map_err(&finish)?;
        wait_for_readers(client, &leaf)?;
        let statement = format!("ALTER TABLE messages DETACH PARTITION {leaf} FINALIZE");
        alter_parent(client, &statement, lock_timeout).map_err(&finish)?;
    }
    Ok(())
}

/// PostgreSQL 13 detaches only with an exclusive lock on the parent; `database.lock_timeout` bounds
/// how long others queue behind the wait for it.
fn detaches_concurrently(client: &mut Client) -> Result<bool, StoreError> {
    client
        .query_typed_one(
            "SELECT current_setting('server_version_num')::integer >= 140000",
            &[],
        )
        .and_then(|row| row.try_get(0))
        .map_err(StoreError::sql("read the server's version"))
}

/// How a deleted tenant's leaf stands to its parent.
enum LeafState {
    /// A partition, perhaps with a detach pending. `detach` leads to `Detached`.
    Attached,
    /// A table by itself. `drop_leaf` leads to `Absent`.
    Detached,
    Absent,
}

fn leaf_state(client: &mut Client, tenant: TenantId) -> Result<LeafState, StoreError> {
    let look = StoreError::sql("look for the partition of a deleted tenant");
    let row = client
        .query_typed_one(
            "SELECT
                 to_regclass($1) IS NULL,
                 EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass($1))",
            &[(&leaf(tenant), Type::TEXT)],
        )
        .map_err(&look)?;
    let absent: bool = row.try_get(0).map_err(&look)?;
    let attached: bool = row.try_get(1).map_err(&look)?;
    Ok(match (absent, attached) {
        (true, _) => LeafState::Absent,
        (false, true) => LeafState::Attached,
        (false, false) => LeafState::Detached,
    })
}

fn detach(client: &mut Client, tenant: TenantId, lock_timeout: Duration) -> Result<(), StoreError> {
    let how = if detaches_concurrently(client)? {
        "CONCURRENTLY"
    } else {
        ""
    };
    let leaf = leaf(tenant);
    let statement = format!("ALTER TABLE messages DETACH PARTITION {leaf} {how}");
    alter_parent(client, &statement, lock_timeout)
        .map_err(StoreError::sql("detach the partition of a deleted tenant"))
}

fn drop_leaf(client: &mut Client, tenant: TenantId) -> Result<(), StoreError> {
    client
        .batch_execute(&format!("DROP TABLE IF EXISTS {}", leaf(tenant)))
        .map_err(StoreError::sql("drop the partition of a deleted tenant"))
}

/// The tenant's own row goes last: until then a crash leaves it to be found again, and its id
/// cannot be taken by a new tenant that would inherit what is left.
fn delete_rows(
    client: &mut Client,
    tenant: TenantId,
    step_rows: i64,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    for table in TABLES {
        while delete_step(client, table, tenant, step_rows)? == step_rows.unsigned_abs() {
            if stop.is_cancelled() {
                return Ok(());
            }
        }
    }
    client
        .execute_typed(
            "DELETE FROM tenants WHERE id = $1 AND state = 'dropping'",
            &[(&tenant.uuid(), Type::UUID)],
        )
        .map_err(StoreError::sql("delete the row of a deleted tenant"))?;
    tracing::info!(tenant.id = %tenant, "all of the deleted tenant {tenant} is gone");
    Ok(())
}

fn delete_step(
    client: &mut Client,
    table: &'static str,
    tenant: TenantId,
    step_rows: i64,
) -> Result<u64, StoreError> {
    client
        .execute_typed(
            &format!(
                "DELETE FROM {table}
                 WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE tenant_id = $1 LIMIT $2))"
            ),
            &[(&tenant.uuid(), Type::UUID), (&step_rows, Type::INT8)],
        )
        .map_err(StoreError::sql("delete the rows of a deleted tenant"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_janitor_knows_every_table_with_rows_of_a_tenant() {
        let schema = include_str!("../../../migrations/V1__first_release.sql");
        let tables: BTreeSet<&str> = schema
            .split("CREATE TABLE ")
            .skip(1)
            .filter_map(|definition| definition.split_once(" ("))
            .filter(|(_, columns)| {
                columns.split(";").next().is_some_and(|own| {
                    own.contains("tenant_id ") && !own.contains("REFERENCES tenants")
                })
            })
            .map(|(table, _)| table)
            .filter(|table| *table != "messages")
            .collect();
        assert_eq!(tables, BTreeSet::from(TABLES));
    }
}
