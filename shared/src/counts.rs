//! The arithmetic of `message_counts`: what a transaction changes, per bucket and origin.
//!
//! A message counts in the bucket of all time and in that of its minute, both read from its id,
//! so a late one counts where it belongs. Only what a transaction really changed is noted here: a
//! redelivery changes nothing. The worker writes the differences in the slot of its connection,
//! the supervisor in [`SUPERVISOR_SLOT`]; whoever reads adds all slots up.

use std::collections::BTreeMap;

use crate::ids::MessageId;

/// The bucket of all time.
pub const ALL_TIME: i32 = -1;
/// The slot of the supervisor, which no connection of a worker has.
pub const SUPERVISOR_SLOT: i16 = -1;

/// What one transaction changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Deltas {
    /// By bucket and origin; sorted, so that two transactions lock the rows in the same order.
    rows: BTreeMap<(i32, i16), Delta>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Delta {
    stored: i64,
    dead: i64,
    deleted: i64,
}

/// The differences as columns, for an array parameter each.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Columns {
    pub buckets: Vec<i32>,
    pub origins: Vec<i16>,
    pub stored: Vec<i64>,
    pub dead: Vec<i64>,
    pub deleted: Vec<i64>,
}

impl Deltas {
    /// A row was inserted.
    pub fn stored(&mut self, id: MessageId) {
        self.add(id, |delta| delta.stored += 1);
    }

    /// A dead letter was written.
    pub fn dead(&mut self, id: MessageId) {
        self.add(id, |delta| delta.dead += 1);
    }

    /// A dead letter was taken away, because its message is stored now.
    pub fn revived(&mut self, id: MessageId) {
        self.add(id, |delta| delta.dead -= 1);
    }

    /// A client deleted a stored message. What is deleted stays counted for ever.
    pub fn deleted(&mut self, id: MessageId) {
        self.add(id, |delta| {
            delta.stored -= 1;
            delta.deleted += 1;
        });
    }

    /// Nothing was changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn add(&mut self, id: MessageId, change: impl Fn(&mut Delta)) {
        for bucket in [ALL_TIME, id.minute()] {
            change(self.rows.entry((bucket, id.origin().column())).or_default());
        }
    }

    /// What is to be added to the rows, sorted by bucket and origin.
    #[must_use]
    pub fn columns(&self) -> Columns {
        let mut columns = Columns::default();
        for (&(bucket, origin), delta) in &self.rows {
            columns.buckets.push(bucket);
            columns.origins.push(origin);
            columns.stored.push(delta.stored);
            columns.dead.push(delta.dead);
            columns.deleted.push(delta.deleted);
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{Mint, Origin, TenantNumber};

    fn id(second: i64, origin: Origin) -> MessageId {
        let number = TenantNumber::try_from(7).expect("a number");
        let now = Timestamp::from_second(second).expect("a time");
        Mint::above(0).mint(now, number, origin, 1)
    }

    #[test]
    fn a_message_counts_for_all_time_and_in_its_minute() {
        let mut deltas = Deltas::default();
        deltas.stored(id(60, Origin::Accepted));
        deltas.stored(id(119, Origin::Accepted));
        deltas.stored(id(120, Origin::Consumed));
        deltas.dead(id(60, Origin::Accepted));
        assert_eq!(
            deltas.columns(),
            Columns {
                buckets: vec![-1, -1, 1, 2],
                origins: vec![0, 1, 0, 1],
                stored: vec![2, 1, 2, 1],
                dead: vec![1, 0, 1, 0],
                deleted: vec![0; 4],
            }
        );
    }

    #[test]
    fn what_is_deleted_or_revived_leaves_where_it_counted() {
        let mut deltas = Deltas::default();
        let (first, second) = (id(60, Origin::Accepted), id(61, Origin::Accepted));
        deltas.stored(first);
        deltas.deleted(first);
        deltas.dead(second);
        deltas.revived(second);
        assert_eq!(
            deltas.columns(),
            Columns {
                buckets: vec![-1, 1],
                origins: vec![0, 0],
                stored: vec![0, 0],
                dead: vec![0, 0],
                deleted: vec![1, 1],
            }
        );
    }

    #[test]
    fn nothing_adds_nothing() {
        assert!(Deltas::default().is_empty());
        assert_eq!(Deltas::default().columns(), Columns::default());
    }

    proptest! {
        #[test]
        fn minutes_add_up_to_all_time_and_are_sorted(
            seconds in proptest::collection::vec((0_i64..600, any::<bool>()), 0..50),
        ) {
            let mut deltas = Deltas::default();
            for &(second, consumed) in &seconds {
                deltas.stored(id(second, if consumed { Origin::Consumed } else { Origin::Accepted }));
            }
            let columns = deltas.columns();
            let keys: Vec<_> = columns.buckets.iter().zip(&columns.origins).collect();
            prop_assert!(keys.is_sorted());
            let (mut total, mut minutes) = (0, 0);
            for (&bucket, &stored) in columns.buckets.iter().zip(&columns.stored) {
                *(if bucket == ALL_TIME { &mut total } else { &mut minutes }) += stored;
            }
            prop_assert_eq!(total, minutes);
            prop_assert_eq!(total, i64::try_from(seconds.len()).expect("few"));
        }
    }
}
