//! `jatis serve`: wires the rooms, runs them, and stops them in order.
//!
//! ```text
//!   stop:  not ready ─▶ HTTP finishes what it has ─▶ workers drain ─▶ broker ─▶ hold released
//! ```

use std::{
    convert::Infallible,
    io::{self, stdout},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
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
    time::{Instant, timeout, timeout_at},
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
    fleet::{Fleet, Frozen, Hooks, Inherited, Settings, Snapshot, StopLevel},
    http::{App, Auth, BindError, Role, Server, TokenError, mint},
    manager::{self, Manager},
    messaging::{Messaging, Waiters},
    metrics::Metrics,
    reign::Reign,
    signals::{self, Keeper, Signals},
    stage::{Stage, StageWatch},
    store::{
        Db, Janitor, StoreError,
        installation::{Charge, Identity, Installation},
    },
    sweeper::Sweeper,
    tenancy::{Departures, Depths, Memories, Progress, Signalled, Tasks, Tenancy},
    upgrade::{self, Launch, Legacy, Page, UpgradeError},
    vitals::Vitals,
};

/// How long clients wait in the kernel for an image that takes over, before it takes their requests
/// and says what it waits for.
const TAKEN_UP: Duration = Duration::from_secs(10);
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
    #[error("the listener of the image before cannot be used")]
    Listener(#[source] io::Error),
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

/// How `serve` is to begin.
pub struct Beginning {
    /// Print the greeting once it serves.
    pub is_welcome: bool,
    /// How to begin it again.
    pub launch: Launch,
    /// Opens the gate for signals when they are handled.
    pub gate: Keeper,
    /// What another image of this program has left.
    pub legacy: Option<Legacy>,
}

/// Serves until SIGTERM or SIGINT, or an operator's command; returns when everything of jatis has
/// ended.
///
/// # Errors
/// When something that waiting cannot mend keeps it from starting.
pub async fn serve(setup: Setup, beginning: Beginning) -> Result<(), ServeError> {
    let Beginning {
        is_welcome,
        launch,
        gate,
        legacy,
    } = beginning;
    let config = Arc::new(setup.loaded.config.clone());
    let level = telemetry::start(&config.log)?;
    let signals = Signals::listen().map_err(ServeError::Signals)?;
    let (auth, token) = authentication(&config, &setup)?;
    let (server, inherited) = match legacy {
        Some(legacy) => {
            let server = Server::inherit(legacy.listener, &config.http);
            let server = server.map_err(ServeError::Listener)?;
            (server, Some((legacy.page, legacy.workers)))
        }
        None => (Server::bind(&config.http).await?, None),
    };
    let address = server.local_addr();
    let api = format!("http://{address}");
    info!(http.address = %address, "the API listens on {api}");

    let (stage, stages) = watch::channel(Stage::Starting("connecting to the database".to_owned()));
    let mut rooms = Rooms::start(&config, StageWatch(stages.clone()))?;
    let charge = inherited.map(|(page, workers)| rooms.inherit(page, workers));
    if charge.is_some() {
        upgrade::taken_over(&launch.program, rooms.fleet.tenants().len());
    }
    gate.open(true).await;
    let (wishes, wished) = mpsc::channel(usize::from(config.admin.max_clients));
    let manager = Manager::new(rooms.stage.clone(), rooms.fleet.clone(), wishes.clone());
    let listens = setup.env.contains_key("NOTIFY_SOCKET");
    let _manager = AbortOnDrop(tokio::spawn(manager.run(listens)));
    let admin = rooms.admin(&setup.admin_socket(), address, wishes);
    let mut service = Service {
        app: rooms.app(auth),
        rooms,
        server: Some(server),
        stage,
        leaving: Vec::new(),
        launch,
        gate,
        running: None,
    };
    service.begin(charge);

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
            next = asked.next() => match next {
                Asked::Reload(reply) => {
                    manager::reloading();
                    let outcome = reload.run(&service.rooms.fleet);
                    manager::reloaded();
                    answer(reply, outcome);
                }
                Asked::Dump => service.rooms.dump(),
                Asked::Upgrade(reply) => {
                    manager::reloading();
                    let stop = service.upgrade(&mut asked, reply).await;
                    manager::reloaded();
                    if let Some(level) = stop {
                        break level;
                    }
                }
                Asked::Stop(level) => break level.unwrap_or(StopLevel::Drain),
            },
            () = serving(&mut greeting) => greet(greeting.take()),
            // Unasked it ends only by what waiting cannot mend.
            ended = service.reign_ended() => {
                ended?;
                return Ok(());
            }
        }
    };
    info!("stopping");
    manager::stopping();
    let before = service.rooms.fleet.snapshots();
    let (levels, level) = watch::channel(level);
    let left = tokio::select! {
        left = service.stop(level) => left?,
        () = escalate(&mut asked, levels, config.supervision.stop_timeout) => Vec::new(),
    };
    farewell(asked, admin, admin::report(&before, &left)).await;
    info!("stopped");
    Ok(())
}

