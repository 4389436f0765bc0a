//! Stored messages: read one, read a stretch of a tenant's, delete one.
//!
//! Every statement names the tenant's leaf and goes over its primary key. Nothing is prepared: one
//! round trip each, and a connection that serves a thousand tenants keeps nothing of them.

use jatis_shared::{
    counts::Deltas,
    ids::{MessageId, TenantId},
    schema::leaf,
};
use postgres::{
    Client, Row,
    error::SqlState,
    types::{ToSql, Type},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{StoreError, stats};

/// A stored message; its time is in its id.
#[derive(Debug)]
pub struct MessageRow {
    pub id: MessageId,
    pub payload: Box<RawValue>,
}

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Up,
    /// Newest first.
    Down,
}

/// A stretch of a tenant's messages.
#[derive(Debug, Clone, Copy)]
pub struct Scan {
    pub tenant: TenantId,
    pub direction: Direction,
    /// Begin behind this id, as seen in the direction; the id need not exist.
    pub after: Option<MessageId>,
    /// Only ids equal to this or greater.
    pub at_least: Option<MessageId>,
    /// Only smaller ids than this.
    pub below: Option<MessageId>,
    /// Most rows given.
    pub limit: u16,
    /// No further row is given once this many bytes of payload are. Counted as text or as stored,
    /// whichever is reached first: payloads that the server keeps compressed must not become
    /// gigabytes here, and large ones must not all be unpacked there only to be counted.
    pub max_bytes: u32,
}

/// What a scan found.
#[derive(Debug, Default)]
pub struct Stretch {
    /// In the scan's direction.
    pub rows: Vec<MessageRow>,
    /// There are more rows behind the last one.
    pub more: bool,
}

/// The stretch a scan asks for; empty when the tenant has no leaf.
///
/// # Errors
/// The database failed.
pub fn scan(client: &mut Client, scan: &Scan) -> Result<Stretch, StoreError> {
    let read = StoreError::sql("read a page of messages");
    let (lowest, below) = bounds(scan);
    let max_bytes = i64::from(scan.max_bytes);
    let found = client.query_typed(
        &statement(scan),
        &[
            (&scan.tenant.uuid(), Type::UUID),
            (&lowest, Type::UUID),
            (&below, Type::UUID),
            (&(i64::from(scan.limit) + 1), Type::INT8),
            (&max_bytes, Type::INT8),
        ],
    );
    let found = match found {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            return Ok(Stretch::default());
        }
        found => found.map_err(&read)?,
    };
    let in_reach: i64 = match found.first() {
        Some(row) => row.try_get(2).map_err(&read)?,
        None => 0,
    };
    let limit = usize::from(scan.limit);
    let rows: Vec<MessageRow> = found
        .iter()
        .take(limit)
        .map(message)
        .collect::<Result<_, _>>()?;
    let more = usize::try_from(in_reach).is_ok_and(|in_reach| in_reach > rows.len());
    Ok(Stretch { rows, more })
}

/// The scan's ids as one range: from the first value up to, but without, the second; `None` for no
/// end.
fn bounds(scan: &Scan) -> (Uuid, Option<Uuid>) {
    let at_least = scan.at_least.map_or(Uuid::nil(), MessageId::uuid);
    let below = scan.below.map(MessageId::uuid);
    match (scan.direction, scan.after.map(MessageId::uuid)) {
        (_, None) => (at_least, below),
        // The smallest id greater than it. The greatest of all has none, and nothing follows it.
        (Direction::Up, Some(after)) => match after.as_u128().checked_add(1) {
            Some(next) => (at_least.max(Uuid::from_u128(next)), below),
            None => (after, Some(after)),
        },
        (Direction::Down, Some(after)) => (
            at_least,
            Some(below.map_or(after, |below| below.min(after))),
        ),
    }
}

/// One row more than the limit is reached for, to know whether there is any. The inner sum, of
/// sizes as stored, needs no payload; the outer one, of the texts, unpacks only what the inner one
/// let through.
fn statement(scan: &Scan) -> String {
    let leaf = leaf(scan.tenant);
    let order = match scan.direction {
        Direction::Up => "ASC",
        Direction::Down => "DESC",
    };
    let before = "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING";
    format!(
        "SELECT id, text, in_reach
         FROM (
             SELECT id, text, in_reach, sum(octet_length(text)) OVER (ORDER BY id {order} {before}) AS bytes
             FROM (
                 SELECT id, payload::text AS text, in_reach
                 FROM (
                     SELECT
                         id,
                         payload,
                         count(*) OVER () AS in_reach,
                         sum(pg_column_size(payload)) OVER (ORDER BY id {order} {before}) AS bytes
                     FROM (
                         SELECT id, payload
                         FROM {leaf}
                         WHERE tenant_id = $1 AND id >= $2 AND ($3::uuid IS NULL OR id < $3)
                         ORDER BY id {order}
                         LIMIT $4
                     ) AS reached
                 ) AS sized
                 WHERE bytes IS NULL OR bytes < $5
             ) AS unpacked
         ) AS counted
         WHERE bytes IS NULL OR bytes < $5
         ORDER BY id {order}"
    )
}

