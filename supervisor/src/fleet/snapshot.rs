//! What is to be seen of a tenant's worker from outside the fleet.

use std::time::Duration;

use jatis_shared::{
    control::{Dependency, Threads},
    ids::TenantId,
};
use jiff::Timestamp;

/// A tenant's state in words for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Starting,
    Running,
    Backoff,
    Paused,
    Draining,
    Failed,
    Deleting,
}

impl Status {
    /// As it stands in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
        }
    }
}

/// The state of a worker's lifecycle, without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateName {
    /// Waits for a start slot.
    Queued,
    /// Its process has not said hello yet.
    Spawning,
    /// It gives up what it does not need.
    Confining,
    /// It connects to the broker and the database.
    Connecting,
    /// It consumes.
    Running,
    /// It consumes and changes its size.
    Resizing,
    /// It consumes nothing, because it shall not.
    Paused,
    /// It has not been heard of for too long.
    Suspect,
    /// It finishes what it has.
    Draining,
    /// It was sent SIGKILL.
    Killing,
    /// It failed, and rests before its next start.
    Backoff,
    /// It crashed too often, or cannot work with what it is given.
    Quarantined,
    /// This host cannot confine it.
    Refused,
    /// It was stopped as asked.
    Stopped,
}

impl StateName {
    /// Every state, for the reference and its test.
    pub const ALL: [Self; 14] = [
        Self::Queued,
        Self::Spawning,
        Self::Confining,
        Self::Connecting,
        Self::Running,
        Self::Resizing,
        Self::Paused,
        Self::Suspect,
        Self::Draining,
        Self::Killing,
        Self::Backoff,
        Self::Quarantined,
        Self::Refused,
        Self::Stopped,
    ];

    /// As it stands in answers and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Spawning => "spawning",
            Self::Confining => "confining",
            Self::Connecting => "connecting",
            Self::Running => "running",
            Self::Resizing => "resizing",
            Self::Paused => "paused",
            Self::Suspect => "suspect",
            Self::Draining => "draining",
            Self::Killing => "killing",
            Self::Backoff => "backoff",
            Self::Quarantined => "quarantined",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
        }
    }

    /// The state in words for clients.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::Queued | Self::Spawning | Self::Confining | Self::Connecting => Status::Starting,
            Self::Running | Self::Resizing | Self::Suspect => Status::Running,
            Self::Paused => Status::Paused,
            Self::Killing | Self::Backoff => Status::Backoff,
            Self::Quarantined | Self::Refused => Status::Failed,
            Self::Draining | Self::Stopped => Status::Draining,
        }
    }
}

/// A tenant's worker at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub tenant: TenantId,
    pub state: StateName,
    /// When `state` was entered.
    pub since: Timestamp,
    /// What it is without just now, as it last reported.
    pub waiting_for: Option<Dependency>,
    /// Its process, while there is one.
    pub pid: Option<u32>,
    /// The number of the present process or the latest one, from 0.
    pub generation: u64,
    /// Starts after the first, in this supervisor's life.
    pub restarts: u64,
    /// Pool threads, as it last reported; none without a process.
    pub threads: Threads,
    /// Pool threads as wanted.
    pub wanted_threads: u16,
    /// Pool threads as confirmed by the worker; 0 while it neither consumes nor is paused.
    pub applied_threads: u16,
    /// Age of the oldest batch in a thread, as it last reported.
    pub oldest_busy: Duration,
    /// Deliveries held and not acknowledged, as it last reported.
    pub unacked: u64,
    /// Messages in those deliveries.
    pub in_flight: u64,
    /// Messages stored by all its workers, in this supervisor's life: short of what a killed one
    /// did after its last heartbeat.
    pub stored: u64,
    /// Deliveries its latest worker gave back when it drained.
    pub requeued: Option<u64>,
    /// The latest tick that any worker of this tenant minted at, in this supervisor's life.
    pub last_tick: u64,
    /// How the latest process ended, in words: "exit 75 (orphaned)", "signal 9 (SIGKILL)".
    pub last_exit: Option<String>,
    /// Whether the latest process that ended left in order: it gave back or finished all it held.
    pub left_in_order: bool,
}

impl Snapshot {
    /// The state in words for clients.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.state.status()
    }
}

/// What a worker has done since it last said so. Summed over a tenant's workers it gives totals of
/// this supervisor's life, short of what a killed one did after its last heartbeat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Messages stored.
    pub stored: u64,
    /// Dead letters written.
    pub dead: u64,
    /// Messages of batches that were tried again.
    pub retried: u64,
}
