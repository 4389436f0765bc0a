//! One connection to the broker with its one channel and its one consumer, and what can be done
//! with them, each within `rabbitmq.connect_timeout`.

use std::time::Duration;

use futures_util::StreamExt;
use jatis_connect::amqp::{ConnectError, Target};
use jatis_shared::telemetry::Chain;
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    },
    types::FieldTable,
};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

/// How often a link without a consumer looks whether its channel lives.
const LOOK: Duration = Duration::from_millis(500);
/// The name of the consumer; it is alone on its channel.
const CONSUMER: &str = "jatis-worker";

/// An open channel. Dropping it closes the connection in the background.
pub(crate) struct Link {
    connection: Connection,
    channel: Channel,
    consumer: Option<Consumer>,
    limit: Duration,
}

/// A link that cannot be made or is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("cannot open a channel")]
    Open(#[source] lapin::Error),
    #[error("cannot consume from the queue")]
    Consume(#[source] lapin::Error),
    #[error("the channel broke")]
    Broken(#[source] lapin::Error),
    #[error("the broker cancelled the consumer")]
    Cancelled,
    #[error("the channel ended")]
    Ended,
    #[error("the broker did not answer in time")]
    Timeout,
}

impl LinkError {
    /// What happened and why.
    pub(crate) fn reason(&self) -> String {
        Chain(self).to_string()
    }

    /// The broker refused the credentials.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Connect(error) if error.is_refused_login())
    }
}

impl Link {
    /// Connects and opens a channel with this prefetch.
    ///
    /// Cancel-safe: an attempt that is given up leaves nothing behind.
    pub(crate) async fn open(
        target: &Target,
        prefetch: u16,
        limit: Duration,
    ) -> Result<Self, LinkError> {
        let connection = target.connect().await?;
        let channel = within(limit, connection.create_channel()).await?;
        let channel = channel.map_err(LinkError::Open)?;
        let link = Self {
            connection,
            channel,
            consumer: None,
            limit,
        };
        link.hold(prefetch).await?;
        Ok(link)
    }

    /// Lets the next consumer hold so many deliveries; a running one keeps what it began with.
    pub(crate) async fn hold(&self, prefetch: u16) -> Result<(), LinkError> {
        let qos = self.channel.basic_qos(prefetch, BasicQosOptions::default());
        within(self.limit, qos).await?.map_err(LinkError::Open)
    }

    /// Consumes, unless it does already.
    pub(crate) async fn consume(&mut self, queue: &str) -> Result<(), LinkError> {
        if self.consumer.is_none() {
            let consuming = self.channel.basic_consume(
                queue.into(),
                CONSUMER.into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            );
            let consumer = within(self.limit, consuming).await?;
            self.consumer = Some(consumer.map_err(LinkError::Consume)?);
        }
        Ok(())
    }

    /// The next delivery; none while it does not consume, only the channel's end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Delivery, LinkError> {
        match &mut self.consumer {
            Some(consumer) => match consumer.next().await {
                Some(delivery) => delivery.map_err(LinkError::Broken),
                None => Err(LinkError::Cancelled),
            },
            // A consumer is told of its channel's end; without one nobody is.
            None => {
                while self.connection.status().connected() && self.channel.status().connected() {
                    sleep(LOOK).await;
                }
                Err(LinkError::Ended)
            }
        }
    }

    /// Cancels the consumer, and gives what came before the broker confirmed it: no more than the
    /// prefetch.
    pub(crate) async fn cancel(&mut self) -> Result<Vec<Delivery>, LinkError> {
        let Some(mut consumer) = self.consumer.take() else {
            return Ok(Vec::new());
        };
        let options = BasicCancelOptions::default();
        let cancelling = self.channel.basic_cancel(CONSUMER.into(), options);
        within(self.limit, cancelling)
            .await?
            .map_err(LinkError::Broken)?;
        let mut last = Vec::new();
        while let Some(delivery) = within(self.limit, consumer.next()).await? {
            last.push(delivery.map_err(LinkError::Broken)?);
        }
        Ok(last)
    }

    /// Acknowledges every delivery up to this one.
    pub(crate) async fn acknowledge(&self, number: u64) -> Result<(), LinkError> {
        let options = BasicAckOptions { multiple: true };
        let done = self.channel.basic_ack(number, options);
        within(self.limit, done).await?.map_err(LinkError::Broken)
    }

    /// Gives this delivery back to the queue.
    pub(crate) async fn give_back(&self, number: u64) -> Result<(), LinkError> {
        let options = BasicNackOptions {
            multiple: false,
            requeue: true,
        };
        let done = self.channel.basic_nack(number, options);
        within(self.limit, done).await?.map_err(LinkError::Broken)
    }

    /// Closes the channel, then the connection. A broker that is gone has closed them already.
    pub(crate) async fn close(self) {
        let closing = async {
            self.channel.close(200, "drained".into()).await?;
            self.connection.close(200, "drained".into()).await
        };
        match timeout(self.limit, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "the broker connection was closed already"),
            Err(_) => warn!("the broker did not confirm the end of the connection in time"),
        }
    }
}

async fn within<T>(limit: Duration, done: impl Future<Output = T>) -> Result<T, LinkError> {
    timeout(limit, done).await.map_err(|_| LinkError::Timeout)
}
