//! The routes of tenants.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper::{
    StatusCode,
    header::{HeaderName, LINK, LOCATION},
};
use jatis_shared::ids::{TenantId, TenantNumber};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{
    App,
    answer::{self, Answer},
    decode::Fields,
    endpoint::{Access, Body, Call, Endpoint, Mount, Verb},
    openapi::Description,
    paths::API_ROOT,
    problem::{Code, Problem},
    tenant_view::TenantView,
};
use crate::tenancy::{Deletion, Manner, NewTenant, Tenant, TenantQuery};

pub(super) const MAX_NAME_CHARS: usize = 255;
/// The part of a request's time that is left to answer it, once a deletion is not waited for any
/// longer: a tenth.
const ANSWERING: u32 = 10;
const MAX_LIMIT: u16 = 1000;
const DEFAULT_LIMIT: u16 = 100;
pub(super) const X_NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");
/// The first byte of a cursor of this list: its version, and that it is not one of messages.
const CURSOR_VERSION: u8 = 0x81;

/// What creates a tenant; at least one of `id` and `name` is given.
#[derive(JsonSchema)]
#[schemars(rename = "NewTenant", deny_unknown_fields)]
#[expect(dead_code, reason = "describes the body; `new_tenant` reads it")]
pub(super) struct NewTenantBody {
    id: Option<Uuid>,
    /// The id's text when absent.
    #[schemars(length(min = 1, max = 255))]
    name: Option<String>,
    /// Pool threads of its worker; the configured number when absent.
    #[schemars(range(min = 1, max = 100))]
    workers: Option<u16>,
}

#[derive(JsonSchema)]
#[schemars(rename = "Concurrency", deny_unknown_fields)]
#[expect(dead_code, reason = "describes the body; `Resize` reads it")]
struct ConcurrencyBody {
    #[schemars(range(min = 1, max = 100))]
    workers: u16,
}

/// An answer of the first release's form: a sentence and what it is about.
#[derive(Serialize, JsonSchema)]
struct Done<T> {
    message: &'static str,
    data: T,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Resized")]
struct ResizedView {
    tenant_id: Uuid,
    workers: u16,
    /// What the worker has confirmed so far.
    applied_workers: u16,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Deleted")]
struct DeletedView {
    tenant_id: Uuid,
    messages_deleted: u64,
    /// Deliveries that were still queued.
    messages_unprocessed: u64,
}

/// `POST /tenants`.
pub(crate) struct Create;

impl Endpoint for Create {
    const VERB: Verb = Verb::Post;
    const PATHS: &'static [&'static str] = &["/tenants"];
    const MOUNT: Mount = Mount::Api;
    const ACCESS: Access = Access::Admin;
    const BODY: Body = Body::Json;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("create_tenant", "Create a tenant")
            .details(
                "Answers when its worker is running, or with the status `starting` when that \
                 takes longer than `supervision.ready_timeout`.",
            )
            .tag("tenants")
            .body::<NewTenantBody>()
            .answers::<TenantView>(StatusCode::CREATED, "Created. `Location` names it.")
            .fails(&[
                Code::TenantExists,
                Code::TenantDeleting,
                Code::BrokerUnavailable,
                Code::DatabaseUnavailable,
                Code::Starting,
                Code::NotInCharge,
                Code::ShuttingDown,
                Code::TenantNumbersExhausted,
            ]);
    }

    async fn handle(app: &App, call: Call) -> Result<Answer, Problem> {
        let new = new_tenant(&call.body, app.config.worker.max_threads)?;
        let tenant = app.tenancy.create(new).await?;
        located(StatusCode::CREATED, tenant)
    }
}

/// A tenant, and where it is found.
pub(super) fn located(status: StatusCode, tenant: Tenant) -> Result<Answer, Problem> {
    let location = format!("{API_ROOT}/tenants/{}", tenant.id);
    let answer = answer::json(status, &TenantView::from(tenant))?;
    answer::with_header(answer, LOCATION, location)
}

/// The tenant that a body describes, with at most `max_workers`.
fn new_tenant(body: &[u8], max_workers: u16) -> Result<NewTenant, Problem> {
    let mut fields = Fields::parse(body)?;
    let new = NewTenant {
        id: fields.id("id").map(TenantId::from),
        name: fields.text("name", 1..=MAX_NAME_CHARS),
        workers: fields.number("workers", 1..=max_workers),
    };
    if new.id.is_none() && new.name.is_none() {
        fields.fault_of_all("at least one of id and name is required");
    }
    fields.finish()?;
    Ok(new)
}

/// `GET /tenants`.
pub(crate) struct List;

