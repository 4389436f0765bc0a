//! A fleet on its way from one image of the supervisor to the next.
//!
//! ```text
//!   freeze ─▶ each task parks at a frame's border ─▶ Carried + socket ─▶ (exec) ─▶ adopt
//!                    └───────────── thaw, if it comes to nothing
//! ```
//!
//! The processes stay what they are: children of the same pid. What is carried is what their
//! minders knew. A worker that is being started or stopped is waited for first; one that rests or
//! is shut away is started anew by the next image, which remembers what counts against it.

use std::os::{fd::OwnedFd, unix::net::UnixStream};

use jatis_shared::{
    control::Heartbeat,
    ids::{TenantId, TenantNumber},
};
use serde::{Deserialize, Serialize};

use super::memory::Memory;

/// What is known of a tenant's worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Carried {
    pub tenant: TenantId,
    pub number: TenantNumber,
    pub pid: u32,
    /// Processes made so far, this one included.
    pub starts: u64,
    /// Whether it has ever been ready; if so, for how long, milliseconds.
    pub ready_ms: Option<u64>,
    /// Threads and connections as wanted, and as confirmed.
    pub wanted: (u16, u16),
    pub applied: Option<(u16, u16)>,
    pub wants_pause: bool,
    pub is_paused: bool,
    pub signalled: Option<u16>,
    /// The number of the next frame to it.
    pub next_id: u64,
    /// Bytes of its that were read and not understood yet.
    pub unread: Vec<u8>,
    /// Bytes to it that are not written yet.
    pub unsent: Vec<u8>,
    pub heartbeat: Heartbeat,
    pub stored: u64,
    pub last_tick: u64,
    pub memory: Carriage,
}

/// [`Memory`] as it travels.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Carriage {
    crash_times: Vec<jiff::Timestamp>,
    quarantines: u16,
    suspects: std::collections::BTreeMap<String, u16>,
}

impl From<Memory> for Carriage {
    fn from(memory: Memory) -> Self {
        Self {
            crash_times: memory.crash_times,
            quarantines: memory.quarantines,
            suspects: memory.suspects,
        }
    }
}

impl From<Carriage> for Memory {
    fn from(carriage: Carriage) -> Self {
        Self {
            crash_times: carriage.crash_times,
            quarantined_until: None,
            quarantines: carriage.quarantines,
            suspects: carriage.suspects,
        }
    }
}

/// A worker whose minder has parked, with its control socket.
#[derive(Debug)]
pub struct Frozen {
    pub carried: Carried,
    pub socket: OwnedFd,
}

/// A worker of the image before.
#[derive(Debug)]
pub struct Inherited {
    pub carried: Carried,
    pub socket: UnixStream,
}
