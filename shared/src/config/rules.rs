//! What no single type can say of a configuration: bounds, and values that must fit each other.

use std::time::Duration;

use url::Url;

use super::{AuthMode, Config, MAX_THREADS, SslMode};

/// A fault of one key.
pub(super) struct Breach {
    pub(super) key: &'static str,
    pub(super) detail: String,
}

/// Every rule that `config` breaks.
pub(super) fn breaches(config: &Config) -> Vec<Breach> {
    let mut found = Vec::new();
    bounds(config, &mut found);
    order(config, &mut found);
    urls(config, &mut found);
    tls(config, &mut found);
    origins(config, &mut found);
    exposure(config, &mut found);
    found
}

/// CAUTION: the bounds stand in `config.yaml` too, for whoever edits it.
fn bounds(config: &Config, found: &mut Vec<Breach>) {
    let c = config;
    for (key, value, min, max) in [
        ("workers", u64::from(c.workers), 1, u64::from(MAX_THREADS)),
        (
            "rabbitmq.publisher_connections",
            u64::from(c.rabbitmq.publisher_connections),
            1,
            16,
        ),
        (
            "rabbitmq.publisher_channels",
            u64::from(c.rabbitmq.publisher_channels),
            1,
            2000,
        ),
        (
            "rabbitmq.max_publishing",
            u64::from(c.rabbitmq.max_publishing),
            1,
            100_000,
        ),
        (
            "rabbitmq.coalesce_messages",
            u64::from(c.rabbitmq.coalesce_messages),
            2,
            1000,
        ),
        (
            "rabbitmq.coalesce_bytes",
            u64::from(c.rabbitmq.coalesce_bytes),
            1024,
            16_777_216,
        ),
        (
            "rabbitmq.frame_max",
            u64::from(c.rabbitmq.frame_max),
            4096,
            131_072,
        ),
        (
            "rabbitmq.worker_frame_max",
            u64::from(c.rabbitmq.worker_frame_max),
            4096,
            131_072,
        ),
        (
            "database.supervisor_connections",
            u64::from(c.database.supervisor_connections),
            2,
            100,
        ),
        (
            "database.max_connections",
            u64::from(c.database.max_connections),
            1,
            100_000,
        ),
        (
            "database.connections_per_worker",
            u64::from(c.database.connections_per_worker),
            1,
            100,
        ),
        (
            "database.lock_attempts",
            u64::from(c.database.lock_attempts),
            1,
            100,
        ),
        (
            "http.max_body_bytes",
            u64::from(c.http.max_body_bytes),
            1024,
            268_435_456,
        ),
        (
            "http.max_connections",
            u64::from(c.http.max_connections),
            1,
            100_000,
        ),
        (
            "messages.max_waiting",
            u64::from(c.messages.max_waiting),
            1,
            1_000_000,
        ),
        (
            "messages.max_page_bytes",
            u64::from(c.messages.max_page_bytes),
            1,
            1 << 30,
        ),
        ("sweep.rows", u64::from(c.sweep.rows), 1, 1_000_000),
        (
            "database.janitor_rows",
            u64::from(c.database.janitor_rows),
            1,
            1_000_000,
        ),
        (
            "supervision.converge_parallel",
            u64::from(c.supervision.converge_parallel),
            1,
            1000,
        ),
        (
            "worker.max_threads",
            u64::from(c.worker.max_threads),
            1,
            u64::from(MAX_THREADS),
        ),
        (
            "worker.max_batch_rows",
            u64::from(c.worker.max_batch_rows),
            1,
            10_000,
        ),
        (
            "worker.max_batch_bytes",
            u64::from(c.worker.max_batch_bytes),
            1,
            1 << 30,
        ),
        (
            "worker.max_unacked_bytes",
            c.worker.max_unacked_bytes,
            1,
            1 << 40,
        ),
        (
            "worker.conflict_attempts",
            u64::from(c.worker.conflict_attempts),
            1,
            100,
        ),
        (
            "supervision.starts_in_flight",
            u64::from(c.supervision.starts_in_flight),
            1,
            1000,
        ),
        (
            "supervision.quarantine_crashes",
            u64::from(c.supervision.quarantine_crashes),
            1,
            1000,
        ),
        (
            "supervision.quarantine_long_crashes",
            u64::from(c.supervision.quarantine_long_crashes),
            1,
            1000,
        ),
        (
            "supervision.poison_crashes",
            u64::from(c.supervision.poison_crashes),
            1,
            100,
        ),
        (
            "supervision.probation_messages",
            u64::from(c.supervision.probation_messages),
            1,
            1_000_000,
        ),
        (
            "supervision.wave_percent",
            u64::from(c.supervision.wave_percent),
            1,
            100,
        ),
        (
            "supervision.wave_tenants",
            u64::from(c.supervision.wave_tenants),
            1,
            10_000,
        ),
        ("admin.max_clients", u64::from(c.admin.max_clients), 3, 100),
        ("admin.events", u64::from(c.admin.events), 1, 60_000),
        (
            "supervision.suspect_after",
            u64::from(c.supervision.suspect_after),
            2,
            100,
        ),
        (
            "supervision.command_queue",
            u64::from(c.supervision.command_queue),
            8,
            4096,
        ),
        (
            "supervision.max_frames_per_second",
            u64::from(c.supervision.max_frames_per_second),
            100,
            1_000_000,
        ),
        (
            "supervision.max_frame_bytes_per_second",
            u64::from(c.supervision.max_frame_bytes_per_second),
            65_536,
            1 << 30,
        ),
    ] {
        if !(min..=max).contains(&value) {
            found.push(Breach {
                key,
                detail: format!("{value} is not between {min} and {max}"),
            });
        }
    }
    for (key, value) in [
        ("rabbitmq.connect_timeout", c.rabbitmq.connect_timeout),
        ("rabbitmq.probe_interval", c.rabbitmq.probe_interval),
        ("rabbitmq.reconnect_min", c.rabbitmq.reconnect_min),
        ("database.connect_timeout", c.database.connect_timeout),
        ("database.pool_timeout", c.database.pool_timeout),
        ("database.statement_timeout", c.database.statement_timeout),
        ("database.lock_timeout", c.database.lock_timeout),
        ("database.janitor_interval", c.database.janitor_interval),
        ("database.janitor_min", c.database.janitor_min),
        ("http.request_timeout", c.http.request_timeout),
        ("http.header_timeout", c.http.header_timeout),
        ("http.idle_timeout", c.http.idle_timeout),
        ("messages.publish_timeout", c.messages.publish_timeout),
        ("sweep.interval", c.sweep.interval),
        ("worker.probe_min", c.worker.probe_min),
        ("worker.notice_interval", c.worker.notice_interval),
        ("supervision.hello_timeout", c.supervision.hello_timeout),
        ("supervision.confine_timeout", c.supervision.confine_timeout),
        (
            "supervision.heartbeat_interval",
            c.supervision.heartbeat_interval,
        ),
        ("supervision.backoff_min", c.supervision.backoff_min),
        (
            "supervision.quarantine_window",
            c.supervision.quarantine_window,
        ),
        ("supervision.quarantine_min", c.supervision.quarantine_min),
        ("supervision.wave_window", c.supervision.wave_window),
        ("supervision.wave_pause", c.supervision.wave_pause),
        (
            "supervision.converge_interval",
            c.supervision.converge_interval,
        ),
        ("supervision.depth_interval", c.supervision.depth_interval),
        ("supervision.drain_interval", c.supervision.drain_interval),
        ("supervision.fast_timeout", c.supervision.fast_timeout),
        ("supervision.write_timeout", c.supervision.write_timeout),
        (
            "supervision.upgrade_check_timeout",
            c.supervision.upgrade_check_timeout,
        ),
        ("supervision.upgrade_timeout", c.supervision.upgrade_timeout),
        ("admin.request_timeout", c.admin.request_timeout),
        ("admin.write_timeout", c.admin.write_timeout),
        ("supervision.flood_timeout", c.supervision.flood_timeout),
    ] {
        if value < Duration::from_millis(1) {
            found.push(Breach {
                key,
                detail: "must be at least 1ms".to_owned(),
            });
        }
    }
    // The session that holds the supervisor's lock must notice a dead server soon.
    if !(1..=10).contains(&c.database.keepalive.as_secs()) {
        found.push(Breach {
            key: "database.keepalive",
            detail: "must be between 1s and 10s".to_owned(),
        });
    }
    if c.messages.max_wait.subsec_nanos() != 0 {
        found.push(Breach {
            key: "messages.max_wait",
            detail: "must be whole seconds".to_owned(),
        });
    }
    // The statistics of a day, and the minute at its edge.
    if c.sweep.minute_counts_after < Duration::from_hours(25) {
        found.push(Breach {
            key: "sweep.minute_counts_after",
            detail: "must be at least 25h".to_owned(),
        });
    }
    if c.rabbitmq.heartbeat.subsec_nanos() != 0
        || !(1..=600).contains(&c.rabbitmq.heartbeat.as_secs())
    {
        found.push(Breach {
            key: "rabbitmq.heartbeat",
            detail: "must be whole seconds, 1s to 600s".to_owned(),
        });
    }
}

