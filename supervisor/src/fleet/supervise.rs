//! The task of one tenant: the sole owner of its worker.
//!
//! It decides nothing. It turns what happens (an order, a frame, an exit, a deadline) into an event
//! for `lifecycle`, and carries out the actions that come back. Nothing here waits for one thing
//! alone but the thread that starts processes, which answers in milliseconds, and for the last
//! words of a process that is gone.

mod hear;

use std::{
    collections::VecDeque,
    future::pending,
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
};

use jatis_shared::{
    config::Log,
    control::{Command, Probation, Spec},
};
use jiff::Timestamp;
use rustix::process::Signal;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{error, info, warn};

use super::{
    Memory, Shared, Transition,
    control::ControlError,
    handover::{Frozen, Inherited},
    lifecycle::{Action, Event, Lifecycle, Pass, SpawnFault, State},
    memory::Moment,
    order::{Order, Size, StopLevel},
    process::{Blame, Ending},
    record::Record,
    snapshot::{Snapshot, StateName},
    spawn::Spawner,
    starts::{Occasion, Slot},
    suspects::Suspects,
    worker::{News, Worker, news},
};
use crate::random;

/// The one who minds a tenant's worker.
pub(super) struct Caretaker {
    shared: Arc<Shared>,
    spawner: Spawner,
    orders: watch::Receiver<Order>,
    /// Whether somebody can still give orders.
    is_ordered: bool,
    /// As of the latest order taken in.
    insisted: u64,
    /// As of the latest order taken in.
    released: u64,
    /// As of the latest order taken in.
    relogged: u64,
    lifecycle: Lifecycle,
    suspects: Suspects,
    record: Record,
    slot: SlotClaim,
    worker: Option<Worker>,
}

enum SlotClaim {
    None,
    Waiting(Pin<Box<dyn Future<Output = Option<Slot>> + Send>>),
    Held(#[expect(dead_code, reason = "held until it is dropped")] Slot),
}

impl Caretaker {
    /// `starts`: processes the tenant has had before, in this supervisor's life.
    pub(super) fn new(
        shared: Arc<Shared>,
        spawner: Spawner,
        orders: watch::Receiver<Order>,
        record: Record,
        starts: u64,
    ) -> Self {
        let Order {
            size,
            paused,
            insisted,
            released,
            relogged,
            ..
        } = *orders.borrow();
        let policy = shared.settings.config.as_ref().into();
        let memory = (shared.hooks.recall)(record.tenant);
        let past = memory.past(starts, Moment::now());
        let lifecycle = Lifecycle::new(policy, size, paused, past);
        Self {
            slot: if lifecycle.state() == State::Queued {
                claim(&shared, lifecycle.starts())
            } else {
                SlotClaim::None
            },
            suspects: Suspects::remembered(memory.suspects),
            released,
            relogged,
            lifecycle,
            shared,
            spawner,
            orders,
            is_ordered: true,
            insisted,
            record,
            worker: None,
        }
    }

    /// The one who minds a worker that another image of this program has started.
    ///
    /// # Errors
    /// When the worker cannot be watched.
    pub(super) fn inherited(
        shared: Arc<Shared>,
        spawner: Spawner,
        orders: watch::Receiver<Order>,
        inherited: Inherited,
    ) -> io::Result<Self> {
        let Inherited { carried, socket } = inherited;
        let keys = &shared.settings.config.supervision;
        let worker = Worker::inherited(&carried, socket, keys)?;
        let policy = shared.settings.config.as_ref().into();
        let memory = Memory::from(carried.memory.clone());
        let past = memory.past(carried.starts, Moment::now());
        let mut caretaker = Self {
            slot: SlotClaim::None,
            spawner,
            orders,
            is_ordered: true,
            insisted: 0,
            released: 0,
            relogged: 0,
            lifecycle: Lifecycle::inherited(policy, &carried, past, Instant::now()),
            suspects: Suspects::remembered(memory.suspects),
            record: Record::inherited(&carried, Timestamp::now()),
            worker: Some(worker),
            shared,
        };
        let adopt = Command::Adopt {
            pid: std::process::id(),
            epoch: 0,
        };
        // Should there be no room for it, the rest of the conversation tells.
        drop(caretaker.send(adopt));
        Ok(caretaker)
    }

