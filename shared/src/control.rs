//! The control socket between the supervisor and one worker.
//!
//! ```text
//!   supervisor ── Command ──▶ worker      a socketpair; the worker's end is its stdin
//!              ◀── Event ────
//! ```
//!
//! The frames are those of [`frames`](crate::frames). Fields that a version does not know are
//! ignored; a command it does not know is answered with [`Event::Refused`]. End of file on the
//! socket means that the other side is gone.
//!
//! CAUTION: `docs/reference.md` lists every command and event; a test compares.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use crate::frames::FrameError;
use crate::{
    config::{Database, RabbitMq, Worker},
    frames::{Codec, Framed},
    ids::{MessageId, TenantId, TenantNumber},
};

/// The version of the protocol this build speaks, named in every frame.
pub const VERSION: u8 = 1;
/// Most ids in one [`Event::Stored`], so that its frame stays under the cap.
pub const MAX_STORED_IDS: usize = 1_500;

/// What travels in one direction.
pub trait Direction: Serialize + DeserializeOwned {
    /// Longest JSON text of a frame, bytes.
    const MAX_FRAME_BYTES: usize;
}

/// What the supervisor orders and the worker obeys.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t")]
pub enum Command {
    /// Who you are and how you shall work. The first command, sent once, after `Hello`.
    Spec(Box<Spec>),
    /// Work with this many pool threads over this many connections. Absolute, so repeating it is
    /// harmless. Answered by `Resized` when the pool has that size.
    Resize { threads: u16, connections: u16 },
    /// A retry queue exists now.
    Rung { delay_ms: u64 },
    /// Stop consuming and stay connected: what has begun is finished, the rest given back. Absolute
    /// like `Resume`; the heartbeat tells when it is done, and contradicts while it is not.
    Pause,
    /// Consume again.
    Resume,
    /// Finish what has begun, give the rest back, answer `Drained` and exit 0, within this time.
    Drain { deadline_ms: u64 },
    /// Exit now; the broker requeues what is unacknowledged.
    Abort,
    /// New credentials.
    Rotate {
        rabbitmq: Box<RabbitMq>,
        database: Box<Database>,
    },
    /// Answer `Pong` with the same nonce.
    Ping { nonce: u64 },
    /// The broker is back: connect now instead of at the end of the pause.
    Reconnect,
    /// Log at this level from now on.
    Log { filter: String },
    /// Write what you are doing to the log.
    Dump,
    /// A new image of the supervisor has taken over.
    Adopt { pid: u32, epoch: i64 },
    /// A command of a later version.
    #[serde(other)]
    Unknown,
}

impl Direction for Command {
    const MAX_FRAME_BYTES: usize = 256 * 1024;
}

/// What the worker tells and the supervisor believes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t")]
pub enum Event {
    /// The first event: the worker runs, its signals are handled, it waits for its spec.
    Hello {
        min_version: u8,
        max_version: u8,
        build: String,
        pid: u32,
    },
    /// What it gave up for good before its first byte from the outside.
    Confined(Confinement),
    /// It consumes, or is connected and does not because it is paused.
    Ready { connect_ms: u64 },
    /// Every `supervision.heartbeat_interval`, made from real progress.
    Heartbeat(Heartbeat),
    /// Messages that somebody awaits are in the table, by this commit or by an earlier one. At most
    /// [`MAX_STORED_IDS`].
    Stored { ids: Vec<MessageId> },
    /// The pool has this size now.
    Resized {
        threads: u16,
        connections: u16,
        source: ResizeSource,
    },
    /// A suspect message is about to be opened (while on probation), or with none, nothing is open
    /// any more. `alone`: nothing else is.
    Begin {
        suspect: Option<String>,
        alone: bool,
    },
    /// A retry queue with this delay is needed.
    NeedRung { delay_ms: u64 },
    /// Drained; the exit follows. Deliveries given back unbegun.
    Drained { requeued: u64 },
    /// The command of this frame's `re` was not obeyed.
    Refused { code: Refusal, detail: String },
    /// Tell me what is wanted of me (after a SIGHUP).
    Sync,
    /// Something a person may want to know; at most 1 KiB of text.
    Fault { detail: String },
    /// The answer to `Ping`.
    Pong { nonce: u64 },
    /// An event of a later version.
    #[serde(other)]
    Unknown,
}

