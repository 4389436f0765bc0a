//! The admin socket: what an operator's command asks of a running supervisor, and the answers.
//!
//! ```text
//!   jatis status ── Request ──▶ jatis serve      a Unix stream socket, one request a connection
//!                ◀── Reply … ──
//! ```
//!
//! The frames are those of `frames`. An answer of many rows comes as several replies, the last of
//! which says that there are no more; the end of the socket ends a conversation.
//!
//! CAUTION: what stands here is also what `--json` prints, which programs read: fields are added,
//! not renamed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    control::{Dependency, Threads},
    frames::{Codec, Framed},
    ids::TenantId,
};

/// The version of the protocol this build speaks, named in every frame.
pub const VERSION: u8 = 1;
/// Most rows in one reply, so that its frame stays under the cap.
pub const MAX_ROWS: usize = 500;

/// The supervisor's end of the socket.
pub type ServerCodec = Codec<Request, Reply>;
/// The operator's end of the socket.
pub type ClientCodec = Codec<Reply, Request>;

/// What an operator asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The protocol's version.
    pub v: u8,
    pub verb: Verb,
}

impl Framed for Request {
    const MAX_BYTES: usize = 64 * 1024;
    const VERSION: u8 = VERSION;

    fn version(&self) -> u8 {
        self.v
    }
}

/// What the supervisor answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reply {
    /// The protocol's version.
    pub v: u8,
    pub answer: Answer,
}

impl Framed for Reply {
    const MAX_BYTES: usize = 1024 * 1024;
    const VERSION: u8 = VERSION;

    fn version(&self) -> u8 {
        self.v
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t")]
pub enum Verb {
    /// Answered by `Status`.
    Status,
    /// Answered by `Tenants`, in order of their numbers.
    Tenants,
    /// Answered by `Tenants` with one row.
    Show { tenant: TenantId },
    /// Have a tenant's worker run that was stopped or paused. Answered by `Tenants` with one row,
    /// like every verb about one tenant.
    Start { tenant: TenantId },
    /// Keep a tenant without a worker until it is started again.
    Stop { tenant: TenantId },
    /// Drain a tenant's worker and start another.
    Restart { tenant: TenantId },
    /// Take a tenant's messages and store none.
    Pause { tenant: TenantId },
    /// Store a paused tenant's messages again.
    Resume { tenant: TenantId },
    /// Give a tenant's worker so many threads.
    Resize { tenant: TenantId, workers: u16 },
    /// Start a worker that rests, is in quarantine or was refused, as if it had never failed.
    Release { tenant: TenantId },
    /// Answered by `Events`: those remembered, then, if it `follow`s, each as it happens.
    Events {
        follow: bool,
        tenant: Option<TenantId>,
    },
    /// Read the configuration again. Answered by `Reloaded`.
    Reload,
    /// Have the program that is there now take over. Answered by `Upgrading` when it does.
    Upgrade,
    /// End the supervisor and all workers. Answered by `Stopped` when they have ended.
    Shutdown { level: Level },
    /// A verb of a later version.
    #[serde(other)]
    Unknown,
}

/// How hard to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What has begun is finished, within `supervision.drain_timeout`.
    Drain,
    /// The same within `supervision.fast_timeout`.
    Fast,
    /// At once.
    Immediate,
}

/// An answer, or a part of one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t")]
pub enum Answer {
    Status(Box<Status>),
    Tenants {
        rows: Vec<Tenant>,
        more: bool,
    },
    Events {
        rows: Vec<Event>,
        /// Events that are not told because the reader was too slow.
        missed: u64,
        more: bool,
    },
    Reloaded(Reloaded),
    /// The new program takes over in moments.
    Upgrading,
    Stopped(Stopped),
    /// It was not done.
    Refused {
        code: Refusal,
        detail: String,
    },
    /// An answer of a later version.
    #[serde(other)]
    Unknown,
}

/// Why something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Who asks may not.
    Forbidden,
    /// There is no such tenant.
    NotFound,
    /// It cannot be done as things are; the detail says why.
    Refused,
    /// It is under way and was not done in time.
    TimedOut,
    /// This build does not know the verb.
    Unsupported,
}

