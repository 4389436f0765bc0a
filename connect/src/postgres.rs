//! A session with PostgreSQL, or the reason why there is none.
//!
//! Every wait is bounded on both ends. The server is told to probe us as well: a session may hold
//! locks, and a server that never notices a dead client would keep them for hours.

use std::time::Duration;

use jatis_shared::config::{Database, SslMode, UnknownSslMode};
use postgres::{
    Client, Config, NoTls,
    config::{Host, SslMode as Demand},
    error::DbError,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::tls::{self, TlsFault};

/// Unanswered probes after which a connection is dead.
const KEEPALIVE_PROBES: u32 = 3;

/// Keys by which no session can be had.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("database.url is not a PostgreSQL address")]
    Url(#[source] postgres::Error),
    #[error("database.url {0}")]
    SslMode(UnknownSslMode),
    #[error("TLS cannot be set up as database.sslmode and database.ca_file say")]
    Tls(#[source] rustls::Error),
}

/// There is no session.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to PostgreSQL at {server}")]
pub struct ConnectError {
    server: String,
    source: postgres::Error,
}

impl ConnectError {
    /// What the server said, if it was the server that refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&DbError> {
        self.source.as_db_error()
    }

    /// What was wrong with TLS, if that was it.
    #[must_use]
    pub fn tls_fault(&self) -> Option<TlsFault> {
        TlsFault::behind(self)
    }
}

/// Where and how to connect. A copy of it makes each session.
#[derive(Clone)]
pub struct Target {
    config: Config,
    /// Built once, if TLS may be spoken; the copies share it.
    tls: Option<MakeRustlsConnect>,
}

impl Target {
    /// The server of `database.url`, for sessions of `name` (their `application_name`) with these
    /// parameters of the server besides what the URL sets itself.
    ///
    /// # Errors
    /// When the keys make no sense, which loading them has ruled out but for the URL's grammar.
    pub fn new(
        keys: &Database,
        name: &str,
        parameters: &[(&str, u128)],
    ) -> Result<Self, TargetError> {
        let (address, mode) = keys.address().map_err(TargetError::SslMode)?;
        let mut config: Config = address.expose().parse().map_err(TargetError::Url)?;
        bound(&mut config, keys, parameters);
        config.application_name(name);
        name_hosts(&mut config);
        config.ssl_mode(demand(mode));
        let tls = match mode {
            SslMode::Disable => None,
            SslMode::Prefer | SslMode::Require => Some(tls::unverified()),
            SslMode::VerifyFull => Some(tls::verified(&keys.authorities)),
        };
        let tls = tls.transpose().map_err(TargetError::Tls)?;
        Ok(Self {
            config,
            tls: tls.map(MakeRustlsConnect::new),
        })
    }

    /// The same for another database of the server.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.config.dbname(name);
        other
    }

    /// The name of the database; without one the server takes the user's, and so does libpq.
    #[must_use]
    pub fn database(&self) -> &str {
        let name = self.config.get_dbname().or_else(|| self.config.get_user());
        name.unwrap_or_default()
    }

    /// Connects and logs in. Blocks, for up to `database.connect_timeout` an address until the
    /// server takes the connection.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(&self) -> Result<Client, ConnectError> {
        let connected = match &self.tls {
            None => self.config.connect(NoTls),
            Some(tls) => self.config.connect(tls.clone()),
        };
        connected.map_err(|source| ConnectError {
            server: self.server(),
            source,
        })
    }

    /// Each host with its port, as the log is to show them.
    fn server(&self) -> String {
        let ports = self.config.get_ports();
        let hosts = self.config.get_hosts().iter().enumerate();
        let hosts = hosts.map(|(place, host)| {
            let port = ports.get(place).or_else(|| ports.first());
            let port = port.copied().unwrap_or(5432);
            match host {
                Host::Tcp(host) => format!("{host}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        });
        hosts.collect::<Vec<_>>().join(",")
    }
}

fn bound(config: &mut Config, keys: &Database, parameters: &[(&str, u128)]) {
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
        .connect_timeout(keys.connect_timeout)
        .tcp_user_timeout(keys.tcp_user_timeout)
        .keepalives(true)
        .keepalives_idle(keys.keepalive)
        .keepalives_interval(probe.max(Duration::from_secs(1)))
        .keepalives_retries(KEEPALIVE_PROBES);
}

fn seconds(duration: Duration) -> u128 {
    u128::from(duration.as_secs().max(1))
}

/// The driver speaks no TLS, not even unverified, with a host that has only an address.
fn name_hosts(config: &mut Config) {
    if config.get_hosts().is_empty() {
        for address in config.get_hostaddrs().to_vec() {
            config.host(&address.to_string());
        }
    }
}

/// What to demand of the server before TLS begins.
const fn demand(mode: SslMode) -> Demand {
    match mode {
        SslMode::Disable => Demand::Disable,
        SslMode::Prefer => Demand::Prefer,
        SslMode::Require | SslMode::VerifyFull => Demand::Require,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Read, Write},
        net::TcpStream,
        thread::JoinHandle,
    };

    use jatis_shared::{authorities::Authorities, config::load::defaults, secret::Secret};

    use super::*;
    use crate::tls_server::{Authority, Valid, listen_only, take_one};

    fn keys(url: &str) -> Database {
        let mut keys = defaults().expect("the defaults are valid").database;
        keys.url = Secret::from(url.to_owned());
        keys
    }

    fn target(keys: &Database) -> Target {
        Target::new(keys, "jatis test", &[("statement_timeout", 7)]).expect("a good URL")
    }

    #[test]
    fn what_the_url_sets_is_kept() {
        let keys = keys("postgres://u@h/db?options=-c%20work_mem%3D1MB&sslmode=verify-full");
        let Target { config, tls } = target(&keys);
        let options = config.get_options().expect("there are some");
        assert!(
            options
                .starts_with("-c work_mem=1MB -c statement_timeout=7 -c tcp_keepalives_idle=10 "),
            "{options}"
        );
        assert_eq!(config.get_application_name(), Some("jatis test"));
        assert!(config.get_ssl_mode() == Demand::Require && tls.is_some());
    }

    #[test]
    fn the_sslmode_decides_what_is_demanded() {
        for (mode, demanded, has_tls) in [
            ("disable", Demand::Disable, false),
            ("prefer", Demand::Prefer, true),
            ("require", Demand::Require, true),
            ("verify-full", Demand::Require, true),
        ] {
            let target = target(&keys(&format!("postgres://u@h/db?sslmode={mode}")));
            assert!(target.config.get_ssl_mode() == demanded, "{mode}");
            assert_eq!(target.tls.is_some(), has_tls, "{mode}");
        }
    }

    #[test]
    fn servers_are_shown_without_what_is_secret() {
        for (url, shown) in [
            ("postgres://u:hunter2@h/db", "h:5432"),
            ("postgres://u:hunter2@h:1,[::1]:2/db", "h:1,::1:2"),
            ("postgres://u:hunter2@%2Frun%2Fpg/db", "/run/pg:5432"),
            (
                "postgres://u:hunter2@/db?hostaddr=10.0.0.1",
                "10.0.0.1:5432",
            ),
        ] {
            assert_eq!(target(&keys(url)).server(), shown, "{url}");
        }
    }

    /// A server that answers the request for TLS so, and then speaks it, if that was yes.
    fn server(answer: u8, authority: &Authority, name: &str) -> (u16, JoinHandle<io::Result<()>>) {
        let config = authority.server(name, Valid::Now);
        take_one(move |mut stream: TcpStream| {
            let mut request = [0; 8];
            stream.read_exact(&mut request)?;
            stream.write_all(&[answer])?;
            match answer {
                b'S' => listen_only(config, stream),
                _ => stream.read_to_end(&mut Vec::new()).map(drop),
            }
        })
    }

    #[test]
    fn a_server_that_does_not_prove_itself_is_told_by_what_it_lacks() {
        let authority = Authority::new("ours");
        let trusted = authority.authorities();
        let mozilla = Authorities::default();
        for (mode, answer, name, trusted, expected) in [
            ("require", b'N', "127.0.0.1", &mozilla, TlsFault::NotOffered),
            (
                "verify-full",
                b'N',
                "127.0.0.1",
                &trusted,
                TlsFault::NotOffered,
            ),
            (
                "verify-full",
                b'S',
                "127.0.0.1",
                &mozilla,
                TlsFault::UnknownIssuer,
            ),
            (
                "verify-full",
                b'S',
                "127.0.0.2",
                &trusted,
                TlsFault::WrongName,
            ),
        ] {
            let (port, served) = server(answer, &authority, name);
            let mut keys = keys(&format!("postgres://u@127.0.0.1:{port}/db?sslmode={mode}"));
            keys.authorities = trusted.clone();
            let refused = target(&keys)
                .connect()
                .err()
                .expect("it is not to be trusted");
            assert_eq!(refused.tls_fault(), Some(expected), "{refused:?}");
            let text = format!("cannot connect to PostgreSQL at 127.0.0.1:{port}");
            assert_eq!(refused.to_string(), text);
            let ended = served.join().expect("no panic");
            assert_eq!(ended.is_ok(), answer == b'N', "{ended:?}");
        }
    }
}
