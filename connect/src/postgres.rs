//! The settings of a session with PostgreSQL that both programs share.
//!
//! Every wait is bounded on both ends. The server is told to probe us as well: a session may hold
//! locks, and a server that never notices a dead client would keep them for hours.

use std::time::Duration;

use jatis_shared::config::Database;
use postgres::{Config, Error};

/// Unanswered probes after which a connection is dead.
const KEEPALIVE_PROBES: u32 = 3;

/// The settings of a session of `name` (its `application_name`), with these parameters of the
/// server besides what `database.url` sets itself.
///
/// # Errors
/// When `database.url` is not a PostgreSQL address.
pub fn settings(keys: &Database, name: &str, parameters: &[(&str, u128)]) -> Result<Config, Error> {
    let mut config: Config = keys.url.expose().parse()?;
    let probe = keys.keepalive / KEEPALIVE_PROBES;
    let own = [
        // Whole seconds, and 0 would mean the system's default of hours.
        ("tcp_keepalives_idle", seconds(keys.keepalive)),
        ("tcp_keepalives_interval", seconds(probe)),
        ("tcp_keepalives_count", u128::from(KEEPALIVE_PROBES)),
        ("tcp_user_timeout", keys.tcp_user_timeout.as_millis()),
    ];
    let mut options = config.get_options().map(str::to_owned).unwrap_or_default();
    for (name, value) in parameters.iter().chain(&own) {
        options.push_str(&format!(" -c {name}={value}"));
    }
    config
        .options(&options)
        .application_name(name)
        .connect_timeout(keys.connect_timeout)
        .tcp_user_timeout(keys.tcp_user_timeout)
        .keepalives(true)
        .keepalives_idle(keys.keepalive)
        .keepalives_interval(probe.max(Duration::from_secs(1)))
        .keepalives_retries(KEEPALIVE_PROBES);
    Ok(config)
}

fn seconds(duration: Duration) -> u128 {
    u128::from(duration.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use jatis_shared::{config::load::defaults, secret::Secret};

    use super::*;

    #[test]
    fn what_the_url_sets_is_kept() {
        let mut keys = defaults().expect("the defaults are valid").database;
        keys.url = Secret::from("postgres://u@h/db?options=-c%20work_mem%3D1MB".to_owned());
        let config =
            settings(&keys, "jatis test", &[("statement_timeout", 7)]).expect("a good URL");
        let options = config.get_options().expect("there are some");
        assert!(
            options
                .starts_with("-c work_mem=1MB -c statement_timeout=7 -c tcp_keepalives_idle=10 "),
            "{options}"
        );
        assert_eq!(config.get_application_name(), Some("jatis test"));
    }
}
