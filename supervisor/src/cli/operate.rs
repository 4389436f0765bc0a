//! The operator's commands: asks the running supervisor by its admin socket, and tells the answer.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use jatis_shared::{
    admin::{
        Answer, ClientCodec, Event, Level, Refusal, Reloaded, Request, Status, Stopped, Tenant,
        VERSION, Verb,
    },
    frames::FrameError,
};
use tokio::time::timeout;
use tokio_util::codec::Framed;

use super::{
    Exit, OneTenant, OperatorArgs, TenantVerb,
    table::{Cell, Table, perhaps},
};
use crate::admin::connect;

/// The longest that a supervisor may take for an answer, a stop of all workers among them.
const PATIENCE: Duration = Duration::from_mins(10);

/// Why there is no answer to tell.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    #[error("the answer makes no sense; is the supervisor of another version?")]
    Answer(#[source] FrameError),
    #[error("cannot print")]
    Print(#[from] io::Error),
    #[error("cannot print as JSON")]
    Json(#[from] serde_json::Error),
}

/// What is asked, and in which form the answer is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    verb: Verb,
    form: Form,
}

/// How rows of tenants are shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A row each: what a tenant is like.
    Tenants,
    /// A row each: what its process is like.
    Workers,
    /// One after the other, all there is.
    Whole,
}

impl Question {
    const fn new(verb: Verb) -> Self {
        let form = Form::Tenants;
        Self { verb, form }
    }

    /// How the supervisor is.
    #[must_use]
    pub const fn status() -> Self {
        Self::new(Verb::Status)
    }

    /// Every tenant.
    #[must_use]
    pub const fn tenants() -> Self {
        Self::new(Verb::Tenants)
    }

    /// Every tenant's worker.
    #[must_use]
    pub const fn workers() -> Self {
        Self {
            verb: Verb::Tenants,
            form: Form::Workers,
        }
    }

    /// The configuration read again.
    #[must_use]
    pub const fn reload() -> Self {
        Self::new(Verb::Reload)
    }

    /// The program that is there now, in place of the one that runs.
    #[must_use]
    pub const fn upgrade() -> Self {
        Self::new(Verb::Upgrade)
    }

    /// The end, at this level.
    #[must_use]
    pub const fn shutdown(level: Level) -> Self {
        Self::new(Verb::Shutdown { level })
    }

    /// What has happened, and happens.
    #[must_use]
    pub const fn events(follow: bool, tenant: Option<jatis_shared::ids::TenantId>) -> Self {
        Self::new(Verb::Events { follow, tenant })
    }

    /// Something with one tenant, and how to reach its supervisor.
    #[must_use]
    pub fn of_tenant(verb: TenantVerb) -> (Self, OperatorArgs) {
        let (verb, operator) = match verb {
            TenantVerb::Show(OneTenant { id, operator }) => (Verb::Show { tenant: id }, operator),
            TenantVerb::Start(OneTenant { id, operator }) => (Verb::Start { tenant: id }, operator),
            TenantVerb::Stop(OneTenant { id, operator }) => (Verb::Stop { tenant: id }, operator),
            TenantVerb::Restart(OneTenant { id, operator }) => {
                (Verb::Restart { tenant: id }, operator)
            }
            TenantVerb::Pause(OneTenant { id, operator }) => (Verb::Pause { tenant: id }, operator),
            TenantVerb::Resume(OneTenant { id, operator }) => {
                (Verb::Resume { tenant: id }, operator)
            }
            TenantVerb::Resize {
                id,
                workers,
                operator,
            } => (
                Verb::Resize {
                    tenant: id,
                    workers,
                },
                operator,
            ),
            TenantVerb::Release(OneTenant { id, operator }) => {
                (Verb::Release { tenant: id }, operator)
            }
        };
        let form = Form::Whole;
        (Self { verb, form }, operator)
    }
}

/// Where and how an answer is told.
pub struct Teller<'a, Out, Err> {
    pub out: &'a mut Out,
    pub err: &'a mut Err,
    pub json: bool,
    pub colour: bool,
}

