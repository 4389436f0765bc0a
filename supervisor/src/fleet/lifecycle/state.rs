//! Where a worker is in its life.

use tokio::time::Instant;

use crate::fleet::{order::Size, snapshot::StateName};

/// A size that was asked for and is not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fleet) struct Asked {
    pub(super) size: Size,
    /// When to ask once more.
    pub(super) again_at: Instant,
}

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fleet) enum State {
    /// Waits for a start slot. Left when one is granted.
    Queued,
    /// Its process is being made (`hello_by` is none) or has not said hello. Left by `Hello`.
    Spawning { hello_by: Option<Instant> },
    /// It has its spec and confines itself. Left by `Confined`.
    Confining { confined_by: Instant },
    /// It connects, for as long as that takes: a broker that is away is not its fault. Left by
    /// `Ready`. Watched for silence from its first heartbeat on.
    Connecting { silent_at: Option<Instant> },
    /// It consumes. Left by a resize, a pause, silence, a stop or its exit.
    Running { silent_at: Instant },
    /// It consumes and was asked for another size. Left by `Resized` or `Refused`; asked again
    /// when neither comes.
    Resizing { silent_at: Instant, asked: Asked },
    /// It consumes nothing and holds nothing, as it says itself, and may have been asked for
    /// another size. Left when it says otherwise, by silence, a stop or its exit.
    Paused {
        silent_at: Instant,
        asked: Option<Asked>,
    },
    /// It was silent for too long, or closed its socket. Left by a heartbeat, or killed.
    Suspect { kill_at: Instant },
    /// It was told to finish. Left by its exit, or killed.
    Draining { kill_at: Instant },
    /// It was sent SIGKILL. Left when it is reaped, and only then.
    Killing { overdue_at: Option<Instant> },
    /// It failed and rests. Left when the pause is over.
    Backoff { until: Instant },
    /// It crashed too often, or cannot work with what it is given. Left by a person, or for a trial
    /// when the time is over.
    Quarantined { until: Instant },
    /// This host cannot confine it. Left by a person.
    Refused,
    /// Stopped as asked, and reaped. Never left.
    Stopped,
}

impl State {
    /// The state without its data.
    pub(in crate::fleet) const fn name(self) -> StateName {
        match self {
            Self::Queued => StateName::Queued,
            Self::Spawning { .. } => StateName::Spawning,
            Self::Confining { .. } => StateName::Confining,
            Self::Connecting { .. } => StateName::Connecting,
            Self::Running { .. } => StateName::Running,
            Self::Resizing { .. } => StateName::Resizing,
            Self::Paused { .. } => StateName::Paused,
            Self::Suspect { .. } => StateName::Suspect,
            Self::Draining { .. } => StateName::Draining,
            Self::Killing { .. } => StateName::Killing,
            Self::Backoff { .. } => StateName::Backoff,
            Self::Quarantined { .. } => StateName::Quarantined,
            Self::Refused => StateName::Refused,
            Self::Stopped => StateName::Stopped,
        }
    }

    /// Whether there is a process in this state.
    pub(in crate::fleet) const fn has_process(self) -> bool {
        match self {
            Self::Queued
            | Self::Spawning { hello_by: None }
            | Self::Backoff { .. }
            | Self::Quarantined { .. }
            | Self::Refused
            | Self::Stopped => false,
            Self::Spawning { hello_by: Some(_) }
            | Self::Confining { .. }
            | Self::Connecting { .. }
            | Self::Running { .. }
            | Self::Resizing { .. }
            | Self::Paused { .. }
            | Self::Suspect { .. }
            | Self::Draining { .. }
            | Self::Killing { .. } => true,
        }
    }

    /// When it is left, or an alarm given, if nothing else happens first.
    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Queued | Self::Refused | Self::Stopped => None,
            Self::Spawning { hello_by } => hello_by,
            Self::Confining { confined_by } => Some(confined_by),
            Self::Connecting { silent_at } => silent_at,
            Self::Running { silent_at } => Some(silent_at),
            Self::Resizing { silent_at, asked } => Some(silent_at.min(asked.again_at)),
            Self::Paused { silent_at, asked } => {
                let again_at = asked.map(|asked| asked.again_at);
                Some(again_at.map_or(silent_at, |again_at| silent_at.min(again_at)))
            }
            Self::Suspect { kill_at } | Self::Draining { kill_at } => Some(kill_at),
            Self::Killing { overdue_at } => overdue_at,
            Self::Backoff { until } | Self::Quarantined { until } => Some(until),
        }
    }
}
