//! The tenants: what is wanted of each, and the leaf that holds its messages.
//!
//! A tenant in state `dropping` exists for the janitor only; nothing here gives it out, but its id
//! stays taken until the janitor is done.

use jatis_shared::{
    ids::{TenantId, TenantNumber},
    schema::TenantState,
    topology::QueueType,
};
use jiff::Timestamp;
use postgres::{Client, Row, types::Type};
use uuid::Uuid;

pub use self::create::{Creation, NewRow, create};
use super::StoreError;

mod create;

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

/// A part of the list of tenants, newest first.
#[derive(Debug, Clone)]
pub struct Page {
    pub rows: Vec<TenantRow>,
    /// There are more behind the last row.
    pub has_next: bool,
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

/// What may be wanted of a tenant that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// That its messages are stored.
    Active,
    /// That its worker consumes nothing.
    Paused,
    /// That it has no worker.
    Stopped,
}

impl Wanted {
    const fn state(self) -> TenantState {
        match self {
            Self::Active => TenantState::Active,
            Self::Paused => TenantState::Paused,
            Self::Stopped => TenantState::Stopped,
        }
    }
}

/// What shall be different of a tenant; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct NewValues {
    pub name: Option<String>,
    /// Pool threads wanted.
    pub workers: Option<u16>,
    pub wanted: Option<Wanted>,
}

const CHANGE: &str = "
    WITH changed AS (
        UPDATE tenants
        SET name = coalesce($2, name), state = coalesce($3, state), updated_at = now()
        WHERE id = $1 AND state IN ('active', 'paused', 'stopped')
        RETURNING *
    ), config AS (
        UPDATE tenant_configs
        SET workers = coalesce($4, workers), updated_at = now()
        FROM changed
        WHERE tenant_id = changed.id
        RETURNING workers
    )
    SELECT id, number, name, state, topology, workers, created_at, updated_at
    FROM changed, config";

/// Changes a tenant. `None` when there is none of this id that is not on its way out.
///
/// # Errors
/// As [`get`].
pub fn change(
    client: &mut Client,
    id: TenantId,
    new: &NewValues,
) -> Result<Option<TenantRow>, StoreError> {
    let state = new.wanted.map(|wanted| wanted.state().as_str());
    client
        .query_typed_opt(
            CHANGE,
            &[
                (&id.uuid(), Type::UUID),
                (&new.name, Type::TEXT),
                (&state, Type::TEXT),
                (&new.workers.map(i32::from), Type::INT4),
            ],
        )
        .map_err(StoreError::sql("change the tenant"))?
        .map(|row| tenant(&row))
        .transpose()
}

const MARK_DRAINING: &str = "
    UPDATE tenants
    SET state = 'draining', updated_at = now()
    WHERE id = $1 AND state IN ('active', 'paused', 'stopped')";

const MARK_DELETING: &str = "
    UPDATE tenants
    SET state = 'deleting', updated_at = now()
    WHERE id = $1 AND state IN ('active', 'paused', 'stopped', 'draining')";

/// Begins a deletion that stores first what is queued: from here on the tenant takes no messages.
/// Gives the tenant as it is now, which may be `deleting` already; `None` when there is none.
///
/// # Errors
/// As [`get`].
pub fn mark_draining(client: &mut Client, id: TenantId) -> Result<Option<TenantRow>, StoreError> {
    mark(client, id, MARK_DRAINING)
}

/// Begins a deletion, or ends a drain: from here on the tenant takes no messages and stores none.
/// Gives the tenant as it is now; `None` when there is none.
///
/// # Errors
/// As [`get`].
pub fn mark_deleting(client: &mut Client, id: TenantId) -> Result<Option<TenantRow>, StoreError> {
    mark(client, id, MARK_DELETING)
}

fn mark(
    client: &mut Client,
    id: TenantId,
    statement: &str,
) -> Result<Option<TenantRow>, StoreError> {
    client
        .execute_typed(statement, &[(&id.uuid(), Type::UUID)])
        .map_err(StoreError::sql("mark the tenant for deletion"))?;
    get(client, id)
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
