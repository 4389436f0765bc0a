//! The tables that are swept by age, and rows of a test's own in them, which count nothing.

use jatis_shared::ids::TenantId;

use super::database::Database;

/// A swept table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bed {
    pub(crate) table: &'static str,
    /// Puts a row in: of tenant $1, with number $2 and $3 seconds old.
    insert: &'static str,
    /// The numbers of tenant $1's rows that were put in so.
    numbers: &'static str,
}

pub(crate) const TOMBSTONES: Bed = Bed {
    table: "message_tombstones",
    insert: "
        INSERT INTO message_tombstones (tenant_id, id, deleted_at)
        VALUES ($1, lpad($2::integer::text, 32, '0')::uuid, now() - $3::bigint * interval '1 s')",
    numbers: "
        SELECT right(id::text, 12)::integer
          FROM message_tombstones
         WHERE tenant_id = $1 AND id < '00000000-0000-0000-0001-000000000000'
         ORDER BY 1",
};

pub(crate) const COUNTS: Bed = Bed {
    table: "message_counts",
    insert: "
        INSERT INTO message_counts (tenant_id, slot, origin, bucket)
        VALUES ($1, 1000 + $2::integer, 0, (extract(epoch FROM now()) - $3::bigint) / 60)",
    numbers: "
        SELECT slot - 1000
          FROM message_counts
         WHERE tenant_id = $1 AND slot >= 1000
         ORDER BY 1",
};

pub(crate) const KEYS: Bed = Bed {
    table: "amqp_keys",
    insert: "
        INSERT INTO amqp_keys (tenant_id, key, message_id, seen_at)
        VALUES ($1, int4send($2::integer), gen_random_uuid(), now() - $3::bigint * interval '1 s')",
    numbers: "
        SELECT get_byte(key, 3)
          FROM amqp_keys
         WHERE tenant_id = $1 AND length(key) = 4
         ORDER BY 1",
};

impl Database {
    /// Puts a row of this age, seconds, into a swept table.
    pub(crate) async fn plant(&self, bed: Bed, tenant: TenantId, number: i32, age: i64) {
        let insert = bed.insert;
        self.session
            .run(move |client| client.execute(insert, &[&tenant.uuid(), &number, &age]))
            .await;
    }

    /// The numbers of the planted rows that are left.
    pub(crate) async fn planted(&self, bed: Bed, tenant: TenantId) -> Vec<i32> {
        let numbers = bed.numbers;
        let rows = self
            .session
            .run(move |client| client.query(numbers, &[&tenant.uuid()]))
            .await;
        rows.iter().map(|row| row.get(0)).collect()
    }
}
