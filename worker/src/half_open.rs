//! A connection to the broker that is being made, and can be given up.
//!
//! The client library makes a connection on a thread of its own, which waits for the broker's
//! answer without end: whoever stops waiting for it would leave the thread and its buffers behind,
//! once for every attempt. So the socket is kept in view here, and shut down when the attempt is
//! given up; the thread then ends by itself.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use lapin::{AsyncTcpStream, Connection, ConnectionProperties, tcp::AMQPUriTcpExt, uri::AMQPUri};
use rustix::net::{Shutdown, shutdown};
use tracing::debug;

/// An attempt to connect; dropping it before [`Self::complete`] gives it up.
#[derive(Default)]
pub(crate) struct HalfOpen {
    /// A second descriptor of the attempt's socket, once there is one.
    socket: Arc<Mutex<Option<OwnedFd>>>,
}

impl HalfOpen {
    /// Connects and logs in.
    ///
    /// # Errors
    /// When the broker cannot be reached or refuses.
    pub(crate) async fn connect(
        &self,
        uri: AMQPUri,
        properties: ConnectionProperties,
    ) -> lapin::Result<Connection> {
        let socket = Arc::clone(&self.socket);
        let runtime = lapin::runtime::default_runtime()?;
        let dialling = Connection::connector(
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
        dialling.await
    }

    /// The connection is made and no longer the attempt's to end.
    pub(crate) fn complete(&self) {
        self.take();
    }

    fn take(&self) -> Option<OwnedFd> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.take()
    }
}

impl Drop for HalfOpen {
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
