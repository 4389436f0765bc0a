//! The way out of a tenant: its queue drained, if so ordered, and then deleted.
//!
//! ```text
//!   draining ─▶ publishes end ─▶ worker stores ─▶ nothing is left, it seems ─▶ worker stops
//!                                     ▲                                            │
//!                                     └──────────── something is ready ────────────┤
//!                                                                                  ▼ empty
//!   deleting ─────────────────▶ worker stops ─▶ queues deleted ─▶ dropping      deleting
//! ```
//!
//! One task a tenant walks it, begun by the request or by `converge`, and by the states in the
//! database alone it finds where to go on. What it cannot do now is left to the next convergence,
//! which begins it anew.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jatis_shared::{ids::TenantId, schema::TenantState, telemetry::Chain, topology::QueueType};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, Interval, MissedTickBehavior, interval, timeout_at},
};
use tracing::{debug, info, warn};

use super::{Deleted, Deletion, Manner, Tenancy, known, tasks::Charge};
use crate::{
    broker::{BrokerError, Contents},
    directory::Known,
    error::Error,
    store::{
        stats,
        tenants::{self, TenantRow},
    },
};

/// Who is on the way out. Clones are the same.
#[derive(Debug, Clone)]
pub struct Departures {
    under_way: Arc<Mutex<HashMap<TenantId, Departure>>>,
    /// What they do at the broker at a time, each on a channel of its own.
    at_the_broker: Arc<Semaphore>,
}

/// Where a departure can be followed.
type Departure = watch::Receiver<Way>;

/// How far a departure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Begun,
    /// At its end.
    Gone(Deleted),
    /// It goes on with a later convergence.
    Interrupted,
}

impl Tenancy {
    /// Deletes a tenant, in this manner. From the first moment it takes no messages; when the answer
    /// is that it is gone, its worker and queues are too and its rows invisible. The janitor drops
    /// its partition. Waits until `until` for that; what has begun goes on in any case.
    ///
    /// # Errors
    /// When there is no such tenant, the database is away, or a drain comes too late.
    pub async fn delete(
        &self,
        id: TenantId,
        manner: Manner,
        until: Instant,
    ) -> Result<Deletion, Error> {
        self.stage.serving()?;
        self.directory.get(id).ok_or(Error::TenantNotFound(id))?;
        let turn = self.progress.turn_of(id).lock_owned().await;
        let tenancy = self.clone();
        let dismissal = async move {
            let _turn = turn;
            tenancy.dismiss(id, manner).await
        };
        let (row, mut way) = self.tasks.carry_out(dismissal).await?;
        let ended = timeout_at(until, way.wait_for(|way| *way != Way::Begun)).await;
        let way = ended.map(|way| way.map(|way| *way));
        match way {
            Ok(Ok(Way::Gone(deleted))) => Ok(Deletion::Done(deleted)),
            Ok(Ok(Way::Begun | Way::Interrupted) | Err(_)) | Err(_) => {
                Ok(Deletion::UnderWay(self.shown_one(row).await?))
            }
        }
    }

    /// Writes down that a tenant shall go, and begins it. Whoever calls has the tenant's turn.
    async fn dismiss(&self, id: TenantId, manner: Manner) -> Result<(TenantRow, Departure), Error> {
        let mark = match manner {
            Manner::Drained => tenants::mark_draining,
            Manner::AtOnce => tenants::mark_deleting,
        };
        let marked = self.db.run(move |client| mark(client, id)).await?;
        let row = marked.ok_or(Error::TenantNotFound(id))?;
        if row.state == TenantState::Deleting && manner == Manner::Drained {
            return Err(Error::TenantDeleting(id));
        }
        info!(tenant.id = %id, state = row.state.as_str(), "tenant {id} is leaving");
        self.directory.set(known(&row));
        Ok((row, self.depart(id)))
    }

    /// Has a tenant go its way out, unless it is at it already.
    pub(super) fn depart(&self, id: TenantId) -> Departure {
        let mut under_way = self.departures.lock();
        // One that is closed has ended by a panic.
        if let Some(way) = under_way.get(&id)
            && way.has_changed().is_ok()
        {
            return way.clone();
        }
        let (walked, way) = watch::channel(Way::Begun);
        under_way.insert(id, way.clone());
        drop(under_way);
        let tenancy = self.clone();
        self.tasks.begin(|charge| async move {
            let over = charge.over.clone();
            let walk = over.run_until_cancelled(tenancy.walk(id, &charge));
            let end = walk.await.unwrap_or(Way::Interrupted);
            // One step: whoever asks from here on begins it anew.
            let mut under_way = tenancy.departures.lock();
            under_way.remove(&id);
            walked.send_replace(end);
        });
        way
    }

    async fn walk(&self, id: TenantId, charge: &Charge) -> Way {
        match self.try_walk(id, charge).await {
            Ok(Some(deleted)) => {
                let Deleted {
                    messages_deleted,
                    messages_unprocessed,
                } = deleted;
                info!(tenant.id = %id, messages_deleted, messages_unprocessed, "tenant {id} deleted");
                Way::Gone(deleted)
            }
            Ok(None) => Way::Interrupted,
            Err(error) => {
                warn!(tenant.id = %id, error = %Chain(&error),
                    "tenant {id} is not gone yet; trying again");
                Way::Interrupted
            }
        }
    }