type Reigning = JoinHandle<Result<Option<Installation>, StoreError>>;

/// What is served, and what it takes to begin it again.
struct Service {
    rooms: Rooms,
    app: Arc<App>,
    /// Closed when jatis stops: whoever connects then is refused instead of left waiting.
    server: Option<Server>,
    stage: watch::Sender<Stage>,
    launch: Launch,
    gate: Keeper,
    /// Fronts that were to end and have not yet.
    leaving: Vec<JoinHandle<()>>,
    running: Option<Running>,
}

/// What runs while jatis serves.
struct Running {
    http: JoinHandle<()>,
    http_stop: CancellationToken,
    reign: Reigning,
    reign_stop: CancellationToken,
}

impl Service {
    /// Begins to reign, and to take requests: at once, or, with a charge of the image before, when
    /// it is taken up. Until then connects wait in the kernel.
    fn begin(&mut self, charge: Option<Charge>) {
        let (http_stop, reign_stop) = (CancellationToken::new(), CancellationToken::new());
        let (server, app, stop) = (
            self.server.clone(),
            Arc::clone(&self.app),
            http_stop.clone(),
        );
        let mut stages = self.rooms.stage.0.clone();
        let waits = charge.is_some();
        let http = tokio::spawn(async move {
            if waits {
                let serves = stages.wait_for(|stage| *stage == Stage::Serving);
                // Later the clients had better hear what it waits for.
                drop(timeout(TAKEN_UP, serves).await);
            }
            if let Some(server) = server {
                server.serve(app, stop).await;
            }
        });
        let reign = Reign {
            tenancy: self.rooms.tenancy.clone(),
            mint: Arc::clone(&self.rooms.mint),
            vitals: self.rooms.vitals(),
            sweeper: self.rooms.sweeper(),
            stage: self.stage.clone(),
            stop: reign_stop.clone(),
            charge,
        };
        self.running = Some(Running {
            http,
            http_stop,
            reign: tokio::spawn(reign.run()),
            reign_stop,
        });
    }

    /// Resolves when the reign ends, which it does by itself only by a fault.
    async fn reign_ended(&mut self) -> Result<(), ServeError> {
        match &mut self.running {
            Some(running) => {
                (&mut running.reign).await.map_err(ServeError::Fault)??;
                Ok(())
            }
            None => std::future::pending().await,
        }
    }

    /// Stops everything in order: requests end, workers drain, connections close, and the database
    /// is given free last.
    async fn stop(
        &mut self,
        level: watch::Receiver<StopLevel>,
    ) -> Result<Vec<Snapshot>, ServeError> {
        let Some(running) = self.running.take() else {
            return Ok(Vec::new());
        };
        drop(self.server.take());
        running.http_stop.cancel();
        running.reign_stop.cancel();
        running.http.await.map_err(ServeError::Fault)?;
        for front in self.leaving.drain(..) {
            front.await.map_err(ServeError::Fault)?;
        }
        let hold = running.reign.await.map_err(ServeError::Fault)?;
        let left = self.rooms.fleet.stop_all(level).await;
        self.rooms.broker.close().await;
        if let Some(hold) = hold? {
            hold.release().await?;
        }
        Ok(left)
    }

