//! The routes for operators besides health: metrics, the API's description, an index. None needs a
//! token, unless the configuration wants one for the first two.

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    App,
    answer::{self, Answer},
    endpoint::{Access, Body, Call, Endpoint, Mount, Verb},
    openapi::{self, Description, Tag},
    problem::Problem,
};

/// The media type of Prometheus' text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What this server is.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Index")]
struct IndexView {
    /// Always `jatis`.
    name: &'static str,
    /// Its version.
    version: &'static str,
    /// Where everything is.
    links: Links,
}

/// Paths.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Links")]
struct Links {
    /// The list of tenants.
    tenants: &'static str,
    /// A tenant's messages.
    messages: &'static str,
    /// The API's description for programs.
    openapi: &'static str,
    /// The API's description for people, to try out.
    swagger: &'static str,
    /// How jatis is.
    health: &'static str,
    /// What Prometheus reads.
    metrics: &'static str,
}

impl IndexView {
    const fn new() -> Self {
        Self {
            name: "jatis",
            version: env!("CARGO_PKG_VERSION"),
            links: Links {
                tenants: "/api/v1/tenants",
                messages: "/api/v1/messages",
                openapi: "/openapi.json",
                swagger: "/swagger/index.html",
                health: "/health",
                metrics: "/metrics",
            },
        }
    }
}

/// `GET /metrics`.
pub(crate) struct Scrape;

impl Endpoint for Scrape {
    const VERB: Verb = Verb::Get;
    const PATHS: &'static [&'static str] = &["/metrics"];
    const MOUNT: Mount = Mount::Root;
    const ACCESS: Access = Access::System;
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("metrics", "What Prometheus reads")
            .details("Counters, gauges and histograms; `docs/reference.md` says what each means.")
            .tag(Tag::System)
            .answers_text(&[PROMETHEUS], "Prometheus' text format.");
    }

    async fn handle(app: &App, _call: Call) -> Result<Answer, Problem> {
        let text = app.metrics.render().map_err(Problem::internal)?;
        Ok(answer::bytes(StatusCode::OK, PROMETHEUS, text.into()))
    }
}

/// `GET /openapi.json`.
pub(crate) struct Document;

impl Endpoint for Document {
    const VERB: Verb = Verb::Get;
    const PATHS: &'static [&'static str] = &["/openapi.json"];
    const MOUNT: Mount = Mount::Root;
    const ACCESS: Access = Access::System;
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        // All of it would be the example.
        let version = Value::from(openapi::VERSION);
        let document = Map::from_iter([("openapi".to_owned(), version)]);
        operation
            .summary("openapi", "This document")
            .details("Made from the table that routes requests.")
            .tag(Tag::System)
            .answers(StatusCode::OK, "OpenAPI 3.0.", &document);
    }

    async fn handle(_app: &App, _call: Call) -> Result<Answer, Problem> {
        Ok(answer::bytes(StatusCode::OK, answer::JSON, openapi::text()))
    }
}

/// `GET /`.
pub(crate) struct Index;

impl Endpoint for Index {
    const VERB: Verb = Verb::Get;
    const PATHS: &'static [&'static str] = &["/"];
    const MOUNT: Mount = Mount::Root;
    const ACCESS: Access = Access::Open;
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("index", "Where everything is")
            .details("A few links, for who comes by.")
            .tag(Tag::System)
            .answers(StatusCode::OK, "Links.", &IndexView::new());
    }

    async fn handle(_app: &App, _call: Call) -> Result<Answer, Problem> {
        answer::json(StatusCode::OK, &IndexView::new())
    }
}
