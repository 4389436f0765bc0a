//! A connection to RabbitMQ, or the end of the attempt.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jatis_shared::config::RabbitMq;
use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties, ErrorKind,
    tcp::AMQPUriTcpExt,
    uri::{AMQPScheme, AMQPUri},
};
use rustix::net::{Shutdown, shutdown};
use tcp_stream::RustlsConnector;
use tokio::time::timeout;
use tracing::debug;

use crate::tls::{self, TlsFault};

/// AMQP reply code of a refused login.
const ACCESS_REFUSED: u16 = 403;

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// The reason holds nothing of the URL.
    #[error("rabbitmq.url is not an AMQP URL: {0}")]
    Url(String),
    #[error("TLS cannot be set up as rabbitmq.ca_file says")]
    Tls(#[source] rustls::Error),
    #[error("cannot connect to the broker at {server}")]
    Refused {
        server: String,
        source: lapin::Error,
    },
    /// `rabbitmq.connect_timeout` is over.
    #[error("the broker at {server} did not answer in time")]
    Timeout { server: String },
}

impl ConnectError {
    /// The broker refused the credentials.
    #[must_use]
    pub fn is_refused_login(&self) -> bool {
        let Self::Refused { source, .. } = self else {
            return false;
        };
        matches!(source.kind(), ErrorKind::ProtocolError(amqp) if amqp.get_id() == ACCESS_REFUSED)
    }

    /// What was wrong with TLS, if that was it.
    #[must_use]
    pub fn tls_fault(&self) -> Option<TlsFault> {
        TlsFault::behind(self)
    }
}

/// Where and how to connect. A copy of it makes each attempt.
#[derive(Clone)]
pub struct Target {
    uri: AMQPUri,
    /// Built once, if the broker is reached by TLS; the attempts share it.
    tls: Option<RustlsConnector>,
    name: String,
    limit: Duration,
}

