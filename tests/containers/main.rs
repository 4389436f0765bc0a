//! PostgreSQL and RabbitMQ as containers, for as long as somebody holds this program's stdin open.
//!
//! `scripts/test` runs it as `jatis-test-containers FOLDER POSTGRES_IMAGE RABBITMQ_IMAGE`. When both
//! servers are healthy it prints the shell's export lines for the tests, one a variable; it removes
//! the containers when stdin ends, which the kernel sees to however its caller dies, or at SIGTERM
//! or SIGINT. Containers carry FOLDER as a label: what a run leaves there because somebody killed
//! this program, the next one removes. In FOLDER are the servers' logs and the certificate of the
//! authority that vouches for them.

mod certificates;
mod servers;

use std::{
    fs,
    io::{Write, stdout},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, bail};
use servers::Images;
use testcontainers::core::client::docker_client_instance;
use tokio::{
    io::{AsyncReadExt, stdin},
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

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
    let images = Images { postgres, rabbitmq };
    let runtime = Runtime::new().context("cannot start the reactor")?;
    let done = runtime.block_on(async {
        let mut end = End::new()?;
        let docker = docker_client_instance().await.context("no Docker")?;
        servers::remove_all(&docker, folder).await?;
        let served = serve(folder, &images, &mut end).await;
        served.and(servers::remove_all(&docker, folder).await)
    });
    // After a signal a thread still waits for the end of stdin.
    runtime.shutdown_background();
    done
}

/// Starts the servers, says where they are and keeps them until the end.
async fn serve(folder: &str, images: &Images<'_>, end: &mut End) -> anyhow::Result<()> {
    let certificates = certificates::make()?;
    let authority = Path::new(folder).join("authority.pem");
    fs::write(&authority, &certificates.authority)
        .with_context(|| format!("cannot write {}", authority.display()))?;
    let servers = servers::start(folder, images, &certificates).await?;
    let exports = servers.exports(&authority).await?;
    stdout().write_all(exports.as_bytes())?;
    end.wait().await;
    Ok(())
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
