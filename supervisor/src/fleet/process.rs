//! One process of ours, from its birth to its reaping, by its pidfd.
//!
//! A [`Process`] that is dropped unreaped is killed and reaped there and then, so neither a panic
//! nor a cancelled task leaves a child or a zombie behind. It is never named by its pid, which may
//! be another's by the time a signal arrives.

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    time::Duration,
};

use jatis_shared::exit::ExitCode;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open,
        pidfd_send_signal, waitid,
    },
};
use tokio::io::{Interest, unix::AsyncFd};
use tracing::error;

/// Longest wait for the kernel to end a process whose owner dropped it.
const REAP_TIMEOUT: Duration = Duration::from_secs(5);

/// A child process that has not been reaped.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    pidfd: OwnedFd,
    reaped: bool,
}

impl Process {
    /// Owns a child of ours that nobody has waited for, so that its pid cannot be another's.
    ///
    /// # Errors
    /// When the host has no descriptor left. The child then runs on; it is the caller's to kill.
    pub(super) fn adopt(pid: u32) -> io::Result<Self> {
        let named = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let named = named.ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(named, PidfdFlags::empty())?;
        Ok(Self {
            pid,
            pidfd,
            reaped: false,
        })
    }

    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal. To a process that has ended, reaped or not, it is no error.
    ///
    /// # Errors
    /// When the process is no longer ours to signal.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reaps it if it has ended.
    fn reap_if_ended(&mut self) -> io::Result<Option<Ending>> {
        let wait = WaitId::PidFd(self.pidfd.as_fd());
        let status = waitid(wait, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)?;
        self.reaped = status.is_some();
        Ok(status.as_ref().map(Ending::from))
    }
}

impl AsRawFd for Process {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }
}

impl Drop for Process {
    /// Blocks until the kernel has ended it, as a rule well under a millisecond, if it was not
    /// reaped: after a panic, or when the runtime goes down under its owner.
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        if let Err(error) = end_now(self) {
            let pid = self.pid;
            error!(pid, %error, "process {pid} may be left behind: it could not be killed");
        }
    }
}

fn end_now(process: &mut Process) -> io::Result<()> {
    process.signal(Signal::KILL)?;
    let mut ended = [PollFd::new(&process.pidfd, PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: REAP_TIMEOUT.as_secs().cast_signed(),
        tv_nsec: 0,
    };
    rustix::io::retry_on_intr(|| poll(&mut ended, Some(&timeout)))?;
    match process.reap_if_ended()? {
        Some(_) => Ok(()),
        None => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Has the reactor watch for the process's end. If that fails, the process is killed.
///
/// # Errors
/// When the host cannot watch a further descriptor.
pub(super) fn watch(process: Process) -> io::Result<AsyncFd<Process>> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe, asking for a descriptor that stays open and the same; a Process keeps its one to itself until it is dropped"
    )]
    AsyncFd::with_interest(process, Interest::READABLE)
}

/// Waits until the process has ended, and reaps it.
///
/// Cancel-safe.
///
/// # Errors
/// When somebody else has reaped it, or its descriptor is no pidfd.
pub(super) async fn ended(process: &mut AsyncFd<Process>) -> io::Result<Ending> {
    loop {
        let mut readable = process.readable_mut().await?;
        if let Some(ending) = readable.get_inner_mut().reap_if_ended()? {
            return Ok(ending);
        }
        readable.clear_ready();
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It left with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// It is gone, and how is not to be learned.
    Unknown,
}

impl From<&WaitIdStatus> for Ending {
    fn from(status: &WaitIdStatus) -> Self {
        let code = status.exit_status().map(Self::Code);
        let signal = || status.terminating_signal().map(Self::Signal);
        code.or_else(signal).unwrap_or(Self::Unknown)
    }
}

/// What an ending that nobody asked for says about the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// It left in order.
    Clean,
    /// It left for a reason outside of it.
    Nobody,
    /// It failed.
    Crash,
    /// It cannot work with what it was given; a person must change something.
    Setup,
    /// This host cannot confine it; a person must change the host.
    Sandbox,
}

