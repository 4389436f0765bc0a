//! The signals of the supervisor, as a stream of what they mean.

use std::{future::poll_fn, io, task::Poll};

use nix::{
    libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2},
    sys::signal::SigSet,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Stop in order; asked again: hurry; a third time: at once.
    Stop,
    /// Stop at once.
    StopNow,
    /// Read the configuration again.
    Reload,
    /// Write the table of workers to the log.
    Dump,
    /// Have the program that is there now take over.
    Upgrade,
    /// Nothing; but the default action would end or halt the process.
    Nothing,
}

const MEANINGS: [(i32, Asked); 8] = [
    (SIGTERM, Asked::Stop),
    (SIGINT, Asked::Stop),
    (SIGQUIT, Asked::StopNow),
    (SIGHUP, Asked::Reload),
    (SIGUSR1, Asked::Dump),
    (SIGUSR2, Asked::Upgrade),
    (SIGTTIN, Asked::Nothing),
    (SIGTTOU, Asked::Nothing),
];

/// Listens to every signal that the supervisor handles. While it exists none of them has its
/// default action.
#[derive(Debug)]
pub struct Signals {
    streams: Vec<(Signal, Asked)>,
}

impl Signals {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the operating system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        let stream =
            |(number, asked)| signal(SignalKind::from_raw(number)).map(|stream| (stream, asked));
        Ok(Self {
            streams: MEANINGS
                .into_iter()
                .map(stream)
                .collect::<io::Result<_>>()?,
        })
    }

    /// The next signal's meaning. Cancel-safe: a signal that came meanwhile is told next time.
    pub async fn next(&mut self) -> Asked {
        poll_fn(|context| {
            for (stream, asked) in &mut self.streams {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*asked);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// The mask of every thread: none of these signals has its default action before it is handled, and
/// none is lost while one image of this program gives way to the next.
///
/// All threads but the first keep them blocked; the first lets them through when it is told to.
pub struct Gate {
    orders: mpsc::Receiver<(bool, oneshot::Sender<()>)>,
}

/// Whoever opens and closes the gate.
#[derive(Debug, Clone)]
pub struct Keeper {
    orders: mpsc::Sender<(bool, oneshot::Sender<()>)>,
}

impl Gate {
    /// Blocks the signals in this thread and all that it starts. To be called before there is
    /// another.
    ///
    /// # Errors
    /// When the kernel refuses, which it does not.
    pub fn closed() -> io::Result<(Self, Keeper)> {
        set()?.thread_block()?;
        let (keeper, orders) = mpsc::channel(1);
        Ok((Self { orders }, Keeper { orders: keeper }))
    }

    /// Opens and closes as it is told, in the thread that awaits it; ends with the last keeper.
    /// Cancel-safe.
    pub async fn obey(&mut self) {
        while let Some((opens, done)) = self.orders.recv().await {
            let masked = match (set(), opens) {
                (Ok(set), true) => set.thread_unblock(),
                (Ok(set), false) => set.thread_block(),
                (Err(error), _) => Err(error),
            };
            if let Err(error) = masked {
                tracing::error!(%error, "the mask of signals cannot be changed");
            }
            // Whoever asked has gone on without it.
            done.send(()).unwrap_or_default();
        }
    }
}

impl Keeper {
    /// Lets signals through, or keeps them back; they wait in the kernel then.
    pub async fn open(&self, opens: bool) {
        let (done, is_done) = oneshot::channel();
        if self.orders.send((opens, done)).await.is_ok() {
            is_done.await.unwrap_or_default();
        }
    }
}

fn set() -> nix::Result<SigSet> {
    let mut set = SigSet::empty();
    for (number, _) in MEANINGS {
        set.add(number.try_into()?);
    }
    Ok(set)
}

#[cfg(test)]
pub(crate) mod tests {
    use nix::sys::signal::Signal;

    use super::MEANINGS;

    /// The names of the signals, for the test of the reference.
    pub(crate) fn names() -> Vec<&'static str> {
        let name = |(number, _)| Signal::try_from(number).map_or("?", Signal::as_str);
        MEANINGS.into_iter().map(name).collect()
    }
}
