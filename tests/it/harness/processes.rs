//! Processes, as `/proc` shows them.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::wait;

/// A process. Its start time tells it from a later one with the same pid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// As `ps` shows it.
    pub(crate) name: String,
    parent: i32,
    started: u64,
}

/// The state of one that has ended and that nobody has reaped.
const ZOMBIE: &str = "Z";

impl Process {
    /// A process that exists; a zombie does.
    pub(crate) fn find(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // pid (name) state ppid … with the start time as the 22nd field; a name may hold anything.
        let (head, tail) = stat.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        Some(Self {
            pid,
            name: name.to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// The children of a process.
    pub(crate) fn children(parent: i32) -> Vec<Self> {
        let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(Self::find)
            .filter(|process| process.parent == parent)
            .collect()
    }

    /// Whether it still exists.
    pub(crate) fn exists(&self) -> bool {
        Self::find(self.pid)
            .is_some_and(|found| found.started == self.started && found.name == self.name)
    }

    /// Waits until none of them exists.
    pub(crate) async fn ended(processes: &[Self]) {
        wait::until("processes have ended by themselves", async || {
            let left: Vec<&Self> = processes.iter().filter(|one| one.exists()).collect();
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        })
        .await;
    }

    /// Waits until each has ended, even if nobody reaps it.
    pub(crate) async fn finished(processes: &[Self]) {
        wait::until("processes have ended, reaped or not", async || {
            let runs = |one: &&Self| one.exists() && one.state().as_deref() != Some(ZOMBIE);
            let left: Vec<&Self> = processes.iter().filter(runs).collect();
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        })
        .await;
    }

    fn state(&self) -> Option<String> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let (_, tail) = stat.rsplit_once(')')?;
        tail.split_whitespace().next().map(str::to_owned)
    }

    /// Sends a signal, if it still exists.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.exists() {
            // Gone in between is as good.
            let _outcome = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Sends SIGKILL, which no process can prepare for.
    pub(crate) fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }
}
