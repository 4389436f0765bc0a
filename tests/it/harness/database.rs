//! The tests' own eyes and hands in PostgreSQL.

use std::{
    collections::BTreeSet,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use jatis_shared::{
    ids::{MessageId, TenantId, TenantNumber},
    schema,
};
use postgres::{Client, NoTls};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

use super::{
    counts::CountRow,
    oracle::{DeadRow, StoredRow},
    wait,
};

/// How the tests' sessions call themselves; those of jatis start with its name.
const APPLICATION_NAME: &str = "tests";
/// What a session of jatis calls itself, as a LIKE pattern.
const JATIS_SESSIONS: &str = "jatis%";

type Work = Box<dyn FnOnce(&mut Client) + Send>;

/// One session, on a thread of its own: the client blocks, and must not be dropped on a reactor.
#[derive(Debug)]
pub(crate) struct Session {
    /// Bound 1: a test asks one thing of a session at a time. Closed to end the thread.
    work: Option<SyncSender<Work>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Session {
    /// Connects to `url`, which names a database.
    pub(crate) async fn open(url: &str) -> Self {
        let (work, todo) = sync_channel::<Work>(1);
        let mut config: postgres::Config = url.parse().expect("the URL is PostgreSQL's");
        config.application_name(APPLICATION_NAME);
        let (opened, open) = oneshot::channel();
        let thread = thread::spawn(move || {
            let mut client = config.connect(NoTls).expect("PostgreSQL takes sessions");
            let _caller_waits = opened.send(());
            while let Ok(work) = todo.recv() {
                work(&mut client);
            }
        });
        open.await.expect("PostgreSQL takes sessions");
        Self {
            work: Some(work),
            thread: Some(thread),
        }
    }

    /// Runs `work` in the session and waits for it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Client) -> Result<T, postgres::Error> + Send + 'static,
    ) -> T {
        let (answer, answered) = oneshot::channel();
        let sender = self.work.as_ref().expect("the session is open");
        let work: Work = Box::new(move |client| {
            let _caller_waits = answer.send(work(client));
        });
        sender.send(work).expect("the session's thread lives");
        let result = answered.await.expect("the session's thread lives");
        result.unwrap_or_else(|error| panic!("a statement of the test failed: {error:?}"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("a session with PostgreSQL failed");
        }
    }
}

/// The database of one stack.
#[derive(Debug)]
pub(crate) struct Database {
    url: String,
    pub(super) session: Session,
}

/// A transaction of the test that keeps locks until it ends.
#[derive(Debug)]
pub(crate) struct Holder(Session);

impl Holder {
    /// Ends the transaction and with it the locks.
    pub(crate) async fn release(self) {
        self.0.run(|client| client.batch_execute("COMMIT")).await;
    }

    /// The same, and nothing of it has happened.
    pub(crate) async fn abandon(self) {
        self.0.run(|client| client.batch_execute("ROLLBACK")).await;
    }
}

/// Counts the sessions of jatis without end, in a session of its own.
#[derive(Debug)]
pub(crate) struct SessionWatch {
    /// Closed to end it.
    going: watch::Sender<()>,
    most: JoinHandle<i64>,
}

impl SessionWatch {
    fn start(session: Session) -> Self {
        let (going, watched) = watch::channel(());
        let most = tokio::spawn(async move {
            let mut most = 0;
            while watched.has_changed().is_ok() {
                let row =
                    session.run(|client| client.query_one(SESSIONS_OF_JATIS, &[&JATIS_SESSIONS]));
                most = most.max(row.await.get(0));
            }
            most
        });
        Self { going, most }
    }

    /// Ends the watch; the most sessions that were open at a time.
    pub(crate) async fn most(self) -> i64 {
        drop(self.going);
        self.most.await.expect("the watch does not panic")
    }
}

const SESSIONS_OF_JATIS: &str = "
    SELECT count(*)
      FROM pg_stat_activity
     WHERE datname = current_database()
       AND application_name LIKE $1";

impl Database {
    pub(crate) async fn open(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            session: Session::open(url).await,
        }
    }

    /// Makes every insert into a tenant's leaf wait, while reading goes on.
    pub(crate) async fn lock_leaf(&self, tenant: TenantId) -> Holder {
        let leaf = schema::leaf(tenant);
        self.hold(format!("LOCK TABLE {leaf} IN SHARE MODE")).await
    }

    /// Lets the inserts happen that wait for the lock on a tenant's leaf, and none after them.
    pub(crate) async fn let_inserts_through(&self, tenant: TenantId, lock: Holder) -> Holder {
        // A lock that is asked for now is behind the inserts that wait, and before all others.
        let queued = async {
            wait::until("the second lock is asked for", async || {
                match self
                    .waiting_for_leaf(tenant, APPLICATION_NAME, "ShareLock")
                    .await
                {
                    0 => Err("not yet".to_owned()),
                    _ => Ok(()),
                }
            })
            .await;
            lock.release().await;
        };
        let (again, ()) = tokio::join!(self.lock_leaf(tenant), queued);
        again
    }

    /// Keeps every change of messages from being committed, while leaves can be read and written.
    pub(crate) async fn lock_counts(&self) -> Holder {
        self.hold("LOCK TABLE message_counts IN SHARE MODE".to_owned())
            .await
    }

    /// Makes every insert into these tenants' leaves wait, while reading goes on.
    pub(crate) async fn lock_leaves(&self, tenants: &[TenantId]) -> Holder {
        let leaves: Vec<String> = tenants.iter().map(|tenant| schema::leaf(*tenant)).collect();
        let leaves = leaves.join(", ");
        self.hold(format!("LOCK TABLE {leaves} IN SHARE MODE"))
            .await
    }

    /// Reads all tenants' messages in a transaction that stays open.
    pub(crate) async fn read_messages_on_and_on(&self) -> Holder {
        self.hold("SELECT count(*) FROM messages".to_owned()).await
    }

    /// Looks at the sessions that jatis has open, as often as it can, from now on.
    pub(crate) async fn watch_sessions(&self) -> SessionWatch {
        SessionWatch::start(Session::open(&self.url).await)
    }

    /// Keeps everybody from migrating the schema and from creating tenants.
    pub(crate) async fn lock_schema(&self) -> Holder {
        let lock = schema::LOCK_CREATE;
        self.hold(format!("SELECT pg_advisory_xact_lock({lock})"))
            .await
    }

    /// Notes a migration that no build has, as a later jatis would.
    pub(crate) async fn note_migration(&self, version: i32) {
        const NOTE: &str = "
            INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
            SELECT $1, 'of_tomorrow', applied_on, checksum
              FROM refinery_schema_history
             LIMIT 1";
        self.session
            .run(move |client| client.execute(NOTE, &[&version]))
            .await;
    }

    /// Tables of jatis, and the one that says which migrations were applied.
    pub(crate) async fn tables(&self) -> i64 {
        const TABLES: &str = "
            SELECT count(*)
              FROM information_schema.tables
             WHERE table_schema = 'public'";
        self.session
            .run(|client| client.query_one(TABLES, &[]))
            .await
            .get(0)
    }

    /// Opens a transaction with this statement, and keeps it open.
    pub(super) async fn hold(&self, statement: String) -> Holder {
        let session = Session::open(&self.url).await;
        session
            .run(move |client| client.batch_execute(&format!("BEGIN; {statement}")))
            .await;
        Holder(session)
    }

    /// Inserts of jatis that wait for a lock on a tenant's leaf.
    pub(crate) async fn waiting_inserts(&self, tenant: TenantId) -> i64 {
        self.waiting_for_leaf(tenant, JATIS_SESSIONS, "RowExclusiveLock")
            .await
    }

    /// Sessions of that name, a LIKE pattern, that wait for this lock on a tenant's leaf.
    async fn waiting_for_leaf(
        &self,
        tenant: TenantId,
        sessions: &'static str,
        lock: &'static str,
    ) -> i64 {
        const WAITING: &str = "
            SELECT count(DISTINCT activity.pid)
              FROM pg_stat_activity AS activity
              JOIN pg_locks AS lock ON lock.pid = activity.pid
             WHERE activity.datname = current_database()
               AND activity.application_name LIKE $1
               AND activity.wait_event_type = 'Lock'
               AND NOT lock.granted
               AND lock.relation = to_regclass($2)
               AND lock.mode = $3";
        let leaf = schema::leaf(tenant);
        self.session
            .run(move |client| client.query_one(WAITING, &[&sessions, &leaf, &lock]))
            .await
            .get(0)
    }

    /// Ends the sessions of jatis that wait for a lock: one that waits does not notice that its
    /// worker is dead, and keeps what it has locked itself.
    pub(crate) async fn end_waiting(&self) {
        const END: &str = "
            SELECT pg_terminate_backend(pid)
              FROM pg_stat_activity
             WHERE datname = current_database()
               AND application_name LIKE $1
               AND wait_event_type = 'Lock'";
        self.session
            .run(|client| client.query(END, &[&JATIS_SESSIONS]))
            .await;
    }

    /// Sessions of jatis that wait for a lock.
    pub(crate) async fn waiting_for_locks(&self) -> i64 {
        const WAITING: &str = "
            SELECT count(*)
              FROM pg_stat_activity
             WHERE datname = current_database()
               AND application_name LIKE $1
               AND wait_event_type = 'Lock'";
        self.session
            .run(|client| client.query_one(WAITING, &[&JATIS_SESSIONS]))
            .await
            .get(0)
    }

    /// Waits until a supervisor has noted so many quarantines in a row of a tenant's worker.
    pub(crate) async fn until_quarantined(&self, tenant: TenantId, times: i16) {
        const STEP: &str = "
            SELECT probe_step
              FROM tenant_runtime
             WHERE tenant_id = $1
               AND quarantined_until IS NOT NULL";
        let id = tenant.uuid();
        wait::until("the quarantine is noted", async || {
            let noted = self
                .session
                .run(move |client| client.query_opt(STEP, &[&id]))
                .await
                .map(|row| row.get::<_, i16>(0));
            match noted {
                Some(step) if step == times => Ok(()),
                _other => Err(format!("{noted:?}, not {times}")),
            }
        })
        .await;
    }

    /// Sessions that jatis has open.
    pub(crate) async fn sessions_of_jatis(&self) -> i64 {
        self.session
            .run(|client| client.query_one(SESSIONS_OF_JATIS, &[&JATIS_SESSIONS]))
            .await
            .get(0)
    }

    /// Sessions that workers have open.
    pub(crate) async fn sessions_of_workers(&self) -> usize {
        const SESSIONS: &str = "
            SELECT count(*)
              FROM pg_stat_activity
             WHERE datname = current_database()
               AND application_name LIKE 'jatis worker%'";
        let row = self
            .session
            .run(|client| client.query_one(SESSIONS, &[]))
            .await;
        usize::try_from(row.get::<_, i64>(0)).expect("a count is not negative")
    }

    /// The number in a tenant's message ids.
    pub(crate) async fn number(&self, tenant: TenantId) -> TenantNumber {
        const NUMBER: &str = "SELECT number FROM tenants WHERE id = $1";
        let row = self
            .session
            .run(move |client| client.query_one(NUMBER, &[&tenant.uuid()]))
            .await;
        let number: i32 = row.get(0);
        let number = u32::try_from(number).expect("a number is positive");
        TenantNumber::try_from(number).expect("a number has 24 bits")
    }

    /// How many messages of a tenant are stored; its leaf exists.
    pub(crate) async fn stored_count(&self, tenant: TenantId) -> i64 {
        let count = format!("SELECT count(*) FROM {}", schema::leaf(tenant));
        self.session
            .run(move |client| client.query_one(&count, &[]))
            .await
            .get(0)
    }

    /// The ids in a tenant's leaf, which exists: it stays while a test reads it, even when the tenant
    /// is gone for clients.
    pub(crate) async fn stored_ids(&self, tenant: TenantId) -> BTreeSet<MessageId> {
        let ids = format!("SELECT id FROM {}", schema::leaf(tenant));
        let rows = self
            .session
            .run(move |client| client.query(&ids, &[]))
            .await;
        let id = |row: &postgres::Row| MessageId::from(row.get::<_, uuid::Uuid>(0));
        rows.iter().map(id).collect()
    }

    /// Makes every creation of a tenant wait.
    pub(crate) async fn lock_creation(&self) -> Holder {
        self.hold("LOCK TABLE ONLY messages IN SHARE UPDATE EXCLUSIVE MODE".to_owned())
            .await
    }

    /// Sessions of jatis that wait for a lock.
    pub(crate) async fn waiting_sessions(&self) -> i64 {
        const WAITING: &str = "
            SELECT count(*)
              FROM pg_stat_activity
             WHERE datname = current_database()
               AND application_name LIKE $1
               AND wait_event_type = 'Lock'";
        self.session
            .run(|client| client.query_one(WAITING, &[&JATIS_SESSIONS]))
            .await
            .get(0)
    }

    /// Messages stored and dead, of all tenants.
    pub(crate) async fn settled_count(&self) -> u64 {
        const SETTLED: &str = "
            SELECT (SELECT count(*) FROM messages)
                 + (SELECT count(*) FROM dead_letters)";
        let row = self
            .session
            .run(|client| client.query_one(SETTLED, &[]))
            .await;
        u64::try_from(row.get::<_, i64>(0)).expect("a count is not negative")
    }

    /// Every stored message.
    pub(crate) async fn stored(&self) -> Vec<StoredRow> {
        const STORED: &str = "SELECT id, tenant_id, payload::text FROM messages";
        let rows = self.session.run(|client| client.query(STORED, &[])).await;
        let stored = |row: &postgres::Row| StoredRow {
            id: MessageId::from(row.get::<_, uuid::Uuid>(0)),
            tenant: TenantId::from(row.get::<_, uuid::Uuid>(1)),
            payload: row.get(2),
        };
        rows.iter().map(stored).collect()
    }

    /// Every dead letter.
    pub(crate) async fn dead(&self) -> Vec<DeadRow> {
        const DEAD: &str = "SELECT message_id, tenant_id, payload, reason FROM dead_letters";
        let rows = self.session.run(|client| client.query(DEAD, &[])).await;
        let dead = |row: &postgres::Row| DeadRow {
            message_id: MessageId::from(row.get::<_, uuid::Uuid>(0)),
            tenant: TenantId::from(row.get::<_, uuid::Uuid>(1)),
            payload: row.get(2),
            reason: row.get(3),
        };
        rows.iter().map(dead).collect()
    }

    /// Every count, over all slots.
    pub(crate) async fn counts(&self) -> Vec<CountRow> {
        const COUNTS: &str = "
            SELECT tenant_id, bucket, origin,
                   sum(stored)::bigint, sum(dead)::bigint, sum(deleted)::bigint
              FROM message_counts
             GROUP BY tenant_id, bucket, origin";
        let rows = self.session.run(|client| client.query(COUNTS, &[])).await;
        let count = |row: &postgres::Row| CountRow {
            tenant: TenantId::from(row.get::<_, uuid::Uuid>(0)),
            bucket: row.get(1),
            origin: row.get(2),
            stored: row.get(3),
            dead: row.get(4),
            deleted: row.get(5),
        };
        rows.iter().map(count).collect()
    }

    /// Writes that another supervisor, which is nowhere, has taken the database over for an hour.
    pub(crate) async fn usurp(&self) {
        const USURP: &str = "
            UPDATE installation
               SET epoch = epoch + 1,
                   instance = gen_random_uuid(),
                   host = 'elsewhere',
                   pid = 1,
                   hold_until = now() + interval '1 hour'";
        self.session.run(|client| client.batch_execute(USURP)).await;
    }

    /// Ends the usurper's hour.
    pub(crate) async fn depose(&self) {
        const DEPOSE: &str = "UPDATE installation SET hold_until = NULL";
        self.session
            .run(|client| client.batch_execute(DEPOSE))
            .await;
    }

    /// Tables that hold anything of a tenant, its leaf among them if it exists.
    pub(crate) async fn traces(&self, tenant: TenantId) -> Vec<String> {
        self.session.run(move |client| traces(client, tenant)).await
    }

    /// Tables that may hold rows of a tenant, besides its leaf.
    pub(crate) async fn tables_of_tenants(&self) -> Vec<String> {
        let rows = self
            .session
            .run(|client| client.query(TABLES_OF_TENANTS, &[]))
            .await;
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Tenants that are being deleted.
    pub(crate) async fn tenants_leaving(&self) -> i64 {
        const LEAVING: &str =
            "SELECT count(*) FROM tenants WHERE state NOT IN ('active', 'paused', 'stopped')";
        self.session
            .run(|client| client.query_one(LEAVING, &[]))
            .await
            .get(0)
    }
}

/// Tables with a tenant's id in them, known to the tests or not, and the column that has it. Leaves
/// are not among them.
const TABLES_OF_TENANTS: &str = "
    SELECT DISTINCT c.table_name::text, c.column_name::text
      FROM information_schema.columns AS c
      JOIN information_schema.tables AS t USING (table_schema, table_name)
     WHERE c.table_schema = 'public'
       AND t.table_type = 'BASE TABLE'
       AND NOT starts_with(c.table_name, 'messages_')
       AND (c.column_name = 'tenant_id' OR (c.table_name = 'tenants' AND c.column_name = 'id'))";

fn traces(client: &mut Client, tenant: TenantId) -> Result<Vec<String>, postgres::Error> {
    let mut found = Vec::new();
    for row in client.query(TABLES_OF_TENANTS, &[])? {
        let (table, column): (String, String) = (row.get(0), row.get(1));
        let rows = format!("SELECT count(*) FROM {table} WHERE {column} = $1");
        if client.query_one(&rows, &[&tenant.uuid()])?.get::<_, i64>(0) > 0 {
            found.push(table);
        }
    }
    let leaf = schema::leaf(tenant);
    let exists = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&leaf])?;
    if exists.get(0) {
        found.push(leaf);
    }
    Ok(found)
}
