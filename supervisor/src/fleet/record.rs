//! What is known of a tenant's worker beside its state: what it last said of itself, and how its
//! predecessors ended.

use std::time::Duration;

use jatis_shared::{
    control::Heartbeat,
    ids::{TenantId, TenantNumber},
};
use jiff::Timestamp;

use super::{
    handover::{Carriage, Carried},
    lifecycle::Lifecycle,
    process::{Blame, Ending},
    snapshot::{Progress, Snapshot, Status},
};

/// The record of one tenant.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) tenant: TenantId,
    pub(super) number: TenantNumber,
    /// Of the present process, or the latest.
    pub(super) pid: Option<u32>,
    /// The present process's latest; empty before its first.
    heartbeat: Heartbeat,
    /// The latest tick any of the tenant's workers minted at.
    pub(super) last_tick: u64,
    last_exit: Option<Ending>,
    /// Messages stored by all the tenant's workers, in this supervisor's life.
    stored: u64,
    /// Deliveries the latest worker gave back when it drained.
    pub(super) requeued: Option<u64>,
    /// When the present state was entered.
    pub(super) since: Timestamp,
}

impl Record {
    pub(super) fn new(
        tenant: TenantId,
        number: TenantNumber,
        former: Option<&Snapshot>,
        now: Timestamp,
    ) -> Self {
        Self {
            tenant,
            number,
            pid: None,
            heartbeat: Heartbeat::default(),
            last_tick: former.map_or(0, |former| former.last_tick),
            last_exit: None,
            stored: former.map_or(0, |former| former.stored),
            requeued: None,
            since: now,
        }
    }

    /// Goes on where another image of this program has stopped.
    pub(super) fn inherited(carried: &Carried, now: Timestamp) -> Self {
        let mut record = Self::new(carried.tenant, carried.number, None, now);
        record.pid = Some(carried.pid);
        record.heartbeat = carried.heartbeat.clone();
        record.last_tick = carried.last_tick;
        record.stored = carried.stored;
        record
    }

    /// What the next image needs, but for what others know.
    pub(super) fn carry(&self, pid: u32) -> Carried {
        Carried {
            tenant: self.tenant,
            number: self.number,
            pid,
            starts: 0,
            ready_ms: None,
            wanted: (0, 0),
            applied: None,
            wants_pause: false,
            is_paused: false,
            signalled: None,
            next_id: 0,
            unread: Vec::new(),
            unsent: Vec::new(),
            heartbeat: self.heartbeat.clone(),
            stored: self.stored,
            last_tick: self.last_tick,
            memory: Carriage::default(),
        }
    }

    /// Takes in a heartbeat; gives what was done since the one before.
    pub(super) fn count(&mut self, heartbeat: Heartbeat) -> Progress {
        let progress = Progress {
            stored: heartbeat.stored.saturating_sub(self.heartbeat.stored),
            dead: heartbeat.dead.saturating_sub(self.heartbeat.dead),
            retried: heartbeat.retried.saturating_sub(self.heartbeat.retried),
        };
        self.last_tick = self.last_tick.max(heartbeat.last_tick);
        self.stored += progress.stored;
        self.heartbeat = heartbeat;
        progress
    }

    /// Takes in a confirmed size, which the next heartbeat would tell too.
    pub(super) const fn resized(&mut self, threads: u16) {
        self.heartbeat.threads.target = threads;
        self.heartbeat.threads.live = threads;
    }

    /// Takes in the end of the process.
    pub(super) fn ended(&mut self, ending: Ending) {
        self.heartbeat = Heartbeat::default();
        self.last_exit = Some(ending);
    }

    /// What the world may know now.
    pub(super) fn snapshot(&self, lifecycle: &Lifecycle) -> Snapshot {
        let state = lifecycle.state();
        let applied = match state.name().status() {
            Status::Running | Status::Paused => lifecycle.applied(),
            Status::Starting
            | Status::Backoff
            | Status::Draining
            | Status::Failed
            | Status::Deleting => None,
        };
        Snapshot {
            tenant: self.tenant,
            state: state.name(),
            since: self.since,
            waiting_for: self.heartbeat.waiting_for,
            pid: self.pid.filter(|_| state.has_process()),
            generation: lifecycle.generation(),
            restarts: lifecycle.generation(),
            threads: self.heartbeat.threads,
            wanted_threads: lifecycle.wanted().threads,
            applied_threads: applied.map_or(0, |size| size.threads),
            oldest_busy: Duration::from_millis(self.heartbeat.oldest_busy_ms),
            unacked: self.heartbeat.unacked,
            in_flight: self.heartbeat.in_flight,
            stored: self.stored,
            requeued: self.requeued,
            last_tick: self.last_tick,
            last_exit: self.last_exit.map(|ending| ending.to_string()),
            left_in_order: self
                .last_exit
                .is_some_and(|ending| ending.blame() == Blame::Clean),
        }
    }
}
