//! The client's own list, against which the tables are judged.
//!
//! Everything a test sends is noted here by whoever sends it, before it is sent. At the end must
//! hold, for every tenant that was not deleted:
//!
//! ```text
//!   promised ⊆ stored ∪ dead ∪ erased          promised: answered 201 or 202, or confirmed by the broker
//!   stored   ⊆ promised ∪ possible             possible: sent, and no answer said what became of it
//!   erased   ∩ (stored ∪ dead) = ∅             erased: its deletion was answered 200
//!   no id twice, and what is stored is what was sent
//! ```
//!
//! Without injected poison there are no dead letters.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use jatis_shared::ids::{MessageId, TenantId};
use serde_json::Value;

/// A message's tenant, and its payload in the one spelling that equal JSON values share.
type Content = (TenantId, String);

/// The list. Shared by all that send.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// Ids that a client was told, or that a test minted and the broker confirmed.
    promised: BTreeMap<MessageId, Content>,
    /// How often a payload may be stored without a promise.
    possible: BTreeMap<Content, u64>,
    /// Payloads of AMQP clients that the broker confirmed: their ids are not known.
    confirmed: BTreeMap<Content, Confirmed>,
    /// Messages that a client deleted.
    erased: BTreeMap<MessageId, TenantId>,
    deleted: BTreeSet<TenantId>,
}

/// How often an AMQP client's payload was confirmed.
#[derive(Debug, Default)]
struct Confirmed {
    /// Each of these is one message, however often it was published.
    keys: BTreeSet<String>,
    /// Each of these is one message.
    keyless: u64,
    /// So many of all these were deleted.
    erased: u64,
}

impl Confirmed {
    fn messages(&self) -> u64 {
        let keys = u64::try_from(self.keys.len()).expect("a count fits");
        keys + self.keyless - self.erased
    }
}

/// A row of `messages`.
#[derive(Debug)]
pub(crate) struct StoredRow {
    pub(crate) id: MessageId,
    pub(crate) tenant: TenantId,
    pub(crate) payload: String,
}

/// A row of `dead_letters`.
#[derive(Debug)]
pub(crate) struct DeadRow {
    pub(crate) message_id: MessageId,
    pub(crate) tenant: TenantId,
    pub(crate) payload: Vec<u8>,
    pub(crate) reason: String,
}

/// A request under way: until its fate is told, its message is possible.
#[derive(Debug)]
pub(crate) struct Sending {
    oracle: Arc<Oracle>,
    content: Content,
}

impl Sending {
    /// The client was told this id.
    pub(crate) fn answered(self, id: MessageId) {
        let mut book = self.oracle.book();
        book.take_back(&self.content);
        let before = book.promised.insert(id, self.content);
        assert_eq!(before, None, "message id {id} was given twice");
    }

    /// The client was told that the message was not taken.
    pub(crate) fn refused(self) {
        self.oracle.book().take_back(&self.content);
    }

    /// The broker confirmed an AMQP client's message.
    pub(crate) fn confirmed(self, key: Option<&str>) {
        let mut book = self.oracle.book();
        book.take_back(&self.content);
        let confirmed = book.confirmed.entry(self.content).or_default();
        match key {
            Some(key) => drop(confirmed.keys.insert(key.to_owned())),
            None => confirmed.keyless += 1,
        }
    }
}

impl Book {
    fn take_back(&mut self, content: &Content) {
        let count = self.possible.get_mut(content);
        *count.expect("it was noted when it was sent") -= 1;
    }
}

impl Oracle {
    /// Notes a message about to be sent.
    pub(crate) fn sending(self: &Arc<Self>, tenant: TenantId, payload: &[u8]) -> Sending {
        let content = (tenant, canonical(payload));
        *self.book().possible.entry(content.clone()).or_default() += 1;
        Sending {
            oracle: Arc::clone(self),
            content,
        }
    }

    /// Ids that must be stored or dead for a tenant by the end.
    pub(crate) fn promised_to(&self, tenant: TenantId) -> BTreeSet<MessageId> {
        let book = self.book();
        let promised = book.promised.iter();
        promised
            .filter(|(_, (promised_to, _))| *promised_to == tenant)
            .map(|(id, _)| *id)
            .collect()
    }

    /// A message was deleted; it must not be there any more, nor come back.
    pub(crate) fn erased(&self, tenant: TenantId, id: MessageId, payload: &[u8]) {
        let mut book = self.book();
        let before = book.erased.insert(id, tenant);
        assert_eq!(before, None, "message {id} was deleted twice");
        if book.promised.remove(&id).is_some() {
            return;
        }
        // Its id was not known before: an AMQP client's, or one whose answer was lost.
        let content = (tenant, canonical(payload));
        match book.confirmed.get_mut(&content) {
            Some(confirmed) => confirmed.erased += 1,
            None => book.take_back(&content),
        }
    }

