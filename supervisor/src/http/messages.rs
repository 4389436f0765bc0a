//! The routes of messages. A payload passes through as the text it came in: checked once, never
//! made into a tree.

use hyper::{StatusCode, header::LOCATION};
use jatis_shared::payload;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    App,
    answer::{self, Answer, Time},
    auth::Scope,
    decode,
    endpoint::{Access, Body, Call, Endpoint, Mount, Verb},
    openapi::Description,
    paths::API_ROOT,
    prefer::{PREFERENCE_APPLIED, Prefer},
    problem::{Code, Fault, Problem},
    query::Query,
};
use crate::messaging::{
    Message, MessagePage, MessageQuery, MessageStatus, NewMessage, Order, Side, cursor,
};

const MAX_LIMIT: u16 = 1000;
const DEFAULT_LIMIT: u16 = 20;

/// What a publish sends; decoded by hand, since the payload is kept as text.
#[derive(JsonSchema)]
#[schemars(rename = "NewMessage", deny_unknown_fields)]
#[expect(dead_code, reason = "describes the body; nothing reads it")]
struct NewMessageBody {
    /// Any JSON value that PostgreSQL's jsonb can hold and give back.
    payload: serde_json::Value,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Message")]
struct MessageView<'a> {
    id: Uuid,
    tenant_id: Uuid,
    #[schemars(with = "serde_json::Value")]
    payload: &'a RawValue,
    /// When it was accepted.
    created_at: Time,
    status: StatusWord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "MessageStatus")]
enum StatusWord {
    /// It is in the tenant's table.
    Stored,
    /// It is in the tenant's queue, safely.
    Queued,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MessagePage")]
struct PageView<'a> {
    data: Vec<MessageView<'a>>,
    /// The cursor of the page behind this one; null on the last.
    next_cursor: Option<String>,
    /// The cursor of the page before this one; null on the first.
    prev_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeletedMessage")]
struct DeletedView {
    message: &'static str,
}

#[derive(JsonSchema)]
#[schemars(rename = "Order", rename_all = "lowercase")]
#[expect(dead_code, reason = "describes a parameter; nothing makes one")]
enum OrderWord {
    Desc,
    Asc,
}

impl<'a> From<&'a Message> for MessageView<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            id: message.id.uuid(),
            tenant_id: message.tenant.uuid(),
            payload: &message.payload,
            created_at: Time(message.id.created_at()),
            status: match message.status {
                MessageStatus::Stored => StatusWord::Stored,
                MessageStatus::Queued => StatusWord::Queued,
            },
        }
    }
}

/// `POST /messages/{tenant}`.
pub(crate) struct Publish;

impl Endpoint for Publish {
    const VERB: Verb = Verb::Post;
    const PATHS: &'static [&'static str] = &["/messages/{tenant}", "/tenants/{tenant}/messages"];
    const MOUNT: Mount = Mount::Api;
    const ACCESS: Access = Access::Tenant(Some(Scope::MessagesWrite));
    const BODY: Body = Body::Json;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("publish_message", "Publish a message to a tenant")
            .details(
                "201 when the tenant's worker has stored it, 202 when it is queued and the wait \
                 was not worth it or took too long; either way it is not lost. 503 \
                 `publish_uncertain` names the message that may or may not be stored.",
            )
            .tag("messages")
            .header::<String>(
                "Prefer",
                "RFC 7240. `respond-async`: 202 as soon as the message is safely queued. \
                 `wait=SECONDS`: wait at most so long for it to be stored, and no longer than \
                 `messages.max_wait`. Both: wait so long, then 202. `Preference-Applied` tells \
                 what was honoured; other preferences are ignored.",
            )
            .body::<NewMessageBody>()
            .answers::<MessageView<'_>>(StatusCode::CREATED, "Stored. `Location` names it.")
            .answers::<MessageView<'_>>(StatusCode::ACCEPTED, "Queued. `Location` names it.")
            .fails(&[
                Code::TenantGone,
                Code::UnstorablePayload,
                Code::Overloaded,
                Code::BrokerUnavailable,
                Code::PublishUncertain,
                Code::DatabaseUnavailable,
                Code::Starting,
                Code::NotInCharge,
                Code::ShuttingDown,
            ]);
    }

    async fn handle(app: &App, call: Call) -> Result<Answer, Problem> {
        let tenant = call.tenant()?;
        let payload = decode::payload(&call.body)?;
        payload::scan(payload.get()).map_err(|reason| {
            let detail = reason.to_string();
            Problem::new(Code::UnstorablePayload, detail.clone())
                .with_fault(Fault::at("/payload", detail))
        })?;
        let preferred = Prefer::of(&call.headers).applied(app.config.messages.max_wait);
        let new = NewMessage {
            tenant,
            payload: payload.to_owned(),
            wait: preferred.wait,
            request_id: call.request_id.as_str().to_owned(),
        };
        let message = app.messaging.accept(new).await?;
        let status = match message.status {
            MessageStatus::Stored => StatusCode::CREATED,
            MessageStatus::Queued => StatusCode::ACCEPTED,
        };
        let answer = answer::json(status, &MessageView::from(&message))?;
        let location = format!("{API_ROOT}/messages/{}", message.id);
        let answer = answer::with_header(answer, LOCATION, location)?;
        match preferred.header {
            Some(applied) => answer::with_header(answer, PREFERENCE_APPLIED, applied),
            None => Ok(answer),
        }
    }
}

/// `GET /messages`.
pub(crate) struct List;

