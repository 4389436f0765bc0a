//! The operator's door: a Unix socket that works when the API does not and no token is at hand.
//!
//! ```text
//!   jatis status ──▶ socket ──▶ session (a task a caller) ──▶ answers ──▶ tenancy · fleet · vitals
//!                                                                └──────▶ serve (reload, stop)
//! ```
//!
//! Like `http` it is a front over the use cases and knows nothing of theirs. What it shows comes
//! from memory, so it answers while the database is away.

mod answers;
mod session;
mod socket;

use std::{
    fs::File,
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jatis_shared::{
    admin::{Reloaded, Stopped},
    config::Admin as Keys,
    telemetry::Chain,
};
use jiff::Timestamp;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use self::socket::Socket;
pub use self::{
    answers::report,
    socket::{SocketError, connect},
};
use crate::{
    chronicle::Chronicle, fleet::StopLevel, stage::StageWatch, tenancy::Tenancy, vitals::Vitals,
};

/// Descriptors kept in reserve, so that a caller is let in when the process has no other left: its
/// connection and what answering may open.
const RESERVE: usize = 4;
/// Pause after no connection could be taken though one was there.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the last answers may take to leave when everything else has ended.
const FAREWELL: Duration = Duration::from_secs(1);

/// What only the one who serves can do.
#[derive(Debug)]
pub enum Wish {
    /// Read the configuration again.
    Reload(oneshot::Sender<Result<Reloaded, String>>),
    /// End, at least this hard, and say how.
    Stop(StopLevel, oneshot::Sender<Stopped>),
    /// Have the program that is there now take over; what is said is that it does, or why not.
    Upgrade(oneshot::Sender<Result<(), String>>),
    /// Answer, and so prove to be alive.
    Ping(oneshot::Sender<()>),
}

/// What the answers are made from.
pub struct Desk {
    pub tenancy: Tenancy,
    pub vitals: Vitals,
    pub chronicle: Arc<Chronicle>,
    pub stage: StageWatch,
    pub wishes: mpsc::Sender<Wish>,
    pub since: Timestamp,
    /// Where the API listens.
    pub http: SocketAddr,
    pub keys: Keys,
    /// Places of those who follow events: fewer than there are, so that somebody else is always let
    /// in.
    pub followers: Semaphore,
}

impl Desk {
    /// How many may follow events.
    #[must_use]
    pub fn followers(keys: &Keys) -> Semaphore {
        Semaphore::new(usize::from(keys.max_clients.saturating_sub(2)))
    }
}

/// The admin socket, being served.
#[derive(Debug)]
pub struct Admin {
    tracker: TaskTracker,
    closing: CancellationToken,
}

impl Admin {
    /// Listens at `path` and answers.
    ///
    /// # Errors
    /// When another supervisor listens there, or the file cannot be made.
    pub fn start(path: &Path, desk: Desk) -> Result<Self, SocketError> {
        let socket = Socket::bind(path, &desk.keys.group)?;
        info!(path = %path.display(), "operators' commands are heard at {}", path.display());
        let admin = Self {
            tracker: TaskTracker::new(),
            closing: CancellationToken::new(),
        };
        let (tracker, closing) = (admin.tracker.clone(), admin.closing.clone());
        admin
            .tracker
            .spawn(listen(socket, Arc::new(desk), tracker, closing));
        Ok(admin)
    }

    /// Lets the answers under way leave, for a moment, and closes the socket.
    pub async fn close(self) {
        self.closing.cancel();
        self.tracker.close();
        if timeout(FAREWELL, self.tracker.wait()).await.is_err() {
            info!("an operator's command did not take its answer in time");
        }
    }
}

async fn listen(socket: Socket, desk: Arc<Desk>, tracker: TaskTracker, closing: CancellationToken) {
    let places = Arc::new(Semaphore::new(usize::from(desk.keys.max_clients)));
    let reserve = Reserve::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, socket.listener.accept().await)
        };
        let Some((place, accepted)) = closing.run_until_cancelled(next).await else {
            return;
        };
        match accepted {
            Ok((stream, _address)) => {
                let admitted = match stream.peer_cred() {
                    Ok(caller) => Ok((caller, socket.admits(caller))),
                    Err(error) => Err(error),
                };
                let (desk, reserve, closing) =
                    (Arc::clone(&desk), reserve.clone(), closing.clone());
                tracker.spawn(async move {
                    session::serve(stream, admitted, &desk, closing).await;
                    reserve.refill();
                    drop(place);
                });
            }
            Err(error) => {
                // The descriptors given up are another's in a moment, so at once; not again and again.
                if !reserve.give() {
                    warn!(error = %Chain(&error), "an operator's command cannot be let in; trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Descriptors that are given up when there is no other.
#[derive(Debug, Clone)]
struct Reserve(Arc<Mutex<Vec<File>>>);

impl Reserve {
    fn new() -> Self {
        let reserve = Self(Arc::default());
        reserve.refill();
        reserve
    }

    /// Gives them up; false when there are none.
    fn give(&self) -> bool {
        !std::mem::take(&mut *self.lock()).is_empty()
    }

    /// Takes back what it can get.
    fn refill(&self) {
        let mut files = self.lock();
        while files.len() < RESERVE {
            match open_one() {
                Ok(file) => files.push(file),
                Err(_none_left) => return,
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_one() -> io::Result<File> {
    File::open("/dev/null")
}