    /// Stands still while that is wanted, as soon as it can; false if it cannot yet.
    async fn stood_still(&mut self) -> bool {
        let frozen = match self.lifecycle.may_pass() {
            Pass::NotNow => return false,
            Pass::Nothing => None,
            Pass::Process => match self.freeze() {
                Some(Ok(frozen)) => Some(frozen),
                // It is about to end, which takes moments.
                None => return false,
                Some(Err(error)) => {
                    let tenant = self.record.tenant;
                    warn!(tenant.id = %tenant, %error, "the worker of {tenant} cannot be handed over");
                    return false;
                }
            },
        };
        self.shared.icebox.put(self.record.tenant, frozen);
        while self.orders.borrow().frozen {
            if self.orders.changed().await.is_err() {
                break;
            }
        }
        self.orders.mark_changed();
        true
    }

    fn freeze(&self) -> Option<io::Result<Frozen>> {
        let worker = self.worker.as_ref()?;
        let conversation = match worker.conversation()? {
            Ok(conversation) => conversation,
            Err(error) => return Some(Err(error)),
        };
        let mut carried = self.record.carry(worker.pid());
        self.lifecycle.carry(&mut carried, Instant::now());
        carried.next_id = conversation.next_id;
        carried.unread = conversation.unread;
        carried.unsent = conversation.unsent;
        let suspects = self.suspects.crashes().clone();
        carried.memory = Memory::of(&self.lifecycle, suspects, Moment::now()).into();
        Some(Ok(Frozen {
            carried,
            socket: conversation.socket,
        }))
    }

    /// Works until the worker is stopped and reaped.
    pub(super) async fn run(mut self, published: &watch::Sender<Snapshot>) {
        while self.lifecycle.state() != State::Stopped {
            if self.orders.borrow().frozen && self.stood_still().await {
                continue;
            }
            if let Some(event) = self.next_event().await {
                self.apply(event).await;
                published.send_replace(self.snapshot());
            }
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.record.snapshot(&self.lifecycle)
    }

    /// Waits for the next thing to happen; none if it is nothing to the lifecycle. Frames come
    /// before deadlines: after this whole program was asleep, the signs of life that have arrived
    /// meanwhile count.
    async fn next_event(&mut self) -> Option<Event> {
        tokio::select! {
            biased;
            changed = self.orders.changed(), if self.is_ordered => {
                self.is_ordered = changed.is_ok();
                Some(self.ordered())
            }
            news = news(self.worker.as_mut()) => self.notice(news).await,
            slot = granted(&mut self.slot) => {
                self.slot = slot.map_or(SlotClaim::None, SlotClaim::Held);
                Some(Event::Granted)
            }
            () = due(self.lifecycle.deadline()) => Some(Event::Timer),
        }
    }

    fn ordered(&mut self) -> Event {
        if !self.is_ordered {
            // The fleet was dropped without being stopped.
            return Event::Stop(StopLevel::Immediate);
        }
        let order = *self.orders.borrow_and_update();
        let insisted = order.insisted != self.insisted;
        self.insisted = order.insisted;
        let released = order.released != self.released;
        self.released = order.released;
        if std::mem::replace(&mut self.relogged, order.relogged) != order.relogged
            && self.lifecycle.has_spec()
        {
            let filter = self.shared.log_filter().clone();
            if let Some(misbehaved) = self.send(Command::Log { filter }) {
                return misbehaved;
            }
        }
        match order.stop {
            Some(level) => Event::Stop(level),
            None if released => Event::Released,
            None => Event::Wanted {
                size: order.size,
                paused: order.paused,
                insisted,
            },
        }
    }

    async fn notice(&mut self, news: News) -> Option<Event> {
        let generation = self.lifecycle.generation();
        match news {
            News::Ended(ending) => Some(self.bury(ending).await),
            News::Said(frame) => self.hear(frame),
            News::Broken(ControlError::Closed) => Some(Event::HungUp { generation }),
            News::Broken(
                broken @ (ControlError::Frame(_)
                | ControlError::Flood
                | ControlError::Stalled
                | ControlError::Full),
            ) => Some(misbehaved(generation, &broken)),
        }
    }

    /// Takes leave of a process that is reaped. What it said last may be what somebody waits for,
    /// but moves nothing any more.
    async fn bury(&mut self, ending: io::Result<Ending>) -> Event {
        let patience = self.shared.settings.config.supervision.kill_after;
        if let Some(worker) = self.worker.take() {
            for frame in worker.last_words(patience).await {
                drop(self.hear(frame));
            }
        }
        let ending = ending.unwrap_or_else(|error| {
            let tenant = self.record.tenant;
            warn!(tenant.id = %tenant, %error, "how the worker of {tenant} ended is not known");
            Ending::Unknown
        });
        self.record.ended(ending);
        Event::Exited {
            generation: self.lifecycle.generation(),
            ending,
            dice: random::dice(),
        }
    }

    /// Lets an event take effect, and whatever follows from carrying that out.
    async fn apply(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let from = self.lifecycle.state().name();
            let actions = self.lifecycle.step(&event, Instant::now());
            if let Event::Exited { ending, .. } = event {
                // Whatever it called its end, one that we had to end has crashed.
                let is_crash = from == StateName::Killing || ending.blame() == Blame::Crash;
                self.ended(is_crash && actions.contains(&Action::Remember));
            }
            if self.lifecycle.state().name() != from {
                self.record.since = Timestamp::now();
                self.log(from, &event);
            }
            for action in actions {
                events.extend(self.perform(action).await);
            }
        }
    }

