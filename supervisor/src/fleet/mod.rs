//! The workers of all tenants: one process each, started, watched, resized, restarted, stopped.
//!
//! ```text
//!   Fleet ── orders ──▶ supervise (a task per tenant) ── events ──▶ lifecycle (PURE)
//!         ◀─ snapshots ─    │        │        │       ◀── actions ──
//!                          worker         starts ─▶ spawn (one thread)
//!                      process · control
//! ```
//!
//! Only `supervise` owns a child, only `lifecycle` decides. The fleet is told what is wanted, by
//! level: asking again is harmless, and nothing here is durable. It knows neither the broker nor
//! the database. Whoever drops it without [`Fleet::stop_all`] kills its workers.

mod control;
mod handover;
mod icebox;
mod lifecycle;
mod memory;
mod order;
mod process;
mod record;
mod snapshot;
mod spawn;
mod starts;
mod supervise;
mod suspects;
mod wave;
mod worker;

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use jatis_shared::{
    config::Config,
    ids::{MessageId, TenantId, TenantNumber},
};
use jiff::Timestamp;
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

pub use self::{
    handover::{Carried, Frozen, Inherited},
    memory::Memory,
    order::StopLevel,
    snapshot::{Progress, Snapshot, StateName, Status},
};
use self::{
    icebox::Icebox,
    order::{Order, Size},
    record::Record,
    spawn::Spawner,
    starts::Starts,
    supervise::Caretaker,
};

/// How often a freeze looks whether a task has ended instead of standing still.
const FREEZE_LOOK: Duration = Duration::from_millis(20);

/// What is wanted for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Desired {
    pub tenant: TenantId,
    pub number: TenantNumber,
    /// Pool threads, 1 to `worker.max_threads`.
    pub threads: u16,
    /// Database connections, 1 to `threads`.
    pub connections: u16,
    /// Not to consume.
    pub paused: bool,
}

impl Desired {
    const fn size(&self) -> Size {
        Size {
            threads: self.threads,
            connections: self.connections,
        }
    }
}

/// What a fleet works with.
#[derive(Debug, Clone)]
pub struct Settings {
    pub config: Arc<Config>,
    /// The worker's program, absolute.
    pub worker_path: PathBuf,
}

/// Called with messages that are in their table.
pub type StoredHook = Box<dyn Fn(&[MessageId]) + Send + Sync>;

/// A change of a worker's state.
#[derive(Debug, Clone)]
pub struct Transition {
    pub at: Timestamp,
    pub tenant: TenantId,
    /// Of the present process, or the latest.
    pub pid: Option<u32>,
    pub generation: u64,
    pub from: StateName,
    pub to: StateName,
    /// Why, in words.
    pub cause: String,
}

/// Whom a fleet tells and asks. All are called on the reactor, and must neither block nor wait.
pub struct Hooks {
    /// What is remembered of a tenant whose worker is about to be minded.
    pub recall: Box<dyn Fn(TenantId) -> Memory + Send + Sync>,
    /// What must be remembered of it from now on.
    pub remember: Box<dyn Fn(TenantId, Memory) + Send + Sync>,
    /// A worker has so many threads now, because somebody sent it a signal.
    pub signalled: Box<dyn Fn(TenantId, u16) + Send + Sync>,
    /// A worker's state has changed.
    pub moved: Box<dyn Fn(&Transition) + Send + Sync>,
    /// Messages that are in their table now.
    pub stored: StoredHook,
    /// What a tenant's worker has done since the last call.
    pub progress: Box<dyn Fn(TenantId, Progress) + Send + Sync>,
}

/// The workers of all tenants. Clones are the same fleet.
#[derive(Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    members: Mutex<Members>,
    /// Owns the task of every member.
    tasks: TaskTracker,
    runtime: Handle,
    /// Taken when all is stopped.
    spawner: Mutex<Option<(Spawner, JoinHandle<()>)>>,
}

/// What every task of the fleet uses.
struct Shared {
    settings: Settings,
    hooks: Hooks,
    mint_floor: Box<dyn Fn() -> u64 + Send + Sync>,
    starts: Arc<Starts>,
    icebox: Icebox,
    /// What workers log: `log.level`, as it was read last.
    log_filter: Mutex<String>,
    /// How many tenants there are.
    tenants: AtomicUsize,
}

