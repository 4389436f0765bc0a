//! Writes the log to standard error, as text or JSON, at a level that can change while it runs.

use std::io::stderr;

use jatis_shared::config::{Log, LogFormat};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::ParseError, layer::SubscriberExt, reload,
    util::SubscriberInitExt,
};

/// The client library calls a lost connection an error; here it is expected, and logged by whoever
/// connects again.
const QUIET: &str = "lapin=off";

/// Changes the level of the log.
#[derive(Debug, Clone)]
pub(super) struct Level(reload::Handle<EnvFilter, Registry>);

/// A log that cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log.level is not a filter")]
    Filter(#[from] ParseError),
    #[error("the log's level cannot be changed")]
    Reload(#[from] reload::Error),
    #[error("another log is set up already")]
    SetUp(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up the log of this process.
///
/// # Errors
/// When the filter is malformed.
pub(super) fn start(config: &Log) -> Result<Level, LogError> {
    let (level, handle) = reload::Layer::new(filter(&config.level)?);
    let lines = match config.format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_writer(stderr)
            .with_ansi(false)
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .with_writer(stderr)
            .json()
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(level)
        .with(lines)
        .try_init()?;
    Ok(Level(handle))
}

impl Level {
    /// Logs by this filter from now on.
    ///
    /// # Errors
    /// When the filter is malformed; the old one then stays.
    pub(super) fn set(&self, level: &str) -> Result<(), LogError> {
        Ok(self.0.reload(filter(level)?)?)
    }
}

fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    if level.contains("lapin") {
        return EnvFilter::try_new(level);
    }
    EnvFilter::try_new(format!("{level},{QUIET}"))
}
