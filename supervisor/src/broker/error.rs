//! What the broker may do to us.

use lapin::ErrorKind;

/// Why an operation on the broker failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    #[error("there is no connection to the broker: {0}")]
    Down(String),
    /// The broker protects its memory or disk (`connection.blocked`).
    #[error("the broker takes no messages: {0}")]
    Blocked(String),
    #[error("the broker did not answer in time")]
    Timeout,
    /// The queue does not exist.
    #[error("the broker returned the message: {0}")]
    Returned(String),
    #[error("the broker refused the message")]
    Nacked,
    #[error("jatis is closing its connections")]
    Closing,
    #[error("the broker refused an operation")]
    Amqp(#[from] lapin::Error),
}

/// AMQP reply code for a queue that exists with other arguments.
const PRECONDITION_FAILED: u16 = 406;

impl BrokerError {
    /// A queue was not declared because there is one of its name, with other arguments.
    #[must_use]
    pub fn is_another_queue(&self) -> bool {
        let Self::Amqp(error) = self else {
            return false;
        };
        matches!(error.kind(), ErrorKind::ProtocolError(amqp) if amqp.get_id() == PRECONDITION_FAILED)
    }
}

/// Why a message was not confirmed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// `rabbitmq.max_publishing` messages await their confirm already. This one was not sent.
    #[error("too many messages await their confirm")]
    Overloaded,
    /// The message is certainly not in the queue.
    #[error("the message was not published")]
    NotPublished(#[source] BrokerError),
    /// The message may or may not be in the queue.
    #[error("the message was published and not confirmed")]
    Uncertain(#[source] BrokerError),
}
