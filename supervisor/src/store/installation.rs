//! Who is in charge of the database: one supervisor at a time.
//!
//! ```text
//!            lock free, row allows it           session lost
//!   Seeking ─────────────────────────▶ Held ◀───────────────▶ Lapsed
//!                                        │   epoch unchanged    │
//!                                        └──▶ Lost ◀────────────┘  another epoch in the row
//! ```
//!
//! The holder has an advisory lock for as long as its session lives, and its name and epoch in the
//! row `installation`, because a lock alone cannot tell who had it in between. A thread of its own
//! keeps the session, on a direct connection, and looks every second. It also notes there what must
//! outlive the supervisor: the latest tick of its mint and how far `stored_xid` has come.

use std::{
    convert::Infallible,
    fmt, fs,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use jatis_connect::postgres::Target;
use jatis_shared::{config::Database, ids::Mint, telemetry::Chain};
use postgres::Client;
use tokio::sync::watch;
use uuid::Uuid;

use self::row::Look;
use super::{
    StoreError, cluster, on_blocking_thread,
    server::{self, Purpose},
};
use crate::random;

mod row;

/// How often the holder looks, and a seeker tries.
const BEAT: Duration = Duration::from_secs(1);
/// How long an upgrade may take before somebody else may take the hold.
const RESERVED_SECONDS: f64 = 15.0;

/// A supervisor, as others see it in the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Random for each start; an upgrade in place hands it on.
    pub instance: Uuid,
    pub host: String,
    pub pid: u32,
}

impl Identity {
    /// The running process, under a new instance id.
    #[must_use]
    pub fn of_this_process() -> Self {
        let random = u128::from(random::bits()) << 64 | u128::from(random::bits());
        // The name is for people to read; without it they still have the pid.
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            instance: uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid(),
            host: host.trim_end().to_owned(),
            pid: std::process::id(),
        }
    }
}

/// The supervisor that holds the database, or held it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub identity: Identity,
    pub epoch: i64,
}

impl fmt::Display for Holder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { host, pid, .. } = &self.identity;
        write!(out, "host {host}, pid {pid}, epoch {}", self.epoch)
    }
}

/// How it stands between this supervisor and the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// Not in charge yet. Left for `Held`.
    Seeking {
        /// Who is instead; absent while the database cannot be asked.
        holder: Option<Holder>,
    },
    /// In charge. Left for `Lapsed` and `Lost`.
    Held {
        epoch: i64,
        /// What the row said when it was taken: a new mint starts a second above.
        last_tick: u64,
    },
    /// The session is gone, nobody else is known to have taken over: what runs goes on. Left for
    /// `Held` with the same epoch, or for `Lost`.
    Lapsed { epoch: i64 },
    /// Another supervisor has taken over; everything of this one must stop. Final.
    Lost { epoch: i64, holder: Holder },
}

/// The thread that gets and keeps this supervisor in charge.
pub struct Installation {
    identity: Identity,
    /// Set before the thread is stopped to have it reserve the hold; set by the thread when it has
    /// not.
    reserves: Arc<AtomicBool>,
    hold: watch::Receiver<Hold>,
    mint: Arc<OnceLock<Arc<Mint>>>,
    /// Closing it stops the thread; nothing is ever sent.
    stop: SyncSender<Infallible>,
    thread: JoinHandle<()>,
}

impl Installation {
    /// Begins to seek; [`watch`](Self::watch) tells how it goes. `epoch`: the one under which this
    /// supervisor was in charge before its upgrade.
    ///
    /// # Errors
    /// [`StoreError::Target`], [`StoreError::Thread`].
    pub fn seek(
        database: &Database,
        identity: Identity,
        epoch: Option<i64>,
    ) -> Result<Self, StoreError> {
        let target = server::target(database, Purpose::Request)?;
        let (publish, hold) = watch::channel(Hold::Seeking { holder: None });
        // Bound 1 for form: the channel's type has no values.
        let (stop, stopped) = sync_channel(1);
        let mint = Arc::new(OnceLock::new());
        let reserves = Arc::new(AtomicBool::new(false));
        let keeper = Keeper {
            target,
            identity: identity.clone(),
            reserves: Arc::clone(&reserves),
            mint: Arc::clone(&mint),
            publish,
            stopped,
        };
        let thread = thread::Builder::new()
            .name("installation".to_owned())
            .spawn(move || keeper.run(epoch))
            .map_err(StoreError::Thread)?;
        Ok(Self {
            identity,
            reserves,
            hold,
            mint,
            stop,
            thread,
        })
    }

