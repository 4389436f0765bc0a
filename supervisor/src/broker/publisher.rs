//! Publishing: one confirm channel and one task for each tenant published to lately.
//!
//! The client library hands a message that the broker returned to *whichever* confirm of the same
//! channel it completes next. A channel is therefore used by one tenant only, and its task keeps
//! the ids of returned messages: a confirm counts only if its own message is not among them. The
//! library completes a confirm that carries a return before the confirm it should have gone to,
//! and [`FuturesUnordered`] yields in that order, so the note is always there in time.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jatis_connect::amqp::ConnectError;
use jatis_shared::{
    config::RabbitMq,
    envelope,
    ids::{MessageId, TenantId},
    topology::main_queue_name,
};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection,
    message::BasicReturnMessage,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{debug, warn};

use super::{
    BrokerError, Outgoing, PublishError,
    link::{Link, Publishing, within},
};

/// `delivery_mode` of a message that survives a restart of the broker.
const PERSISTENT: u8 = 2;

pub(super) struct Publishers {
    links: Arc<[Link]>,
    timeout: Duration,
    permits: Semaphore,
    channels: std::sync::Mutex<Channels>,
}

/// The channels in use, and which of them was used longest ago.
struct Channels {
    by_tenant: HashMap<TenantId, Entry>,
    bound: NonZeroUsize,
    /// A channel's queue holds this many requests: all that may be under way, so it is never full.
    queue: usize,
    uses: u64,
    tasks: JoinSet<()>,
}

struct Entry {
    requests: mpsc::Sender<Request>,
    /// The place of its link, and which of that link's connections the channel is on.
    place: usize,
    epoch: u64,
    last_use: u64,
}

struct Request {
    message: Outgoing,
    deadline: Instant,
    answer: oneshot::Sender<Result<(), PublishError>>,
}

impl Publishers {
    pub(super) fn start(config: &RabbitMq, timeout: Duration) -> Result<Self, ConnectError> {
        let links = (1..=config.publisher_connections)
            .map(|n| Link::start(config, &format!("jatis publisher {n}")));
        let permits = usize::try_from(config.max_publishing).unwrap_or(Semaphore::MAX_PERMITS);
        let channels = Channels {
            queue: permits,
            by_tenant: HashMap::new(),
            bound: NonZeroUsize::new(usize::from(config.publisher_channels))
                .unwrap_or(NonZeroUsize::MIN),
            uses: 0,
            tasks: JoinSet::new(),
        };
        Ok(Self {
            links: links.collect::<Result<_, _>>()?,
            timeout,
            permits: Semaphore::new(permits),
            channels: channels.into(),
        })
    }

    pub(super) async fn publish(
        &self,
        tenant: TenantId,
        message: Outgoing,
    ) -> Result<(), PublishError> {
        let Ok(_permit) = self.permits.try_acquire() else {
            return Err(PublishError::Overloaded);
        };
        let (answer, answered) = oneshot::channel();
        let request = Request {
            message,
            deadline: Instant::now() + self.timeout,
            answer,
        };
        let requests = self.requests_of(tenant)?;
        if requests.try_send(request).is_err() {
            return Err(PublishError::NotPublished(BrokerError::Closing));
        }
        // The task answers everything it took, by the deadline at the latest.
        answered
            .await
            .unwrap_or(Err(PublishError::Uncertain(BrokerError::Closing)))
    }

    /// Closes a tenant's channel, once what it took is answered.
    pub(super) fn forget(&self, tenant: TenantId) {
        self.lock().by_tenant.remove(&tenant);
    }

    /// Closes every channel in order, then the connections.
    pub(super) async fn close(&self) {
        let mut tasks = {
            let mut channels = self.lock();
            channels.by_tenant.clear();
            std::mem::take(&mut channels.tasks)
        };
        while let Some(ended) = tasks.join_next().await {
            log_end(&ended);
        }
        for link in self.links.iter() {
            link.close().await;
        }
    }

