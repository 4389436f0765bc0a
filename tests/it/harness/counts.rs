//! What `message_counts` says, against what the tables hold and what clients deleted.

use std::collections::BTreeMap;

use jatis_shared::{
    counts::ALL_TIME,
    ids::{MessageId, TenantId},
};

use super::oracle::{DeadRow, StoredRow};

/// The rows of a tenant's bucket and origin, added up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CountRow {
    pub(crate) tenant: TenantId,
    pub(crate) bucket: i32,
    pub(crate) origin: i16,
    pub(crate) stored: i64,
    pub(crate) dead: i64,
    pub(crate) deleted: i64,
}

/// What there really is.
#[derive(Debug)]
pub(crate) struct Truth<'a> {
    pub(crate) stored: &'a [StoredRow],
    pub(crate) dead: &'a [DeadRow],
    pub(crate) erased: &'a [(TenantId, MessageId)],
}

/// Counts that are not what is there, in the buckets from `oldest` minute on and that of all time.
pub(crate) fn faults(truth: &Truth<'_>, counts: &[CountRow], oldest: i32) -> Vec<String> {
    // How much too high stored, dead and deleted are.
    let mut surplus: BTreeMap<(TenantId, i32, i16), [i64; 3]> = BTreeMap::new();
    for row in counts {
        let key = (row.tenant, row.bucket, row.origin);
        surplus.insert(key, [row.stored, row.dead, row.deleted]);
    }
    let mut take = |tenant: TenantId, id: MessageId, what: usize| {
        for bucket in [ALL_TIME, id.minute()] {
            let found = surplus.entry((tenant, bucket, id.origin().column()));
            found.or_default()[what] -= 1;
        }
    };
    for row in truth.stored {
        take(row.tenant, row.id, 0);
    }
    for row in truth.dead {
        take(row.tenant, row.message_id, 1);
    }
    for (tenant, id) in truth.erased {
        take(*tenant, *id, 2);
    }
    surplus
        .into_iter()
        .filter(|((_, bucket, _), off)| *off != [0; 3] && (*bucket == ALL_TIME || *bucket >= oldest))
        .map(|((tenant, bucket, origin), off)| {
            format!("{tenant}: bucket {bucket}, origin {origin}: stored, dead, deleted are off by {off:?}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use jatis_shared::ids::{Mint, Origin, TenantNumber};
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    fn count(bucket: i32, stored: i64, dead: i64, deleted: i64) -> CountRow {
        CountRow {
            tenant: TenantId::from(Uuid::nil()),
            bucket,
            origin: 0,
            stored,
            dead,
            deleted,
        }
    }

    #[test]
    fn a_count_that_is_off_is_told_unless_it_may_have_been_swept() {
        let tenant = TenantId::from(Uuid::nil());
        let number = TenantNumber::try_from(1).expect("a number");
        let minute_7 = Timestamp::from_second(7 * 60).expect("a time");
        let id = Mint::above(0).mint(minute_7, number, Origin::Accepted, 0);
        let truth = Truth {
            stored: &[],
            dead: &[],
            erased: &[(tenant, id)],
        };
        let right = [count(ALL_TIME, 0, 0, 1), count(7, 0, 0, 1)];
        let check = |counts: &[CountRow], oldest| faults(&truth, counts, oldest).len();
        assert_eq!(check(&right, 7), 0);
        assert_eq!(check(&right[..1], 7), 1);
        assert_eq!(check(&right[..1], 8), 0);
        assert_eq!(check(&right[1..], 8), 1);
        assert_eq!(check(&[right[0], count(7, 1, 0, 1)], 7), 1);
        assert_eq!(check(&[right[0], right[1], count(8, 0, 1, 0)], 7), 1);
    }
}