    /// A tenant was deleted; nothing of it may remain, and nothing of it is missed.
    pub(crate) fn deleted(&self, tenant: TenantId) {
        let mut book = self.book();
        book.deleted.insert(tenant);
        book.erased.retain(|_, owner| *owner != tenant);
        book.promised
            .retain(|_, (promised_to, _)| *promised_to != tenant);
        book.confirmed
            .retain(|(confirmed_to, _), _| *confirmed_to != tenant);
        book.possible
            .retain(|(possible_to, _), count| *possible_to != tenant || *count > 0);
    }

    /// Messages that clients deleted, of tenants that were not.
    pub(crate) fn erasures(&self) -> Vec<(TenantId, MessageId)> {
        let book = self.book();
        let erased = book.erased.iter();
        erased.map(|(id, tenant)| (*tenant, *id)).collect()
    }

    /// A deleted tenant's id was taken again.
    pub(crate) fn created_again(&self, tenant: TenantId) {
        self.book().deleted.remove(&tenant);
    }

    /// Messages that must be stored or dead by the end.
    pub(crate) fn promised(&self) -> u64 {
        let book = self.book();
        let ids = u64::try_from(book.promised.len()).expect("a count fits");
        ids + book
            .confirmed
            .values()
            .map(Confirmed::messages)
            .sum::<u64>()
    }

    /// Everything that contradicts the list; empty when the promises were kept.
    pub(crate) fn faults(&self, stored: &[StoredRow], dead: &[DeadRow]) -> Vec<String> {
        let book = self.book();
        let mut faults = Vec::new();
        let mut unpromised: BTreeMap<Content, u64> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for row in stored {
            let content = (row.tenant, canonical(row.payload.as_bytes()));
            if !seen.insert(row.id) {
                faults.push(format!("{} is stored twice", row.id));
            }
            match book.promised.get(&row.id) {
                Some(promised) if *promised == content => {}
                Some(promised) => {
                    faults.push(format!("{}: sent {promised:?}, stored {content:?}", row.id));
                }
                None => *unpromised.entry(content).or_default() += 1,
            }
        }
        for row in dead {
            let id = row.message_id;
            if !book.promised.contains_key(&id) {
                let content = (row.tenant, canonical(&row.payload));
                *unpromised.entry(content).or_default() += 1;
            }
            if !seen.insert(id) {
                faults.push(format!("{id} is stored and dead, or dead twice"));
            }
        }
        for id in book.erased.keys().filter(|id| seen.contains(id)) {
            faults.push(format!("{id} was deleted and is there again"));
        }
        for (id, content) in &book.promised {
            if !seen.contains(id) {
                faults.push(format!("{id} is lost: {content:?}"));
            }
        }
        for (content, confirmed) in &book.confirmed {
            let found = unpromised.get(content).copied().unwrap_or(0);
            let wanted = confirmed.messages();
            if found < wanted {
                faults.push(format!(
                    "confirmed {wanted} times, found {found} times: {content:?}"
                ));
            }
        }
        for (content, found) in &unpromised {
            let possible = book.possible.get(content).copied().unwrap_or(0);
            let confirmed = book.confirmed.get(content).map_or(0, Confirmed::messages);
            if *found > possible + confirmed {
                faults.push(format!(
                    "found {found} times, may be there {} times: {content:?}",
                    possible + confirmed
                ));
            }
        }
        for tenant in &book.deleted {
            if stored.iter().any(|row| row.tenant == *tenant) {
                faults.push(format!("messages of the deleted tenant {tenant} remain"));
            }
        }
        faults
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book
            .lock()
            .expect("nobody panics while holding the book")
    }
}

/// JSON values that are equal have the same text: keys sorted, no spaces, 15E+1 as 150. What is not
/// JSON, or more than a `Value` can hold, stands as it is.
fn canonical(payload: &[u8]) -> String {
    match serde_json::from_slice::<Value>(payload) {
        Ok(value) => with_whole_numbers(value).to_string(),
        Err(_) => String::from_utf8_lossy(payload).into_owned(),
    }
}

const TWO_TO_53: f64 = 9_007_199_254_740_992.0;

/// The value, with the whole ones of its floating-point numbers as integers.
fn with_whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            // Beyond 2^53 not every integer is a floating-point number.
            let float = number.as_f64().filter(|_| number.is_f64());
            let whole = float.filter(|float| float.fract().abs() == 0.0 && float.abs() < TWO_TO_53);
            let integer = whole.and_then(|whole| format!("{whole:.0}").parse::<i64>().ok());
            integer.map_or(Value::Number(number), Value::from)
        }
        Value::Array(values) => values.into_iter().map(with_whole_numbers).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter();
            fields
                .map(|(name, value)| (name, with_whole_numbers(value)))
                .collect()
        }
        other @ (Value::Null | Value::Bool(_) | Value::String(_)) => other,
    }
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
