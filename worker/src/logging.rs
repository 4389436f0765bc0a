//! Logs to standard error, in the format and from the level the spec says.

use jatis_shared::config::{Log, LogFormat};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// The client library calls a lost connection an error; here it is expected, and logged by whoever
/// connects again.
const QUIET: &str = "lapin=off";

/// The filter, to be changed while it filters.
pub(crate) struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
}

/// A filter that cannot be read or set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("{0:?} is not a log filter")]
    Filter(String, #[source] tracing_subscriber::filter::ParseError),
    #[error("the log filter cannot be changed")]
    Reload(#[source] reload::Error),
    #[error("logging is set up already")]
    Init(#[source] tracing_subscriber::util::TryInitError),
}

impl Logging {
    /// Starts logging, once in the life of the process.
    ///
    /// # Errors
    /// When the level is no filter.
    pub(crate) fn start(keys: &Log) -> Result<Self, LogError> {
        let (filter, handle) = reload::Layer::new(parse(&keys.level)?);
        let writer = std::io::stderr;
        let lines = match keys.format {
            LogFormat::Text => fmt::layer().with_ansi(false).with_writer(writer).boxed(),
            LogFormat::Json => fmt::layer().json().with_writer(writer).boxed(),
        };
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .try_init()
            .map_err(LogError::Init)?;
        Ok(Self { filter: handle })
    }

    /// Logs by another filter from here on.
    ///
    /// # Errors
    /// When it is none; the old one stays.
    pub(crate) fn change(&self, filter: &str) -> Result<(), LogError> {
        self.filter.reload(parse(filter)?).map_err(LogError::Reload)
    }
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let whole = if filter.contains("lapin") {
        filter.to_owned()
    } else {
        format!("{filter},{QUIET}")
    };
    EnvFilter::try_new(&whole).map_err(|error| LogError::Filter(filter.to_owned(), error))
}

/// An error and what caused it, on one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
