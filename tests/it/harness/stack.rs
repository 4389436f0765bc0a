//! A whole jatis of a test's own, and the judgement on it at the end.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use jatis_shared::ids::{MessageId, TenantId};
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;

use super::{
    blueprint::Blueprint,
    broker::Broker,
    client::Client,
    counts::{self, Truth},
    database::{Database, Session},
    environment::Environment,
    management::Management,
    oracle::Oracle,
    processes::Process,
    proxy::{Protocol, Proxy},
    supervisor::{Invocation, Ran, Supervisor},
    url::ServerUrl,
    wait,
};

/// A supervisor with its workers, on a database and a virtual host that no other test sees.
///
/// A test ends with [`Stack::finish`]; a stack that is dropped without it, in a test that does not
/// fail otherwise, fails it. What a failed test leaves in the servers stays there to be looked at.
pub(crate) struct Stack {
    pub(crate) client: Client,
    pub(crate) database: Database,
    pub(crate) broker: Broker,
    pub(super) environment: Environment,
    pub(super) blueprint: Blueprint,
    /// Of the database, the virtual host and the folder.
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) invocation: Invocation,
    pub(super) management: Management,
    oracle: Arc<Oracle>,
    broker_proxy: Option<Proxy>,
    database_proxy: Option<Proxy>,
    /// Those a test has made besides.
    pub(super) further_proxies: Vec<Proxy>,
    /// In the order of their starts. The last one is in charge, unless it was stopped.
    supervisors: Vec<Supervisor>,
    /// Every worker that a supervisor had when it was stopped.
    workers_seen: Vec<Process>,
    finished: bool,
}

impl Stack {
    /// A stack with the defaults of `config.yaml`.
    pub(crate) async fn start() -> Self {
        Blueprint::default().start().await
    }

    /// What shall be different from the defaults; ends with `start`.
    pub(crate) fn with() -> Blueprint {
        Blueprint::default()
    }

    /// The proxy in front of the broker.
    pub(crate) fn broker_proxy(&self) -> &Proxy {
        let proxy = self.broker_proxy.as_ref();
        proxy.expect("the blueprint asks for it")
    }

    /// The proxy in front of PostgreSQL.
    pub(crate) fn database_proxy(&self) -> &Proxy {
        let proxy = self.database_proxy.as_ref();
        proxy.expect("the blueprint asks for it")
    }

    /// The supervisor in charge.
    pub(crate) fn supervisor(&self) -> &Supervisor {
        self.supervisors.last().expect("one was started")
    }

    /// A tenant's token, minted by `jatis token`.
    pub(crate) fn tenant_token(&self, tenant: TenantId) -> String {
        self.invocation
            .token(&["--tenant", &tenant.to_string(), "--ttl", "1h"])
    }

    /// Runs a verb of `jatis` that ends by itself, with the stack's configuration.
    pub(crate) fn jatis(&self, verb: &str, arguments: &[&str]) -> Ran {
        self.invocation.run(verb, arguments)
    }

    /// The same, while the test's own servers and proxies go on.
    pub(crate) async fn operate(&self, verb: &'static str, arguments: &[&str]) -> Ran {
        self.operate_by(&self.invocation.program, verb, arguments)
            .await
    }

    /// The program that was built, whatever has become of the stack's own copy.
    pub(crate) fn jatis_program(&self) -> PathBuf {
        self.environment.jatis.clone()
    }