/// Asks the supervisor at `socket`, and tells what it answers.
///
/// # Errors
/// When the answer makes no sense or cannot be told. That nobody answers is an [`Exit`].
pub async fn ask<Out: Write, Err: Write>(
    socket: &Path,
    question: Question,
    mut teller: Teller<'_, Out, Err>,
) -> Result<Exit, OperateError> {
    let stream = match connect(socket).await {
        Ok(stream) => stream,
        Err(error) => {
            let socket = socket.display();
            if error.kind() == io::ErrorKind::PermissionDenied {
                writeln!(teller.err, "jatis: this user may not use {socket}")?;
                return Ok(Exit::Refused);
            }
            writeln!(
                teller.err,
                "jatis: no supervisor answers at {socket}: {error}"
            )?;
            return Ok(Exit::Unreached);
        }
    };
    let Question { verb, form } = question;
    let mut conversation = Framed::new(stream, ClientCodec::default());
    let follows = matches!(verb, Verb::Events { follow: true, .. });
    let request = Request { v: VERSION, verb };
    conversation
        .send(&request)
        .await
        .map_err(OperateError::Answer)?;
    let mut rows = Vec::new();
    let patience = if follows { Duration::MAX } else { PATIENCE };
    while let Some(reply) = within(patience, conversation.next(), &mut teller).await? {
        match reply.map_err(OperateError::Answer)?.answer {
            Answer::Tenants { rows: next, more } => {
                rows.extend(next);
                if !more {
                    teller.tenants(&rows, form)?;
                    return Ok(Exit::Done);
                }
            }
            Answer::Events { rows, missed, more } => {
                teller.events(&rows, missed)?;
                if !more {
                    return Ok(Exit::Done);
                }
            }
            Answer::Refused { code, detail } => return teller.refused(code, &detail),
            Answer::Status(status) => return teller.status(&status),
            Answer::Reloaded(reloaded) => return teller.reloaded(&reloaded),
            Answer::Stopped(stopped) => return teller.stopped(&stopped),
            Answer::Upgrading => return teller.upgrading(),
            Answer::Unknown => {
                writeln!(teller.err, "jatis: the supervisor is of a later version")?;
                return Ok(Exit::Failed);
            }
        }
    }
    writeln!(
        teller.err,
        "jatis: the supervisor hung up before it answered"
    )?;
    Ok(Exit::Unreached)
}

/// Waits for a part of the answer; none when the supervisor has hung up or is mute.
async fn within<T, Out: Write, Err: Write>(
    patience: Duration,
    next: impl Future<Output = Option<T>>,
    teller: &mut Teller<'_, Out, Err>,
) -> Result<Option<T>, OperateError> {
    match timeout(patience, next).await {
        Ok(reply) => Ok(reply),
        Err(_elapsed) => {
            writeln!(teller.err, "jatis: no answer within {patience:?}")?;
            Ok(None)
        }
    }
}

/// The socket that was named, or the one of the configuration.
///
/// # Errors
/// What `configured` says.
pub fn socket_of<E>(
    operator: &OperatorArgs,
    configured: impl FnOnce() -> Result<PathBuf, E>,
) -> Result<PathBuf, E> {
    operator.socket.clone().map_or_else(configured, Ok)
}

