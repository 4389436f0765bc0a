//! How long each step of a worker's life may take.

use std::time::Duration;

use jatis_shared::{config::Supervision, retry::Backoff};

/// The deadlines and pauses of the machine.
#[derive(Debug, Clone, Copy)]
pub(in crate::fleet) struct Policy {
    pub(super) hello: Duration,
    pub(super) confine: Duration,
    pub(super) resize: Duration,
    /// Silence after which a worker is suspect.
    pub(super) silence: Duration,
    /// Patience with a worker that is suspect, has closed its socket, or outstays its own deadline.
    pub(super) patience: Duration,
    pub(super) drain: Duration,
    pub(super) fast: Duration,
    pub(super) backoff: Backoff,
    pub(super) backoff_reset: Duration,
}

impl From<&Supervision> for Policy {
    fn from(keys: &Supervision) -> Self {
        Self {
            hello: keys.hello_timeout,
            confine: keys.confine_timeout,
            resize: keys.resize_timeout,
            silence: keys.heartbeat_interval * u32::from(keys.suspect_after),
            patience: keys.kill_after,
            drain: keys.drain_timeout,
            fast: keys.fast_timeout,
            backoff: keys.backoff(),
            backoff_reset: keys.backoff_reset,
        }
    }
}
