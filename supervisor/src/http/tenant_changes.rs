//! The routes that change a tenant, or make one where there is none.

use hyper::StatusCode;
use jatis_shared::{config::MAX_THREADS, ids::TenantId};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    App,
    answer::{self, Answer},
    decode::Fields,
    endpoint::{Access, Body, Call, Endpoint, Mount, Verb},
    headers::Told,
    openapi::{Description, Tag},
    problem::{Code, Problem},
    tenant_view::TenantView,
    tenants::{MAX_NAME_CHARS, NewTenantBody, located},
};
use crate::tenancy::{Change, Upserted, Wanted};

/// What is to be different; what is absent stays as it is.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TenantPatch", deny_unknown_fields)]
struct PatchBody {
    /// Its name. No control characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = "MAX_NAME_CHARS"))]
    name: Option<String>,
    /// Pool threads of its worker, at most `worker.max_threads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16", range(min = 1, max = "MAX_THREADS"))]
    workers: Option<u16>,
    /// Whether its messages wait in the queue instead of being stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    paused: Option<bool>,
}

impl PatchBody {
    fn example() -> Self {
        Self {
            name: Some("acme and sons".to_owned()),
            workers: Some(8),
            paused: Some(false),
        }
    }
}

/// What each of these routes may meet.
const FAILS: &[Code] = &[Code::TenantDeleting, Code::DatabaseUnavailable];

/// `PUT /tenants/{tenant}`.
pub(crate) struct Upsert;

impl Endpoint for Upsert {
    const VERB: Verb = Verb::Put;
    const PATHS: &'static [&'static str] = &["/tenants/{tenant}"];
    const MOUNT: Mount = Mount::Api;
    const ACCESS: Access = Access::Admin;
    const BODY: Body = Body::Json;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary(
                "put_tenant",
                "Create a tenant, or update the one that is there",
            )
            .details(
                "Asking again changes nothing. `id` may be left out and must else be that of the \
                 path. A tenant that is made has its id for a name if none is given; of one that \
                 is there, what is left out stays as it is. Answers like creating a tenant, or \
                 like changing its concurrency.",
            )
            .tag(Tag::Tenants)
            .body("The tenant as it is to be.", &NewTenantBody::example())
            .answers(StatusCode::CREATED, "Created.", &TenantView::example())
            .tells(StatusCode::CREATED, &[Told::Location])
            .answers(StatusCode::OK, "Updated.", &TenantView::example())
            .fails(FAILS)
            .fails(&[Code::TenantNumbersExhausted]);
    }

    async fn handle(app: &App, call: Call) -> Result<Answer, Problem> {
        let id = call.tenant()?;
        let change = upsert(&call.body, id, app.config.worker.max_threads)?;
        match app.tenancy.upsert(id, change).await? {
            Upserted::Created(tenant) => located(StatusCode::CREATED, tenant),
            Upserted::Updated(tenant) => answer::json(StatusCode::OK, &TenantView::from(tenant)),
        }
    }
}

/// What a body wants of the tenant of the path, with at most `max_workers`.
fn upsert(body: &[u8], tenant: TenantId, max_workers: u16) -> Result<Change, Problem> {
    let mut fields = Fields::parse(body)?;
    if fields.id("id").is_some_and(|id| id != tenant.uuid()) {
        fields.fault("id", "must be the id in the path, or be left out");
    }
    let change = Change {
        name: fields.text("name", 1..=MAX_NAME_CHARS),
        workers: fields.number("workers", 1..=max_workers),
        wanted: None,
    };
    fields.finish()?;
    Ok(change)
}

/// `PATCH /tenants/{tenant}`.
pub(crate) struct Patch;

impl Endpoint for Patch {
    const VERB: Verb = Verb::Patch;
    const PATHS: &'static [&'static str] = &["/tenants/{tenant}"];
    const MOUNT: Mount = Mount::Api;
    const ACCESS: Access = Access::Admin;
    const BODY: Body = Body::MergePatch;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("patch_tenant", "Change a tenant")
            .details(
                "A merge patch (RFC 7396); no field can be removed, so `null` is refused. Answers \
                 when the worker has followed, or after `supervision.resize_timeout`; `runtime` \
                 tells how far it is by then. Messages in flight are neither dropped nor stored \
                 twice.",
            )
            .tag(Tag::Tenants)
            .body("What is to be different.", &PatchBody::example())
            .answers(
                StatusCode::OK,
                "The tenant as it is now.",
                &TenantView::example(),
            )
            .fails(FAILS)
            .fails(&[Code::TenantNotFound]);
    }

    async fn handle(app: &App, call: Call) -> Result<Answer, Problem> {
        let id = call.tenant()?;
        let change = patch(&call.body, app.config.worker.max_threads)?;
        update(app, id, change).await
    }
}

/// What a merge patch wants, with at most `max_workers`.
fn patch(body: &[u8], max_workers: u16) -> Result<Change, Problem> {
    let mut fields = Fields::parse(body)?;
    fields.keep(&["name", "workers", "paused"]);
    let change = Change {
        name: fields.text("name", 1..=MAX_NAME_CHARS),
        workers: fields.number("workers", 1..=max_workers),
        wanted: fields.flag("paused").map(wanted),
    };
    fields.finish()?;
    Ok(change)
}

/// `POST /tenants/{tenant}/pause`.
pub(crate) struct Pause;

