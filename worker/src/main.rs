//! `jatis-worker`: one tenant's consumer and writer.
//!
//! Started by the supervisor, it takes its tenant's messages from the broker and stores them in
//! the tenant's partition. It knows what its spec tells it, on its stdin, and nothing else: it
//! reads no file and no environment, and listens nowhere.
//!
//! ```text
//!   main ── start in order ──▶ run (the reactor) · obey · control · signals · confine
//!
//!   RabbitMQ ⇄ link ⇄ broker ─▶ consume ─▶ batch ─▶ pool ─▶ insert ─▶ store ─▶ PostgreSQL
//!                       ▲                   pipeline │
//!                       └── settle ◀── disposition ◀─┘
//! ```
//!
//! `pipeline` is the state of that path. `batch`, `disposition`, `kept`, `pause`, `settle`,
//! `notices` and `pulse` decide or count and do nothing else. Only `link`, `broker` and `consume`
//! (and `pipeline`, which passes a delivery on) know the AMQP library; only `statements`,
//! `insert`, `store` and `params` know SQL. An acknowledgement is given in `settle`, after the
//! commit.

mod batch;
mod broker;
mod confine;
mod consume;
mod control;
mod disposition;
mod fingerprint;
mod insert;
mod kept;
mod link;
mod message;
mod notices;
mod obey;
mod orphan;
mod params;
mod pause;
mod pipeline;
mod pool;
mod probation;
mod pulse;
mod random;
mod run;
mod settle;
mod signals;
mod start;
mod statements;
mod store;

#[cfg(test)]
#[path = "../../docs/reference.rs"]
mod reference;
#[cfg(test)]
mod reference_tests;

use std::process;

use anyhow::Context;
use jatis_shared::exit::ExitCode;

fn main() -> process::ExitCode {
    match try_main() {
        Ok(exit) => process::ExitCode::from(exit.code()),
        Err(error) => {
            eprintln!("jatis-worker: {error:#}");
            process::ExitCode::FAILURE
        }
    }
}

fn try_main() -> anyhow::Result<ExitCode> {
    // Before anything else: until the handlers stand, a signal's default would end the process.
    signals::block().context("cannot block signals")?;
    let Ok(socket) = control::take_stdin() else {
        eprintln!("jatis-worker is started by jatis, not by hand");
        return Ok(ExitCode::BadSpec);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the reactor")?;
    let patience = orphan::Patience::default();
    orphan::watch(&socket, patience.clone()).context("cannot watch for the supervisor's end")?;
    let exit = runtime.block_on(start::work(socket, &patience));
    // Name lookups of the AMQP library may hang; nobody waits for them.
    runtime.shutdown_background();
    Ok(exit?)
}
