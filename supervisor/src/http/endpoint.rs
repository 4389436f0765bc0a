//! The one seam of the API: an [`Endpoint`] is a route, its rule, its description and its handler
//! in one place, so that they cannot drift apart. A route without a rule does not compile.

use std::pin::Pin;

use bytes::Bytes;
use hyper::{HeaderMap, Method};
use jatis_shared::ids::{MessageId, TenantId};
use tokio::time::Instant;

use super::{
    App,
    answer::Answer,
    auth::Scope,
    openapi::Description,
    problem::{Code, Problem},
    query::Query,
    request_id::RequestId,
};

/// A route of the API.
pub(crate) trait Endpoint: 'static {
    const VERB: Verb;
    /// Patterns such as `/tenants/{tenant}`; the first is the usual one, the others are aliases.
    const PATHS: &'static [&'static str];
    const MOUNT: Mount;
    const ACCESS: Access;
    const BODY: Body;

    /// Describes what `ACCESS` and `BODY` do not say already.
    fn describe(operation: &mut Description<'_>);

    /// Answers a call that `ACCESS` has let through. Dropped half-way when the client leaves or
    /// the deadline passes.
    fn handle(app: &App, call: Call) -> impl Future<Output = Result<Answer, Problem>> + Send;
}

/// The methods that routes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Serves HEAD as well.
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    /// The methods that reach a route of this verb.
    pub(crate) const fn methods(self) -> &'static [Method] {
        match self {
            Self::Get => &[Method::GET, Method::HEAD],
            Self::Post => &[Method::POST],
            Self::Put => &[Method::PUT],
            Self::Patch => &[Method::PATCH],
            Self::Delete => &[Method::DELETE],
        }
    }
}

/// Where a route can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mount {
    /// Under `/api/v1`, and once more at the root for older clients.
    Api,
    /// At the root only.
    Root,
}

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody, without a token.
    Open,
    /// Everybody; administrators alone with `http.protect_system_routes`.
    System,
    /// Administrators.
    Admin,
    /// Administrators, and the tenant itself; with this scope, if one is named.
    Tenant(Option<Scope>),
}

/// What becomes of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// It is not read.
    None,
    /// It must be JSON, of at most `http.max_body_bytes`.
    Json,
    /// The same, as what RFC 7396 makes of JSON: what is absent stays as it is.
    MergePatch,
}

impl Body {
    /// The media types it may have.
    pub(crate) const fn media_types(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Json => &["application/json"],
            Self::MergePatch => &["application/merge-patch+json", "application/json"],
        }
    }
}

/// A request that has been let through.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The tenant that the path names, else the query's `tenant_id`, else the token's own.
    pub(crate) tenant: Option<TenantId>,
    /// The message that the path names.
    pub(crate) message: Option<MessageId>,
    /// The file that the path names.
    pub(crate) asset: Option<String>,
    /// The path as requested.
    pub(crate) path: String,
    /// What stood behind the `?`, as requested.
    pub(crate) raw_query: String,
    pub(crate) query: Query,
    pub(crate) request_id: RequestId,
    /// When it must be answered.
    pub(crate) deadline: Instant,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    /// The tenant the request is about.
    ///
    /// # Errors
    /// `tenant_required` when nothing names one.
    pub(crate) fn tenant(&self) -> Result<TenantId, Problem> {
        self.tenant.ok_or_else(|| {
            Problem::new(
                Code::TenantRequired,
                "tenant_id query parameter is required",
            )
        })
    }

    /// The message the path names.
    ///
    /// # Errors
    /// `not_found` when the path names none, which its pattern rules out.
    pub(crate) fn message(&self) -> Result<MessageId, Problem> {
        self.message
            .ok_or_else(|| Problem::new(Code::NotFound, "the path names no message"))
    }
}

pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Answer, Problem>> + Send>>;

/// An endpoint as a row of the table.
pub(crate) struct Route {
    pub(crate) verb: Verb,
    pub(crate) paths: &'static [&'static str],
    pub(crate) mount: Mount,
    pub(crate) access: Access,
    pub(crate) body: Body,
    pub(crate) describe: fn(&mut Description<'_>),
    pub(crate) handle: fn(std::sync::Arc<App>, Call) -> Answering,
}

impl Route {
    pub(crate) const fn of<E: Endpoint>() -> Self {
        Self {
            verb: E::VERB,
            paths: E::PATHS,
            mount: E::MOUNT,
            access: E::ACCESS,
            body: E::BODY,
            describe: E::describe,
            handle: |app, call| Box::pin(async move { E::handle(&app, call).await }),
        }
    }
}
