//! The rows of a deleted tenant, outside of its leaf.

use jatis_shared::ids::TenantId;
use postgres::{Client, types::Type};
use tokio_util::sync::CancellationToken;

use crate::store::StoreError;

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

/// Deletes the rows, and gives whether it came to the end. The tenant's own row goes last: until
/// then a crash leaves it to be found again, and its id cannot be taken by a new tenant that would
/// inherit what is left.
pub(super) fn delete_rows(
    client: &mut Client,
    tenant: TenantId,
    step_rows: i64,
    stop: &CancellationToken,
) -> Result<bool, StoreError> {
    for table in TABLES {
        while delete_step(client, table, tenant, step_rows)? == step_rows.unsigned_abs() {
            if stop.is_cancelled() {
                return Ok(false);
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
    Ok(true)
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
        let schema = include_str!("../../../../migrations/V1__first_release.sql");
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
