//! The routes for operators: health, metrics, the API's description. None of them needs a token.

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    App,
    answer::{self, Answer},
    endpoint::{Access, Body, Call, Endpoint, Mount, Verb},
    openapi::{self, Description},
    problem::Problem,
};
use crate::vitals::{Check, Health, Readiness};

/// The media type of Prometheus' text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Ordered from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "HealthStatus")]
enum Verdict {
    Healthy,
    Degraded,
    Unhealthy,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "HealthCheck")]
struct CheckView {
    status: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "HealthChecks")]
struct ChecksView {
    database: CheckView,
    broker: CheckView,
    supervision: CheckView,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Health")]
struct HealthView {
    /// The worst of the checks.
    status: Verdict,
    checks: ChecksView,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Liveness")]
struct LiveView {
    /// Always `alive`.
    status: &'static str,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ReadinessStatus")]
enum ReadyStatus {
    Ready,
    Starting,
    Draining,
    NotInCharge,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Readiness")]
struct ReadyView {
    status: ReadyStatus,
    /// What it waits for, or who serves instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Index")]
struct IndexView {
    name: &'static str,
    version: &'static str,
    links: Links,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Links")]
struct Links {
    tenants: &'static str,
    messages: &'static str,
    openapi: &'static str,
    swagger: &'static str,
    health: &'static str,
    metrics: &'static str,
}

impl From<Check> for CheckView {
    fn from(check: Check) -> Self {
        let (status, detail) = match check {
            Check::Healthy => (Verdict::Healthy, None),
            Check::Degraded(detail) => (Verdict::Degraded, Some(detail)),
            Check::Unhealthy(detail) => (Verdict::Unhealthy, Some(detail)),
        };
        Self { status, detail }
    }
}

/// `GET /health`.
pub(crate) struct Overall;

impl Endpoint for Overall {
    const VERB: Verb = Verb::Get;
    const PATHS: &'static [&'static str] = &["/health"];
    const MOUNT: Mount = Mount::Root;
    const ACCESS: Access = Access::Open;
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("health", "How jatis and what it depends on are")
            .tag("system")
            .answers::<HealthView>(StatusCode::OK, "Healthy, or degraded: it serves.")
            .answers::<HealthView>(StatusCode::SERVICE_UNAVAILABLE, "Unhealthy.");
    }

    async fn handle(app: &App, _call: Call) -> Result<Answer, Problem> {
        let (status, view) = overall((app.health)().await);
        answer::json(status, &view)
    }
}

fn overall(health: Health) -> (StatusCode, HealthView) {
    let checks = ChecksView {
        database: health.database.into(),
        broker: health.broker.into(),
        supervision: health.supervision.into(),
    };
    let worst = checks.database.status.max(checks.broker.status);
    let worst = worst.max(checks.supervision.status);
    let status = match worst {
        Verdict::Healthy | Verdict::Degraded => StatusCode::OK,
        Verdict::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    let view = HealthView {
        status: worst,
        checks,
    };
    (status, view)
}

/// `GET /health/live`.
pub(crate) struct Live;

impl Endpoint for Live {
    const VERB: Verb = Verb::Get;
    const PATHS: &'static [&'static str] = &["/health/live", "/livez"];
    const MOUNT: Mount = Mount::Root;
    const ACCESS: Access = Access::Open;
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("live", "Whether the process answers")
            .tag("system")
            .answers::<LiveView>(StatusCode::OK, "It does.");
    }

    async fn handle(_app: &App, _call: Call) -> Result<Answer, Problem> {
        answer::json(StatusCode::OK, &LiveView { status: "alive" })
    }
}

/// `GET /health/ready`.
pub(crate) struct Ready;

impl Endpoint for Ready {
    const VERB: Verb = Verb::Get;
    const PATHS: &'static [&'static str] = &["/health/ready", "/readyz"];
    const MOUNT: Mount = Mount::Root;
    const ACCESS: Access = Access::Open;
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("ready", "Whether jatis takes traffic")
            .tag("system")
            .answers::<ReadyView>(StatusCode::OK, "It does.")
            .answers::<ReadyView>(
                StatusCode::SERVICE_UNAVAILABLE,
                "It is starting or draining, or another supervisor is in charge.",
            );
    }

