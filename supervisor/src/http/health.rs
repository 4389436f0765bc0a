//! The routes that tell how jatis is. None of them needs a token.

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    App,
    answer::{self, Answer},
    endpoint::{Access, Body, Call, Endpoint, Mount, Verb},
    openapi::{Description, Tag},
    problem::Problem,
};
use crate::vitals::{Check, Health, Readiness};

/// How something is, from good to bad. Degraded: it serves, but not everybody or not as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "HealthStatus")]
enum Verdict {
    Healthy,
    Degraded,
    Unhealthy,
}

/// How one part is.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "HealthCheck")]
struct CheckView {
    status: Verdict,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    detail: Option<String>,
}

/// How each part is.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "HealthChecks")]
struct ChecksView {
    /// Whether PostgreSQL answers.
    database: CheckView,
    /// Whether RabbitMQ is connected and takes messages.
    broker: CheckView,
    /// Whether this supervisor is in charge, and its workers run.
    supervision: CheckView,
}

/// How jatis is.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Health")]
struct HealthView {
    /// The worst of the checks.
    status: Verdict,
    checks: ChecksView,
}

/// That the process answers.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Liveness")]
struct LiveView {
    /// Always `alive`.
    status: &'static str,
}

impl LiveView {
    const fn new() -> Self {
        Self { status: "alive" }
    }
}

/// Whether jatis takes traffic, or why not.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ReadinessStatus")]
enum ReadyStatus {
    Ready,
    Starting,
    Draining,
    NotInCharge,
}

/// Whether jatis takes traffic.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Readiness")]
struct ReadyView {
    status: ReadyStatus,
    /// What it waits for, or who serves instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    detail: Option<String>,
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
            .details(
                "Looks at PostgreSQL, RabbitMQ and the workers, each within bounds of time. A tenant \
                 whose worker has failed makes it `degraded`, which is no reason to send the \
                 traffic elsewhere.",
            )
            .tag(Tag::System)
            .answers(
                StatusCode::OK,
                "Healthy, or degraded: it serves.",
                &example(Check::Healthy),
            )
            .answers(
                StatusCode::SERVICE_UNAVAILABLE,
                "Unhealthy.",
                &example(Check::Unhealthy("the database does not answer".to_owned())),
            );
    }

    async fn handle(app: &App, _call: Call) -> Result<Answer, Problem> {
        let (status, view) = overall((app.health)().await);
        answer::json(status, &view)
    }
}

/// How jatis is with such a database.
fn example(database: Check) -> HealthView {
    let failed = "of 12 workers 1 have failed and 0 are being restarted";
    let health = Health {
        database,
        broker: Check::Healthy,
        supervision: Check::Degraded(failed.to_owned()),
        readiness: Readiness::Ready,
    };
    overall(health).1
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
            .details("Asks nothing else: a process that does not answer should be restarted.")
            .tag(Tag::System)
            .answers(StatusCode::OK, "It does.", &LiveView::new());
    }

    async fn handle(_app: &App, _call: Call) -> Result<Answer, Problem> {
        answer::json(StatusCode::OK, &LiveView::new())
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
            .details(
                "For balancers: no while it starts or ends, and while another supervisor is in \
                 charge of the database. An outage of a server does not make it no; see `/health`.",
            )
            .tag(Tag::System)
            .answers(StatusCode::OK, "It does.", &ready(Readiness::Ready).1)
            .answers(
                StatusCode::SERVICE_UNAVAILABLE,
                "It is starting or draining, or another supervisor is in charge.",
                &ready(Readiness::Starting(
                    "the database is not available".to_owned(),
                ))
                .1,
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
