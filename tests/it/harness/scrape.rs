//! What `GET /metrics` shows, in Prometheus' text format.

use std::collections::BTreeMap;

/// The samples of one look at the metrics.
#[derive(Debug)]
pub(crate) struct Scrape {
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Scrape {
    /// # Panics
    /// On a line that is neither a comment nor a sample.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self {
            samples: lines.filter(|line| !line.is_empty()).map(sample).collect(),
        }
    }

    /// The sum of the samples of `name` that carry all of `labels`; 0 when there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&Sample| {
            let carries = |(label, value): &(&str, &str)| {
                sample.labels.get(*label).is_some_and(|has| has == value)
            };
            sample.name == name && labels.iter().all(carries)
        };
        self.samples
            .iter()
            .filter(fits)
            .map(|sample| sample.value)
            .sum()
    }

    /// The label names of the samples of `name`, sorted; empty when there is no sample.
    pub(crate) fn labels(&self, name: &str) -> Vec<&str> {
        let sample = self.samples.iter().find(|sample| sample.name == name);
        sample.map_or_else(Vec::new, |sample| {
            sample.labels.keys().map(String::as_str).collect()
        })
    }
}

/// `name{label="value",…} value`. The values of our labels hold no quote and no comma.
fn sample(line: &str) -> Sample {
    let parts = || {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}')?;
        let pairs = labels.split(',').filter(|pair| !pair.is_empty());
        Some(Sample {
            name: name.to_owned(),
            labels: pairs.map(label).collect::<Option<_>>()?,
            value: value.parse().ok()?,
        })
    };
    parts().unwrap_or_else(|| panic!("not a sample: {line}"))
}

fn label(pair: &str) -> Option<(String, String)> {
    let (name, value) = pair.split_once('=')?;
    Some((name.to_owned(), value.trim_matches('"').to_owned()))
}
