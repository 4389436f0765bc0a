//! The reactor: one loop that hears everybody and passes on what happens.
//!
//! ```text
//!   supervisor ⇄ commands, outbox ┐
//!   signals ─────────────────────▶│ reactor ─▶ pipeline ─▶ pool threads ─┐
//!   broker ⇄ feed, orders ────────┘     ▲                                │
//!                                       └───────────── reports ──────────┘
//! ```
//!
//! It waits in one place only and for whatever comes first, so a slow broker, database or
//! supervisor never keeps it from the others, and its heartbeat proves that it lives.
//!
//! A stop is one way: the consumer is cancelled, what has begun is finished, the channel is
//! closed, the exit follows. A deadline ends each of these steps.

use std::{future::pending, ops::ControlFlow, time::Duration};

use futures_util::StreamExt;
use jatis_shared::{
    control::{Dependency, Event, ResizeSource, Spec},
    exit::ExitCode,
    telemetry::Level,
};
use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, error, info, warn};

use crate::{
    broker::{Feed, Order},
    control::{Announced, Commands, Outbox},
    pipeline::{Now, Pipeline},
    pool::{Report, ThreadPanicked},
    pulse::Pulse,
    signals::Signals,
    store::Store,
};

/// Most things of the feed taken in one turn of the loop, so that none starves the others.
const FEED_TURN: usize = 256;

/// Everything the reactor hears from and speaks to. Built by `wire`.
pub(crate) struct Reactor {
    pub(crate) spec: Box<Spec>,
    pub(crate) pipeline: Pipeline,
    pub(crate) store: std::sync::Arc<Store>,
    pub(crate) commands: Commands,
    pub(crate) outbox: Outbox,
    pub(crate) signals: Signals,
    pub(crate) level: Level,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) feed: mpsc::Receiver<Feed>,
    /// What one turn took of the feed.
    pub(crate) arrivals: Vec<Feed>,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) session: JoinHandle<()>,
    pub(crate) state: State,
}

/// What the reactor itself keeps in mind.
#[derive(Debug)]
pub(crate) struct State {
    stage: Stage,
    /// How the worker will exit.
    exit: ExitCode,
    /// When it will, whatever is unfinished.
    deadline: Option<Instant>,
    /// The supervisor hung up.
    pub(crate) is_orphan: bool,
    /// There is a channel, and it consumes on it unless it shall not.
    is_connected: bool,
    /// What the latest heartbeat said of a hold.
    told_held: bool,
    /// Why the broker is away, as logged last: a reason is a warning once.
    away_because: String,
    has_been_ready: bool,
    pulse: Pulse,
    /// Connections allowed, as the supervisor said last.
    pub(crate) connections: u16,
    /// The frame that announces what is opened next, until the socket has taken it.
    announcing: Option<Announced>,
    /// A resize whose confirmation is due when the pool has its size. A newer one replaces it.
    pub(crate) resize: Option<Resize>,
}

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No stop. Left by an order, a signal or the supervisor's end.
    Serving,
    /// What has begun is being finished. Left when it is.
    Draining,
    /// Channel and connection are being closed. Left when they are.
    Closing,
}

/// Who wants to hear of a new size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resize {
    pub(crate) source: ResizeSource,
    /// The frame to answer.
    pub(crate) re: Option<u64>,
}

impl State {
    pub(crate) const fn pulse(&mut self) -> &mut Pulse {
        &mut self.pulse
    }

    pub(crate) fn new(spec: &Spec) -> Self {
        Self {
            stage: Stage::Serving,
            exit: ExitCode::Clean,
            deadline: None,
            is_orphan: false,
            is_connected: false,
            told_held: false,
            away_because: String::new(),
            has_been_ready: false,
            pulse: Pulse::new(clock().into_std(), spec.heartbeat_interval),
            connections: spec.connections,
            announcing: None,
            resize: None,
        }
    }
}

/// Whether to go on, or how to exit.
pub(crate) type Flow = ControlFlow<Result<ExitCode, Broken>>;

/// A part without which the worker cannot go on has failed; a fault of this program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Thread(#[from] ThreadPanicked),
    #[error("the broker session ended unasked")]
    Session,
}

impl Reactor {
    /// Works until it is to exit; gives the code.
    ///
    /// # Errors
    /// When a part of it has failed. Either way nothing of it is left.
    pub(crate) async fn run(mut self) -> Result<ExitCode, Broken> {
        let exit = loop {
            if let ControlFlow::Break(exit) = self.turn().await {
                break exit;
            }
        };
        self.leave().await;
        exit
    }

