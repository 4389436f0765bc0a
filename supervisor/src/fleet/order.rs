//! What is wanted of a tenant's worker.

/// How many pool threads and database connections a worker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) threads: u16,
    pub(super) connections: u16,
}

/// How hard to stop. A stop may become harder, never softer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopLevel {
    /// What has begun is finished, within `supervision.drain_timeout`.
    Drain,
    /// The same within `supervision.fast_timeout`.
    Fast,
    /// Killed now; the broker requeues what was not acknowledged.
    Immediate,
}

/// What is wanted now. Absolute, so that only the latest matters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub(super) size: Size,
    /// Not to consume.
    pub(super) paused: bool,
    /// How often a person has asked for a size.
    pub(super) insisted: u64,
    /// How often a person has released it.
    pub(super) released: u64,
    /// How often the filter of the log has changed.
    pub(super) relogged: u64,
    /// To stand still, because another image of this program is about to take over.
    pub(super) frozen: bool,
    /// Once there, it never goes and never softens.
    pub(super) stop: Option<StopLevel>,
}
