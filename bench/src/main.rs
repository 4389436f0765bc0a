//! `jatis-bench`: measures a running jatis from outside, over HTTP, and checks in PostgreSQL that
//! nothing was lost meanwhile. `scripts/bench` provides it with a jatis of its own.
//!
//! Its figures are for people; none of them fails a run. Lost or doubled messages do. What is secret
//! comes by the environment: `JATIS_TOKEN`, an administrator's, and `DATABASE_URL` of that jatis.

mod api;
mod database;
mod latency;
mod load;
mod machine;
mod partitions;
mod report;
mod rows;

use std::{
    fs::File,
    io::{Write, stdout},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::{api::Api, database::Database, report::Report};

#[derive(Debug, Parser)]
#[command(name = "jatis-bench", version, about)]
struct Cli {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    what: What,
}

/// What is measured, and where.
#[derive(Debug, Args)]
struct Target {
    /// The API of jatis, http://host:port
    #[arg(long, global = true, default_value = "http://127.0.0.1:8080")]
    api: String,
    /// A process of what is measured, besides PostgreSQL on this host; its descendants count too
    #[arg(long = "process", global = true, value_name = "PID")]
    processes: Vec<u32>,
    /// Writes the figures here as well, as JSON
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Makes and deletes tenants while others are written to
    Partitions(partitions::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("jatis-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    match cli.what {
        What::Partitions(options) => runtime.block_on(measure_partitions(cli.target, options)),
    }
}

async fn measure_partitions(target: Target, options: partitions::Options) -> Result<ExitCode> {
    let api = Api::new(&target.api, &variable("JATIS_TOKEN")?)?;
    let database = Database::open(&variable("DATABASE_URL")?).await?;
    let seen = partitions::run(api, database, &target.processes, &options).await?;
    let report = Report::new(options, &seen);
    write!(stdout(), "{report}")?;
    if let Some(path) = target.json {
        let file =
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        serde_json::to_writer_pretty(file, &report)?;
    }
    Ok(if report.rows.are_right() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn variable(name: &str) -> Result<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "main is where the environment is read"
    )]
    let value = std::env::var(name);
    value.with_context(|| format!("cannot read {name} from the environment"))
}
