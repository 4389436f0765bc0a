//! An AMQP client of the tenants' queues: it publishes, and counts what waits.

use std::sync::Arc;

use bytes::Bytes;
use jatis_shared::{
    envelope,
    ids::{MessageId, TenantId},
    topology,
};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
        QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};

use super::{oracle::Oracle, wait};

/// A connection of its own to the broker, past any proxy.
pub(crate) struct Broker {
    connection: Connection,
    /// In confirm mode.
    publisher: Channel,
    oracle: Arc<Oracle>,
}

/// Deliveries that nobody acknowledges.
pub(crate) struct Taken(Channel);

impl Taken {
    /// Gives them back to the queue.
    pub(crate) async fn give_back(self) {
        let closed = self.0.close(200, "given back".into()).await;
        closed.expect("an open channel closes");
    }
}

impl Broker {
    pub(crate) async fn connect(url: &str, oracle: &Arc<Oracle>) -> Self {
        let properties = ConnectionProperties::default().with_connection_name("tests".into());
        let connection = Connection::connect(url, properties)
            .await
            .expect("the broker takes connections");
        let publisher = connection
            .create_channel()
            .await
            .expect("a new connection has room for a channel");
        publisher
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .expect("the broker confirms publishes");
        Self {
            connection,
            publisher,
            oracle: Arc::clone(oracle),
        }
    }

    /// Publishes a payload as an AMQP client would, with the property `message_id` if there is a
    /// key.
    pub(crate) async fn publish(&self, tenant: TenantId, body: &[u8], key: Option<&str>) {
        let sending = self.oracle.sending(tenant, body);
        let properties = BasicProperties::default().with_delivery_mode(2);
        let properties = match key {
            Some(key) => properties.with_message_id(key.into()),
            None => properties,
        };
        self.publish_confirmed(tenant, body, properties).await;
        sending.confirmed(key);
    }

    /// Publishes messages with ids of the test's own in one batch, as the supervisor would.
    pub(crate) async fn publish_batch(&self, tenant: TenantId, messages: &[(MessageId, Bytes)]) {
        let sendings: Vec<_> = messages
            .iter()
            .map(|(id, payload)| (*id, self.oracle.sending(tenant, payload)))
            .collect();
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_type(envelope::BATCH.into())
            .with_content_type(envelope::BATCH_CONTENT_TYPE.into());
        self.publish_confirmed(tenant, &envelope::pack(messages), properties)
            .await;
        for (id, sending) in sendings {
            sending.answered(id);
        }
    }

    /// Messages that are ready in a tenant's main queue: delivered to nobody.
    pub(crate) async fn ready(&self, tenant: TenantId) -> u32 {
        // A channel of its own: a queue that is missing closes it.
        let channel = self
            .connection
            .create_channel()
            .await
            .expect("the connection has room for a channel");
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = topology::main_queue_name(tenant);
        let queue = channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .expect("the queue exists");
        let ready = queue.message_count();
        channel
            .close(200, "counted".into())
            .await
            .expect("an open channel closes");
        ready
    }

    /// Takes everything that is ready in a tenant's main queue, by a consumer that has cancelled and
    /// keeps it all.
    pub(crate) async fn take_all(&self, tenant: TenantId) -> Taken {
        let channel = self
            .connection
            .create_channel()
            .await
            .expect("the connection has room for a channel");
        let queue = topology::main_queue_name(tenant);
        let options = BasicConsumeOptions::default();
        let consumer = channel
            .basic_consume(queue.into(), "".into(), options, FieldTable::default())
            .await
            .expect("the queue takes a consumer");
        wait::until("all is taken", async || match self.ready(tenant).await {
            0 => Ok(()),
            ready => Err(format!("{ready} are ready")),
        })
        .await;
        channel
            .basic_cancel(consumer.tag(), BasicCancelOptions::default())
            .await
            .expect("a consumer can be cancelled");
        Taken(channel)
    }

    /// Declares a tenant's main queue otherwise than jatis would.
    pub(crate) async fn declare_another_queue(&self, tenant: TenantId) {
        let queue = topology::main_queue_name(tenant);
        let options = QueueDeclareOptions::durable();
        self.publisher
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .expect("there is no queue of that name");
    }

    /// Deletes a tenant's main queue under its worker.
    pub(crate) async fn delete_queue(&self, tenant: TenantId) {
        self.publisher
            .queue_delete(
                topology::main_queue_name(tenant).into(),
                QueueDeleteOptions::default(),
            )
            .await
            .expect("the queue can be deleted");
    }

    pub(crate) async fn close(&self) {
        self.connection
            .close(200, "done".into())
            .await
            .expect("an open connection closes");
    }

    async fn publish_confirmed(&self, tenant: TenantId, body: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let queue = topology::main_queue_name(tenant);
        let confirmation = self
            .publisher
            .basic_publish("".into(), queue.into(), options, body, properties)
            .await
            .expect("the channel is open")
            .await
            .expect("the broker confirms");
        assert!(
            confirmation.is_ack() && confirmation.take_message().is_none(),
            "the broker did not take the message"
        );
    }
}
