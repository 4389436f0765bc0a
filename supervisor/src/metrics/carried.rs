//! Counts of the images before this one. An upgrade in place is no restart, so what is counted
//! counts on.

use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use serde::{Deserialize, Serialize};

/// A series of counts at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    name: String,
    help: String,
    labels: Vec<(String, String)>,
    value: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Value {
    Counter(f64),
    Histogram {
        count: u64,
        sum: f64,
        /// Upper bound and cumulative count.
        buckets: Vec<(f64, u64)>,
    },
}

/// What was carried over, to be added to what is counted here.
#[derive(Debug, Default)]
pub(super) struct Carried {
    samples: Mutex<Vec<Sample>>,
}

impl Carried {
    pub(super) fn take_in(&self, samples: Vec<Sample>) {
        *self.lock() = samples;
    }

    /// Forgets the series with this value of a label.
    pub(super) fn forget(&self, label: &str, value: &str) {
        self.lock().retain(|sample| {
            let mut labels = sample.labels.iter();
            !labels.any(|(name, of)| name == label && of == value)
        });
    }

    /// Adds what was carried over.
    pub(super) fn add_to(&self, families: &mut Vec<MetricFamily>) {
        for sample in self.lock().iter() {
            let place = families
                .iter()
                .position(|family| family.name() == sample.name);
            let place = place.unwrap_or_else(|| {
                families.push(family(sample));
                families.len() - 1
            });
            let Some(family) = families.get_mut(place) else {
                continue;
            };
            let metrics = family.mut_metric();
            let same = |metric: &&mut Metric| labels(metric) == sample.labels;
            match metrics.iter_mut().find(same) {
                Some(metric) => add(metric, &sample.value),
                None => metrics.push(metric(sample)),
            }
        }
        families.sort_by(|one, other| one.name().cmp(other.name()));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counts in these families; what is no count is as it is, and not carried.
pub(super) fn samples(families: &[MetricFamily]) -> Vec<Sample> {
    let mut samples = Vec::new();
    for family in families {
        for metric in family.get_metric() {
            let value = match family.get_field_type() {
                MetricType::COUNTER => Value::Counter(metric.get_counter().get_value()),
                MetricType::HISTOGRAM => histogram(metric.get_histogram()),
                MetricType::GAUGE | MetricType::SUMMARY | MetricType::UNTYPED => continue,
            };
            samples.push(Sample {
                name: family.name().to_owned(),
                help: family.help().to_owned(),
                labels: labels(metric),
                value,
            });
        }
    }
    samples
}

fn histogram(histogram: &Histogram) -> Value {
    let bucket = |bucket: &Bucket| (bucket.upper_bound(), bucket.cumulative_count());
    Value::Histogram {
        count: histogram.get_sample_count(),
        sum: histogram.get_sample_sum(),
        buckets: histogram.get_bucket().iter().map(bucket).collect(),
    }
}

fn labels(metric: &Metric) -> Vec<(String, String)> {
    let pair = |pair: &LabelPair| (pair.name().to_owned(), pair.value().to_owned());
    metric.get_label().iter().map(pair).collect()
}

/// Adds to a series of the same name and labels.
fn add(metric: &mut Metric, value: &Value) {
    match value {
        Value::Counter(count) => {
            let mut counter = Counter::default();
            counter.set_value(metric.get_counter().get_value() + count);
            metric.set_counter(counter);
        }
        Value::Histogram {
            count,
            sum,
            buckets,
        } => {
            let present = metric.get_histogram();
            let added = present.get_bucket().iter().map(|bucket| {
                let same = buckets
                    .iter()
                    .find(|(bound, _)| *bound == bucket.upper_bound());
                let before = same.map_or(0, |(_, count)| *count);
                self::bucket(bucket.upper_bound(), bucket.cumulative_count() + before)
            });
            let mut histogram = Histogram::default();
            histogram.set_sample_count(present.get_sample_count() + count);
            histogram.set_sample_sum(present.get_sample_sum() + sum);
            histogram.set_bucket(added.collect());
            metric.set_histogram(histogram);
        }
    }
}

fn bucket(bound: f64, count: u64) -> Bucket {
    let mut bucket = Bucket::default();
    bucket.set_upper_bound(bound);
    bucket.set_cumulative_count(count);
    bucket
}

fn family(sample: &Sample) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(sample.name.clone());
    family.set_help(sample.help.clone());
    family.set_field_type(match sample.value {
        Value::Counter(_) => MetricType::COUNTER,
        Value::Histogram { .. } => MetricType::HISTOGRAM,
    });
    family
}

fn metric(sample: &Sample) -> Metric {
    let pair = |(name, value): &(String, String)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.clone());
        pair.set_value(value.clone());
        pair
    };
    let mut metric = Metric::from_label(sample.labels.iter().map(pair).collect());
    if let Value::Histogram { buckets, .. } = &sample.value {
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.iter().map(|(bound, _)| bucket(*bound, 0)).collect());
        metric.set_histogram(histogram);
    }
    add(&mut metric, &sample.value);
    metric
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use crate::{fleet::Progress, metrics::Metrics};

    #[test]
    fn counts_count_on_and_gauges_do_not() {
        let tenant = Uuid::nil().into();
        let stored = |stored| Progress {
            stored,
            ..Progress::default()
        };
        let before = Metrics::new();
        before.observe_request("GET", "/tenants", "200", Duration::from_millis(3));
        before.progress(tenant, stored(5));
        before.set_active_tenants(7);
        before.observe_publish(4);
        let text = serde_json::to_string(&before.samples()).expect("they are JSON");
        let samples = serde_json::from_str(&text).expect("they come back");
        let after = Metrics::new();
        after.carry(samples);
        assert_eq!(after.samples(), before.samples(), "nothing was counted yet");
        after.progress(tenant, stored(2));
        after.observe_publish(2);
        let text = after.render().expect("it is text");
        for line in [
            "http_requests_total{endpoint=\"/tenants\",method=\"GET\",status=\"200\"} 1",
            "messages_processed_total{status=\"success\",tenant_id=\"00000000-0000-0000-0000-000000000000\"} 7",
            "active_tenants_total 0",
            "jatis_publish_messages_bucket{le=\"2\"} 1",
            "jatis_publish_messages_bucket{le=\"4\"} 2",
            "jatis_publish_messages_sum 6",
            "jatis_publish_messages_count 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        after.forget(tenant);
        assert!(!after.render().expect("it is text").contains("tenant_id"));
    }
}
