//! What of the tenants' workers must outlive the supervisor: how they have failed.

use std::collections::BTreeMap;

use jatis_shared::ids::TenantId;
use jiff::Timestamp;
use postgres::{Client, Row, types::Type};
use uuid::Uuid;

use super::StoreError;

/// A tenant's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeRow {
    pub tenant: TenantId,
    /// Oldest first.
    pub crash_times: Vec<Timestamp>,
    pub quarantined_until: Option<Timestamp>,
    /// Quarantines in a row, 0 to 32,767.
    pub probe_step: u16,
    /// By suspect message: how often a worker crashed with it alone.
    pub suspects: BTreeMap<String, u16>,
}

/// Every row there is.
///
/// # Errors
/// The database failed, or a row holds what this version does not write.
pub fn all(client: &mut Client) -> Result<Vec<RuntimeRow>, StoreError> {
    const ALL: &str = "
        SELECT tenant_id, crash_times, quarantined_until, probe_step, suspects::text
          FROM tenant_runtime";
    let rows = client
        .query_typed(ALL, &[])
        .map_err(StoreError::sql("read how workers have failed"))?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<RuntimeRow, StoreError> {
    let read = StoreError::sql("read how a worker has failed");
    let tenant: Uuid = row.try_get(0).map_err(&read)?;
    let step: i16 = row.try_get(3).map_err(&read)?;
    let suspects: String = row.try_get(4).map_err(&read)?;
    Ok(RuntimeRow {
        tenant: tenant.into(),
        crash_times: row.try_get(1).map_err(&read)?,
        quarantined_until: row.try_get(2).map_err(&read)?,
        probe_step: u16::try_from(step).unwrap_or_default(),
        suspects: serde_json::from_str(&suspects).map_err(|_| StoreError::Corrupt {
            expected: "tenant_runtime.suspects",
            found: suspects,
        })?,
    })
}

/// Writes the row of a tenant, unless the tenant is on its way out: its rows are being deleted, and
/// a new one would be left behind.
///
/// # Errors
/// The database failed.
pub fn save(client: &mut Client, row: &RuntimeRow) -> Result<(), StoreError> {
    const SAVE: &str = "
        INSERT INTO tenant_runtime
               (tenant_id, crash_times, quarantined_until, probe_step, suspects)
        SELECT id, $2, $3, $4, $5::text::jsonb
          FROM tenants
         WHERE id = $1
           AND state NOT IN ('deleting', 'dropping')
           FOR SHARE
            ON CONFLICT (tenant_id) DO UPDATE
           SET crash_times = excluded.crash_times,
               quarantined_until = excluded.quarantined_until,
               probe_step = excluded.probe_step,
               suspects = excluded.suspects,
               updated_at = now()";
    let step = i16::try_from(row.probe_step).unwrap_or(i16::MAX);
    let suspects = serde_json::json!(row.suspects).to_string();
    client
        .execute_typed(
            SAVE,
            &[
                (&row.tenant.uuid(), Type::UUID),
                (&row.crash_times, Type::TIMESTAMPTZ_ARRAY),
                (&row.quarantined_until, Type::TIMESTAMPTZ),
                (&step, Type::INT2),
                (&suspects, Type::TEXT),
            ],
        )
        .map_err(StoreError::sql("note how a worker has failed"))?;
    Ok(())
}