/// One message of a tenant; `None` also when the tenant has no leaf.
///
/// # Errors
/// The database failed.
pub fn get(
    client: &mut Client,
    tenant: TenantId,
    id: MessageId,
) -> Result<Option<MessageRow>, StoreError> {
    let statement = format!(
        "SELECT id, payload::text
         FROM {}
         WHERE tenant_id = $1 AND id = $2",
        leaf(tenant)
    );
    let found = client.query_typed_opt(
        &statement,
        &[(&tenant.uuid(), Type::UUID), (&id.uuid(), Type::UUID)],
    );
    match found {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
        found => found
            .map_err(StoreError::sql("read a message"))?
            .map(|row| message(&row))
            .transpose(),
    }
}

/// Of a message that has no row, nothing more is to come: it was deleted, or it is a dead letter.
///
/// # Errors
/// The database failed.
pub fn is_over(client: &mut Client, tenant: TenantId, id: MessageId) -> Result<bool, StoreError> {
    client
        .query_typed_one(
            "SELECT EXISTS (SELECT FROM message_tombstones WHERE tenant_id = $1 AND id = $2)
                 OR EXISTS (SELECT FROM dead_letters WHERE tenant_id = $1 AND message_id = $2)",
            &[(&tenant.uuid(), Type::UUID), (&id.uuid(), Type::UUID)],
        )
        .and_then(|row| row.try_get(0))
        .map_err(StoreError::sql("look for what became of a message"))
}

/// What came of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// The message was stored and is no more; of several deletions at once only one comes to this.
    Deleted,
    /// It is not stored, or the tenant has no leaf.
    Absent,
}

/// Deletes a message for good: with its row goes, in one transaction, a tombstone against its
/// redelivery into place, and its share of the counts away. The counts come last: their row is
/// shared by all deletions of the tenant, and locked only until the commit that follows.
///
/// # Errors
/// The database failed; when it was lost during the commit, the message may be deleted.
pub fn delete(
    client: &mut Client,
    tenant: TenantId,
    id: MessageId,
) -> Result<Deletion, StoreError> {
    let delete = StoreError::sql("delete a message");
    let (owner, message) = (tenant.uuid(), id.uuid());
    let key: [(&(dyn ToSql + Sync), Type); 2] = [(&owner, Type::UUID), (&message, Type::UUID)];
    let mut transaction = client.transaction().map_err(&delete)?;
    let statement = format!(
        "DELETE FROM {}
         WHERE tenant_id = $1 AND id = $2",
        leaf(tenant)
    );
    let rows = match transaction.execute_typed(&statement, &key) {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => 0,
        deleted => deleted.map_err(&delete)?,
    };
    if rows == 0 {
        return Ok(Deletion::Absent);
    }
    transaction
        .execute_typed(
            "INSERT INTO message_tombstones (tenant_id, id, deleted_at)
             VALUES ($1, $2, now())
             ON CONFLICT (tenant_id, id) DO UPDATE SET deleted_at = EXCLUDED.deleted_at",
            &key,
        )
        .map_err(&delete)?;
    let mut deltas = Deltas::default();
    deltas.deleted(id);
    stats::add(&mut transaction, tenant, &deltas)?;
    transaction.commit().map_err(&delete)?;
    Ok(Deletion::Deleted)
}

fn message(row: &Row) -> Result<MessageRow, StoreError> {
    let read = StoreError::sql("read a message's row");
    let id: Uuid = row.try_get(0).map_err(&read)?;
    let payload: String = row.try_get(1).map_err(&read)?;
    let id = MessageId::from(id);
    // jsonb gives well-formed JSON only; the bound of its depth lies far above the scanner's.
    let payload = RawValue::from_string(payload).map_err(|_| StoreError::Corrupt {
        expected: "payload",
        found: format!("message {id}"),
    })?;
    Ok(MessageRow { id, payload })
}
