//! What goes to the broker as one AMQP message, and who waits to hear of it.
//!
//! A message that is alone goes as such, several go as a batch; `jatis_shared::envelope` says what
//! either looks like. Whatever becomes of the AMQP message becomes of every message in it, and each
//! request is told. Nothing here speaks to the broker.

use bytes::Bytes;
use jatis_shared::{envelope, ids::MessageId};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};
use tracing::debug;

use super::{BrokerError, Outgoing, PublishError};

/// `delivery_mode` of a message that survives a restart of the broker.
const PERSISTENT: u8 = 2;

/// A message to publish, and who waits for its confirm.
#[derive(Debug)]
pub(super) struct Request {
    message: Outgoing,
    /// When it is to be answered at the latest.
    deadline: Instant,
    answer: oneshot::Sender<Result<(), PublishError>>,
    /// One of `rabbitmq.max_publishing`, until it is answered: also when nobody waits any more.
    _permit: OwnedSemaphorePermit,
}

/// What a request will be answered.
pub(super) type Answered = oneshot::Receiver<Result<(), PublishError>>;

impl Request {
    pub(super) fn new(
        message: Outgoing,
        deadline: Instant,
        permit: OwnedSemaphorePermit,
    ) -> (Self, Answered) {
        let (answer, answered) = oneshot::channel();
        let request = Self {
            message,
            deadline,
            answer,
            _permit: permit,
        };
        (request, answered)
    }

    /// Gives the request back if it is still to be sent. One that is late is answered: its message
    /// is certainly not in the queue. One whose sender has left is dropped: nobody was told that
    /// its message was taken, and nobody will be.
    pub(super) fn if_wanted(self, now: Instant) -> Option<Self> {
        if self.answer.is_closed() {
            return None;
        }
        if self.deadline <= now {
            self.answer(Err(PublishError::NotPublished(BrokerError::Timeout)));
            return None;
        }
        Some(self)
    }

    pub(super) fn answer(self, answer: Result<(), PublishError>) {
        if self.answer.send(answer).is_err() {
            debug!("a publisher left before it was answered");
        }
    }

    /// What it adds to a batch, bytes.
    pub(super) fn bytes(&self) -> usize {
        envelope::entry_bytes(self.message.payload.len())
    }
}

/// Requests whose messages go as one AMQP message, in this order.
#[derive(Debug)]
pub(super) struct Parcel {
    first: Request,
    others: Vec<Request>,
    bytes: usize,
}

impl Parcel {
    pub(super) fn of(first: Request) -> Self {
        Self {
            bytes: first.bytes(),
            first,
            others: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, request: Request) {
        self.bytes += request.bytes();
        self.others.push(request);
    }

    pub(super) const fn messages(&self) -> usize {
        1 + self.others.len()
    }

    /// The size of its body as a batch, bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The property `message_id`, by which the broker returns it: that of its first message.
    pub(super) const fn id(&self) -> MessageId {
        self.first.message.id
    }

    /// When the first of its requests is to be answered at the latest.
    pub(super) fn deadline(&self) -> Instant {
        let others = self.others.iter().map(|request| request.deadline);
        others.fold(self.first.deadline, Instant::min)
    }

    /// The body of the AMQP message.
    pub(super) fn body(&self) -> Bytes {
        if self.others.is_empty() {
            return self.first.message.payload.clone();
        }
        let entry = |request: &Request| (request.message.id, request.message.payload.clone());
        envelope::pack(&self.requests().map(entry).collect::<Vec<_>>())
    }

    /// The properties of the AMQP message.
    pub(super) fn properties(&self) -> BasicProperties {
        let mut headers = FieldTable::default();
        let awaited = self.requests().any(|request| request.message.awaited);
        headers.insert(envelope::HEADER_AWAITED.into(), AMQPValue::Boolean(awaited));
        let (kind, content_type) = if self.others.is_empty() {
            let request_id = self.first.message.request_id.as_str();
            headers.insert(
                envelope::HEADER_REQUEST_ID.into(),
                AMQPValue::LongString(request_id.into()),
            );
            (envelope::MESSAGE, envelope::MESSAGE_CONTENT_TYPE)
        } else {
            (envelope::BATCH, envelope::BATCH_CONTENT_TYPE)
        };
        BasicProperties::default()
            .with_type(kind.into())
            .with_content_type(content_type.into())
            .with_message_id(self.id().to_string().into())
            .with_delivery_mode(PERSISTENT)
            .with_headers(headers)
    }

    /// Tells every request what became of the AMQP message.
    pub(super) fn answer(self, answer: &Result<(), PublishError>) {
        for request in std::iter::once(self.first).chain(self.others) {
            request.answer(answer.clone());
        }
    }

    fn requests(&self) -> impl Iterator<Item = &Request> {
        std::iter::once(&self.first).chain(&self.others)
    }
}