impl Endpoint for List {
    const VERB: Verb = Verb::Get;
    const PATHS: &'static [&'static str] = &["/messages", "/tenants/{tenant}/messages"];
    const MOUNT: Mount = Mount::Api;
    const ACCESS: Access = Access::Tenant(Some(Scope::MessagesRead));
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("list_messages", "List a tenant's messages in pages")
            .details(
                "Walking all pages gives every message that was stored before the walk began \
                 exactly once. Repeat the other parameters with each cursor.",
            )
            .tag("messages")
            .query::<Uuid>(
                "tenant_id",
                "Whose messages, where the path does not say; a tenant's token means its own.",
            )
            .query::<String>(
                "cursor",
                "Where the page begins: a cursor of an earlier page, a message's id or a time.",
            )
            .query::<u16>(
                "limit",
                "Most messages of the page, 1 to 1000; 20 if absent.",
            )
            .query::<OrderWord>("order", "desc, newest first (if absent), or asc.")
            .query::<Time>("created_after", "Only messages accepted after this time.")
            .query::<Time>("created_before", "Only messages accepted before this time.")
            .answers::<PageView<'_>>(StatusCode::OK, "A page.")
            .fails(&[
                Code::InvalidId,
                Code::InvalidCursor,
                Code::TenantRequired,
                Code::ValidationFailed,
                Code::DatabaseUnavailable,
                Code::Starting,
                Code::NotInCharge,
            ]);
    }

    async fn handle(app: &App, call: Call) -> Result<Answer, Problem> {
        let asked = page_asked(&call)?;
        let page = app.messaging.list(asked).await?;
        answer::json(StatusCode::OK, &page_view(&page, &asked))
    }
}

/// The page that a request asks for.
fn page_asked(call: &Call) -> Result<MessageQuery, Problem> {
    let tenant = call.tenant()?;
    let mut query = call.query.clone();
    let limit = query.number("limit", 1..=MAX_LIMIT, DEFAULT_LIMIT);
    let order = order(&mut query);
    let created_after = query.time("created_after");
    let created_before = query.time("created_before");
    let cursor = query.text("cursor");
    query.finish()?;
    let from = cursor
        .map(|text| cursor::decode(&text, tenant, order))
        .transpose()
        .map_err(|invalid| Problem::new(Code::InvalidCursor, invalid.to_string()))?;
    Ok(MessageQuery {
        tenant,
        limit,
        order,
        from,
        created_after,
        created_before,
    })
}

fn order(query: &mut Query) -> Order {
    match query.text("order").as_deref() {
        Some("desc") | None => Order::Desc,
        Some("asc") => Order::Asc,
        Some(_) => {
            query.fault("order", "must be desc or asc");
            Order::Desc
        }
    }
}

fn page_view<'a>(page: &'a MessagePage, asked: &MessageQuery) -> PageView<'a> {
    let cursor = |side, there: bool, message: Option<&Message>| {
        let message = message.filter(|_| there)?;
        Some(cursor::encode(asked.tenant, asked.order, side, message.id))
    };
    PageView {
        data: page.messages.iter().map(MessageView::from).collect(),
        next_cursor: cursor(Side::Next, page.has_next, page.messages.last()),
        prev_cursor: cursor(Side::Previous, page.has_previous, page.messages.first()),
    }
}

/// `GET /messages/{message}`.
pub(crate) struct Show;

impl Endpoint for Show {
    const VERB: Verb = Verb::Get;
    const PATHS: &'static [&'static str] = &["/messages/{message}"];
    const MOUNT: Mount = Mount::Api;
    const ACCESS: Access = Access::Tenant(Some(Scope::MessagesRead));
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("show_message", "Show a message")
            .tag("messages")
            .query::<Uuid>("tenant_id", "Only if it is this tenant's.")
            .answers::<MessageView<'_>>(StatusCode::OK, "The message.")
            .fails(&[
                Code::MessageNotFound,
                Code::MessagePending,
                Code::DatabaseUnavailable,
                Code::Starting,
                Code::NotInCharge,
            ]);
    }

    async fn handle(app: &App, call: Call) -> Result<Answer, Problem> {
        let message = app.messaging.get(call.message()?, call.tenant).await?;
        answer::json(StatusCode::OK, &MessageView::from(&message))
    }
}

/// `DELETE /messages/{message}`.
pub(crate) struct Delete;

impl Endpoint for Delete {
    const VERB: Verb = Verb::Delete;
    const PATHS: &'static [&'static str] = &["/messages/{message}"];
    const MOUNT: Mount = Mount::Api;
    const ACCESS: Access = Access::Tenant(Some(Scope::MessagesWrite));
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("delete_message", "Delete a stored message")
            .details(
                "For good: its redelivery by the broker does not bring it back. Of several \
                 requests at once, one is answered 200. A message that is still queued cannot be \
                 deleted yet: `message_pending`.",
            )
            .tag("messages")
            .query::<Uuid>("tenant_id", "Only if it is this tenant's.")
            .answers::<DeletedView>(StatusCode::OK, "Deleted.")
            .fails(&[
                Code::MessageNotFound,
                Code::MessagePending,
                Code::DatabaseUnavailable,
                Code::Starting,
                Code::NotInCharge,
                Code::ShuttingDown,
            ]);
    }

    async fn handle(app: &App, call: Call) -> Result<Answer, Problem> {
        app.messaging.delete(call.message()?, call.tenant).await?;
        let view = DeletedView {
            message: "Message deleted successfully",
        };
        answer::json(StatusCode::OK, &view)
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
        let view = page_view(&page, &asked);
        assert_eq!(read(view.next_cursor), Some((Side::Next, message(2).id)));
        assert_eq!(
            read(view.prev_cursor),
            Some((Side::Previous, message(1).id))
        );
        (page.has_next, page.has_previous) = (false, false);
        let view = page_view(&page, &asked);
        assert_eq!((view.next_cursor, view.prev_cursor), (None, None));
    }
}
