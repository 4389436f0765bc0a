//! The connection to the broker: made, kept, and made again, with one channel and one consumer.
//!
//! ```text
//!   reactor ── Order ──▶ session task ── AMQP ──▶ broker
//!           ◀── Feed ───             ◀──────────
//! ```
//!
//! Each connection has a channel of the next generation. What the reactor orders for an older one
//! is dropped here. Whatever goes wrong (the queue is not there, the consumer was cancelled, the
//! connection broke) ends the connection, is told once, and is followed by a pause and a new
//! connection. The library's own recovery stays off: it would hide the change of generation.

use std::time::Duration;

use futures_util::StreamExt;
use jatis_shared::{config::RabbitMq, control::Spec, retry::Backoff, topology};
use lapin::{
    Channel, Connection, ConnectionProperties, Consumer, ErrorKind,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions,
        BasicQosOptions,
    },
    types::FieldTable,
    uri::AMQPUri,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, warn};

use crate::{half_open::HalfOpen, message::Tag, random};

/// The name of the consumer; it is alone on its channel.
const CONSUMER: &str = "jatis-worker";
/// AMQP reply code of a refused login.
const ACCESS_REFUSED: u16 = 403;
/// Orders besides those that settle a delivery: see [`order_bound`].
const OTHER_ORDERS: usize = 64;

/// What the reactor wants of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Acknowledge everything up to this delivery.
    Acknowledge(Tag),
    /// Give this delivery back to the queue.
    GiveBack(Tag),
    /// Stop consuming; answered by `Cancelled`.
    Cancel,
    /// Consume again.
    Consume,
    /// Connect now if you are pausing.
    Reconnect,
    /// Close channel and connection; answered by `Closed`, the last word.
    Close,
}

/// What the reactor hears from the session.
#[derive(Debug)]
pub(crate) enum Feed {
    /// It consumes on a new channel; numbers start from 1.
    Consuming { generation: u64, took: Duration },
    /// A delivery.
    Delivered { tag: Tag, delivery: Box<Delivery> },
    /// No delivery comes any more, until it consumes again.
    Cancelled,
    /// The channel is gone, with everything unacknowledged on it. Connects again after a pause.
    Away { reason: String, refused: bool },
    /// The end.
    Closed,
}

/// Room for every order there can be: each delivery is acknowledged or given back once, and the
/// rest are few.
pub(crate) fn order_bound(prefetch: u16) -> usize {
    usize::from(prefetch) + OTHER_ORDERS
}

/// The session task.
pub(crate) struct Session {
    uri: AMQPUri,
    name: String,
    queue: String,
    prefetch: u16,
    timeout: Duration,
    backoff: Backoff,
    generation: u64,
    /// Whether to consume, as ordered last.
    consumes: bool,
    orders: mpsc::Receiver<Order>,
    feed: mpsc::Sender<Feed>,
}

/// An open channel.
struct Link {
    connection: Connection,
    channel: Channel,
    consumer: Option<Consumer>,
}

