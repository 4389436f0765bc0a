//! Turns a delivery into messages, or into the dead letter it deserves.
//!
//! Three kinds arrive, told apart by the property `type`: one message of ours, a batch of ours,
//! and whatever else, which is the payload of an AMQP client. What says it is ours must carry ids
//! that may be ours; payloads of ours were scanned when they were accepted and are not scanned
//! again. A client's payload is scanned here, and its message gets its id here.
//!
//! Every delivery gives at least one message, so every delivery is settled some day.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use jatis_shared::{
    envelope,
    ids::{MessageId, Mint, Origin, TenantNumber},
    payload::{self, Unstorable},
};
use jiff::Timestamp;
use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::{
    fingerprint::fingerprint,
    message::{Fault, Message, Reason, Tag},
    random,
};

/// Makes messages of deliveries. Shared by nobody: its mint is.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) number: TenantNumber,
    pub(crate) mint: Arc<Mint>,
}

/// What a dead letter keeps of the AMQP message that brought it.
#[derive(Default)]
pub(crate) struct Provenance {
    content_type: Option<String>,
    headers: Option<FieldTable>,
}

impl Intake {
    /// What a delivery is called before anything looks into its body: the client's name for it, or
    /// ours, or its fingerprint.
    pub(crate) fn suspect(delivery: &Delivery) -> String {
        let properties = &delivery.properties;
        let name = properties.message_id().as_ref().map(ShortString::as_str);
        match name.filter(|name| !name.is_empty() && !name.contains('\0')) {
            Some(name) => name.to_owned(),
            None => format!("body {:016x}", fingerprint(&delivery.data)),
        }
    }

    /// The messages of a delivery; at least one.
    pub(crate) fn messages(&self, tag: Tag, delivery: Delivery, now: Timestamp) -> Vec<Message> {
        let (properties, body) = (delivery.properties, Bytes::from(delivery.data));
        let arrival = Arrival::new(tag, delivery.redelivered, &properties, now);
        match kind(&properties) {
            Some(envelope::MESSAGE) => vec![self.one_of_ours(arrival, body)],
            Some(envelope::BATCH) => self.batch_of_ours(arrival, body),
            _ => vec![self.of_a_client(arrival, body)],
        }
    }

    /// A delivery that is to be buried as it came: its body is not looked at.
    pub(crate) fn condemned(&self, tag: Tag, delivery: Delivery, now: Timestamp) -> Message {
        let (properties, body) = (delivery.properties, Bytes::from(delivery.data));
        let arrival = Arrival::new(tag, delivery.redelivered, &properties, now);
        let message = match kind(&properties) {
            Some(envelope::MESSAGE) => self.one_of_ours(arrival, body),
            _ => self.foreign(arrival, body, None),
        };
        message.condemned()
    }

    fn one_of_ours(&self, arrival: Arrival<'_>, body: Bytes) -> Message {
        let id = arrival.message_id.and_then(|text| text.parse().ok());
        match id.filter(|id: &MessageId| id.is_ours(self.number, arrival.now)) {
            Some(id) => Message {
                tag: arrival.tag,
                id,
                payload: body,
                awaited: arrival.awaited,
                seen_before: arrival.seen_before,
                key: None,
                fault: None,
                provenance: Arc::new(arrival.provenance),
            },
            None => self.misfit(arrival, body, "its message_id is none of this tenant's"),
        }
    }

    fn batch_of_ours(&self, arrival: Arrival<'_>, body: Bytes) -> Vec<Message> {
        let entries = match envelope::unpack(body.clone()) {
            Ok(entries) => entries,
            Err(reason) => return vec![self.misfit(arrival, body, &reason.to_string())],
        };
        let is_ours = |(id, _): &(MessageId, Bytes)| id.is_ours(self.number, arrival.now);
        if !entries.iter().all(is_ours) {
            let error = "it holds an id that is none of this tenant's";
            return vec![self.misfit(arrival, body, error)];
        }
        // A dead letter of one entry is that entry, no batch.
        let provenance = Arc::new(Provenance {
            content_type: Some(envelope::MESSAGE_CONTENT_TYPE.to_owned()),
            headers: arrival.provenance.headers,
        });
        let message = |(id, payload)| Message {
            tag: arrival.tag,
            id,
            payload,
            awaited: arrival.awaited,
            seen_before: arrival.seen_before,
            key: None,
            fault: None,
            provenance: Arc::clone(&provenance),
        };
        entries.into_iter().map(message).collect()
    }

    fn of_a_client(&self, arrival: Arrival<'_>, body: Bytes) -> Message {
        let fault = payload::check(&body).err().map(|reason| Fault {
            reason: if reason == Unstorable::Malformed {
                Reason::MalformedJson
            } else {
                Reason::UnstorablePayload
            },
            error: reason.to_string(),
        });
        self.foreign(arrival, body, fault)
    }

