//! The broker's names and arguments, as data.
//!
//! Names of main queues are a public contract: AMQP clients publish to them through the default
//! exchange. Arguments are fixed when a queue is declared; the broker refuses another value later
//! (406), so nothing here may change for queues that exist.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::TenantId;

/// The type of a tenant's main queue, chosen at its creation and kept in `tenants.topology`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueType {
    Quorum,
    Classic,
}

impl QueueType {
    /// As stored in `tenants.topology` and written in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
        }
    }

    /// From what is stored; `None` for a word this version does not know.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Quorum, Self::Classic]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// A value of a queue argument, with its AMQP field type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    Text(String),
    /// A signed 64-bit integer (`long-long-int`).
    Number(i64),
    Flag(bool),
}

impl fmt::Display for Argument {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(out, "{text:?}"),
            Self::Number(number) => number.fmt(out),
            Self::Flag(flag) => flag.fmt(out),
        }
    }
}

/// A durable queue to declare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    pub name: String,
    pub arguments: Vec<(&'static str, Argument)>,
}

/// `x-delivery-limit` of a main queue: the last guard only, since every lost connection, nack and
/// drain charges each prefetched message. Always sent: unset means 20 on RabbitMQ 4.
const MAIN_DELIVERY_LIMIT: i64 = 1_000;
/// `x-delivery-limit` of a queue that must never give a message up.
const NO_DELIVERY_LIMIT: i64 = 2_147_483_647;

/// The name of a tenant's main queue.
#[must_use]
pub fn main_queue_name(tenant: TenantId) -> String {
    format!("tenant_{tenant}_queue")
}

/// The name of a tenant's dead-letter queue.
#[must_use]
pub fn dead_letter_queue_name(tenant: TenantId) -> String {
    format!("tenant_{tenant}_dlq")
}

/// A tenant's main queue. Single active consumer, so that a new worker may attach before the old
/// one has left; what the broker gives up goes to the dead-letter queue.
#[must_use]
pub fn main_queue(tenant: TenantId, kind: QueueType) -> Queue {
    let dead_letter_key = dead_letter_queue_name(tenant);
    let mut arguments = vec![("x-queue-type", text(kind.as_str()))];
    if kind == QueueType::Classic {
        arguments.push(("x-queue-version", Argument::Number(2)));
    }
    arguments.push(("x-single-active-consumer", Argument::Flag(true)));
    arguments.push(("x-dead-letter-exchange", text("")));
    arguments.push(("x-dead-letter-routing-key", text(&dead_letter_key)));
    if kind == QueueType::Quorum {
        arguments.push(("x-dead-letter-strategy", text("at-least-once")));
        // Demanded by at-least-once; without a length limit it never rejects.
        arguments.push(("x-overflow", text("reject-publish")));
        arguments.push(("x-delivery-limit", Argument::Number(MAIN_DELIVERY_LIMIT)));
    }
    Queue {
        name: main_queue_name(tenant),
        arguments,
    }
}

/// A tenant's dead-letter queue: what the broker or an AMQP client rejected. Nothing leaves it but
/// by being consumed.
#[must_use]
pub fn dead_letter_queue(tenant: TenantId) -> Queue {
    let arguments = vec![
        ("x-queue-type", text(QueueType::Quorum.as_str())),
        ("x-delivery-limit", Argument::Number(NO_DELIVERY_LIMIT)),
    ];
    Queue {
        name: dead_letter_queue_name(tenant),
        arguments,
    }
}

fn text(text: &str) -> Argument {
    Argument::Text(text.to_owned())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn shown(queue: &Queue) -> String {
        let arguments: Vec<String> = queue
            .arguments
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!("{} {}", queue.name, arguments.join(" "))
    }

    #[test]
    fn names_and_arguments_are_a_contract() {
        let tenant = TenantId::from(Uuid::nil());
        assert_eq!(
            shown(&main_queue(tenant, QueueType::Quorum)),
            "tenant_00000000-0000-0000-0000-000000000000_queue x-queue-type=\"quorum\" \
             x-single-active-consumer=true x-dead-letter-exchange=\"\" \
             x-dead-letter-routing-key=\"tenant_00000000-0000-0000-0000-000000000000_dlq\" \
             x-dead-letter-strategy=\"at-least-once\" x-overflow=\"reject-publish\" x-delivery-limit=1000"
        );
        assert_eq!(
            shown(&main_queue(tenant, QueueType::Classic)),
            "tenant_00000000-0000-0000-0000-000000000000_queue x-queue-type=\"classic\" x-queue-version=2 \
             x-single-active-consumer=true x-dead-letter-exchange=\"\" \
             x-dead-letter-routing-key=\"tenant_00000000-0000-0000-0000-000000000000_dlq\""
        );
        assert_eq!(
            shown(&dead_letter_queue(tenant)),
            "tenant_00000000-0000-0000-0000-000000000000_dlq x-queue-type=\"quorum\" x-delivery-limit=2147483647"
        );
    }
}
