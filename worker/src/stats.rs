//! The arithmetic of `message_counts`: what a transaction adds, per bucket and origin.
//!
//! A message counts in the bucket of all time and in that of its minute, both read from its id,
//! so a late one counts where it belongs. Only what a transaction really changed is added here:
//! a redelivery changes nothing.

use std::collections::BTreeMap;

use jatis_shared::ids::MessageId;

/// The bucket of all time.
const ALL_TIME: i32 = -1;

/// What one transaction adds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Deltas {
    /// By bucket and origin; sorted, so that two transactions lock the rows in the same order.
    rows: BTreeMap<(i32, i16), Delta>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Delta {
    stored: i64,
    dead: i64,
}

/// The deltas as columns, for an array parameter each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) buckets: Vec<i32>,
    pub(crate) origins: Vec<i16>,
    pub(crate) stored: Vec<i64>,
    pub(crate) dead: Vec<i64>,
}

impl Deltas {
    /// A row was inserted.
    pub(crate) fn stored(&mut self, id: MessageId) {
        self.add(id, |delta| delta.stored += 1);
    }

    /// A dead letter was written.
    pub(crate) fn dead(&mut self, id: MessageId) {
        self.add(id, |delta| delta.dead += 1);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn add(&mut self, id: MessageId, change: impl Fn(&mut Delta)) {
        for bucket in [ALL_TIME, id.minute()] {
            change(self.rows.entry((bucket, id.origin().column())).or_default());
        }
    }

    pub(crate) fn columns(&self) -> Columns {
        let mut columns = Columns::default();
        for (&(bucket, origin), delta) in &self.rows {
            columns.buckets.push(bucket);
            columns.origins.push(origin);
            columns.stored.push(delta.stored);
            columns.dead.push(delta.dead);
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use jatis_shared::ids::{Mint, Origin, TenantNumber};
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

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
