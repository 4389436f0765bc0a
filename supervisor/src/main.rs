//! `jatis`: reads the process's arguments and environment, chooses the exit code, and leaves the
//! rest to the library.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write, stderr, stdout},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use jatis::{
    cli::{
        Cli, ConfigVerb, Exit, OperatorArgs, Verb, config, migrate, openapi,
        operate::{self, Question, Teller},
        papers,
        serve::{self, Beginning},
        sources::{self, Setup},
        token,
    },
    signals::Gate,
    upgrade::{self, FLAG, Launch},
};
use jatis_shared::admin::Level;
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
    let has_colour = stdout().is_terminal() && env.get("NO_COLOR").is_none_or(String::is_empty);
    let setup = || sources::setup(&cli.sources, env.clone());
    let ask = |question: Question, operator: OperatorArgs| -> anyhow::Result<Exit> {
        let socket = operate::socket_of(&operator, || setup().map(|setup| setup.admin_socket()))?;
        let teller = Teller {
            out: &mut stdout().lock(),
            err: &mut stderr().lock(),
            json: operator.json,
            colour: has_colour,
        };
        let asking = operate::ask(&socket, question, teller);
        Ok(runtime()?.block_on(asking)?)
    };
    match cli.verb {
        Verb::Serve {
            handover_check: Some(version),
            ..
        } => {
            setup()?;
            let promise = upgrade::answer_check(version).map_err(anyhow::Error::msg)?;
            writeln!(stdout(), "{promise}")?;
        }
        Verb::Serve {
            welcome,
            handover,
            handover_check: None,
        } => run_service(setup()?, welcome, handover)?,
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
        Verb::Completions { shell } => papers::completions(shell, &mut stdout())?,
        Verb::Man { out } => papers::man(&out, &mut stdout())?,
        Verb::Status(operator) => return ask(Question::status(), operator),
        Verb::Tenants(operator) => return ask(Question::tenants(), operator),
        Verb::Workers(operator) => return ask(Question::workers(), operator),
        Verb::Tenant(verb) => {
            let (question, operator) = Question::of_tenant(verb);
            return ask(question, operator);
        }
        Verb::Events {
            follow,
            tenant,
            operator,
        } => return ask(Question::events(follow, tenant), operator),
        Verb::Reload(operator) => return ask(Question::reload(), operator),
        Verb::Upgrade(operator) => return ask(Question::upgrade(), operator),
        Verb::Drain(operator) => return ask(Question::shutdown(Level::Drain), operator),
        Verb::Stop {
            fast,
            immediate,
            operator,
        } => {
            let level = match (fast, immediate) {
                (_, true) => Level::Immediate,
                (true, false) => Level::Fast,
                (false, false) => Level::Drain,
            };
            return ask(Question::shutdown(level), operator);
        }
    }
    Ok(Exit::Done)
}

/// Serves in tasks, while this thread lets signals through: the only one that does, so that none is
/// lost when another image of this program takes over.
fn run_service(setup: Setup, welcome: bool, handover: bool) -> anyhow::Result<()> {
    let (mut gate, keeper) = Gate::closed().context("cannot block signals")?;
    let legacy = handover.then(upgrade::unpack).transpose()?;
    let arguments = std::env::args_os().skip(1);
    let launch = Launch {
        program: std::env::current_exe().context("the path of this program is not known")?,
        arguments: arguments.filter(|argument| argument != FLAG).collect(),
    };
    let beginning = Beginning {
        is_welcome: welcome && legacy.is_none(),
        launch,
        gate: keeper,
        legacy,
    };
    runtime()?.block_on(async {
        let serving = tokio::spawn(serve::serve(setup, beginning));
        gate.obey().await;
        Ok(serving.await??)
    })
}

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}
