//! `jatis serve`: wires the rooms, runs them, and stops them in order.
//!
//! ```text
//!   stop:  not ready ─▶ HTTP finishes what it has ─▶ workers drain ─▶ broker ─▶ hold released
//! ```

use std::{
    io::{self, stdout},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jatis_connect::amqp::ConnectError;
use jatis_shared::{
    admin::{Left, Reloaded, Stopped},
    config::{AuthMode, Config, Messages},
    ids::Mint,
    telemetry::{self, Chain, LogError},
};
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinError, JoinHandle},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    reload::Reload,
    secret::{Missing, SecretError, signing_secret},
    sources::Setup,
    welcome,
};
use crate::{
    admin::{self, Admin, Desk, SocketError, Wish},
    broker::Broker,
    chronicle::Chronicle,
    directory::Directory,
    fleet::{Fleet, Hooks, Settings, Snapshot, StopLevel},
    http::{App, Auth, BindError, Role, Server, TokenError, mint},
    manager::{self, Manager},
    messaging::{Messaging, Waiters},
    metrics::Metrics,
    reign::Reign,
    signals::{self, Signals},
    stage::{Stage, StageWatch},
    store::{Db, Janitor, StoreError, installation::Installation},
    sweeper::Sweeper,
    tenancy::{Departures, Depths, Memories, Progress, Signalled, Tasks, Tenancy},
    vitals::Vitals,
};

/// How long the token of the greeting is valid.
const WELCOME_TTL: Duration = Duration::from_secs(24 * 3600);

