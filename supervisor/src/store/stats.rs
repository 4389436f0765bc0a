//! How many messages tenants have, from the counts that their workers keep.

use std::collections::HashMap;

use jatis_shared::ids::TenantId;
use postgres::{Client, types::Type};
use uuid::Uuid;

use super::StoreError;

/// A tenant's messages of all time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rows present.
    pub stored: u64,
    /// Dead letters present.
    pub dead: u64,
    /// Messages deleted by clients.
    pub deleted: u64,
}

/// Bucket −1 is the total; its rows are signed differences, one a writer.
const TOTALS: &str = "
    SELECT tenant_id, sum(stored)::bigint, sum(dead)::bigint, sum(deleted)::bigint
    FROM message_counts
    WHERE tenant_id = ANY($1) AND bucket = -1
    GROUP BY tenant_id";

/// The totals of one tenant.
///
/// # Errors
/// The database failed, or a sum is negative.
pub fn totals(client: &mut Client, tenant: TenantId) -> Result<Totals, StoreError> {
    let mut all = totals_of(client, &[tenant])?;
    Ok(all.remove(&tenant).unwrap_or_default())
}

/// The totals of many tenants at once; one that never had a message has no entry.
///
/// # Errors
/// As [`totals`].
pub fn totals_of(
    client: &mut Client,
    tenants: &[TenantId],
) -> Result<HashMap<TenantId, Totals>, StoreError> {
    let count = StoreError::sql("count messages");
    let ids: Vec<Uuid> = tenants.iter().map(|tenant| tenant.uuid()).collect();
    let rows = client
        .query_typed(TOTALS, &[(&ids, Type::UUID_ARRAY)])
        .map_err(&count)?;
    rows.iter()
        .map(|row| {
            let id: Uuid = row.try_get(0).map_err(&count)?;
            let totals = Totals {
                stored: present(row.try_get(1).map_err(&count)?)?,
                dead: present(row.try_get(2).map_err(&count)?)?,
                deleted: present(row.try_get(3).map_err(&count)?)?,
            };
            Ok((TenantId::from(id), totals))
        })
        .collect()
}

/// A sum of differences: every transaction leaves it at what is there, never below nothing.
fn present(sum: i64) -> Result<u64, StoreError> {
    u64::try_from(sum).map_err(|_| StoreError::Corrupt {
        expected: "sum of message_counts",
        found: sum.to_string(),
    })
}
