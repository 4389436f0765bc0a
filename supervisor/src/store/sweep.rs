//! Deletes rows that have grown too old, a bounded number at a time.
//!
//! The database's clock judges: it has stamped the rows. Each table has an index on the column that
//! tells the age, so a step finds its rows without reading the young ones.

use std::time::Duration;

use postgres::{Client, types::Type};

use super::StoreError;

/// A table whose rows are kept for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    /// Ids of deleted messages.
    Tombstones,
    /// Counts of a minute; those of all time stay.
    MinuteCounts,
    /// The `message_id` of what AMQP clients published.
    AmqpKeys,
}

impl Swept {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Tombstones, Self::MinuteCounts, Self::AmqpKeys];

    /// The table's name: the value of the metric's label `table`.
    #[must_use]
    pub const fn table(self) -> &'static str {
        match self {
            Self::Tombstones => "message_tombstones",
            Self::MinuteCounts => "message_counts",
            Self::AmqpKeys => "amqp_keys",
        }
    }

    /// What is true of a row that is older than `$1` seconds, and the oldest first. Without an
    /// order a planner that knows nothing of the table might read all of it to find nothing old.
    const fn oldest(self) -> &'static str {
        match self {
            Self::Tombstones => {
                "deleted_at < now() - make_interval(secs => $1) ORDER BY deleted_at"
            }
            // The first condition is that of the index.
            Self::MinuteCounts => {
                "bucket >= 0
                     AND bucket < floor((extract(epoch FROM now())::float8 - $1) / 60)::integer
                 ORDER BY bucket"
            }
            Self::AmqpKeys => "seen_at < now() - make_interval(secs => $1) ORDER BY seen_at",
        }
    }
}

/// Deletes at most `rows` rows older than `age`, the oldest; how many it were. Waits for nobody: a
/// row that somebody has locked is left for the next time.
///
/// # Errors
/// The database failed.
pub fn step(
    client: &mut Client,
    swept: Swept,
    age: Duration,
    rows: u32,
) -> Result<u64, StoreError> {
    let (table, oldest) = (swept.table(), swept.oldest());
    client
        .execute_typed(
            &format!(
                "DELETE FROM {table}
                 WHERE ctid = ANY (ARRAY(
                     SELECT ctid FROM {table} WHERE {oldest} LIMIT $2 FOR UPDATE SKIP LOCKED
                 ))"
            ),
            &[
                (&age.as_secs_f64(), Type::FLOAT8),
                (&i64::from(rows), Type::INT8),
            ],
        )
        .map_err(StoreError::sql("delete rows that are too old"))
}
