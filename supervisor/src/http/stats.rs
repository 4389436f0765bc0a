//! The route of a tenant's statistics.

use hyper::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    App,
    answer::{self, Answer},
    auth::Scope,
    endpoint::{Access, Body, Call, Endpoint, Mount, Verb},
    openapi::{Description, Nullable, Tag},
    problem::{Code, Problem},
};
use crate::tenancy::Statistics;

/// How much a tenant has.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MessageStatistics")]
struct StatisticsView {
    /// Messages stored now. This and the next two are exact, and of one moment.
    total_messages: u64,
    /// Of these, accepted within the last 24 hours.
    messages_24h: u64,
    /// Of these, accepted within the last hour.
    messages_1h: u64,
    /// Deliveries in the tenant's queue, ready and unacknowledged, as of the latest look at the
    /// broker; a delivery may carry several messages. Null while the broker has not told.
    #[schemars(with = "Nullable<u64>")]
    queued: Option<u64>,
    /// Messages put aside for another attempt. Always 0 in this version: a message that is tried
    /// again stays queued meanwhile.
    retrying: u64,
    /// Dead letters now.
    dead_letters: u64,
}

impl StatisticsView {
    fn example() -> Self {
        Self::from(Statistics {
            total_messages: 184_223,
            messages_24h: 1_502,
            messages_1h: 61,
            queued: Some(2),
            retrying: 0,
            dead_letters: 0,
        })
    }
}

impl From<Statistics> for StatisticsView {
    fn from(statistics: Statistics) -> Self {
        let Statistics {
            total_messages,
            messages_24h,
            messages_1h,
            queued,
            retrying,
            dead_letters,
        } = statistics;
        Self {
            total_messages,
            messages_24h,
            messages_1h,
            queued,
            retrying,
            dead_letters,
        }
    }
}

/// `GET /stats/tenants/{tenant}/messages`.
pub(crate) struct Messages;

impl Endpoint for Messages {
    const VERB: Verb = Verb::Get;
    const PATHS: &'static [&'static str] = &["/stats/tenants/{tenant}/messages"];
    const MOUNT: Mount = Mount::Api;
    const ACCESS: Access = Access::Tenant(Some(Scope::MessagesRead));
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("message_statistics", "Count a tenant's messages")
            .details("Costs the same however many messages there are.")
            .tag(Tag::Statistics)
            .answers(StatusCode::OK, "The numbers.", &StatisticsView::example())
            .fails(&[Code::DatabaseUnavailable]);
    }

    async fn handle(app: &App, call: Call) -> Result<Answer, Problem> {
        let statistics = app
            .tenancy
            .statistics(call.tenant()?, Timestamp::now())
            .await?;
        answer::json(StatusCode::OK, &StatisticsView::from(statistics))
    }
}
