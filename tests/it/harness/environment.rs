//! What a test run is given: the servers, by environment variables, and the binaries, by place.

use std::path::PathBuf;

use super::url::ServerUrl;

const MARK: &str = "JATIS_TEST_RUN";
const COALESCE: &str = "JATIS_TEST_COALESCE";

/// The servers and the binaries under test.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    /// PostgreSQL, as a role that may create databases and see everybody's activity.
    pub(crate) database: ServerUrl,
    /// RabbitMQ, AMQP.
    pub(crate) broker: ServerUrl,
    /// RabbitMQ, AMQP in TLS.
    pub(crate) broker_tls: ServerUrl,
    /// PEM file of the authority that both servers' certificates come from; they are for 127.0.0.1
    /// and localhost.
    pub(crate) ca_file: String,
    /// RabbitMQ, the management API.
    pub(crate) management: ServerUrl,
    /// The program `jatis`; `jatis-worker` lies beside it.
    pub(crate) jatis: PathBuf,
    /// A variable that whoever runs the tests finds their processes by, with its value.
    pub(crate) mark: Option<(&'static str, String)>,
    /// `rabbitmq.coalesce`, where a test does not say.
    pub(crate) coalesce: bool,
}

impl Environment {
    /// # Panics
    /// When a server is not named, the binaries are not built or a variable makes no sense.
    pub(crate) fn read() -> Self {
        Self {
            database: server("JATIS_TEST_DATABASE_URL"),
            broker: server("JATIS_TEST_RABBITMQ_URL"),
            broker_tls: server("JATIS_TEST_RABBITMQ_TLS_URL"),
            ca_file: given("JATIS_TEST_CA_FILE"),
            management: server("JATIS_TEST_RABBITMQ_MANAGEMENT_URL"),
            jatis: jatis(),
            mark: variable(MARK).map(|mark| (MARK, mark)),
            coalesce: match variable(COALESCE).as_deref() {
                Some("on") => true,
                Some("off") | None => false,
                Some(other) => panic!("{COALESCE} is on or off, not {other}"),
            },
        }
    }
}

fn server(name: &str) -> ServerUrl {
    ServerUrl::parse(&given(name))
}

fn given(name: &str) -> String {
    variable(name).unwrap_or_else(|| panic!("{name} is not set; run: make test"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test run is told of its servers by its environment; this is where it is read"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The tests run as `target/PROFILE/deps/it-…`; the programs lie one folder up.
fn jatis() -> PathBuf {
    let this = std::env::current_exe().expect("a running program has a path");
    let folder = this.parent().and_then(|deps| deps.parent());
    let jatis = folder.expect("the tests lie in deps/").join("jatis");
    let worker = jatis.with_file_name("jatis-worker");
    for program in [&jatis, &worker] {
        assert!(
            program.is_file(),
            "{} is not built; run: make test",
            program.display()
        );
    }
    jatis
}
