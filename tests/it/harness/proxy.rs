//! A TCP proxy that can stall and cut what it carries, all of it or one connection.

use std::sync::{Arc, OnceLock};

use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use super::{
    deliveries::{Deliveries, Wiretap},
    frames::connection_method,
    publications::{ClientTap, Publications},
    url::ServerUrl,
    wait,
};

/// What the proxy does with bytes and connections. Those for AMQP alone go by the name that a
/// client gives its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    /// Everything passes.
    Flow,
    /// Connections stay and are taken, no byte passes: the far side has fallen silent.
    Stall,
    /// Everything passes until the head of a batch has; then nothing does.
    StallAtBatch,
    /// Everything passes but PostgreSQL's request for TLS, which is answered with no.
    NoTls,
    /// Connections are closed, also new ones: the far side is down.
    Cut,
    /// The connection of this name is closed, whenever there is one.
    CutOne(String),
    /// The connection of this name is told that the broker takes no messages.
    BlockOne(String),
}

impl Mode {
    fn passes(&self) -> bool {
        *self != Self::Stall
    }

    fn cuts(&self, name: &Name) -> bool {
        match self {
            Self::Cut => true,
            Self::CutOne(cut) => name.get() == Some(cut),
            Self::Flow | Self::NoTls | Self::Stall | Self::StallAtBatch | Self::BlockOne(_) => {
                false
            }
        }
    }

    fn blocks(&self, name: &Name) -> bool {
        matches!(self, Self::BlockOne(blocked) if name.get() == Some(blocked))
    }
}

/// What a client calls its connection, once it has said so.
type Name = OnceLock<String>;

/// A proxy in front of one server, on a port of its own. Dropping it cuts everything.
#[derive(Debug)]
pub(crate) struct Proxy {
    mode: Arc<watch::Sender<Mode>>,
    host: &'static str,
    port: u16,
    deliveries: Arc<Deliveries>,
    publications: Arc<Publications>,
    /// Connections that are carried now.
    open: watch::Receiver<usize>,
    carrier: JoinHandle<()>,
}

/// Which protocol passes, so that the proxy can count what it understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Amqp,
    /// In TLS, where nothing can be understood.
    Amqps,
    Postgres,
}

impl Proxy {
    /// Listens at this address of the loopback.
    pub(crate) async fn start(host: &'static str, server: &ServerUrl, protocol: Protocol) -> Self {
        let listener = TcpListener::bind((host, 0)).await;
        let listener = listener.expect("loopback has a free port");
        let port = listener.local_addr().expect("a listener is bound").port();
        let mode = Arc::new(watch::channel(Mode::Flow).0);
        let deliveries = Arc::new(Deliveries::default());
        let publications = Arc::new(Publications::default());
        let line = Line {
            server: (server.host.clone(), server.port),
            protocol,
            mode: Arc::clone(&mode),
            deliveries: Arc::clone(&deliveries),
            publications: Arc::clone(&publications),
        };
        let (counted, open) = watch::channel(0);
        Self {
            mode,
            host,
            port,
            deliveries,
            publications,
            open,
            carrier: tokio::spawn(carry(listener, line, counted)),
        }
    }

    /// The server as it is reached through here.
    pub(crate) fn before(&self, server: &ServerUrl) -> ServerUrl {
        server.through(self.host, self.port)
    }

    /// Answers for PostgreSQL, from now on, that it speaks no TLS. What is in TLS already goes on.
    pub(crate) fn decline_tls(&self) {
        self.mode.send_replace(Mode::NoTls);
    }

