//! The SQL of the worker, prepared once on each connection.
//!
//! It names the tenant's leaf and never the parent: statements prepared on the parent come to lock
//! every partition there is.

use jatis_shared::{ids::TenantId, schema};
use postgres::{Client, Statement};

/// The statements of a tenant, as text.
#[derive(Debug)]
pub(crate) struct Statements {
    keys: &'static str,
    rows: String,
    take_back: String,
    differing: String,
    revive: &'static str,
    letters: &'static str,
    withdraw: String,
    counts: &'static str,
}

/// The statements of a tenant, prepared on one connection.
pub(crate) struct Prepared {
    pub(crate) keys: Statement,
    pub(crate) rows: Statement,
    pub(crate) take_back: Statement,
    pub(crate) differing: Statement,
    pub(crate) revive: Statement,
    pub(crate) letters: Statement,
    pub(crate) withdraw: Statement,
    pub(crate) counts: Statement,
}

/// Takes the keys that are new; gives the messages that now have one.
const KEYS: &str = "\
    INSERT INTO amqp_keys (tenant_id, key, message_id, seen_at) \
    SELECT $1, k.key, k.message_id, now() \
    FROM unnest($2::bytea[], $3::uuid[]) AS k (key, message_id) \
    ON CONFLICT DO NOTHING \
    RETURNING message_id";

/// Inserts the rows that are new; gives their ids.
fn rows(leaf: &str) -> String {
    format!(
        "INSERT INTO {leaf} (id, tenant_id, payload, created_at) \
         SELECT m.id, $1, m.payload, m.created_at \
         FROM unnest($2::uuid[], $3::jsonb[], $4::timestamptz[]) AS m (id, payload, created_at) \
         ON CONFLICT DO NOTHING \
         RETURNING id"
    )
}

/// Takes out again those of these rows whose messages were deleted; gives their ids. A statement of
/// its own, and later than the insert: that one may have waited for the deletion under way, and saw
/// the tombstones as they were before it.
fn take_back(leaf: &str) -> String {
    format!(
        "DELETE FROM {leaf} AS stored \
         USING message_tombstones AS tombstone \
         WHERE stored.tenant_id = $1 AND stored.id = ANY($2::uuid[]) \
             AND tombstone.tenant_id = $1 AND tombstone.id = ANY($2::uuid[]) \
             AND tombstone.id = stored.id \
         RETURNING stored.id"
    )
}

/// Which of these messages, by position from 1, differ from the row that has their id.
fn differing(leaf: &str) -> String {
    format!(
        "SELECT m.position \
         FROM unnest($2::uuid[], $3::jsonb[]) WITH ORDINALITY AS m (id, payload, position) \
         JOIN {leaf} AS stored ON stored.tenant_id = $1 AND stored.id = m.id \
         WHERE stored.payload IS DISTINCT FROM m.payload"
    )
}

/// Takes away the dead letters of messages that are stored now; gives their messages.
const REVIVE: &str = "\
    DELETE FROM dead_letters \
    WHERE tenant_id = $1 AND message_id = ANY($2::uuid[]) \
    RETURNING message_id";

/// Writes the dead letters that are new; gives their messages.
const LETTERS: &str = "\
    INSERT INTO dead_letters (tenant_id, id, message_id, conflicts_with, payload, content_type, \
        headers, reason, error, attempts, first_failed_at, dead_at) \
    SELECT $1, d.id, d.message_id, d.conflicts_with, d.payload, d.content_type, \
        d.headers, d.reason, d.error, 1, now(), now() \
    FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::bytea[], $6::text[], $7::jsonb[], \
        $8::text[], $9::text[]) \
        AS d (id, message_id, conflicts_with, payload, content_type, headers, reason, error) \
    ON CONFLICT DO NOTHING \
    RETURNING message_id";

/// Takes out again those of these dead letters whose messages were deleted, or are stored; gives
/// their messages.
fn withdraw(leaf: &str) -> String {
    format!(
        "DELETE FROM dead_letters AS letter \
         WHERE letter.tenant_id = $1 AND letter.message_id = ANY($2::uuid[]) \
             AND (EXISTS (SELECT FROM message_tombstones AS tombstone \
                     WHERE tombstone.tenant_id = $1 AND tombstone.id = letter.message_id) \
                 OR EXISTS (SELECT FROM {leaf} AS stored \
                     WHERE stored.tenant_id = $1 AND stored.id = letter.message_id)) \
         RETURNING letter.message_id"
    )
}

/// Adds to the counts of one slot.
const COUNTS: &str = "\
    INSERT INTO message_counts AS c (tenant_id, bucket, origin, slot, stored, dead, deleted) \
    SELECT $1, d.bucket, d.origin, $2, d.stored, d.dead, d.deleted \
    FROM unnest($3::integer[], $4::smallint[], $5::bigint[], $6::bigint[], $7::bigint[]) \
        AS d (bucket, origin, stored, dead, deleted) \
    ON CONFLICT (tenant_id, bucket, origin, slot) \
    DO UPDATE SET stored = c.stored + EXCLUDED.stored, dead = c.dead + EXCLUDED.dead, \
        deleted = c.deleted + EXCLUDED.deleted";

impl Statements {
    pub(crate) fn of(tenant: TenantId) -> Self {
        let leaf = schema::leaf(tenant);
        Self {
            keys: KEYS,
            rows: rows(&leaf),
            take_back: take_back(&leaf),
            differing: differing(&leaf),
            revive: REVIVE,
            letters: LETTERS,
            withdraw: withdraw(&leaf),
            counts: COUNTS,
        }
    }

    pub(crate) fn prepare(&self, client: &mut Client) -> Result<Prepared, postgres::Error> {
        Ok(Prepared {
            keys: client.prepare(self.keys)?,
            rows: client.prepare(&self.rows)?,
            take_back: client.prepare(&self.take_back)?,
            differing: client.prepare(&self.differing)?,
            revive: client.prepare(self.revive)?,
            letters: client.prepare(self.letters)?,
            withdraw: client.prepare(&self.withdraw)?,
            counts: client.prepare(self.counts)?,
        })
    }
}