impl Endpoint for List {
    const VERB: Verb = Verb::Get;
    const PATHS: &'static [&'static str] = &["/tenants"];
    const MOUNT: Mount = Mount::Api;
    const ACCESS: Access = Access::Admin;
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("list_tenants", "List tenants in pages, newest first")
            .details("The next page stands in `Link` with rel=\"next\" and in `X-Next-Cursor`.")
            .tag("tenants")
            .query::<u16>(
                "limit",
                "Most tenants of the page, 1 to 1000; 100 if absent.",
            )
            .query::<String>("cursor", "The cursor of the page.")
            .query::<String>("name", "Only tenants whose name contains this text.")
            .query::<bool>("runtime", "Whether to tell what runs for each.")
            .answers::<Vec<TenantView>>(StatusCode::OK, "A page.")
            .fails(&[
                Code::InvalidCursor,
                Code::ValidationFailed,
                Code::DatabaseUnavailable,
                Code::Starting,
                Code::NotInCharge,
            ]);
    }

    async fn handle(app: &App, call: Call) -> Result<Answer, Problem> {
        let mut query = call.query.clone();
        let limit = query.number("limit", 1..=MAX_LIMIT, DEFAULT_LIMIT);
        let name = query.text("name");
        let runtime = query.flag("runtime");
        let cursor = query.text("cursor");
        query.finish()?;
        let after = cursor.map(|text| decode_cursor(&text)).transpose()?;
        let page = app
            .tenancy
            .list(TenantQuery {
                limit,
                after,
                name,
                runtime,
            })
            .await?;
        let tenants: Vec<TenantView> = page.tenants.into_iter().map(TenantView::from).collect();
        let answer = answer::json(StatusCode::OK, &tenants)?;
        let Some(next) = page.next.map(encode_cursor) else {
            return Ok(answer);
        };
        let answer = answer::with_header(answer, LINK, link(&call, &next))?;
        answer::with_header(answer, X_NEXT_CURSOR, next)
    }
}

/// The link to the next page: this request with another cursor.
fn link(call: &Call, cursor: &str) -> String {
    let kept = call.raw_query.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !name.is_empty() && name != "cursor"
    });
    let cursor = format!("cursor={cursor}");
    let query: Vec<&str> = kept.chain([cursor.as_str()]).collect();
    format!("<{}?{}>; rel=\"next\"", call.path, query.join("&"))
}

fn encode_cursor(last: TenantNumber) -> String {
    let mut bytes = vec![CURSOR_VERSION];
    bytes.extend_from_slice(&u32::from(last).to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode_cursor(text: &str) -> Result<TenantNumber, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    let number = bytes
        .strip_prefix(&[CURSOR_VERSION])
        .and_then(|number| number.try_into().ok())
        .map(u32::from_be_bytes);
    number
        .and_then(|number| TenantNumber::try_from(number).ok())
        .ok_or_else(|| Problem::new(Code::InvalidCursor, "the cursor is not one of this list"))
}

/// `GET /tenants/{tenant}`.
pub(crate) struct Show;

impl Endpoint for Show {
    const VERB: Verb = Verb::Get;
    const PATHS: &'static [&'static str] = &["/tenants/{tenant}"];
    const MOUNT: Mount = Mount::Api;
    const ACCESS: Access = Access::Tenant(None);
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("show_tenant", "Show a tenant")
            .tag("tenants")
            .answers::<TenantView>(StatusCode::OK, "The tenant.")
            .fails(&[Code::DatabaseUnavailable, Code::NotInCharge]);
    }

    async fn handle(app: &App, call: Call) -> Result<Answer, Problem> {
        let tenant = app.tenancy.get(call.tenant()?).await?;
        answer::json(StatusCode::OK, &TenantView::from(tenant))
    }
}

/// `PUT /tenants/{tenant}/config/concurrency`.
pub(crate) struct Resize;

impl Endpoint for Resize {
    const VERB: Verb = Verb::Put;
    const PATHS: &'static [&'static str] = &["/tenants/{tenant}/config/concurrency"];
    const MOUNT: Mount = Mount::Api;
    const ACCESS: Access = Access::Admin;
    const BODY: Body = Body::Json;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary(
                "resize_tenant",
                "Change how many pool threads a tenant's worker has",
            )
            .details(
                "Answers when the worker has confirmed, or after `supervision.resize_timeout`; \
                 `applied_workers` tells what it has confirmed by then. Messages in flight are \
                 neither dropped nor delivered again.",
            )
            .tag("tenants")
            .body::<ConcurrencyBody>()
            .answers::<Done<ResizedView>>(StatusCode::OK, "Stored, and applied as told.")
            .fails(&[
                Code::TenantNotFound,
                Code::TenantDeleting,
                Code::DatabaseUnavailable,
                Code::Starting,
                Code::NotInCharge,
                Code::ShuttingDown,
            ]);
    }

    async fn handle(app: &App, call: Call) -> Result<Answer, Problem> {
        let tenant = call.tenant()?;
        let mut fields = Fields::parse(&call.body)?;
        let workers = fields.number("workers", 1..=app.config.worker.max_threads);
        fields.require("workers", workers.as_ref());
        fields.finish()?;
        let resized = app
            .tenancy
            .resize(tenant, workers.unwrap_or_default())
            .await?;
        let data = ResizedView {
            tenant_id: tenant.uuid(),
            workers: resized.workers,
            applied_workers: resized.applied_workers,
        };
        let message = "Concurrency updated successfully";
        answer::json(StatusCode::OK, &Done { message, data })
    }
}

