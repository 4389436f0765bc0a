//! A TCP proxy that can stall and cut what it carries.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use super::{
    deliveries::{Deliveries, Wiretap},
    url::ServerUrl,
};

/// What the proxy does with bytes and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Everything passes.
    Flow,
    /// Connections stay and are taken, no byte passes: the far side has fallen silent.
    Stall,
    /// Connections are closed, also new ones: the far side is down.
    Cut,
}

/// A proxy in front of one server, on a port of its own. Dropping it cuts everything.
#[derive(Debug)]
pub(crate) struct Proxy {
    mode: watch::Sender<Mode>,
    pub(crate) port: u16,
    deliveries: Arc<Deliveries>,
    carrier: JoinHandle<()>,
}

/// Which protocol passes, so that the proxy can count what it understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Amqp,
    Postgres,
}

impl Proxy {
    pub(crate) async fn start(server: &ServerUrl, protocol: Protocol) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("loopback has a free port");
        let port = listener.local_addr().expect("a listener is bound").port();
        let (mode, watched) = watch::channel(Mode::Flow);
        let deliveries = Arc::new(Deliveries::default());
        let line = Line {
            server: (server.host.clone(), server.port),
            mode: watched,
            counted: (protocol == Protocol::Amqp).then(|| Arc::clone(&deliveries)),
        };
        Self {
            mode,
            port,
            deliveries,
            carrier: tokio::spawn(carry(listener, line)),
        }
    }

    /// Closes all connections, and every new one at once.
    pub(crate) fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// Keeps all connections and lets nothing pass.
    pub(crate) fn stall(&self) {
        self.mode.send_replace(Mode::Stall);
    }

    /// Lets everything pass again; what was held back comes first.
    pub(crate) fn resume(&self) {
        self.mode.send_replace(Mode::Flow);
    }

    /// What the broker has delivered through this proxy; nothing with another protocol.
    pub(crate) fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

/// Where connections lead, and what rules them.
#[derive(Debug, Clone)]
struct Line {
    server: (String, u16),
    mode: watch::Receiver<Mode>,
    counted: Option<Arc<Deliveries>>,
}

/// Takes connections; they end with this task, which owns them.
async fn carry(listener: TcpListener, line: Line) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.expect("accepting on loopback works");
                connections.spawn(connect(client, line.clone()));
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
}

async fn connect(client: TcpStream, mut line: Line) {
    if *line.mode.borrow_and_update() == Mode::Cut {
        return;
    }
    let mut cut = line.mode.clone();
    let both_ways = async {
        let Ok(server) = TcpStream::connect(&line.server).await else {
            return;
        };
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("an open socket takes it");
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let tap = line.counted.clone().map(Wiretap::new);
        // A side that has finished ends the connection: both protocols say goodbye first.
        tokio::select! {
            () = pump(from_client, to_server, line.mode.clone(), None) => {}
            () = pump(from_server, to_client, line.mode.clone(), tap) => {}
        }
    };
    tokio::select! {
        () = both_ways => {}
        _cut = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    mut tap: Option<Wiretap>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        if mode.wait_for(|mode| *mode == Mode::Flow).await.is_err() {
            return;
        }
        if let Some(tap) = &mut tap {
            tap.observe(bytes);
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
