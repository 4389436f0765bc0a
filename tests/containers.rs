//! PostgreSQL and RabbitMQ as containers, for as long as somebody holds this program's stdin open.
//!
//! `scripts/test` runs it as `jatis-test-containers FOLDER POSTGRES_IMAGE RABBITMQ_IMAGE`. When both
//! servers are healthy it prints the shell's export lines for the tests, one per variable; it
//! removes the containers when stdin ends, which the kernel sees to however its caller dies, or at
//! SIGTERM or SIGINT. Containers carry FOLDER as a label: what an earlier run left there because
//! somebody killed this program, the next one removes. What the servers log goes to
//! `FOLDER/postgres.log` and `FOLDER/rabbitmq.log`, and stays.

use std::{
    collections::HashMap,
    fs::File,
    io::{Write, stdout},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, ImageExt,
    bollard::{
        Docker,
        models::{HostConfig, PortBinding},
        query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder},
    },
    core::{
        Healthcheck, IntoContainerPort, WaitFor, client::docker_client_instance, logs::LogFrame,
    },
    runners::AsyncRunner,
};
use tokio::{
    io::{AsyncReadExt, stdin},
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

/// The label of a container; its value is the folder.
const LABEL: &str = "jatis.test";
/// Longest wait for a server, the pull of its image not included.
const START_TIMEOUT: Duration = Duration::from_secs(180);
const POSTGRES: u16 = 5432;
const AMQP: u16 = 5672;
const MANAGEMENT: u16 = 15672;

fn main() -> ExitCode {
    match try_main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jatis-test-containers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, postgres, rabbitmq] = arguments.as_slice() else {
        bail!("usage: jatis-test-containers FOLDER POSTGRES_IMAGE RABBITMQ_IMAGE");
    };
    let runtime = Runtime::new().context("cannot start the reactor")?;
    let done = runtime.block_on(async {
        let mut end = End::new()?;
        let docker = docker_client_instance().await.context("no Docker")?;
        remove_all(&docker, folder).await?;
        let served = serve(folder, postgres, rabbitmq, &mut end).await;
        served.and(remove_all(&docker, folder).await)
    });
    // After a signal a thread still waits for the end of stdin.
    runtime.shutdown_background();
    done
}

/// Starts the servers, says where they are and keeps them until the end.
async fn serve(folder: &str, postgres: &str, rabbitmq: &str, end: &mut End) -> anyhow::Result<()> {
    let password = password()?;
    // Not given up midway, for the end or for each other: Docker would go on making a container
    // that nobody knows of.
    let (postgres, rabbitmq) = tokio::join!(
        start_postgres(folder, postgres, &password),
        start_rabbitmq(folder, rabbitmq, &password),
    );
    let (postgres, rabbitmq) = (postgres?, rabbitmq?);
    let postgres_port = postgres.get_host_port_ipv4(POSTGRES).await?;
    let amqp_port = rabbitmq.get_host_port_ipv4(AMQP).await?;
    let management_port = rabbitmq.get_host_port_ipv4(MANAGEMENT).await?;
    let exports = format!(
        "export JATIS_TEST_DATABASE_URL=postgres://jatis:{password}@127.0.0.1:{postgres_port}/postgres\n\
         export JATIS_TEST_RABBITMQ_URL=amqp://jatis:{password}@127.0.0.1:{amqp_port}/%2f\n\
         export JATIS_TEST_RABBITMQ_MANAGEMENT_URL=http://jatis:{password}@127.0.0.1:{management_port}\n",
    );
    stdout().write_all(exports.as_bytes())?;
    end.wait().await;
    Ok(())
}

async fn start_postgres(
    folder: &str,
    image: &str,
    password: &str,
) -> anyhow::Result<ContainerAsync<GenericImage>> {
    // Over TCP: the socket answers while the image still initializes.
    let health = [
        "pg_isready",
        "--quiet",
        "--host=127.0.0.1",
        "--username=jatis",
    ];
    // All that is stored is thrown away; many tests at a time each have their connections.
    let options = [
        "postgres",
        "-cmax_connections=400",
        "-cfsync=off",
        "-cfull_page_writes=off",
        "-csynchronous_commit=off",
    ];
    let request = request(folder, "postgres", image, &[POSTGRES], &health)?
        .with_env_var("POSTGRES_USER", "jatis")
        .with_env_var("POSTGRES_PASSWORD", password)
        .with_env_var("POSTGRES_DB", "postgres")
        .with_cmd(options);
    start(request, image).await
}

async fn start_rabbitmq(
    folder: &str,
    image: &str,
    password: &str,
) -> anyhow::Result<ContainerAsync<GenericImage>> {
    let health = ["rabbitmq-diagnostics", "--quiet", "check_port_connectivity"];
    let request = request(folder, "rabbitmq", image, &[AMQP, MANAGEMENT], &health)?
        .with_env_var("RABBITMQ_DEFAULT_USER", "jatis")
        .with_env_var("RABBITMQ_DEFAULT_PASS", password);
    start(request, image).await
}

/// What both containers have in common: a label, a log file, a health check, and ports that only
/// this machine reaches.
fn request(
    folder: &str,
    name: &str,
    image: &str,
    ports: &'static [u16],
    health: &[&str],
) -> anyhow::Result<ContainerRequest<GenericImage>> {
    let (image, tag) = match image.rsplit_once(':') {
        // What follows the colon of a registry's port is a path.
        Some((image, tag)) if !tag.contains('/') => (image, tag),
        Some(_) | None => (image, "latest"),
    };
    let log = Path::new(folder).join(format!("{name}.log"));
    let log = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let health = Healthcheck::cmd(health)
        .with_interval(Duration::from_secs(2))
        .with_timeout(Duration::from_secs(20))
        .with_retries(60);
    let image = ports
        .iter()
        .fold(GenericImage::new(image, tag), |image, port| {
            image.with_exposed_port(port.tcp())
        })
        .with_wait_for(WaitFor::healthcheck());
    Ok(image
        .with_label(LABEL, folder)
        .with_health_check(health)
        .with_startup_timeout(START_TIMEOUT)
        .with_log_consumer(move |frame: &LogFrame| note(&log, frame))
        .with_host_config_modifier(|config| publish_on_loopback(config, ports)))
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

async fn start(
    request: ContainerRequest<GenericImage>,
    image: &str,
) -> anyhow::Result<ContainerAsync<GenericImage>> {
    let started = request.start().await;
    started.with_context(|| format!("cannot start a container of {image}"))
}

/// Removes the containers of this folder with their data.
async fn remove_all(docker: &Docker, folder: &str) -> anyhow::Result<()> {
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

/// What ends this program.
struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl End {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = stdin_ended() => {}
        }
    }
}

/// Whatever is written to stdin is nobody's concern; an error ends it like its end.
async fn stdin_ended() {
    let mut byte = [0];
    while let Ok(1..) = stdin().read(&mut byte).await {}
}
