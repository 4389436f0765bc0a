//! Who waits to hear that a message is stored.
//!
//! Keyed by message id, so that a worker's successor answers for its predecessor's commit. While
//! waiting is hopeless requests are answered at once: when the oldest message that is waited for
//! has been so for `messages.wait_for_store`, and once such a wait was in vain; then one request at
//! a time waits on for its tenant, until a message is reported stored again.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jatis_shared::ids::{MessageId, TenantId};
use tokio::sync::oneshot;

/// The requests that wait, at most `messages.max_waiting`.
#[derive(Debug, Clone)]
pub struct Waiters {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    bound: usize,
    patience: Duration,
    waiting: HashMap<MessageId, (TenantId, oneshot::Sender<()>)>,
    tenants: HashMap<TenantId, Tenant>,
}

#[derive(Debug, Default)]
struct Tenant {
    /// Whose ids tell since when: they are minted when the wait begins.
    waiting: BTreeSet<MessageId>,
    /// Of those waited for, the newest that was reported stored.
    newest_stored: Option<MessageId>,
    /// The latest wait that ended was in vain, and long enough to tell.
    stalled: bool,
}

/// A place among the waiters; leaves when dropped.
#[derive(Debug)]
pub struct Waiter {
    waiters: Waiters,
    id: MessageId,
    stored: oneshot::Receiver<()>,
}