impl Direction for Event {
    const MAX_FRAME_BYTES: usize = 64 * 1024;
}

/// Everything a worker knows when it starts. It reads no file and no environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    pub tenant: TenantId,
    pub number: TenantNumber,
    /// Pool threads, 1 to `worker.max_threads`.
    pub threads: u16,
    /// Database connections, 1 to `threads`.
    pub connections: u16,
    /// Not to consume before a `Resume`.
    #[serde(default)]
    pub paused: bool,
    /// Unacknowledged deliveries it may hold, fixed for the consumer's life.
    pub prefetch: u16,
    /// The worker before it crashed: one message at a time, at first.
    #[serde(default)]
    pub probation: Option<Probation>,
    /// Its mint starts above this tick.
    pub mint_floor: u64,
    /// How long it may drain once its supervisor is gone.
    pub orphan_timeout: Duration,
    /// How long it may drain when the order gives no deadline (a SIGTERM).
    pub drain_timeout: Duration,
    pub heartbeat_interval: Duration,
    pub rabbitmq: RabbitMq,
    pub database: Database,
    pub worker: Worker,
    pub log: crate::config::Log,
}

/// How a worker begins whose predecessor crashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probation {
    /// Messages that were alone in too many crashes: dead letters, unopened.
    pub condemned: Vec<String>,
    /// After so many messages it works as usual.
    pub messages: u32,
}

/// What a worker can no longer do, as it checked itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// It and what it may execute can gain no privilege (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privs: bool,
    /// Its memory is closed to other processes of the same user (`PR_SET_DUMPABLE` 0).
    pub undumpable: bool,
    /// It leaves no core file (`RLIMIT_CORE` 0).
    pub no_core: bool,
}

/// A worker's report of its progress. Counters run from its start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub threads: Threads,
    /// Age of the oldest batch in a thread, milliseconds; 0 when none is.
    pub oldest_busy_ms: u64,
    /// Deliveries held and not yet acknowledged.
    pub unacked: u64,
    /// Messages in those deliveries.
    pub in_flight: u64,
    /// Messages stored by it.
    pub stored: u64,
    /// Dead letters written by it.
    pub dead: u64,
    /// Messages of batches that were tried again.
    pub retried: u64,
    pub waiting_for: Option<Dependency>,
    /// It consumes nothing, because it shall not, and holds nothing any more.
    #[serde(default)]
    pub paused: bool,
    /// The latest tick of its mint.
    pub last_tick: u64,
}

/// Pool threads: how many are wanted, exist and hold a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threads {
    pub target: u16,
    pub live: u16,
    pub busy: u16,
}

/// What a worker cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dependency {
    Broker,
    Database,
}

/// Who wanted a resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResizeSource {
    Command,
    /// SIGTTIN or SIGTTOU to the worker.
    Signal,
}

/// Why a command was not obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// This build does not know or do it.
    Unsupported,
    /// Its values are out of bounds.
    Invalid,
    /// The system gives no further thread; the worker goes on with those it has.
    Exhausted,
}

/// A command or event with what every frame carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame<T> {
    /// The protocol's version.
    pub v: u8,
    /// The worker's generation: how many workers this tenant had before, in this supervisor.
    pub generation: u64,
    /// Numbers the frames of one sender.
    pub id: u64,
    /// The id of the frame that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub re: Option<u64>,
    pub body: T,
}

impl<T: Direction> Framed for Frame<T> {
    const MAX_BYTES: usize = T::MAX_FRAME_BYTES;
    const VERSION: u8 = VERSION;

    fn version(&self) -> u8 {
        self.v
    }
}

/// The supervisor's end of the socket.
pub type SupervisorCodec = Codec<Frame<Event>, Frame<Command>>;
/// The worker's end of the socket.
pub type WorkerCodec = Codec<Frame<Command>, Frame<Event>>;

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
