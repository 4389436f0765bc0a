//! A tenant as it stands in answers.

use jatis_shared::control::Dependency;
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{answer::Time, example, openapi::Nullable};
use crate::tenancy::{Runtime, Status, Tenant};

/// A tenant, with what runs for it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Tenant")]
pub(crate) struct TenantView {
    /// Its id, the client's own choice or a random one.
    id: Uuid,
    /// Its name; several tenants may have the same.
    name: String,
    /// Pool threads that its worker is to have.
    workers: u16,
    status: StatusWord,
    /// When it was created.
    created_at: Time,
    /// When it was changed last.
    updated_at: Time,
    /// What runs for it; in lists only when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RuntimeView")]
    runtime: Option<RuntimeView>,
}

impl TenantView {
    /// A tenant as it usually is.
    pub(super) fn example() -> Self {
        let runtime = Runtime {
            state: "running",
            waiting_for: None,
            pid: Some(4711),
            generation: 0,
            active_workers: 4,
            queue_depth: Some(0),
            dead_letters: 0,
            restarts: 0,
            since: example::now() - SignedDuration::from_mins(59),
            last_exit: None,
        };
        let created_at = example::now() - SignedDuration::from_hours(1);
        Self::from(Tenant {
            id: example::tenant(),
            name: "acme".to_owned(),
            workers: 4,
            status: Status::Running,
            created_at,
            updated_at: created_at,
            runtime: Some(runtime),
        })
    }

    /// One that is being deleted when its queue is empty.
    pub(super) fn example_leaving() -> Self {
        Self {
            status: StatusWord::Draining,
            ..Self::example()
        }
    }
}

/// How a tenant is: its worker is starting, runs, waits before it is started again, is paused, has
/// been given up, or goes away, at once or when its queue is empty.
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

/// A tenant's worker.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TenantRuntime")]
struct RuntimeView {
    /// The state of its lifecycle, by its inner name.
    state: &'static str,
    /// What it cannot reach; null when it can.
    #[schemars(with = "Nullable<DependencyWord>")]
    waiting_for: Option<DependencyWord>,
    /// Its process; null while there is none.
    #[schemars(with = "Nullable<u32>")]
    pid: Option<u32>,
    /// The number of its present process or the latest one, from 0, in this supervisor's life.
    generation: u64,
    /// Pool threads alive.
    active_workers: u16,
    /// Deliveries ready and unacknowledged; null while not known.
    #[schemars(with = "Nullable<u64>")]
    queue_depth: Option<u64>,
    /// Messages that were put aside because they cannot be stored.
    dead_letters: u64,
    /// Starts after the first, in this supervisor's life.
    restarts: u64,
    /// When it entered its state.
    since: Time,
    /// How the process before it ended; null if there was none.
    #[schemars(with = "Nullable<String>")]
    last_exit: Option<String>,
}

/// A server that workers need.
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