/// Why jatis cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the signals cannot be handled")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Broker(#[from] ConnectError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the worker's program is not at {0}; name it with supervision.worker_path")]
    NoWorker(PathBuf),
    #[error("the program of the workers cannot be found")]
    Path(#[source] io::Error),
    #[error("the thread that starts workers cannot be started")]
    Spawner(#[source] io::Error),
    #[error("a task of jatis ended by a fault in jatis")]
    Fault(#[source] JoinError),
}

/// Serves until SIGTERM or SIGINT, or an operator's command; returns when everything of jatis has
/// ended.
///
/// # Errors
/// When something that waiting cannot mend keeps it from starting.
pub async fn serve(setup: Setup, is_welcome: bool) -> Result<(), ServeError> {
    let config = Arc::new(setup.loaded.config.clone());
    let level = telemetry::start(&config.log)?;
    let signals = Signals::listen().map_err(ServeError::Signals)?;
    let (auth, token) = authentication(&config, &setup)?;
    let server = Server::bind(&config.http).await?;
    let address = server.local_addr();
    let api = format!("http://{address}");
    info!(http.address = %address, "the API listens on {api}");

    let (stage, stages) = watch::channel(Stage::Starting("connecting to the database".to_owned()));
    let rooms = Rooms::start(&config, StageWatch(stages.clone()))?;
    let stop = CancellationToken::new();
    let http = tokio::spawn(server.serve(rooms.app(auth), stop.clone()));
    let reign = Reign {
        tenancy: rooms.tenancy.clone(),
        mint: Arc::clone(&rooms.mint),
        vitals: rooms.vitals(),
        sweeper: rooms.sweeper(),
        stage,
        stop: stop.clone(),
    };
    let mut reign = tokio::spawn(reign.run());
    let (wishes, wished) = mpsc::channel(usize::from(config.admin.max_clients));
    let manager = Manager::new(rooms.stage.clone(), rooms.fleet.clone(), wishes.clone());
    let listens = setup.env.contains_key("NOTIFY_SOCKET");
    let _manager = AbortOnDrop(tokio::spawn(manager.run(listens)));
    let admin = rooms.admin(&setup.admin_socket(), address, wishes);

    let mut reload = Reload {
        arguments: setup.arguments,
        env: setup.env,
        loaded: setup.loaded,
        level,
    };
    let mut asked = Asking {
        signals,
        wished,
        waiting: Vec::new(),
    };
    let mut greeting = is_welcome.then_some((stages, api, token));
    let level = loop {
        tokio::select! {
            asked = asked.next() => match asked {
                Asked::Reload(reply) => {
                    manager::reloading();
                    let outcome = reload.run(&rooms.fleet);
                    manager::reloaded();
                    answer(reply, outcome);
                }
                Asked::Dump => rooms.dump(),
                Asked::Stop(level) => break level.unwrap_or(StopLevel::Drain),
            },
            () = serving(&mut greeting) => greet(greeting.take()),
            // Unasked it ends only by what waiting cannot mend.
            ended = &mut reign => {
                ended.map_err(ServeError::Fault)??;
                return Ok(());
            }
        }
    };
    info!("stopping");
    manager::stopping();
    let before = rooms.fleet.snapshots();
    let (levels, level) = watch::channel(level);
    stop.cancel();
    let left = tokio::select! {
        left = rooms.stop(http, reign, level) => left?,
        () = escalate(&mut asked, levels, config.supervision.stop_timeout) => Vec::new(),
    };
    farewell(asked, admin, admin::report(&before, &left)).await;
    info!("stopped");
    Ok(())
}

/// A task that ends with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells everybody who waits for it how the workers have left, and the log.
async fn farewell(asked: Asking, admin: Option<Admin>, report: Stopped) {
    for Left {
        tenant,
        stored,
        requeued,
        exit,
    } in &report.tenants
    {
        info!(tenant.id = %tenant, stored, requeued, exit,
            "the worker of {tenant} has left: {stored} messages stored while it stopped");
    }
    let stored: u64 = report.tenants.iter().map(|left| left.stored).sum();
    let requeued: u64 = report.tenants.iter().filter_map(|left| left.requeued).sum();
    let workers = report.tenants.len();
    info!(workers, stored, requeued, "all {workers} workers have left");
    for waiting in asked.waiting {
        // One that has left meanwhile has the log.
        waiting.send(report.clone()).ok();
    }
    if let Some(admin) = admin {
        admin.close().await;
    }
}

fn answer(
    reply: Option<oneshot::Sender<Result<Reloaded, String>>>,
    outcome: Result<Reloaded, String>,
) {
    if let Some(reply) = reply {
        reply.send(outcome).ok();
    }
}

/// What is asked of the whole of jatis, by signals and by operators.
struct Asking {
    signals: Signals,
    wished: mpsc::Receiver<Wish>,
    /// Operators who wait for the end.
    waiting: Vec<oneshot::Sender<Stopped>>,
}

enum Asked {
    Reload(Option<oneshot::Sender<Result<Reloaded, String>>>),
    Dump,
    /// At least this hard; by a signal, harder each time.
    Stop(Option<StopLevel>),
}

impl Asking {
    /// The next that is to be done. Cancel-safe.
    async fn next(&mut self) -> Asked {
        loop {
            let wish = tokio::select! {
                signal = self.signals.next() => match signal {
                    signals::Asked::Reload => return Asked::Reload(None),
                    signals::Asked::Dump => return Asked::Dump,
                    signals::Asked::Stop => return Asked::Stop(None),
                    signals::Asked::StopNow => return Asked::Stop(Some(StopLevel::Immediate)),
                    signals::Asked::Nothing => continue,
                },
                Some(wish) = self.wished.recv() => wish,
            };
            match wish {
                Wish::Reload(reply) => return Asked::Reload(Some(reply)),
                // Whoever asked has given up.
                Wish::Ping(reply) => reply.send(()).unwrap_or_default(),
                Wish::Stop(level, reply) => {
                    self.waiting.push(reply);
                    return Asked::Stop(Some(level));
                }
            }
        }
    }
}

/// Who may call, and a token for the greeting.
fn authentication(config: &Config, setup: &Setup) -> Result<(Auth, String), ServeError> {
    match config.auth.mode {
        AuthMode::Disabled => {
            warn!("auth.mode is disabled: whoever reaches the listener is an administrator");
            Ok((Auth::disabled(), "none-needed".to_owned()))
        }
        AuthMode::Jwt => {
            let secret = signing_secret(config, &setup.state_dir, Missing::Generate)?;
            let token = mint(&secret, Role::Admin, WELCOME_TTL, Timestamp::now())?;
            Ok((Auth::jwt(&secret, config.auth.leeway)?, token))
        }
    }
}

type Greeting = (watch::Receiver<Stage>, String, String);

/// Resolves once jatis serves; never without a greeting.
async fn serving(greeting: &mut Option<Greeting>) {
    if let Some((stages, _, _)) = greeting
        && stages
            .wait_for(|stage| *stage == Stage::Serving)
            .await
            .is_ok()
    {
        return;
    }
    std::future::pending().await
}

fn greet(greeting: Option<Greeting>) {
    let Some((_, api, token)) = greeting else {
        return;
    };
    if let Err(error) = welcome::print(&mut stdout(), &api, &token) {
        warn!(%error, "the greeting could not be printed");
    }
}

/// Hurries a stop each time it is asked for again, and ends it when its time is over. Never returns.
async fn escalate(asking: &mut Asking, levels: watch::Sender<StopLevel>, limit: Duration) {
    let mut deadline = std::pin::pin!(tokio::time::sleep(limit));
    loop {
        tokio::select! {
            asked = asking.next() => match asked {
                Asked::Stop(asked) => levels.send_modify(|level| {
                    *level = harder(*level, asked);
                    info!(?level, "the stop is hurried");
                }),
                Asked::Reload(reply) => answer(reply, Err("jatis is stopping".to_owned())),
                Asked::Dump => {}
            },
            () = &mut deadline, if !deadline.is_elapsed() => {
                error!(?limit, "supervision.stop_timeout is over; the workers are killed");
                levels.send_replace(StopLevel::Immediate);
            }
        }
    }
}

/// The level of a stop that was asked for once more: what was asked, or the next one.
fn harder(level: StopLevel, asked: Option<StopLevel>) -> StopLevel {
    let next = match level {
        StopLevel::Drain => StopLevel::Fast,
        StopLevel::Fast | StopLevel::Immediate => StopLevel::Immediate,
    };
    asked.map_or(next, |asked| level.max(asked))
}

/// The rooms of a running supervisor.
struct Rooms {
    config: Arc<Config>,
    mint: Arc<Mint>,
    broker: Broker,
    fleet: Fleet,
    metrics: Metrics,
    stage: StageWatch,
    tenancy: Tenancy,
    messaging: Messaging,
    chronicle: Arc<Chronicle>,
}

impl Rooms {
    fn start(config: &Arc<Config>, stage: StageWatch) -> Result<Self, ServeError> {
        let db = Db::new(&config.database)?;
        let janitor = Janitor::new(db.clone(), &config.database)?;
        let (metrics, mint) = (Metrics::new(), Arc::new(Mint::above(0)));
        let broker = broker(config, &metrics)?;
        let waiters = waiters(&config.messages);
        let memories = Arc::new(Memories::default());
        let chronicle = Arc::new(Chronicle::new(config.admin.events));
        let signalled = Arc::new(Signalled::default());
        let hooks = hooks(&metrics, &waiters, &memories, &signalled, &chronicle);
        let fleet = fleet(config, hooks, &mint)?;
        let directory = Arc::new(Directory::default());
        let tenancy = Tenancy {
            db: db.clone(),
            broker: broker.clone(),
            fleet: fleet.clone(),
            directory: Arc::clone(&directory),
            depths: Arc::new(Depths::default()),
            memories,
            signalled,
            janitor,
            metrics: metrics.clone(),
            waiters: waiters.clone(),
            progress: Arc::new(Progress::default()),
            tasks: Tasks::default(),
            departures: Departures::new(config.supervision.converge_parallel),
            stage: stage.clone(),
            config: Arc::clone(config),
        };
        let messaging = Messaging {
            db,
            broker: broker.clone(),
            fleet: fleet.clone(),
            directory,
            mint: Arc::clone(&mint),
            waiters,
            stage: stage.clone(),
            config: Arc::clone(config),
        };
        let config = Arc::clone(config);
        Ok(Self {
            config,
            mint,
            broker,
            fleet,
            metrics,
            stage,
            tenancy,
            messaging,
            chronicle,
        })
    }

    fn app(&self, auth: Auth) -> Arc<App> {
        let vitals = self.vitals();
        Arc::new(App {
            config: Arc::clone(&self.config),
            tenancy: self.tenancy.clone(),
            messaging: self.messaging.clone(),
            metrics: self.metrics.clone(),
            auth,
            health: Arc::new(move || {
                let vitals = vitals.clone();
                Box::pin(async move { vitals.health().await })
            }),
        })
    }

    fn vitals(&self) -> Vitals {
        Vitals {
            tenancy: self.tenancy.clone(),
            mint: Arc::clone(&self.mint),
            stage: self.stage.clone(),
        }
    }

    fn sweeper(&self) -> Sweeper {
        Sweeper {
            db: self.tenancy.db.clone(),
            metrics: self.metrics.clone(),
            config: Arc::clone(&self.config),
        }
    }

    /// The operator's door; without it jatis works too.
    fn admin(&self, path: &Path, http: SocketAddr, wishes: mpsc::Sender<Wish>) -> Option<Admin> {
        let desk = Desk {
            tenancy: self.tenancy.clone(),
            vitals: self.vitals(),
            chronicle: Arc::clone(&self.chronicle),
            stage: self.stage.clone(),
            wishes,
            since: Timestamp::now(),
            http,
            keys: self.config.admin.clone(),
        };
        match Admin::start(path, desk) {
            Ok(admin) => Some(admin),
            Err(error @ SocketError::Taken(_)) => {
                warn!("operators' commands are not heard: {error}");
                None
            }
            Err(error @ (SocketError::NoGroup(_) | SocketError::Io { .. })) => {
                error!(error = %Chain(&error), "operators' commands are not heard");
                None
            }
        }
    }

    /// Writes what runs to the log.
    fn dump(&self) {
        for worker in self.fleet.snapshots() {
            info!(tenant.id = %worker.tenant, state = worker.state.as_str(), pid = worker.pid,
                generation = worker.generation, threads = worker.threads.live, unacked = worker.unacked,
                restarts = worker.restarts, last_exit = worker.last_exit,
                "tenant {} is {}", worker.tenant, worker.state.as_str());
        }
    }

    /// Stops everything in order: requests end, workers drain, connections close, and the database
    /// is given free last.
    async fn stop(
        &self,
        http: JoinHandle<()>,
        reign: JoinHandle<Result<Option<Installation>, StoreError>>,
        level: watch::Receiver<StopLevel>,
    ) -> Result<Vec<Snapshot>, ServeError> {
        http.await.map_err(ServeError::Fault)?;
        let hold = reign.await.map_err(ServeError::Fault)?;
        let left = self.fleet.stop_all(level).await;
        self.broker.close().await;
        if let Some(hold) = hold? {
            hold.release().await?;
        }
        Ok(left)
    }
}

/// A client may ask to wait where the others do not.
fn waiters(messages: &Messages) -> Waiters {
    let patience = Some(messages.wait_for_store).filter(|usual| !usual.is_zero());
    Waiters::new(
        usize::try_from(messages.max_waiting).unwrap_or(usize::MAX),
        patience.unwrap_or(messages.max_wait),
    )
}

fn broker(config: &Config, metrics: &Metrics) -> Result<Broker, ConnectError> {
    let metrics = metrics.clone();
    let published = Box::new(move |messages| metrics.observe_publish(messages));
    Broker::start(&config.rabbitmq, config.messages.publish_timeout, published)
}

/// Whom the fleet tells and asks.
fn hooks(
    metrics: &Metrics,
    waiters: &Waiters,
    memories: &Arc<Memories>,
    signalled: &Arc<Signalled>,
    chronicle: &Arc<Chronicle>,
) -> Hooks {
    let (recalled, remembered) = (Arc::clone(memories), Arc::clone(memories));
    let (signalled, chronicle) = (Arc::clone(signalled), Arc::clone(chronicle));
    let (waiters, processed, moved) = (waiters.clone(), metrics.clone(), metrics.clone());
    Hooks {
        recall: Box::new(move |tenant| recalled.recall(tenant)),
        remember: Box::new(move |tenant, memory| remembered.remember(tenant, memory)),
        signalled: Box::new(move |tenant, threads| signalled.note(tenant, threads)),
        moved: Box::new(move |transition| {
            moved.observe_transition(transition.to);
            chronicle.note(transition);
        }),
        stored: Box::new(move |ids| waiters.stored(ids)),
        progress: Box::new(move |tenant, progress| processed.progress(tenant, progress)),
    }
}

fn fleet(config: &Arc<Config>, hooks: Hooks, mint: &Arc<Mint>) -> Result<Fleet, ServeError> {
    let mint = Arc::clone(mint);
    let worker_path = worker_path(config)?;
    let settings = Settings {
        config: Arc::clone(config),
        worker_path,
    };
    Fleet::start(settings, hooks, move || mint.last()).map_err(ServeError::Spawner)
}

/// `supervision.worker_path`, else `jatis-worker` beside this program.
fn worker_path(config: &Config) -> Result<PathBuf, ServeError> {
    let configured = &config.supervision.worker_path;
    let path = if configured.is_empty() {
        let own = std::env::current_exe().map_err(ServeError::Path)?;
        own.with_file_name("jatis-worker")
    } else {
        std::path::absolute(configured).map_err(ServeError::Path)?
    };
    if path.is_file() {
        Ok(path)
    } else {
        Err(ServeError::NoWorker(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_asked_for_again_is_hurried() {
        use StopLevel::{Drain, Fast, Immediate};
        for (level, asked, expected) in [
            (Drain, None, Fast),
            (Fast, None, Immediate),
            (Immediate, None, Immediate),
            (Drain, Some(Immediate), Immediate),
            (Drain, Some(Drain), Drain),
            (Fast, Some(Drain), Fast),
            (Immediate, Some(Fast), Immediate),
        ] {
            assert_eq!(harder(level, asked), expected, "{level:?} {asked:?}");
        }
    }
}