    /// The same as [`Self::operate`], by this program.
    pub(crate) async fn operate_by(
        &self,
        program: &Path,
        verb: &'static str,
        arguments: &[&str],
    ) -> Ran {
        let mut invocation = self.invocation.clone();
        program.clone_into(&mut invocation.program);
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let run = move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            invocation.run(verb, &arguments)
        };
        let ran = tokio::task::spawn_blocking(run).await;
        ran.expect("running a program does not panic")
    }

    /// How its programs are called.
    pub(crate) const fn invocation(&self) -> &Invocation {
        &self.invocation
    }

    /// The name and the address of a further database: the test may make it, the stack takes it
    /// away again.
    pub(crate) fn spare_database(&self) -> (String, String) {
        let name = spare(&self.name);
        let url = self.environment.database.with_path(&name);
        (name, url)
    }

    /// Whether the server has a database of this name.
    pub(crate) async fn has_database(&self, name: &str) -> bool {
        const NAMED: &str = "SELECT count(*) = 1 FROM pg_database WHERE datname = $1";
        let admin = Session::open(&self.environment.database.with_path("postgres")).await;
        let name = name.to_owned();
        let row = admin.run(move |client| client.query_one(NAMED, &[&name]));
        row.await.get(0)
    }

    /// The worker process of a tenant.
    pub(crate) async fn worker(&self, tenant: TenantId) -> Process {
        let shown = self.client.running(tenant).await;
        let pid = shown["runtime"]["pid"].as_i64();
        let workers = self.supervisor().workers();
        let worker = workers
            .into_iter()
            .find(|worker| Some(i64::from(worker.pid)) == pid);
        worker.unwrap_or_else(|| panic!("no child of the supervisor is the worker of {shown}"))
    }

    // ------------------------------------------------------------------------ stop and start

    /// SIGTERM; waits for the end, which must be clean: exit code 0 and no worker left.
    pub(crate) async fn stop(&mut self) {
        let workers = self.supervisor().workers();
        let supervisor = self.supervisors.last_mut().expect("one was started");
        supervisor.signal(Signal::SIGTERM);
        let status = supervisor.ended().await;
        assert_eq!(status.code(), Some(0), "SIGTERM must end it well: {status}");
        assert_gone(&workers);
        self.workers_seen.extend(workers);
    }

    /// `jatis drain`; waits for the end, which must be clean, and gives what it told.
    pub(crate) async fn drain(&mut self) -> Ran {
        let workers = self.supervisor().workers();
        let ran = self.operate("drain", &["--json"]).await.expect(0);
        self.workers_seen.extend(workers);
        self.ended(0).await;
        assert_gone(&self.workers_seen);
        ran
    }

    /// Waits until the supervisor has ended with this code, and no worker is left.
    pub(crate) async fn ended(&mut self, code: i32) {
        let workers = self.supervisor().workers();
        let supervisor = self.supervisors.last_mut().expect("one was started");
        let status = supervisor.ended().await;
        assert_eq!(status.code(), Some(code), "{status}");
        assert_gone(&workers);
        self.workers_seen.extend(workers);
    }

    /// SIGKILL; its workers, which are to end by themselves.
    pub(crate) async fn kill_supervisor(&mut self) -> Vec<Process> {
        let workers = self.supervisor().workers();
        let supervisor = self.supervisors.last_mut().expect("one was started");
        supervisor.signal(Signal::SIGKILL);
        supervisor.ended().await;
        self.workers_seen.extend(workers.iter().cloned());
        workers
    }

    /// Starts a supervisor and waits until it is ready; the client speaks to it from now on.
    pub(crate) async fn start_again(&mut self) {
        self.start_supervisor().await;
        self.ready().await;
    }

    /// Starts a supervisor, beside those that run; the client speaks to it from now on.
    pub(crate) async fn start_supervisor(&mut self) {
        let name = format!("supervisor-{}", self.supervisors.len() + 1);
        let arguments = &self.blueprint.arguments;
        let supervisor = Supervisor::start(&self.invocation, arguments, &self.folder, &name).await;
        self.client = client(&supervisor, &self.invocation, &self.oracle);
        self.supervisors.push(supervisor);
    }

    /// Stops the supervisor that was started before the last one.
    pub(crate) async fn stop_the_first(&mut self) {
        let last = self.supervisors.pop().expect("two were started");
        self.stop().await;
        self.supervisors.push(last);
    }

    /// Waits until the supervisor takes traffic.
    pub(crate) async fn ready(&self) {
        ready(&self.client).await;
    }

    // ------------------------------------------------------------------------ the judgement

    /// Waits until everything promised is settled, stops the supervisor, and checks what every
    /// test must leave behind. Then removes the stack's traces from the servers.
    pub(crate) async fn finish(mut self) {
        self.settled().await;
        self.at_rest().await;
        self.stop().await;
        self.nothing_left().await;
        let faults = self.faults().await;
        assert_eq!(faults, Vec::<String>::new(), "the promises were not kept");
        self.finished = true;
        self.remove().await;
    }

    /// Waits until all that was promised is stored or dead, and nothing contradicts the oracle.
    pub(crate) async fn settled(&self) {
        wait::until("everything promised is settled", async || {
            let promised = self.oracle.promised();
            let settled = self.database.settled_count().await;
            if settled < promised {
                return Err(format!("{settled} of {promised}"));
            }
            let faults = self.contradictions().await;
            if faults.is_empty() {
                Ok(())
            } else {
                Err(format!(
                    "{} faults, such as {:?}",
                    faults.len(),
                    faults.first()
                ))
            }
        })
        .await;
    }

    /// Waits until jatis itself says that no queue holds anything, and no tenant is leaving.
    async fn at_rest(&self) {
        wait::until("the queues are empty", async || {
            let depth = self.client.scrape().await.sum("message_queue_depth", &[]);
            if depth == 0.0 {
                Ok(())
            } else {
                Err(format!("{depth} deliveries"))
            }
        })
        .await;
        wait::until("deleted tenants are gone", async || {
            match self.database.tenants_leaving().await {
                0 => Ok(()),
                leaving => Err(format!("{leaving} still leaving")),
            }
        })
        .await;
    }

    /// Waits until no process and no connection of jatis is left.
    async fn nothing_left(&self) {
        // Those of a stopped supervisor are gone already; those of a killed one end by themselves.
        Process::ended(&self.workers_seen).await;
        wait::until("PostgreSQL has no session of jatis", async || {
            match self.database.sessions_of_jatis().await {
                0 => Ok(()),
                open => Err(format!("{open} open")),
            }
        })
        .await;
        self.broker.close().await;
        wait::until("RabbitMQ has no connection of jatis", async || {
            match self.management.connections(&self.name).await {
                0 => Ok(()),
                open => Err(format!("{open} open")),
            }
        })
        .await;
    }

    /// Where the tables and the client's own list contradict each other.
    async fn contradictions(&self) -> Vec<String> {
        let (stored, dead) = (self.database.stored().await, self.database.dead().await);
        self.oracle.faults(&stored, &dead)
    }

    /// Where the counts and the tables contradict each other.
    async fn miscounts(&self) -> Vec<String> {
        let (stored, dead) = (self.database.stored().await, self.database.dead().await);
        let truth = Truth {
            stored: &stored,
            dead: &dead,
            erased: &self.oracle.erasures(),
        };
        let counts = self.database.counts().await;
        // Older minutes may have been swept.
        let oldest = MessageId::floor(Timestamp::now() - SignedDuration::from_hours(190));
        counts::faults(&truth, &counts, oldest.minute())
    }

    /// Everything that no test may leave behind, but what this one declared.
    async fn faults(&self) -> Vec<String> {
        let mut faults = self.contradictions().await;
        faults.extend(self.miscounts().await);
        let (dead, wanted) = (self.database.dead().await, self.blueprint.dead_letters);
        if dead.len() != wanted {
            faults.push(format!(
                "{} dead letters, not {wanted}: {dead:?}",
                dead.len()
            ));
        }
        for supervisor in &self.supervisors {
            faults.extend(supervisor.log().faults(&self.blueprint.allowed_errors));
        }
        faults
    }

    async fn remove(self) {
        self.management.delete_vhost(&self.name).await;
        let admin = Session::open(&self.environment.database.with_path("postgres")).await;
        for database in [&self.name, &spare(&self.name)] {
            let drop = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
            admin.run(move |client| client.batch_execute(&drop)).await;
        }
        std::fs::remove_dir_all(&self.folder).expect("the folder is ours");
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for worker in &self.workers_seen {
            worker.kill();
        }
        if self.finished {
            return;
        }
        eprintln!(
            "---- left to be looked at: database and virtual host {}, folder {}",
            self.name,
            self.folder.display()
        );
        assert!(
            std::thread::panicking(),
            "the test does not end with stack.finish().await"
        );
    }
}

