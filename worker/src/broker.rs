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

use jatis_connect::amqp::{ConnectError, Target};
use jatis_shared::{control::Spec, retry::Backoff, topology};
use lapin::message::Delivery;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tracing::debug;

use crate::{
    link::{Link, LinkError},
    message::Tag,
    random,
};

/// Orders besides those that settle a delivery: see [`order_bound`].
const OTHER_ORDERS: usize = 64;

/// What the reactor wants of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Acknowledge everything up to this delivery.
    Acknowledge(Tag),
    /// Give this delivery back to the queue.
    GiveBack(Tag),
    /// Stop consuming; always answered by one `Cancelled`.
    Cancel,
    /// Consume again; answered by `Consuming`, as soon as there is a channel.
    Consume,
    /// Hold as many deliveries as the spec allows, no longer only one.
    Widen,
    /// Connect now if you are pausing.
    Reconnect,
    /// Close channel and connection; answered by `Closed`, the last word.
    Close,
}

/// What the reactor hears from the session.
#[derive(Debug)]
pub(crate) enum Feed {
    /// It consumes on this channel; on a new one numbers start from 1.
    Consuming { generation: u64, took: Duration },
    /// There is a new channel, and as ordered it does not consume.
    Idle { generation: u64, took: Duration },
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
    target: Target,
    queue: String,
    /// Deliveries it may hold when it is not on probation.
    prefetch: u16,
    timeout: Duration,
    backoff: Backoff,
    generation: u64,
    wanted: Wanted,
    /// Whether this connection has got as far as it should: to a consumer, or to being idle.
    has_served: bool,
    orders: mpsc::Receiver<Order>,
    feed: mpsc::Sender<Feed>,
}

/// How to consume, as ordered last.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    /// At all.
    consumes: bool,
    /// More than one delivery at a time.
    is_wide: bool,
}

/// How a connection ended.
enum End {
    /// As ordered.
    Closed,
    /// By itself.
    Lost(LinkError),
}

impl Session {
    /// # Errors
    /// When `rabbitmq.url` is no AMQP URL or TLS cannot be set up; the reason holds nothing of it.
    pub(crate) fn new(
        spec: &Spec,
        orders: mpsc::Receiver<Order>,
        feed: mpsc::Sender<Feed>,
    ) -> Result<Self, ConnectError> {
        let name = format!("jatis worker {}", spec.tenant);
        Ok(Self {
            target: Target::new(&spec.rabbitmq, &name, spec.rabbitmq.worker_frame_max)?,
            queue: topology::main_queue_name(spec.tenant),
            prefetch: spec.prefetch,
            timeout: spec.rabbitmq.connect_timeout,
            backoff: spec.rabbitmq.reconnect(),
            generation: 0,
            wanted: Wanted {
                consumes: !spec.paused,
                is_wide: spec.probation.is_none(),
            },
            has_served: false,
            orders,
            feed,
        })
    }

    /// Keeps a connection until it is ordered to close. Each failure is followed by a pause that
    /// doubles up to `rabbitmq.reconnect_max`.
    pub(crate) async fn run(mut self) {
        let mut failures = 0;
        loop {
            self.has_served = false;
            let End::Lost(error) = self.connect_and_serve().await else {
                break;
            };
            failures = if self.has_served { 0 } else { failures };
            let away = Feed::Away {
                reason: error.reason(),
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
        let opening = Link::open(&self.target, self.prefetch(), self.timeout);
        let opened = tokio::select! {
            opened = opening => opened,
            () = until_close(&mut self.orders, &self.feed, &mut self.wanted) => {
                return End::Closed;
            }
        };
        let mut link = match opened {
            Ok(link) => link,
            Err(error) => return End::Lost(error),
        };
        match self.serve(&mut link, began).await {
            Ok(()) => {
                link.close().await;
                End::Closed
            }
            Err(error) => End::Lost(error),
        }
    }

    /// Consumes and obeys, until `Close`.
    async fn serve(&mut self, link: &mut Link, began: Instant) -> Result<(), LinkError> {
        self.generation += 1;
        if self.wanted.consumes {
            self.consume(link, began).await?;
        } else {
            self.has_served = true;
            let (generation, took) = (self.generation, began.elapsed());
            self.tell(Feed::Idle { generation, took }).await;
        }
        loop {
            let order = tokio::select! {
                order = self.orders.recv() => order,
                delivery = link.next() => {
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
                link.acknowledge(tag.number).await
            }
            Order::GiveBack(tag) if tag.generation == self.generation => {
                link.give_back(tag.number).await
            }
            Order::Cancel => {
                self.wanted.consumes = false;
                let outcome = self.cancel(link).await;
                self.tell(Feed::Cancelled).await;
                outcome
            }
            Order::Consume => {
                self.wanted.consumes = true;
                self.consume(link, Instant::now()).await
            }
            // A running consumer keeps the prefetch it began with.
            Order::Widen => {
                self.wanted.is_wide = true;
                self.cancel(link).await?;
                link.hold(self.prefetch()).await?;
                if self.wanted.consumes {
                    link.consume(&self.queue).await?;
                }
                Ok(())
            }
            // Of an older channel; or connected already; `Close` never comes here.
            Order::Acknowledge(_) | Order::GiveBack(_) | Order::Reconnect | Order::Close => Ok(()),
        }
    }

    /// Stops consuming, and passes on what came meanwhile.
    async fn cancel(&self, link: &mut Link) -> Result<(), LinkError> {
        // Where that fails the channel goes, and everything on it: nothing is left to cancel.
        for delivery in link.cancel().await? {
            self.deliver(delivery).await;
        }
        Ok(())
    }

    const fn prefetch(&self) -> u16 {
        if self.wanted.is_wide {
            self.prefetch
        } else {
            1
        }
    }

    async fn consume(&mut self, link: &mut Link, began: Instant) -> Result<(), LinkError> {
        link.consume(&self.queue).await?;
        self.has_served = true;
        let (generation, took) = (self.generation, began.elapsed());
        self.tell(Feed::Consuming { generation, took }).await;
        Ok(())
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
            match note(order, &mut self.wanted) {
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

fn note(order: Option<Order>, wanted: &mut Wanted) -> Noted {
    match order {
        None | Some(Order::Close) => Noted::Close,
        Some(Order::Cancel) => {
            wanted.consumes = false;
            Noted::Cancelled
        }
        Some(Order::Consume) => {
            wanted.consumes = true;
            Noted::Nothing
        }
        Some(Order::Widen) => {
            wanted.is_wide = true;
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
    wanted: &mut Wanted,
) {
    loop {
        match note(orders.recv().await, wanted) {
            Noted::Close => return,
            Noted::Cancelled => tell(feed, Feed::Cancelled).await,
            Noted::Reconnect | Noted::Nothing => {}
        }
    }
}
