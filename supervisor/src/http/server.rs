//! The listener and its connections: HTTP/1.1 and, with prior knowledge, HTTP/2.
//!
//! Every connection and every HTTP/2 stream is a task of one tracker. A stop closes the listener,
//! lets what is under way finish, and then waits for all of them.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use hyper::{Request, body::Incoming, rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use jatis_shared::config::Http;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{io::InspectReader, sync::CancellationToken, task::TaskTracker};

use super::{
    App,
    patience::{Course, Limits, Verdict},
    service::Front,
};

/// Pause after the system gave no connection though one was there (no file descriptor is free,
/// say), so that the loop does not spin until it can.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a client that has connected and not asked yet may take for it when the end comes.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

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

/// A bound listener that does not accept yet. It is closed with the last clone.
#[derive(Debug, Clone)]
pub struct Server {
    listener: Arc<TcpListener>,
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
            listener: Arc::new(listener),
            http: http.clone(),
        })
    }

    /// Serves a listener that was bound before.
    ///
    /// # Errors
    /// When it cannot be watched by the reactor.
    pub fn inherit(listener: std::net::TcpListener, http: &Http) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Self {
            address: listener.local_addr()?,
            listener: Arc::new(listener),
            http: http.clone(),
        })
    }

    /// Its listener, for whoever serves it next.
    #[must_use]
    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
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
            limits: limits(&http),
            shutdown: shutdown.clone(),
            abort: tasks.abort.clone(),
        };
        let permits = usize::try_from(http.max_connections).unwrap_or(Semaphore::MAX_PERMITS);
        accept(&listener, permits, &tasks, connections, &shutdown).await;
        drop(listener);
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

const fn limits(http: &Http) -> Limits {
    Limits {
        header: http.header_timeout,
        idle: http.idle_timeout,
    }
}

fn builder(http: &Http, tasks: Tasks) -> auto::Builder<Tasks> {
    let mut builder = auto::Builder::new(tasks);
    // Its timer is not used: see `patience`.
    builder.http1().header_read_timeout(None);
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
    limits: Limits,
    shutdown: CancellationToken,
    abort: CancellationToken,
}

/// Accepts until `shutdown`, never more than `permits` connections at a time: the next one is left
/// in the kernel's queue until one ends.
async fn accept(
    listener: &TcpListener,
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
        // A client that takes nothing of its answer.
        let idle = u32::try_from(self.limits.idle.as_millis()).unwrap_or(u32::MAX);
        if let Err(error) = set_tcp_user_timeout(&stream, idle) {
            tracing::debug!(%error, "a connection is not watched: {error}");
        }
        self.carry(stream).await;
    }

    async fn carry(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (front, limits) = (self.front, self.limits);
        let course = Course::new(Instant::now());
        let seen = course.clone();
        let stream = InspectReader::new(stream, move |bytes: &[u8]| {
            if !bytes.is_empty() {
                seen.received(Instant::now());
            }
        });
        let begun = course.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let under_way = begun.begin(request.version());
            let front = Arc::clone(&front);
            async move {
                let answer = front.answer(request).await;
                drop(under_way);
                Ok::<_, Infallible>(answer)
            }
        });
        let mut connection = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        let mut look = pin!(sleep_until(Instant::now()));
        let mut serving = true;
        // Set by the end for one that has not asked for anything yet.
        let mut first_by = None;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended early: {error}");
                    }
                    return;
                }
                () = look.as_mut() => match course.verdict(limits, Instant::now()) {
                    Verdict::Wait(until) => look.as_mut().reset(until),
                    Verdict::Close => {
                        connection.as_mut().graceful_shutdown();
                        look.as_mut().reset(Instant::now() + limits.header);
                    }
                    Verdict::Cut => return,
                },
                () = self.shutdown.cancelled(), if serving => {
                    serving = false;
                    if course.has_begun() {
                        connection.as_mut().graceful_shutdown();
                    } else {
                        // Whoever has just connected is about to ask.
                        first_by = Some(Instant::now() + FIRST_REQUEST);
                    }
                }
                () = first_request(&course, first_by), if first_by.is_some() => {
                    first_by = None;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.abort.cancelled() => return,
            }
        }
    }
}

/// Resolves when a connection has begun its first request, or the time for that is over.
async fn first_request(course: &Course, by: Option<Instant>) {
    if let Some(by) = by {
        // Either way it is as far as it will get.
        tokio::time::timeout_at(by, course.begun())
            .await
            .unwrap_or_default();
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
