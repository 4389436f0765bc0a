//! The one table of routes, and the router built from it.

use std::{
    convert::Infallible,
    future::poll_fn,
    net::{Ipv4Addr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use jiff::Timestamp;
use routerify::{RequestService, RequestServiceBuilder, RouteError, Router};

use super::{
    App,
    answer::Answer,
    endpoint::{Call, Route},
    health, messages, ops,
    paths::Places,
    problem::Problem,
    request_id::RequestId,
    stats, swagger, tenant_changes, tenant_list, tenants,
};

/// Every route of jatis. What is not in this table does not exist: the router, the authorisation
/// and the OpenAPI document are made from it.
pub(crate) const ROUTES: &[Route] = &[
    Route::of::<tenants::Create>(),
    Route::of::<tenant_list::List>(),
    Route::of::<tenants::Show>(),
    Route::of::<tenant_changes::Upsert>(),
    Route::of::<tenant_changes::Patch>(),
    Route::of::<tenants::Delete>(),
    Route::of::<tenants::Resize>(),
    Route::of::<tenant_changes::Pause>(),
    Route::of::<tenant_changes::Resume>(),
    Route::of::<messages::Publish>(),
    Route::of::<messages::List>(),
    Route::of::<messages::Show>(),
    Route::of::<messages::Delete>(),
    Route::of::<stats::Messages>(),
    Route::of::<health::Overall>(),
    Route::of::<health::Live>(),
    Route::of::<health::Ready>(),
    Route::of::<ops::Scrape>(),
    Route::of::<ops::Document>(),
    Route::of::<swagger::Page>(),
    Route::of::<swagger::Asset>(),
    Route::of::<ops::Index>(),
];

/// The router as a service on complete requests.
pub(crate) type Routing = RequestService<Infallible>;

/// The router of these places, each answered by its endpoint.
///
/// # Errors
/// When a pattern is not one, which a test rules out.
pub(crate) fn router(places: &Places, app: &Arc<App>) -> Result<Routing, RouteError> {
    mount(places, |route| {
        let app = Arc::clone(app);
        move |request| answer(Arc::clone(&app), route, request)
    })
}

/// The router of these places, each answered by the handler that `handler` makes for its route.
pub(crate) fn mount<H, R>(
    places: &Places,
    handler: impl Fn(&'static Route) -> H,
) -> Result<Routing, RouteError>
where
    H: Fn(Request<Full<Bytes>>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Answer, Infallible>> + Send + 'static,
{
    let mut router = Router::builder();
    for place in places.iter() {
        let methods = place.route.verb.methods().to_vec();
        router = router.add(place.router_path.as_str(), methods, handler(place.route));
    }
    // The peer's address is of no use to a handler; the router only wants to have one.
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    Ok(RequestServiceBuilder::new(router.build()?)?.build(nobody))
}

/// Answers a request that the service in front has let through.
async fn answer(
    app: Arc<App>,
    route: &'static Route,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Infallible> {
    let (mut parts, body) = request.into_parts();
    let Some(mut call) = parts.extensions.remove::<Call>() else {
        let problem = Problem::internal("a request came around the service in front of the router");
        let request_id = RequestId::of(&parts.headers, Timestamp::now());
        return Ok(problem.into_answer(&request_id));
    };
    // The body is complete: collecting it neither waits nor fails.
    call.body = body.collect().await?.to_bytes();
    call.headers = parts.headers;
    let request_id = call.request_id.clone();
    let mut handling = (route.handle)(app, call);
    // A panic is a bug of this one route: its client hears of it, and the connection's other
    // requests go on.
    let answer = poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(context)));
        polled.unwrap_or_else(|_| Poll::Ready(Err(Problem::internal("the handler panicked"))))
    });
    let answer = answer.await;
    Ok(answer.unwrap_or_else(|problem| problem.into_answer(&request_id)))
}