fn order(config: &Config, found: &mut Vec<Breach>) {
    let c = config;
    let confirmed = c.messages.publish_timeout;
    let (statement, job) = (c.database.statement_timeout, c.worker.job_timeout);
    let (orphan, drain, stop) = (
        c.supervision.orphan_timeout,
        c.supervision.drain_timeout,
        c.supervision.stop_timeout,
    );
    for (key, fits, rule) in [
        (
            "worker.job_timeout",
            statement < job,
            "must be longer than database.statement_timeout",
        ),
        (
            "supervision.orphan_timeout",
            job < orphan,
            "must be longer than worker.job_timeout",
        ),
        (
            "supervision.drain_timeout",
            orphan <= drain,
            "must not be shorter than supervision.orphan_timeout",
        ),
        (
            "supervision.stop_timeout",
            drain < stop,
            "must be longer than supervision.drain_timeout",
        ),
        (
            "supervision.fast_timeout",
            c.supervision.fast_timeout <= drain,
            "must not be longer than supervision.drain_timeout",
        ),
        (
            "messages.wait_for_store",
            confirmed.saturating_add(c.messages.wait_for_store) < c.http.request_timeout,
            "must, with messages.publish_timeout, be shorter than http.request_timeout",
        ),
        (
            "messages.max_wait",
            confirmed.saturating_add(c.messages.max_wait) < c.http.request_timeout,
            "must, with messages.publish_timeout, be shorter than http.request_timeout",
        ),
        (
            "sweep.tombstones_after",
            c.messages.idempotency_window <= c.sweep.tombstones_after,
            "must not be shorter than messages.idempotency_window",
        ),
        (
            "rabbitmq.reconnect_max",
            c.rabbitmq.reconnect_min <= c.rabbitmq.reconnect_max,
            "must not be shorter than rabbitmq.reconnect_min",
        ),
        (
            "database.janitor_max",
            c.database.janitor_min <= c.database.janitor_max,
            "must not be shorter than database.janitor_min",
        ),
        (
            "worker.probe_max",
            c.worker.probe_min <= c.worker.probe_max,
            "must not be shorter than worker.probe_min",
        ),
        (
            "supervision.backoff_max",
            c.supervision.backoff_min <= c.supervision.backoff_max,
            "must not be shorter than supervision.backoff_min",
        ),
        (
            "supervision.quarantine_long_window",
            c.supervision.quarantine_window <= c.supervision.quarantine_long_window,
            "must not be shorter than supervision.quarantine_window",
        ),
        (
            "supervision.quarantine_max",
            c.supervision.quarantine_min <= c.supervision.quarantine_max,
            "must not be shorter than supervision.quarantine_min",
        ),
        (
            "workers",
            c.workers <= c.worker.max_threads,
            "must not be more than worker.max_threads",
        ),
    ] {
        if !fits {
            found.push(Breach {
                key,
                detail: rule.to_owned(),
            });
        }
    }
}

