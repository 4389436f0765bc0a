//! Ends a worker whose supervisor is gone, even if everything else in it hangs.
//!
//! The reactor drains and leaves by itself when the control socket ends. This thread waits for the
//! same end, without the reactor, and for somewhat longer than the drain may take. A worker that is
//! left over would keep its tenant's queue from the next one.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use jatis_shared::exit::ExitCode;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{fcntl_dupfd_cloexec, retry_on_intr},
};

/// The name of the thread.
const NAME: &str = "orphan";
/// How long it waits before there is a spec that says how long a drain may take.
const BEFORE_THE_SPEC: Duration = Duration::from_secs(25);
/// How much later than the reactor the thread acts.
const MARGIN: Duration = Duration::from_secs(5);

/// The patience of the thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patience(Arc<OnceLock<Duration>>);

impl Patience {
    /// The reactor of an orphan may drain for so long. Only the first word counts.
    pub(crate) fn drains(&self, orphan_timeout: Duration) {
        self.set(orphan_timeout + MARGIN);
    }

    fn set(&self, patience: Duration) {
        self.0.set(patience).unwrap_or_default();
    }

    fn get(&self) -> Duration {
        self.0.get().copied().unwrap_or(BEFORE_THE_SPEC)
    }
}

/// Starts the thread. It ends with the process, one way or the other.
///
/// # Errors
/// When the host gives no descriptor or no thread.
pub(crate) fn watch(socket: &OwnedFd, patience: Patience) -> io::Result<()> {
    let socket = fcntl_dupfd_cloexec(socket, 3)?;
    let wait = move || {
        if until_hung_up(&socket).is_ok() {
            outlive(patience.get());
            leave();
        }
    };
    // Nobody joins it: it is there for when nobody can.
    thread::Builder::new().name(NAME.to_owned()).spawn(wait)?;
    Ok(())
}

/// Waits until the other end of the socket is closed. Data to be read is not looked at.
fn until_hung_up(socket: &OwnedFd) -> io::Result<()> {
    let mut ended = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::RDHUP)];
    retry_on_intr(|| poll(&mut ended, None))?;
    Ok(())
}

/// Waits for so long, whoever wakes this thread meanwhile.
fn outlive(patience: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "a clock of its own, because the reactor's may stand still"
    )]
    let now = Instant::now;
    let until = now() + patience;
    while let Some(left) = until.checked_duration_since(now()) {
        thread::park_timeout(left);
        if left.is_zero() {
            return;
        }
    }
}

fn leave() -> ! {
    eprintln!("jatis-worker: the supervisor is gone and the worker hangs; leaving");
    #[expect(
        clippy::disallowed_methods,
        reason = "there is nobody left to return to"
    )]
    std::process::exit(ExitCode::Orphaned.code().into())
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::net::UnixStream,
        process::{Command, Stdio},
    };

    use super::*;

    /// The variable that makes this binary the worker that hangs.
    const PART: &str = "JATIS_TEST_ORPHAN";

    /// Started by the test below with a socket for its stdin; on its own it does nothing.
    #[test]
    fn hangs_for_ever() {
        #[expect(clippy::disallowed_methods, reason = "the part it plays stands there")]
        if std::env::var(PART).is_err() {
            return;
        }
        let socket = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).expect("there is a stdin");
        let patience = Patience::default();
        patience.set(Duration::from_millis(10));
        watch(&socket, patience).expect("there is a thread");
        eprintln!("watching");
        loop {
            thread::park();
        }
    }

    #[test]
    fn a_worker_that_hangs_leaves_when_its_supervisor_is_gone() {
        let (ours, theirs) = UnixStream::pair().expect("a pair can be made");
        let binary = std::env::current_exe().expect("this test has a path");
        let mut child = Command::new(binary)
            .args(["--exact", "orphan::tests::hangs_for_ever", "--nocapture"])
            .env(PART, "1")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it can be run");
        let stderr = child.stderr.take().expect("it is a pipe");
        let mut lines = io::BufRead::lines(io::BufReader::new(stderr));
        let watches = lines.any(|line| line.is_ok_and(|line| line == "watching"));
        assert!(watches, "it watches");
        assert!(
            child.try_wait().expect("it is ours").is_none(),
            "it stays while there is a supervisor"
        );
        drop(ours);
        let status = child.wait().expect("it is ours");
        assert_eq!(status.code(), Some(ExitCode::Orphaned.code().into()));
    }
}