    /// The present hold, and its changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Hold> {
        self.hold.clone()
    }

    /// From now on the mint's latest tick is noted every second. The mint must have been made above
    /// the `last_tick` of [`Hold::Held`]; a second call changes nothing.
    pub fn keep(&self, mint: Arc<Mint>) {
        let _already_kept: Result<(), Arc<Mint>> = self.mint.set(mint);
    }

    /// Reserves the hold for the next image of this program, and gives it back otherwise; `None`
    /// when this supervisor is not in charge. The time of the reservation is the next image's to
    /// take it up; what goes on here instead seeks again with the charge.
    ///
    /// # Errors
    /// [`StoreError::Closed`] when the runtime is ending.
    pub async fn hand_over(self) -> Result<Option<Charge>, StoreError> {
        let epoch = match &*self.hold.borrow() {
            Hold::Held { epoch, .. } | Hold::Lapsed { epoch } => Some(*epoch),
            Hold::Seeking { .. } | Hold::Lost { .. } => None,
        };
        let (identity, reserves) = (self.identity.clone(), Arc::clone(&self.reserves));
        reserves.store(true, Ordering::Release);
        self.release().await?;
        Ok(epoch.map(|epoch| Charge {
            identity,
            epoch,
            is_reserved: !reserves.load(Ordering::Acquire),
        }))
    }

    /// Notes the last tick, gives the hold back and ends the thread. Call it last: whoever waits is
    /// in charge a second later. Bounded by the timeouts of a connection and of one statement.
    ///
    /// # Errors
    /// [`StoreError::Closed`] when the runtime is ending.
    pub async fn release(self) -> Result<(), StoreError> {
        drop(self.stop);
        let thread = self.thread;
        on_blocking_thread(move || match thread.join() {
            Ok(()) => Ok(()),
            Err(panic) => std::panic::resume_unwind(panic),
        })
        .await
    }
}

/// What an upgrade leaves of a supervisor's charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    pub identity: Identity,
    pub epoch: i64,
    /// Nobody else can take the hold for a while.
    pub is_reserved: bool,
}

struct Keeper {
    target: Target,
    identity: Identity,
    /// Whether to reserve the hold at the end; taken back when that is done.
    reserves: Arc<AtomicBool>,
    mint: Arc<OnceLock<Arc<Mint>>>,
    publish: watch::Sender<Hold>,
    stopped: Receiver<Infallible>,
}

/// How a session of the keeper ended, other than by an error.
enum End {
    Stopped,
    Lost,
}

/// How an attempt to take the hold ended.
enum Attempt {
    Taken { epoch: i64, last_tick: u64 },
    HeldBy(Option<Holder>),
    Lost(Holder),
}

impl Keeper {
    fn run(self, mut epoch: Option<i64>) {
        let mut told = String::new();
        loop {
            match self.session(&mut epoch) {
                Ok(End::Stopped | End::Lost) => return,
                Err(error) => {
                    if self.was_reached() {
                        told.clear();
                    }
                    report(&error, &mut told);
                }
            }
            self.publish.send_replace(match epoch {
                Some(epoch) => Hold::Lapsed { epoch },
                None => Hold::Seeking { holder: None },
            });
            if self.stopped_within(BEAT) {
                return;
            }
        }
    }