impl Endpoint for Pause {
    const VERB: Verb = Verb::Post;
    const PATHS: &'static [&'static str] = &["/tenants/{tenant}/pause"];
    const MOUNT: Mount = Mount::Api;
    const ACCESS: Access = Access::Admin;
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("pause_tenant", "Keep a tenant's messages in its queue")
            .details(
                "Messages are still accepted, with 202, and none is stored before the tenant is \
                 resumed, whatever restarts in between. What its worker has begun is finished. \
                 Answers with the status `paused` when that is so, or after \
                 `supervision.resize_timeout` with what is the case then. Asking again changes \
                 nothing.",
            )
            .tag(Tag::Tenants)
            .answers(
                StatusCode::OK,
                "The tenant as it is now.",
                &TenantView::example(),
            )
            .fails(FAILS)
            .fails(&[Code::TenantNotFound]);
    }

    async fn handle(app: &App, call: Call) -> Result<Answer, Problem> {
        update(app, call.tenant()?, paused(true)).await
    }
}

/// `POST /tenants/{tenant}/resume`.
pub(crate) struct Resume;

impl Endpoint for Resume {
    const VERB: Verb = Verb::Post;
    const PATHS: &'static [&'static str] = &["/tenants/{tenant}/resume"];
    const MOUNT: Mount = Mount::Api;
    const ACCESS: Access = Access::Admin;
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary(
                "resume_tenant",
                "Have a paused tenant's messages stored again",
            )
            .details(
                "Answers when its worker consumes, or after `supervision.resize_timeout` with what \
                 is the case then. Asking again changes nothing.",
            )
            .tag(Tag::Tenants)
            .answers(
                StatusCode::OK,
                "The tenant as it is now.",
                &TenantView::example(),
            )
            .fails(FAILS)
            .fails(&[Code::TenantNotFound]);
    }

    async fn handle(app: &App, call: Call) -> Result<Answer, Problem> {
        update(app, call.tenant()?, paused(false)).await
    }
}

fn wanted(paused: bool) -> Wanted {
    if paused {
        Wanted::Paused
    } else {
        Wanted::Active
    }
}

fn paused(paused: bool) -> Change {
    Change {
        wanted: Some(wanted(paused)),
        ..Change::default()
    }
}

async fn update(app: &App, id: TenantId, change: Change) -> Result<Answer, Problem> {
    let tenant = app.tenancy.update(id, change).await?;
    answer::json(StatusCode::OK, &TenantView::from(tenant))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn pointers(problem: &Problem) -> Vec<String> {
        let pointers = problem.faults().iter().map(|fault| fault.pointer.clone());
        pointers.flatten().collect()
    }

    #[test]
    fn a_patch_names_what_it_changes_and_removes_nothing() {
        for (body, expected) in [
            ("{}", Ok((None, None, None))),
            (
                r#"{"name": "a", "workers": 8, "paused": true}"#,
                Ok((Some("a"), Some(8), Some(Wanted::Paused))),
            ),
            (
                r#"{"paused": false}"#,
                Ok((None, None, Some(Wanted::Active))),
            ),
            (
                r#"{"name": null, "workers": null, "paused": null}"#,
                Err(vec!["/name", "/workers", "/paused"]),
            ),
            (
                r#"{"name": "", "workers": 9, "paused": "yes"}"#,
                Err(vec!["/name", "/workers", "/paused"]),
            ),
            (
                r#"{"retry": {}, "limits": null}"#,
                Err(vec!["/limits", "/retry"]),
            ),
            (
                r#"{"id": "0190d3a2-7c3e-7c3e-8c3e-0190d3a27c3e"}"#,
                Err(vec!["/id"]),
            ),
            ("[]", Err(vec![""])),
            ("null", Err(vec![""])),
        ] {
            let found = patch(body.as_bytes(), 8);
            let found = found
                .as_ref()
                .map(|change| (change.name.as_deref(), change.workers, change.wanted))
                .map_err(pointers);
            assert_eq!(
                found,
                expected.map_err(|faults| faults.into_iter().map(str::to_owned).collect()),
                "{body}"
            );
        }
    }

    #[test]
    fn a_null_in_a_patch_is_refused_in_words_that_help() {
        let problem = patch(br#"{"name": null}"#, 8).expect_err("it is refused");
        let faults: Vec<&str> = problem.faults().iter().map(|f| f.detail.as_str()).collect();
        assert_eq!(faults, ["name cannot be removed; leave it out to keep it"]);
    }

    #[test]
    fn an_upsert_is_about_the_tenant_of_its_path() {
        let tenant = TenantId::from(Uuid::from_u128(7));
        let own = format!(r#"{{"id": "{tenant}", "name": "a"}}"#);
        let other = format!(r#"{{"id": "{}"}}"#, Uuid::from_u128(8));
        for (body, fault) in [
            ("{}", None),
            (own.as_str(), None),
            (r#"{"id": null, "workers": null}"#, None),
            (other.as_str(), Some("/id")),
            (r#"{"id": "7"}"#, Some("/id")),
            (r#"{"workers": 9}"#, Some("/workers")),
            (r#"{"paused": true}"#, Some("/paused")),
        ] {
            let found = upsert(body.as_bytes(), tenant, 8).err();
            let found = found.map(|problem| pointers(&problem).concat());
            assert_eq!(found.as_deref(), fault, "{body}");
        }
    }
}