#[derive(Default)]
struct Members {
    by_tenant: HashMap<TenantId, Member>,
    /// By tenant that has no task just now: how its latest worker was when it left. One for each
    /// tenant there is at most.
    former: HashMap<TenantId, Snapshot>,
    /// No further member is taken in.
    closed: bool,
    /// Nor now.
    frozen: bool,
}

/// The way to a tenant's task. Its orders are closed when the task is over.
struct Member {
    orders: watch::Sender<Order>,
    snapshots: watch::Receiver<Snapshot>,
}

impl Fleet {
    /// A fleet without members. `mint_floor` gives the tick that a worker started now must mint
    /// above.
    ///
    /// # Errors
    /// When the host gives no thread.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(
        settings: Settings,
        hooks: Hooks,
        mint_floor: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let keys = &settings.config.supervision;
        let spawner = Spawner::start(settings.worker_path.clone(), keys.starts_in_flight)?;
        let starts = Arc::new(Starts::new(keys));
        let log_filter = Mutex::new(settings.config.log.level.clone());
        Ok(Self {
            inner: Arc::new(Inner {
                shared: Arc::new(Shared {
                    settings,
                    hooks,
                    mint_floor: Box::new(mint_floor),
                    starts,
                    icebox: Icebox::default(),
                    log_filter,
                    tenants: AtomicUsize::new(0),
                }),
                members: Mutex::default(),
                tasks: TaskTracker::new(),
                runtime: Handle::current(),
                spawner: Mutex::new(Some(spawner)),
            }),
        })
    }

    /// Makes what is wanted known: starts the tenant's worker if it has none, gives it another size
    /// if that has changed, and pauses or resumes it. Harmless to repeat. Does nothing for a tenant that is being
    /// stopped (ask again when it is gone), and nothing once all is being stopped.
    pub fn ensure(&self, desired: Desired) {
        self.order(desired, 0);
    }

    /// `insistence` is 1 when a person asks for the size, else 0.
    fn order(&self, desired: Desired, insistence: u64) {
        let mut members = self.inner.members();
        if members.closed || members.frozen {
            debug!(tenant.id = %desired.tenant, "no worker is started: jatis is stopping");
            return;
        }
        let known = members.by_tenant.get(&desired.tenant);
        if let Some(member) = known.filter(|member| !member.orders.is_closed()) {
            member.orders.send_modify(|order| {
                order.size = desired.size();
                order.paused = desired.paused;
                order.insisted += insistence;
            });
            return;
        }
        let last = known.map(|member| member.snapshots.borrow().clone());
        let last = last.or_else(|| members.former.remove(&desired.tenant));
        if let Some(last) = last
            .as_ref()
            .filter(|last| last.state != StateName::Stopped)
        {
            let Desired { tenant, .. } = desired;
            error!(tenant.id = %tenant, state = last.state.as_str(),
                "the task of {tenant} ended by a fault in jatis; it is begun anew");
        }
        if let Some(member) = self.take_in(desired, last.as_ref()) {
            members.by_tenant.insert(desired.tenant, member);
            self.inner.count(&members);
        }
    }

    /// Begins the task of a tenant. `None` when the fleet is stopped.
    fn take_in(&self, desired: Desired, last: Option<&Snapshot>) -> Option<Member> {
        let spawner = self.inner.spawner().as_ref()?.0.clone();
        let (orders, receiver) = watch::channel(Order {
            size: desired.size(),
            paused: desired.paused,
            insisted: 0,
            released: 0,
            relogged: 0,
            frozen: false,
            stop: None,
        });
        let record = Record::new(desired.tenant, desired.number, last, Timestamp::now());
        let starts = last.map_or(0, |last| last.generation + 1);
        let shared = Arc::clone(&self.inner.shared);
        let caretaker = Caretaker::new(shared, spawner, receiver, record, starts);
        Some(self.mind(desired.tenant, caretaker, orders))
    }

    /// Has a task mind a worker.
    fn mind(&self, tenant: TenantId, caretaker: Caretaker, orders: watch::Sender<Order>) -> Member {
        let (published, snapshots) = watch::channel(caretaker.snapshot());
        let inner = Arc::downgrade(&self.inner);
        let task = async move {
            caretaker.run(&published).await;
            if let Some(inner) = inner.upgrade() {
                inner.forget(tenant);
            }
            // Who waits for the end waits for this: the tenant is known no more.
            drop(published);
        };
        // Owned by the tracker, which `stop_all` waits for.
        drop(self.inner.tasks.spawn_on(task, &self.inner.runtime));
        Member { orders, snapshots }
    }

    /// Gives every worker its share of the database's connections among this many tenants. Starts
    /// none.
    pub fn share_connections(&self, tenants: usize) {
        let config = &self.inner.shared.settings.config;
        for member in self.inner.members().by_tenant.values() {
            member.orders.send_if_modified(|order| {
                let share = config.connections(order.size.threads, tenants);
                std::mem::replace(&mut order.size.connections, share) != share
            });
        }
    }

    /// Waits until the tenant's worker consumes, or the time is over. Gives what is the case then;
    /// `None` for a tenant that is not known.
    ///
    /// Cancel-safe.
    pub async fn ready(&self, tenant: TenantId, within: Duration) -> Option<Snapshot> {
        let is_running = |last: &Snapshot| last.status() == Status::Running;
        self.wait(tenant, within, is_running).await
    }

    /// Like `ensure` for a size that a person asks for: it ends what a signal to the worker had
    /// changed.
    pub fn resize(&self, desired: Desired) {
        self.order(desired, 1);
    }

    /// Starts a worker that rests, is in quarantine or was refused, as if it had never failed. Does
    /// nothing to one that runs. False for a tenant that is not known.
    pub fn release(&self, tenant: TenantId) -> bool {
        let members = self.inner.members();
        let Some(member) = members.by_tenant.get(&tenant) else {
            return false;
        };
        member.orders.send_modify(|order| order.released += 1);
        true
    }

    /// Has every task stand still as soon as it can, within this time, and gives what there is to
    /// hand over. Nothing more is started. [`Self::thaw`] undoes it.
    ///
    /// # Errors
    /// The tenants whose workers are being started or stopped for too long. All is thawed then.
    pub async fn freeze(&self, within: Duration) -> Result<Vec<Frozen>, Vec<TenantId>> {
        self.set_frozen(true);
        let icebox = &self.inner.shared.icebox;
        let all = async {
            while self.tenants().into_iter().any(|tenant| !icebox.has(tenant)) {
                // One that has ended meanwhile tells nobody.
                drop(timeout(FREEZE_LOOK, icebox.changed()).await);
            }
        };
        if timeout(within, all).await.is_ok() {
            return Ok(icebox.take());
        }
        let late = self
            .tenants()
            .into_iter()
            .filter(|tenant| !icebox.has(*tenant));
        let late = late.collect();
        self.thaw();
        Err(late)
    }

    /// Everything goes on as before the freeze.
    pub fn thaw(&self) {
        drop(self.inner.shared.icebox.take());
        self.set_frozen(false);
    }

    fn set_frozen(&self, frozen: bool) {
        let mut members = self.inner.members();
        members.frozen = frozen;
        for member in members.by_tenant.values() {
            member.orders.send_modify(|order| order.frozen = frozen);
        }
    }

    /// Minds a worker that another image of this program has started.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn adopt(&self, inherited: Inherited) -> io::Result<()> {
        let Some(spawner) = self
            .inner
            .spawner()
            .as_ref()
            .map(|(spawner, _)| spawner.clone())
        else {
            return Ok(());
        };
        let carried = &inherited.carried;
        let (tenant, (threads, connections)) = (carried.tenant, carried.wanted);
        let (orders, receiver) = watch::channel(Order {
            size: Size {
                threads,
                connections,
            },
            paused: carried.wants_pause,
            insisted: 0,
            released: 0,
            relogged: 0,
            frozen: false,
            stop: None,
        });
        let shared = Arc::clone(&self.inner.shared);
        let caretaker = Caretaker::inherited(shared, spawner, receiver, inherited)?;
        let member = self.mind(tenant, caretaker, orders);
        let mut members = self.inner.members();
        members.by_tenant.insert(tenant, member);
        self.inner.count(&members);
        Ok(())
    }

    /// Waits until the thread that starts processes has answered, and the task of one tenant, the
    /// `nth` of them in turn, has looked about. False when the thread is gone, but in a fleet that
    /// is stopped.
    ///
    /// Cancel-safe.
    pub async fn roll_call(&self, nth: usize) -> bool {
        let spawner = self
            .inner
            .spawner()
            .as_ref()
            .map(|(spawner, _)| spawner.clone());
        if let Some(spawner) = spawner
            && !spawner.answers().await
        {
            return false;
        }
        let called = self.inner.call(nth);
        if let Some(mut snapshots) = called {
            // One that has ended meanwhile has answered as well.
            snapshots.changed().await.unwrap_or_default();
        }
        true
    }

    /// Has every worker log by this filter, which is known to be one, and all that come.
    pub fn log_at(&self, filter: &str) {
        filter.clone_into(&mut self.inner.shared.log_filter());
        for member in self.inner.members().by_tenant.values() {
            member.orders.send_modify(|order| order.relogged += 1);
        }
    }

    /// How many tenants' workers have crashed of late, while that are so many that the cause must
    /// be common to them.
    #[must_use]
    pub fn crash_wave(&self) -> Option<usize> {
        let tenants = self.inner.members().by_tenant.len();
        self.inner.shared.starts.crash_wave(tenants, Instant::now())
    }

    /// Waits until the worker has confirmed what is wanted, its threads and whether it consumes, or
    /// `supervision.resize_timeout` is over. Gives what is the case then; `None` for a tenant that
    /// is not known, because all is being stopped.
    ///
    /// Cancel-safe.
    pub async fn applied(&self, desired: Desired) -> Option<Snapshot> {
        let keys = &self.inner.shared.settings.config.supervision;
        let at_rest = if desired.paused {
            StateName::Paused
        } else {
            StateName::Running
        };
        let is_done = |last: &Snapshot| {
            last.state == at_rest
                && last.wanted_threads == desired.threads
                && last.applied_threads == desired.threads
        };
        self.wait(desired.tenant, keys.resize_timeout, is_done)
            .await
    }

    /// Waits for a state of affairs, at most this long, and gives what is the case then.
    async fn wait(
        &self,
        tenant: TenantId,
        within: Duration,
        is_there: impl Fn(&Snapshot) -> bool,
    ) -> Option<Snapshot> {
        let mut snapshots = self.inner.watch(tenant)?;
        let waited = timeout(within, snapshots.wait_for(is_there));
        match waited.await.map(|there| there.map(|last| last.clone())) {
            Ok(Ok(there)) => Some(there),
            // The time is over, or the task is: what is the case then is the answer.
            Ok(Err(_)) | Err(_) => Some(snapshots.borrow().clone()),
        }
    }

    /// Stops the tenant's worker: it drains, is killed if it does not in time, and is forgotten.
    /// Returns when its process is reaped, and gives what was the case then; `None` when it was not
    /// known. Harmless to repeat.
    ///
    /// Cancel-safe: the stop goes on.
    pub async fn stop(&self, tenant: TenantId) -> Option<Snapshot> {
        let mut snapshots = self.inner.watch(tenant)?;
        self.inner.raise(Some(tenant), StopLevel::Drain);
        while snapshots.changed().await.is_ok() {}
        // Done already, unless the task ended by a fault.
        self.inner.forget(tenant);
        let last = snapshots.borrow().clone();
        Some(last)
    }

    /// Forgets a tenant that is no more.
    pub fn forget(&self, tenant: TenantId) {
        self.inner.members().former.remove(&tenant);
    }

    /// Waits until the tenant's worker is in this state, or `supervision.ready_timeout` is over.
    /// Gives what is the case then; `None` for a tenant that is not known.
    ///
    /// Cancel-safe.
    pub async fn settled(&self, tenant: TenantId, state: StateName) -> Option<Snapshot> {
        let patience = self.inner.shared.settings.config.supervision.ready_timeout;
        self.wait(tenant, patience, |last| last.state == state)
            .await
    }

    /// Stops all workers at once, and takes in no more. A level that rises meanwhile hurries it.
    /// Returns how each was when it left, when every process is reaped and the thread that starts them is gone.
    ///
    /// Cancel-safe: the stop goes on, and can be waited for again.
    pub async fn stop_all(&self, mut levels: watch::Receiver<StopLevel>) -> Vec<Snapshot> {
        self.inner.members().closed = true;
        let leaving = self.tenants();
        self.inner.tasks.close();
        let mut may_rise = true;
        while !self.inner.tasks.is_empty() {
            let level = *levels.borrow_and_update();
            self.inner.raise(None, level);
            tokio::select! {
                () = self.inner.tasks.wait() => {}
                changed = levels.changed(), if may_rise => may_rise = changed.is_ok(),
            }
        }
        let spawner = self.inner.spawner().take();
        if let Some((spawner, thread)) = spawner {
            drop(spawner);
            match tokio::task::spawn_blocking(|| thread.join()).await {
                Ok(Ok(())) => debug!("every worker is stopped"),
                Ok(Err(_)) | Err(_) => error!("the thread that starts processes had panicked"),
            }
        }
        let former = &self.inner.members().former;
        let left = leaving.iter().filter_map(|tenant| former.get(tenant));
        left.cloned().collect()
    }

    /// A tenant's worker as it is now; `None` for a tenant that is not known.
    #[must_use]
    pub fn snapshot(&self, tenant: TenantId) -> Option<Snapshot> {
        let snapshots = self.inner.watch(tenant)?;
        let last = snapshots.borrow().clone();
        Some(last)
    }

    /// Whether the tenant's worker consumes, as far as is known.
    #[must_use]
    pub fn is_running(&self, tenant: TenantId) -> bool {
        let members = self.inner.members();
        let member = members.by_tenant.get(&tenant);
        member.is_some_and(|member| member.snapshots.borrow().status() == Status::Running)
    }

    /// Every worker as it is now, in no order.
    #[must_use]
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let members = self.inner.members();
        let last = |member: &Member| member.snapshots.borrow().clone();
        members.by_tenant.values().map(last).collect()
    }

    /// Every tenant known here, in no order.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantId> {
        self.inner.members().by_tenant.keys().copied().collect()
    }
}

