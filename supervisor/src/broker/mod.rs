//! The broker as the supervisor uses it: declarations, depths, and publishing with confirms.
//!
//! Connections are kept alive by one task each (`link`); nothing here relies on the client
//! library's own recovery. Publishing goes through one confirm channel per active tenant, so that a
//! message the broker returns can never be charged to another tenant's request. This room never
//! consumes and never interprets a payload.
//!
//! ```text
//!   publish ─▶ publisher: which tenant's channel ─▶ packer: what goes together ─▶ line ─▶ broker
//!                         request ▶ … ▶ parcel: one AMQP message, and whom its fate concerns
//! ```

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jatis_connect::amqp::ConnectError;
use jatis_shared::{
    config::RabbitMq,
    ids::{MessageId, TenantId},
    topology::QueueType,
};
use tokio::sync::watch;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub use error::{BrokerError, PublishError};
use link::Link;
pub use link::LinkState;
use publisher::Publishers;

mod error;
mod line;
mod link;
mod packer;
mod parcel;
mod publisher;
mod queues;

/// A message on its way into a tenant's queue.
#[derive(Debug)]
pub struct Outgoing {
    pub id: MessageId,
    pub payload: Bytes,
    pub request_id: String,
    /// Somebody waits to hear that it is stored.
    pub awaited: bool,
    /// Dropped when its fate is known: whoever drains the tenant waits for that, however long ago
    /// the client has left.
    pub passage: TaskTrackerToken,
}

/// What a tenant's main queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// Nothing, and nothing of it is with a consumer either.
    Empty,
    /// Nothing is ready, but a consumer is there, or one that is gone has not given back all yet.
    Held,
    /// Deliveries are ready.
    Ready,
}

/// Called with the number of messages in each AMQP message that the broker has confirmed. On the
/// reactor: it must neither block nor wait.
pub type PublishedHook = Box<dyn Fn(usize) + Send + Sync>;

/// The supervisor's connections to the broker.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    admin: Link,
    publishers: Publishers,
    timeout: Duration,
}

impl Broker {
    /// Starts connecting; returns at once. While the broker is away every operation says so.
    ///
    /// # Errors
    /// [`ConnectError::Url`], [`ConnectError::Tls`].
    pub fn start(
        config: &RabbitMq,
        publish_timeout: Duration,
        published: PublishedHook,
    ) -> Result<Self, ConnectError> {
        let admin = Link::start(config, "jatis supervisor")?;
        let publishers = Publishers::start(config, publish_timeout, published)?;
        let inner = Inner {
            admin,
            publishers,
            timeout: config.connect_timeout,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The state of the connection that declares: up means that the broker answers. Its epoch
    /// grows with every connection, and with it everything declared must be declared again.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<LinkState> {
        self.inner.admin.watch()
    }

    /// Declares a tenant's queues. Repeating it is harmless.
    ///
    /// # Errors
    /// When the broker is away, or a queue exists with other arguments.
    pub async fn declare(&self, tenant: TenantId, kind: QueueType) -> Result<(), BrokerError> {
        queues::declare(&self.inner.admin, self.inner.timeout, tenant, kind).await
    }

    /// Deletes a tenant's queues and what is in them; gives the deliveries that were ready in the
    /// main queue. Repeating it is harmless.
    ///
    /// # Errors
    /// When the broker is away.
    pub async fn delete(&self, tenant: TenantId) -> Result<u64, BrokerError> {
        self.inner.publishers.forget(tenant);
        queues::delete(&self.inner.admin, self.inner.timeout, tenant).await
    }

    /// The deliveries ready in each of these tenants' main queues, each asked for when the ones
    /// before it are known; tenants without a queue are left out.
    ///
    /// # Errors
    /// When the broker is away.
    pub async fn depths(
        &self,
        tenants: impl Iterator<Item = TenantId>,
    ) -> Result<Vec<(TenantId, u64)>, BrokerError> {
        queues::depths(&self.inner.admin, self.inner.timeout, tenants).await
    }

    /// The deliveries ready in a tenant's main queue.
    ///
    /// # Errors
    /// When the broker is away, or the queue is.
    pub async fn ready(&self, tenant: TenantId) -> Result<u64, BrokerError> {
        queues::ready(&self.inner.admin, self.inner.timeout, tenant).await
    }

    /// What a tenant's main queue holds, for certain; to be asked when its worker has left. A classic
    /// queue does not tell of deliveries that a consumer holds after cancelling, so there the worker
    /// must have left in order.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub async fn contents(&self, tenant: TenantId) -> Result<Contents, BrokerError> {
        queues::contents(&self.inner.admin, self.inner.timeout, tenant).await
    }

    /// Publishes into a tenant's main queue, together with others if `rabbitmq.coalesce` is on, and
    /// waits for the confirm, at most `messages.publish_timeout`.
    ///
    /// Cancel-safe: a message that was not sent yet then never is, one that was goes its way.
    ///
    /// # Errors
    /// Says whether the message may be in the queue nevertheless.
    pub async fn publish(&self, tenant: TenantId, message: Outgoing) -> Result<(), PublishError> {
        self.inner.publishers.publish(tenant, message).await
    }

    /// Closes every connection in order. What is still publishing ends uncertain.
    pub async fn close(&self) {
        self.inner.publishers.close().await;
        self.inner.admin.close().await;
    }
}
