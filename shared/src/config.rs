//! The configuration: its keys as types, and how the layers make one of them.
//!
//! `config.yaml` at the root of the project is built in and is the only source of defaults, so the
//! documented default and the real one cannot differ. [`load`](load::load) lays the other sources
//! over it, and finds every fault at once.

use std::{net::SocketAddr, time::Duration};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::{Deserialize, Serialize};

use crate::{authorities::Authorities, retry::Backoff, secret::Secret, topology::QueueType};

pub use sslmode::{SslMode, UnknownSslMode};

pub mod load;
mod rules;
mod sslmode;

/// The whole configuration. Every key is described in `config.yaml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    pub state_dir: String,
    pub workers: u16,
    pub rabbitmq: RabbitMq,
    pub database: Database,
    pub http: Http,
    pub auth: Auth,
    pub messages: Messages,
    pub sweep: Sweep,
    pub worker: Worker,
    pub supervision: Supervision,
    pub admin: Admin,
    pub log: Log,
}

/// `rabbitmq`: the broker, as supervisor and workers reach it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RabbitMq {
    pub url: Secret,
    pub ca_file: String,
    /// What stands in `ca_file`; no key. A worker reads no file, so this is what it gets.
    #[serde(default, skip_serializing_if = "Authorities::is_empty")]
    pub authorities: Authorities,
    pub queue_type: QueueType,
    pub publisher_connections: u16,
    pub publisher_channels: u16,
    pub max_publishing: u32,
    pub coalesce: bool,
    pub coalesce_messages: u16,
    /// Bytes.
    pub coalesce_bytes: u32,
    /// Bytes.
    pub frame_max: u32,
    /// Bytes.
    pub worker_frame_max: u32,
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    #[serde(with = "duration")]
    pub probe_interval: Duration,
    #[serde(with = "duration")]
    pub reconnect_min: Duration,
    #[serde(with = "duration")]
    pub reconnect_max: Duration,
}

impl RabbitMq {
    /// Whether the connections are TLS, as `rabbitmq.url` says.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.url.expose().starts_with("amqps://")
    }

    /// The supervisor's pause between attempts to connect: always the same.
    #[must_use]
    pub const fn probe(&self) -> Backoff {
        Backoff {
            min: self.probe_interval,
            max: self.probe_interval,
        }
    }

    /// A worker's pause between attempts to connect.
    #[must_use]
    pub const fn reconnect(&self) -> Backoff {
        Backoff {
            min: self.reconnect_min,
            max: self.reconnect_max,
        }
    }
}

/// `database`: PostgreSQL, as supervisor and workers reach it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Database {
    pub url: Secret,
    pub sslmode: SslMode,
    pub ca_file: String,
    /// What stands in `ca_file`; no key.
    #[serde(default, skip_serializing_if = "Authorities::is_empty")]
    pub authorities: Authorities,
    pub supervisor_connections: u16,
    pub max_connections: u32,
    pub connections_per_worker: u16,
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    #[serde(with = "duration")]
    pub pool_timeout: Duration,
    #[serde(with = "duration")]
    pub statement_timeout: Duration,
    #[serde(with = "duration")]
    pub lock_timeout: Duration,
    pub lock_attempts: u16,
    #[serde(with = "duration")]
    pub janitor_interval: Duration,
    #[serde(with = "duration")]
    pub janitor_min: Duration,
    #[serde(with = "duration")]
    pub janitor_max: Duration,
    pub janitor_rows: u32,
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    #[serde(with = "duration")]
    pub keepalive: Duration,
    #[serde(with = "duration")]
    pub tcp_user_timeout: Duration,
}

impl Database {
    /// `database.url` without its `sslmode`, and the mode in force: that one, else
    /// `database.sslmode`.
    ///
    /// # Errors
    /// [`UnknownSslMode`], which loading has ruled out.
    pub fn address(&self) -> Result<(Secret, SslMode), UnknownSslMode> {
        let (address, mode) = sslmode::split(&self.url)?;
        Ok((address, mode.unwrap_or(self.sslmode)))
    }

    /// The pause between attempts to take a deleted tenant's rows away.
    #[must_use]
    pub const fn janitor(&self) -> Backoff {
        Backoff {
            min: self.janitor_min,
            max: self.janitor_max,
        }
    }
}

/// `http`: the listener and the bounds of a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Http {
    pub listen: SocketAddr,
    pub max_body_bytes: u32,
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    #[serde(with = "duration")]
    pub header_timeout: Duration,
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    pub max_connections: u32,
    pub protect_system_routes: bool,
    /// As browsers write them in the header `Origin`.
    pub cors_origins: Vec<String>,
}

/// `auth`: who may call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Auth {
    pub mode: AuthMode,
    pub allow_insecure: bool,
    pub hs256_secret: Secret,
    #[serde(with = "duration")]
    pub leeway: Duration,
}

/// `auth.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// A bearer token, or 401.
    Jwt,
    /// Everybody is an administrator.
    Disabled,
}

/// `messages`: how publishing waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Messages {
    #[serde(with = "duration")]
    pub wait_for_store: Duration,
    #[serde(with = "duration")]
    pub max_wait: Duration,
    #[serde(with = "duration")]
    pub publish_timeout: Duration,
    pub max_waiting: u32,
    /// Bytes.
    pub max_page_bytes: u32,
    #[serde(with = "duration")]
    pub idempotency_window: Duration,
}

/// `sweep`: how long is kept what is not kept for ever.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sweep {
    #[serde(with = "duration")]
    pub interval: Duration,
    pub rows: u32,
    #[serde(with = "duration")]
    pub tombstones_after: Duration,
    #[serde(with = "duration")]
    pub minute_counts_after: Duration,
    #[serde(with = "duration")]
    pub amqp_keys_after: Duration,
}

