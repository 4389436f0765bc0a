//! What a test does to the tables behind jatis' back, in the transactions that jatis would use.

use jatis_shared::{
    counts::SUPERVISOR_SLOT,
    ids::{MessageId, TenantId},
    schema,
};

use super::database::{Database, Holder};

impl Database {
    /// Begins to delete a message as jatis does, and stops before the commit.
    pub(crate) async fn delete_slowly(&self, tenant: TenantId, id: MessageId) -> Holder {
        let (leaf, key) = (schema::leaf(tenant), id.uuid());
        let (minute, origin) = (id.minute(), id.origin().column());
        let deleted = format!(
            "DELETE FROM {leaf} WHERE id = '{key}';
             INSERT INTO message_tombstones (tenant_id, id) VALUES ('{tenant}', '{key}');
             INSERT INTO message_counts (tenant_id, bucket, origin, slot, stored, deleted)
             VALUES ('{tenant}', -1, {origin}, {slot}, -1, 1),
                    ('{tenant}', {minute}, {origin}, {slot}, -1, 1)",
            slot = SUPERVISOR_SLOT,
        );
        self.hold(deleted).await
    }

    /// Purges a dead letter as jatis does.
    pub(crate) async fn purge(&self, tenant: TenantId, id: MessageId) {
        let (key, minute, origin) = (id.uuid(), id.minute(), id.origin().column());
        let purge = format!(
            "BEGIN;
             DELETE FROM dead_letters WHERE tenant_id = '{tenant}' AND message_id = '{key}';
             INSERT INTO message_tombstones (tenant_id, id) VALUES ('{tenant}', '{key}');
             INSERT INTO message_counts (tenant_id, bucket, origin, slot, dead, deleted)
             VALUES ('{tenant}', -1, {origin}, {slot}, -1, 1),
                    ('{tenant}', {minute}, {origin}, {slot}, -1, 1);
             COMMIT",
            slot = SUPERVISOR_SLOT,
        );
        self.session
            .run(move |client| client.batch_execute(&purge))
            .await;
    }

    /// Makes the insert of one message wait, and no other's.
    pub(crate) async fn hold_message(&self, tenant: TenantId, id: MessageId) -> Holder {
        let (leaf, key) = (schema::leaf(tenant), id.uuid());
        self.hold(format!(
            "INSERT INTO {leaf} (id, tenant_id, payload, created_at)
             VALUES ('{key}', '{tenant}', 'null', now())"
        ))
        .await
    }

    /// Makes every statement about a tenant's leaf wait, also those that only read.
    pub(crate) async fn hide_leaf(&self, tenant: TenantId) -> Holder {
        let leaf = schema::leaf(tenant);
        self.hold(format!("LOCK TABLE {leaf} IN ACCESS EXCLUSIVE MODE"))
            .await
    }

    /// Writes a word into a tenant's row that says what is wanted of it; the program may not know
    /// it.
    pub(crate) async fn want(&self, tenant: TenantId, state: &str) {
        let want = format!("UPDATE tenants SET state = '{state}' WHERE id = '{tenant}'");
        self.session
            .run(move |client| client.batch_execute(&want))
            .await;
    }

    /// Leaves no number for a further tenant.
    pub(crate) async fn exhaust_tenant_numbers(&self) {
        const EXHAUST: &str = "
            SELECT setval('tenant_number', seqmax)
              FROM pg_sequence
             WHERE seqrelid = 'tenant_number'::regclass";
        self.session
            .run(|client| client.batch_execute(EXHAUST))
            .await;
    }

    /// Has the server refuse a payload in a tenant's leaf, as if it could not be stored.
    pub(crate) async fn refuse_payload(&self, tenant: TenantId, payload: &str) {
        let leaf = schema::leaf(tenant);
        let refuse = format!(
            "ALTER TABLE {leaf} ADD CONSTRAINT refused CHECK (payload <> '{payload}') NOT VALID"
        );
        self.session
            .run(move |client| client.batch_execute(&refuse))
            .await;
    }

    /// Has it refuse none any more.
    pub(crate) async fn refuse_no_payload(&self, tenant: TenantId) {
        let accept = format!(
            "ALTER TABLE {} DROP CONSTRAINT refused",
            schema::leaf(tenant)
        );
        self.session
            .run(move |client| client.batch_execute(&accept))
            .await;
    }

    /// Statements of workers that wait for another transaction to end.
    pub(crate) async fn waiting_for_a_transaction(&self) -> i64 {
        const WAITING: &str = "
            SELECT count(*)
              FROM pg_stat_activity
             WHERE datname = current_database()
               AND application_name LIKE 'jatis worker%'
               AND wait_event_type = 'Lock'
               AND wait_event = 'transactionid'";
        self.session
            .run(|client| client.query_one(WAITING, &[]))
            .await
            .get(0)
    }
}
