//! The leaf of a deleted tenant: detached from its parent, then dropped.
//!
//! ```text
//!   attached ─▶ detach pending ─▶ detached ─▶ absent
//! ```
//!
//! None of this takes a lock on the parent for longer than [`parent_timeout`].

use std::time::Duration;

use jatis_shared::{ids::TenantId, schema::leaf};
use postgres::{Client, types::Type};

use super::unless_locked;
use crate::store::StoreError;

/// How a deleted tenant's leaf stands to its parent.
pub(super) enum LeafState {
    /// A partition, perhaps with a detach pending. `detach` leads to `Detached`.
    Attached,
    /// A table by itself. `drop_leaf` leads to `Absent`.
    Detached,
    Absent,
}

pub(super) fn leaf_state(client: &mut Client, tenant: TenantId) -> Result<LeafState, StoreError> {
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

/// Finishes a detach that was interrupted, whosever leaf it is: the server allows one at a time.
/// Gives whether there is none any more.
pub(super) fn finish_pending(
    client: &mut Client,
    lock_timeout: Duration,
) -> Result<bool, StoreError> {
    let finish = StoreError::sql("finish an interrupted detach");
    if !detaches_concurrently(client)? {
        return Ok(true);
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
        if has_old_snapshots(client, lock_timeout)? {
            return Ok(false);
        }
        let statement = format!("ALTER TABLE messages DETACH PARTITION {leaf} FINALIZE");
        alter_parent(client, &statement, lock_timeout).map_err(&finish)?;
    }
    Ok(true)
}

/// How an attempt to detach a leaf ended.
pub(super) enum Attempt {
    Detached,
    /// Somebody reads the leaf, and nothing was begun.
    Read,
    /// Somebody reads the parent: until this one is finished no other leaf can be detached.
    Pending,
}

pub(super) fn detach(
    client: &mut Client,
    tenant: TenantId,
    lock_timeout: Duration,
) -> Result<Attempt, StoreError> {
    let leaf = leaf(tenant);
    if unless_locked(wait_for_readers(client, &leaf))?.is_none() {
        return Ok(Attempt::Read);
    }
    let how = if detaches_concurrently(client)? {
        "CONCURRENTLY"
    } else {
        ""
    };
    let statement = format!("ALTER TABLE messages DETACH PARTITION {leaf} {how}");
    let detached = alter_parent(client, &statement, lock_timeout)
        .map_err(StoreError::sql("detach the partition of a deleted tenant"));
    Ok(match unless_locked(detached)? {
        Some(()) => Attempt::Detached,
        None => Attempt::Pending,
    })
}

pub(super) fn drop_leaf(client: &mut Client, tenant: TenantId) -> Result<(), StoreError> {
    client
        .batch_execute(&format!("DROP TABLE IF EXISTS {}", leaf(tenant)))
        .map_err(StoreError::sql("drop the partition of a deleted tenant"))
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

/// Whether a transaction is open that FINALIZE would wait for, with the parent locked: every one
/// that may still see the partition, whatever it reads, and this one has lasted longer than the
/// wait would be given. Transactions of other roles are seen only by who may see all; a wait in
/// vain for one of those is short.
fn has_old_snapshots(client: &mut Client, lock_timeout: Duration) -> Result<bool, StoreError> {
    client
        .query_typed_one(
            "SELECT EXISTS (
                 SELECT
                 FROM pg_stat_activity
                 WHERE datname = current_database()
                   AND backend_type = 'client backend'
                   AND pid <> pg_backend_pid()
                   AND backend_xmin IS NOT NULL
                   AND xact_start < clock_timestamp() - make_interval(secs => $1)
             )",
            &[(&parent_timeout(lock_timeout).as_secs_f64(), Type::FLOAT8)],
        )
        .and_then(|row| row.try_get(0))
        .map_err(StoreError::sql("look for readers of deleted tenants"))
}

/// Runs a statement that may wait with the parent locked. It stands alone, outside any transaction,
/// as CONCURRENTLY demands.
fn alter_parent(
    client: &mut Client,
    statement: &str,
    lock_timeout: Duration,
) -> Result<(), postgres::Error> {
    let (short, whole) = (parent_timeout(lock_timeout), lock_timeout);
    client.batch_execute(&format!("SET lock_timeout = {}", short.as_millis()))?;
    let outcome = client.batch_execute(statement);
    client.batch_execute(&format!("SET lock_timeout = {}", whole.as_millis()))?;
    outcome
}

/// How long a wait may be that keeps the parent locked, so that creating a tenant waits behind it: a
/// tenth of the time that other locks are waited for.
fn parent_timeout(lock_timeout: Duration) -> Duration {
    (lock_timeout / 10).max(Duration::from_millis(1))
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
