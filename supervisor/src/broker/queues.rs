//! Declaring, deleting and counting queues. Each operation runs on a channel of its own, since the
//! broker answers a refusal by closing the channel it came on.

use std::time::Duration;

use jatis_shared::{
    ids::TenantId,
    topology::{
        Argument, Queue, QueueType, dead_letter_queue, dead_letter_queue_name, main_queue,
        main_queue_name,
    },
};
use lapin::{
    Channel,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};

use super::{
    BrokerError,
    link::{Link, within},
};

pub(super) async fn declare(
    link: &Link,
    limit: Duration,
    tenant: TenantId,
    kind: QueueType,
) -> Result<(), BrokerError> {
    within(limit, async {
        let channel = open(link).await?;
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
        let channel = open(link).await?;
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
    tenants: &[TenantId],
) -> Result<Vec<(TenantId, u64)>, BrokerError> {
    let mut channel = within(limit, open(link)).await?;
    let mut depths = Vec::with_capacity(tenants.len());
    for &tenant in tenants {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let declare = channel.queue_declare(
            main_queue_name(tenant).into(),
            passive,
            FieldTable::default(),
        );
        match within(limit, async { Ok(declare.await?) }).await {
            Ok(queue) => depths.push((tenant, u64::from(queue.message_count()))),
            // A queue that is missing closes the channel, and nothing else is wrong.
            Err(BrokerError::Amqp(_)) if link.connection().is_ok() => {
                channel = within(limit, open(link)).await?
            }
            Err(error) => return Err(error),
        }
    }
    within(limit, close(&channel)).await?;
    Ok(depths)
}

async fn open(link: &Link) -> Result<Channel, BrokerError> {
    Ok(link.connection()?.create_channel().await?)
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