/// The most pool threads that a worker can be configured to have.
pub const MAX_THREADS: u16 = 100;

/// `worker`: the pipeline of one tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Worker {
    pub max_threads: u16,
    pub max_batch_rows: u16,
    pub max_batch_bytes: u32,
    #[serde(with = "duration")]
    pub max_batch_wait: Duration,
    pub max_unacked_bytes: u64,
    #[serde(with = "duration")]
    pub job_timeout: Duration,
    pub conflict_attempts: u16,
    #[serde(with = "duration")]
    pub probe_min: Duration,
    #[serde(with = "duration")]
    pub probe_max: Duration,
    #[serde(with = "duration")]
    pub requeue_after: Duration,
    #[serde(with = "duration")]
    pub notice_interval: Duration,
}

impl Worker {
    /// The pause between probes of a database that is away.
    #[must_use]
    pub const fn probe(&self) -> Backoff {
        Backoff {
            min: self.probe_min,
            max: self.probe_max,
        }
    }
}

/// `supervision`: how workers start, prove themselves alive, and stop.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Supervision {
    pub worker_path: String,
    pub starts_in_flight: u16,
    #[serde(with = "duration")]
    pub hello_timeout: Duration,
    #[serde(with = "duration")]
    pub confine_timeout: Duration,
    #[serde(with = "duration")]
    pub ready_timeout: Duration,
    #[serde(with = "duration")]
    pub resize_timeout: Duration,
    #[serde(with = "duration")]
    pub heartbeat_interval: Duration,
    pub suspect_after: u16,
    #[serde(with = "duration")]
    pub kill_after: Duration,
    #[serde(with = "duration")]
    pub backoff_min: Duration,
    #[serde(with = "duration")]
    pub backoff_max: Duration,
    #[serde(with = "duration")]
    pub backoff_reset: Duration,
    pub quarantine_crashes: u16,
    #[serde(with = "duration")]
    pub quarantine_window: Duration,
    pub quarantine_long_crashes: u16,
    #[serde(with = "duration")]
    pub quarantine_long_window: Duration,
    #[serde(with = "duration")]
    pub quarantine_min: Duration,
    #[serde(with = "duration")]
    pub quarantine_max: Duration,
    #[serde(with = "duration")]
    pub quarantine_trial: Duration,
    #[serde(with = "duration")]
    pub quarantine_acquittal: Duration,
    pub poison_crashes: u16,
    pub probation_messages: u32,
    /// Percent of all tenants.
    pub wave_percent: u8,
    pub wave_tenants: u16,
    #[serde(with = "duration")]
    pub wave_window: Duration,
    #[serde(with = "duration")]
    pub wave_pause: Duration,
    #[serde(with = "duration")]
    pub orphan_timeout: Duration,
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
    #[serde(with = "duration")]
    pub fast_timeout: Duration,
    #[serde(with = "duration")]
    pub stop_timeout: Duration,
    #[serde(with = "duration")]
    pub converge_interval: Duration,
    pub converge_parallel: u16,
    #[serde(with = "duration")]
    pub drain_interval: Duration,
    #[serde(with = "duration")]
    pub depth_interval: Duration,
    #[serde(with = "duration")]
    pub upgrade_check_timeout: Duration,
    #[serde(with = "duration")]
    pub upgrade_timeout: Duration,
    pub command_queue: u16,
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    pub max_frames_per_second: u32,
    /// Bytes.
    pub max_frame_bytes_per_second: u32,
    #[serde(with = "duration")]
    pub flood_timeout: Duration,
}

impl Supervision {
    /// How long a quarantine lasts, by how many there were before it.
    #[must_use]
    pub const fn quarantine(&self) -> Backoff {
        Backoff {
            min: self.quarantine_min,
            max: self.quarantine_max,
        }
    }

    /// The pause before a worker that crashed is started again.
    #[must_use]
    pub const fn backoff(&self) -> Backoff {
        Backoff {
            min: self.backoff_min,
            max: self.backoff_max,
        }
    }
}

/// `admin`: the socket of the operator's commands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Admin {
    pub socket: String,
    pub group: String,
    pub max_clients: u16,
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    pub events: u16,
}

/// `log`: what is written to standard error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// Unacknowledged deliveries a worker may hold: enough for a full batch in every thread and one
    /// more, within `worker.max_unacked_bytes`. Fixed while its consumer lives, so it follows from
    /// `worker.max_threads` and not from the tenant's present threads; and batches may wait in the
    /// queue from a time when `rabbitmq.coalesce` was on, so they count even if it is off.
    #[must_use]
    pub fn prefetch(&self) -> u16 {
        let wanted =
            (u64::from(self.worker.max_threads) + 1) * u64::from(self.worker.max_batch_rows);
        let largest_delivery = self.http.max_body_bytes.max(self.rabbitmq.coalesce_bytes);
        let affordable = self.worker.max_unacked_bytes / u64::from(largest_delivery.max(1));
        u16::try_from(wanted.min(affordable).clamp(64, 2000)).unwrap_or(2000)
    }

    /// Database connections one of `tenants` workers with this many threads may open: the least of
    /// its threads, `database.connections_per_worker` and its share of `database.max_connections`;
    /// at least one.
    #[must_use]
    pub fn connections(&self, threads: u16, tenants: usize) -> u16 {
        let tenants = u32::try_from(tenants.max(1)).unwrap_or(u32::MAX);
        let share = u16::try_from(self.database.max_connections / tenants).unwrap_or(u16::MAX);
        threads
            .min(self.database.connections_per_worker)
            .min(share)
            .max(1)
    }
}
