//! The signals of the supervisor, as a stream of what they mean.

use std::{future::poll_fn, io, task::Poll};

use nix::libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2};
use tokio::signal::unix::{Signal, SignalKind, signal};

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
    /// Nothing; but the default action would end or halt the process.
    Nothing,
}

const MEANINGS: [(i32, Asked); 8] = [
    (SIGTERM, Asked::Stop),
    (SIGINT, Asked::Stop),
    (SIGQUIT, Asked::StopNow),
    (SIGHUP, Asked::Reload),
    (SIGUSR1, Asked::Dump),
    (SIGUSR2, Asked::Nothing),
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
