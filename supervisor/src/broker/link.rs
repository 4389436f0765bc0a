//! One connection to the broker, kept: connected, watched, and connected again.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::StreamExt;
use jatis_connect::{
    amqp::{ConnectError, Target},
    tls::TlsFault,
};
use jatis_shared::{config::RabbitMq, retry::Backoff, telemetry::Chain};
use lapin::{Channel, Connection, ErrorKind, Event, protocol::AMQPErrorKind};
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::BrokerError;
use crate::random;

/// Attempts at a channel, each with the next number.
const CHANNEL_ATTEMPTS: usize = 64;
/// How often the status of a connection is looked at, besides every event.
const LOOK: Duration = Duration::from_millis(500);

/// What a link is now.
#[derive(Debug, Clone)]
pub enum LinkState {
    /// No connection; says why. Leaves by connecting.
    Down {
        reason: String,
        /// What was wrong with TLS, if that was it.
        tls_fault: Option<TlsFault>,
    },
    /// Connected for the `epoch`th time. Leaves by any error, or by `connection.blocked`.
    Up {
        epoch: u64,
        connection: Arc<Connection>,
    },
    /// Connected, but the broker reads no publishes. Leaves by `connection.unblocked` or an error.
    Blocked {
        epoch: u64,
        connection: Arc<Connection>,
        reason: String,
    },
}

impl LinkState {
    /// The connection, for operations that an alarm of the broker does not stop.
    fn connection(&self) -> Result<Arc<Connection>, BrokerError> {
        match self {
            Self::Up { connection, .. } | Self::Blocked { connection, .. } => {
                Ok(Arc::clone(connection))
            }
            Self::Down { reason, .. } => Err(BrokerError::Down(reason.clone())),
        }
    }

    /// The connection, for publishing.
    fn publishing(&self) -> Result<Publishing, BrokerError> {
        match self {
            Self::Up { epoch, connection } => Ok(Publishing {
                epoch: *epoch,
                connection: Arc::clone(connection),
            }),
            Self::Blocked { reason, .. } => Err(BrokerError::Blocked(reason.clone())),
            Self::Down { reason, .. } => Err(BrokerError::Down(reason.clone())),
        }
    }

    /// How often the link has connected; `None` while it is down.
    #[must_use]
    pub const fn epoch(&self) -> Option<u64> {
        match self {
            Self::Up { epoch, .. } | Self::Blocked { epoch, .. } => Some(*epoch),
            Self::Down { .. } => None,
        }
    }
}

/// A connection that takes messages.
pub(super) struct Publishing {
    /// Which of its link's connections it is.
    pub(super) epoch: u64,
    pub(super) connection: Arc<Connection>,
}

/// A connection and the task that keeps it.
pub(super) struct Link {
    state: watch::Receiver<LinkState>,
    stop: CancellationToken,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

impl Link {
    /// Starts the task; `name` is shown by the broker's tools.
    ///
    /// # Errors
    /// [`ConnectError::Url`], [`ConnectError::Tls`].
    pub(super) fn start(config: &RabbitMq, name: &str) -> Result<Self, ConnectError> {
        let target = Target::new(config, name, config.frame_max)?;
        let (sender, state) = watch::channel(LinkState::Down {
            reason: "not connected yet".to_owned(),
            tls_fault: None,
        });
        let stop = CancellationToken::new();
        let keeper = Keeper {
            target,
            backoff: config.probe(),
            name: name.to_owned(),
            state: sender,
        };
        let keeper = tokio::spawn(keeper.run(stop.clone()));
        Ok(Self {
            state,
            stop,
            keeper: Mutex::new(Some(keeper)),
        })
    }

    pub(super) fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    pub(super) fn connection(&self) -> Result<Arc<Connection>, BrokerError> {
        self.state.borrow().connection()
    }

    /// Opens a channel; see [`open_channel`]. When there are none left, the connection is ended, to
    /// be followed by one that has all of them.
    pub(super) async fn channel(&self) -> Result<Channel, BrokerError> {
        let connection = self.connection()?;
        let opened = open_channel(&connection).await;
        if opened.as_ref().is_err_and(is_used_up) {
            warn!("a connection to the broker has no channels left; it is made anew");
            if let Err(error) = connection.close(200, "no channels left".into()).await {
                debug!(%error, "the connection had ended already");
            }
        }
        Ok(opened?)
    }

    pub(super) fn publishing(&self) -> Result<Publishing, BrokerError> {
        self.state.borrow().publishing()
    }

    /// Closes the connection and joins the task.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        if let Some(keeper) = self.keeper.lock().await.take()
            && let Err(error) = keeper.await
        {
            warn!(%error, "the keeper of a broker connection ended badly");
        }
    }
}

