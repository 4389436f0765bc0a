//! What is asked of tenants, and what is shown of them.

use jatis_shared::{
    control::Dependency,
    ids::{TenantId, TenantNumber},
};
use jiff::Timestamp;

use super::Wanted;
use crate::fleet::Status;

/// A request for a new tenant. At least one of `id` and `name` is given; `http` checks that, and
/// the bounds: 1–255 characters, 1–100 workers.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// A random one (version 4) when absent.
    pub id: Option<TenantId>,
    /// The id's text when absent.
    pub name: Option<String>,
    /// The key `workers` when absent.
    pub workers: Option<u16>,
}

/// A tenant as clients see it.
#[derive(Debug, Clone)]
pub struct Tenant {
    pub id: TenantId,
    pub name: String,
    pub workers: u16,
    pub status: Status,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Absent in lists, unless asked for.
    pub runtime: Option<Runtime>,
}

/// What runs for a tenant.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// The name of the lifecycle state.
    pub state: &'static str,
    pub waiting_for: Option<Dependency>,
    pub pid: Option<u32>,
    pub generation: u64,
    /// Pool threads alive.
    pub active_workers: u16,
    /// Deliveries ready and unacknowledged; absent while the broker has not told yet.
    pub queue_depth: Option<u64>,
    pub dead_letters: u64,
    /// Starts after the first, in this supervisor's life.
    pub restarts: u64,
    /// When the present state was entered.
    pub since: Timestamp,
    /// How the latest worker ended, in words: "exit 75 (orphaned)", "signal 9".
    pub last_exit: Option<String>,
}

/// A page of tenants is asked for.
#[derive(Debug, Clone)]
pub struct TenantQuery {
    /// 1–1000.
    pub limit: u16,
    /// The page starts behind the tenant of this number; a number and not an id, because the walk
    /// goes on when that tenant was deleted meanwhile.
    pub after: Option<TenantNumber>,
    /// Only names that contain this text.
    pub name: Option<String>,
    pub runtime: bool,
}

/// Tenants, newest first.
#[derive(Debug, Clone)]
pub struct TenantPage {
    pub tenants: Vec<Tenant>,
    /// The next page starts behind the tenant of this number; absent on the last.
    pub next: Option<TenantNumber>,
}

/// What shall be different of a tenant; what is absent stays. Bounds as of [`NewTenant`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    pub name: Option<String>,
    pub workers: Option<u16>,
    /// Whether its messages shall wait in the queue.
    pub wanted: Option<Wanted>,
}

/// A tenant that was made if there was none.
#[derive(Debug, Clone)]
pub enum Upserted {
    Created(Tenant),
    Updated(Tenant),
}

/// A resize, done or under way.
#[derive(Debug, Clone, Copy)]
pub struct Resized {
    pub workers: u16,
    /// What the worker has confirmed by now; less or more than `workers` when it is still at it.
    pub applied_workers: u16,
}

/// What a deletion makes of the messages that are queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// They go.
    AtOnce,
    /// They are stored first, and go then.
    Drained,
}

/// How a deletion stands when it is answered.
#[derive(Debug, Clone)]
pub enum Deletion {
    Done(Deleted),
    /// It goes on, whatever happens; the tenant as it is now.
    UnderWay(Tenant),
}

/// What a deletion took with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    pub messages_deleted: u64,
    /// Deliveries that were still queued.
    pub messages_unprocessed: u64,
}
