//! The birth of a tenant: its row and its leaf, in one transaction.

use jatis_shared::{
    ids::TenantId,
    retry::Backoff,
    schema::{LOCK_CREATE, TenantState, leaf},
    topology::QueueType,
};
use jiff::Timestamp;
use postgres::{Client, Transaction, error::SqlState, types::Type};

use super::{TenantRow, number, state};
use crate::{
    random,
    store::{Db, LockPatience, StoreError},
};

/// A tenant to be made.
#[derive(Debug, Clone)]
pub struct NewRow {
    pub id: TenantId,
    pub name: String,
    pub topology: QueueType,
    pub workers: u16,
}

/// How a creation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    Created(TenantRow),
    /// The id is taken.
    Exists,
    /// The id is taken by a tenant whose deletion is under way.
    Leaving,
}

/// Makes a tenant: its row, its configuration and its leaf, all or nothing. Meets locks of others
/// up to `database.lock_attempts` times, each waited for up to `database.lock_timeout`.
///
/// Not cancel-safe: dropped, it may still make the tenant.
///
/// # Errors
/// [`StoreError::Locked`], [`StoreError::NumbersExhausted`], or the database failed.
pub async fn create(db: &Db, new: NewRow) -> Result<Creation, StoreError> {
    let LockPatience { timeout, attempts } = db.inner.lock;
    let pause = Backoff {
        min: timeout / 10,
        max: timeout,
    };
    let mut met = 0;
    loop {
        let new = new.clone();
        let once = move |client: &mut Client| create_once(client, &new, timeout.as_millis());
        match db.run(once).await {
            Err(StoreError::Sql { doing, source })
                if source.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) =>
            {
                met += 1;
                if met >= attempts {
                    return Err(StoreError::Locked {
                        doing,
                        attempts,
                        source,
                    });
                }
            }
            outcome => return outcome,
        }
        tokio::time::sleep(pause.jittered(u32::from(met) - 1, random::dice())).await;
    }
}

/// The number is drawn by the insert itself, and only when there is something to insert.
const INSERT: &str = "
    INSERT INTO tenants (id, number, name, state, topology)
    SELECT $1, nextval('tenant_number'), $2, $3, $4
    WHERE NOT EXISTS (SELECT FROM tenants WHERE id = $1)
    RETURNING number, created_at";

fn create_once(
    client: &mut Client,
    new: &NewRow,
    lock_timeout_ms: u128,
) -> Result<Creation, StoreError> {
    let create = StoreError::sql("create the tenant");
    let mut transaction = client.transaction().map_err(&create)?;
    // Both locks that others may hold are taken before a number is drawn: a number is not given
    // back when the transaction fails. The second one is what ATTACH PARTITION takes.
    transaction
        .batch_execute(&format!(
            "SET LOCAL lock_timeout = {lock_timeout_ms};
             SELECT pg_advisory_xact_lock({LOCK_CREATE});
             LOCK TABLE ONLY messages IN SHARE UPDATE EXCLUSIVE MODE"
        ))
        .map_err(&create)?;
    let Some(row) = insert(&mut transaction, new)? else {
        return taken(&mut transaction, new.id);
    };
    attach_leaf(&mut transaction, new.id)?;
    transaction.commit().map_err(&create)?;
    Ok(Creation::Created(row))
}

fn insert(
    transaction: &mut Transaction<'_>,
    new: &NewRow,
) -> Result<Option<TenantRow>, StoreError> {
    let insert = StoreError::sql("insert the tenant");
    let state = TenantState::Active;
    let inserted = transaction
        .query_typed(
            INSERT,
            &[
                (&new.id.uuid(), Type::UUID),
                (&new.name, Type::TEXT),
                (&state.as_str(), Type::TEXT),
                (&new.topology.as_str(), Type::TEXT),
            ],
        )
        .map_err(|error| match error.code() {
            Some(&SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED) => StoreError::NumbersExhausted,
            _ => insert(error),
        })?;
    let Some(row) = inserted.first() else {
        return Ok(None);
    };
    transaction
        .execute_typed(
            "INSERT INTO tenant_configs (tenant_id, workers) VALUES ($1, $2)",
            &[
                (&new.id.uuid(), Type::UUID),
                (&i32::from(new.workers), Type::INT4),
            ],
        )
        .map_err(&insert)?;
    let created_at: Timestamp = row.try_get(1).map_err(&insert)?;
    Ok(Some(TenantRow {
        id: new.id,
        number: number(row.try_get(0).map_err(&insert)?)?,
        name: new.name.clone(),
        state,
        topology: new.topology,
        workers: new.workers,
        created_at,
        updated_at: created_at,
    }))
}

fn taken(transaction: &mut Transaction<'_>, id: TenantId) -> Result<Creation, StoreError> {
    let word: String = transaction
        .query_typed_one(
            "SELECT state FROM tenants WHERE id = $1",
            &[(&id.uuid(), Type::UUID)],
        )
        .and_then(|row| row.try_get(0))
        .map_err(StoreError::sql("read the tenant that has the id"))?;
    Ok(match state(&word)? {
        TenantState::Active | TenantState::Paused | TenantState::Stopped => Creation::Exists,
        TenantState::Draining | TenantState::Deleting | TenantState::Dropping => Creation::Leaving,
    })
}

/// Makes the leaf beside the parent and attaches it: unlike CREATE … PARTITION OF, that waits for
/// no reader of the parent and lets none wait. The CHECK spares the scan for rows that do not
/// belong. LIKE carries keys, indexes and defaults, but no storage options: a table that is only
/// ever appended to is vacuumed by its inserts, and at the common fifth of a large one too rarely
/// for its map of all-visible pages and the summaries of its BRIN.
fn attach_leaf(transaction: &mut Transaction<'_>, id: TenantId) -> Result<(), StoreError> {
    let leaf = leaf(id);
    transaction
        .batch_execute(&format!(
            "CREATE TABLE {leaf} (LIKE messages INCLUDING ALL, CHECK (tenant_id = '{id}'))
             WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
             ALTER TABLE messages ATTACH PARTITION {leaf} FOR VALUES IN ('{id}')"
        ))
        .map_err(StoreError::sql("create the tenant's partition"))
}
