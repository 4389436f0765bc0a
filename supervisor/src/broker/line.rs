//! One confirm channel, used by one tenant, and the task that publishes on it.
//!
//! The client library hands a message that the broker returned to *whichever* confirm of the same
//! channel it completes next. So no two tenants share a channel, and its task keeps the ids of
//! returned messages: a confirm counts only if its own message is not among them. The library
//! completes a confirm that carries a return before the confirm it should have gone to, and
//! [`FuturesUnordered`] yields in that order, so the note is always there in time.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jatis_shared::{
    ids::{MessageId, TenantId},
    topology::main_queue_name,
};
use lapin::{
    Channel, Confirmation, Connection,
    message::BasicReturnMessage,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::debug;

use super::{
    BrokerError, PublishError, PublishedHook,
    link::{open_channel, within},
    packer::{Packer, Packing},
    parcel::{Parcel, Request},
};

/// What every line works by.
pub(super) struct Terms {
    /// Longest time to open a channel, and to close it.
    pub(super) timeout: Duration,
    pub(super) packing: Packing,
    pub(super) published: PublishedHook,
}

/// Serves one tenant's channel until it fails, a confirm is late, or nobody holds its queue. No
/// request waits for longer than the first one's deadline in any step: a broker that is silent
/// answers nothing at all, not even the end of a channel.
pub(super) async fn serve(
    tenant: TenantId,
    connection: Arc<Connection>,
    terms: Arc<Terms>,
    incoming: mpsc::Receiver<Request>,
) {
    let limit = terms.timeout;
    let mut packer = Packer::new(terms.packing, incoming);
    let (ended, line) = match within(limit, open(&connection)).await {
        Ok(channel) => {
            let mut line = Line::new(tenant, channel, terms);
            (line.serve(&mut packer).await, Some(line))
        }
        Err(error) => (Err(error), None),
    };
    let error = ended.err().unwrap_or(BrokerError::Closing);
    packer.refuse(&error);
    if let Some(line) = line {
        line.close(&error).await;
    }
}

async fn open(connection: &Connection) -> Result<Channel, BrokerError> {
    let channel = open_channel(connection).await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    Ok(channel)
}

type Confirm = BoxFuture<'static, (MessageId, lapin::Result<Confirmation>)>;

/// A confirm channel with what is under way on it.
struct Line {
    queue: String,
    channel: Channel,
    terms: Arc<Terms>,
    confirms: FuturesUnordered<Confirm>,
    under_way: HashMap<MessageId, Parcel>,
    returned: HashSet<MessageId>,
}

impl Line {
    fn new(tenant: TenantId, channel: Channel, terms: Arc<Terms>) -> Self {
        Self {
            queue: main_queue_name(tenant),
            channel,
            terms,
            confirms: FuturesUnordered::new(),
            under_way: HashMap::new(),
            returned: HashSet::new(),
        }
    }

    /// Publishes until the queue of requests is closed and everything is confirmed, or until the
    /// channel fails or a confirm is late.
    async fn serve(&mut self, packer: &mut Packer) -> Result<(), BrokerError> {
        let mut open = true;
        while open || !self.under_way.is_empty() {
            let deadline = self.deadline();
            let late = async { sleep_until(deadline.unwrap_or_else(Instant::now)).await };
            let has_room = self.under_way.len() < self.terms.packing.parcels_under_way;
            tokio::select! {
                biased;
                Some((id, confirm)) = self.confirms.next() => self.settle(id, confirm)?,
                () = late, if deadline.is_some() => return Err(BrokerError::Timeout),
                parcel = packer.next(), if open && has_room => match parcel {
                    Some(parcel) => self.publish(parcel).await?,
                    None => open = false,
                },
            }
        }
        Ok(())
    }

    /// When the first of what is under way is late.
    fn deadline(&self) -> Option<Instant> {
        self.under_way.values().map(Parcel::deadline).min()
    }

    async fn publish(&mut self, parcel: Parcel) -> Result<(), BrokerError> {
        let (id, body, properties) = (parcel.id(), parcel.body(), parcel.properties());
        // Noted before it is sent: if sending fails half-way, its fate is unknown.
        self.under_way.insert(id, parcel);
        let deadline = self.deadline().unwrap_or_else(Instant::now);
        let mandatory = BasicPublishOptions {
            mandatory: true,
            immediate: false,
        };
        let queue = self.queue.as_str().into();
        let sending = self
            .channel
            .basic_publish("".into(), queue, mandatory, &body, properties);
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
        let was_returned = self.returned.remove(&id);
        let Some(parcel) = self.under_way.remove(&id) else {
            return Ok(());
        };
        let answer = if was_returned {
            Err(PublishError::NotPublished(BrokerError::Returned(reason)))
        } else if acked {
            (self.terms.published)(parcel.messages());
            Ok(())
        } else {
            Err(PublishError::Uncertain(BrokerError::Nacked))
        };
        parcel.answer(&answer);
        Ok(())
    }

    /// Leaves what is under way uncertain and closes the channel.
    async fn close(mut self, error: &BrokerError) {
        for (_, parcel) in self.under_way.drain() {
            parcel.answer(&Err(PublishError::Uncertain(error.clone())));
        }
        let closing = async { Ok(self.channel.close(200, "done".into()).await?) };
        if let Err(error) = within(self.terms.timeout, closing).await {
            debug!(queue = self.queue, %error, "a publishing channel did not close in order");
        }
    }
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
