//! The verbs, each carried out and answered.

use jatis_shared::{
    admin::{self, Answer, Level, MAX_ROWS, Refusal, Verb},
    ids::TenantId,
    schema::TenantState,
    telemetry::Chain,
};
use tokio::sync::{broadcast::error::RecvError, oneshot};
use tracing::debug;

use super::{
    Desk, Wish,
    session::{Caller, Gone, refused},
};
use crate::{
    directory::Known,
    error::Error,
    fleet::{Snapshot, StopLevel, Transition},
    tenancy::Outcome,
    vitals::Check,
};

/// Carries out a verb and tells the caller what came of it.
pub(super) async fn answer(caller: &mut Caller<'_>, verb: Verb) -> Result<(), Gone> {
    let desk = caller.desk();
    let answer = match verb {
        Verb::Status => Answer::Status(Box::new(desk.status().await)),
        Verb::Tenants => return tenants(caller).await,
        Verb::Events { follow, tenant } => return events(caller, follow, tenant).await,
        Verb::Show { tenant } => desk.shown(tenant),
        Verb::Start { tenant } | Verb::Resume { tenant } => {
            desk.came_to(tenant, desk.tenancy.start(tenant).await)
        }
        Verb::Stop { tenant } => desk.done(tenant, desk.tenancy.halt(tenant).await),
        Verb::Restart { tenant } => desk.came_to(tenant, desk.tenancy.restart(tenant).await),
        Verb::Release { tenant } => desk.came_to(tenant, desk.tenancy.release(tenant).await),
        Verb::Pause { tenant } => desk.came_to(tenant, desk.tenancy.pause(tenant).await),
        Verb::Resize { tenant, workers } => desk.resized(tenant, workers).await,
        Verb::Reload => desk.reloaded().await,
        Verb::Upgrade => desk.upgraded().await,
        Verb::Shutdown { level } => desk.stopped(level).await,
        Verb::Unknown => refused(Refusal::Unsupported, "this jatis does not know the command"),
    };
    caller.tell(answer).await
}

async fn tenants(caller: &mut Caller<'_>) -> Result<(), Gone> {
    let desk = caller.desk();
    let mut known = desk.tenancy.directory.all();
    known.sort_by_key(|known| u32::from(known.number));
    let mut chunks = known.chunks(MAX_ROWS).peekable();
    loop {
        let chunk = chunks.next().unwrap_or_default();
        let rows = chunk.iter().map(|known| desk.row(*known)).collect();
        let more = chunks.peek().is_some();
        caller.tell(Answer::Tenants { rows, more }).await?;
        if !more {
            return Ok(());
        }
    }
}

/// Tells what is remembered and, to a caller that follows, what happens.
async fn events(
    caller: &mut Caller<'_>,
    follow: bool,
    tenant: Option<TenantId>,
) -> Result<(), Gone> {
    let place = caller.desk().followers.try_acquire();
    if follow && place.is_err() {
        let answer = refused(Refusal::Refused, "as many follow events already as may");
        return caller.tell(answer).await;
    }
    let concerns = |event: &Transition| tenant.is_none_or(|tenant| tenant == event.tenant);
    let (past, mut news) = caller.desk().chronicle.read();
    let past: Vec<_> = past
        .iter()
        .filter(|event| concerns(event))
        .map(row)
        .collect();
    let mut chunks = past.chunks(MAX_ROWS).peekable();
    loop {
        let rows = chunks.next().unwrap_or_default().to_vec();
        let more = follow || chunks.peek().is_some();
        let missed = 0;
        caller.tell(Answer::Events { rows, missed, more }).await?;
        if chunks.peek().is_none() {
            break;
        }
    }
    if !follow {
        return Ok(());
    }
    loop {
        let next = tokio::select! {
            next = news.recv() => next,
            () = caller.hung_up() => return Ok(()),
        };
        let (rows, missed) = match next {
            Ok(event) if concerns(&event) => (vec![row(&event)], 0),
            Ok(_of_another) => continue,
            Err(RecvError::Lagged(missed)) => (Vec::new(), missed),
            Err(RecvError::Closed) => return Ok(()),
        };
        let more = true;
        caller.tell(Answer::Events { rows, missed, more }).await?;
    }
}