    /// Has the program that is there now take over. Returns when that has come to nothing, and
    /// everything goes on; gives the stop that was asked for meanwhile.
    async fn upgrade(
        &mut self,
        asked: &mut Asking,
        mut reply: Option<oneshot::Sender<Result<(), String>>>,
    ) -> Option<StopLevel> {
        info!("another image of jatis is asked to take over");
        let mut stop = None;
        let failure = match self.hand_over(asked, &mut reply, &mut stop).await {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        if let UpgradeError::Stopping = failure {
            info!("no upgrade: {failure}");
        } else {
            error!(
                error = failure.reason(),
                "no upgrade: jatis goes on as it is"
            );
        }
        if let Some(reply) = reply {
            // Whoever asked has the log, if it has left.
            reply.send(Err(failure.reason())).unwrap_or_default();
        }
        stop
    }

    async fn hand_over(
        &mut self,
        asked: &mut Asking,
        reply: &mut Option<oneshot::Sender<Result<(), String>>>,
        stop: &mut Option<StopLevel>,
    ) -> Result<Infallible, UpgradeError> {
        let keys = self.rooms.config.supervision.clone();
        if self.rooms.stage.now() != Stage::Serving {
            return Err(UpgradeError::NotServing);
        }
        self.launch.check(keys.upgrade_check_timeout).await?;
        let deadline = Instant::now() + keys.upgrade_timeout;
        let Some(running) = self.running.take() else {
            return Err(UpgradeError::NotServing);
        };
        let (charge, outcome) = self
            .stand_still(running, deadline, keys.upgrade_timeout)
            .await;
        let failure = match (outcome, &charge) {
            (Ok(workers), Some(charge)) => {
                self.gate.open(false).await;
                *stop = asked.stop_now();
                let failure = if stop.is_some() {
                    UpgradeError::Stopping
                } else {
                    if let Some(reply) = reply.take() {
                        reply.send(Ok(())).unwrap_or_default();
                        // The answer leaves before this image does.
                        tokio::task::yield_now().await;
                    }
                    let (page, frozen) = self.rooms.page(charge, workers);
                    match self.launch.exec(&page, self.server.as_ref(), &frozen) {
                        Ok(never) => match never {},
                        Err(failure) => failure,
                    }
                };
                self.gate.open(true).await;
                failure
            }
            (Ok(_), None) => UpgradeError::Charge,
            (Err(failure), _) => failure,
        };
        self.rooms.fleet.thaw();
        self.begin(charge);
        Err(failure)
    }

    /// Ends what runs, but for the workers, which stand still. Whatever comes of it, the charge is
    /// there to begin again with.
    async fn stand_still(
        &mut self,
        running: Running,
        deadline: Instant,
        limit: Duration,
    ) -> (Option<Charge>, Result<Vec<Frozen>, UpgradeError>) {
        let Running {
            mut http,
            http_stop,
            reign,
            reign_stop,
        } = running;
        http_stop.cancel();
        let quiet = timeout_at(deadline, &mut http).await.is_ok();
        if !quiet {
            self.leaving.push(http);
        }
        reign_stop.cancel();
        let charge = match reign.await {
            Ok(Ok(Some(hold))) => hold.hand_over().await.ok().flatten(),
            Ok(Ok(None) | Err(_)) | Err(_) => None,
        };
        let outcome = match &charge {
            _ if !quiet => Err(UpgradeError::Requests(limit)),
            Some(charge) if charge.is_reserved => {
                let left = deadline.saturating_duration_since(Instant::now());
                let frozen = self.rooms.fleet.freeze(left).await;
                // Those without a process travel by the database alone.
                let left = deadline.saturating_duration_since(Instant::now());
                let Tenancy { memories, db, .. } = &self.rooms.tenancy;
                memories.save_within(db, left).await;
                frozen.map_err(UpgradeError::Workers)
            }
            Some(_) | None => Err(UpgradeError::Charge),
        };
        (charge, outcome)
    }
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
    Upgrade(Option<oneshot::Sender<Result<(), String>>>),
    /// At least this hard; by a signal, harder each time.
    Stop(Option<StopLevel>),
}

impl Asking {
    /// A stop that has been asked for by now. Other things that have been are lost.
    fn stop_now(&mut self) -> Option<StopLevel> {
        while let Some(asked) = self.next().now_or_never() {
            match asked {
                Asked::Stop(level) => return Some(level.unwrap_or(StopLevel::Drain)),
                Asked::Reload(_) | Asked::Dump | Asked::Upgrade(_) => {}
            }
        }
        None
    }

    /// The next that is to be done. Cancel-safe.
    async fn next(&mut self) -> Asked {
        loop {
            let wish = tokio::select! {
                signal = self.signals.next() => match signal {
                    signals::Asked::Reload => return Asked::Reload(None),
                    signals::Asked::Dump => return Asked::Dump,
                    signals::Asked::Upgrade => return Asked::Upgrade(None),
                    signals::Asked::Stop => return Asked::Stop(None),
                    signals::Asked::StopNow => return Asked::Stop(Some(StopLevel::Immediate)),
                    signals::Asked::Nothing => continue,
                },
                Some(wish) = self.wished.recv() => wish,
            };
            match wish {
                Wish::Reload(reply) => return Asked::Reload(Some(reply)),
                Wish::Upgrade(reply) => return Asked::Upgrade(Some(reply)),
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
                // Whoever asked hears it by the end of its socket.
                Asked::Upgrade(_) => {}
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
    /// When the first image began.
    since: Timestamp,
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
            since: Timestamp::now(),
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
            since: self.since,
            http,
            followers: Desk::followers(&self.config.admin),
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

    /// Takes over what the image before has left; gives what it was in charge of.
    fn inherit(&mut self, page: Page, workers: Vec<Inherited>) -> Charge {
        self.since = page.since;
        self.mint.raise(page.last_tick);
        self.metrics.carry(page.samples);
        for worker in workers {
            let (tenant, pid) = (worker.carried.tenant, worker.carried.pid);
            if let Err(error) = self.fleet.adopt(worker) {
                error!(tenant.id = %tenant, pid, %error, "the worker of {tenant} cannot be taken over; it leaves by itself");
            }
        }
        Charge {
            identity: Identity {
                instance: page.instance,
                host: page.host,
                pid: std::process::id(),
            },
            epoch: page.epoch,
            is_reserved: true,
        }
    }

    /// What the next image is left.
    fn page(&self, charge: &Charge, workers: Vec<Frozen>) -> (Page, Vec<Frozen>) {
        let carried = workers.iter().map(|worker| worker.carried.clone());
        let page = Page {
            version: upgrade::VERSION,
            instance: charge.identity.instance,
            host: charge.identity.host.clone(),
            epoch: charge.epoch,
            last_tick: self.mint.last(),
            since: self.since,
            samples: self.metrics.samples(),
            workers: carried.collect(),
        };
        (page, workers)
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