/// `DELETE /tenants/{tenant}`.
pub(crate) struct Delete;

impl Endpoint for Delete {
    const VERB: Verb = Verb::Delete;
    const PATHS: &'static [&'static str] = &["/tenants/{tenant}"];
    const MOUNT: Mount = Mount::Api;
    const ACCESS: Access = Access::Admin;
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("delete_tenant", "Delete a tenant with its messages")
            .details(
                "Publishing to it answers 410 from the first moment. When 200 comes, its worker \
                 and queues are gone and its messages can no longer be seen. Deliveries that are \
                 queued go unstored, unless `drain` is true: then the worker, even of a paused \
                 tenant, stores them first, and reading goes on meanwhile. What is not done after \
                 nine tenths of `http.request_timeout` is answered with 202 and goes on, whatever \
                 happens to jatis; the tenant answers 404 when it is done. Asking again joins \
                 what is under way, and without `drain` it cuts a drain short.",
            )
            .tag("tenants")
            .query::<bool>(
                "drain",
                "Whether to store first what is queued; false if absent.",
            )
            .answers::<Done<DeletedView>>(StatusCode::OK, "Deleted.")
            .answers::<TenantView>(
                StatusCode::ACCEPTED,
                "Under way: the tenant is `draining` or `deleting`. `Location` names it.",
            )
            .fails(&[
                Code::TenantNotFound,
                Code::TenantDeleting,
                Code::ValidationFailed,
                Code::DatabaseUnavailable,
                Code::Starting,
                Code::NotInCharge,
                Code::ShuttingDown,
            ]);
    }

    async fn handle(app: &App, call: Call) -> Result<Answer, Problem> {
        let tenant = call.tenant()?;
        let mut query = call.query.clone();
        let manner = if query.flag("drain") {
            Manner::Drained
        } else {
            Manner::AtOnce
        };
        query.finish()?;
        let until = call.deadline - app.config.http.request_timeout / ANSWERING;
        let deleted = match app.tenancy.delete(tenant, manner, until).await? {
            Deletion::Done(deleted) => deleted,
            Deletion::UnderWay(tenant) => return located(StatusCode::ACCEPTED, tenant),
        };
        let data = DeletedView {
            tenant_id: tenant.uuid(),
            messages_deleted: deleted.messages_deleted,
            messages_unprocessed: deleted.messages_unprocessed,
        };
        let message = "Tenant deleted successfully";
        answer::json(StatusCode::OK, &Done { message, data })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_new_tenant_has_a_name_or_an_id_within_bounds() {
        for (body, fault) in [
            (r#"{"name": "a"}"#, None),
            (
                r#"{"id": "0190d3a2-7c3e-7c3e-8c3e-0190d3a27c3e", "workers": 8}"#,
                None,
            ),
            (r#"{"name": null, "id": null}"#, Some("")),
            (r#"{"workers": 1}"#, Some("")),
            (r#"{"name": "a", "workers": 9}"#, Some("/workers")),
            (r#"{"name": "a", "workers": 0}"#, Some("/workers")),
            (r#"{"id": "7"}"#, Some("/id")),
            (r#"{"name": ["a"]}"#, Some("/name")),
            (r#"{"name": "a", "paused": true}"#, Some("/paused")),
            ("[]", Some("")),
        ] {
            let found = new_tenant(body.as_bytes(), 8).map(drop);
            let found = found.err().map(|problem| {
                let pointers: Vec<_> = problem.faults().iter().map(|f| f.pointer.clone()).collect();
                pointers.into_iter().flatten().collect::<String>()
            });
            assert_eq!(found.as_deref(), fault, "{body}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_of_tenants_comes_back_and_nothing_else_does(number in 1_u32..1 << 24, text in "[A-Za-z0-9_-]{0,40}") {
            let number = TenantNumber::try_from(number).expect("a number in range");
            prop_assert_eq!(decode_cursor(&encode_cursor(number)).ok(), Some(number));
            if let Ok(number) = decode_cursor(&text) {
                prop_assert_eq!(encode_cursor(number), text);
            }
        }
    }
}
