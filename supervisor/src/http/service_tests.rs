use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::{
    body::{Frame, SizeHint},
    header::AUTHORIZATION,
};
use jatis_shared::secret::Secret;
use serde_json::Value;
use uuid::Uuid;

use super::{
    super::{
        auth::{Role, mint},
        prefer::PREFERENCE_APPLIED,
    },
    *,
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const TENANT: &str = "00000000-0000-0000-0000-000000000007";
const OTHER: &str = "00000000-0000-0000-0000-000000000008";
const MAX_BODY_BYTES: u32 = 1024;
/// The origin whose pages may use the API.
const PAGE: &str = "https://app.example.com";

/// The service over handlers that answer with what reached them: route, tenant and body's length.
fn front() -> Front {
    front_within(Duration::from_secs(30))
}

pub(crate) fn front_within(request_timeout: Duration) -> Front {
    front_with(&Http {
        request_timeout,
        ..http()
    })
}

fn http() -> Http {
    Http {
        listen: "127.0.0.1:0".parse().unwrap(),
        max_body_bytes: MAX_BODY_BYTES,
        request_timeout: Duration::from_secs(30),
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(75),
        max_connections: 1,
        protect_system_routes: false,
        cors_origins: vec![PAGE.to_owned()],
    }
}

fn front_with(http: &Http) -> Front {
    let places = Places::of(api::ROUTES);
    let router = api::mount(&places, |route| {
        move |request: Request<Full<Bytes>>| async move {
            let call = request.extensions().get::<Call>().cloned();
            let body = request.into_body().collect().await?.to_bytes();
            let tenant = call.and_then(|call| call.tenant).map(|id| id.to_string());
            let text = format!(
                "{:?} {} {tenant:?} {}",
                route.verb,
                route.paths[0],
                body.len()
            );
            Ok::<_, Infallible>(answer::bytes(StatusCode::OK, "text/plain", text.into()))
        }
    });
    let auth = Auth::jwt(&Secret::from(SECRET.to_owned()), Duration::ZERO).unwrap();
    Front::over(places, router.unwrap(), auth, Metrics::new(), http)
}

fn bearer(role: Role) -> String {
    let secret = Secret::from(SECRET.to_owned());
    let token = mint(&secret, role, Duration::from_secs(60), Timestamp::now()).unwrap();
    format!("Bearer {token}")
}

pub(crate) fn admin() -> String {
    bearer(Role::Admin)
}

fn member() -> String {
    bearer(Role::Tenant(Uuid::from_u128(7).into()))
}

fn request(method: &str, uri: &str, token: Option<String>) -> hyper::http::request::Builder {
    let builder = Request::builder().method(method).uri(uri);
    match token {
        Some(token) => builder.header(AUTHORIZATION, token),
        None => builder,
    }
}

/// The status, the problem's code or the handler's text, and the headers.
async fn told(answer: Answer) -> (u16, String, HeaderMap) {
    let (parts, body) = answer.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let json: Option<Value> = serde_json::from_slice(&bytes).ok();
    let code = json.and_then(|json| json["code"].as_str().map(str::to_owned));
    let text = code.unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
    (parts.status.as_u16(), text, parts.headers)
}

async fn get(method: &str, uri: &str, token: Option<String>) -> (u16, String, HeaderMap) {
    let request = request(method, uri, token)
        .body(Full::<Bytes>::default())
        .unwrap();
    told(front().answer(request).await).await
}

/// A body that must not be touched, or one that never ends.
struct Untouchable {
    claims_bytes: u64,
    endless: bool,
}

impl hyper::body::Body for Untouchable {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        assert!(self.endless, "the body was touched");
        Poll::Pending
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(self.claims_bytes);
        hint
    }
}

/// A body whose length is not known before it ends.
struct Chunked(Option<Bytes>);