    /// Says it is ours and cannot be: buried as it came.
    fn misfit(&self, arrival: Arrival<'_>, body: Bytes, error: &str) -> Message {
        let fault = Fault {
            reason: Reason::BadEnvelope,
            error: error.to_owned(),
        };
        self.foreign(arrival, body, Some(fault))
    }

    /// A message with a new id, recognised when it comes again by its `message_id`, if it has one.
    fn foreign(&self, arrival: Arrival<'_>, body: Bytes, fault: Option<Fault>) -> Message {
        let origin = Origin::Consumed;
        let key = arrival.message_id.map(str::as_bytes);
        Message {
            tag: arrival.tag,
            id: self
                .mint
                .mint(arrival.now, self.number, origin, random::bits()),
            payload: body,
            awaited: false,
            // Nobody has seen this id before, whatever became of the body.
            seen_before: false,
            key: key.map(Bytes::copy_from_slice),
            fault,
            provenance: Arc::new(arrival.provenance),
        }
    }
}

/// What is known of a delivery before its body is looked at.
struct Arrival<'a> {
    tag: Tag,
    awaited: bool,
    /// The broker has delivered it before. CAUTION: whatever publishes a message a second time
    /// must have it told here too.
    seen_before: bool,
    message_id: Option<&'a str>,
    provenance: Provenance,
    now: Timestamp,
}

impl<'a> Arrival<'a> {
    fn new(tag: Tag, seen_before: bool, properties: &'a BasicProperties, now: Timestamp) -> Self {
        let provenance = Provenance {
            content_type: properties.content_type().as_ref().map(without_nul),
            headers: properties.headers().clone(),
        };
        Self {
            tag,
            awaited: provenance.is_awaited(),
            seen_before,
            message_id: properties.message_id().as_ref().map(ShortString::as_str),
            provenance,
            now,
        }
    }
}

fn kind(properties: &BasicProperties) -> Option<&str> {
    properties.kind().as_ref().map(ShortString::as_str)
}

impl Provenance {
    /// The property `content_type`.
    pub(crate) fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// The headers as a JSON object, if there are any. Texts, numbers and booleans are kept, other
    /// types are described. Fit for `jsonb`: no NUL.
    pub(crate) fn headers_json(&self) -> Option<String> {
        let headers = self.headers.as_ref()?;
        let fields = headers
            .into_iter()
            .map(|(name, value)| (without_nul(name), json(value)));
        let object: serde_json::Map<_, _> = fields.collect();
        (!object.is_empty()).then(|| serde_json::Value::Object(object).to_string())
    }

    fn is_awaited(&self) -> bool {
        let value = self.headers.as_ref();
        let value = value.and_then(|headers| headers.inner().get(envelope::HEADER_AWAITED));
        matches!(value, Some(AMQPValue::Boolean(true)))
    }
}

impl fmt::Debug for Provenance {
    /// Says nothing of the values: headers are the tenant's.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers = self.headers.as_ref().map(|headers| headers.inner().len());
        out.debug_struct("Provenance")
            .field("content_type", &self.content_type)
            .field("headers", &headers)
            .finish()
    }
}

fn without_nul(text: &ShortString) -> String {
    text.as_str().replace('\0', "\u{fffd}")
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "not our enum; what has no JSON type is described, whatever it is"
)]
fn json(value: &AMQPValue) -> serde_json::Value {
    match value {
        AMQPValue::Boolean(value) => (*value).into(),
        AMQPValue::ShortShortInt(value) => (*value).into(),
        AMQPValue::ShortShortUInt(value) => (*value).into(),
        AMQPValue::ShortInt(value) => (*value).into(),
        AMQPValue::ShortUInt(value) => (*value).into(),
        AMQPValue::LongInt(value) => (*value).into(),
        AMQPValue::LongUInt(value) => (*value).into(),
        AMQPValue::LongLongInt(value) => (*value).into(),
        AMQPValue::Timestamp(value) => (*value).into(),
        // A float that is no number (an infinity, say) becomes null.
        AMQPValue::Float(value) => (*value).into(),
        AMQPValue::Double(value) => (*value).into(),
        AMQPValue::ShortString(text) => without_nul(text).into(),
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes())
            .replace('\0', "\u{fffd}")
            .into(),
        AMQPValue::Void => serde_json::Value::Null,
        other => format!("{other:?}").replace('\0', "\u{fffd}").into(),
    }
}

#[cfg(test)]
#[path = "consume_tests.rs"]
mod tests;
