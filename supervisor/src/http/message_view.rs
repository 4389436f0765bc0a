//! Messages as they stand in bodies and answers. A payload passes through as the text it came in.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{answer::Time, example, openapi::Nullable};
use crate::messaging::{Message, MessagePage, MessageQuery, MessageStatus, Order, Side, cursor};

/// What a publish sends.
// It is decoded by hand, since the payload is kept as text.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NewMessage", deny_unknown_fields)]
pub(super) struct NewMessageBody {
    /// Any JSON value that PostgreSQL's `jsonb` can hold and give back: no NUL in a text, no half of
    /// a surrogate pair, no exponent beyond 308, no number of more than 1000 digits, nested at most
    /// 128 deep.
    payload: serde_json::Value,
}

impl NewMessageBody {
    pub(super) fn example() -> Self {
        Self {
            payload: serde_json::json!({"order": 17, "items": ["tea", "milk"]}),
        }
    }
}

/// A message.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Message")]
pub(super) struct MessageView<'a> {
    /// Its id, a UUIDv7: later messages have greater ones.
    id: Uuid,
    /// Whose it is.
    tenant_id: Uuid,
    /// The value that was sent. Stored, it may be spelled otherwise: of a name that stood twice in an
    /// object the last value is kept, and names may stand in another order.
    #[schemars(with = "serde_json::Value")]
    payload: &'a RawValue,
    /// When it was accepted.
    created_at: Time,
    status: StatusWord,
}

/// How far a message has come: into the tenant's queue, safely, or into its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "MessageStatus")]
enum StatusWord {
    Stored,
    Queued,
}

/// A page of messages.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MessagePage")]
pub(super) struct PageView<'a> {
    /// The messages, in the order asked for.
    data: Vec<MessageView<'a>>,
    /// The cursor of the page behind this one; null on the last.
    #[schemars(with = "Nullable<String>")]
    next_cursor: Option<String>,
    /// The cursor of the page before this one; null on the first.
    #[schemars(with = "Nullable<String>")]
    prev_cursor: Option<String>,
}

/// A message is deleted.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeletedMessage")]
pub(super) struct DeletedView {
    /// What has been done, in a sentence.
    message: &'static str,
}

impl DeletedView {
    pub(super) const fn new() -> Self {
        Self {
            message: "Message deleted successfully",
        }
    }
}

impl MessageView<'static> {
    pub(super) fn example(status: MessageStatus) -> Self {
        const PAYLOAD: &str = r#"{"order":17,"items":["tea","milk"]}"#;
        Self {
            id: example::message().uuid(),
            tenant_id: example::tenant().uuid(),
            payload: serde_json::from_str(PAYLOAD).unwrap_or(RawValue::NULL),
            created_at: Time(example::now()),
            status: status.into(),
        }
    }
}

impl PageView<'static> {
    pub(super) fn example() -> Self {
        let (tenant, message) = (example::tenant(), example::message());
        Self {
            data: vec![MessageView::example(MessageStatus::Stored)],
            next_cursor: Some(cursor::encode(tenant, Order::Desc, Side::Next, message)),
            prev_cursor: None,
        }
    }
}

impl<'a> From<&'a Message> for MessageView<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            id: message.id.uuid(),
            tenant_id: message.tenant.uuid(),
            payload: &message.payload,
            created_at: Time(message.id.created_at()),
            status: message.status.into(),
        }
    }
}

impl From<MessageStatus> for StatusWord {
    fn from(status: MessageStatus) -> Self {
        match status {
            MessageStatus::Stored => Self::Stored,
            MessageStatus::Queued => Self::Queued,
        }
    }
}

impl<'a> PageView<'a> {
    /// A page that was asked for so.
    pub(super) fn new(page: &'a MessagePage, asked: &MessageQuery) -> Self {
        let cursor = |side, there: bool, message: Option<&Message>| {
            let message = message.filter(|_| there)?;
            Some(cursor::encode(asked.tenant, asked.order, side, message.id))
        };
        Self {
            data: page.messages.iter().map(MessageView::from).collect(),
            next_cursor: cursor(Side::Next, page.has_next, page.messages.last()),
            prev_cursor: cursor(Side::Previous, page.has_previous, page.messages.first()),
        }
    }
}

#[cfg(test)]
mod tests {
    use jatis_shared::ids::{MessageId, TenantId};

    use super::*;

    fn message(bits: u128) -> Message {
        Message {
            id: MessageId::from(Uuid::from_u128(bits)),
            tenant: TenantId::from(Uuid::nil()),
            payload: RawValue::from_string("{\"b\":1.50,\"a\":[ ]}".to_owned()).expect("JSON"),
            status: MessageStatus::Stored,
        }
    }

    #[test]
    fn a_payload_goes_out_as_it_came_in() {
        let view = serde_json::to_string(&MessageView::from(&message(0))).expect("JSON");
        assert_eq!(
            view,
            "{\"id\":\"00000000-0000-0000-0000-000000000000\",\
             \"tenant_id\":\"00000000-0000-0000-0000-000000000000\",\
             \"payload\":{\"b\":1.50,\"a\":[ ]},\
             \"created_at\":\"1970-01-01T00:00:00.000000Z\",\"status\":\"stored\"}"
        );
    }

    #[test]
    fn cursors_stand_at_the_ends_of_a_page_that_has_neighbours() {
        let asked = MessageQuery {
            tenant: TenantId::from(Uuid::nil()),
            limit: 2,
            order: Order::Asc,
            from: None,
            created_after: None,
            created_before: None,
        };
        let mut page = MessagePage {
            messages: vec![message(1), message(2)],
            has_next: true,
            has_previous: true,
        };
        let read = |text: Option<String>| {
            let text = text?;
            Some(cursor::decode(&text, asked.tenant, asked.order).expect("one of ours"))
        };
        let view = PageView::new(&page, &asked);
        assert_eq!(read(view.next_cursor), Some((Side::Next, message(2).id)));
        assert_eq!(
            read(view.prev_cursor),
            Some((Side::Previous, message(1).id))
        );
        (page.has_next, page.has_previous) = (false, false);
        let view = PageView::new(&page, &asked);
        assert_eq!((view.next_cursor, view.prev_cursor), (None, None));
    }
}