    /// Closes all connections, and every new one at once. Returns when they are closed: what it held
    /// back is gone, whatever it does next.
    pub(crate) async fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
        let mut open = self.open.clone();
        let all_closed = open.wait_for(|open| *open == 0);
        let closed = wait::bounded("the proxy's connections are closed", all_closed).await;
        closed.expect("the proxy is at work");
    }

    /// Closes the AMQP connection of this name, and every later one as soon as it says its name.
    pub(crate) fn cut_one(&self, name: &str) {
        self.mode.send_replace(Mode::CutOne(name.to_owned()));
    }

    /// Tells the AMQP connection of this name, and no other, that the broker takes no messages.
    pub(crate) fn block_one(&self, name: &str) {
        self.mode.send_replace(Mode::BlockOne(name.to_owned()));
    }

    /// Keeps all connections and lets nothing pass.
    pub(crate) fn stall(&self) {
        self.mode.send_replace(Mode::Stall);
    }

    /// Stalls as soon as a batch is being published: it is under way and never confirmed.
    pub(crate) fn stall_at_batch(&self) {
        self.mode.send_replace(Mode::StallAtBatch);
    }

    /// Lets everything pass again; what was held back comes first.
    pub(crate) fn resume(&self) {
        self.mode.send_replace(Mode::Flow);
    }

    /// What the broker has delivered through this proxy; nothing with another protocol.
    pub(crate) fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    /// What was published through this proxy; nothing with another protocol.
    pub(crate) fn publications(&self) -> &Publications {
        &self.publications
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
    protocol: Protocol,
    mode: Arc<watch::Sender<Mode>>,
    deliveries: Arc<Deliveries>,
    publications: Arc<Publications>,
}

/// Takes connections; they end with this task, which owns them.
async fn carry(listener: TcpListener, line: Line, open: watch::Sender<usize>) {
    let mut connections = JoinSet::new();
    loop {
        open.send_replace(connections.len());
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.expect("accepting on loopback works");
                connections.spawn(connect(client, line.clone()));
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
}

async fn connect(mut client: TcpStream, line: Line) {
    let name = Arc::new(Name::new());
    let mut cut = line.mode.subscribe();
    if cut.borrow_and_update().cuts(&name) {
        return;
    }
    let declines = line.protocol == Protocol::Postgres && *line.mode.borrow() == Mode::NoTls;
    if declines && decline(&mut client).await.is_err() {
        return;
    }
    let both_ways = async {
        let Ok(server) = TcpStream::connect(&line.server).await else {
            return;
        };
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("an open socket takes it");
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        // A side that has finished ends the connection: both protocols say goodbye first.
        tokio::select! {
            () = upstream(from_client, to_server, &line, &name) => {}
            () = downstream(from_server, to_client, &line, &name) => {}
        }
    };
    tokio::select! {
        () = both_ways => {}
        _cut = cut.wait_for(|mode| mode.cuts(&name)) => {}
    }
}

/// Answers a request for TLS with no. Whatever else the client begins with is left to the server.
async fn decline(client: &mut TcpStream) -> io::Result<()> {
    const REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    let mut head = [0; REQUEST.len()];
    if client.peek(&mut head).await? == head.len() && head == REQUEST {
        client.read_exact(&mut head).await?;
        client.write_all(b"N").await?;
    }
    Ok(())
}

/// From the client to the server.
async fn upstream(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, line: &Line, name: &Arc<Name>) {
    let mut mode = line.mode.subscribe();
    let mut tap = (line.protocol == Protocol::Amqp)
        .then(|| ClientTap::new(Arc::clone(&line.publications), Arc::clone(name)));
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        if mode.wait_for(Mode::passes).await.is_err() {
            return;
        }
        if let Some(tap) = &mut tap {
            let batches = tap.observe(bytes);
            if mode.borrow().cuts(name) {
                return;
            }
            let stalls = |mode: &mut Mode| {
                let stalls = batches > 0 && *mode == Mode::StallAtBatch;
                if stalls {
                    *mode = Mode::Stall;
                }
                stalls
            };
            line.mode.send_if_modified(stalls);
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// From the server to the client.
async fn downstream(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, line: &Line, name: &Name) {
    const BLOCKED: u16 = 60;
    const UNBLOCKED: u16 = 61;
    let mut mode = line.mode.subscribe();
    let mut tap =
        (line.protocol == Protocol::Amqp).then(|| Wiretap::new(Arc::clone(&line.deliveries)));
    let mut is_blocked = false;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let blocks = mode.borrow_and_update().blocks(name);
        if blocks != is_blocked && tap.as_ref().is_some_and(Wiretap::is_between_frames) {
            is_blocked = blocks;
            let word = if blocks {
                connection_method(BLOCKED, b"\x04test")
            } else {
                connection_method(UNBLOCKED, b"")
            };
            if to.write_all(&word).await.is_err() {
                return;
            }
        }
        let length = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(length @ 1..) => length,
                Ok(0) | Err(_) => return,
            },
            Ok(()) = mode.changed() => continue,
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        if mode.wait_for(Mode::passes).await.is_err() {
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
