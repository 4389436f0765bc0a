//! Who waits to hear that a message is stored.
//!
//! Keyed by message id, so that a worker's successor answers for its predecessor's commit. Once a
//! wait of a tenant was in vain, one request at a time waits on for that tenant and the others are
//! answered at once, until a message is reported stored again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    waiting: HashMap<MessageId, (TenantId, oneshot::Sender<()>)>,
    tenants: HashMap<TenantId, Tenant>,
}

#[derive(Debug, Default)]
struct Tenant {
    waiting: usize,
    /// The latest wait that ended was in vain.
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
    /// Room for at most `bound` waiters.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        let inner = Inner {
            bound,
            waiting: HashMap::new(),
            tenants: HashMap::new(),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Takes a place before the message is published; `None` when waiting is hopeless or the
    /// places are all taken.
    #[must_use]
    pub fn wait_for(&self, tenant: TenantId, id: MessageId) -> Option<Waiter> {
        let mut inner = self.lock();
        let full = inner.waiting.len() >= inner.bound;
        let entry = inner.tenants.entry(tenant).or_default();
        if full || (entry.stalled && entry.waiting > 0) {
            return None;
        }
        entry.waiting += 1;
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
            entry.waiting = entry.waiting.saturating_sub(1);
        }
        Some((tenant, waiter))
    }
}

impl Waiter {
    /// Waits at most `limit`; true when the message is stored.
    pub async fn stored_within(mut self, limit: std::time::Duration) -> bool {
        let stored = matches!(
            tokio::time::timeout(limit, &mut self.stored).await,
            Ok(Ok(()))
        );
        if !stored {
            let mut inner = self.waiters.lock();
            if let Some((tenant, _)) = inner.waiting.get(&self.id) {
                let tenant = *tenant;
                inner.tenants.entry(tenant).or_default().stalled = true;
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
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn id(number: u128) -> MessageId {
        MessageId::from(Uuid::from_u128(number))
    }

    fn tenant(number: u128) -> TenantId {
        TenantId::from(Uuid::from_u128(number))
    }

    #[tokio::test]
    async fn only_the_one_who_waits_for_it_hears_of_a_message() {
        let waiters = Waiters::new(10);
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
        let waiters = Waiters::new(10);
        let in_vain = waiters.wait_for(tenant(1), id(1)).expect("there is room");
        assert!(!in_vain.stored_within(Duration::ZERO).await);

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
        let waiting: Vec<_> = (5..8)
            .map(|number| waiters.wait_for(tenant(1), id(number)))
            .collect();
        assert!(waiting.iter().all(Option::is_some));
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let waiters = Waiters::new(1);
        let taken = waiters.wait_for(tenant(1), id(1));
        assert!(taken.is_some() && waiters.wait_for(tenant(2), id(2)).is_none());
        drop(taken);
        assert!(waiters.wait_for(tenant(2), id(2)).is_some());
    }
}