/// How a connection ended.
enum End {
    /// As ordered.
    Closed,
    /// By itself.
    Lost(LinkError),
}

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("cannot connect to the broker: {0}")]
    Connect(#[source] lapin::Error),
    #[error("cannot consume from the queue: {0}")]
    Consume(#[source] lapin::Error),
    #[error("the channel broke: {0}")]
    Broken(#[source] lapin::Error),
    #[error("the broker cancelled the consumer")]
    Cancelled,
    #[error("the broker did not answer in time")]
    Timeout,
}

impl LinkError {
    /// The broker refused the credentials.
    fn is_refusal(&self) -> bool {
        let Self::Connect(error) = self else {
            return false;
        };
        matches!(error.kind(), ErrorKind::ProtocolError(amqp) if amqp.get_id() == ACCESS_REFUSED)
    }
}

impl Session {
    /// # Errors
    /// When `rabbitmq.url` is no AMQP URL; the reason holds nothing of it.
    pub(crate) fn new(
        spec: &Spec,
        orders: mpsc::Receiver<Order>,
        feed: mpsc::Sender<Feed>,
    ) -> Result<Self, String> {
        Ok(Self {
            uri: uri(&spec.rabbitmq)?,
            name: format!("jatis worker {}", spec.tenant),
            queue: topology::main_queue_name(spec.tenant),
            prefetch: spec.prefetch,
            timeout: spec.rabbitmq.connect_timeout,
            backoff: spec.rabbitmq.reconnect(),
            generation: 0,
            consumes: true,
            orders,
            feed,
        })
    }

    /// Keeps a connection until it is ordered to close. Each failure is followed by a pause that
    /// doubles up to `rabbitmq.reconnect_max`.
    pub(crate) async fn run(mut self) {
        let mut failures = 0;
        loop {
            let before = self.generation;
            let End::Lost(error) = self.connect_and_serve().await else {
                break;
            };
            failures = if self.generation > before { 0 } else { failures };
            let away = Feed::Away {
                reason: error.to_string(),
                refused: error.is_refusal(),
            };
            self.tell(away).await;
            let pause = self.backoff.jittered(failures, random::dice());
            failures = failures.saturating_add(1);
            if let Rest::Over = self.rest(pause).await {
                break;
            }
        }
        self.tell(Feed::Closed).await;
    }

    async fn connect_and_serve(&mut self) -> End {
        let began = Instant::now();
        let opened = tokio::select! {
            opened = open(self.uri.clone(), &self.name, self.timeout) => opened,
            () = until_close(&mut self.orders, &self.feed, &mut self.consumes) => {
                return End::Closed;
            }
        };
        let mut link = match opened {
            Ok(link) => link,
            Err(error) => return End::Lost(error),
        };
        match self.serve(&mut link, began).await {
            Ok(()) => {
                self.close(link).await;
                End::Closed
            }
            Err(error) => End::Lost(error),
        }
    }

    /// Consumes and obeys, until `Close`.
    async fn serve(&mut self, link: &mut Link, began: Instant) -> Result<(), LinkError> {
        let qos = link.channel.basic_qos(self.prefetch, BasicQosOptions::default());
        within(self.timeout, qos).await?.map_err(LinkError::Consume)?;
        self.generation += 1;
        if self.consumes {
            link.consumer = Some(self.consume(&link.channel).await?);
            let (generation, took) = (self.generation, began.elapsed());
            self.tell(Feed::Consuming { generation, took }).await;
        }
        loop {
            let order = tokio::select! {
                order = self.orders.recv() => order,
                delivery = next(&mut link.consumer) => {
                    self.deliver(delivery?).await;
                    continue;
                }
            };
            match order {
                Some(Order::Close) | None => return Ok(()),
                Some(order) => self.obey(link, order).await?,
            }
        }
    }

    async fn obey(&mut self, link: &mut Link, order: Order) -> Result<(), LinkError> {
        match order {
            Order::Acknowledge(tag) if tag.generation == self.generation => {
                let options = BasicAckOptions { multiple: true };
                let done = link.channel.basic_ack(tag.number, options);
                within(self.timeout, done).await?.map_err(LinkError::Broken)
            }
            Order::GiveBack(tag) if tag.generation == self.generation => {
                let options = BasicNackOptions {
                    multiple: false,
                    requeue: true,
                };
                let done = link.channel.basic_nack(tag.number, options);
                within(self.timeout, done).await?.map_err(LinkError::Broken)
            }
            Order::Cancel => {
                self.consumes = false;
                self.cancel(link).await?;
                self.tell(Feed::Cancelled).await;
                Ok(())
            }
            Order::Consume => {
                self.consumes = true;
                if link.consumer.is_none() {
                    let began = Instant::now();
                    link.consumer = Some(self.consume(&link.channel).await?);
                    let (generation, took) = (self.generation, began.elapsed());
                    self.tell(Feed::Consuming { generation, took }).await;
                }
                Ok(())
            }
            // Of an older channel; or connected already; `Close` never comes here.
            Order::Acknowledge(_) | Order::GiveBack(_) | Order::Reconnect | Order::Close => Ok(()),
        }
    }

    async fn consume(&self, channel: &Channel) -> Result<Consumer, LinkError> {
        let consuming = channel.basic_consume(
            self.queue.as_str().into(),
            CONSUMER.into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        within(self.timeout, consuming)
            .await?
            .map_err(LinkError::Consume)
    }

    /// Cancels the consumer and passes on what had come before the broker confirmed it.
    async fn cancel(&mut self, link: &mut Link) -> Result<(), LinkError> {
        let Some(mut consumer) = link.consumer.take() else {
            return Ok(());
        };
        let cancelling = link
            .channel
            .basic_cancel(CONSUMER.into(), BasicCancelOptions::default());
        within(self.timeout, cancelling)
            .await?
            .map_err(LinkError::Broken)?;
        while let Some(delivery) = within(self.timeout, consumer.next()).await? {
            self.deliver(delivery.map_err(LinkError::Broken)?).await;
        }
        Ok(())
    }

    /// Closes the channel, then the connection. A broker that is gone has closed them already.
    async fn close(&self, link: Link) {
        let closing = async {
            link.channel.close(200, "drained".into()).await?;
            link.connection.close(200, "drained".into()).await
        };
        match timeout(self.timeout, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "the broker connection was closed already"),
            Err(_) => warn!("the broker did not confirm the end of the connection in time"),
        }
    }

    /// Waits out a pause, or less if so ordered.
    async fn rest(&mut self, pause: Duration) -> Rest {
        let over = sleep(pause);
        tokio::pin!(over);
        loop {
            let order = tokio::select! {
                () = &mut over => return Rest::Done,
                order = self.orders.recv() => order,
            };
            match note(order, &mut self.consumes) {
                Noted::Close => return Rest::Over,
                Noted::Cancelled => self.tell(Feed::Cancelled).await,
                Noted::Reconnect => return Rest::Done,
                Noted::Nothing => {}
            }
        }
    }

    async fn deliver(&self, delivery: Delivery) {
        let tag = Tag {
            generation: self.generation,
            number: delivery.delivery_tag,
        };
        let delivery = Box::new(delivery);
        self.tell(Feed::Delivered { tag, delivery }).await;
    }

    async fn tell(&self, feed: Feed) {
        tell(&self.feed, feed).await;
    }
}

async fn tell(sender: &mpsc::Sender<Feed>, feed: Feed) {
    if sender.send(feed).await.is_err() {
        debug!("the reactor has left; nobody listens to the broker");
    }
}

/// How a pause ended.
enum Rest {
    /// Time to connect.
    Done,
    /// Never connect again.
    Over,
}

/// What an order means to a session without a connection.
enum Noted {
    Close,
    Cancelled,
    Reconnect,
    Nothing,
}

fn note(order: Option<Order>, consumes: &mut bool) -> Noted {
    match order {
        None | Some(Order::Close) => Noted::Close,
        Some(Order::Cancel) => {
            *consumes = false;
            Noted::Cancelled
        }
        Some(Order::Consume) => {
            *consumes = true;
            Noted::Nothing
        }
        Some(Order::Reconnect) => Noted::Reconnect,
        // Their channel is gone.
        Some(Order::Acknowledge(_) | Order::GiveBack(_)) => Noted::Nothing,
    }
}

/// Takes orders while a connection is being made.
async fn until_close(
    orders: &mut mpsc::Receiver<Order>,
    feed: &mpsc::Sender<Feed>,
    consumes: &mut bool,
) {
    loop {
        match note(orders.recv().await, consumes) {
            Noted::Close => return,
            Noted::Cancelled => tell(feed, Feed::Cancelled).await,
            Noted::Reconnect | Noted::Nothing => {}
        }
    }
}

/// The next delivery; never, without a consumer. Cancel-safe.
async fn next(consumer: &mut Option<Consumer>) -> Result<Delivery, LinkError> {
    match consumer {
        Some(consumer) => match consumer.next().await {
            Some(delivery) => delivery.map_err(LinkError::Broken),
            None => Err(LinkError::Cancelled),
        },
        None => std::future::pending().await,
    }
}

async fn within<T>(limit: Duration, done: impl Future<Output = T>) -> Result<T, LinkError> {
    timeout(limit, done).await.map_err(|_| LinkError::Timeout)
}

/// The URL with what this worker wants of the connection.
fn uri(keys: &RabbitMq) -> Result<AMQPUri, String> {
    let mut uri: AMQPUri = keys.url.expose().parse()?;
    // The library sizes two buffers by it, and touches all of them unless it is known up front.
    uri.query.frame_max = Some(keys.worker_frame_max);
    uri.query.heartbeat = Some(u16::try_from(keys.heartbeat.as_secs()).unwrap_or(u16::MAX));
    Ok(uri)
}

/// Connects and opens a channel.
async fn open(uri: AMQPUri, name: &str, limit: Duration) -> Result<Link, LinkError> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let half_open = HalfOpen::default();
    let connection = within(limit, half_open.connect(uri, properties))
        .await?
        .map_err(LinkError::Connect)?;
    let channel = within(limit, connection.create_channel())
        .await?
        .map_err(LinkError::Consume)?;
    half_open.complete();
    Ok(Link {
        connection,
        channel,
        consumer: None,
    })
}
