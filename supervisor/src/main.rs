//! `jatis`: reads the process's arguments and environment, chooses the exit code, and leaves the
//! rest to the library.

use std::{collections::BTreeMap, io::stdout, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use jatis::cli::{Cli, ConfigVerb, Exit, Verb, config, migrate, openapi, serve, sources, token};
use tokio::runtime::Runtime;

/// Threads of the supervisor's runtime: it moves bytes between sockets, and its processors belong
/// to the workers.
const RUNTIME_THREADS: usize = 2;

fn main() -> ExitCode {
    let exit = run(Cli::parse()).unwrap_or_else(|error| {
        eprintln!("jatis: {error:#}");
        Exit::Failed
    });
    exit.code().into()
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    #[expect(
        clippy::disallowed_methods,
        reason = "main is where the environment is read"
    )]
    let env: BTreeMap<String, String> = std::env::vars().collect();
    let setup = || sources::setup(&cli.sources, env);
    match cli.verb {
        Verb::Serve { welcome } => runtime()?.block_on(serve::serve(setup()?, welcome))?,
        Verb::Migrate { check: false } => {
            return Ok(runtime()?.block_on(migrate::run(&setup()?, &mut stdout()))?);
        }
        Verb::Migrate { check: true } => {
            return Ok(runtime()?.block_on(migrate::check(&setup()?, &mut stdout()))?);
        }
        Verb::Token(arguments) => token::print(&setup()?, &arguments, &mut stdout())?,
        Verb::Config(ConfigVerb::Check) => config::check(&setup()?, &mut stdout())?,
        Verb::Config(ConfigVerb::Show) => config::show(&setup()?, &mut stdout())?,
        Verb::Openapi => openapi::print(&mut stdout())?,
    }
    Ok(Exit::Done)
}

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}
