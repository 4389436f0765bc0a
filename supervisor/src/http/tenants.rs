//! The routes of tenants.

use hyper::{StatusCode, header::LOCATION};
use jatis_shared::{config::MAX_THREADS, ids::TenantId};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{
    App,
    answer::{self, Answer},
    decode::Fields,
    endpoint::{Access, Body, Call, Endpoint, Mount, Verb},
    example,
    headers::Told,
    openapi::{Description, Tag},
    paths::API_ROOT,
    problem::{Code, Problem},
    tenant_view::TenantView,
};
use crate::tenancy::{Deleted, Deletion, Manner, NewTenant, Resized, Tenant};

pub(super) const MAX_NAME_CHARS: usize = 255;
/// The part of a request's time that is left to answer it, once a deletion is not waited for any
/// longer: a tenth.
const ANSWERING: u32 = 10;

/// What creates a tenant; at least one of `id` and `name` is given.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NewTenant", deny_unknown_fields)]
pub(super) struct NewTenantBody {
    /// A random one if absent.
    id: Option<Uuid>,
    /// The id's text if absent. No control characters.
    #[schemars(length(min = 1, max = "MAX_NAME_CHARS"))]
    name: Option<String>,
    /// Pool threads of its worker, at most `worker.max_threads`; the number in the key `workers` if
    /// absent.
    #[schemars(range(min = 1, max = "MAX_THREADS"))]
    workers: Option<u16>,
}

impl NewTenantBody {
    pub(super) fn example() -> Self {
        Self {
            id: Some(example::tenant().uuid()),
            name: Some("acme".to_owned()),
            workers: Some(4),
        }
    }
}

/// How many messages of a tenant are stored at once.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Concurrency", deny_unknown_fields)]
struct ConcurrencyBody {
    /// Pool threads of its worker, at most `worker.max_threads`.
    #[schemars(range(min = 1, max = "MAX_THREADS"))]
    workers: u16,
}

/// An answer of the first release's form.
#[derive(Serialize, JsonSchema)]
struct Done<T> {
    /// What has been done, in a sentence.
    message: &'static str,
    /// What it is about.
    data: T,
}

/// A tenant's concurrency.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Resized")]
struct ResizedView {
    /// Whose.
    tenant_id: Uuid,
    /// What is wanted.
    workers: u16,
    /// What the worker has confirmed so far.
    applied_workers: u16,
}

impl Done<ResizedView> {
    fn resized(tenant: TenantId, resized: Resized) -> Self {
        Self {
            message: "Concurrency updated successfully",
            data: ResizedView {
                tenant_id: tenant.uuid(),
                workers: resized.workers,
                applied_workers: resized.applied_workers,
            },
        }
    }
}

impl Done<ResizedView> {
    fn example() -> Self {
        let resized = Resized {
            workers: 8,
            applied_workers: 8,
        };
        Self::resized(example::tenant(), resized)
    }
}

/// What has gone with a tenant.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Deleted")]
struct DeletedView {
    /// Which tenant.
    tenant_id: Uuid,
    /// Messages that were stored.
    messages_deleted: u64,
    /// Deliveries that were still queued.
    messages_unprocessed: u64,
}

impl Done<DeletedView> {
    fn deleted(tenant: TenantId, deleted: Deleted) -> Self {
        Self {
            message: "Tenant deleted successfully",
            data: DeletedView {
                tenant_id: tenant.uuid(),
                messages_deleted: deleted.messages_deleted,
                messages_unprocessed: deleted.messages_unprocessed,
            },
        }
    }
}

impl Done<DeletedView> {
    fn example() -> Self {
        let deleted = Deleted {
            messages_deleted: 184_223,
            messages_unprocessed: 2,
        };
        Self::deleted(example::tenant(), deleted)
    }
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
            .tag(Tag::Tenants)
            .body(
                "The tenant; at least one of `id` and `name` is given.",
                &NewTenantBody::example(),
            )
            .answers(StatusCode::CREATED, "Created.", &TenantView::example())
            .tells(StatusCode::CREATED, &[Told::Location])
            .fails(&[
                Code::TenantExists,
                Code::TenantDeleting,
                Code::DatabaseUnavailable,
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
            .details("A tenant's own token shows it too.")
            .tag(Tag::Tenants)
            .answers(StatusCode::OK, "The tenant.", &TenantView::example())
            .fails(&[Code::DatabaseUnavailable]);
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
            .tag(Tag::Tenants)
            .body(
                "How many pool threads its worker is to have.",
                &ConcurrencyBody { workers: 8 },
            )
            .answers(
                StatusCode::OK,
                "Stored, and applied as told.",
                &Done::<ResizedView>::example(),
            )
            .fails(&[
                Code::TenantNotFound,
                Code::TenantDeleting,
                Code::DatabaseUnavailable,
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
        answer::json(StatusCode::OK, &Done::resized(tenant, resized))
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
            .tag(Tag::Tenants)
            .query_flag("drain", "Whether to store first what is queued.")
            .answers(StatusCode::OK, "Deleted.", &Done::<DeletedView>::example())
            .answers(
                StatusCode::ACCEPTED,
                "Under way: the tenant is `draining` or `deleting`.",
                &TenantView::example_leaving(),
            )
            .tells(StatusCode::ACCEPTED, &[Told::Location])
            .fails(&[
                Code::TenantNotFound,
                Code::TenantDeleting,
                Code::ValidationFailed,
                Code::DatabaseUnavailable,
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
        answer::json(StatusCode::OK, &Done::deleted(tenant, deleted))
    }
}

#[cfg(test)]
mod tests {
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
}
