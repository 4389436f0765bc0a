//! A connection to RabbitMQ, or the end of the attempt.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jatis_shared::config::RabbitMq;
use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties, ErrorKind, tcp::AMQPUriTcpExt, uri::AMQPUri,
};
use rustix::net::{Shutdown, shutdown};
use tokio::time::timeout;
use tracing::debug;

/// AMQP reply code of a refused login.
const ACCESS_REFUSED: u16 = 403;

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// The reason holds nothing of the URL.
    #[error("rabbitmq.url is not an AMQP URL: {0}")]
    Url(String),
    #[error("cannot connect to the broker")]
    Refused(#[source] lapin::Error),
    /// `rabbitmq.connect_timeout` is over.
    #[error("the broker did not answer in time")]
    Timeout,
}

impl ConnectError {
    /// The broker refused the credentials.
    #[must_use]
    pub fn is_refused_login(&self) -> bool {
        let Self::Refused(error) = self else {
            return false;
        };
        matches!(error.kind(), ErrorKind::ProtocolError(amqp) if amqp.get_id() == ACCESS_REFUSED)
    }
}

/// Where and how to connect. A copy of it makes each attempt.
#[derive(Clone)]
pub struct Target {
    uri: AMQPUri,
    name: String,
    limit: Duration,
}

impl Target {
    /// The broker of `rabbitmq.url`. `name` is shown by the broker's tools, `frame_max` is in bytes:
    /// the client library sizes two buffers by it (8 MB a connection when it is not set).
    ///
    /// # Errors
    /// [`ConnectError::Url`].
    pub fn new(keys: &RabbitMq, name: &str, frame_max: u32) -> Result<Self, ConnectError> {
        let mut uri: AMQPUri = keys.url.expose().parse().map_err(ConnectError::Url)?;
        uri.query.frame_max = Some(frame_max);
        uri.query.heartbeat = Some(u16::try_from(keys.heartbeat.as_secs()).unwrap_or(u16::MAX));
        Ok(Self {
            uri,
            name: name.to_owned(),
            limit: keys.connect_timeout,
        })
    }

    /// Connects and logs in, within `rabbitmq.connect_timeout`.
    ///
    /// Cancel-safe: an attempt that is given up ends, with all that belongs to it.
    ///
    /// # Errors
    /// [`ConnectError::Refused`], [`ConnectError::Timeout`].
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        let properties =
            ConnectionProperties::default().with_connection_name(self.name.as_str().into());
        let attempt = Attempt::default();
        let connecting = attempt.run(self.uri.clone(), properties);
        let connection = timeout(self.limit, connecting)
            .await
            .map_err(|_| ConnectError::Timeout)?;
        attempt.complete();
        connection.map_err(ConnectError::Refused)
    }
}

/// An attempt to connect; dropping it before it is complete gives it up.
///
/// The client library makes a connection on a thread of its own, which waits for the broker's
/// answer without end: whoever stops waiting for it would leave the thread and its buffers behind,
/// once for every attempt. So the socket is kept in view here, and shut down when the attempt is
/// given up; the thread then ends by itself.
#[derive(Default)]
struct Attempt {
    /// A second descriptor of the attempt's socket, once there is one.
    socket: Arc<Mutex<Option<OwnedFd>>>,
}

impl Attempt {
    async fn run(
        &self,
        uri: AMQPUri,
        properties: ConnectionProperties,
    ) -> lapin::Result<Connection> {
        let socket = Arc::clone(&self.socket);
        let runtime = lapin::runtime::default_runtime()?;
        let connecting = Connection::connector(
            uri,
            runtime,
            async move |uri, runtime| {
                let stream = AMQPUriTcpExt::connect_async(&uri, &runtime).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    remember(&socket, plain.get_ref())?;
                }
                Ok(stream)
            },
            properties,
        );
        connecting.await
    }

    /// The connection is made, and no longer the attempt's to end.
    fn complete(&self) {
        self.take();
    }

    fn take(&self) -> Option<OwnedFd> {
        self.socket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(socket) = self.take()
            && let Err(error) = shutdown(&socket, Shutdown::Both)
        {
            debug!(%error, "the socket of an attempt to connect was closed already");
        }
    }
}

fn remember(socket: &Mutex<Option<OwnedFd>>, stream: &impl AsFd) -> io::Result<()> {
    let second = stream.as_fd().try_clone_to_owned()?;
    *socket.lock().unwrap_or_else(PoisonError::into_inner) = Some(second);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use jatis_shared::{config::load::defaults, secret::Secret};

    use super::*;

    #[tokio::test]
    async fn an_attempt_that_is_given_up_hangs_up() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = silent.local_addr().expect("it is bound").port();
        let mut keys = defaults().expect("the defaults are valid").rabbitmq;
        keys.url = Secret::from(format!("amqp://guest:guest@127.0.0.1:{port}"));
        keys.connect_timeout = Duration::from_millis(200);

        let target = Target::new(&keys, "test", keys.frame_max).expect("a good URL");
        let refused = target.connect().await.expect_err("nobody answers");
        assert!(matches!(refused, ConnectError::Timeout), "{refused}");

        let (mut peer, _) = silent.accept().expect("it was connected to");
        let hung_up = tokio::task::spawn_blocking(move || peer.read_to_end(&mut Vec::new()));
        hung_up
            .await
            .expect("no panic")
            .expect("the other side hangs up");
    }

    #[test]
    fn a_bad_url_is_not_repeated() {
        let mut keys = defaults().expect("the defaults are valid").rabbitmq;
        keys.url = Secret::from("amqp://user:hunter2@host:port".to_owned());
        let error = Target::new(&keys, "test", keys.frame_max)
            .err()
            .expect("the port is no number");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