/// How a supervisor is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    pub pid: u32,
    /// When this process began.
    pub since: Timestamp,
    /// How far it is: "serving", or what it waits for.
    pub stage: String,
    /// Where the API listens.
    pub http: String,
    /// By part ("database", "broker", "supervision"): "healthy", or what is wrong.
    pub checks: BTreeMap<String, String>,
    pub tenants: usize,
    /// By state: how many workers are in it.
    pub workers: BTreeMap<String, usize>,
}

/// A tenant with what runs for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tenant {
    pub id: TenantId,
    /// What is wanted of it.
    pub wanted: String,
    /// The state in words for clients of the API.
    pub status: String,
    /// Its worker's state; absent without one.
    pub state: Option<String>,
    /// When that was entered.
    pub since: Option<Timestamp>,
    pub waiting_for: Option<Dependency>,
    pub pid: Option<u32>,
    pub generation: u64,
    pub restarts: u64,
    /// Threads wanted by the tenant's configuration.
    pub workers: u16,
    pub threads: Threads,
    /// Deliveries ready and unacknowledged; absent while the broker has not told.
    pub queue_depth: Option<u64>,
    pub unacked: u64,
    /// Messages stored in this supervisor's life.
    pub stored: u64,
    pub last_exit: Option<String>,
}

/// A change of a worker's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub at: Timestamp,
    pub tenant: TenantId,
    pub pid: Option<u32>,
    pub generation: u64,
    pub from: String,
    pub to: String,
    pub cause: String,
}

/// What a reload came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Keys that took effect.
    pub applied: Vec<String>,
    /// Keys that have changed and need a restart.
    pub needs_restart: Vec<String>,
}

/// What a stop came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    pub tenants: Vec<Left>,
}

/// How a tenant's worker left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    pub tenant: TenantId,
    /// Messages it stored since the stop was asked for.
    pub stored: u64,
    /// Deliveries it gave back; absent of one that did not say.
    pub requeued: Option<u64>,
    pub exit: Option<String>,
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tokio_util::codec::{Decoder, Encoder};

    use super::*;

    #[test]
    fn a_verb_of_a_later_version_is_unknown_and_a_later_protocol_is_refused() {
        let read = |json: &str| {
            let length = u32::try_from(json.len()).expect("it is short");
            let mut bytes = BytesMut::from(&length.to_be_bytes()[..]);
            bytes.extend_from_slice(json.as_bytes());
            ServerCodec::default().decode(&mut bytes)
        };
        let later = read(r#"{"v":1,"verb":{"t":"Levitate","height":3}}"#);
        let verb = later.expect("a frame").expect("whole").verb;
        assert_eq!(verb, Verb::Unknown);
        assert!(read(r#"{"v":2,"verb":{"t":"Status"}}"#).is_err());
        assert!(read("").is_err());
    }

    #[test]
    fn the_most_rows_of_one_reply_fit_its_frame() {
        let row = Tenant {
            id: uuid::Uuid::max().into(),
            wanted: "x".repeat(20),
            status: "x".repeat(20),
            state: Some("x".repeat(20)),
            since: Some(Timestamp::MAX),
            waiting_for: Some(Dependency::Database),
            pid: Some(u32::MAX),
            generation: u64::MAX,
            restarts: u64::MAX,
            workers: u16::MAX,
            threads: Threads::default(),
            queue_depth: Some(u64::MAX),
            unacked: u64::MAX,
            stored: u64::MAX,
            last_exit: Some("x".repeat(60)),
        };
        let reply = Reply {
            v: VERSION,
            answer: Answer::Tenants {
                rows: vec![row; MAX_ROWS],
                more: true,
            },
        };
        let mut bytes = BytesMut::new();
        let encoded = ServerCodec::default().encode(&reply, &mut bytes);
        encoded.expect("it is within its cap");
    }
}