    async fn handle(app: &App, _call: Call) -> Result<Answer, Problem> {
        let (status, view) = ready((app.health)().await.readiness);
        answer::json(status, &view)
    }
}

fn ready(readiness: Readiness) -> (StatusCode, ReadyView) {
    let (code, status, detail) = match readiness {
        Readiness::Ready => (StatusCode::OK, ReadyStatus::Ready, None),
        Readiness::Starting(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            ReadyStatus::Starting,
            Some(why),
        ),
        Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, ReadyStatus::Draining, None),
        Readiness::NotInCharge(holder) => (
            StatusCode::SERVICE_UNAVAILABLE,
            ReadyStatus::NotInCharge,
            Some(holder),
        ),
    };
    (code, ReadyView { status, detail })
}

/// `GET /metrics`.
pub(crate) struct Scrape;

impl Endpoint for Scrape {
    const VERB: Verb = Verb::Get;
    const PATHS: &'static [&'static str] = &["/metrics"];
    const MOUNT: Mount = Mount::Root;
    const ACCESS: Access = Access::Open;
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("metrics", "What Prometheus reads")
            .tag("system")
            .answers_text(PROMETHEUS, "Prometheus' text format.");
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
    const ACCESS: Access = Access::Open;
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("openapi", "This document")
            .tag("system")
            .answers::<serde_json::Map<String, serde_json::Value>>(StatusCode::OK, "OpenAPI 3.0.");
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
            .tag("system")
            .answers::<IndexView>(StatusCode::OK, "Links.");
    }

    async fn handle(_app: &App, _call: Call) -> Result<Answer, Problem> {
        let view = IndexView {
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
        };
        answer::json(StatusCode::OK, &view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_as_good_as_its_worst_part() {
        let degraded = || Check::Degraded("one tenant failed".to_owned());
        let unhealthy = || Check::Unhealthy("does not answer".to_owned());
        for (database, broker, supervision, code, status) in [
            (
                Check::Healthy,
                Check::Healthy,
                Check::Healthy,
                200,
                Verdict::Healthy,
            ),
            (
                Check::Healthy,
                Check::Healthy,
                degraded(),
                200,
                Verdict::Degraded,
            ),
            (
                unhealthy(),
                Check::Healthy,
                degraded(),
                503,
                Verdict::Unhealthy,
            ),
            (
                Check::Healthy,
                unhealthy(),
                Check::Healthy,
                503,
                Verdict::Unhealthy,
            ),
        ] {
            let (found, view) = overall(Health {
                database,
                broker,
                supervision,
                readiness: Readiness::Ready,
            });
            assert_eq!((found.as_u16(), view.status), (code, status));
        }
    }

    #[test]
    fn readiness_says_what_is_waited_for_and_who_serves_instead() {
        let told = |readiness| {
            let (code, view) = ready(readiness);
            (code.as_u16(), serde_json::to_string(&view).unwrap())
        };
        assert_eq!(
            told(Readiness::Ready),
            (200, r#"{"status":"ready"}"#.to_owned())
        );
        assert_eq!(told(Readiness::Draining).0, 503);
        assert_eq!(
            told(Readiness::Starting("the database is away".to_owned())),
            (
                503,
                r#"{"status":"starting","detail":"the database is away"}"#.to_owned()
            )
        );
        assert_eq!(
            told(Readiness::NotInCharge("host b, pid 7".to_owned())),
            (
                503,
                r#"{"status":"not_in_charge","detail":"host b, pid 7"}"#.to_owned()
            )
        );
    }
}
