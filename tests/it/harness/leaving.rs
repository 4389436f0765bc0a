//! What a test puts in the way of a deleted tenant's end, and what it sees of that.

use jatis_shared::{ids::TenantId, schema};

use super::{
    database::{Database, Holder},
    wait,
};

/// Rows that [`Database::fill_tables`] puts into each table whose key allows it.
const ROWS: i32 = 3;

impl Database {
    /// Reads one tenant's leaf in a transaction that stays open.
    pub(crate) async fn read_leaf_on_and_on(&self, tenant: TenantId) -> Holder {
        let leaf = schema::leaf(tenant);
        self.hold(format!("SELECT count(*) FROM {leaf}")).await
    }

    /// Reads one tenant's messages through the table of all, in a transaction that stays open and
    /// goes on seeing everything as it is now. The other leaves are not touched.
    pub(crate) async fn read_beside_on_and_on(&self, tenant: TenantId) -> Holder {
        self.hold(format!(
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
             SELECT count(*) FROM messages WHERE tenant_id = '{tenant}'"
        ))
        .await
    }

    /// Keeps every janitor from its work.
    pub(crate) async fn keep_the_janitor_away(&self) -> Holder {
        let lock = schema::LOCK_JANITOR;
        self.hold(format!("SELECT pg_advisory_xact_lock({lock})"))
            .await
    }

    /// Takes a tenant's leaf from its parent, as the janitor does.
    pub(crate) async fn detach(&self, tenant: TenantId) {
        let leaf = schema::leaf(tenant);
        let detach = format!("ALTER TABLE messages DETACH PARTITION {leaf} CONCURRENTLY");
        self.session
            .run(move |client| client.batch_execute(&detach))
            .await;
    }

    /// Keeps the last row of a tenant in a table from being deleted.
    pub(crate) async fn lock_row(&self, table: &str, tenant: TenantId) -> Holder {
        let column = if table == "tenants" {
            "id"
        } else {
            "tenant_id"
        };
        self.hold(format!(
            "SELECT FROM {table} WHERE {column} = '{tenant}' ORDER BY ctid DESC LIMIT 1 FOR UPDATE"
        ))
        .await
    }

    /// Puts rows of a tenant into every table that may have some, besides its leaf.
    pub(crate) async fn fill_tables(&self, tenant: TenantId) {
        let fill = format!(
            "BEGIN;
             INSERT INTO tenant_runtime (tenant_id)
             VALUES ('{tenant}') ON CONFLICT DO NOTHING;
             INSERT INTO dead_letters
                    (tenant_id, id, message_id, payload, reason, first_failed_at, dead_at)
             SELECT '{tenant}', gen_random_uuid(), gen_random_uuid(), '', 'test', now(), now()
               FROM generate_series(1, {ROWS});
             INSERT INTO message_tombstones (tenant_id, id)
             SELECT '{tenant}', gen_random_uuid() FROM generate_series(1, {ROWS});
             INSERT INTO message_counts (tenant_id, bucket, origin, slot)
             SELECT '{tenant}', extract(epoch FROM now())::integer / 60 + minute, 0, 7
               FROM generate_series(1, {ROWS}) AS minute;
             INSERT INTO accept_counts (tenant_id, epoch)
             SELECT '{tenant}', -epoch FROM generate_series(1, {ROWS}) AS epoch;
             INSERT INTO amqp_keys (tenant_id, key, message_id)
             SELECT '{tenant}', int4send(key), gen_random_uuid()
               FROM generate_series(1, {ROWS}) AS key;
             INSERT INTO idempotency_keys (tenant_id, key, body_sha256, message_id, state)
             SELECT '{tenant}', key, sha256(''), gen_random_uuid(), 'open'
               FROM generate_series(1, {ROWS}) AS key;
             COMMIT"
        );
        self.session
            .run(move |client| client.batch_execute(&fill))
            .await;
    }

    /// Whether a tenant's leaf is half detached: invisible to new readers, and not free of the old.
    pub(crate) async fn is_detach_pending(&self, tenant: TenantId) -> bool {
        const PENDING: &str = "
            SELECT count(*) = 1
              FROM pg_inherits
             WHERE inhrelid = to_regclass($1)
               AND inhdetachpending";
        let leaf = schema::leaf(tenant);
        self.session
            .run(move |client| client.query_one(PENDING, &[&leaf]))
            .await
            .get(0)
    }

    /// Waits until a tenant's leaf is half detached.
    pub(crate) async fn detach_pending(&self, tenant: TenantId) {
        wait::until("the detach is pending", async || {
            if self.is_detach_pending(tenant).await {
                Ok(())
            } else {
                Err("not yet".to_owned())
            }
        })
        .await;
    }

    /// Waits until a supervisor waits for a lock with a statement that begins so; its session's
    /// process.
    pub(crate) async fn supervisor_waits_at(&self, statement: &str) -> i32 {
        const WAITING: &str = "
            SELECT pid
              FROM pg_stat_activity
             WHERE datname = current_database()
               AND application_name = 'jatis supervisor'
               AND wait_event_type = 'Lock'
               AND starts_with(query, $1)";
        let what = format!("a supervisor waits at {statement}");
        wait::until(&what, async || {
            let statement = statement.to_owned();
            let waiting = self
                .session
                .run(move |client| client.query_opt(WAITING, &[&statement]))
                .await;
            waiting
                .map(|row| row.get(0))
                .ok_or_else(|| "none does".to_owned())
        })
        .await
    }

    /// The session's process that keeps other janitors away; none when nobody does.
    pub(crate) async fn janitor(&self) -> Option<i32> {
        // An advisory lock of 64 bits is shown as its two halves.
        const HOLDER: &str = "
            SELECT pid
              FROM pg_locks
             WHERE locktype = 'advisory'
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
               AND (classid::bigint << 32) | objid::bigint = $1
               AND granted";
        let held = self
            .session
            .run(|client| client.query_opt(HOLDER, &[&schema::LOCK_JANITOR]))
            .await;
        held.map(|row| row.get(0))
    }

    /// Waits until nothing is left of a deleted tenant.
    pub(crate) async fn no_trace_of(&self, tenant: TenantId) {
        wait::until("nothing of the deleted tenant is left", async || {
            let traces = self.traces(tenant).await;
            if traces.is_empty() {
                Ok(())
            } else {
                Err(format!("found in {traces:?}"))
            }
        })
        .await;
    }
}
