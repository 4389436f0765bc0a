//! Messages: accept one, show one, list them in pages, delete one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jatis_shared::{
    config::Config,
    ids::{MessageId, Mint, Origin, TenantId, TenantNumber},
    schema::TenantState,
};
use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::{
    broker::{Broker, Outgoing, PublishError},
    directory::{Directory, Known, Passage},
    error::Error,
    fleet::Fleet,
    random,
    stage::StageWatch,
    store::{
        Db,
        messages::{self, Deletion},
    },
};

pub use waiters::Waiters;

pub mod cursor;
mod page;
mod waiters;

/// A message to publish. Its payload has passed the scanner.
#[derive(Debug)]
pub struct NewMessage {
    pub tenant: TenantId,
    pub payload: Box<RawValue>,
    /// How long its sender would wait for the commit; `None` for `messages.wait_for_store`.
    pub wait: Option<Duration>,
    pub request_id: String,
}

/// A message; its time is in its id.
#[derive(Debug)]
pub struct Message {
    pub id: MessageId,
    pub tenant: TenantId,
    pub payload: Box<RawValue>,
    pub status: MessageStatus,
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageStatus {
    /// Committed to the tenant's table.
    Stored,
    /// Confirmed by the broker, not known to be stored.
    Queued,
}

/// A page of a tenant's messages is asked for.
#[derive(Debug, Clone, Copy)]
pub struct MessageQuery {
    pub tenant: TenantId,
    /// 1–1000.
    pub limit: u16,
    pub order: Order,
    /// Where the page starts, and whether it lies before or behind that in `order`.
    pub from: Option<(Side, MessageId)>,
    pub created_after: Option<Timestamp>,
    pub created_before: Option<Timestamp>,
}

/// The order of a list, by id, which is by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    Desc,
    /// Oldest first.
    Asc,
}

/// Where a page lies as seen from an id, in the order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The page is the one behind the id.
    Next,
    /// The page is the one before the id.
    Previous,
}

/// Messages in the order asked for.
#[derive(Debug)]
pub struct MessagePage {
    pub messages: Vec<Message>,
    /// There may be more behind the last message.
    pub has_next: bool,
    /// There may be more before the first message.
    pub has_previous: bool,
}

/// The use cases of messages.
#[derive(Clone)]
pub struct Messaging {
    pub db: Db,
    pub broker: Broker,
    pub fleet: Fleet,
    pub directory: Arc<Directory>,
    pub mint: Arc<Mint>,
    pub waiters: Waiters,
    pub stage: StageWatch,
    pub config: Arc<Config>,
}

impl Messaging {
    /// Puts a message into its tenant's queue and, if that may soon succeed, waits until it is
    /// stored. A message is answered only after the broker's confirm.
    ///
    /// # Errors
    /// When the tenant takes no messages, or the broker did not take this one, or may not have.
    pub async fn accept(&self, new: NewMessage) -> Result<Message, Error> {
        self.stage.serving()?;
        let (tenant, passage) = self.publishable(new.tenant)?;
        let id = self.mint.mint(
            Timestamp::now(),
            tenant.number,
            Origin::Accepted,
            random::bits(),
        );
        let wait = new.wait.unwrap_or(self.config.messages.wait_for_store);
        let waiter = self
            .worth_waiting(new.tenant, wait)
            .then(|| self.waiters.wait_for(new.tenant, id))
            .flatten();
        let outgoing = Outgoing {
            id,
            payload: Bytes::copy_from_slice(new.payload.get().as_bytes()),
            request_id: new.request_id,
            awaited: waiter.is_some(),
            passage,
        };
        let published = self.broker.publish(new.tenant, outgoing).await;
        published.map_err(|error| publish_error(id, error))?;
        let stored = match waiter {
            Some(waiter) => waiter.stored_within(wait).await,
            None => false,
        };
        let status = if stored {
            MessageStatus::Stored
        } else {
            MessageStatus::Queued
        };
        Ok(Message {
            id,
            tenant: new.tenant,
            payload: new.payload,
            status,
        })
    }

