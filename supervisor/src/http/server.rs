//! The listener and its connections: HTTP/1.1 and, with prior knowledge, HTTP/2.
//!
//! Every connection and every HTTP/2 stream is a task of one tracker. A stop closes the listener,
//! lets what is under way finish, and then waits for all of them.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{Request, body::Incoming, rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use jatis_shared::config::Http;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{App, service::Front};

/// Pause after the system gave no connection though one was there (no file descriptor is free,
/// say), so that the loop does not spin until it can.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the API cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "port {} of {} is taken; choose another with --set http.listen={other} \
         or JATIS__HTTP__LISTEN={other}",
        address.port(), address.ip()
    )]
    Taken {
        address: SocketAddr,
        /// An address that may be free.
        other: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot listen on {address}")]
    Other {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// A bound listener that does not accept yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    http: Http,
}

impl Server {
    /// Binds `http.listen`. Connections wait in the kernel until `serve`.
    ///
    /// # Errors
    /// When the address is taken, not ours, or not permitted.
    pub async fn bind(http: &Http) -> Result<Self, BindError> {
        let refused = |source| refused(http.listen, source);
        let listener = TcpListener::bind(http.listen).await.map_err(refused)?;
        Ok(Self {
            address: listener.local_addr().map_err(refused)?,
            listener,
            http: http.clone(),
        })
    }

    /// The address with the port that was taken when `http.listen` asked for any.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then finishes what is under way, for at most
    /// `http.request_timeout`, and closes every connection.
    ///
    /// Not cancel-safe: dropped, it leaves its connections to end by themselves.
    pub async fn serve(self, app: Arc<App>, shutdown: CancellationToken) {
        self.serve_front(Front::new(&app), shutdown).await;
    }

    async fn serve_front(self, front: Front, shutdown: CancellationToken) {
        let Self { listener, http, .. } = self;
        let tasks = Tasks::default();
        let connections = Connections {
            front: Arc::new(front),
            builder: builder(&http, tasks.clone()),
            header_timeout: http.header_timeout,
            shutdown: shutdown.clone(),
            abort: tasks.abort.clone(),
        };
        let permits = usize::try_from(http.max_connections).unwrap_or(Semaphore::MAX_PERMITS);
        accept(listener, permits, &tasks, connections, &shutdown).await;
        tasks.tracker.close();
        if timeout(http.request_timeout, tasks.tracker.wait())
            .await
            .is_err()
        {
            let left = tasks.tracker.len();
            tracing::warn!(
                left,
                "{left} client connections did not end in time and are cut"
            );
            tasks.abort.cancel();
            tasks.tracker.wait().await;
        }
    }
}

fn refused(address: SocketAddr, source: io::Error) -> BindError {
    if source.kind() == io::ErrorKind::AddrInUse {
        let port = if address.port() == 9090 { 9091 } else { 9090 };
        let other = SocketAddr::new(address.ip(), port);
        return BindError::Taken {
            address,
            other,
            source,
        };
    }
    BindError::Other { address, source }
}

/// The owner of all tasks of the server.
#[derive(Clone, Default)]
struct Tasks {
    tracker: TaskTracker,
    /// Ends each of them at its next await.
    abort: CancellationToken,
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let abort = self.abort.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                _ = task => {}
                () = abort.cancelled() => {}
            }
        });
    }
}

fn builder(http: &Http, tasks: Tasks) -> auto::Builder<Tasks> {
    let mut builder = auto::Builder::new(tasks);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(http.header_timeout);
    // A peer that is gone without a word is noticed by its missing answer to a ping.
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(http.request_timeout)
        .keep_alive_timeout(http.header_timeout);
    builder
}

/// What every connection needs.
#[derive(Clone)]
struct Connections {
    front: Arc<Front>,
    builder: auto::Builder<Tasks>,
    header_timeout: Duration,
    shutdown: CancellationToken,
    abort: CancellationToken,
}

/// Accepts until `shutdown`, never more than `permits` connections at a time: the next one is left
/// in the kernel's queue until one ends.
async fn accept(
    listener: TcpListener,
    permits: usize,
    tasks: &Tasks,
    connections: Connections,
    shutdown: &CancellationToken,
) {
    let limit = Arc::new(Semaphore::new(permits));
    let next = async || {
        let permit = Arc::clone(&limit).acquire_owned().await.ok()?;
        Some((listener.accept().await, permit))
    };
    while let Some(Some((accepted, permit))) = shutdown.run_until_cancelled(next()).await {
        match accepted {
            Ok((stream, _peer)) => {
                let connections = connections.clone();
                tasks.tracker.spawn(connections.run(stream, permit));
            }
            // The client left while it waited.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection: {error}");
                shutdown.run_until_cancelled(sleep(ACCEPT_PAUSE)).await;
            }
        }
    }
}

impl Connections {
    /// Serves one connection to its end. `_permit` is given back with it.
    async fn run(self, stream: TcpStream, _permit: OwnedSemaphorePermit) {
        // Answers are written whole; waiting for more to send only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay: {error}");
        }
        let (front, asked) = (self.front, Arc::new(AtomicBool::new(false)));
        let mark = Arc::clone(&asked);
        let service = service_fn(move |request: Request<Incoming>| {
            mark.store(true, Ordering::Relaxed);
            let front = Arc::clone(&front);
            async move { Ok::<_, Infallible>(front.answer(request).await) }
        });
        let mut connection = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        // The library's own timeout begins when it has seen which version of HTTP is spoken; a
        // client that never says so is not kept.
        let mut first_head = pin!(sleep(self.header_timeout));
        let (mut waiting, mut serving) = (true, true);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended early: {error}");
                    }
                    return;
                }
                () = &mut first_head, if waiting => {
                    waiting = false;
                    if !asked.load(Ordering::Relaxed) {
                        return;
                    }
                }
                () = self.shutdown.cancelled(), if serving => {
                    serving = false;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.abort.cancelled() => return,
            }
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
