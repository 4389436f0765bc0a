//! How long each step of a worker's life may take.

use std::time::Duration;

use jatis_shared::{config::Config, retry::Backoff};

use super::Window;

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
    /// More crashes than one of these allows lead into quarantine.
    pub(super) windows: [Window; 2],
    /// How long a quarantine lasts, by how many there were before.
    pub(super) quarantine: Backoff,
    /// A crash this soon after the start that ended a quarantine leads back into it.
    pub(super) trial: Duration,
    /// A run this long ends what is remembered of quarantines.
    pub(super) acquittal: Duration,
    /// A batch this old in a thread says that the thread will not come back.
    pub(super) stuck: Duration,
}

/// A thread is given up after so many times `worker.job_timeout`.
const STUCK_JOBS: u32 = 3;

impl From<&Config> for Policy {
    fn from(config: &Config) -> Self {
        let keys = &config.supervision;
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
            windows: [
                Window {
                    crashes: keys.quarantine_crashes,
                    within: keys.quarantine_window,
                },
                Window {
                    crashes: keys.quarantine_long_crashes,
                    within: keys.quarantine_long_window,
                },
            ],
            quarantine: keys.quarantine(),
            trial: keys.quarantine_trial,
            acquittal: keys.quarantine_acquittal,
            stuck: config.worker.job_timeout * STUCK_JOBS,
        }
    }
}