    /// Does what is due, then waits for the next thing to happen.
    async fn turn(&mut self) -> Flow {
        self.step()?;
        let wake = self.wake();
        let is_heard = self.outbox.is_clear() && !self.state.is_orphan;
        tokio::select! {
            wish = self.signals.next() => self.obey_signal(wish),
            command = self.commands.next(), if is_heard => self.hear(command),
            _ = self.feed.recv_many(&mut self.arrivals, FEED_TURN) => self.take_feed(),
            Some(report) = self.reports.recv() => self.take_report(report),
            () = self.outbox.move_one(), if !self.outbox.is_clear() => Flow::Continue(()),
            () = written(&mut self.state.announcing) => {
                self.state.announcing = None;
                self.pipeline.announced(now());
                Flow::Continue(())
            }
            () = due(wake) => Flow::Continue(()),
        }
    }

    fn step(&mut self) -> Flow {
        let now = now();
        self.pipeline.step(now);
        self.send_orders()?;
        if self.state.stage == Stage::Draining && self.pipeline.is_drained() {
            self.state.stage = Stage::Closing;
            self.order(Order::Close)?;
        }
        let instant = Instant::from_std(now.instant);
        if self
            .state
            .deadline
            .is_some_and(|deadline| deadline <= instant)
        {
            warn!("the drain deadline has passed; what is unfinished goes back to the queue");
            return Flow::Break(Ok(ExitCode::Deadline));
        }
        if self.state.told_held != self.pipeline.is_held() {
            // Somebody waits to hear it.
            self.state.pulse.hurry(now.instant);
        }
        // Before the notices, of which there may be one each time.
        self.beat(now.instant);
        if self.outbox.is_clear() {
            self.confirm_resize();
            if let Some(suspect) = self.pipeline.take_announcement() {
                let is_message = suspect.is_some();
                let alone = true;
                let announced = self.outbox.announce(Event::Begin { suspect, alone });
                self.state.announcing = is_message.then_some(announced);
            }
            if let Some(ids) = self.pipeline.take_notice(now.instant) {
                self.outbox.tell(Event::Stored { ids });
            }
        }
        Flow::Continue(())
    }

    fn beat(&mut self, instant: std::time::Instant) {
        if self.state.pulse.beat(instant, self.outbox.is_clear()) {
            let mut heartbeat = self.pipeline.heartbeat(instant);
            heartbeat.waiting_for = self.waiting_for();
            self.state.told_held = heartbeat.paused;
            self.outbox.tell(Event::Heartbeat(heartbeat));
        }
    }

    fn waiting_for(&self) -> Option<Dependency> {
        if self.pipeline.is_paused() {
            Some(Dependency::Database)
        } else if self.state.is_connected || self.state.stage != Stage::Serving {
            None
        } else {
            Some(Dependency::Broker)
        }
    }

    /// When something is due by itself; none while only others can bring it on.
    fn wake(&self) -> Option<Instant> {
        let now = clock().into_std();
        let is_read = self.outbox.is_clear();
        // What waits for the supervisor to read does not wait for the clock.
        let work = self.pipeline.wake(now).filter(|at| is_read || *at > now);
        let pulse = self.state.pulse.wake(is_read);
        let due = work.into_iter().chain(pulse).min().map(Instant::from_std);
        due.into_iter().chain(self.state.deadline).min()
    }

    fn take_feed(&mut self) -> Flow {
        let now = now();
        if self.arrivals.is_empty() {
            return Flow::Break(Err(Broken::Session));
        }
        for feed in std::mem::take(&mut self.arrivals) {
            match feed {
                Feed::Delivered { tag, delivery } => self.pipeline.delivered(tag, *delivery, now),
                Feed::Consuming { generation, took } => {
                    info!(generation, ?took, "consuming from the tenant's queue");
                    self.connected(generation, took);
                }
                Feed::Idle { generation, took } => {
                    info!(generation, ?took, "connected and not consuming, as ordered");
                    self.connected(generation, took);
                }
                Feed::Cancelled => self.pipeline.cancelled(),
                Feed::Away { reason, refused } => self.away(&reason, refused)?,
                Feed::Closed => {
                    return Flow::Break(Ok(self.drained()));
                }
            }
        }
        Flow::Continue(())
    }

    fn connected(&mut self, generation: u64, took: Duration) {
        self.pipeline.connected(generation);
        self.state.is_connected = true;
        self.state.away_because.clear();
        if !self.state.has_been_ready {
            self.state.has_been_ready = true;
            // Before the news: whoever hears that it is ready may ask with how many threads.
            let now = clock().into_std();
            self.state.pulse.hurry(now);
            self.beat(now);
            let connect_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            self.outbox.tell(Event::Ready { connect_ms });
        }
    }