impl hyper::body::Body for Chunked {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[tokio::test]
async fn every_place_reaches_its_own_route_through_the_router() {
    let front = front();
    for place in Places::of(api::ROUTES).iter() {
        let path = place
            .router_path
            .replace(":tenant", TENANT)
            .replace(":message", OTHER)
            .replace(":asset", "index.css");
        for path in [path.clone(), format!("{path}/")] {
            let path = path.replace("//", "/");
            let method = place.route.verb.methods()[0].as_str();
            let request = request(method, &path, Some(admin())).body(Full::<Bytes>::default());
            let (status, text, _) = told(front.answer(request.unwrap()).await).await;
            let route = format!("{:?} {} ", place.route.verb, place.route.paths[0]);
            assert_eq!(status, 200, "{method} {path}: {text}");
            assert!(text.starts_with(&route), "{method} {path}: {text}");
        }
    }
}

#[tokio::test]
async fn what_leads_nowhere_is_a_problem() {
    for (method, uri, status, code) in [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/api/v1/metrics", 404, "not_found"),
        ("PROPFIND", "/metrics", 405, "method_not_allowed"),
        ("TRACE", "/tenants", 405, "method_not_allowed"),
        ("PATCH", "/messages", 405, "method_not_allowed"),
        ("GET", "/tenants/%ff", 400, "malformed_request"),
        ("GET", "/%zz", 400, "malformed_request"),
        ("GET", "/metrics?x=%zz", 400, "malformed_request"),
    ] {
        let (found, text, headers) = get(method, uri, None).await;
        assert_eq!((found, text.as_str()), (status, code), "{method} {uri}");
        assert_eq!(headers[CONTENT_TYPE], "application/problem+json");
        assert_eq!(headers.contains_key(ALLOW), status == 405, "{method} {uri}");
        assert!(headers.contains_key(X_REQUEST_ID));
    }
    let (status, _, headers) = get("OPTIONS", "/tenants", None).await;
    assert_eq!(
        (status, &headers[ALLOW]),
        (204, &HeaderValue::from_static("POST, GET, HEAD, OPTIONS"))
    );
    let (_, _, headers) = get("OPTIONS", &format!("/tenants/{TENANT}"), None).await;
    assert_eq!(headers["accept-patch"], "application/merge-patch+json");
    assert_eq!(get("OPTIONS", "*", None).await.0, 204);
    assert_eq!(get("HEAD", "/metrics", None).await.0, 200);
}

#[tokio::test]
async fn a_token_opens_its_own_tenant_and_hides_the_others() {
    for (uri, token, status, told) in [
        ("/tenants".to_owned(), None, 401, "unauthorized"),
        (
            "/tenants".to_owned(),
            Some(admin()),
            200,
            "Get /tenants None 0",
        ),
        ("/tenants".to_owned(), Some(member()), 403, "forbidden"),
        (
            format!("/tenants/{TENANT}"),
            Some(member()),
            200,
            "Get /tenants/{tenant} Some(\"00000000-0000-0000-0000-000000000007\") 0",
        ),
        (
            format!("/tenants/{OTHER}"),
            Some(member()),
            404,
            "tenant_not_found",
        ),
        (
            format!("/messages?tenant_id={OTHER}"),
            Some(member()),
            404,
            "tenant_not_found",
        ),
        (
            format!("/messages/{TENANT}?tenant_id={OTHER}"),
            Some(member()),
            404,
            "tenant_not_found",
        ),
        (
            format!("/tenants/{OTHER}/messages?tenant_id={TENANT}"),
            Some(member()),
            404,
            "tenant_not_found",
        ),
        (
            "/messages".to_owned(),
            Some(member()),
            200,
            "Get /messages Some(\"00000000-0000-0000-0000-000000000007\") 0",
        ),
        (
            "/messages".to_owned(),
            Some(admin()),
            200,
            "Get /messages None 0",
        ),
        (
            "/messages?tenant_id=7".to_owned(),
            Some(admin()),
            400,
            "invalid_id",
        ),
        ("/messages/7".to_owned(), Some(admin()), 400, "invalid_id"),
        (
            "/tenants/a%2Fb".to_owned(),
            Some(admin()),
            400,
            "invalid_id",
        ),
        (
            format!("/messages/{OTHER}?tenant_id={TENANT}&tenant_id={TENANT}"),
            Some(admin()),
            422,
            "validation_failed",
        ),
        ("/tenants/7".to_owned(), None, 401, "unauthorized"),
    ] {
        let (found, text, headers) = get("GET", &uri, token).await;
        assert_eq!((found, text.as_str()), (status, told), "{uri}");
        assert_eq!(
            headers.contains_key("www-authenticate"),
            status == 401,
            "{uri}"
        );
    }
}

#[tokio::test]
async fn the_routes_of_operators_take_a_token_if_they_are_protected() {
    for (protect_system_routes, uri, token, status) in [
        (false, "/metrics", None, 200),
        (false, "/metrics", Some("Bearer nonsense".to_owned()), 200),
        (true, "/metrics", None, 401),
        (true, "/metrics", Some(member()), 403),
        (true, "/metrics", Some(admin()), 200),
        (true, "/openapi.json", None, 401),
        (true, "/swagger/index.html", None, 401),
        (true, "/swagger/index.css", None, 401),
        (true, "/health", None, 200),
        (true, "/livez", None, 200),
    ] {
        let front = front_with(&Http {
            protect_system_routes,
            ..http()
        });
        let request = request("GET", uri, token).body(Full::<Bytes>::default());
        let (found, _, _) = told(front.answer(request.unwrap()).await).await;
        assert_eq!(found, status, "{uri}, {protect_system_routes}");
    }
}

#[tokio::test]
async fn nothing_is_read_of_a_body_that_is_refused_anyway() {
    let post = |token: Option<String>, media_type: &str, claims_bytes: u64| {
        let request = request("POST", &format!("/messages/{TENANT}"), token)
            .header(CONTENT_TYPE, media_type)
            .body(Untouchable {
                claims_bytes,
                endless: false,
            });
        async move { told(front().answer(request.unwrap()).await).await }
    };
    let huge = u64::from(MAX_BODY_BYTES) + 1;
    assert_eq!(post(None, "application/json", 2).await.0, 401);
    assert_eq!(
        post(
            Some(bearer(Role::Tenant(Uuid::nil().into()))),
            "application/json",
            2
        )
        .await
        .0,
        404
    );
    assert_eq!(post(Some(admin()), "text/plain", 2).await.0, 415);
    assert_eq!(post(Some(admin()), "application/jsonx", 2).await.0, 415);
    assert_eq!(post(Some(admin()), "application/json", huge).await.0, 413);
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit() {
    let post = |bytes: usize, media_type: &'static str| async move {
        let request = request("POST", &format!("/messages/{TENANT}"), Some(admin()))
            .header(CONTENT_TYPE, media_type)
            .body(Chunked(Some(vec![b' '; bytes].into())));
        told(front().answer(request.unwrap()).await).await
    };
    let max = usize::try_from(MAX_BODY_BYTES).unwrap();
    let (status, text, _) = post(max, "Application/JSON; charset=utf-8").await;
    assert_eq!(status, 200);
    assert!(text.ends_with(" 1024"), "{text}");
    assert_eq!(post(max + 1, "application/json").await.0, 413);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let request = request("POST", &format!("/messages/{TENANT}"), Some(admin()))
        .header(CONTENT_TYPE, "application/json")
        .body(Untouchable {
            claims_bytes: 2,
            endless: true,
        });
    let front = front_within(Duration::from_millis(20));
    let (status, code, _) = told(front.answer(request.unwrap()).await).await;
    assert_eq!((status, code.as_str()), (408, "body_timeout"));
}

#[tokio::test]
async fn a_requests_id_is_taken_and_given_back() {
    let request = Request::builder()
        .uri("/nowhere")
        .header(X_REQUEST_ID, "my-id")
        .body(Full::<Bytes>::default());
    let answer = front().answer(request.unwrap()).await;
    assert_eq!(answer.headers()[X_REQUEST_ID], "my-id");
}

/// The answer's headers about other origins, by name.
async fn of_other_origins(
    method: &str,
    uri: &str,
    sent: &[(&str, &str)],
) -> (u16, BTreeMap<String, String>) {
    let request = sent
        .iter()
        .fold(request(method, uri, None), |request, (name, value)| {
            request.header(*name, *value)
        });
    let answer = front()
        .answer(request.body(Full::<Bytes>::default()).unwrap())
        .await;
    let headers = answer.headers().iter();
    let headers = headers
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .filter(|(name, _)| name.starts_with("access-control-") || name == "vary");
    (answer.status().as_u16(), headers.collect())
}

#[tokio::test]
async fn a_page_of_a_listed_origin_reads_answers_and_refusals() {
    for (method, uri, origin, status, allowed) in [
        ("GET", "/livez", PAGE, 200, true),
        ("GET", "/tenants", PAGE, 401, true),
        ("GET", "/nowhere", PAGE, 404, true),
        ("PATCH", "/livez", PAGE, 405, true),
        ("GET", "/%zz", PAGE, 400, true),
        ("GET", "/livez", "https://other.example", 200, false),
    ] {
        let (found, headers) = of_other_origins(method, uri, &[("origin", origin)]).await;
        assert_eq!(found, status, "{method} {uri}");
        assert_eq!(headers["vary"], "Origin", "{method} {uri}");
        let origin = headers.get("access-control-allow-origin");
        assert_eq!(origin.map(String::as_str), allowed.then_some(PAGE), "{uri}");
        let exposed = headers.get("access-control-expose-headers");
        assert_eq!(exposed.is_some(), allowed, "{method} {uri}");
        if let Some(exposed) = exposed {
            let exposed = exposed.to_lowercase();
            for header in [&X_REQUEST_ID, &PREFERENCE_APPLIED] {
                assert!(exposed.contains(header.as_str()), "{header}");
            }
        }
    }
}

#[tokio::test]
async fn a_preflight_needs_no_token_and_tells_what_the_path_takes() {
    let asks = ("access-control-request-method", "PUT");
    let (status, headers) =
        of_other_origins("OPTIONS", "/tenants", &[("origin", PAGE), asks]).await;
    assert_eq!(status, 204);
    let expected = [
        (
            "access-control-allow-headers",
            "Authorization, Content-Type, Prefer, X-Request-Id",
        ),
        ("access-control-allow-methods", "POST, GET, HEAD, OPTIONS"),
        ("access-control-allow-origin", PAGE),
        ("access-control-max-age", "7200"),
        ("vary", "Origin"),
    ];
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(headers, expected);

    let sent = [("origin", "https://other.example"), asks];
    let (status, headers) = of_other_origins("OPTIONS", "/tenants", &sent).await;
    assert_eq!((status, headers.len()), (204, 1), "{headers:?}");
    let sent = [("origin", PAGE), asks];
    let (status, headers) = of_other_origins("OPTIONS", "/nowhere", &sent).await;
    assert_eq!(status, 404);
    assert!(!headers.contains_key("access-control-allow-methods"));
}

#[tokio::test]
async fn metrics_name_the_pattern_and_never_the_path() {
    let front = front();
    for (method, uri) in [
        ("GET", format!("/tenants/{TENANT}")),
        ("BREW", "/x/y".to_owned()),
    ] {
        let request = request(method, &uri, Some(admin())).body(Full::<Bytes>::default());
        front.answer(request.unwrap()).await;
    }
    let text = front.metrics.render().unwrap();
    let line = |endpoint: &str, method: &str, status: &str| {
        format!(
            "http_requests_total{{endpoint=\"{endpoint}\",method=\"{method}\",status=\"{status}\"}} 1"
        )
    };
    assert!(
        text.contains(&line("/api/v1/tenants/{id}", "GET", "200")),
        "{text}"
    );
    assert!(text.contains(&line("unmatched", "other", "404")), "{text}");
    assert!(!text.contains(TENANT));
}

#[tokio::test]
async fn reading_and_writing_messages_take_their_scopes() {
    let token = |scope: &str| {
        let claims = serde_json::json!({
            "role": "tenant", "tenant_id": TENANT, "scope": scope,
            "exp": Timestamp::now().as_second() + 60,
        });
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
        format!("Bearer {token}")
    };
    let message = format!("/messages/{OTHER}");
    let statistics = format!("/stats/tenants/{TENANT}/messages");
    for (method, uri, reader, writer) in [
        ("GET", &message, 200, 403),
        ("GET", &statistics, 200, 403),
        ("DELETE", &message, 403, 200),
    ] {
        for (scope, expected) in [("messages:read", reader), ("messages:write", writer)] {
            let (status, _, _) = get(method, uri, Some(token(scope))).await;
            assert_eq!(status, expected, "{method} {uri} with {scope}");
        }
    }
}
