//! What was accepted against what is stored: a figure is worth nothing if messages were lost for it.

use std::{collections::HashSet, time::Duration};

use anyhow::Result;
use jatis_shared::ids::{MessageId, TenantId};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{api::Posted, database::Database, load::Sample};

/// Longest wait for accepted messages to be stored.
const STORED_WITHIN: Duration = Duration::from_secs(60);
const PULSE: Duration = Duration::from_millis(250);

/// Messages, of all tenants that were written to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Rows {
    /// Answered 201 or 202.
    pub(crate) accepted: usize,
    /// Of those, 202.
    pub(crate) queued: usize,
    /// Not answered so: each may be stored or not.
    pub(crate) failed: usize,
    /// In their tables.
    pub(crate) stored: usize,
    /// Accepted and not stored.
    pub(crate) missing: usize,
    /// Accepted more than once under one id.
    pub(crate) repeated: usize,
    /// Stored and not accepted.
    pub(crate) surplus: usize,
    pub(crate) dead: u64,
}

impl Rows {
    /// Nothing is lost, nothing is there twice, and nothing failed that the figures leave out.
    pub(crate) const fn are_right(&self) -> bool {
        self.missing == 0 && self.repeated == 0 && self.surplus <= self.failed && self.dead == 0
    }
}

/// Compares, once all that was accepted is stored or a minute is over.
///
/// # Errors
/// When PostgreSQL fails.
pub(crate) async fn verify(
    database: &Database,
    tenants: &[TenantId],
    samples: &[Sample],
) -> Result<Rows> {
    let begun = Instant::now();
    let mut pulse = interval(PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pulse.tick().await;
        let mut rows = Rows {
            dead: database.dead().await?,
            ..Rows::default()
        };
        for tenant in tenants {
            let stored = database.stored(*tenant).await?;
            let posts = samples.iter().filter(|sample| sample.tenant == *tenant);
            rows.add(posts.map(|sample| sample.posted), &stored);
        }
        if rows.missing == 0 || begun.elapsed() > STORED_WITHIN {
            return Ok(rows);
        }
    }
}

impl Rows {
    /// Adds a tenant's.
    fn add(&mut self, posts: impl Iterator<Item = Posted>, stored: &HashSet<MessageId>) {
        let mut accepted = HashSet::new();
        for posted in posts {
            match posted {
                Posted::Failed => self.failed += 1,
                Posted::Stored(id) | Posted::Queued(id) => {
                    self.accepted += 1;
                    self.queued += usize::from(posted == Posted::Queued(id));
                    self.repeated += usize::from(!accepted.insert(id));
                }
            }
        }
        self.stored += stored.len();
        self.missing += accepted.difference(stored).count();
        self.surplus += stored.difference(&accepted).count();
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(number: u128) -> MessageId {
        MessageId::from(Uuid::from_u128(number))
    }

    fn rows(posts: &[Posted], stored: &[u128]) -> Rows {
        let mut rows = Rows::default();
        let stored = stored.iter().copied().map(id).collect();
        rows.add(posts.iter().copied(), &stored);
        rows
    }

    #[test]
    fn what_is_accepted_and_only_that_must_be_stored() {
        use Posted::{Failed, Queued, Stored};
        let right = |posts: &[Posted], stored: &[u128]| rows(posts, stored).are_right();
        assert!(right(&[Stored(id(1)), Queued(id(2))], &[1, 2]));
        assert!(!right(&[Stored(id(1)), Queued(id(2))], &[1]), "one is lost");
        assert!(!right(&[Stored(id(1))], &[1, 2]), "one is there twice");
        assert!(
            !right(&[Stored(id(1)), Stored(id(1))], &[1]),
            "two are the same"
        );
        assert!(right(&[Stored(id(1)), Failed], &[1]));
        assert!(
            right(&[Stored(id(1)), Failed], &[1, 2]),
            "who knows of the second"
        );
        assert!(!right(&[Stored(id(1)), Failed], &[1, 2, 3]));
        let dead = Rows {
            dead: 1,
            ..rows(&[], &[])
        };
        assert!(!dead.are_right(), "it was stored elsewhere");
    }

    #[test]
    fn every_answer_is_counted_once() {
        let posts = [
            Posted::Stored(id(1)),
            Posted::Queued(id(2)),
            Posted::Failed,
            Posted::Queued(id(2)),
        ];
        let expected = Rows {
            accepted: 3,
            queued: 2,
            failed: 1,
            stored: 2,
            missing: 1,
            repeated: 1,
            surplus: 1,
            dead: 0,
        };
        assert_eq!(rows(&posts, &[1, 3]), expected);
    }
}