    /// The channel is gone; the session makes another, unless the worker stops.
    fn away(&mut self, reason: &str, refused: bool) -> Flow {
        self.state.is_connected = false;
        self.pipeline.channel_lost();
        if refused && !self.state.has_been_ready {
            error!(reason, "the broker refuses the credentials of rabbitmq.url");
            return Flow::Break(Ok(ExitCode::BadCredentials));
        }
        match self.state.stage {
            Stage::Serving if self.state.away_because == reason => {
                debug!(reason, "the broker is still away");
            }
            Stage::Serving => {
                warn!(reason, "the broker is away; connecting again");
                reason.clone_into(&mut self.state.away_because);
            }
            // Nothing is held any more, so nothing can be given back but by what has happened.
            Stage::Draining | Stage::Closing => {
                warn!(reason, "the broker went away while draining");
                self.pipeline.cancelled();
            }
        }
        Flow::Continue(())
    }

    fn take_report(&mut self, report: Report) -> Flow {
        let was_paused = self.pipeline.is_paused();
        if let Err(panicked) = self.pipeline.report(report, now()) {
            return Flow::Break(Err(panicked.into()));
        }
        if !was_paused && self.pipeline.is_paused() && self.outbox.is_clear() {
            let detail = "storing pauses: the database is away or refuses";
            self.outbox.fault(detail);
        }
        Flow::Continue(())
    }

    fn send_orders(&mut self) -> Flow {
        for order in std::mem::take(&mut self.pipeline.orders) {
            self.order(order)?;
        }
        Flow::Continue(())
    }

    /// Never waits: there is room for every order there can be.
    pub(crate) fn order(&mut self, order: Order) -> Flow {
        match self.orders.try_send(order) {
            Ok(()) => Flow::Continue(()),
            Err(mpsc::error::TrySendError::Full(Order::Reconnect)) => Flow::Continue(()),
            Err(_) => Flow::Break(Err(Broken::Session)),
        }
    }

    /// Starts a stop, or hurries one that is under way.
    pub(crate) fn drain(&mut self, limit: Duration, exit: ExitCode) {
        let deadline = clock() + limit;
        self.state.deadline = Some(self.state.deadline.map_or(deadline, |at| at.min(deadline)));
        if self.state.stage == Stage::Serving {
            info!(?limit, "draining");
            self.state.stage = Stage::Draining;
            self.state.exit = exit;
            self.pipeline.drain();
        }
    }

    /// The channel is closed: what was not acknowledged is the queue's again.
    fn drained(&mut self) -> ExitCode {
        let requeued = self.pipeline.requeued();
        info!(requeued, "drained");
        // The last word on what was stored, so that the supervisor's counts are exact.
        let heartbeat = self.pipeline.heartbeat(clock().into_std());
        self.outbox.tell(Event::Heartbeat(heartbeat));
        self.outbox.tell(Event::Drained { requeued });
        self.state.exit
    }

    /// Ends the threads and their connections, and says what is left to say.
    async fn leave(mut self) {
        let limit = self.spec.heartbeat_interval;
        self.session.abort();
        self.pipeline.pool.close();
        let threads = async {
            while self.pipeline.pool.busy() == 0 && !self.pipeline.pool.has_its_size() {
                let Some(report) = self.reports.recv().await else {
                    break;
                };
                if let Err(problem) = self.pipeline.report(report, now()) {
                    debug!(%problem, "while leaving");
                }
            }
        };
        // A thread that is still busy ends with the process; its transaction is rolled back.
        if timeout(limit, threads).await.is_err() {
            debug!("pool threads are still busy; they end with the process");
        }
        drop(self.pipeline);
        // Saying goodbye to the database blocks.
        let goodbye = tokio::task::spawn_blocking(move || drop(self.store));
        if timeout(limit, goodbye).await.is_err() {
            debug!("the database does not take a goodbye");
        }
        match timeout(limit, self.outbox.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "the supervisor is gone"),
            Err(_) => debug!("the supervisor does not read"),
        }
    }
}

/// Waits until what is announced is written; for ever if nothing is. Cancel-safe.
async fn written(announced: &mut Option<Announced>) {
    match announced {
        Some(announced) => announced.is_written().await,
        None => pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// The clock of the reactor; nothing below reads one.
pub(crate) fn clock() -> Instant {
    Instant::now()
}

fn now() -> Now {
    Now {
        instant: clock().into_std(),
        time: Timestamp::now(),
    }
}