/// Opens a channel.
///
/// When the broker closes a channel for an error (a queue that is asked for is gone, say), the
/// client library keeps that error under the channel's number for as long as the connection lives.
/// It gives it to whoever gets the number again, which is when all others have been used, before a
/// word of it is sent: so the next number is tried at once. The broker itself refuses no channel
/// with an error of that kind.
pub(super) async fn open_channel(connection: &Connection) -> Result<Channel, lapin::Error> {
    let mut attempts = 1;
    loop {
        match connection.create_channel().await {
            Err(error) if attempts < CHANNEL_ATTEMPTS && is_of_another_channel(&error) => {
                attempts += 1;
            }
            outcome => return outcome,
        }
    }
}

fn is_of_another_channel(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(amqp) = error.kind() else {
        return false;
    };
    matches!(amqp.kind(), AMQPErrorKind::Soft(_))
}

/// Whether a channel was not to be had because the numbers have come to an end; each that met an
/// error is lost for good.
fn is_used_up(error: &lapin::Error) -> bool {
    is_of_another_channel(error) || matches!(error.kind(), ErrorKind::ChannelsLimitReached)
}

struct Keeper {
    target: Target,
    backoff: Backoff,
    name: String,
    state: watch::Sender<LinkState>,
}

impl Keeper {
    /// Connects, keeps, connects again, until `stop`. Every failure is followed by a pause of
    /// `rabbitmq.probe_interval`.
    async fn run(self, stop: CancellationToken) {
        let mut epoch = 0;
        let mut told = String::new();
        while !stop.is_cancelled() {
            let (reason, tls_fault) = match unless(&stop, self.target.connect()).await {
                None => break,
                Some(Ok(connection)) => {
                    epoch += 1;
                    told.clear();
                    (self.keep(Arc::new(connection), epoch, &stop).await, None)
                }
                Some(Err(error)) => (Chain(&error).to_string(), error.tls_fault()),
            };
            self.state.send_replace(LinkState::Down {
                reason: reason.clone(),
                tls_fault,
            });
            if stop.is_cancelled() {
                break;
            }
            if told != reason {
                warn!(
                    link = self.name,
                    "no connection to the broker, trying again: {reason}"
                );
                told = reason;
            }
            let pause = self.backoff.jittered(0, random::dice());
            unless(&stop, tokio::time::sleep(pause)).await;
        }
        self.state.send_replace(LinkState::Down {
            reason: "jatis is stopping".to_owned(),
            tls_fault: None,
        });
    }

    /// Follows a connection until it fails or `stop`; gives the reason.
    async fn keep(
        &self,
        connection: Arc<Connection>,
        epoch: u64,
        stop: &CancellationToken,
    ) -> String {
        let mut events = std::pin::pin!(connection.events_listener());
        self.state.send_replace(LinkState::Up {
            epoch,
            connection: Arc::clone(&connection),
        });
        info!(link = self.name, epoch, "connected to the broker");
        while connection.status().connected() {
            // Not every end of a connection is told as an event, so the status is looked at too.
            let event = match unless(stop, timeout(LOOK, events.next())).await {
                Some(Ok(event)) => Some(event),
                Some(Err(_elapsed)) => continue,
                None => None,
            };
            match event {
                Some(Some(Event::ConnectionBlocked(reason))) => {
                    warn!(link = self.name, reason, "the broker takes no messages");
                    let connection = Arc::clone(&connection);
                    self.state.send_replace(LinkState::Blocked {
                        epoch,
                        connection,
                        reason,
                    });
                }
                Some(Some(Event::ConnectionUnblocked)) => {
                    info!(link = self.name, "the broker takes messages again");
                    self.state.send_replace(LinkState::Up {
                        epoch,
                        connection: Arc::clone(&connection),
                    });
                }
                // A channel's error is reported here as well, and is no end of the connection.
                Some(Some(Event::Error(error))) if !connection.status().connected() => {
                    return error.to_string();
                }
                Some(Some(_)) => {}
                Some(None) => break,
                None => {
                    // The peer may be gone already; the sockets close either way.
                    if let Err(error) = connection.close(200, "jatis stops".into()).await {
                        info!(link = self.name, %error, "the broker connection was closed already");
                    }
                    return "closed".to_owned();
                }
            }
        }
        "the connection ended".to_owned()
    }
}

/// The future's value, unless the token is cancelled first.
async fn unless<T>(stop: &CancellationToken, future: impl Future<Output = T>) -> Option<T> {
    stop.run_until_cancelled(future).await
}

/// The operation's outcome, or `Timeout`.
pub(super) async fn within<T>(
    limit: Duration,
    operation: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, BrokerError> {
    timeout(limit, operation)
        .await
        .unwrap_or(Err(BrokerError::Timeout))
}
