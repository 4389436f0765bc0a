//! One batch, one transaction: the SQL of the worker.
//!
//! In this order, the same for all so that two transactions never wait for each other in a circle:
//! keys of AMQP clients, rows, dead letters, counts; each sorted. Every statement may meet what an
//! earlier delivery of the same message has written, and then changes nothing; the counts follow
//! what really changed. It writes into the tenant's leaf and never into the parent, whose prepared
//! statements would come to lock every partition.

use std::collections::HashSet;

use jatis_shared::{
    ids::{MessageId, Mint, Origin, TenantId, TenantNumber},
    schema,
};
use jiff::Timestamp;
use postgres::{Client, Statement, Transaction};
use uuid::Uuid;

use crate::{
    message::{Batch, Message, Reason},
    params::{Jsonb, TimestampTz},
    random,
    stats::Deltas,
    store::Open,
};

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
    keys: Statement,
    rows: Statement,
    differing: Statement,
    letters: Statement,
    counts: Statement,
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

/// Writes batches of one tenant.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) tenant: TenantId,
    pub(crate) number: TenantNumber,
    pub(crate) mint: std::sync::Arc<Mint>,
}

/// What a committed batch came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Rows inserted.
    pub(crate) stored: u64,
    /// Dead letters written.
    pub(crate) dead: u64,
    /// Messages somebody awaits whose rows are there, by this transaction or an earlier one.
    pub(crate) notices: Vec<MessageId>,
}

/// A dead letter about to be written.
struct Letter<'a> {
    message: &'a Message,
    /// Its message's id; a fresh one where the message's own is taken.
    message_id: MessageId,
    conflicts_with: Option<MessageId>,
    reason: Reason,
    error: &'a str,
}

impl Writer {
    /// Writes the batch and commits.
    ///
    /// # Errors
    /// When the database refuses or is lost. Nothing of the batch is visible then, unless the
    /// connection was lost during the commit itself; writing the same batch again is right in
    /// either case.
    pub(crate) fn write(
        &self,
        open: &mut Open,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Tally, postgres::Error> {
        let Open {
            client,
            prepared,
            slot,
            ..
        } = open;
        let mut work = Work {
            writer: self,
            transaction: client.transaction()?,
            prepared,
            deltas: Deltas::default(),
            tally: Tally::default(),
        };
        let fresh = work.without_repetitions(&batch.messages)?;
        let (buried, storable): (Vec<_>, Vec<_>) = fresh
            .into_iter()
            .partition(|message| message.fault.is_some());
        let conflicting = work.insert(storable)?;
        let mut letters: Vec<_> = buried.into_iter().filter_map(Letter::of_fault).collect();
        letters.extend(conflicting.into_iter().map(|message| self.conflict(message)));
        work.bury(letters, now)?;
        work.count(*slot)?;
        work.transaction.commit()?;
        Ok(work.tally)
    }

    /// Tries to insert a row and takes it back: whether batches can be written again.
    ///
    /// # Errors
    /// When they cannot.
    pub(crate) fn probe(&self, open: &mut Open, now: Timestamp) -> Result<(), postgres::Error> {
        open.client.simple_query("SELECT 1")?;
        let id = self.fresh_id(now).uuid();
        let mut transaction = open.client.transaction()?;
        transaction.execute(
            &open.prepared.rows,
            &[
                &self.tenant.uuid(),
                &[id].as_slice(),
                &[Jsonb(b"null")].as_slice(),
                &[TimestampTz(now)].as_slice(),
            ],
        )?;
        transaction.rollback()
    }

    fn fresh_id(&self, now: Timestamp) -> MessageId {
        self.mint
            .mint(now, self.number, Origin::Consumed, random::bits())
    }

    fn conflict<'a>(&self, message: &'a Message) -> Letter<'a> {
        Letter {
            message,
            message_id: self.stand_in(message),
            conflicts_with: Some(message.id),
            reason: Reason::IdConflict,
            error: "another payload is stored under this id",
        }
    }

    /// The id of a message whose own is taken by another payload: of the same time, and always the
    /// same for the same payload, so that its redelivery does not make a second dead letter.
    fn stand_in(&self, message: &Message) -> MessageId {
        // FNV-1a: must not change between releases.
        let hash = message
            .payload
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let same_tick = Mint::above(message.id.ticks().saturating_sub(1));
        same_tick.mint(
            Timestamp::UNIX_EPOCH,
            self.number,
            Origin::Consumed,
            hash ^ (hash >> 32),
        )
    }
}

impl<'a> Letter<'a> {
    fn of_fault(message: &'a Message) -> Option<Self> {
        let fault = message.fault.as_ref()?;
        Some(Self {
            message,
            message_id: message.id,
            conflicts_with: None,
            reason: fault.reason,
            error: &fault.error,
        })
    }
}

/// A transaction under way, and what it has come to so far.
struct Work<'a> {
    writer: &'a Writer,
    transaction: Transaction<'a>,
    prepared: &'a Prepared,
    deltas: Deltas,
    tally: Tally,
}

