//! A tenant as it stands in answers.

use jatis_shared::control::Dependency;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::answer::Time;
use crate::tenancy::{Runtime, Status, Tenant};

/// A tenant, with what runs for it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Tenant")]
pub(crate) struct TenantView {
    id: Uuid,
    name: String,
    /// Pool threads wanted.
    workers: u16,
    status: StatusWord,
    created_at: Time,
    updated_at: Time,
    /// What runs for it; in lists only when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<RuntimeView>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "TenantStatus")]
enum StatusWord {
    Starting,
    Running,
    Backoff,
    Paused,
    Draining,
    Failed,
    Deleting,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TenantRuntime")]
struct RuntimeView {
    /// The state of its lifecycle, by its inner name.
    state: &'static str,
    /// What it cannot reach.
    waiting_for: Option<DependencyWord>,
    pid: Option<u32>,
    generation: u64,
    /// Pool threads alive.
    active_workers: u16,
    /// Deliveries ready and unacknowledged; null while not known.
    queue_depth: Option<u64>,
    dead_letters: u64,
    restarts: u64,
    /// When it entered its state.
    since: Time,
    /// How its latest worker ended.
    last_exit: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Dependency")]
enum DependencyWord {
    Broker,
    Database,
}

impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        Self {
            id: tenant.id.uuid(),
            name: tenant.name,
            workers: tenant.workers,
            status: match tenant.status {
                Status::Starting => StatusWord::Starting,
                Status::Running => StatusWord::Running,
                Status::Backoff => StatusWord::Backoff,
                Status::Paused => StatusWord::Paused,
                Status::Draining => StatusWord::Draining,
                Status::Failed => StatusWord::Failed,
                Status::Deleting => StatusWord::Deleting,
            },
            created_at: Time(tenant.created_at),
            updated_at: Time(tenant.updated_at),
            runtime: tenant.runtime.map(RuntimeView::from),
        }
    }
}

impl From<Runtime> for RuntimeView {
    fn from(runtime: Runtime) -> Self {
        Self {
            state: runtime.state,
            waiting_for: runtime.waiting_for.map(|dependency| match dependency {
                Dependency::Broker => DependencyWord::Broker,
                Dependency::Database => DependencyWord::Database,
            }),
            pid: runtime.pid,
            generation: runtime.generation,
            active_workers: runtime.active_workers,
            queue_depth: runtime.queue_depth,
            dead_letters: runtime.dead_letters,
            restarts: runtime.restarts,
            since: Time(runtime.since),
            last_exit: runtime.last_exit,
        }
    }
}