    /// Takes in the end of a process, which was a crash or not. One that left in order, or could not
    /// work with what it was given, says nothing of its messages, nor of other workers.
    fn ended(&mut self, is_crash: bool) {
        self.suspects.ended(is_crash);
        if is_crash {
            let Shared {
                starts, tenants, ..
            } = self.shared.as_ref();
            let tenants = tenants.load(Ordering::Relaxed);
            starts.crashed(self.record.tenant, tenants, Instant::now());
        }
    }

    pub(super) fn remember(&self) {
        let suspects = self.suspects.crashes().clone();
        let memory = Memory::of(&self.lifecycle, suspects, Moment::now());
        (self.shared.hooks.remember)(self.record.tenant, memory);
    }

    /// Logs a change of state: as an error what needs a person, as a warning what went wrong and is
    /// being seen to.
    fn log(&self, from: StateName, event: &Event) {
        let (tenant, pid) = (self.record.tenant, self.record.pid);
        let (generation, to) = (self.lifecycle.generation(), self.lifecycle.state().name());
        let cause = event.to_string();
        (self.shared.hooks.moved)(&Transition {
            at: self.record.since,
            tenant,
            pid,
            generation,
            from,
            to,
            cause: cause.clone(),
        });
        let from = from.as_str();
        if let StateName::Quarantined | StateName::Refused = to {
            error!(tenant.id = %tenant, pid, generation, from, to = to.as_str(), cause,
                "the worker of {tenant} is {}: {cause}", to.as_str());
        } else if is_abnormal(to, event) {
            warn!(tenant.id = %tenant, pid, generation, from, to = to.as_str(), cause,
                "worker of {tenant}: {}, {cause}", to.as_str());
        } else {
            info!(tenant.id = %tenant, pid, generation, from, to = to.as_str(), cause,
                "worker of {tenant}: {}, {cause}", to.as_str());
        }
    }

