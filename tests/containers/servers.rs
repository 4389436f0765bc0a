//! The two containers, by testcontainers: how they are started, and how everything with the label
//! is removed.

use std::{collections::HashMap, fs::File, io::Write, path::Path, time::Duration};

use anyhow::Context;
use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, ImageExt,
    bollard::{
        Docker,
        models::{HostConfig, PortBinding},
        query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder},
    },
    core::{Healthcheck, IntoContainerPort, WaitFor, logs::LogFrame},
    runners::AsyncRunner,
};

use crate::certificates::Certificates;

/// The label of a container; its value is the folder.
const LABEL: &str = "jatis.test";
/// Longest wait for a server, the pull of its image not included.
const START_TIMEOUT: Duration = Duration::from_secs(180);
const POSTGRES: u16 = 5432;
const AMQP: u16 = 5672;
const AMQPS: u16 = 5671;
const MANAGEMENT: u16 = 15672;

/// Where the certificate and its key are in either container.
const CERTIFICATE: &str = "/jatis-test/server.pem";
const KEY: &str = "/jatis-test/server.key";
/// PostgreSQL takes no key that others can read: it gets a copy of its own as its data is made.
const POSTGRES_TLS: &str = r#"
install -m 600 /jatis-test/server.pem /jatis-test/server.key "$PGDATA/"
cat >>"$PGDATA/postgresql.conf" <<END
ssl = on
ssl_cert_file = 'server.pem'
ssl_key_file = 'server.key'
END
"#;
const RABBITMQ_TLS: &str = "
listeners.ssl.default = 5671
ssl_options.certfile = /jatis-test/server.pem
ssl_options.keyfile = /jatis-test/server.key
";

/// The images to start, as `NAME:TAG`.
pub(crate) struct Images<'a> {
    pub(crate) postgres: &'a str,
    pub(crate) rabbitmq: &'a str,
}

/// Both servers, healthy. Dropping them removes them.
pub(crate) struct Servers {
    postgres: ContainerAsync<GenericImage>,
    rabbitmq: ContainerAsync<GenericImage>,
    password: String,
}

/// Starts both. `folder` takes their logs, and is the value of their label.
///
/// # Errors
/// When Docker cannot start one of them, or one is not healthy in time.
pub(crate) async fn start(
    folder: &str,
    images: &Images<'_>,
    certificates: &Certificates,
) -> anyhow::Result<Servers> {
    let password = password()?;
    let postgres = postgres(folder, images.postgres, certificates, &password)?;
    let rabbitmq = rabbitmq(folder, images.rabbitmq, certificates, &password)?;
    // Neither is given up midway because of the other: Docker would go on making a container that
    // nobody knows of.
    let (postgres, rabbitmq) = tokio::join!(postgres.start(), rabbitmq.start());
    let image = |name| move || format!("cannot start a container of {name}");
    Ok(Servers {
        postgres: postgres.with_context(image(images.postgres))?,
        rabbitmq: rabbitmq.with_context(image(images.rabbitmq))?,
        password,
    })
}

impl Servers {
    /// The shell's export lines of what the tests must know.
    pub(crate) async fn exports(&self, authority: &Path) -> anyhow::Result<String> {
        let login = format!("jatis:{}@127.0.0.1", self.password);
        let postgres = self.postgres.get_host_port_ipv4(POSTGRES).await?;
        let amqp = self.rabbitmq.get_host_port_ipv4(AMQP).await?;
        let amqps = self.rabbitmq.get_host_port_ipv4(AMQPS).await?;
        let management = self.rabbitmq.get_host_port_ipv4(MANAGEMENT).await?;
        let authority = authority.display();
        Ok(format!(
            "export JATIS_TEST_DATABASE_URL='postgres://{login}:{postgres}/postgres'\n\
             export JATIS_TEST_RABBITMQ_URL='amqp://{login}:{amqp}/%2f'\n\
             export JATIS_TEST_RABBITMQ_TLS_URL='amqps://{login}:{amqps}/%2f'\n\
             export JATIS_TEST_RABBITMQ_MANAGEMENT_URL='http://{login}:{management}'\n\
             export JATIS_TEST_CA_FILE='{authority}'\n"
        ))
    }
}

