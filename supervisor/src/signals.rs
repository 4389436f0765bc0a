//! The signals of the supervisor, as a stream of what they mean.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM or SIGINT: stop in order; asked again: hurry; a third time: at once.
    Stop,
    /// SIGQUIT: stop at once.
    StopNow,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: write the table of tenants to the log.
    Dump,
}

/// Listens to every signal that the supervisor handles. While it exists none of them has its
/// default action, which for most is the end of the process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hang_up: Signal,
    user_1: Signal,
}

impl Signals {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the operating system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
        })
    }

    /// The next signal's meaning. Cancel-safe: a signal that came meanwhile is told next time.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.quit.recv() => Asked::StopNow,
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.user_1.recv() => Asked::Dump,
        }
    }
}
