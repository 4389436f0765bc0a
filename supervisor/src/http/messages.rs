//! The routes of messages. A payload passes through as the text it came in: checked once, never
//! made into a tree.

use std::ops::RangeInclusive;

use hyper::{StatusCode, header::LOCATION};
use jatis_shared::payload;
use schemars::JsonSchema;
use uuid::Uuid;

use super::{
    App,
    answer::{self, Answer, When},
    auth::Scope,
    decode,
    endpoint::{Access, Body, Call, Endpoint, Mount, Verb},
    headers::Told,
    message_view::{DeletedView, MessageView, NewMessageBody, PageView},
    openapi::{Description, Tag},
    paths::API_ROOT,
    prefer::{PREFERENCE_APPLIED, Prefer},
    problem::{Code, Fault, Problem},
    query::Query,
};
use crate::messaging::{MessageQuery, MessageStatus, NewMessage, Order, cursor};

const LIMITS: RangeInclusive<u16> = 1..=1000;
const DEFAULT_LIMIT: u16 = 20;

/// `desc`: newest first. `asc`: oldest first.
#[derive(JsonSchema)]
#[schemars(rename = "Order", rename_all = "lowercase")]
#[expect(dead_code, reason = "describes a parameter; nothing makes one")]
enum OrderWord {
    Desc,
    Asc,
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
            .tag(Tag::Messages)
            .header(
                "Prefer",
                "RFC 7240. `respond-async`: 202 as soon as the message is safely queued. \
                 `wait=SECONDS`: wait at most so long for it to be stored, and no longer than \
                 `messages.max_wait`. Both: wait so long, then 202. `Preference-Applied` tells \
                 what was honoured; other preferences are ignored.",
                "respond-async",
            )
            .body("The message.", &NewMessageBody::example())
            .answers(
                StatusCode::CREATED,
                "Stored.",
                &MessageView::example(MessageStatus::Stored),
            )
            .answers(
                StatusCode::ACCEPTED,
                "Queued.",
                &MessageView::example(MessageStatus::Queued),
            )
            .tells(
                StatusCode::CREATED,
                &[Told::Location, Told::PreferenceApplied],
            )
            .tells(
                StatusCode::ACCEPTED,
                &[Told::Location, Told::PreferenceApplied],
            )
            .fails(&[
                Code::TenantGone,
                Code::UnstorablePayload,
                Code::Overloaded,
                Code::BrokerUnavailable,
                Code::PublishUncertain,
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
            .tag(Tag::Messages)
            .query::<Uuid>(
                "tenant_id",
                "Whose messages, where the path does not say; a tenant's token means its own.",
            )
            .query::<String>(
                "cursor",
                "Where the page begins: `next_cursor` or `prev_cursor` of an earlier page, the id \
                 of the message behind which it begins, or a time (RFC 3339). A cursor belongs to \
                 its tenant and its order.",
            )
            .query_number(
                "limit",
                &LIMITS,
                DEFAULT_LIMIT,
                "Most messages of the page; one that would have more than \
                 `messages.max_page_bytes` of payload ends earlier.",
            )
            .query::<OrderWord>("order", "The order of the list; `desc` if absent.")
            .query::<When>("created_after", "Only messages accepted after this time.")
            .query::<When>("created_before", "Only messages accepted before this time.")
            .answers(StatusCode::OK, "A page.", &PageView::example())
            .fails(&[
                Code::InvalidCursor,
                Code::TenantRequired,
                Code::ValidationFailed,
                Code::DatabaseUnavailable,
            ]);
    }

    async fn handle(app: &App, call: Call) -> Result<Answer, Problem> {
        let asked = page_asked(&call)?;
        let page = app.messaging.list(asked).await?;
        answer::json(StatusCode::OK, &PageView::new(&page, &asked))
    }
}

/// The page that a request asks for.
fn page_asked(call: &Call) -> Result<MessageQuery, Problem> {
    let tenant = call.tenant()?;
    let mut query = call.query.clone();
    let limit = query.number("limit", &LIMITS, DEFAULT_LIMIT);
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
            .details(
                "An id that was given within the last hour and is not stored yet answers 404 \
                 `message_pending` with `Retry-After`.",
            )
            .tag(Tag::Messages)
            .query::<Uuid>("tenant_id", "Only if it is this tenant's.")
            .answers(
                StatusCode::OK,
                "The message.",
                &MessageView::example(MessageStatus::Stored),
            )
            .fails(&[
                Code::MessageNotFound,
                Code::MessagePending,
                Code::DatabaseUnavailable,
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
            .tag(Tag::Messages)
            .query::<Uuid>("tenant_id", "Only if it is this tenant's.")
            .answers(StatusCode::OK, "Deleted.", &DeletedView::new())
            .fails(&[
                Code::MessageNotFound,
                Code::MessagePending,
                Code::DatabaseUnavailable,
            ]);
    }

    async fn handle(app: &App, call: Call) -> Result<Answer, Problem> {
        app.messaging.delete(call.message()?, call.tenant).await?;
        answer::json(StatusCode::OK, &DeletedView::new())
    }
}