fn postgres(
    folder: &str,
    image: &str,
    certificates: &Certificates,
    password: &str,
) -> anyhow::Result<ContainerRequest<GenericImage>> {
    // Over TCP: the socket answers while the image still initializes.
    let health = "pg_isready --quiet --host=127.0.0.1 --username=jatis";
    // All that is stored is thrown away; many tests at a time each have their connections.
    let options = [
        "postgres",
        "-cmax_connections=400",
        "-cfsync=off",
        "-cfull_page_writes=off",
        "-csynchronous_commit=off",
    ];
    let log = log(folder, "postgres")?;
    Ok(
        request(folder, image, &[POSTGRES], health, log, certificates)
            .with_env_var("POSTGRES_USER", "jatis")
            .with_env_var("POSTGRES_PASSWORD", password)
            .with_env_var("POSTGRES_DB", "postgres")
            .with_copy_to(
                "/docker-entrypoint-initdb.d/tls.sh",
                POSTGRES_TLS.as_bytes().to_vec(),
            )
            .with_cmd(options),
    )
}

fn rabbitmq(
    folder: &str,
    image: &str,
    certificates: &Certificates,
    password: &str,
) -> anyhow::Result<ContainerRequest<GenericImage>> {
    let health = "rabbitmq-diagnostics --quiet check_port_connectivity";
    let ports = &[AMQP, AMQPS, MANAGEMENT];
    let log = log(folder, "rabbitmq")?;
    Ok(request(folder, image, ports, health, log, certificates)
        .with_env_var("RABBITMQ_DEFAULT_USER", "jatis")
        .with_env_var("RABBITMQ_DEFAULT_PASS", password)
        .with_copy_to(
            "/etc/rabbitmq/conf.d/90-tls.conf",
            RABBITMQ_TLS.as_bytes().to_vec(),
        ))
}

/// What both containers have in common: a label, a log file, a health check, a certificate, and
/// ports that only this machine reaches.
fn request(
    folder: &str,
    image: &str,
    ports: &'static [u16],
    health: &str,
    log: File,
    certificates: &Certificates,
) -> ContainerRequest<GenericImage> {
    let (image, tag) = match image.rsplit_once(':') {
        // What follows the colon of a registry's port is a path.
        Some((image, tag)) if !tag.contains('/') => (image, tag),
        Some(_) | None => (image, "latest"),
    };
    let health = Healthcheck::cmd(health.split(' '))
        .with_interval(Duration::from_secs(2))
        .with_timeout(Duration::from_secs(20))
        .with_retries(60);
    let image = GenericImage::new(image, tag).with_wait_for(WaitFor::healthcheck());
    let image = ports
        .iter()
        .fold(image, |image, port| image.with_exposed_port(port.tcp()));
    image
        .with_label(LABEL, folder)
        .with_health_check(health)
        .with_startup_timeout(START_TIMEOUT)
        .with_copy_to(CERTIFICATE, certificates.server.clone().into_bytes())
        .with_copy_to(KEY, certificates.server_key.clone().into_bytes())
        .with_log_consumer(move |frame: &LogFrame| note(&log, frame))
        .with_host_config_modifier(|config| publish_on_loopback(config, ports))
}

fn log(folder: &str, server: &str) -> anyhow::Result<File> {
    let path = Path::new(folder).join(format!("{server}.log"));
    File::create(&path).with_context(|| format!("cannot write {}", path.display()))
}

/// A log that cannot be written is no reason to fail a test; it is said once a line.
fn note(mut log: &File, frame: &LogFrame) {
    if let Err(error) = log.write_all(frame.bytes()) {
        eprintln!("jatis-test-containers: cannot write a server's log: {error}");
    }
}

fn publish_on_loopback(config: &mut HostConfig, ports: &[u16]) {
    let anywhere_free = || {
        Some(vec![PortBinding {
            host_ip: Some("127.0.0.1".to_owned()),
            host_port: None,
        }])
    };
    let bindings = ports
        .iter()
        .map(|port| (format!("{port}/tcp"), anywhere_free()));
    config.publish_all_ports = Some(false);
    config.port_bindings = Some(bindings.collect());
}

/// Removes the containers of this folder with their data.
///
/// # Errors
/// When Docker does not answer, or refuses.
pub(crate) async fn remove_all(docker: &Docker, folder: &str) -> anyhow::Result<()> {
    let label = vec![format!("{LABEL}={folder}")];
    let options = ListContainersOptionsBuilder::new()
        .all(true)
        .filters(&HashMap::from([("label".to_owned(), label)]))
        .build();
    let containers = docker.list_containers(Some(options)).await;
    for container in containers.context("Docker does not list its containers")? {
        let id = container.id.unwrap_or_default();
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true);
        let removed = docker.remove_container(&id, Some(options.build())).await;
        removed.with_context(|| format!("cannot remove container {id}"))?;
    }
    Ok(())
}

fn password() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("no randomness for a password")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
