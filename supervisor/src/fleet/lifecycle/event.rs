//! What happens to a worker, and what is done about it.

use std::{fmt, time::Duration};

use crate::fleet::{
    order::{Size, StopLevel},
    process::Ending,
};

/// What happens to a worker. `dice` is any random number, for jitter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::fleet) enum Event {
    /// This is wanted. `insisted`: a person asked for the size just now, so it also ends what a
    /// signal to the worker had changed.
    Wanted {
        size: Size,
        paused: bool,
        insisted: bool,
    },
    /// A person wants it started anew, whatever it did before.
    Released,
    /// A stop is wanted, at least this hard.
    Stop(StopLevel),
    /// The start slot asked for is there.
    Granted,
    /// The process asked for runs.
    Spawned,
    /// The process asked for could not be made.
    SpawnFailed { fault: SpawnFault, dice: u32 },
    /// The worker said something.
    Told { generation: u64, report: Report },
    /// The worker's end of the socket is closed.
    HungUp { generation: u64 },
    /// The worker broke the protocol, or does not keep up with it.
    Misbehaved { generation: u64, how: String },
    /// The process is reaped.
    Exited {
        generation: u64,
        ending: Ending,
        dice: u32,
    },
    /// The deadline has come, or something like it.
    Timer,
}

/// Whose fault it is that a process could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fleet) enum SpawnFault {
    /// This host has no process, memory or descriptor to give just now. No tenant's fault: all
    /// starts pause together, and this one queues again.
    Host,
    /// The program cannot be run.
    Program,
}

/// What a worker says, as far as its life depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fleet) enum Report {
    Hello,
    Confined,
    Ready,
    /// A sign of life; `paused`: it consumes nothing and holds nothing; `busy`: how long the oldest
    /// batch has been in a thread.
    Heartbeat {
        paused: bool,
        busy: Duration,
    },
    /// Its pool has this size; `signalled`: because somebody sent it SIGTTIN or SIGTTOU.
    Resized {
        size: Size,
        signalled: bool,
    },
    /// It cannot have the size asked for.
    Refused,
    /// It asks what is wanted of it.
    Sync,
}

/// What `supervise` shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fleet) enum Action {
    /// Ask for a start slot; `Granted` answers.
    RequestSlot,
    /// Give the slot back, or stop asking for it. Harmless without one.
    ReleaseSlot,
    /// Make the process; `Spawned` or `SpawnFailed` answers.
    Spawn,
    /// Send the spec with this size, and whether to consume.
    Brief { size: Size, paused: bool },
    /// Send this size.
    Resize(Size),
    /// Tell it not to consume.
    Pause,
    /// Tell it to consume.
    Resume,
    /// Tell it to finish within this time: by command, and by signal should it not read commands.
    Drain(Duration),
    /// Send SIGKILL.
    Kill,
    /// Say that SIGKILL has had no effect for too long.
    Alarm,
    /// What is known of its crashes has changed, and must outlive this supervisor.
    Remember,
}

/// As the cause of a transition, for the log.
impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted { paused: true, .. } => out.write_str("a pause is wanted"),
            Self::Wanted { size, .. } => write!(out, "{} threads are wanted", size.threads),
            Self::Released => out.write_str("it was released"),
            Self::Stop(StopLevel::Drain) => out.write_str("a stop is wanted"),
            Self::Stop(StopLevel::Fast) => out.write_str("a fast stop is wanted"),
            Self::Stop(StopLevel::Immediate) => out.write_str("an immediate stop is wanted"),
            Self::Granted => out.write_str("a start slot is free"),
            Self::Spawned => out.write_str("its process runs"),
            Self::SpawnFailed { .. } => out.write_str("its process could not be made"),
            Self::Told { report, .. } => match report {
                Report::Hello => out.write_str("it said hello"),
                Report::Confined => out.write_str("it is confined"),
                Report::Ready => out.write_str("it is ready"),
                Report::Heartbeat { paused: true, .. } => out.write_str("it consumes nothing"),
                Report::Heartbeat { busy, .. } => {
                    write!(out, "a sign of life, its oldest batch {busy:?} old")
                }
                Report::Resized { size, .. } => write!(out, "it has {} threads", size.threads),
                Report::Refused => out.write_str("it refused a command"),
                Report::Sync => out.write_str("it asked what is wanted"),
            },
            Self::HungUp { .. } => out.write_str("its socket is closed"),
            Self::Misbehaved { how, .. } => out.write_str(how),
            Self::Exited { ending, .. } => ending.fmt(out),
            Self::Timer => out.write_str("its time is up"),
        }
    }
}
