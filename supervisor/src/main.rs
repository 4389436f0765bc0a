//! `jatis`: reads the process's arguments and environment, chooses the exit code, and leaves the
//! rest to the library.

use std::{collections::BTreeMap, io::stdout, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use jatis::cli::{Cli, ConfigVerb, Verb, config, serve, sources, token};

/// Threads of the supervisor's runtime: it moves bytes between sockets, and its processors belong
/// to the workers.
const RUNTIME_THREADS: usize = 2;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jatis: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    #[expect(
        clippy::disallowed_methods,
        reason = "main is where the environment is read"
    )]
    let env: BTreeMap<String, String> = std::env::vars().collect();
    let setup = sources::setup(&cli.sources, env)?;
    match cli.verb {
        Verb::Serve { welcome } => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(RUNTIME_THREADS)
                .enable_all()
                .build()
                .context("cannot start the runtime")?;
            runtime.block_on(serve::serve(setup, welcome))?;
        }
        Verb::Token(arguments) => token::print(&setup, &arguments, &mut stdout())?,
        Verb::Config(ConfigVerb::Check) => config::check(&setup, &mut stdout())?,
        Verb::Config(ConfigVerb::Show) => config::show(&setup, &mut stdout())?,
    }
    Ok(())
}
