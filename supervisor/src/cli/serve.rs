//! `jatis serve`: wires the rooms, runs them, and stops them in order.
//!
//! ```text
//!   stop:  not ready ─▶ HTTP finishes what it has ─▶ workers drain ─▶ broker ─▶ hold released
//! ```

use std::{
    io::{self, stdout},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jatis_connect::amqp::ConnectError;
use jatis_shared::{
    config::{AuthMode, Config, Messages},
    ids::Mint,
    telemetry::{self, LogError},
};
use jiff::Timestamp;
use tokio::{
    sync::watch,
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
    broker::Broker,
    directory::Directory,
    fleet::{Fleet, Hooks, Settings, StopLevel},
    http::{App, Auth, BindError, Role, Server, TokenError, mint},
    messaging::{Messaging, Waiters},
    metrics::Metrics,
    reign::Reign,
    signals::{Asked, Signals},
    stage::{Stage, StageWatch},
    store::{Db, Janitor, StoreError, installation::Installation},
    sweeper::Sweeper,
    tenancy::{Departures, Depths, Memories, Progress, Tasks, Tenancy},
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

/// Serves until SIGTERM or SIGINT; returns when everything of jatis has ended.
///
/// # Errors
/// When something that waiting cannot mend keeps it from starting.
pub async fn serve(setup: Setup, is_welcome: bool) -> Result<(), ServeError> {
    let config = Arc::new(setup.loaded.config.clone());
    let level = telemetry::start(&config.log)?;
    let mut signals = Signals::listen().map_err(ServeError::Signals)?;
    let (auth, token) = authentication(&config, &setup)?;
    let server = Server::bind(&config.http).await?;
    let api = format!("http://{}", server.local_addr());
    info!(http.address = %server.local_addr(), "the API listens on {api}");

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

    let mut reload = Reload {
        arguments: setup.arguments,
        env: setup.env,
        loaded: setup.loaded,
        level,
    };
    let mut greeting = is_welcome.then_some((stages, api, token));
    let asked = loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Reload => reload.run(),
                Asked::Dump => rooms.dump(),
                Asked::Nothing => {}
                Asked::Stop | Asked::StopNow => break asked,
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
    let (levels, level) = watch::channel(StopLevel::Drain);
    stop.cancel();
    tokio::select! {
        stopped = rooms.stop(http, reign, level) => stopped?,
        () = escalate(signals, asked, levels, config.supervision.stop_timeout) => {}
    }
    info!("stopped");
    Ok(())
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
async fn escalate(
    mut signals: Signals,
    first: Asked,
    levels: watch::Sender<StopLevel>,
    limit: Duration,
) {
    if first == Asked::StopNow {
        levels.send_replace(StopLevel::Immediate);
    }
    let mut deadline = std::pin::pin!(tokio::time::sleep(limit));
    loop {
        tokio::select! {
            asked = signals.next() => levels.send_modify(|level| *level = harder(*level, asked)),
            () = &mut deadline, if !deadline.is_elapsed() => {
                error!(?limit, "supervision.stop_timeout is over; the workers are killed");
                levels.send_replace(StopLevel::Immediate);
            }
        }
    }
}

/// The level of a stop that was asked for once more.
const fn harder(level: StopLevel, asked: Asked) -> StopLevel {
    match (asked, level) {
        (Asked::Stop, StopLevel::Drain) => StopLevel::Fast,
        (Asked::StopNow, _) | (Asked::Stop, StopLevel::Fast | StopLevel::Immediate) => {
            StopLevel::Immediate
        }
        (Asked::Reload | Asked::Dump | Asked::Nothing, level) => level,
    }
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
}

impl Rooms {
    fn start(config: &Arc<Config>, stage: StageWatch) -> Result<Self, ServeError> {
        let db = Db::new(&config.database)?;
        let janitor = Janitor::new(db.clone(), &config.database)?;
        let (metrics, mint) = (Metrics::new(), Arc::new(Mint::above(0)));
        let broker = broker(config, &metrics)?;
        let waiters = waiters(&config.messages);
        let memories = Arc::new(Memories::default());
        let fleet = fleet(config, &metrics, &waiters, &mint, &memories)?;
        let directory = Arc::new(Directory::default());
        let tenancy = Tenancy {
            db: db.clone(),
            broker: broker.clone(),
            fleet: fleet.clone(),
            directory: Arc::clone(&directory),
            depths: Arc::new(Depths::default()),
            memories,
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
        self,
        http: JoinHandle<()>,
        reign: JoinHandle<Result<Option<Installation>, StoreError>>,
        level: watch::Receiver<StopLevel>,
    ) -> Result<(), ServeError> {
        http.await.map_err(ServeError::Fault)?;
        let hold = reign.await.map_err(ServeError::Fault)?;
        self.fleet.stop_all(level).await;
        self.broker.close().await;
        if let Some(hold) = hold? {
            hold.release().await?;
        }
        Ok(())
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

fn fleet(
    config: &Arc<Config>,
    metrics: &Metrics,
    waiters: &Waiters,
    mint: &Arc<Mint>,
    memories: &Arc<Memories>,
) -> Result<Fleet, ServeError> {
    let (metrics, waiters, mint) = (metrics.clone(), waiters.clone(), Arc::clone(mint));
    let (recalled, remembered, moved) =
        (Arc::clone(memories), Arc::clone(memories), metrics.clone());
    let hooks = Hooks {
        recall: Box::new(move |tenant| recalled.recall(tenant)),
        remember: Box::new(move |tenant, memory| remembered.remember(tenant, memory)),
        moved: Box::new(move |transition| moved.observe_transition(transition.to)),
        stored: Box::new(move |ids| waiters.stored(ids)),
        progress: Box::new(move |tenant, progress| metrics.progress(tenant, progress)),
    };
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
            (Drain, Asked::Stop, Fast),
            (Fast, Asked::Stop, Immediate),
            (Immediate, Asked::Stop, Immediate),
            (Drain, Asked::StopNow, Immediate),
            (Fast, Asked::Reload, Fast),
        ] {
            assert_eq!(harder(level, asked), expected, "{level:?} {asked:?}");
        }
    }
}