    /// The queue of the tenant's channel, opening one if there is none, or none that lives.
    fn requests_of(&self, tenant: TenantId) -> Result<mpsc::Sender<Request>, PublishError> {
        let mut channels = self.lock();
        channels.uses += 1;
        let last_use = channels.uses;
        if let Some(entry) = channels.by_tenant.get_mut(&tenant)
            && !entry.requests.is_closed()
            && self.epoch_of(entry.place) == Some(entry.epoch)
        {
            entry.last_use = last_use;
            return Ok(entry.requests.clone());
        }
        let (place, line) = self.link_of(tenant).map_err(PublishError::NotPublished)?;
        let epoch = line.epoch;
        let (requests, incoming) = mpsc::channel(channels.queue);
        while let Some(ended) = channels.tasks.try_join_next() {
            log_end(&ended);
        }
        channels.make_room(tenant);
        channels
            .tasks
            .spawn(serve(tenant, line.connection, self.timeout, incoming));
        channels.by_tenant.insert(
            tenant,
            Entry {
                requests: requests.clone(),
                place,
                epoch,
                last_use,
            },
        );
        Ok(requests)
    }

    /// The connection a tenant publishes on, with the place of its link: the tenant's own by its id,
    /// or the next that takes messages.
    fn link_of(&self, tenant: TenantId) -> Result<(usize, Publishing), BrokerError> {
        let count = self.links.len();
        let own = usize::from(tenant.uuid().as_bytes()[15]) % count;
        let mut first_error = None;
        for place in (0..count).map(|step| (own + step) % count) {
            match self.links.get(place).map(Link::publishing) {
                Some(Ok(line)) => return Ok((place, line)),
                Some(Err(error)) => first_error = first_error.or(Some(error)),
                None => {}
            }
        }
        Err(first_error.unwrap_or(BrokerError::Closing))
    }

