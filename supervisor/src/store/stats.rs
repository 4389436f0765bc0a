//! How many messages tenants have, from the counts that are kept with every change of them.

use std::collections::HashMap;

use jatis_shared::{
    counts::{ALL_TIME, Deltas, SUPERVISOR_SLOT},
    ids::{MessageId, TenantId},
    schema::leaf,
};
use jiff::Timestamp;
use postgres::{Client, Row, Transaction, error::SqlState, types::Type};
use uuid::Uuid;

use super::StoreError;

const MINUTE_MICROS: i64 = 60_000_000;

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
                stored: present(row, 1)?,
                dead: present(row, 2)?,
                deleted: present(row, 3)?,
            };
            Ok((TenantId::from(id), totals))
        })
        .collect()
}

/// All messages whose ids begin at a time or later, as the tables can count them: the minutes that
/// lie wholly within from their buckets, the rest of the first minute from its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first whole minute since 1970.
    pub first_minute: i32,
    /// Ids before that minute that belong to the window: from this one on …
    pub from: MessageId,
    /// … up to this one, which is the first that does not.
    pub below: MessageId,
}

impl Window {
    /// The window that begins at `start`, and has no end.
    #[must_use]
    pub fn since(start: Timestamp) -> Self {
        let micros = start.as_microsecond().max(0);
        let first_minute =
            micros.div_euclid(MINUTE_MICROS) + i64::from(micros.rem_euclid(MINUTE_MICROS) != 0);
        let begin = Timestamp::from_microsecond(first_minute * MINUTE_MICROS);
        Self {
            first_minute: i32::try_from(first_minute).unwrap_or(i32::MAX),
            from: MessageId::floor(start),
            below: MessageId::floor(begin.unwrap_or(Timestamp::MAX)),
        }
    }
}

/// A tenant's messages of all time and of two windows, all of one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows present.
    pub stored: u64,
    /// Dead letters present.
    pub dead: u64,
    /// Rows present of the longer window.
    pub longer: u64,
    /// Rows present of the shorter window.
    pub shorter: u64,
}

/// Counts a tenant's messages: a few thousand small rows over an index, and the ids of two partial
/// minutes over the leaf's primary key, however many messages there are. One statement, so one
/// snapshot: a message that is deleted meanwhile is missing everywhere or nowhere. `shorter` lies
/// within `longer`. All zero when the tenant has no leaf.
///
/// # Errors
/// The database failed, or a sum is negative.
pub fn count(
    client: &mut Client,
    tenant: TenantId,
    longer: Window,
    shorter: Window,
) -> Result<Counts, StoreError> {
    let counted = client.query_typed_one(
        &statement(tenant),
        &[
            (&tenant.uuid(), Type::UUID),
            (&longer.first_minute, Type::INT4),
            (&longer.from.uuid(), Type::UUID),
            (&longer.below.uuid(), Type::UUID),
            (&shorter.first_minute, Type::INT4),
            (&shorter.from.uuid(), Type::UUID),
            (&shorter.below.uuid(), Type::UUID),
        ],
    );
    match counted {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(Counts::default()),
        counted => {
            let row = counted.map_err(StoreError::sql("count a tenant's messages"))?;
            Ok(Counts {
                stored: present(&row, 0)?,
                dead: present(&row, 1)?,
                longer: present(&row, 2)?,
                shorter: present(&row, 3)?,
            })
        }
    }
}

fn statement(tenant: TenantId) -> String {
    let leaf = leaf(tenant);
    format!(
        "SELECT
             total.stored,
             total.dead,
             minutes.longer
                 + (SELECT count(*) FROM {leaf} WHERE tenant_id = $1 AND id >= $3 AND id < $4),
             minutes.shorter
                 + (SELECT count(*) FROM {leaf} WHERE tenant_id = $1 AND id >= $6 AND id < $7)
         FROM (
             SELECT
                 COALESCE(sum(stored), 0)::bigint AS stored,
                 COALESCE(sum(dead), 0)::bigint AS dead
             FROM message_counts
             WHERE tenant_id = $1 AND bucket = {ALL_TIME}
         ) AS total,
         (
             SELECT
                 COALESCE(sum(stored), 0)::bigint AS longer,
                 COALESCE(sum(stored) FILTER (WHERE bucket >= $5), 0)::bigint AS shorter
             FROM message_counts
             WHERE tenant_id = $1 AND bucket >= $2
         ) AS minutes"
    )
}

/// Adds to the counts what a transaction has changed; its last statement before the commit.
///
/// # Errors
/// The database failed.
pub(super) fn add(
    transaction: &mut Transaction<'_>,
    tenant: TenantId,
    deltas: &Deltas,
) -> Result<(), StoreError> {
    let columns = deltas.columns();
    transaction
        .execute_typed(
            "INSERT INTO message_counts AS c (tenant_id, bucket, origin, slot, stored, dead, deleted)
             SELECT $1, d.bucket, d.origin, $2, d.stored, d.dead, d.deleted
             FROM unnest($3::integer[], $4::smallint[], $5::bigint[], $6::bigint[], $7::bigint[])
                 AS d (bucket, origin, stored, dead, deleted)
             ON CONFLICT (tenant_id, bucket, origin, slot)
             DO UPDATE SET stored = c.stored + EXCLUDED.stored,
                 dead = c.dead + EXCLUDED.dead,
                 deleted = c.deleted + EXCLUDED.deleted",
            &[
                (&tenant.uuid(), Type::UUID),
                (&SUPERVISOR_SLOT, Type::INT2),
                (&columns.buckets, Type::INT4_ARRAY),
                (&columns.origins, Type::INT2_ARRAY),
                (&columns.stored, Type::INT8_ARRAY),
                (&columns.dead, Type::INT8_ARRAY),
                (&columns.deleted, Type::INT8_ARRAY),
            ],
        )
        .map(drop)
        .map_err(StoreError::sql("count a change of messages"))
}

/// A sum of differences: every transaction leaves it at what is there, never below nothing.
fn present(row: &Row, column: usize) -> Result<u64, StoreError> {
    let sum: i64 = row
        .try_get(column)
        .map_err(StoreError::sql("read a count of messages"))?;
    u64::try_from(sum).map_err(|_| StoreError::Corrupt {
        expected: "sum of message_counts",
        found: sum.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use jatis_shared::ids::{Mint, Origin, TenantNumber};
    use proptest::prelude::*;

    use super::*;

    fn time(micros: i64) -> Timestamp {
        Timestamp::from_microsecond(micros).expect("a time")
    }

    #[test]
    fn a_window_that_begins_with_a_minute_needs_no_ids() {
        for (start, first_minute, is_whole) in [
            (0, 0, true),
            (1, 1, false),
            (60_000_000, 1, true),
            (60_000_001, 2, false),
            (119_999_999, 2, false),
        ] {
            let window = Window::since(time(start));
            assert_eq!(window.first_minute, first_minute, "{start}");
            assert_eq!(window.from == window.below, is_whole, "{start}");
        }
    }

    proptest! {
        #[test]
        fn a_window_counts_what_lies_in_it_once_and_nothing_else(
            start in 0_i64..4_000_000_000_000_000,
            offset in -90_000_000_i64..90_000_000,
            random: u64,
        ) {
            let number = TenantNumber::try_from(1).expect("a number");
            let at = (start + offset).max(1);
            let id = Mint::above(0).mint(time(at), number, Origin::Accepted, random);
            let window = Window::since(time(start));
            let times = u8::from(id.minute() >= window.first_minute)
                + u8::from(window.from <= id && id < window.below);
            prop_assert_eq!(times, u8::from(at >= start));
        }
    }
}
