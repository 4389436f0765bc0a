//! The log of a process: lines on standard error, as text or JSON, at a level that can change while
//! it runs. And errors with what caused them, as a line of it.

use std::{error::Error, fmt, io::stderr};

use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::ParseError,
    fmt::layer,
    layer::SubscriberExt,
    reload,
    util::{SubscriberInitExt, TryInitError},
};

use crate::config::{Log, LogFormat};

/// The client library calls a lost connection an error; here it is expected, and logged by whoever
/// connects again.
const QUIET: &str = "lapin=off";

/// Changes the level of the log.
#[derive(Debug, Clone)]
pub struct Level(reload::Handle<EnvFilter, Registry>);

/// A log that cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log.level {0:?} is not a filter")]
    Filter(String, #[source] ParseError),
    #[error("the level of the log cannot be changed")]
    Reload(#[source] reload::Error),
    #[error("another log is set up already")]
    SetUp(#[source] TryInitError),
}

/// Sets up the log of this process, once in its life.
///
/// # Errors
/// When the filter is malformed.
pub fn start(keys: &Log) -> Result<Level, LogError> {
    let (level, handle) = reload::Layer::new(filter(&keys.level)?);
    let lines = match keys.format {
        LogFormat::Text => layer().with_writer(stderr).with_ansi(false).boxed(),
        LogFormat::Json => layer().with_writer(stderr).json().boxed(),
    };
    let log = tracing_subscriber::registry().with(level).with(lines);
    log.try_init().map_err(LogError::SetUp)?;
    Ok(Level(handle))
}

impl Level {
    /// Logs by this filter from now on.
    ///
    /// # Errors
    /// When the filter is malformed; the old one then stays.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        self.0.reload(filter(level)?).map_err(LogError::Reload)
    }
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let whole = if level.contains("lapin") {
        level.to_owned()
    } else {
        format!("{level},{QUIET}")
    };
    EnvFilter::try_new(whole).map_err(|source| LogError::Filter(level.to_owned(), source))
}

/// Shows an error with everything that caused it: "what: why: why".
#[derive(Debug)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)?;
        match self.0.source() {
            Some(cause) => write!(out, ": {}", Chain(cause)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the door")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("the key is lost")]
    struct Inner;

    #[test]
    fn an_error_is_shown_with_its_causes() {
        assert_eq!(Chain(&Inner).to_string(), "the key is lost");
        assert_eq!(
            Chain(&Outer(Inner)).to_string(),
            "cannot open the door: the key is lost"
        );
    }

    #[test]
    fn a_malformed_filter_is_named() {
        let error = filter("a=b=c").expect_err("no filter").to_string();
        assert_eq!(error, "log.level \"a=b=c\" is not a filter");
    }
}
