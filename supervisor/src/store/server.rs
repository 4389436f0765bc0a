//! How the supervisor reaches PostgreSQL: one set of settings for each kind of session.
//!
//! Every wait is bounded on both ends. The server is told to probe us as well: a session holds
//! advisory locks, and a server that never notices a dead client would keep them for hours.

use std::time::Duration;

use jatis_shared::config::Database;
use postgres::{Client, Config, NoTls};

use super::StoreError;

/// Longest silence on a connection that holds the lock of the supervisor, before TCP probes it.
const MAX_KEEPALIVE: Duration = Duration::from_secs(10);
/// Unanswered probes after which a connection is dead.
const KEEPALIVE_PROBES: u32 = 3;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Statements that answer a request; each ends within `database.statement_timeout`.
    Request,
    /// Changes of the schema: they wait for no lock longer than `database.lock_timeout`, but what
    /// they do once they have it may take its time.
    Schema,
}

/// The settings of a session.
///
/// # Errors
/// [`StoreError::Url`].
pub(super) fn settings(database: &Database, purpose: Purpose) -> Result<Config, StoreError> {
    let mut config: Config = database.url.expose().parse().map_err(StoreError::Url)?;
    let keepalive = database.keepalive.min(MAX_KEEPALIVE);
    let probe = keepalive / KEEPALIVE_PROBES;
    let mut options = config.get_options().map(str::to_owned).unwrap_or_default();
    let mut option = |name: &str, value: u128| {
        options.push_str(&format!(" -c {name}={value}"));
    };
    match purpose {
        Purpose::Request => {
            option("statement_timeout", database.statement_timeout.as_millis());
            // Pages come in the order of an index. A leaf that was filled since it was last
            // analyzed looks small to the planner, which would then read and sort all of it.
            // Where a sort cannot be avoided, its pretended cost must not call the compiler.
            option("enable_sort", 0);
            option("jit", 0);
        }
        Purpose::Schema => {
            option("statement_timeout", 0);
            option("lock_timeout", database.lock_timeout.as_millis());
        }
    }
    // Whole seconds, and 0 would mean the system's default of hours.
    option("tcp_keepalives_idle", seconds(keepalive));
    option("tcp_keepalives_interval", seconds(probe));
    option("tcp_keepalives_count", u128::from(KEEPALIVE_PROBES));
    option("tcp_user_timeout", database.tcp_user_timeout.as_millis());
    config
        .options(&options)
        .application_name("jatis supervisor")
        .connect_timeout(database.connect_timeout)
        .tcp_user_timeout(database.tcp_user_timeout)
        .keepalives(true)
        .keepalives_idle(keepalive)
        .keepalives_interval(probe.max(Duration::from_secs(1)))
        .keepalives_retries(KEEPALIVE_PROBES);
    Ok(config)
}

/// A connection of its own, outside the pool. Blocks for up to `database.connect_timeout` an
/// address.
///
/// # Errors
/// [`StoreError::Connect`].
pub(super) fn connect(settings: &Config) -> Result<Client, StoreError> {
    settings.connect(NoTls).map_err(StoreError::Connect)
}

fn seconds(duration: Duration) -> u128 {
    u128::from(duration.as_secs().max(1))
}
