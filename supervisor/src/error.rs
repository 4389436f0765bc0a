//! What can go wrong with a request, told without a word of HTTP.
//!
//! `http::problem` maps each variant to its answer, exhaustively. Sources are for the log; they
//! never reach a client.

use jatis_shared::ids::{MessageId, TenantId};

use crate::{broker::BrokerError, store::StoreError};

/// Why a use case was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no tenant {0}")]
    TenantNotFound(TenantId),
    #[error("tenant {0} exists already")]
    TenantExists(TenantId),
    /// Created again while it is being deleted.
    #[error("tenant {0} is still being deleted")]
    TenantDeleting(TenantId),
    /// Published to while it is being deleted.
    #[error("tenant {0} is being deleted and takes no messages")]
    TenantGone(TenantId),
    /// All 2^24 − 1 tenant numbers have been given.
    #[error("no tenant number is left")]
    TenantNumbersExhausted,
    #[error("there is no message {0}")]
    MessageNotFound(MessageId),
    /// An id of ours, younger than an hour, that is not stored yet.
    #[error("message {0} is not stored yet")]
    MessagePending(MessageId),
    /// `rabbitmq.max_publishing` publishes await their confirm.
    #[error("too many publishes are under way")]
    Overloaded,
    #[error("the broker is not available")]
    BrokerUnavailable(#[source] BrokerError),
    /// The confirm never came: the message may or may not be in the queue.
    #[error("the broker did not confirm message {id}")]
    PublishUncertain {
        id: MessageId,
        #[source]
        source: BrokerError,
    },
    #[error("the database is not available")]
    DatabaseUnavailable(#[source] StoreError),
    /// A statement of ours that the database does not accept, or a value of it that we do not.
    #[error("something is wrong in jatis or in its database")]
    Internal(#[source] StoreError),
    /// Not in charge yet.
    #[error("jatis is starting")]
    Starting,
    /// Another supervisor serves this database.
    #[error("this supervisor is not in charge: {0}")]
    NotInCharge(String),
    #[error("jatis is shutting down")]
    ShuttingDown,
}

impl From<StoreError> for Error {
    fn from(source: StoreError) -> Self {
        if matches!(source, StoreError::NumbersExhausted) {
            return Self::TenantNumbersExhausted;
        }
        if source.is_fault() {
            return Self::Internal(source);
        }
        Self::DatabaseUnavailable(source)
    }
}
