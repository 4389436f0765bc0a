//! The benchmark's own eyes in PostgreSQL.

use std::{
    collections::HashSet,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use jatis_shared::{
    ids::{MessageId, TenantId},
    schema::leaf,
};
use postgres::{Client, Config, NoTls};
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval},
};
use uuid::Uuid;

/// Between two looks at how many deleted tenants are left.
const PULSE: Duration = Duration::from_millis(250);

type Work = Box<dyn FnOnce(&mut Client) + Send>;

/// A session, on a thread of its own that ends with this: the client blocks, and must not be
/// dropped where async code runs.
pub(crate) struct Database {
    config: Config,
    /// Bound 1: one thing is asked of a session at a time.
    work: SyncSender<Work>,
}

/// A transaction that has read the messages of all tenants and stays open.
pub(crate) struct Reader(Database);

impl Database {
    /// Connects.
    ///
    /// # Errors
    /// When `url` is not PostgreSQL's, or it does not answer.
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let mut config: Config = url.parse().context("not a PostgreSQL address")?;
        config.application_name("jatis-bench");
        Self::connect(config).await
    }

    async fn connect(config: Config) -> Result<Self> {
        let (work, todo) = sync_channel::<Work>(1);
        let (told, connected) = oneshot::channel();
        let settings = config.clone();
        // It owns the client and ends when `work` is dropped; the process waits for nothing of it.
        thread::Builder::new()
            .name("database".to_owned())
            .spawn(move || match settings.connect(NoTls) {
                Ok(mut client) => {
                    let _asker_waits = told.send(Ok(()));
                    while let Ok(work) = todo.recv() {
                        work(&mut client);
                    }
                }
                Err(error) => {
                    let _asker_waits = told.send(Err(error));
                }
            })?;
        connected.await?.context("PostgreSQL does not answer")?;
        Ok(Self { config, work })
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Client) -> Result<T, postgres::Error> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |client| {
            let _asker_waits = answer.send(job(client));
        });
        let sent = self.work.send(work).ok();
        sent.context("the session with PostgreSQL is over")?;
        Ok(answered.await??)
    }

    /// The server's main process, if the server is on this host.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn backend(&self) -> Result<Option<u32>> {
        const BACKEND: &str = "
            SELECT CASE WHEN inet_server_addr() = inet_client_addr() THEN pg_backend_pid() END";
        let row = self.run(|client| client.query_one(BACKEND, &[])).await?;
        let pid: Option<i32> = row.try_get(0)?;
        Ok(pid.and_then(|pid| u32::try_from(pid).ok()))
    }

    /// Deleted tenants of which something is left.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn backlog(&self) -> Result<u64> {
        const BACKLOG: &str = "
            SELECT count(*)
              FROM tenants
             WHERE state IN ('deleting', 'dropping')";
        let row = self.run(|client| client.query_one(BACKLOG, &[])).await?;
        let backlog: i64 = row.try_get(0)?;
        Ok(u64::try_from(backlog)?)
    }

    /// Waits until nothing is left of deleted tenants.
    ///
    /// # Errors
    /// When PostgreSQL fails, or it takes longer than that.
    pub(crate) async fn drained(&self, within: Duration) -> Result<()> {
        let begun = Instant::now();
        let mut pulse = interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pulse.tick().await;
            let backlog = self.backlog().await?;
            if backlog == 0 {
                return Ok(());
            }
            anyhow::ensure!(
                begun.elapsed() < within,
                "after {within:?} something of {backlog} deleted tenants is still left"
            );
        }
    }

    /// Ids of the messages stored for a tenant.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn stored(&self, tenant: TenantId) -> Result<HashSet<MessageId>> {
        let ids = format!("SELECT id FROM {}", leaf(tenant));
        let rows = self.run(move |client| client.query(&ids, &[])).await?;
        let ids = rows
            .iter()
            .map(|row| row.try_get(0).map(|id: Uuid| MessageId::from(id)));
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// Dead letters of all tenants.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn dead(&self) -> Result<u64> {
        const DEAD: &str = "SELECT count(*) FROM dead_letters";
        let row = self.run(|client| client.query_one(DEAD, &[])).await?;
        let dead: i64 = row.try_get(0)?;
        Ok(u64::try_from(dead)?)
    }

    /// Begins to read the messages of all tenants, in a session of its own.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn read_on_and_on(&self) -> Result<Reader> {
        let reader = Self::connect(self.config.clone()).await?;
        reader
            .run(|client| client.batch_execute("BEGIN; SELECT count(*) FROM messages"))
            .await?;
        Ok(Reader(reader))
    }
}

impl Reader {
    /// Ends the transaction.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub(crate) async fn end(self) -> Result<()> {
        self.0.run(|client| client.batch_execute("COMMIT")).await
    }
}