fn row(event: &Transition) -> admin::Event {
    admin::Event {
        at: event.at,
        tenant: event.tenant,
        pid: event.pid,
        generation: event.generation,
        from: event.from.as_str().to_owned(),
        to: event.to.as_str().to_owned(),
        cause: event.cause.clone(),
    }
}

impl Desk {
    async fn status(&self) -> admin::Status {
        let health = self.vitals.health().await;
        let checks = [
            ("database", health.database),
            ("broker", health.broker),
            ("supervision", health.supervision),
        ];
        let mut workers = std::collections::BTreeMap::new();
        for worker in self.tenancy.fleet.snapshots() {
            *workers.entry(worker.state.as_str().to_owned()).or_default() += 1;
        }
        admin::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: self.since,
            stage: self.stage.now().to_string(),
            http: format!("http://{}", self.http),
            checks: checks
                .map(|(part, check)| (part.to_owned(), word(check)))
                .into(),
            tenants: self.tenancy.directory.len(),
            workers,
        }
    }

    fn row(&self, known: Known) -> admin::Tenant {
        let worker = self.tenancy.fleet.snapshot(known.id);
        let status = self.tenancy.status_of(known.state, worker.as_ref());
        let ready = self.tenancy.depths.get(known.id);
        let last = worker.as_ref();
        let unacked = last.map_or(0, |last| last.unacked);
        admin::Tenant {
            id: known.id,
            wanted: known.state.as_str().to_owned(),
            status: status.as_str().to_owned(),
            state: last.map(|last| last.state.as_str().to_owned()),
            since: last.map(|last| last.since),
            waiting_for: last.and_then(|last| last.waiting_for),
            pid: last.and_then(|last| last.pid),
            generation: last.map_or(0, |last| last.generation),
            restarts: last.map_or(0, |last| last.restarts),
            workers: known.workers,
            threads: last.map(|last| last.threads).unwrap_or_default(),
            queue_depth: ready.map(|ready| ready + unacked),
            unacked,
            stored: last.map_or(0, |last| last.stored),
            last_exit: last.and_then(|last| last.last_exit.clone()),
        }
    }

    /// A tenant as it is now.
    fn shown(&self, tenant: TenantId) -> Answer {
        match self.tenancy.directory.get(tenant) {
            Some(known) => Answer::Tenants {
                rows: vec![self.row(known)],
                more: false,
            },
            None => refused(Refusal::NotFound, format!("there is no tenant {tenant}")),
        }
    }

    fn done<T>(&self, tenant: TenantId, outcome: Result<T, Error>) -> Answer {
        match outcome {
            Ok(_done) => self.shown(tenant),
            Err(error) => failed(&error),
        }
    }

    fn came_to(&self, tenant: TenantId, outcome: Result<Outcome, Error>) -> Answer {
        match outcome {
            Ok(Outcome::Done) => self.shown(tenant),
            Ok(Outcome::NotInTime) => {
                let last = self.tenancy.fleet.snapshot(tenant);
                let state = last.map_or("gone", |last| last.state.as_str());
                let detail = format!("it is wanted from now on; the worker of {tenant} is {state}");
                refused(Refusal::TimedOut, detail)
            }
            Ok(Outcome::NothingRuns) => refused(
                Refusal::Refused,
                format!("tenant {tenant} has no worker: it is stopped or being deleted"),
            ),
            Err(error) => failed(&error),
        }
    }

    fn is_stopped(&self, tenant: TenantId) -> bool {
        let known = self.tenancy.directory.get(tenant);
        known.is_some_and(|known| known.state == TenantState::Stopped)
    }

    async fn resized(&self, tenant: TenantId, workers: u16) -> Answer {
        let most = self.tenancy.config.worker.max_threads;
        if !(1..=most).contains(&workers) {
            let detail = format!("{workers} threads are not between 1 and {most}");
            return refused(Refusal::Refused, detail);
        }
        match self.tenancy.resize(tenant, workers).await {
            Ok(resized) if resized.applied_workers == workers => self.shown(tenant),
            // It takes effect when it is started.
            Ok(_) if self.is_stopped(tenant) => self.shown(tenant),
            Ok(resized) => refused(
                Refusal::TimedOut,
                format!(
                    "{workers} threads are wanted from now on; its worker has {}",
                    resized.applied_workers
                ),
            ),
            Err(error) => failed(&error),
        }
    }

    async fn reloaded(&self) -> Answer {
        let (reply, answer) = oneshot::channel();
        if self.wishes.send(Wish::Reload(reply)).await.is_err() {
            return failed(&Error::ShuttingDown);
        }
        match answer.await {
            Ok(Ok(reloaded)) => Answer::Reloaded(reloaded),
            Ok(Err(why)) => refused(Refusal::Refused, why),
            Err(_closed) => failed(&Error::ShuttingDown),
        }
    }

    async fn upgraded(&self) -> Answer {
        let (reply, answer) = oneshot::channel();
        if self.wishes.send(Wish::Upgrade(reply)).await.is_err() {
            return failed(&Error::ShuttingDown);
        }
        match answer.await {
            Ok(Ok(())) => Answer::Upgrading,
            Ok(Err(why)) => refused(Refusal::Refused, why),
            Err(_closed) => failed(&Error::ShuttingDown),
        }
    }

    async fn stopped(&self, level: Level) -> Answer {
        let level = match level {
            Level::Drain => StopLevel::Drain,
            Level::Fast => StopLevel::Fast,
            Level::Immediate => StopLevel::Immediate,
        };
        let (reply, answer) = oneshot::channel();
        if self.wishes.send(Wish::Stop(level, reply)).await.is_err() {
            return failed(&Error::ShuttingDown);
        }
        match answer.await {
            Ok(stopped) => Answer::Stopped(stopped),
            Err(_closed) => failed(&Error::ShuttingDown),
        }
    }
}