impl Blueprint {
    /// Starts the stack and waits until it is ready.
    pub(crate) async fn start(self) -> Stack {
        let environment = Environment::read();
        let name = random_name();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        std::fs::create_dir_all(&folder).expect("the target folder is writable");
        let management = Management::new(environment.management.clone());
        management.create_vhost(&name).await;
        let (broker_url, broker_proxy) = self.broker(&environment).await;
        let (database_url, database_proxy) = self.database(&environment).await;
        let program = if self.own_program {
            copies(&environment.jatis, &folder)
        } else {
            environment.jatis.clone()
        };
        let invocation = Invocation {
            program,
            config: folder.join("config.yaml"),
            jwt_secret: random_name(),
            mark: environment.mark.clone(),
            environment: self.environment.clone(),
        };
        let config = config(
            &folder,
            &format!("{}{}", broker_url.with_path(&name), self.broker_query),
            environment.coalesce,
            &database_url.with_path(&name),
        );
        std::fs::write(&invocation.config, config).expect("the folder is writable");

        let supervisor =
            Supervisor::start(&invocation, &self.arguments, &folder, "supervisor-1").await;
        let oracle = Arc::new(Oracle::default());
        let client = client(&supervisor, &invocation, &oracle);
        ready(&client).await;
        let broker = Broker::connect(&environment.broker.with_path(&name), &oracle).await;
        Stack {
            database: Database::open(&environment.database.with_path(&name)).await,
            broker,
            client,
            environment,
            blueprint: self,
            name,
            folder,
            invocation,
            management,
            oracle,
            broker_proxy,
            database_proxy,
            further_proxies: Vec::new(),
            supervisors: vec![supervisor],
            workers_seen: Vec::new(),
            finished: false,
        }
    }