    /// One connection: takes the hold with it and keeps it. `epoch` is the one held by an earlier
    /// session of this process.
    fn session(&self, epoch: &mut Option<i64>) -> Result<End, StoreError> {
        let mut client = self.target.connect()?;
        let (taken, last_tick) = loop {
            match self.attempt(&mut client, *epoch)? {
                Attempt::Taken { epoch, last_tick } => break (epoch, last_tick),
                Attempt::Lost(holder) => return Ok(self.lost(*epoch, holder)),
                Attempt::HeldBy(holder) => self.seeking(*epoch, holder),
            }
            if self.stopped_within(BEAT) {
                return Ok(End::Stopped);
            }
        };
        *epoch = Some(taken);
        tracing::info!(epoch = taken, "in charge of the database, epoch {taken}");
        self.publish.send_replace(Hold::Held {
            epoch: taken,
            last_tick,
        });
        while !self.stopped_within(BEAT) {
            if let Some(holder) = self.beat(&mut client, taken)? {
                return Ok(self.lost(*epoch, holder));
            }
        }
        self.beat(&mut client, taken)?;
        if self.reserves.load(Ordering::Acquire) {
            row::reserve(&mut client, taken, RESERVED_SECONDS)?;
            self.reserves.store(false, Ordering::Release);
        }
        // The end of the session gives the lock back.
        client
            .close()
            .map_err(StoreError::sql("give the hold back"))?;
        Ok(End::Stopped)
    }

    /// Takes the hold if it is free. Whoever held it before gets it back under its old epoch: then
    /// nobody else has had it.
    fn attempt(&self, client: &mut Client, before: Option<i64>) -> Result<Attempt, StoreError> {
        let locked = row::try_lock(client)?;
        let standing = row::read(client)?;
        let attempt = match before {
            Some(epoch) if standing.epoch != epoch => Attempt::Lost(standing.successor()),
            _ if locked && !standing.is_reserved_for_another(self.identity.instance) => {
                let epoch = before.unwrap_or(standing.epoch + 1);
                cluster::settle(client)?;
                row::take(client, &self.identity, epoch)?;
                return Ok(Attempt::Taken {
                    epoch,
                    last_tick: standing.last_tick,
                });
            }
            _ => Attempt::HeldBy(standing.holder()),
        };
        if locked {
            row::unlock(client)?;
        }
        Ok(attempt)
    }

    /// Looks whether the hold is still ours, and notes how far we are. Gives the other holder if
    /// there is one.
    fn beat(&self, client: &mut Client, epoch: i64) -> Result<Option<Holder>, StoreError> {
        let tick = self.mint.get().map(|mint| mint.last()).unwrap_or_default();
        match row::look(client, self.identity.instance, epoch, tick)? {
            Look::Another => row::read(client).map(|standing| Some(standing.successor())),
            Look::Stale => row::note(client, epoch, tick).map(|()| None),
            Look::Current => Ok(None),
        }
    }

    fn seeking(&self, epoch: Option<i64>, holder: Option<Holder>) {
        let hold = match epoch {
            Some(epoch) => Hold::Lapsed { epoch },
            None => Hold::Seeking { holder },
        };
        self.publish.send_if_modified(|present| {
            let news = *present != hold;
            if let (
                true,
                Hold::Seeking {
                    holder: Some(holder),
                },
            ) = (news, &hold)
            {
                tracing::warn!("another supervisor is in charge of the database: {holder}");
            }
            *present = hold;
            news
        });
    }

    fn lost(&self, epoch: Option<i64>, holder: Holder) -> End {
        tracing::error!("another supervisor has taken charge of the database: {holder}");
        self.publish.send_replace(Hold::Lost {
            epoch: epoch.unwrap_or_default(),
            holder,
        });
        End::Lost
    }

    /// The latest session had got through to the row before it failed.
    fn was_reached(&self) -> bool {
        match &*self.publish.borrow() {
            Hold::Held { .. } | Hold::Lost { .. } | Hold::Seeking { holder: Some(_) } => true,
            Hold::Seeking { holder: None } | Hold::Lapsed { .. } => false,
        }
    }

    fn stopped_within(&self, pause: Duration) -> bool {
        match self.stopped.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
            Ok(never) => match never {},
        }
    }
}

/// Of a row of failures the first is told, and each that has another reason; the others are detail.
fn report(error: &StoreError, told: &mut String) {
    let error = Chain(error).to_string();
    if *told == error {
        tracing::debug!(
            error,
            "still no session that keeps this supervisor in charge"
        );
    } else {
        tracing::warn!(
            error,
            "the session that keeps this supervisor in charge failed; trying again every second"
        );
        *told = error;
    }
}