    /// `None` for a tenant that is not on its way out.
    async fn try_walk(&self, id: TenantId, charge: &Charge) -> Result<Option<Deleted>, Error> {
        while let Some(known) = self.directory.get(id) {
            match known.state {
                TenantState::Draining => self.drain(known, charge).await?,
                TenantState::Deleting => return self.remove(known).await.map(Some),
                TenantState::Active
                | TenantState::Paused
                | TenantState::Stopped
                | TenantState::Dropping => break,
            }
        }
        Ok(None)
    }

    /// Has everything stored that is in a tenant's queue. Returns when the tenant drains no more:
    /// it is done, or was cut short.
    async fn drain(&self, known: Known, charge: &Charge) -> Result<(), Error> {
        let id = known.id;
        let supervision = &self.config.supervision;
        let mut pulse = interval(supervision.drain_interval);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.directory.published(id).await;
        if known.topology == QueueType::Classic {
            // A classic queue does not tell what the workers of an earlier supervisor still hold.
            let left_by = charge.since + supervision.orphan_timeout + supervision.kill_after;
            while self.is_draining(id) && pulse.tick().await < left_by {
                self.consume(known).await;
            }
        }
        while self.is_draining(id) {
            self.seems_empty(known, &mut pulse).await;
            let last = self.fleet.stop(id).await;
            let left_in_order = last.is_some_and(|last| last.left_in_order);
            if known.topology == QueueType::Classic && !left_in_order {
                continue;
            }
            if self.is_empty(id, &mut pulse).await? {
                return self.drained(id).await;
            }
            debug!(tenant.id = %id, "something is ready after all; tenant {id} drains on");
        }
        Ok(())
    }

    /// Has the tenant's worker run until, to all appearances, nothing is left for it.
    async fn seems_empty(&self, known: Known, pulse: &mut Interval) {
        let id = known.id;
        while self.is_draining(id) {
            pulse.tick().await;
            self.consume(known).await;
            let unacked = self.fleet.snapshot(id).map_or(0, |worker| worker.unacked);
            match self.departures.ask(self.broker.ready(id)).await {
                Ok(0) if unacked == 0 => return,
                Ok(ready) => debug!(tenant.id = %id, ready, unacked, "tenant {id} drains"),
                // The queue may just be declared again.
                Err(error) => debug!(tenant.id = %id, %error, "the depth is not known"),
            }
        }
    }

    /// Has the tenant's worker run. It may, even if the queues cannot be declared.
    async fn consume(&self, known: Known) {
        if let Err(error) = self.keep(known).await {
            let id = known.id;
            debug!(tenant.id = %id, error = %Chain(&error), "the queues of {id} are not declared");
        }
    }

    /// Whether the queue of a tenant whose worker has left is empty, for certain: waits while
    /// somebody still holds something of it.
    async fn is_empty(&self, id: TenantId, pulse: &mut Interval) -> Result<bool, Error> {
        while self.is_draining(id) {
            let contents = self.departures.ask(self.broker.contents(id)).await;
            match contents.map_err(Error::BrokerUnavailable)? {
                Contents::Empty => return Ok(true),
                Contents::Ready => return Ok(false),
                Contents::Held => {}
            }
            pulse.tick().await;
        }
        Ok(false)
    }

    fn is_draining(&self, id: TenantId) -> bool {
        let known = self.directory.get(id);
        known.is_some_and(|known| known.state == TenantState::Draining)
    }

    async fn drained(&self, id: TenantId) -> Result<(), Error> {
        let turn = self.progress.turn_of(id);
        let _turn = turn.lock().await;
        let marked = self
            .db
            .run(move |client| tenants::mark_deleting(client, id))
            .await?;
        self.directory
            .set(known(&marked.ok_or(Error::TenantNotFound(id))?));
        info!(tenant.id = %id, "the queue of tenant {id} is empty");
        Ok(())
    }

    /// Drains a tenant's worker, deletes its queues and hands its rows to the janitor.
    async fn remove(&self, known: Known) -> Result<Deleted, Error> {
        let id = known.id;
        self.fleet.stop(id).await;
        self.fleet.forget(id);
        let turn = self.progress.turn_of(id);
        let _turn = turn.lock().await;
        self.progress.undeclared(id);
        let unprocessed = self.departures.ask(self.broker.delete(id)).await;
        let messages_unprocessed = unprocessed.map_err(Error::BrokerUnavailable)?;
        let totals = self.db.run(move |client| stats::totals(client, id)).await?;
        self.db
            .run(move |client| tenants::mark_dropping(client, id))
            .await?;
        self.directory.remove(id);
        self.progress.forget(id);
        self.waiters.forget(id);
        self.depths.forget(id);
        self.memories.forget(id);
        self.signalled.forget(id);
        self.metrics.forget(id);
        self.janitor.wake();
        Ok(Deleted {
            messages_deleted: totals.stored,
            messages_unprocessed,
        })
    }
}

impl Departures {
    /// Nobody yet; `parallel` of them at the broker at a time, at least 1.
    #[must_use]
    pub fn new(parallel: u16) -> Self {
        Self {
            under_way: Arc::default(),
            at_the_broker: Arc::new(Semaphore::new(usize::from(parallel))),
        }
    }

    /// Asks the broker for something when it is its turn.
    async fn ask<T>(
        &self,
        asked: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let turn = self.at_the_broker.acquire().await;
        let _turn = turn.map_err(|_closed| BrokerError::Closing)?;
        asked.await
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Departure>> {
        let under_way = self.under_way.lock();
        under_way.unwrap_or_else(PoisonError::into_inner)
    }
}