impl Ending {
    pub(super) fn blame(self) -> Blame {
        let code = match self {
            Self::Code(code) => ExitCode::from_code(code),
            Self::Signal(_) | Self::Unknown => None,
        };
        match code {
            Some(ExitCode::Clean) => Blame::Clean,
            Some(ExitCode::Orphaned | ExitCode::Deadline) => Blame::Nobody,
            Some(ExitCode::BadSpec | ExitCode::BadCredentials | ExitCode::Protocol) => Blame::Setup,
            Some(ExitCode::Sandbox) => Blame::Sandbox,
            None => Blame::Crash,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => match ExitCode::from_code(code) {
                Some(exit) => write!(out, "exit {code} ({})", name(exit)),
                None => write!(out, "exit {code}"),
            },
            Self::Signal(signal) => match nix::sys::signal::Signal::try_from(signal) {
                Ok(named) => write!(out, "signal {signal} ({named})"),
                Err(_unnamed) => write!(out, "signal {signal}"),
            },
            Self::Unknown => out.write_str("unknown"),
        }
    }
}

const fn name(exit: ExitCode) -> &'static str {
    match exit {
        ExitCode::Clean => "clean",
        ExitCode::BadSpec => "bad spec",
        ExitCode::BadCredentials => "bad credentials",
        ExitCode::Protocol => "protocol",
        ExitCode::Sandbox => "sandbox",
        ExitCode::Orphaned => "orphaned",
        ExitCode::Deadline => "deadline",
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, process::Command};

    use super::*;

    #[test]
    fn an_ending_is_told_in_words_and_blamed_on_somebody() {
        for (ending, words, blame) in [
            (Ending::Code(0), "exit 0 (clean)", Blame::Clean),
            (Ending::Code(64), "exit 64 (bad spec)", Blame::Setup),
            (Ending::Code(65), "exit 65 (bad credentials)", Blame::Setup),
            (Ending::Code(66), "exit 66 (protocol)", Blame::Setup),
            (Ending::Code(71), "exit 71 (sandbox)", Blame::Sandbox),
            (Ending::Code(75), "exit 75 (orphaned)", Blame::Nobody),
            (Ending::Code(76), "exit 76 (deadline)", Blame::Nobody),
            (Ending::Code(101), "exit 101", Blame::Crash),
            (Ending::Signal(9), "signal 9 (SIGKILL)", Blame::Crash),
            (Ending::Signal(35), "signal 35", Blame::Crash),
            (Ending::Unknown, "unknown", Blame::Crash),
        ] {
            assert_eq!(ending.to_string(), words);
            assert_eq!(ending.blame(), blame, "{words}");
        }
    }

    #[test]
    fn a_dropped_process_is_killed_and_reaped() {
        #[expect(
            clippy::zombie_processes,
            reason = "that it does not become one is the test"
        )]
        let child = Command::new("sleep")
            .arg("600")
            .spawn()
            .expect("sleep runs");
        let entry = format!("/proc/{}", child.id());
        let process = Process::adopt(child.id()).expect("it has a pidfd");
        assert!(Path::new(&entry).exists());
        drop(process);
        assert!(!Path::new(&entry).exists());
    }

    #[tokio::test]
    async fn a_process_that_ends_is_reaped_with_its_code() {
        #[expect(clippy::zombie_processes, reason = "the pidfd is waited for")]
        let child = Command::new("sh")
            .args(["-c", "exit 75"])
            .spawn()
            .expect("sh runs");
        let process = Process::adopt(child.id()).expect("it has a pidfd");
        let mut process = watch(process).expect("a pidfd can be polled");
        let ending = ended(&mut process).await.expect("it can be waited for");
        assert_eq!(ending, Ending::Code(75));
        assert!(process.get_ref().reaped);
    }
}
