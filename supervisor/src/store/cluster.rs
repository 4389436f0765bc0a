//! The cluster that `messages.stored_xid` is counted in.
//!
//! Readers that follow the end of a tenant's table rely on `stored_xid` growing for ever, but
//! transaction ids belong to a cluster: a dump restored into another one would count lower again.
//! Then the number added to them is raised above everything stored so far.

use postgres::{Client, types::Type};

use super::StoreError;

/// Rows may have been stored after `xid_high` was last noted, a second before the end at most.
const MARGIN: i64 = 1 << 24;

const READ: &str = "
    SELECT
        installation.system_identifier,
        control.system_identifier,
        xid_base,
        xid_high,
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint
    FROM installation, pg_control_system() AS control";

/// Notes which cluster this is, and raises `xid_base` if it is another one than before. Only the
/// supervisor in charge calls it, before any worker runs; repeating it after a crash is harmless.
pub(super) fn settle(client: &mut Client) -> Result<(), StoreError> {
    let read = StoreError::sql("read which cluster this is");
    let row = client.query_typed_one(READ, &[]).map_err(&read)?;
    let before: Option<i64> = row.try_get(0).map_err(&read)?;
    let now: i64 = row.try_get(1).map_err(&read)?;
    let base: i64 = row.try_get(2).map_err(&read)?;
    let high: i64 = row.try_get(3).map_err(&read)?;
    let next_xid: i64 = row.try_get(4).map_err(&read)?;
    match before {
        Some(before) if before == now => Ok(()),
        Some(_) => raise(client, now, base.max(high + MARGIN - next_xid)),
        None => note(client, now, base),
    }
}

const LEAVES: &str = "
    SELECT inhrelid::regclass::text
    FROM pg_inherits
    WHERE inhparent = 'messages'::regclass";

/// One table a transaction: thousands of partitions do not fit into the server's lock table.
fn raise(client: &mut Client, system_identifier: i64, base: i64) -> Result<(), StoreError> {
    tracing::info!(
        xid_base = base,
        "the database has moved to another cluster; stored_xid goes on above what it held"
    );
    let raise = StoreError::sql("raise stored_xid above what another cluster counted");
    let leaves = client.query_typed(LEAVES, &[]).map_err(&raise)?;
    let mut tables = vec!["messages".to_owned()];
    for leaf in leaves {
        tables.push(leaf.try_get(0).map_err(&raise)?);
    }
    for table in tables {
        let statement = format!(
            "ALTER TABLE ONLY {table} ALTER COLUMN stored_xid
             SET DEFAULT (pg_current_xact_id()::text::bigint + {base})"
        );
        client.batch_execute(&statement).map_err(&raise)?;
    }
    note(client, system_identifier, base)
}

fn note(client: &mut Client, system_identifier: i64, base: i64) -> Result<(), StoreError> {
    client
        .execute_typed(
            "UPDATE installation SET system_identifier = $1, xid_base = $2",
            &[(&system_identifier, Type::INT8), (&base, Type::INT8)],
        )
        .map_err(StoreError::sql("note which cluster this is"))?;
    Ok(())
}