    /// The broker as jatis is to see it.
    async fn broker(&self, environment: &Environment) -> (ServerUrl, Option<Proxy>) {
        let (server, protocol) = if self.broker_tls {
            (environment.broker_tls.clone(), Protocol::Amqps)
        } else {
            (environment.broker.clone(), Protocol::Amqp)
        };
        if !self.broker_proxy {
            return (server, None);
        }
        let proxy = Proxy::start("127.0.0.1", &server, protocol).await;
        (proxy.before(&server), Some(proxy))
    }

    /// PostgreSQL as jatis is to see it.
    async fn database(&self, environment: &Environment) -> (ServerUrl, Option<Proxy>) {
        let server = environment.database.clone();
        if !self.database_proxy {
            return (server, None);
        }
        let proxy = Proxy::start("127.0.0.1", &server, Protocol::Postgres).await;
        (proxy.before(&server), Some(proxy))
    }
}

/// Copies `jatis` and the worker beside it into a folder; gives the copy of `jatis`.
fn copies(jatis: &Path, folder: &Path) -> PathBuf {
    let copy = |program: &Path| {
        let name = program.file_name().expect("a program has a name");
        let copy = folder.join(name);
        std::fs::copy(program, &copy).expect("there is room");
        copy
    };
    copy(&jatis.with_file_name("jatis-worker"));
    copy(jatis)
}

fn client(supervisor: &Supervisor, invocation: &Invocation, oracle: &Arc<Oracle>) -> Client {
    let token = invocation.token(&["--role", "admin", "--ttl", "1h"]);
    Client::new(supervisor.address(), token, Arc::clone(oracle))
}

async fn ready(client: &Client) {
    wait::until("the supervisor is ready", async || {
        let answer = client.get("/health/ready").await;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer.to_string())
        }
    })
    .await;
}

/// Depths are read often, so that a test need not wait long for a queue to be seen empty. A post
/// waits long for its commit, so that 201 does not depend on the machine's speed.
fn config(folder: &Path, broker_url: &str, coalesce: bool, database_url: &str) -> String {
    format!(
        "state_dir: {}\n\
         rabbitmq:\n  url: {broker_url}\n  coalesce: {coalesce}\n\
         database:\n  url: {database_url}\n\
         http:\n  listen: 127.0.0.1:0\n\
         messages:\n  wait_for_store: 20s\n\
         supervision:\n  depth_interval: 300ms\n\
         log:\n  format: json\n",
        folder.display()
    )
}

/// The name of a stack's second database.
fn spare(name: &str) -> String {
    format!("{name}_spare")
}

/// Fit to be a database, a virtual host, a folder and a secret of more than 32 bytes.
fn random_name() -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the system has randomness");
    format!("jatis_it_{:032x}", u128::from_be_bytes(random))
}

fn assert_gone(workers: &[Process]) {
    let left: Vec<&Process> = workers.iter().filter(|worker| worker.exists()).collect();
    assert!(
        left.is_empty(),
        "workers outlived their supervisor: {left:?}"
    );
}
