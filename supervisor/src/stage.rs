//! How far the supervisor is. `cli::serve` writes it; whoever must know whether to serve reads it.

use std::fmt;

use tokio::sync::watch;

use crate::error::Error;

/// A stage in the life of a supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Reaching for the database, migrating, reading the tenants; says what it waits for, to
    /// strangers too. Leaves to any other.
    Starting(String),
    /// Another supervisor serves this database; says which. Leaves when that one ends.
    Waiting(String),
    /// In charge: requests are served, workers run. Leaves when the hold is lost, or at the end.
    Serving,
    /// On its way out; never left.
    Stopping,
}

impl fmt::Display for Stage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting(what) => write!(out, "starting: {what}"),
            Self::Waiting(who) => write!(out, "waiting: {who}"),
            Self::Serving => out.write_str("serving"),
            Self::Stopping => out.write_str("stopping"),
        }
    }
}

/// The stage, for those who read it.
#[derive(Debug, Clone)]
pub struct StageWatch(pub watch::Receiver<Stage>);

impl StageWatch {
    /// The stage now.
    #[must_use]
    pub fn now(&self) -> Stage {
        self.0.borrow().clone()
    }

    /// Lets a request pass while the supervisor is in charge.
    ///
    /// # Errors
    /// Says why not, in any other stage.
    pub fn serving(&self) -> Result<(), Error> {
        match &*self.0.borrow() {
            Stage::Serving => Ok(()),
            Stage::Starting(_) => Err(Error::Starting),
            Stage::Waiting(why) => Err(Error::NotInCharge(why.clone())),
            Stage::Stopping => Err(Error::ShuttingDown),
        }
    }
}