impl Shared {
    fn log_filter(&self) -> MutexGuard<'_, String> {
        self.log_filter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawner(&self) -> MutexGuard<'_, Option<(Spawner, JoinHandle<()>)>> {
        self.spawner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Repeats a tenant's order, which changes nothing; it shows itself anew in answer.
    fn call(&self, nth: usize) -> Option<watch::Receiver<Snapshot>> {
        let members = self.members();
        let nth = nth.checked_rem(members.by_tenant.len())?;
        let member = members.by_tenant.values().nth(nth)?;
        let mut snapshots = member.snapshots.clone();
        snapshots.mark_unchanged();
        member.orders.send_modify(|_same| {});
        Some(snapshots)
    }

    fn count(&self, members: &Members) {
        let tenants = members.by_tenant.len();
        self.shared.tenants.store(tenants, Ordering::Relaxed);
    }

    fn watch(&self, tenant: TenantId) -> Option<watch::Receiver<Snapshot>> {
        let members = self.members();
        let member = members.by_tenant.get(&tenant)?;
        Some(member.snapshots.clone())
    }

    /// Asks one tenant or all to stop, at least this hard.
    fn raise(&self, only: Option<TenantId>, level: StopLevel) {
        for (tenant, member) in &self.members().by_tenant {
            if only.is_none_or(|only| only == *tenant) {
                member.orders.send_modify(|order| {
                    order.stop = order.stop.max(Some(level));
                });
            }
        }
    }

    /// Removes a tenant whose task is over, unless it has been begun anew.
    fn forget(&self, tenant: TenantId) {
        let mut members = self.members();
        let is_over = |member: &Member| member.orders.is_closed();
        if members.by_tenant.get(&tenant).is_some_and(is_over)
            && let Some(member) = members.by_tenant.remove(&tenant)
        {
            let last = member.snapshots.borrow().clone();
            members.former.insert(tenant, last);
            self.count(&members);
        }
    }
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
