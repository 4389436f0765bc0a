//! A message on its way through the worker, and the batch it travels in.
//!
//! `consume` makes messages, `batch` collects them, `insert` writes them, `settle` is told when
//! their delivery may be acknowledged. Nobody changes a message on the way but by burying it.

use std::sync::Arc;

use bytes::Bytes;
use jatis_shared::ids::MessageId;

use crate::consume::Provenance;

/// A delivery: the broker numbers them from 1 on every channel, so a number means nothing without
/// the channel it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tag {
    /// Which channel of this worker, counted from 1.
    pub(crate) generation: u64,
    /// The broker's delivery tag.
    pub(crate) number: u64,
}

/// One message.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The delivery that brought it, alone or with others.
    pub(crate) tag: Tag,
    pub(crate) id: MessageId,
    /// The JSON text as it was sent; of a message that is to be buried, any bytes.
    pub(crate) payload: Bytes,
    /// Somebody waits to hear that it is stored.
    pub(crate) awaited: bool,
    /// A copy of it may have been delivered before: it may be stored, buried or deleted already.
    pub(crate) seen_before: bool,
    /// The `message_id` of an AMQP client, by which its repetitions are recognised.
    pub(crate) key: Option<Bytes>,
    /// Why it becomes a dead letter; `None` while it is to be stored.
    pub(crate) fault: Option<Fault>,
    /// What a dead letter tells of where the message came from.
    pub(crate) provenance: Arc<Provenance>,
}

/// Why a message becomes a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    /// For a person to read; holds no NUL.
    pub(crate) error: String,
}

/// The kinds of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It says it is ours, but its id is not this tenant's or its batch cannot be taken apart.
    BadEnvelope,
    /// An AMQP client sent something that is not JSON.
    MalformedJson,
    /// JSON that the database refuses or could not give back.
    UnstorablePayload,
    /// Another payload is stored under its id.
    IdConflict,
    /// It was alone in a worker each time that crashed.
    WorkerCrash,
}

impl Reason {
    /// Every reason, for the reference and its test.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 5] = [
        Self::BadEnvelope,
        Self::MalformedJson,
        Self::UnstorablePayload,
        Self::IdConflict,
        Self::WorkerCrash,
    ];

    /// As stored in `dead_letters.reason`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::BadEnvelope => "bad_envelope",
            Self::MalformedJson => "malformed_json",
            Self::UnstorablePayload => "unstorable_payload",
            Self::IdConflict => "id_conflict",
            Self::WorkerCrash => "worker_crash",
        }
    }
}

impl Message {
    /// The same, to be buried because it kills workers.
    pub(crate) fn condemned(self) -> Self {
        let fault = Fault {
            reason: Reason::WorkerCrash,
            error: "it was alone in a worker each time the worker crashed".to_owned(),
        };
        Self {
            fault: Some(fault),
            ..self
        }
    }
}

/// Messages that are written by one transaction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    pub(crate) messages: Vec<Message>,
    /// How often it has met a deadlock or a serialization failure.
    pub(crate) conflicts: u16,
}

impl Batch {
    /// The two halves of it, in order; the second is empty if it has one message.
    pub(crate) fn halves(mut self) -> [Self; 2] {
        let rest = self.messages.split_off(self.messages.len().div_ceil(2));
        [self.messages, rest].map(|messages| Self {
            messages,
            conflicts: 0,
        })
    }
}

#[cfg(test)]
impl Message {
    /// A message of this delivery, to be stored.
    pub(crate) fn sample(number: u64, payload: &'static [u8]) -> Self {
        Self {
            tag: Tag {
                generation: 1,
                number,
            },
            id: MessageId::from(uuid::Uuid::from_u128(u128::from(number))),
            payload: Bytes::from_static(payload),
            awaited: false,
            seen_before: false,
            key: None,
            fault: None,
            provenance: Arc::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_keep_every_message_in_order() {
        for size in 0..9 {
            let batch = Batch {
                messages: (0..size).map(|n| Message::sample(n, b"1")).collect(),
                conflicts: 3,
            };
            let [first, second] = batch.halves();
            assert!(first.messages.len() - second.messages.len() <= 1, "{size}");
            let both = first.messages.iter().chain(&second.messages);
            assert!(both.map(|message| message.tag.number).eq(0..size), "{size}");
        }
    }
}
