//! A supervisor's log: one JSON object a line.

use std::{net::SocketAddr, path::PathBuf};

use serde_json::Value;

/// What one supervisor, with its workers, wrote to standard error.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
}

impl Log {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where the API listens, once it does.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let text = self.text();
        let mut events = text.lines().filter_map(event);
        let listens = events.find(|event| {
            let message = event["fields"]["message"].as_str();
            message.is_some_and(|message| message.starts_with("the API listens on http://"))
        })?;
        listens["fields"]["http.address"].as_str()?.parse().ok()
    }

    /// Lines of level ERROR, and lines that are not events at all (a panic, say), except those
    /// that hold a text of `allowed`.
    pub(crate) fn faults(&self, allowed: &[&str]) -> Vec<String> {
        let fault = |line: &&str| {
            let level = event(line).map(|event| event["level"].clone());
            let fine = level.is_some_and(|level| level != "ERROR");
            !fine && !allowed.iter().any(|text| line.contains(text))
        };
        self.text()
            .lines()
            .filter(fault)
            .map(str::to_owned)
            .collect()
    }

    /// Lines that hold this text.
    pub(crate) fn lines_with(&self, text: &str) -> Vec<String> {
        let whole = self.text();
        let found = whole.lines().filter(|line| line.contains(text));
        found.map(str::to_owned).collect()
    }

    /// The last lines, for a failure's text.
    pub(crate) fn tail(&self, lines: usize) -> String {
        let text = self.text();
        let all: Vec<&str> = text.lines().collect();
        let from = all.len().saturating_sub(lines);
        all.get(from..).unwrap_or_default().join("\n")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap_or_default()
    }
}

fn event(line: &str) -> Option<Value> {
    let event: Value = serde_json::from_str(line).ok()?;
    event["level"].is_string().then_some(event)
}
