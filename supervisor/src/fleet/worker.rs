//! A worker that runs: its process and the two directions of its socket.

use std::{
    future::pending,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Duration,
};

use jatis_shared::{
    config::Supervision,
    control::{Command, Event, Frame},
};
use rustix::process::Signal;
use tokio::{io::unix::AsyncFd, time::timeout};
use tracing::debug;

use super::{
    control::{ControlError, Incoming, Outgoing, open},
    handover::Carried,
    process::{Ending, Process, ended, watch},
    spawn::Newborn,
};

/// A worker of one generation. Dropping it kills it, if its end was not noticed before.
#[derive(Debug)]
pub(super) struct Worker {
    process: AsyncFd<Process>,
    incoming: Incoming,
    outgoing: Outgoing,
    /// Whether the conversation goes on.
    is_open: bool,
}

/// A conversation that somebody else goes on with.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) socket: OwnedFd,
    pub(super) unread: Vec<u8>,
    pub(super) next_id: u64,
    pub(super) unsent: Vec<u8>,
}

/// What a worker gives to notice.
#[derive(Debug)]
pub(super) enum News {
    /// It is reaped; the worker can be dropped.
    Ended(io::Result<Ending>),
    Said(Frame<Event>),
    /// The conversation is over. Told once.
    Broken(ControlError),
}

impl Worker {
    /// Takes charge of a process; it is killed if that fails.
    ///
    /// # Errors
    /// When the host cannot watch a further descriptor.
    pub(super) fn new(newborn: Newborn, keys: &Supervision, generation: u64) -> io::Result<Self> {
        let process = watch(newborn.process)?;
        let (incoming, outgoing) = open(newborn.socket, keys, generation)?;
        Ok(Self {
            process,
            incoming,
            outgoing,
            is_open: true,
        })
    }

    /// Takes charge of a process that another image of this program has started, where that has
    /// stopped.
    ///
    /// # Errors
    /// When the host cannot watch a further descriptor, or the process is no child of ours.
    pub(super) fn inherited(
        carried: &Carried,
        socket: UnixStream,
        keys: &Supervision,
    ) -> io::Result<Self> {
        let process = watch(Process::adopt(carried.pid)?)?;
        socket.set_nonblocking(true)?;
        let (mut incoming, mut outgoing) = open(socket, keys, carried.starts.saturating_sub(1))?;
        incoming.resume(&carried.unread);
        outgoing.resume(carried.next_id, carried.unsent.clone());
        Ok(Self {
            process,
            incoming,
            outgoing,
            is_open: true,
        })
    }

    /// What the next image needs to go on with the conversation: the socket, what was read and not
    /// understood, the number of the next frame and what is not written yet. None if it is over.
    pub(super) fn conversation(&self) -> Option<io::Result<Conversation>> {
        self.is_open.then(|| {
            let (next_id, unsent) = self.outgoing.unsent();
            Ok(Conversation {
                socket: self.incoming.share()?,
                unread: self.incoming.unread(),
                next_id,
                unsent,
            })
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.get_ref().pid()
    }

    /// Queues a command. After the end of the conversation it is lost, like one on its way then.
    ///
    /// # Errors
    /// When too many wait already.
    pub(super) fn send(&mut self, command: Command) -> Result<(), ControlError> {
        if self.is_open {
            self.outgoing.send(command)
        } else {
            Ok(())
        }
    }

    /// # Errors
    /// When the process is not ours to signal any more.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        self.process.get_ref().signal(signal)
    }

    /// Waits for news, and meanwhile writes what was queued. The end of the process comes first:
    /// then nothing else about it matters.
    ///
    /// Cancel-safe.
    pub(super) async fn news(&mut self) -> News {
        loop {
            let (is_open, is_flushed) = (self.is_open, self.outgoing.is_flushed());
            let broken = tokio::select! {
                biased;
                ending = ended(&mut self.process) => return News::Ended(ending),
                flushed = self.outgoing.flush(), if is_open && !is_flushed => flushed.err(),
                frame = self.incoming.receive(), if is_open => match frame {
                    Ok(frame) => return News::Said(frame),
                    Err(broken) => Some(broken),
                },
            };
            if let Some(broken) = broken {
                self.is_open = false;
                return News::Broken(broken);
            }
        }
    }

    /// What a process that is gone had said last and nobody has read yet. Gives up after
    /// `patience`: only a process that the worker itself had started can hold the socket so long.
    pub(super) async fn last_words(mut self, patience: Duration) -> Vec<Frame<Event>> {
        let mut frames = Vec::new();
        if !self.is_open {
            return frames;
        }
        let read = async {
            while let Ok(frame) = self.incoming.receive().await {
                frames.push(frame);
            }
        };
        if timeout(patience, read).await.is_err() {
            debug!(pid = self.pid(), "the socket of a worker outlives it");
        }
        frames
    }
}

/// The news of a worker; none ever without one.
///
/// Cancel-safe.
pub(super) async fn news(worker: Option<&mut Worker>) -> News {
    match worker {
        Some(worker) => worker.news().await,
        None => pending().await,
    }
}
