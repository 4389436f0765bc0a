//! One batch, one transaction.
//!
//! In this order, the same for all so that two transactions never wait for each other in a circle:
//! keys of AMQP clients, rows, dead letters, counts; each sorted. Every statement may meet what an
//! earlier delivery of the same message has written, and then changes nothing; the counts follow
//! what really changed.
//!
//! A message that may have been seen before may have been deleted since, or be a dead letter: what
//! was written for such a message is looked at once more, and taken out again where it must not
//! be. A batch of messages that are new pays nothing for it.

use std::{collections::HashSet, sync::Arc};

use jatis_shared::{
    counts::Deltas,
    ids::{MessageId, Mint, Origin, TenantId, TenantNumber},
};
use jiff::Timestamp;
use postgres::Transaction;
use uuid::Uuid;

use crate::{
    fingerprint::fingerprint,
    message::{Batch, Message, Reason},
    params::{Jsonb, TimestampTz},
    random,
    statements::Prepared,
    store::Open,
};

/// Writes batches of one tenant.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) tenant: TenantId,
    pub(crate) number: TenantNumber,
    pub(crate) mint: Arc<Mint>,
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
        let slot = open.slot();
        let Open {
            client, prepared, ..
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
        letters.extend(
            conflicting
                .into_iter()
                .map(|message| self.conflict(message)),
        );
        work.bury(letters, now)?;
        work.count(slot)?;
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
        let hash = fingerprint(&message.payload);
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
        let deleted = self.settle_seen(&messages, &inserted)?;
        let mut found = Vec::new();
        for message in messages {
            if deleted.contains(&message.id.uuid()) {
                continue;
            }
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

    /// Looks after the inserted rows of messages that may have been seen before: those of deleted
    /// messages are taken out again, and their ids given; dead letters of the others are too.
    fn settle_seen(
        &mut self,
        messages: &[&Message],
        inserted: &HashSet<Uuid>,
    ) -> Result<HashSet<Uuid>, postgres::Error> {
        let mut seen: Vec<Uuid> = messages
            .iter()
            .filter(|message| message.seen_before)
            .map(|message| message.id.uuid())
            .filter(|id| inserted.contains(id))
            .collect();
        if seen.is_empty() {
            return Ok(HashSet::new());
        }
        let tenant = self.writer.tenant.uuid();
        let deleted = self
            .transaction
            .query(&self.prepared.take_back, &[&tenant, &seen])?;
        let deleted = uuids(&deleted)?;
        seen.retain(|id| !deleted.contains(id));
        let revived = self
            .transaction
            .query(&self.prepared.revive, &[&tenant, &seen])?;
        for id in uuids(&revived)? {
            self.deltas.revived(MessageId::from(id));
        }
        Ok(deleted)
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
    fn bury(
        &mut self,
        mut letters: Vec<Letter<'_>>,
        now: Timestamp,
    ) -> Result<(), postgres::Error> {
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
        let mut written = uuids(&written)?;
        self.withdraw_seen(&letters, &mut written)?;
        for id in written {
            self.deltas.dead(MessageId::from(id));
            self.tally.dead += 1;
        }
        Ok(())
    }

    /// Takes those letters out again, of messages that may have been seen before, that must not be
    /// there: the message was deleted, or is stored.
    fn withdraw_seen(
        &mut self,
        letters: &[Letter<'_>],
        written: &mut HashSet<Uuid>,
    ) -> Result<(), postgres::Error> {
        let seen: Vec<Uuid> = letters
            .iter()
            .filter(|letter| letter.message.seen_before)
            .map(|letter| letter.message_id.uuid())
            .filter(|id| written.contains(id))
            .collect();
        if seen.is_empty() {
            return Ok(());
        }
        let tenant = self.writer.tenant.uuid();
        let withdrawn = self
            .transaction
            .query(&self.prepared.withdraw, &[&tenant, &seen])?;
        for id in uuids(&withdrawn)? {
            written.remove(&id);
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
                &columns.deleted,
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
