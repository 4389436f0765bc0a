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
    differing: String,
    letters: &'static str,
    counts: &'static str,
}

/// The statements of a tenant, prepared on one connection.
pub(crate) struct Prepared {
    pub(crate) keys: Statement,
    pub(crate) rows: Statement,
    pub(crate) differing: Statement,
    pub(crate) letters: Statement,
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

/// Which of these messages, by position from 1, differ from the row that has their id.
fn differing(leaf: &str) -> String {
    format!(
        "SELECT m.position \
         FROM unnest($2::uuid[], $3::jsonb[]) WITH ORDINALITY AS m (id, payload, position) \
         JOIN {leaf} AS stored ON stored.tenant_id = $1 AND stored.id = m.id \
         WHERE stored.payload IS DISTINCT FROM m.payload"
    )
}

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

/// Adds to the counts of one slot.
const COUNTS: &str = "\
    INSERT INTO message_counts AS c (tenant_id, bucket, origin, slot, stored, dead) \
    SELECT $1, d.bucket, d.origin, $2, d.stored, d.dead \
    FROM unnest($3::integer[], $4::smallint[], $5::bigint[], $6::bigint[]) \
        AS d (bucket, origin, stored, dead) \
    ON CONFLICT (tenant_id, bucket, origin, slot) \
    DO UPDATE SET stored = c.stored + EXCLUDED.stored, dead = c.dead + EXCLUDED.dead";

impl Statements {
    pub(crate) fn of(tenant: TenantId) -> Self {
        let leaf = schema::leaf(tenant);
        Self {
            keys: KEYS,
            rows: rows(&leaf),
            differing: differing(&leaf),
            letters: LETTERS,
            counts: COUNTS,
        }
    }

    pub(crate) fn prepare(&self, client: &mut Client) -> Result<Prepared, postgres::Error> {
        Ok(Prepared {
            keys: client.prepare(self.keys)?,
            rows: client.prepare(&self.rows)?,
            differing: client.prepare(&self.differing)?,
            letters: client.prepare(self.letters)?,
            counts: client.prepare(self.counts)?,
        })
    }
}
