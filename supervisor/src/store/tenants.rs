//! The tenants: what is wanted of each, and the leaf that holds its messages.
//!
//! A tenant in state `dropping` exists for the janitor only; nothing here gives it out, but its id
//! stays taken until the janitor is done.

use jatis_shared::{
    ids::{TenantId, TenantNumber},
    retry::Backoff,
    schema::{LOCK_CREATE, TenantState, leaf},
    topology::QueueType,
};
use jiff::Timestamp;
use postgres::{Client, Row, Transaction, error::SqlState, types::Type};
use uuid::Uuid;

use super::{Db, LockPatience, StoreError};
use crate::random;

/// A tenant's row, with the workers of its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRow {
    pub id: TenantId,
    pub number: TenantNumber,
    pub name: String,
    pub state: TenantState,
    /// Of its main queue, as chosen at its creation.
    pub topology: QueueType,
    /// Pool threads wanted.
    pub workers: u16,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

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

/// A part of the list of tenants, newest first.
#[derive(Debug, Clone)]
pub struct Page {
    pub rows: Vec<TenantRow>,
    /// There are more behind the last row.
    pub has_next: bool,
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
        TenantState::Active => Creation::Exists,
        TenantState::Deleting | TenantState::Dropping => Creation::Leaving,
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

macro_rules! select_tenants {
    ($where:literal) => {
        concat!(
            "SELECT tenants.id, number, name, state, topology, workers, created_at, tenants.updated_at
             FROM tenants
             JOIN tenant_configs ON tenant_id = tenants.id
             WHERE state <> 'dropping' AND ",
            $where
        )
    };
}

/// The tenant of this id.
///
/// # Errors
/// The database failed, or the row holds a word of a later version.
pub fn get(client: &mut Client, id: TenantId) -> Result<Option<TenantRow>, StoreError> {
    client
        .query_typed_opt(
            select_tenants!("tenants.id = $1"),
            &[(&id.uuid(), Type::UUID)],
        )
        .map_err(StoreError::sql("read the tenant"))?
        .map(|row| tenant(&row))
        .transpose()
}

/// The tenant whose message ids carry this number.
///
/// # Errors
/// As [`get`].
pub fn get_by_number(
    client: &mut Client,
    number: TenantNumber,
) -> Result<Option<TenantRow>, StoreError> {
    client
        .query_typed_opt(
            select_tenants!("number = $1"),
            &[(&column(number), Type::INT4)],
        )
        .map_err(StoreError::sql("read the tenant of a number"))?
        .map(|row| tenant(&row))
        .transpose()
}

/// Numbers are given in order of creation and never twice, so they order the list and are its
/// cursor.
const LIST: &str = select_tenants!(
    "($1::integer IS NULL OR number < $1)
       AND ($2::text IS NULL OR strpos(lower(name), lower($2)) > 0)
     ORDER BY number DESC
     LIMIT $3"
);

/// A page of tenants, newest first: made before the tenant of the number `below`, with names that
/// contain `name` in whatever case. A number and not an id, because the walk must go on when the
/// tenant it has come to is deleted.
///
/// # Errors
/// As [`get`].
pub fn page(
    client: &mut Client,
    limit: u16,
    below: Option<TenantNumber>,
    name: Option<&str>,
) -> Result<Page, StoreError> {
    let found = client
        .query_typed(
            LIST,
            &[
                (&below.map(column), Type::INT4),
                (&name, Type::TEXT),
                (&(i64::from(limit) + 1), Type::INT8),
            ],
        )
        .map_err(StoreError::sql("list tenants"))?;
    let limit = usize::from(limit);
    Ok(Page {
        rows: found
            .iter()
            .take(limit)
            .map(tenant)
            .collect::<Result<_, _>>()?,
        has_next: found.len() > limit,
    })
}

/// Every tenant for which something shall run or be taken down.
///
/// # Errors
/// As [`get`].
pub fn all(client: &mut Client) -> Result<Vec<TenantRow>, StoreError> {
    client
        .query_typed(select_tenants!("true ORDER BY number"), &[])
        .map_err(StoreError::sql("read all tenants"))?
        .iter()
        .map(tenant)
        .collect()
}

const SET_WORKERS: &str = "
    WITH changed AS (
        UPDATE tenants
        SET updated_at = now()
        WHERE id = $1 AND state = 'active'
        RETURNING *
    ), config AS (
        UPDATE tenant_configs
        SET workers = $2, updated_at = now()
        FROM changed
        WHERE tenant_id = changed.id
        RETURNING workers
    )
    SELECT id, number, name, state, topology, workers, created_at, updated_at
    FROM changed, config";

/// Sets how many pool threads are wanted. `None` when there is no active tenant of this id.
///
/// # Errors
/// As [`get`].
pub fn set_workers(
    client: &mut Client,
    id: TenantId,
    workers: u16,
) -> Result<Option<TenantRow>, StoreError> {
    client
        .query_typed_opt(
            SET_WORKERS,
            &[(&id.uuid(), Type::UUID), (&i32::from(workers), Type::INT4)],
        )
        .map_err(StoreError::sql("set the tenant's workers"))?
        .map(|row| tenant(&row))
        .transpose()
}

const MARK_DELETING: &str = "
    UPDATE tenants
    SET state = 'deleting', updated_at = now()
    WHERE id = $1 AND state = 'active'";

/// Begins a deletion: from here on the tenant takes no messages. True when it was active until
/// now; of several orders at once exactly one hears that.
///
/// # Errors
/// The database failed.
pub fn mark_deleting(client: &mut Client, id: TenantId) -> Result<bool, StoreError> {
    let marked = client
        .execute_typed(MARK_DELETING, &[(&id.uuid(), Type::UUID)])
        .map_err(StoreError::sql("mark the tenant for deletion"))?;
    Ok(marked == 1)
}

const MARK_DROPPING: &str = "
    UPDATE tenants
    SET state = 'dropping', updated_at = now()
    WHERE id = $1 AND state = 'deleting'";

/// Hands a tenant without worker and queues to the janitor; nobody else sees it any more. Does
/// nothing unless the tenant is in state `deleting`.
///
/// # Errors
/// The database failed.
pub fn mark_dropping(client: &mut Client, id: TenantId) -> Result<(), StoreError> {
    client
        .execute_typed(MARK_DROPPING, &[(&id.uuid(), Type::UUID)])
        .map_err(StoreError::sql("hand the tenant to the janitor"))?;
    Ok(())
}

fn tenant(row: &Row) -> Result<TenantRow, StoreError> {
    let read = StoreError::sql("read a tenant's row");
    let id: Uuid = row.try_get(0).map_err(&read)?;
    let topology: String = row.try_get(4).map_err(&read)?;
    let workers: i32 = row.try_get(5).map_err(&read)?;
    Ok(TenantRow {
        id: TenantId::from(id),
        number: number(row.try_get(1).map_err(&read)?)?,
        name: row.try_get(2).map_err(&read)?,
        state: state(row.try_get(3).map_err(&read)?)?,
        topology: QueueType::parse(&topology).ok_or(StoreError::Corrupt {
            expected: "tenants.topology",
            found: topology,
        })?,
        workers: u16::try_from(workers).map_err(|_| StoreError::Corrupt {
            expected: "tenant_configs.workers",
            found: workers.to_string(),
        })?,
        created_at: row.try_get(6).map_err(&read)?,
        updated_at: row.try_get(7).map_err(&read)?,
    })
}

fn state(word: &str) -> Result<TenantState, StoreError> {
    TenantState::parse(word).ok_or_else(|| StoreError::Corrupt {
        expected: "tenants.state",
        found: word.to_owned(),
    })
}

fn number(stored: i32) -> Result<TenantNumber, StoreError> {
    u32::try_from(stored)
        .ok()
        .and_then(|number| TenantNumber::try_from(number).ok())
        .ok_or_else(|| StoreError::Corrupt {
            expected: "tenants.number",
            found: stored.to_string(),
        })
}

/// As stored in `tenants.number`; its 24 bits always fit.
fn column(number: TenantNumber) -> i32 {
    i32::try_from(u32::from(number)).unwrap_or(i32::MAX)
}
