//! From the socket to the reactor: greet, wait for the spec, confine, wire, work.

use std::{io, os::fd::OwnedFd, sync::Arc};

use futures_util::StreamExt;
use jatis_shared::{
    control::{Command, Event, FrameError, Refusal, Spec, VERSION},
    exit::ExitCode,
    ids::Mint,
    telemetry::{self, Chain, Level},
};
use tokio::sync::mpsc;
use tracing::{Instrument, error, error_span};

use crate::{
    broker::{Session, order_bound},
    confine::confine,
    consume::Intake,
    control::{self, Commands, Outbox},
    insert::Writer,
    orphan::Patience,
    pipeline::Pipeline,
    pool::Pool,
    run::{Broken, Reactor, State},
    signals::{Signals, Wish},
    store::{Store, StoreError},
};

/// A life that failed by a fault of this host or this program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot handle signals")]
    Signals(#[source] io::Error),
    #[error("cannot use the control socket")]
    Socket(#[source] io::Error),
    #[error("cannot start a single pool thread")]
    Threads(#[source] io::Error),
    #[error("cannot prepare for the database")]
    Store(#[source] StoreError),
    #[error("the worker broke")]
    Broken(#[from] Broken),
}

/// The life of the worker.
///
/// # Errors
/// When it could not begin, or broke. Every other end is told by the code.
pub(crate) async fn work(socket: OwnedFd, patience: &Patience) -> Result<ExitCode, StartError> {
    let mut signals = Signals::install().map_err(StartError::Signals)?;
    let (mut commands, mut outbox) = control::open_socket(socket).map_err(StartError::Socket)?;
    outbox.tell(Event::Hello {
        min_version: VERSION,
        max_version: VERSION,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
    });
    let spec = match wait_for_spec(&mut commands, &mut outbox, &mut signals).await {
        Ok(spec) => spec,
        Err(exit) => return Ok(exit),
    };
    patience.drains(spec.orphan_timeout);
    match confine() {
        Ok(report) => outbox.tell(Event::Confined(report)),
        Err(error) => {
            eprintln!("jatis-worker: {}", Chain(&error));
            return Ok(ExitCode::Sandbox);
        }
    }
    let level = match telemetry::start(&spec.log) {
        Ok(level) => level,
        Err(error) => {
            eprintln!("jatis-worker: {}", Chain(&error));
            return Ok(ExitCode::BadSpec);
        }
    };
    // At the level nobody can filter away: it carries the tenant into every line.
    let tenant = error_span!("worker", tenant.id = %spec.tenant);
    let wires = (commands, outbox, signals, level);
    async move {
        match wire(spec, wires) {
            Ok(reactor) => Ok(reactor.run().await?),
            Err(Refused::Spec(reason)) => {
                error!(reason, "the spec makes no sense");
                Ok(ExitCode::BadSpec)
            }
            Err(Refused::Host(error)) => Err(error),
        }
    }
    .instrument(tenant)
    .await
}

/// Waits for the spec; answers what may come before.
async fn wait_for_spec(
    commands: &mut Commands,
    outbox: &mut Outbox,
    signals: &mut Signals,
) -> Result<Box<Spec>, ExitCode> {
    loop {
        let command = tokio::select! {
            command = commands.next(), if outbox.is_clear() => command,
            () = outbox.move_one(), if !outbox.is_clear() => continue,
            wish = signals.next() => match wish {
                Wish::Drain => return Err(ExitCode::Clean),
                Wish::Abort => return Err(ExitCode::Deadline),
                Wish::Sync | Wish::Dump | Wish::Grow | Wish::Shrink | Wish::Nothing => continue,
            },
        };
        let frame = match command {
            Some(Ok(frame)) => frame,
            Some(Err(FrameError::Io(_))) | None => return Err(ExitCode::Orphaned),
            Some(Err(error)) => {
                eprintln!("jatis-worker: {}", Chain(&error));
                return Err(ExitCode::Protocol);
            }
        };
        outbox.belongs_to(frame.generation);
        match frame.body {
            Command::Spec(spec) => return Ok(spec),
            Command::Ping { nonce } => outbox.answer(frame.id, Event::Pong { nonce }),
            Command::Drain { .. } => return Err(ExitCode::Clean),
            Command::Abort => return Err(ExitCode::Deadline),
            Command::Resize { .. }
            | Command::Rung { .. }
            | Command::Pause
            | Command::Resume
            | Command::Rotate { .. }
            | Command::Reconnect
            | Command::Log { .. }
            | Command::Dump
            | Command::Adopt { .. }
            | Command::Unknown => {
                let detail = "there is no spec yet";
                outbox.refuse(frame.id, Refusal::Unsupported, detail);
            }
        }
    }
}

/// Why no reactor was built.
enum Refused {
    /// The spec cannot be worked by.
    Spec(String),
    /// The host gives too little.
    Host(StartError),
}

/// Builds everything the spec asks for and connects nowhere yet.
fn wire(
    spec: Box<Spec>,
    (commands, outbox, signals, level): (Commands, Outbox, Signals, Level),
) -> Result<Reactor, Refused> {
    control::check(&spec).map_err(Refused::Spec)?;
    let store = match Store::new(&spec) {
        Ok(store) => Arc::new(store),
        Err(error @ StoreError::Target(_)) => return Err(Refused::Spec(Chain(&error).to_string())),
        Err(error @ StoreError::Pool(_)) => return Err(Refused::Host(StartError::Store(error))),
    };
    // Prefetch: at most so many deliveries are held by the broker's count, so neither side of the
    // session ever waits for room.
    let (orders, taken_orders) = mpsc::channel(order_bound(spec.prefetch));
    let (told, feed) = mpsc::channel(usize::from(spec.prefetch));
    let session = Session::new(&spec, taken_orders, told)
        .map_err(|error| Refused::Spec(Chain(&error).to_string()))?;

    let mint = Arc::new(Mint::above(spec.mint_floor));
    let writer = Arc::new(Writer {
        tenant: spec.tenant,
        number: spec.number,
        mint: Arc::clone(&mint),
    });
    // An outcome and a last word of each thread there may be.
    let (report, reports) = mpsc::channel(2 * usize::from(spec.worker.max_threads));
    let mut pool = Pool::new(Arc::clone(&store), writer, report);
    if let Err(error) = pool.resize(spec.threads)
        && pool.target() == 0
    {
        return Err(Refused::Host(StartError::Threads(error)));
    }
    let intake = Intake {
        number: spec.number,
        mint,
    };
    Ok(Reactor {
        pipeline: Pipeline::new(&spec, intake, pool),
        state: State::new(&spec),
        spec,
        store,
        commands,
        outbox,
        signals,
        level,
        orders,
        feed,
        arrivals: Vec::new(),
        reports,
        session: tokio::spawn(session.run().in_current_span()),
    })
}
