//! The service in front of the router: what a request must pass before anybody handles it.
//!
//! In this order: its path and method lead to a route, its caller is recognised and may use the
//! route, its body is JSON, small enough and arrives in time. Only then does the router see it,
//! with the body complete. The router itself would read any body of any size before it routes,
//! would give an unknown method to the handler of GET, and drops the connection of a path it
//! cannot decode; none of these ever reaches it.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, StatusCode, Version,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS},
    http::request::Parts,
    service::Service,
};
use jatis_shared::{
    config::Http,
    ids::{MessageId, TenantId},
};
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::{
    App,
    answer::{self, Answer},
    api::{self, Routing},
    auth::Auth,
    cors::Cors,
    endpoint::{Access, Body, Call},
    paths::{Found, Named, Place, Places},
    problem::{Code, Problem},
    query::{self, Query},
    request_id::{RequestId, X_REQUEST_ID},
};
use crate::metrics::Metrics;

type BoxError = Box<dyn StdError + Send + Sync>;

const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const MERGE_PATCH: HeaderValue = HeaderValue::from_static("application/merge-patch+json");
/// The label of requests that led to no route.
const UNMATCHED: &str = "unmatched";

/// What serves every request of every connection.
pub(crate) struct Front {
    places: Places,
    router: Routing,
    auth: Auth,
    metrics: Metrics,
    cors: Cors,
    protect_system_routes: bool,
    max_body_bytes: usize,
    request_timeout: Duration,
}

impl Front {
    /// The service over an app's endpoints.
    #[expect(
        clippy::expect_used,
        reason = "the patterns are constants, tried by a test"
    )]
    pub(crate) fn new(app: &Arc<App>) -> Self {
        let places = Places::of(api::ROUTES);
        let router = api::router(&places, app).expect("the table's patterns are well-formed");
        let (auth, metrics) = (app.auth.clone(), app.metrics.clone());
        Self::over(places, router, auth, metrics, &app.config.http)
    }

    fn over(places: Places, router: Routing, auth: Auth, metrics: Metrics, http: &Http) -> Self {
        Self {
            places,
            router,
            auth,
            metrics,
            cors: Cors::new(&http.cors_origins),
            protect_system_routes: http.protect_system_routes,
            max_body_bytes: usize::try_from(http.max_body_bytes).unwrap_or(usize::MAX),
            request_timeout: http.request_timeout,
        }
    }

    /// Answers one request. Always answers, within `http.request_timeout`.
    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: hyper::body::Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let started = Instant::now();
        let request_id = RequestId::of(request.headers(), Timestamp::now());
        let span = tracing::info_span!("request", request.id = %request_id);
        self.answer_named(request, request_id, started)
            .instrument(span)
            .await
    }

    async fn answer_named<B>(
        &self,
        request: Request<B>,
        request_id: RequestId,
        started: Instant,
    ) -> Answer
    where
        B: hyper::body::Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let method = label(request.method());
        let asked = self.cors.asked(request.method(), request.headers());
        let found = self.places.find(request.uri().path(), request.method());
        let endpoint = match &found {
            Ok(Found::Place(place, _)) => place.label.as_str(),
            Ok(Found::OtherMethod { label, .. }) => label,
            Ok(Found::Nothing) | Err(_) => UNMATCHED,
        };
        // Only HTTP/1 has nothing but the end of the connection to leave a body unread.
        let mut leaves_a_body =
            !request.body().is_end_stream() && request.version() < Version::HTTP_2;
        let outcome = match found {
            Ok(Found::Place(place, named)) => {
                let served = self.serve(place, named, request, &request_id, started);
                let (outcome, is_read) = served.await;
                leaves_a_body &= !is_read;
                outcome
            }
            Ok(Found::OtherMethod { allow, .. }) => other_method(request.method(), &allow),
            Ok(Found::Nothing) if asks_for_all(&request) => {
                options("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
            }
            Ok(Found::Nothing) => Err(Problem::new(
                Code::NotFound,
                "there is nothing at this path",
            )),
            Err(problem) => Err(problem),
        };
        let mut answer = outcome.unwrap_or_else(|problem| problem.into_answer(&request_id));
        let headers = answer.headers_mut();
        if let Some(value) = request_id.header_value() {
            headers.insert(X_REQUEST_ID, value);
        }
        // What clients have sent is not to be taken for a page or a script.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        self.cors.answer(asked, &mut answer);
        if leaves_a_body {
            // Said, so that the client does not send its next request into the closing.
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
        let (status, took) = (answer.status(), started.elapsed());
        self.metrics
            .observe_request(method, endpoint, status.as_str(), took);
        tracing::debug!(
            method,
            endpoint,
            status = status.as_u16(),
            ?took,
            "{method} {endpoint} answered {status}"
        );
        answer
    }

    /// The answer of a route, and whether the request's body was read to its end.
    async fn serve<B>(
        &self,
        place: &Place,
        named: Named,
        request: Request<B>,
        request_id: &RequestId,
        started: Instant,
    ) -> (Result<Answer, Problem>, bool)
    where
        B: hyper::body::Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let deadline = started + self.request_timeout;
        let (parts, body) = request.into_parts();
        let call = match self.admit(place.route.access, named, &parts, request_id, deadline) {
            Ok(call) => call,
            Err(problem) => return (Err(problem), false),
        };
        let (body, is_read) = match place.route.body {
            Body::None => (Bytes::new(), false),
            kind @ (Body::Json | Body::MergePatch) => {
                match self.read(kind, &parts.headers, body, deadline).await {
                    Ok(body) => (body, true),
                    Err(problem) => return (Err(problem), false),
                }
            }
        };
        (self.route(parts, body, call, deadline).await, is_read)
    }

    /// Has the router's endpoint answer.
    async fn route(
        &self,
        mut parts: Parts,
        body: Bytes,
        call: Call,
        deadline: Instant,
    ) -> Result<Answer, Problem> {
        parts.extensions.insert(call);
        let handled = self
            .router
            .call(Request::from_parts(parts, Full::new(body)));
        match timeout_at(deadline, handled).await {
            Ok(answer) => answer.map_err(Problem::internal),
            Err(_elapsed) => Err(Problem::new(
                Code::RequestTimeout,
                "handling the request took too long; whether it took effect is not known",
            )),
        }
    }

    /// Recognises the caller and lets it through, or not.
    fn admit(
        &self,
        access: Access,
        named: Named,
        parts: &Parts,
        request_id: &RequestId,
        deadline: Instant,
    ) -> Result<Call, Problem> {
        let takes_a_token = match access {
            Access::Open => false,
            Access::System => self.protect_system_routes,
            Access::Admin | Access::Tenant(_) => true,
        };
        let recognise = || self.auth.recognise(&parts.headers, Timestamp::now());
        let caller = takes_a_token.then(recognise).transpose()?;
        let raw_query = parts.uri.query().unwrap_or_default();
        let mut query = Query::parse(raw_query)?;
        let in_path = named.tenant.as_deref().map(query::uuid).transpose()?;
        let tenant = match access {
            Access::Tenant(_) if in_path.is_none() => query.id("tenant_id")?,
            Access::Open | Access::System | Access::Admin | Access::Tenant(_) => in_path,
        };
        let tenant = tenant.map(TenantId::from);
        let message = named.message.as_deref().map(query::uuid).transpose()?;
        if let Some(caller) = &caller {
            caller.may(access, tenant)?;
        }
        Ok(Call {
            tenant: tenant.or_else(|| caller.as_ref()?.tenant()),
            message: message.map(MessageId::from),
            asset: named.asset,
            path: parts.uri.path().to_owned(),
            raw_query: raw_query.to_owned(),
            query,
            request_id: request_id.clone(),
            deadline,
            // The router takes the request apart, and these with it.
            headers: HeaderMap::new(),
            body: Bytes::new(),
        })
    }

    /// Reads a body of JSON. One that says it is too large, or of another type, is not begun.
    async fn read<B>(
        &self,
        kind: Body,
        headers: &HeaderMap,
        body: B,
        deadline: Instant,
    ) -> Result<Bytes, Problem>
    where
        B: hyper::body::Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Ok(Bytes::new());
        }
        let media_types = kind.media_types();
        if !is_one_of(media_types, headers) {
            return Err(other_media_type(kind, &media_types.join(" or ")));
        }
        let max = self.max_body_bytes;
        if usize::try_from(body.size_hint().lower()).is_ok_and(|least| least > max) {
            return Err(too_large(max));
        }
        match timeout_at(deadline, Limited::new(body, max).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(max)),
            Ok(Err(_gone)) => Err(Problem::new(
                Code::MalformedRequest,
                "the body ended before it was complete",
            )),
            Err(_elapsed) => Err(Problem::new(
                Code::BodyTimeout,
                "the body did not arrive in time",
            )),
        }
    }
}