/// How the workers of these tenants left, since they stood like this.
#[must_use]
pub fn report(before: &[Snapshot], after: &[Snapshot]) -> admin::Stopped {
    let stored_before = |tenant| {
        let known = before.iter().find(|last| last.tenant == tenant);
        known.map_or(0, |last| last.stored)
    };
    let mut tenants: Vec<_> = after
        .iter()
        .map(|last| admin::Left {
            tenant: last.tenant,
            stored: last.stored.saturating_sub(stored_before(last.tenant)),
            requeued: last.requeued,
            exit: last.last_exit.clone(),
        })
        .collect();
    tenants.sort_by_key(|left| left.tenant.uuid());
    admin::Stopped { tenants }
}

/// Operators may know the cause, clients of the API may not.
fn failed(error: &Error) -> Answer {
    debug!(error = %Chain(error), "an operator's command was not carried out");
    let code = match error {
        Error::TenantNotFound(_) => Refusal::NotFound,
        Error::TenantExists(_)
        | Error::TenantDeleting(_)
        | Error::TenantGone(_)
        | Error::TenantNumbersExhausted
        | Error::MessageNotFound(_)
        | Error::MessagePending(_)
        | Error::Overloaded
        | Error::BrokerUnavailable(_)
        | Error::PublishUncertain { .. }
        | Error::DatabaseUnavailable(_)
        | Error::Internal(_)
        | Error::Starting
        | Error::NotInCharge(_)
        | Error::ShuttingDown => Refusal::Refused,
    };
    refused(code, Chain(error).to_string())
}

fn word(check: Check) -> String {
    match check {
        Check::Healthy => "healthy".to_owned(),
        Check::Degraded(why) => format!("degraded: {why}"),
        Check::Unhealthy(why) => format!("unhealthy: {why}"),
    }
}