    /// Which connection of a link takes messages now.
    fn epoch_of(&self, place: usize) -> Option<u64> {
        Some(self.links.get(place)?.publishing().ok()?.epoch)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Channels> {
        self.channels
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Channels {
    /// Forgets the channel used longest ago if a further one would break the bound.
    fn make_room(&mut self, tenant: TenantId) {
        if self.by_tenant.len() < self.bound.get() || self.by_tenant.contains_key(&tenant) {
            return;
        }
        let oldest = self
            .by_tenant
            .iter()
            .min_by_key(|(_, entry)| entry.last_use)
            .map(|(tenant, _)| *tenant);
        if let Some(oldest) = oldest {
            self.by_tenant.remove(&oldest);
        }
    }
}

fn log_end(ended: &Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        warn!(%error, "a publishing task ended badly");
    }
}

/// Serves one tenant's channel until it fails, a confirm is late, or nobody holds its queue. No
/// request waits for longer than the first one's deadline in any step: a broker that is silent
/// answers nothing at all, not even the end of a channel.
async fn serve(
    tenant: TenantId,
    connection: Arc<Connection>,
    limit: Duration,
    mut incoming: mpsc::Receiver<Request>,
) {
    let (ended, line) = match within(limit, open(&connection)).await {
        Ok(channel) => {
            let mut line = Line::new(tenant, channel);
            (line.serve(&mut incoming).await, Some(line))
        }
        Err(error) => (Err(error), None),
    };
    // What still waits in the queue was never sent.
    let error = ended.err().unwrap_or(BrokerError::Closing);
    incoming.close();
    while let Ok(request) = incoming.try_recv() {
        request.answer(Err(PublishError::NotPublished(error.clone())));
    }
    if let Some(line) = line {
        line.close(&error, limit).await;
    }
}

async fn open(connection: &Connection) -> Result<Channel, BrokerError> {
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    Ok(channel)
}

impl Request {
    fn answer(self, answer: Result<(), PublishError>) {
        if self.answer.send(answer).is_err() {
            debug!("a publisher left before it was answered");
        }
    }
}

type Confirm = BoxFuture<'static, (MessageId, lapin::Result<Confirmation>)>;

/// A confirm channel with what is under way on it.
struct Line {
    queue: String,
    channel: Channel,
    confirms: FuturesUnordered<Confirm>,
    waiting: HashMap<MessageId, Request>,
    returned: HashSet<MessageId>,
}

impl Line {
    fn new(tenant: TenantId, channel: Channel) -> Self {
        Self {
            queue: main_queue_name(tenant),
            channel,
            confirms: FuturesUnordered::new(),
            waiting: HashMap::new(),
            returned: HashSet::new(),
        }
    }

    /// Publishes until the queue of requests is closed and everything is confirmed, or until the
    /// channel fails or a confirm is late.
    async fn serve(&mut self, incoming: &mut mpsc::Receiver<Request>) -> Result<(), BrokerError> {
        let mut open = true;
        while open || !self.waiting.is_empty() {
            let deadline = self.deadline();
            let late = async { sleep_until(deadline.unwrap_or_else(Instant::now)).await };
            tokio::select! {
                biased;
                Some((id, confirm)) = self.confirms.next() => self.settle(id, confirm)?,
                () = late, if deadline.is_some() => return Err(BrokerError::Timeout),
                request = incoming.recv(), if open => match request {
                    Some(request) => self.publish(request).await?,
                    None => open = false,
                },
            }
        }
        Ok(())
    }

    /// When the first of what is under way is late.
    fn deadline(&self) -> Option<Instant> {
        self.waiting.values().map(|request| request.deadline).min()
    }

    /// Leaves what is under way uncertain and closes the channel.
    async fn close(mut self, error: &BrokerError, limit: Duration) {
        for (_, request) in self.waiting.drain() {
            request.answer(Err(PublishError::Uncertain(error.clone())));
        }
        let closing = async { Ok(self.channel.close(200, "done".into()).await?) };
        if let Err(error) = within(limit, closing).await {
            debug!(queue = self.queue, %error, "a publishing channel did not close in order");
        }
    }

    async fn publish(&mut self, request: Request) -> Result<(), BrokerError> {
        let Outgoing { id, payload, .. } = &request.message;
        let (id, payload) = (*id, payload.clone());
        let properties = properties(&request.message);
        // Noted before it is sent: if sending fails half-way, its fate is unknown.
        self.waiting.insert(id, request);
        let deadline = self.deadline().unwrap_or_else(Instant::now);
        let mandatory = BasicPublishOptions {
            mandatory: true,
            immediate: false,
        };
        let queue = self.queue.as_str().into();
        let sending = self
            .channel
            .basic_publish("".into(), queue, mandatory, &payload, properties);
        let confirm = timeout_at(deadline, sending)
            .await
            .map_err(|_| BrokerError::Timeout)??;
        self.confirms
            .push(Box::pin(async move { (id, confirm.await) }));
        Ok(())
    }

    fn settle(
        &mut self,
        id: MessageId,
        confirm: lapin::Result<Confirmation>,
    ) -> Result<(), BrokerError> {
        let (acked, carried) = match confirm? {
            Confirmation::Ack(carried) => (true, carried),
            Confirmation::Nack(carried) => (false, carried),
            Confirmation::NotRequested => (false, None),
        };
        let reason = carried
            .as_ref()
            .map(|message| message.reply_text.to_string())
            .unwrap_or_default();
        self.returned.extend(carried.as_ref().and_then(returned_id));
        let answer = if self.returned.remove(&id) {
            Err(PublishError::NotPublished(BrokerError::Returned(reason)))
        } else if acked {
            Ok(())
        } else {
            Err(PublishError::Uncertain(BrokerError::Nacked))
        };
        if let Some(request) = self.waiting.remove(&id) {
            request.answer(answer);
        }
        Ok(())
    }
}

fn properties(message: &Outgoing) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(
        envelope::HEADER_REQUEST_ID.into(),
        AMQPValue::LongString(message.request_id.as_str().into()),
    );
    headers.insert(
        envelope::HEADER_AWAITED.into(),
        AMQPValue::Boolean(message.awaited),
    );
    BasicProperties::default()
        .with_type(envelope::MESSAGE.into())
        .with_content_type(envelope::MESSAGE_CONTENT_TYPE.into())
        .with_message_id(message.id.to_string().into())
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers)
}

fn returned_id(message: &BasicReturnMessage) -> Option<MessageId> {
    message
        .delivery
        .properties
        .message_id()
        .as_ref()?
        .as_str()
        .parse()
        .ok()
}