impl Waiters {
    /// Room for at most `bound` waiters. A tenant whose oldest message has been waited for as long
    /// as `patience` is not worth waiting for.
    #[must_use]
    pub fn new(bound: usize, patience: Duration) -> Self {
        let inner = Inner {
            bound,
            patience,
            waiting: HashMap::new(),
            tenants: HashMap::new(),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Takes a place for a message that was just minted, before it is published; `None` when
    /// waiting is hopeless or the places are all taken.
    #[must_use]
    pub fn wait_for(&self, tenant: TenantId, id: MessageId) -> Option<Waiter> {
        let mut inner = self.lock();
        let full = inner.waiting.len() >= inner.bound;
        let patience = inner.patience;
        let entry = inner.tenants.entry(tenant).or_default();
        if full || entry.is_hopeless(id, patience) {
            return None;
        }
        entry.waiting.insert(id);
        let (sender, stored) = oneshot::channel();
        inner.waiting.insert(id, (tenant, sender));
        Some(Waiter {
            waiters: self.clone(),
            id,
            stored,
        })
    }

    /// Tells those who wait for these messages that they are stored.
    pub fn stored(&self, ids: &[MessageId]) {
        let mut inner = self.lock();
        for id in ids {
            if let Some((tenant, waiter)) = inner.leave(*id) {
                if let Some(entry) = inner.tenants.get_mut(&tenant) {
                    entry.stalled = false;
                    entry.newest_stored = entry.newest_stored.max(Some(*id));
                }
                // The request may have left between its deadline and this lock.
                let _left: Result<(), ()> = waiter.send(());
            }
        }
    }

    /// Forgets what is remembered of a deleted tenant.
    pub fn forget(&self, tenant: TenantId) {
        self.lock().tenants.remove(&tenant);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn leave(&mut self, id: MessageId) -> Option<(TenantId, oneshot::Sender<()>)> {
        let (tenant, waiter) = self.waiting.remove(&id)?;
        if let Some(entry) = self.tenants.get_mut(&tenant) {
            entry.waiting.remove(&id);
        }
        Some((tenant, waiter))
    }
}

impl Tenant {
    /// Whether a message minted now would be waited for in vain, as far as those before it tell.
    fn is_hopeless(&self, id: MessageId, patience: Duration) -> bool {
        // A message that was overtaken by a stored one waits for something else than its turn.
        let overtaken = self.newest_stored.map_or(Bound::Unbounded, Bound::Excluded);
        let Some(oldest) = self.waiting.range((overtaken, Bound::Unbounded)).next() else {
            return false;
        };
        let age = id.created_at().duration_since(oldest.created_at());
        self.stalled || (age.is_positive() && age.unsigned_abs() >= patience)
    }
}

impl Waiter {
    /// Waits at most `limit`; true when the message is stored.
    pub async fn stored_within(mut self, limit: Duration) -> bool {
        let stored = matches!(
            tokio::time::timeout(limit, &mut self.stored).await,
            Ok(Ok(()))
        );
        if !stored {
            let mut inner = self.waiters.lock();
            let tells = limit >= inner.patience;
            if tells && let Some((tenant, _)) = inner.waiting.get(&self.id) {
                let tenant = *tenant;
                let entry = inner.tenants.entry(tenant).or_default();
                entry.stalled |= entry.newest_stored < Some(self.id);
            }
        }
        stored
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.waiters.lock().leave(self.id);
    }
}

#[cfg(test)]
mod tests {
    use jatis_shared::ids::{Mint, Origin, TenantNumber};
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const PATIENCE: Duration = Duration::from_millis(1);

    /// The id of a message minted at this microsecond.
    fn id(micros: i64) -> MessageId {
        let number = TenantNumber::try_from(1).expect("a number");
        let now = Timestamp::from_microsecond(micros).expect("a time");
        Mint::above(0).mint(now, number, Origin::Accepted, 0)
    }

    fn tenant(number: u128) -> TenantId {
        TenantId::from(Uuid::from_u128(number))
    }

    #[tokio::test]
    async fn only_the_one_who_waits_for_it_hears_of_a_message() {
        let waiters = Waiters::new(10, LONG);
        let (first, second) = (
            waiters.wait_for(tenant(1), id(1)),
            waiters.wait_for(tenant(1), id(2)),
        );
        waiters.stored(&[id(2), id(3)]);
        assert!(second.expect("there is room").stored_within(LONG).await);
        assert!(
            !first
                .expect("there is room")
                .stored_within(Duration::ZERO)
                .await
        );
    }

    #[tokio::test]
    async fn after_a_wait_in_vain_one_waits_on_for_all() {
        let waiters = Waiters::new(10, PATIENCE);
        let in_vain = waiters.wait_for(tenant(1), id(1)).expect("there is room");
        assert!(!in_vain.stored_within(PATIENCE).await);

        let scout = waiters.wait_for(tenant(1), id(2)).expect("one may wait");
        assert!(
            waiters.wait_for(tenant(1), id(3)).is_none(),
            "the others are answered at once"
        );
        assert!(
            waiters.wait_for(tenant(2), id(4)).is_some(),
            "another tenant is not concerned"
        );

        waiters.stored(&[id(2)]);
        assert!(scout.stored_within(LONG).await);
        let waiting = [5, 6, 7].map(|micros| waiters.wait_for(tenant(1), id(micros)));
        assert!(waiting.iter().all(Option::is_some));
    }

    #[tokio::test]
    async fn a_short_wait_in_vain_tells_nothing() {
        let waiters = Waiters::new(10, LONG);
        let in_vain = waiters.wait_for(tenant(1), id(1)).expect("there is room");
        assert!(!in_vain.stored_within(PATIENCE).await);
        let waiting = [2, 3].map(|micros| waiters.wait_for(tenant(1), id(micros)));
        assert!(waiting.iter().all(Option::is_some));
    }

    #[test]
    fn behind_a_message_waited_for_too_long_nobody_waits_unless_it_was_overtaken() {
        let waiters = Waiters::new(10, Duration::from_micros(2000));
        let oldest = waiters.wait_for(tenant(1), id(1000));
        let second = waiters.wait_for(tenant(1), id(2999));
        assert!(oldest.is_some() && second.is_some());
        assert!(waiters.wait_for(tenant(1), id(3000)).is_none());

        waiters.stored(&[id(2999)]);
        let behind = waiters.wait_for(tenant(1), id(3001));
        assert!(
            behind.is_some(),
            "the tenant's messages are being stored; the oldest one is not, for reasons of its own"
        );
        assert!(waiters.wait_for(tenant(1), id(5001)).is_none());
        drop(behind);
        assert!(waiters.wait_for(tenant(1), id(5002)).is_some());
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let waiters = Waiters::new(1, LONG);
        let taken = waiters.wait_for(tenant(1), id(1));
        assert!(taken.is_some() && waiters.wait_for(tenant(2), id(2)).is_none());
        drop(taken);
        assert!(waiters.wait_for(tenant(2), id(2)).is_some());
    }
}
