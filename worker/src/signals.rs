//! The signals a worker handles.
//!
//! Their default action would end or stop the process, so they are blocked by the first statement
//! of `main`, before any thread exists, and let through when the handlers stand. Whatever arrived
//! in between is delivered then.

use std::io;

use nix::{
    libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2},
    sys::signal::{SigSet, Signal},
};
use tokio::signal::unix::{self, SignalKind};

/// What somebody wants by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// SIGTERM.
    Drain,
    /// SIGQUIT.
    Abort,
    /// SIGHUP: ask what is wanted.
    Sync,
    /// SIGUSR1.
    Dump,
    /// SIGTTIN: one thread more.
    Grow,
    /// SIGTTOU: one thread less.
    Shrink,
    /// SIGINT belongs to the supervisor, SIGUSR2 is not in use.
    Nothing,
}

/// CAUTION: `docs/reference.md` lists them; a test compares.
pub(crate) const WISHES: [(i32, Wish); 8] = [
    (SIGTERM, Wish::Drain),
    (SIGQUIT, Wish::Abort),
    (SIGHUP, Wish::Sync),
    (SIGUSR1, Wish::Dump),
    (SIGTTIN, Wish::Grow),
    (SIGTTOU, Wish::Shrink),
    (SIGINT, Wish::Nothing),
    (SIGUSR2, Wish::Nothing),
];

/// Keeps every signal of the list from this thread, and from those it starts.
///
/// # Errors
/// When the kernel refuses, which it does not.
pub(crate) fn block() -> io::Result<()> {
    Ok(set()?.thread_block()?)
}

fn set() -> io::Result<SigSet> {
    let mut set = SigSet::empty();
    for (number, _) in WISHES {
        set.add(Signal::try_from(number)?);
    }
    Ok(set)
}

/// The handlers.
pub(crate) struct Signals {
    streams: Vec<(unix::Signal, Wish)>,
}

impl Signals {
    /// Sets up the handlers, then lets the signals through to this thread.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub(crate) fn install() -> io::Result<Self> {
        let stream = |(number, wish)| {
            let kind = SignalKind::from_raw(number);
            unix::signal(kind).map(|stream| (stream, wish))
        };
        let streams = WISHES.into_iter().map(stream).collect::<io::Result<_>>()?;
        set()?.thread_unblock()?;
        Ok(Self { streams })
    }

    /// The next wish. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Wish {
        std::future::poll_fn(|context| {
            for (stream, wish) in &mut self.streams {
                if stream.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*wish);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
