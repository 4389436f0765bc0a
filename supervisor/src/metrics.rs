//! What Prometheus reads. Every value lives in memory: scraping asks nobody anything.
//!
//! The six names of the first release keep exactly their labels, gauges that end in `_total`
//! included, because boards and alerts know them. Series of a tenant end with the tenant.

mod carried;

use std::{sync::Arc, time::Duration};

use jatis_shared::ids::TenantId;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, proto::MetricFamily,
};

use self::carried::Carried;
pub use self::carried::Sample;
use crate::fleet::{Progress, StateName};

/// Upper bounds of the request durations, seconds: from a cached answer to `http.request_timeout`.
const DURATION_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Upper bounds of the messages in one AMQP message: from a message alone to the default of
/// `rabbitmq.coalesce_messages`.
const PUBLISH_BUCKETS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];
/// The values of `messages_processed_total{status}`.
const SUCCESS: &str = "success";
const RETRY: &str = "retry";
const DEAD: &str = "dead";

/// The metrics of the supervisor. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// What the images before this one have counted.
    carried: Arc<Carried>,
    requests: IntCounterVec,
    durations: HistogramVec,
    active_tenants: IntGauge,
    processed: IntCounterVec,
    depth: IntGaugeVec,
    workers: IntGaugeVec,
    states: IntGaugeVec,
    transitions: IntCounterVec,
    stuck: IntGauge,
    crash_wave: IntGauge,
    swept: IntCounterVec,
    published: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, at zero, in a registry of their own.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "names and labels are constants, tried by a test"
    )]
    pub fn new() -> Self {
        Self::register().expect("metric names are well-formed and distinct")
    }

    fn register() -> Result<Self, prometheus::Error> {
        let durations = HistogramOpts::new(
            "http_request_duration_seconds",
            "Time from a request's head to its answer.",
        );
        let published = HistogramOpts::new(
            "jatis_publish_messages",
            "Messages in each AMQP message that was published and confirmed.",
        );
        let metrics = Self {
            registry: Registry::new(),
            carried: Arc::default(),
            requests: IntCounterVec::new(
                Opts::new("http_requests_total", "Requests answered."),
                &["method", "endpoint", "status"],
            )?,
            durations: HistogramVec::new(
                durations.buckets(DURATION_BUCKETS.to_vec()),
                &["method", "endpoint"],
            )?,
            active_tenants: IntGauge::new("active_tenants_total", "Tenants that are running.")?,
            processed: IntCounterVec::new(
                Opts::new(
                    "messages_processed_total",
                    "Messages stored (success), dead-lettered (dead) or tried again (retry).",
                ),
                &["tenant_id", "status"],
            )?,
            depth: IntGaugeVec::new(
                Opts::new(
                    "message_queue_depth",
                    "Deliveries ready and unacknowledged in a tenant's queue.",
                ),
                &["tenant_id"],
            )?,
            workers: IntGaugeVec::new(
                Opts::new("active_workers_total", "Live pool threads of a tenant."),
                &["tenant_id"],
            )?,
            states: IntGaugeVec::new(
                Opts::new("jatis_workers", "Workers in each state."),
                &["state"],
            )?,
            transitions: IntCounterVec::new(
                Opts::new(
                    "jatis_worker_transitions_total",
                    "Changes of a worker's state, by the state it came to.",
                ),
                &["state"],
            )?,
            stuck: IntGauge::new(
                "jatis_stuck_workers",
                "Workers with a batch in a thread for longer than worker.job_timeout.",
            )?,
            crash_wave: IntGauge::new(
                "jatis_crash_wave",
                "Tenants whose workers crash together, while restarts are slowed for it.",
            )?,
            swept: IntCounterVec::new(
                Opts::new(
                    "jatis_swept_rows_total",
                    "Rows deleted because they were too old.",
                ),
                &["table"],
            )?,
            published: Histogram::with_opts(published.buckets(PUBLISH_BUCKETS.to_vec()))?,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.durations.clone()))?;
        registry.register(Box::new(metrics.active_tenants.clone()))?;
        registry.register(Box::new(metrics.processed.clone()))?;
        registry.register(Box::new(metrics.depth.clone()))?;
        registry.register(Box::new(metrics.workers.clone()))?;
        registry.register(Box::new(metrics.states.clone()))?;
        registry.register(Box::new(metrics.transitions.clone()))?;
        registry.register(Box::new(metrics.stuck.clone()))?;
        registry.register(Box::new(metrics.crash_wave.clone()))?;
        registry.register(Box::new(metrics.swept.clone()))?;
        registry.register(Box::new(metrics.published.clone()))?;
        Ok(metrics)
    }

    /// A request has been answered. `method` and `endpoint` must be of a bounded set: the route's
    /// pattern, never the path.
    pub fn observe_request(&self, method: &str, endpoint: &str, status: &str, took: Duration) {
        self.requests
            .with_label_values(&[method, endpoint, status])
            .inc();
        self.durations
            .with_label_values(&[method, endpoint])
            .observe(took.as_secs_f64());
    }

    /// The broker has confirmed an AMQP message that carries this many messages.
    pub fn observe_publish(&self, messages: usize) {
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        self.published.observe(f64::from(messages));
    }

    /// A tenant's worker has got on by this much.
    pub fn progress(&self, tenant: TenantId, progress: Progress) {
        let tenant = tenant.to_string();
        for (status, messages) in [
            (SUCCESS, progress.stored),
            (DEAD, progress.dead),
            (RETRY, progress.retried),
        ] {
            self.processed
                .with_label_values(&[tenant.as_str(), status])
                .inc_by(messages);
        }
    }

    /// A tenant's queue holds this many deliveries, ready and unacknowledged.
    pub fn set_depth(&self, tenant: TenantId, deliveries: u64) {
        self.depth
            .with_label_values(&[tenant.to_string()])
            .set(i64::try_from(deliveries).unwrap_or(i64::MAX));
    }

    /// A tenant's worker has this many pool threads.
    pub fn set_workers(&self, tenant: TenantId, threads: u16) {
        self.workers
            .with_label_values(&[tenant.to_string()])
            .set(i64::from(threads));
    }

    /// This many tenants are running.
    pub fn set_active_tenants(&self, tenants: usize) {
        self.active_tenants
            .set(i64::try_from(tenants).unwrap_or(i64::MAX));
    }

    /// A worker has come to a state.
    pub fn observe_transition(&self, to: StateName) {
        self.transitions.with_label_values(&[to.as_str()]).inc();
    }

    /// So many workers are in a state.
    pub fn set_state(&self, state: StateName, workers: usize) {
        self.states
            .with_label_values(&[state.as_str()])
            .set(i64::try_from(workers).unwrap_or(i64::MAX));
    }

    /// So many workers have a thread that does not come back.
    pub fn set_stuck(&self, workers: usize) {
        self.stuck.set(i64::try_from(workers).unwrap_or(i64::MAX));
    }

    /// So many tenants' workers crash together; 0 while they do not.
    pub fn set_crash_wave(&self, tenants: usize) {
        self.crash_wave
            .set(i64::try_from(tenants).unwrap_or(i64::MAX));
    }

    /// So many rows of a table were too old.
    pub fn swept(&self, table: &'static str, rows: u64) {
        self.swept.with_label_values(&[table]).inc_by(rows);
    }

    /// Removes the series of a tenant that is no more.
    pub fn forget(&self, tenant: TenantId) {
        let tenant = tenant.to_string();
        self.carried.forget("tenant_id", &tenant);
        // A series that was never written is not there to be removed, which is as good.
        for status in [SUCCESS, DEAD, RETRY] {
            self.processed
                .remove_label_values(&[tenant.as_str(), status])
                .ok();
        }
        self.depth.remove_label_values(&[&tenant]).ok();
        self.workers.remove_label_values(&[&tenant]).ok();
    }

    /// Counts on from what earlier images of this program have counted.
    pub fn carry(&self, samples: Vec<Sample>) {
        self.carried.take_in(samples);
    }

    /// What has been counted, for the next image.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        carried::samples(&self.gather())
    }

    fn gather(&self) -> Vec<MetricFamily> {
        let mut families = self.registry.gather();
        self.carried.add_to(&mut families);
        families
    }

    /// Every metric in Prometheus' text format 0.0.4.
    ///
    /// # Errors
    /// When a metric cannot be written as text, which is a bug.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.gather())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn each_metric_moves_and_a_tenants_series_end_with_it() {
        let (metrics, tenant) = (Metrics::new(), TenantId::from(Uuid::nil()));
        metrics.observe_request("GET", "/tenants/{id}", "200", Duration::from_millis(3));
        metrics.set_active_tenants(2);
        metrics.progress(
            tenant,
            Progress {
                stored: 5,
                dead: 1,
                retried: 0,
            },
        );
        metrics.set_depth(tenant, 7);
        metrics.set_workers(tenant, 4);
        metrics.observe_publish(1);
        metrics.observe_publish(5);
        metrics.observe_transition(StateName::Running);
        metrics.set_state(StateName::Running, 3);
        metrics.set_stuck(1);
        metrics.set_crash_wave(12);
        let text = metrics.render().unwrap();
        for line in [
            "http_requests_total{endpoint=\"/tenants/{id}\",method=\"GET\",status=\"200\"} 1",
            "http_request_duration_seconds_bucket{endpoint=\"/tenants/{id}\",method=\"GET\",le=\"0.005\"} 1",
            "active_tenants_total 2",
            "messages_processed_total{status=\"success\",tenant_id=\"00000000-0000-0000-0000-000000000000\"} 5",
            "messages_processed_total{status=\"dead\",tenant_id=\"00000000-0000-0000-0000-000000000000\"} 1",
            "messages_processed_total{status=\"retry\",tenant_id=\"00000000-0000-0000-0000-000000000000\"} 0",
            "message_queue_depth{tenant_id=\"00000000-0000-0000-0000-000000000000\"} 7",
            "active_workers_total{tenant_id=\"00000000-0000-0000-0000-000000000000\"} 4",
            "jatis_publish_messages_bucket{le=\"4\"} 1",
            "jatis_publish_messages_sum 6",
            "jatis_publish_messages_count 2",
            "jatis_worker_transitions_total{state=\"running\"} 1",
            "jatis_workers{state=\"running\"} 3",
            "jatis_stuck_workers 1",
            "jatis_crash_wave 12",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line}\nis not in\n{text}"
            );
        }
        metrics.forget(tenant);
        assert!(!metrics.render().unwrap().contains("tenant_id"));
    }
}