impl<Out: Write, Err: Write> Teller<'_, Out, Err> {
    fn json(&mut self, value: &impl serde::Serialize) -> Result<(), OperateError> {
        serde_json::to_writer(&mut *self.out, value)?;
        writeln!(self.out)?;
        self.out.flush()?;
        Ok(())
    }

    fn status(&mut self, status: &Status) -> Result<Exit, OperateError> {
        if self.json {
            self.json(status)?;
            return Ok(Exit::Done);
        }
        let Status {
            version,
            pid,
            since,
            stage,
            http,
            checks,
            tenants,
            workers,
        } = status;
        let mut table = Table::new(&["jatis", ""]);
        table.row(vec!["stage".into(), Cell::word(stage)]);
        table.row(vec!["version".into(), version.into()]);
        table.row(vec!["pid".into(), pid.into()]);
        table.row(vec!["since".into(), since.into()]);
        table.row(vec!["API".into(), http.into()]);
        for (part, check) in checks {
            table.row(vec![part.into(), Cell::word(check)]);
        }
        table.row(vec!["tenants".into(), tenants.into()]);
        for (state, count) in workers {
            table.row(vec![Cell::word(state), count.into()]);
        }
        table.print(self.out, self.colour)?;
        Ok(Exit::Done)
    }

    fn tenants(&mut self, rows: &[Tenant], form: Form) -> Result<(), OperateError> {
        match (self.json, form, rows) {
            (true, Form::Whole, [tenant]) => self.json(tenant),
            (true, _, rows) => self.json(&rows),
            (false, Form::Whole, rows) => rows.iter().try_for_each(|row| self.whole(row)),
            (false, Form::Tenants, rows) => {
                let mut table = Table::new(&[
                    "TENANT",
                    "WANTED",
                    "STATUS",
                    "STATE",
                    "THREADS",
                    "QUEUE",
                    "STORED",
                    "RESTARTS",
                    "LAST EXIT",
                ]);
                for row in rows {
                    table.row(vec![
                        row.id.into(),
                        (&row.wanted).into(),
                        Cell::word(&row.status),
                        row.state.as_ref().map_or_else(|| "-".into(), Cell::word),
                        format!("{}/{}", row.threads.live, row.workers).into(),
                        perhaps(row.queue_depth),
                        row.stored.into(),
                        row.restarts.into(),
                        perhaps(row.last_exit.as_ref()),
                    ]);
                }
                Ok(table.print(self.out, self.colour)?)
            }
            (false, Form::Workers, rows) => {
                let mut table = Table::new(&[
                    "TENANT",
                    "PID",
                    "STATE",
                    "SINCE",
                    "THREADS",
                    "BUSY",
                    "UNACKED",
                    "STORED",
                    "WAITS FOR",
                ]);
                for row in rows.iter().filter(|row| row.state.is_some()) {
                    table.row(vec![
                        row.id.into(),
                        perhaps(row.pid),
                        row.state.as_ref().map_or_else(|| "-".into(), Cell::word),
                        perhaps(row.since),
                        row.threads.live.into(),
                        row.threads.busy.into(),
                        row.unacked.into(),
                        row.stored.into(),
                        perhaps(
                            row.waiting_for
                                .map(|what| format!("{what:?}").to_lowercase()),
                        ),
                    ]);
                }
                Ok(table.print(self.out, self.colour)?)
            }
        }
    }

    fn whole(&mut self, row: &Tenant) -> Result<(), OperateError> {
        let mut table = Table::new(&["tenant", ""]);
        for (name, cell) in [
            ("id", row.id.into()),
            ("wanted", (&row.wanted).into()),
            ("status", Cell::word(&row.status)),
            (
                "state",
                row.state.as_ref().map_or_else(|| "-".into(), Cell::word),
            ),
            ("since", perhaps(row.since)),
            (
                "waits for",
                perhaps(
                    row.waiting_for
                        .map(|what| format!("{what:?}").to_lowercase()),
                ),
            ),
            ("pid", perhaps(row.pid)),
            ("generation", row.generation.into()),
            ("restarts", row.restarts.into()),
            ("last exit", perhaps(row.last_exit.as_ref())),
            ("threads wanted", row.workers.into()),
            ("threads", row.threads.live.into()),
            ("threads busy", row.threads.busy.into()),
            ("queue", perhaps(row.queue_depth)),
            ("unacked", row.unacked.into()),
            ("stored", row.stored.into()),
        ] {
            table.row(vec![name.into(), cell]);
        }
        Ok(table.print(self.out, self.colour)?)
    }

    fn events(&mut self, rows: &[Event], missed: u64) -> Result<(), OperateError> {
        if missed > 0 {
            writeln!(self.err, "jatis: {missed} events came too fast to be told")?;
        }
        for event in rows {
            if self.json {
                self.json(event)?;
                continue;
            }
            let Event {
                at,
                tenant,
                pid,
                generation,
                from,
                to,
                cause,
            } = event;
            let pid = pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            writeln!(
                self.out,
                "{at} {tenant} pid {pid} generation {generation}: {from} → {to}, {cause}"
            )?;
        }
        Ok(self.out.flush()?)
    }

    fn reloaded(&mut self, reloaded: &Reloaded) -> Result<Exit, OperateError> {
        if self.json {
            self.json(reloaded)?;
            return Ok(Exit::Done);
        }
        if reloaded.applied.is_empty() && reloaded.needs_restart.is_empty() {
            writeln!(self.out, "nothing has changed")?;
        }
        for key in &reloaded.applied {
            writeln!(self.out, "{key} is in force")?;
        }
        for key in &reloaded.needs_restart {
            writeln!(self.out, "{key} needs a restart")?;
        }
        Ok(Exit::Done)
    }

    fn upgrading(&mut self) -> Result<Exit, OperateError> {
        if self.json {
            self.json(&serde_json::json!({"upgrading": true}))?;
        } else {
            writeln!(self.out, "the new program takes over")?;
        }
        Ok(Exit::Done)
    }

    fn stopped(&mut self, stopped: &Stopped) -> Result<Exit, OperateError> {
        if self.json {
            self.json(stopped)?;
            return Ok(Exit::Done);
        }
        let mut table = Table::new(&["TENANT", "STORED", "GIVEN BACK", "EXIT"]);
        for left in &stopped.tenants {
            table.row(vec![
                left.tenant.into(),
                left.stored.into(),
                perhaps(left.requeued),
                perhaps(left.exit.as_ref()),
            ]);
        }
        table.print(self.out, self.colour)?;
        Ok(Exit::Done)
    }

    fn refused(&mut self, code: Refusal, detail: &str) -> Result<Exit, OperateError> {
        writeln!(self.err, "jatis: {detail}")?;
        Ok(match code {
            Refusal::TimedOut => Exit::TimedOut,
            Refusal::Forbidden | Refusal::NotFound | Refusal::Refused | Refusal::Unsupported => {
                Exit::Refused
            }
        })
    }
}