impl Work<'_> {
    /// Takes the keys, and leaves out the messages whose key another message has taken.
    fn without_repetitions<'m>(
        &mut self,
        messages: &'m [Message],
    ) -> Result<Vec<&'m Message>, postgres::Error> {
        let mut keyed: Vec<(&[u8], Uuid)> = messages
            .iter()
            .filter_map(|message| Some((message.key.as_deref()?, message.id.uuid())))
            .collect();
        if keyed.is_empty() {
            return Ok(messages.iter().collect());
        }
        keyed.sort_unstable();
        let (keys, ids): (Vec<_>, Vec<_>) = keyed.into_iter().unzip();
        let tenant = self.writer.tenant.uuid();
        let taken = self
            .transaction
            .query(&self.prepared.keys, &[&tenant, &keys, &ids])?;
        let taken = uuids(&taken)?;
        let is_fresh =
            |message: &&Message| message.key.is_none() || taken.contains(&message.id.uuid());
        Ok(messages.iter().filter(is_fresh).collect())
    }

    /// Inserts the rows; gives the messages whose id belongs to another payload.
    fn insert<'m>(
        &mut self,
        mut messages: Vec<&'m Message>,
    ) -> Result<Vec<&'m Message>, postgres::Error> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        messages.sort_by_key(|message| message.id);
        let tenant = self.writer.tenant.uuid();
        let ids: Vec<_> = messages.iter().map(|message| message.id.uuid()).collect();
        let payloads: Vec<_> = messages
            .iter()
            .map(|message| Jsonb(&message.payload))
            .collect();
        let times: Vec<_> = messages
            .iter()
            .map(|message| TimestampTz(message.id.created_at()))
            .collect();
        let inserted = self
            .transaction
            .query(&self.prepared.rows, &[&tenant, &ids, &payloads, &times])?;
        let mut inserted = uuids(&inserted)?;
        let mut found = Vec::new();
        for message in messages {
            // Taken out of the set: of two with one id in a batch, the row is the first one's.
            if inserted.remove(&message.id.uuid()) {
                self.deltas.stored(message.id);
                self.tally.stored += 1;
                self.notice(message);
            } else {
                found.push(message);
            }
        }
        self.conflicting(found)
    }

    /// Of messages whose ids were there: those that the rows differ from.
    fn conflicting<'m>(
        &mut self,
        found: Vec<&'m Message>,
    ) -> Result<Vec<&'m Message>, postgres::Error> {
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let tenant = self.writer.tenant.uuid();
        let ids: Vec<_> = found.iter().map(|message| message.id.uuid()).collect();
        let payloads: Vec<_> = found
            .iter()
            .map(|message| Jsonb(&message.payload))
            .collect();
        let differing = self
            .transaction
            .query(&self.prepared.differing, &[&tenant, &ids, &payloads])?;
        let positions: HashSet<i64> = differing
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()?;
        let mut conflicting = Vec::new();
        for (position, message) in (1_i64..).zip(found) {
            if positions.contains(&position) {
                conflicting.push(message);
            } else {
                self.notice(message);
            }
        }
        Ok(conflicting)
    }

    fn notice(&mut self, message: &Message) {
        if message.awaited {
            self.tally.notices.push(message.id);
        }
    }

    /// Writes dead letters.
    fn bury(&mut self, mut letters: Vec<Letter<'_>>, now: Timestamp) -> Result<(), postgres::Error> {
        if letters.is_empty() {
            return Ok(());
        }
        letters.sort_by_key(|letter| letter.message_id);
        let mut columns = LetterColumns::default();
        let headers: Vec<_> = letters
            .iter()
            .map(|letter| letter.message.provenance.headers_json())
            .collect();
        for (letter, headers) in letters.iter().zip(&headers) {
            columns.push(self.writer.fresh_id(now), letter, headers.as_deref());
        }
        let written = self.transaction.query(
            &self.prepared.letters,
            &[
                &self.writer.tenant.uuid(),
                &columns.ids,
                &columns.message_ids,
                &columns.conflicts_with,
                &columns.payloads,
                &columns.content_types,
                &columns.headers,
                &columns.reasons,
                &columns.errors,
            ],
        )?;
        for id in uuids(&written)? {
            self.deltas.dead(MessageId::from(id));
            self.tally.dead += 1;
        }
        Ok(())
    }

    /// Adds to the counts what the statements before have changed.
    fn count(&mut self, slot: i16) -> Result<(), postgres::Error> {
        if self.deltas.is_empty() {
            return Ok(());
        }
        let columns = self.deltas.columns();
        self.transaction.execute(
            &self.prepared.counts,
            &[
                &self.writer.tenant.uuid(),
                &slot,
                &columns.buckets,
                &columns.origins,
                &columns.stored,
                &columns.dead,
            ],
        )?;
        Ok(())
    }
}

/// Dead letters as columns, for an array parameter each.
#[derive(Default)]
struct LetterColumns<'a> {
    ids: Vec<Uuid>,
    message_ids: Vec<Uuid>,
    conflicts_with: Vec<Option<Uuid>>,
    payloads: Vec<&'a [u8]>,
    content_types: Vec<Option<&'a str>>,
    headers: Vec<Option<Jsonb<'a>>>,
    reasons: Vec<&'static str>,
    errors: Vec<&'a str>,
}

impl<'a> LetterColumns<'a> {
    fn push(&mut self, id: MessageId, letter: &Letter<'a>, headers: Option<&'a str>) {
        self.ids.push(id.uuid());
        self.message_ids.push(letter.message_id.uuid());
        self.conflicts_with
            .push(letter.conflicts_with.map(MessageId::uuid));
        self.payloads.push(&letter.message.payload);
        self.content_types
            .push(letter.message.provenance.content_type());
        self.headers
            .push(headers.map(|json| Jsonb(json.as_bytes())));
        self.reasons.push(letter.reason.as_str());
        self.errors.push(letter.error);
    }
}

/// The first column.
fn uuids(rows: &[postgres::Row]) -> Result<HashSet<Uuid>, postgres::Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}