fn too_large(max: usize) -> Problem {
    Problem::new(
        Code::BodyTooLarge,
        format!("the body has more than {max} bytes"),
    )
}

/// Whether the one Content-Type is one of these, with or without parameters.
fn is_one_of(media_types: &[&str], headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let only = types.next().filter(|_| types.next().is_none());
    let essence = only
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split(';').next())
        .map(str::trim);
    let is = |media_type: &&str| essence.is_some_and(|text| text.eq_ignore_ascii_case(media_type));
    media_types.iter().any(is)
}

fn other_media_type(kind: Body, media_types: &str) -> Problem {
    let problem = Problem::new(
        Code::UnsupportedMediaType,
        format!("the body must have the Content-Type {media_types}"),
    );
    match kind {
        // As RFC 5789 asks.
        Body::MergePatch => problem.with_header(ACCEPT_PATCH, MERGE_PATCH),
        Body::None | Body::Json => problem,
    }
}

/// `OPTIONS *`: asked of the server as a whole.
fn asks_for_all<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS && request.uri().path() == "*"
}

fn other_method(method: &Method, allow: &str) -> Result<Answer, Problem> {
    if method == Method::OPTIONS {
        return options(allow);
    }
    let problem = Problem::new(Code::MethodNotAllowed, format!("this path takes {allow}"));
    let allow = HeaderValue::from_str(allow).map_err(Problem::internal)?;
    Err(problem.with_header(ALLOW, allow))
}

fn options(allow: &str) -> Result<Answer, Problem> {
    let mut answer = answer::empty(StatusCode::NO_CONTENT);
    // As RFC 5789 asks of what can be patched.
    if allow.contains(Method::PATCH.as_str()) {
        answer.headers_mut().insert(ACCEPT_PATCH, MERGE_PATCH);
    }
    answer::with_header(answer, ALLOW, allow.to_owned())
}

/// A method as a metric's label: clients can make up methods, but no labels.
fn label(method: &Method) -> &'static str {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    let names = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let found = known.iter().zip(names).find(|(known, _)| *known == method);
    found.map_or("other", |(_, name)| name)
}

#[cfg(test)]
#[path = "service_tests.rs"]
pub(super) mod tests;