    /// A page of a tenant's messages.
    ///
    /// # Errors
    /// When there is no such tenant, or the database is away.
    pub async fn list(&self, query: MessageQuery) -> Result<MessagePage, Error> {
        self.stage.serving()?;
        self.visible(query.tenant)?;
        let scan = page::scan(&query, self.config.messages.max_page_bytes);
        let found = self
            .db
            .run(move |client| messages::scan(client, &scan))
            .await?;
        Ok(page::page(&query, found))
    }

    /// One message. With `tenant`, a message of another tenant is not found.
    ///
    /// # Errors
    /// When there is no such message, it is not stored yet, or the database is away.
    pub async fn get(&self, id: MessageId, tenant: Option<TenantId>) -> Result<Message, Error> {
        self.stage.serving()?;
        let owner = self.owner(id, tenant)?;
        let found = self
            .db
            .run(move |client| messages::get(client, owner.id, id))
            .await?;
        match found {
            Some(row) => Ok(page::stored(owner.id, row)),
            None => Err(self.missing(id, owner).await),
        }
    }

    /// Deletes a stored message for good. With `tenant`, a message of another tenant is not found.
    ///
    /// # Errors
    /// When there is no such message, it is not stored yet, or the database is away: then it may
    /// be deleted all the same.
    pub async fn delete(&self, id: MessageId, tenant: Option<TenantId>) -> Result<(), Error> {
        self.stage.serving()?;
        let owner = self.owner(id, tenant)?;
        let deletion = self
            .db
            .run(move |client| messages::delete(client, owner.id, id))
            .await?;
        match deletion {
            Deletion::Deleted => Ok(()),
            Deletion::Absent => Err(self.missing(id, owner).await),
        }
    }

    /// The tenant whose message an id may be; `tenant`, if it is given.
    fn owner(&self, id: MessageId, tenant: Option<TenantId>) -> Result<Known, Error> {
        let number = id.tenant_number().filter(|_| id.has_our_layout());
        let owner = number.and_then(|number| self.directory.by_number(number));
        owner
            .filter(|owner| tenant.is_none_or(|tenant| tenant == *owner))
            .and_then(|owner| self.visible(owner).ok())
            .ok_or(Error::MessageNotFound(id))
    }

    /// Why a message is not stored: it is on its way, it is gone, or it never was.
    async fn missing(&self, id: MessageId, owner: Known) -> Error {
        if !is_recent(id, owner.number) {
            return Error::MessageNotFound(id);
        }
        let is_over = self
            .db
            .run(move |client| messages::is_over(client, owner.id, id))
            .await;
        match is_over {
            Ok(true) => Error::MessageNotFound(id),
            Ok(false) => Error::MessagePending(id),
            Err(error) => error.into(),
        }
    }

    /// The tenant, if it takes messages, and the passage of the message that it takes.
    fn publishable(&self, tenant: TenantId) -> Result<(Known, Passage), Error> {
        let entered = self.directory.enter(tenant);
        let (known, passage) = entered.ok_or(Error::TenantNotFound(tenant))?;
        match known.state {
            TenantState::Active | TenantState::Paused | TenantState::Stopped => {
                Ok((known, passage))
            }
            TenantState::Draining | TenantState::Deleting => Err(Error::TenantGone(tenant)),
            TenantState::Dropping => Err(Error::TenantNotFound(tenant)),
        }
    }

    /// The tenant, if its messages can be read.
    fn visible(&self, tenant: TenantId) -> Result<Known, Error> {
        let known = self
            .directory
            .get(tenant)
            .filter(|known| known.state != TenantState::Dropping);
        known.ok_or(Error::TenantNotFound(tenant))
    }

    fn worth_waiting(&self, tenant: TenantId, wait: Duration) -> bool {
        !wait.is_zero() && self.fleet.is_running(tenant)
    }
}

/// An id that may have been given lately and be on its way.
fn is_recent(id: MessageId, number: TenantNumber) -> bool {
    let now = Timestamp::now();
    id.is_ours(number, now) && now.duration_since(id.created_at()) < PENDING_AGE
}

fn publish_error(id: MessageId, error: PublishError) -> Error {
    match error {
        PublishError::Overloaded => Error::Overloaded,
        PublishError::NotPublished(source) => Error::BrokerUnavailable(source),
        PublishError::Uncertain(source) => Error::PublishUncertain { id, source },
    }
}

/// An id of ours that is not stored counts as pending for this long after its time.
const PENDING_AGE: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);