    async fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::RequestSlot => self.slot = claim(&self.shared, self.lifecycle.starts()),
            Action::ReleaseSlot => self.slot = SlotClaim::None,
            Action::Spawn => return Some(self.spawn().await),
            Action::Brief { size, paused } => {
                return self.send(Command::Spec(Box::new(self.spec(size, paused))));
            }
            Action::Resize(size) => {
                return self.send(Command::Resize {
                    threads: size.threads,
                    connections: size.connections,
                });
            }
            Action::Pause => return self.send(Command::Pause),
            Action::Resume => return self.send(Command::Resume),
            Action::Drain(within) => {
                let deadline_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
                let failed = self.send(Command::Drain { deadline_ms });
                self.signal(Signal::TERM);
                // One that is stopped (by a SIGSTOP, say) acts on neither before it goes on.
                self.signal(Signal::CONT);
                return failed;
            }
            Action::Kill => self.signal(Signal::KILL),
            Action::Remember => self.remember(),
            Action::Alarm => {
                let (tenant, pid) = (self.record.tenant, self.record.pid);
                error!(tenant.id = %tenant, pid,
                    "the worker of {tenant} does not die of SIGKILL; its tenant stands still");
            }
        }
        None
    }

    async fn spawn(&mut self) -> Event {
        let tenant = self.record.tenant;
        let generation = self.lifecycle.starts();
        let keys = &self.shared.settings.config.supervision;
        let born = match self.spawner.spawn(tenant).await {
            Ok(newborn) => Worker::new(newborn, keys, generation)
                .map_err(|cause| (SpawnFault::Host, cause.to_string())),
            Err(failure) => Err((failure.fault(), failure.reason())),
        };
        let (fault, cause) = match born {
            Ok(worker) => {
                self.shared.starts.succeeded();
                self.record.pid = Some(worker.pid());
                self.record.requeued = None;
                self.worker = Some(worker);
                return Event::Spawned;
            }
            Err(failure) => failure,
        };
        match fault {
            SpawnFault::Program => {
                error!(tenant.id = %tenant, cause, "the worker of {tenant} cannot be started");
            }
            SpawnFault::Host => {
                let pause = self.shared.starts.exhausted(Instant::now());
                warn!(tenant.id = %tenant, cause, ?pause, "this host cannot start a worker now");
            }
        }
        Event::SpawnFailed {
            fault,
            dice: random::dice(),
        }
    }

    fn spec(&self, size: Size, paused: bool) -> Spec {
        let config = &self.shared.settings.config;
        Spec {
            tenant: self.record.tenant,
            number: self.record.number,
            threads: size.threads,
            connections: size.connections,
            paused,
            prefetch: config.prefetch(),
            probation: self
                .suspects
                .condemned(config.supervision.poison_crashes)
                .map(|condemned| Probation {
                    condemned,
                    messages: config.supervision.probation_messages,
                }),
            mint_floor: (self.shared.mint_floor)().max(self.record.last_tick),
            orphan_timeout: config.supervision.orphan_timeout,
            drain_timeout: config.supervision.drain_timeout,
            heartbeat_interval: config.supervision.heartbeat_interval,
            rabbitmq: config.rabbitmq.clone(),
            database: config.database.clone(),
            worker: config.worker.clone(),
            log: Log {
                level: self.shared.log_filter().clone(),
                ..config.log.clone()
            },
        }
    }

    /// Gives the event of a worker that cannot be told any more.
    fn send(&mut self, command: Command) -> Option<Event> {
        let failure = self.worker.as_mut()?.send(command).err()?;
        Some(misbehaved(self.lifecycle.generation(), &failure))
    }

    fn signal(&self, signal: Signal) {
        let Some(worker) = &self.worker else { return };
        if let Err(cause) = worker.signal(signal) {
            let (tenant, pid) = (self.record.tenant, self.record.pid);
            error!(tenant.id = %tenant, pid, %cause, ?signal,
                "the worker of {tenant} cannot be signalled");
        }
    }
}

/// Whether something went wrong that is being seen to.
fn is_abnormal(to: StateName, event: &Event) -> bool {
    let crashed = matches!(event, Event::Exited { ending, .. } if ending.blame() == Blame::Crash);
    crashed
        || matches!(
            to,
            StateName::Suspect | StateName::Killing | StateName::Backoff
        )
}

fn misbehaved(generation: u64, how: &ControlError) -> Event {
    Event::Misbehaved {
        generation,
        how: how.to_string(),
    }
}

/// `starts`: processes the tenant has had.
fn claim(shared: &Shared, starts: u64) -> SlotClaim {
    let occasion = match starts {
        0 => Occasion::First,
        _again => Occasion::Again,
    };
    SlotClaim::Waiting(Box::pin(Arc::clone(&shared.starts).slot(occasion)))
}

async fn granted(claim: &mut SlotClaim) -> Option<Slot> {
    match claim {
        SlotClaim::Waiting(slot) => slot.await,
        SlotClaim::None | SlotClaim::Held(_) => pending().await,
    }
}

async fn due(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