impl Target {
    /// The broker of `rabbitmq.url`. `name` is shown by the broker's tools, `frame_max` is in bytes:
    /// the client library sizes two buffers by it (8 MB a connection when it is not set).
    ///
    /// # Errors
    /// [`ConnectError::Url`], [`ConnectError::Tls`].
    pub fn new(keys: &RabbitMq, name: &str, frame_max: u32) -> Result<Self, ConnectError> {
        let mut uri: AMQPUri = keys.url.expose().parse().map_err(ConnectError::Url)?;
        uri.query.frame_max = Some(frame_max);
        uri.query.heartbeat = Some(u16::try_from(keys.heartbeat.as_secs()).unwrap_or(u16::MAX));
        let tls = match uri.scheme {
            AMQPScheme::AMQP => None,
            AMQPScheme::AMQPS => Some(tls::verified(&keys.authorities)),
        };
        let tls = tls.transpose().map_err(ConnectError::Tls)?;
        Ok(Self {
            uri,
            tls: tls.map(RustlsConnector::from),
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
        let connecting = attempt.run(self.clone(), properties);
        let connected = timeout(self.limit, connecting).await;
        let server = || format!("{}:{}", self.uri.authority.host, self.uri.authority.port);
        match connected {
            Ok(connected) => {
                attempt.complete();
                connected.map_err(|source| ConnectError::Refused {
                    server: server(),
                    source,
                })
            }
            Err(_elapsed) => Err(ConnectError::Timeout { server: server() }),
        }
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
        target: Target,
        properties: ConnectionProperties,
    ) -> lapin::Result<Connection> {
        let socket = Arc::clone(&self.socket);
        let runtime = lapin::runtime::default_runtime()?;
        let (uri, tls) = (target.uri, target.tls);
        let connecting = Connection::connector(
            uri,
            runtime,
            async move |mut uri, runtime| {
                // In the clear so far, so that the socket is seen before TLS has to be waited for.
                uri.scheme = AMQPScheme::AMQP;
                let stream = AMQPUriTcpExt::connect_async(&uri, &runtime).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    remember(&socket, plain.get_ref())?;
                }
                match &tls {
                    None => Ok(stream),
                    Some(tls) => Ok(stream.into_rustls(tls, &uri.authority.host).await?),
                }
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
    use std::{
        io::Read,
        net::{Shutdown as Half, TcpStream},
    };

    use jatis_shared::{config::load::defaults, secret::Secret};

    use super::*;
    use crate::tls_server::{Authority, Valid, listen_only, take_one};

    fn keys(url: &str) -> RabbitMq {
        let mut keys = defaults().expect("the defaults are valid").rabbitmq;
        keys.url = Secret::from(url.to_owned());
        keys
    }

    fn target(keys: &RabbitMq) -> Target {
        Target::new(keys, "test", keys.frame_max).expect("a good URL")
    }

    /// Gives an attempt up to a server that does `serve`, which must then be hung up on.
    async fn give_up(
        scheme: &str,
        authority: &Authority,
        serve: impl FnOnce(TcpStream) -> io::Result<()> + Send + 'static,
    ) {
        let (port, served) = take_one(serve);
        let mut keys = keys(&format!("{scheme}://guest:guest@127.0.0.1:{port}"));
        keys.authorities = authority.authorities();
        keys.connect_timeout = Duration::from_millis(200);
        let refused = target(&keys).connect().await.expect_err("nobody answers");
        let timeout = format!("the broker at 127.0.0.1:{port} did not answer in time");
        assert_eq!(refused.to_string(), timeout);
        let hung_up = tokio::task::spawn_blocking(move || served.join());
        let outcome = hung_up.await.expect("no panic").expect("no panic");
        outcome.expect("the other side hangs up");
    }

    #[tokio::test]
    async fn an_attempt_that_is_given_up_hangs_up() {
        let silent = |mut stream: TcpStream| stream.read_to_end(&mut Vec::new()).map(drop);
        let authority = Authority::new("ours");
        give_up("amqp", &authority, silent).await;
        give_up("amqps", &authority, silent).await;

        let server = authority.server("127.0.0.1", Valid::Now);
        let silent_in_tls = move |stream: TcpStream| match listen_only(server, stream) {
            // Hung up on without a goodbye, which needs somebody who waits for it.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            listened => listened,
        };
        give_up("amqps", &authority, silent_in_tls).await;
    }

    #[tokio::test]
    async fn a_broker_that_does_not_prove_itself_is_told_by_what_it_lacks() {
        let authority = Authority::new("ours");
        for (signed_by, name, valid, expected) in [
            (
                &Authority::new("theirs"),
                "127.0.0.1",
                Valid::Now,
                TlsFault::UnknownIssuer,
            ),
            // Made anew under the old name.
            (
                &Authority::new("ours"),
                "127.0.0.1",
                Valid::Now,
                TlsFault::BadCertificate,
            ),
            (&authority, "localhost", Valid::Now, TlsFault::WrongName),
            (
                &authority,
                "127.0.0.1",
                Valid::InThePast,
                TlsFault::OutOfTime,
            ),
        ] {
            let server = signed_by.server(name, valid);
            let (port, served) = take_one(move |stream| listen_only(server, stream));
            let mut keys = keys(&format!("amqps://guest:guest@127.0.0.1:{port}"));
            keys.authorities = authority.authorities();
            let refused = target(&keys)
                .connect()
                .await
                .expect_err("it is not to be trusted");
            assert_eq!(refused.tls_fault(), Some(expected), "{refused:?}");
            assert!(!refused.is_refused_login());
            let server = format!("cannot connect to the broker at 127.0.0.1:{port}");
            assert_eq!(refused.to_string(), server);
            let handshake = served.join().expect("no panic");
            handshake.expect_err("the client breaks it off");
        }
    }

    #[tokio::test]
    async fn what_is_no_tls_server_is_told_too() {
        let (port, served) = take_one(|stream| stream.shutdown(Half::Write));
        let keys = keys(&format!("amqps://guest:guest@127.0.0.1:{port}"));
        let refused = target(&keys).connect().await.expect_err("it speaks no TLS");
        assert_eq!(refused.tls_fault(), None, "{refused:?}");
        served.join().expect("no panic").expect("it hangs up");
    }

    #[test]
    fn a_bad_url_is_not_repeated() {
        let keys = keys("amqp://user:hunter2@host:port");
        let error = Target::new(&keys, "test", keys.frame_max)
            .err()
            .expect("the port is no number");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
