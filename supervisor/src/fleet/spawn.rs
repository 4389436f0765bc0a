//! The thread that starts processes.
//!
//! One thread does it for the whole life of the fleet, off the reactor: a spawn takes up to
//! milliseconds, and whatever the kernel ties to the thread a process was started from must not
//! end before the process. `Command` stays plain (no `pre_exec`, no other user or group), because
//! only then does the standard library use `posix_spawn`; a fork of the supervisor would cost more
//! the more memory it has.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::JoinHandle,
};

use jatis_shared::ids::TenantId;
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};

use super::{lifecycle::SpawnFault, process::Process};

/// The name of the thread.
const NAME: &str = "spawner";

/// A process just made.
#[derive(Debug)]
pub(super) struct Newborn {
    pub(super) process: Process,
    /// The supervisor's end of its control socket, non-blocking.
    pub(super) socket: UnixStream,
}

/// Why there is no process.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpawnError {
    #[error("cannot run {path}")]
    Program {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("this host has no means left for a process")]
    Host(#[source] io::Error),
    /// Only after a panic of the thread.
    #[error("the thread that starts processes is gone")]
    NoSpawner,
}

impl SpawnError {
    pub(super) const fn fault(&self) -> SpawnFault {
        match self {
            Self::Host(_) => SpawnFault::Host,
            Self::Program { .. } | Self::NoSpawner => SpawnFault::Program,
        }
    }

    /// What failed and why, in one line for the log.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Host(source) | Self::Program { source, .. } => format!("{self}: {source}"),
            Self::NoSpawner => self.to_string(),
        }
    }
}

enum Request {
    Spawn {
        tenant: TenantId,
        /// A process whose asker is gone comes back from here, and is dropped: killed and reaped.
        reply: oneshot::Sender<Result<Newborn, SpawnError>>,
    },
    /// Answer, and so prove to be alive.
    Ping(oneshot::Sender<()>),
}

/// The way to the thread. The thread ends when the last of these is dropped.
#[derive(Debug, Clone)]
pub(super) struct Spawner {
    requests: mpsc::Sender<Request>,
}

impl Spawner {
    /// Starts the thread. `starts_in_flight` requests can wait for it, which is all there can be.
    ///
    /// # Errors
    /// When the host gives no thread.
    pub(super) fn start(
        worker_path: PathBuf,
        starts_in_flight: u16,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (requests, mut incoming) = mpsc::channel::<Request>(usize::from(starts_in_flight));
        let thread = std::thread::Builder::new()
            .name(NAME.to_owned())
            .spawn(move || {
                while let Some(request) = incoming.blocking_recv() {
                    match request {
                        Request::Spawn { tenant, reply } => {
                            drop(reply.send(spawn(&worker_path, tenant)));
                        }
                        // Whoever asked has given up.
                        Request::Ping(reply) => reply.send(()).unwrap_or_default(),
                    }
                }
            })?;
        Ok((Self { requests }, thread))
    }

    /// Waits until the thread answers; false when it is gone.
    ///
    /// Cancel-safe.
    pub(super) async fn answers(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Ping(reply)).await.is_ok() && answer.await.is_ok()
    }

    /// Makes a process for a tenant.
    ///
    /// Cancel-safe: a process that nobody takes is killed.
    pub(super) async fn spawn(&self, tenant: TenantId) -> Result<Newborn, SpawnError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Spawn { tenant, reply };
        let sent = self.requests.send(request).await;
        sent.map_err(|_closed| SpawnError::NoSpawner)?;
        answer.await.map_err(|_closed| SpawnError::NoSpawner)?
    }
}

fn spawn(path: &Path, tenant: TenantId) -> Result<Newborn, SpawnError> {
    let (ours, theirs) = UnixStream::pair().map_err(SpawnError::Host)?;
    ours.set_nonblocking(true).map_err(SpawnError::Host)?;
    // Both ends close on exec; only the copy that becomes stdin does not. A worker therefore never
    // holds another worker's socket.
    let mut child = Command::new(path)
        .arg(tenant.to_string())
        .env_clear()
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|source| blame(path, source))?;
    let adopted = Process::adopt(child.id());
    let process = adopted.map_err(|source| match end(&mut child) {
        Ok(()) => SpawnError::Host(source),
        Err(unkilled) => SpawnError::Host(unkilled),
    })?;
    Ok(Newborn {
        process,
        socket: ours,
    })
}

fn end(child: &mut std::process::Child) -> io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}

fn blame(path: &Path, source: io::Error) -> SpawnError {
    let exhausted = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE];
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(errno) if exhausted.contains(&errno) => SpawnError::Host(source),
        Some(_) | None => SpawnError::Program {
            path: path.to_owned(),
            source,
        },
    }
}
