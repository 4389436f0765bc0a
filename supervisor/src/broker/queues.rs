//! Declaring, deleting and counting queues. Each operation runs on a channel of its own, since the
//! broker answers a refusal by closing the channel it came on.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use jatis_shared::{
    ids::TenantId,
    topology::{
        Argument, Queue, QueueType, dead_letter_queue, dead_letter_queue_name, main_queue,
        main_queue_name,
    },
};
use lapin::{
    Channel,
    options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};

use super::{
    BrokerError, Contents,
    link::{Link, within},
};

pub(super) async fn declare(
    link: &Link,
    limit: Duration,
    tenant: TenantId,
    kind: QueueType,
) -> Result<(), BrokerError> {
    within(limit, async {
        let channel = link.channel().await?;
        // The dead-letter queue first: the main queue must never point at one that is not there.
        for queue in [dead_letter_queue(tenant), main_queue(tenant, kind)] {
            let arguments = arguments(&queue);
            channel
                .queue_declare(queue.name.into(), QueueDeclareOptions::durable(), arguments)
                .await?;
        }
        close(&channel).await
    })
    .await
}

pub(super) async fn delete(
    link: &Link,
    limit: Duration,
    tenant: TenantId,
) -> Result<u64, BrokerError> {
    within(limit, async {
        let channel = link.channel().await?;
        let options = QueueDeleteOptions::default();
        let unprocessed = channel
            .queue_delete(main_queue_name(tenant).into(), options)
            .await?;
        channel
            .queue_delete(dead_letter_queue_name(tenant).into(), options)
            .await?;
        close(&channel).await?;
        Ok(u64::from(unprocessed))
    })
    .await
}

pub(super) async fn depths(
    link: &Link,
    limit: Duration,
    tenants: impl Iterator<Item = TenantId>,
) -> Result<Vec<(TenantId, u64)>, BrokerError> {
    let mut channel = within(limit, link.channel()).await?;
    let mut depths = Vec::new();
    for tenant in tenants {
        match within(limit, look(&channel, tenant)).await {
            Ok((ready, _)) => depths.push((tenant, u64::from(ready))),
            // A queue that is missing closes the channel, and nothing else is wrong.
            Err(BrokerError::Amqp(_)) if link.connection().is_ok() => {
                channel = within(limit, link.channel()).await?
            }
            Err(error) => return Err(error),
        }
    }
    within(limit, close(&channel)).await?;
    Ok(depths)
}

pub(super) async fn ready(
    link: &Link,
    limit: Duration,
    tenant: TenantId,
) -> Result<u64, BrokerError> {
    within(limit, async {
        let channel = link.channel().await?;
        let (ready, _) = look(&channel, tenant).await?;
        close(&channel).await?;
        Ok(u64::from(ready))
    })
    .await
}

/// A quorum queue counts among its consumers one that has cancelled or died for as long as a
/// delivery of it is neither settled nor ready again: nothing ready and no consumer is empty. Only,
/// while such a queue elects its leader the broker says just that of it. So a consumer of ours, which
/// no queue takes without its leader, must then be counted and get nothing. The last look is for what
/// was on its way to it: the broker answers a channel in order.
pub(super) async fn contents(
    link: &Link,
    limit: Duration,
    tenant: TenantId,
) -> Result<Contents, BrokerError> {
    within(limit, async {
        let channel = link.channel().await?;
        let contents = match look(&channel, tenant).await? {
            (0, 0) => probe(&channel, tenant).await?,
            (0, _) => Contents::Held,
            (_, _) => Contents::Ready,
        };
        // What the probe was given is ready again with the channel's end.
        close(&channel).await?;
        Ok(contents)
    })
    .await
}

async fn probe(channel: &Channel, tenant: TenantId) -> Result<Contents, BrokerError> {
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let mut consumer = channel
        .basic_consume(
            main_queue_name(tenant).into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let (ready, consumers) = look(channel, tenant).await?;
    look(channel, tenant).await?;
    let is_given = consumer.next().now_or_never().is_some();
    Ok(match (ready, consumers) {
        (0, 1) if !is_given => Contents::Empty,
        (0, _) if !is_given => Contents::Held,
        (_, _) => Contents::Ready,
    })
}

/// The deliveries ready, and the consumers.
async fn look(channel: &Channel, tenant: TenantId) -> Result<(u32, u32), BrokerError> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let name = main_queue_name(tenant).into();
    let queue = channel.queue_declare(name, passive, FieldTable::default());
    let queue = queue.await?;
    Ok((queue.message_count(), queue.consumer_count()))
}

async fn close(channel: &Channel) -> Result<(), BrokerError> {
    Ok(channel.close(200, "done".into()).await?)
}

fn arguments(queue: &Queue) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in &queue.arguments {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
            Argument::Number(number) => AMQPValue::LongLongInt(*number),
            Argument::Flag(flag) => AMQPValue::Boolean(*flag),
        };
        table.insert((*name).into(), value);
    }
    table
}
