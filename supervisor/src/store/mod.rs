//! PostgreSQL: the schema, the tenants, their messages, and who is in charge of the database.
//!
//! Nothing of this runs on the reactor. Requests go through [`Db::run`], which lends a connection
//! of the pool to a job on a blocking thread; the two long-lived sessions (who is in charge, the
//! janitor) have connections of their own. SQL is written nowhere else in the supervisor, and names
//! a tenant's leaf, never the parent table: a statement on the parent locks every tenant's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use jatis_connect::tls::TlsFault;
use jatis_shared::config::Database;
use postgres::Client;
use r2d2::{NopErrorHandler, Pool, PooledConnection};
use tokio::sync::{Semaphore, watch};

pub use self::{error::StoreError, janitor::Janitor};
use self::{server::Purpose, sessions::Sessions};

mod cluster;
mod error;
pub mod installation;
pub mod janitor;
pub mod messages;
pub mod migrate;
pub mod runtime;
mod server;
mod sessions;
pub mod stats;
pub mod sweep;
pub mod tenants;

/// The pool of connections, behind blocking threads. Clones share it.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

/// How a change of the schema bears with the locks of others.
#[derive(Debug, Clone, Copy)]
struct LockPatience {
    timeout: Duration,
    attempts: u16,
}

struct Inner {
    /// Always there until the drop takes it out.
    pool: Option<Pool<Sessions>>,
    /// One permit a connection: a job that would only wait for one takes no thread.
    gate: Arc<Semaphore>,
    size: u32,
    timeout: Duration,
    lock: LockPatience,
    /// Checks-out that shall prove their connection first. Set when a connection turned out dead,
    /// since then its idle neighbours probably are; otherwise checking out costs no round trip.
    doubts: AtomicU32,
    tls_fault: watch::Receiver<Option<TlsFault>>,
}

impl Db {
    /// A pool that connects when it is first used, so a database that is away fails no start.
    ///
    /// # Errors
    /// [`StoreError::Target`].
    pub fn new(database: &Database) -> Result<Self, StoreError> {
        let sessions = Sessions::new(server::target(database, Purpose::Request)?);
        let tls_fault = sessions.tls_fault();
        let size = u32::from(database.supervisor_connections);
        let pool = Pool::builder()
            .max_size(size)
            .min_idle(Some(1))
            .test_on_check_out(false)
            .connection_timeout(database.pool_timeout)
            // Whoever waits for a connection gets the reason; the pool need not log it as well.
            .error_handler(Box::new(NopErrorHandler))
            .build_unchecked(sessions);
        let gate = Semaphore::new(usize::from(database.supervisor_connections));
        Ok(Self {
            inner: Arc::new(Inner {
                pool: Some(pool),
                gate: Arc::new(gate),
                size,
                timeout: database.pool_timeout,
                lock: LockPatience {
                    timeout: database.lock_timeout,
                    attempts: database.lock_attempts,
                },
                doubts: AtomicU32::new(0),
                tls_fault,
            }),
        })
    }

    /// Asks the database whether it answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.run(|client| {
            client
                .batch_execute("SELECT 1")
                .map_err(StoreError::sql("ping the database"))
        })
        .await
    }

    /// What was wrong with TLS when the pool last tried to connect.
    #[must_use]
    pub fn tls_fault(&self) -> Option<TlsFault> {
        *self.inner.tls_fault.borrow()
    }

    /// Runs a job with a connection, on a blocking thread. Waits up to `database.pool_timeout` for
    /// a turn, and as long again for a connection.
    ///
    /// Dropped before its turn, the job never runs; dropped later, it runs to its end unheard.
    ///
    /// # Errors
    /// The job's, or that there was no connection for it.
    pub async fn run<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Client) -> Result<T, StoreError> + Send + 'static,
    {
        let turn = Arc::clone(&self.inner.gate).acquire_owned();
        let permit = tokio::time::timeout(self.inner.timeout, turn)
            .await
            .map_err(|_| StoreError::Busy(self.inner.timeout))?
            .map_err(|_| StoreError::Closed)?;
        let inner = Arc::clone(&self.inner);
        let job = move || {
            let _permit = permit;
            inner.lend(job)
        };
        on_blocking_thread(job).await
    }
}

impl Inner {
    fn lend<T>(
        &self,
        job: impl FnOnce(&mut Client) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut client = self.client()?;
        let outcome = job(&mut client);
        if outcome.is_err() && client.is_closed() {
            self.doubts.store(self.size, Ordering::Relaxed);
        }
        outcome
    }

    /// A connection; a proven one while there is doubt. Ends after at most `size` dead ones.
    fn client(&self) -> Result<PooledConnection<Sessions>, StoreError> {
        let pool = self.pool.as_ref().ok_or(StoreError::Closed)?;
        loop {
            let mut client = pool.get().map_err(StoreError::Unavailable)?;
            let one_less = |doubts: u32| doubts.checked_sub(1);
            let doubtful = self
                .doubts
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
            if doubtful.is_err() || client.is_valid(self.timeout).is_ok() {
                return Ok(client);
            }
        }
    }
}

impl Drop for Inner {
    /// Closing a connection runs a small runtime of the driver, which panics on a thread of ours
    /// that runs async code. A thread without owner is right here: it holds nothing that anybody
    /// waits for, and the end of the process may overtake it.
    fn drop(&mut self) {
        let pool = self.pool.take();
        let closing = thread::Builder::new()
            .name("store-close".to_owned())
            .spawn(move || drop(pool));
        if let Err(error) = closing {
            tracing::warn!(%error, "cannot start a thread to close the pool of the database");
        }
    }
}

/// Runs what blocks beside the reactor; a panic in it goes on here.
async fn on_blocking_thread<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(job).await {
        Ok(outcome) => outcome,
        Err(end) => match end.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => Err(StoreError::Closed),
        },
    }
}