fn urls(config: &Config, found: &mut Vec<Breach>) {
    for (key, url, schemes) in [
        (
            "rabbitmq.url",
            &config.rabbitmq.url,
            &["amqp://", "amqps://"][..],
        ),
        (
            "database.url",
            &config.database.url,
            &["postgres://", "postgresql://"][..],
        ),
    ] {
        if !schemes
            .iter()
            .any(|scheme| url.expose().starts_with(scheme))
        {
            found.push(Breach {
                key,
                detail: format!("must start with {}", schemes.join(" or ")),
            });
        }
    }
}

/// Authorities that nothing is held against would only look like safety.
fn tls(config: &Config, found: &mut Vec<Breach>) {
    if !config.rabbitmq.ca_file.is_empty() && !config.rabbitmq.has_tls() {
        found.push(Breach {
            key: "rabbitmq.ca_file",
            detail: "is only of use when rabbitmq.url is amqps://".to_owned(),
        });
    }
    match config.database.address() {
        Err(unknown) => found.push(Breach {
            key: "database.url",
            detail: unknown.to_string(),
        }),
        Ok((_, SslMode::VerifyFull)) => {}
        Ok((_, mode @ (SslMode::Disable | SslMode::Prefer | SslMode::Require))) => {
            if !config.database.ca_file.is_empty() {
                found.push(Breach {
                    key: "database.ca_file",
                    detail: format!("is only of use with sslmode verify-full, not {mode}"),
                });
            }
        }
    }
}

fn origins(config: &Config, found: &mut Vec<Breach>) {
    for origin in &config.http.cors_origins {
        if !is_origin(origin) {
            found.push(Breach {
                key: "http.cors_origins",
                detail: format!("{origin:?} is not an origin such as https://app.example.com"),
            });
        }
    }
}

/// Whether a browser can send this text as the origin of a web page, since they are compared byte
/// by byte. A `*` could stand in a name, but is surely meant otherwise.
fn is_origin(text: &str) -> bool {
    let written = Url::parse(text).map(|url| url.origin().ascii_serialization());
    let is_web = text.starts_with("http://") || text.starts_with("https://");
    is_web && !text.contains('*') && written.is_ok_and(|written| written == text)
}

fn exposure(config: &Config, found: &mut Vec<Breach>) {
    let secret_bytes = config.auth.hs256_secret.expose().len();
    if (1..32).contains(&secret_bytes) {
        found.push(Breach {
            key: "auth.hs256_secret",
            detail: format!("has {secret_bytes} bytes, needs at least 32"),
        });
    }
    if config.http.listen.ip().is_loopback() {
        return;
    }
    let open = config.auth.mode == AuthMode::Disabled && !config.auth.allow_insecure;
    if open {
        let detail =
            "is refused on a listener that is not loopback, unless auth.allow_insecure is true"
                .to_owned();
        found.push(Breach {
            key: "auth.mode",
            detail,
        });
    }
    if config.auth.mode == AuthMode::Jwt && secret_bytes == 0 {
        let detail = "must be set on a listener that is not loopback; make one with: openssl rand -base64 48".to_owned();
        found.push(Breach {
            key: "auth.hs256_secret",
            detail,
        });
    }
}
