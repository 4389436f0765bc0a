//! How jatis is: the checks behind `/health`, and the numbers that only looking brings up to date.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jatis_shared::ids::{Mint, TICKS_PER_SECOND, TenantId, ticks};
use jiff::{SignedDuration, Timestamp};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    broker::LinkState,
    fleet::{Snapshot, StateName, Status},
    stage::{Stage, StageWatch},
    tenancy::Tenancy,
};

/// A mint this far ahead of the clock tells that the clock was set back.
const MINT_AHEAD: Duration = Duration::from_secs(60);
/// A deleted tenant's partition that is still there after this long needs a person.
const LONG_DELETION: SignedDuration = SignedDuration::from_hours(1);

/// How jatis is, at this moment.
#[derive(Debug, Clone)]
pub struct Health {
    pub database: Check,
    pub broker: Check,
    pub supervision: Check,
    pub readiness: Readiness,
}

/// How one part is. The text is for strangers: no host, no SQL, no path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    Healthy,
    /// It serves, but not everybody or not as it should.
    Degraded(String),
    Unhealthy(String),
}

/// Whether jatis takes traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Not everything that serves has come up; the text says what it waits for.
    Starting(String),
    /// It is going down.
    Draining,
    /// Another supervisor serves this installation; the text says which.
    NotInCharge(String),
}

/// What is looked at.
#[derive(Clone)]
pub struct Vitals {
    pub tenancy: Tenancy,
    pub mint: Arc<Mint>,
    pub stage: StageWatch,
}

impl Vitals {
    /// The state of every part, within `database.connect_timeout`.
    pub async fn health(&self) -> Health {
        Health {
            database: self.database().await,
            broker: self.broker(),
            supervision: self.supervision(),
            readiness: self.readiness(),
        }
    }

    async fn database(&self) -> Check {
        let limit = self.tenancy.config.database.connect_timeout;
        let silence = match timeout(limit, self.tenancy.db.ping()).await {
            Ok(Ok(())) => return self.deletions(),
            Ok(Err(_)) => "the database does not answer",
            Err(_elapsed) => "the database does not answer in time",
        };
        Check::Unhealthy(match self.tenancy.db.tls_fault() {
            Some(fault) => format!("no TLS with the database: {fault}"),
            None => silence.to_owned(),
        })
    }

    fn deletions(&self) -> Check {
        let backlog = self.tenancy.janitor.backlog();
        let is_long = |since: Timestamp| Timestamp::now().duration_since(since) > LONG_DELETION;
        if backlog.since.is_some_and(is_long) {
            return Check::Degraded(format!(
                "{} deleted tenants wait for an open reader to end",
                backlog.tenants
            ));
        }
        Check::Healthy
    }

    fn broker(&self) -> Check {
        match &*self.tenancy.broker.watch().borrow() {
            LinkState::Up { .. } => Check::Healthy,
            LinkState::Blocked { .. } => {
                Check::Unhealthy("the broker takes no messages".to_owned())
            }
            LinkState::Down { tls_fault, .. } => Check::Unhealthy(match tls_fault {
                Some(fault) => format!("no TLS with the broker: {fault}"),
                None => "there is no connection to the broker".to_owned(),
            }),
        }
    }

    fn supervision(&self) -> Check {
        match self.stage.now() {
            Stage::Serving => {}
            Stage::Starting(why) => return Check::Unhealthy(why),
            Stage::Waiting(_) => {
                return Check::Unhealthy("another supervisor is in charge".to_owned());
            }
            Stage::Stopping => return Check::Unhealthy("stopping".to_owned()),
        }
        let snapshots = self.tenancy.fleet.snapshots();
        let count = |status| {
            snapshots
                .iter()
                .filter(|worker| worker.status() == status)
                .count()
        };
        let all = snapshots.len();
        if let Some(crashed) = self.tenancy.fleet.crash_wave() {
            return Check::Degraded(format!(
                "crash wave: {crashed} of {all} workers have crashed together; restarts are slowed"
            ));
        }
        let (failed, resting) = (count(Status::Failed), count(Status::Backoff));
        if failed + resting > 0 {
            return Check::Degraded(format!(
                "of {all} workers {failed} have failed and {resting} are being restarted"
            ));
        }
        let latest =
            ticks(Timestamp::now()).saturating_add(MINT_AHEAD.as_secs() * TICKS_PER_SECOND);
        if self.mint.last() > latest {
            return Check::Degraded(
                "message ids run ahead of the clock, which was set back".to_owned(),
            );
        }
        Check::Healthy
    }

    fn readiness(&self) -> Readiness {
        match self.stage.now() {
            Stage::Starting(why) => Readiness::Starting(why),
            Stage::Waiting(who) => Readiness::NotInCharge(who),
            Stage::Serving => Readiness::Ready,
            Stage::Stopping => Readiness::Draining,
        }
    }

    /// Looks every `supervision.depth_interval`, until `over`.
    pub async fn observe(&self, over: &CancellationToken) {
        let mut timer = interval(self.tenancy.config.supervision.depth_interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while over.run_until_cancelled(timer.tick()).await.is_some() {
            if over.run_until_cancelled(self.look()).await.is_none() {
                return;
            }
        }
    }

    async fn look(&self) {
        let Tenancy {
            broker,
            directory,
            depths,
            fleet,
            metrics,
            progress,
            ..
        } = &self.tenancy;
        let epoch = broker.watch().borrow().epoch();
        let mut asked = Vec::new();
        // A queue that is not there costs a channel, and while many are asked for some come or go.
        let tenants = directory
            .all()
            .into_iter()
            .map(|known| known.id)
            .filter(|tenant| epoch.is_some_and(|epoch| progress.has_queue(*tenant, epoch)))
            .inspect(|tenant| asked.push(*tenant));
        match broker.depths(tenants).await {
            Ok(ready) => {
                let told: HashSet<TenantId> = ready.iter().map(|(tenant, _)| *tenant).collect();
                // Nobody else notices if the worker is paused.
                for tenant in asked.iter().filter(|tenant| !told.contains(tenant)) {
                    progress.undeclared(*tenant);
                }
                depths.replace(ready);
            }
            Err(error) => debug!(%error, "the depths of queues are not known"),
        }
        let snapshots = fleet.snapshots();
        for Snapshot {
            tenant,
            threads,
            unacked,
            last_tick,
            ..
        } in &snapshots
        {
            metrics.set_workers(*tenant, threads.live);
            if let Some(ready) = depths.get(*tenant) {
                metrics.set_depth(*tenant, ready + unacked);
            }
            // What a worker has minted must outlive this supervisor like what it minted itself.
            self.mint.raise(*last_tick);
        }
        let count =
            |is: &dyn Fn(&Snapshot) -> bool| snapshots.iter().filter(|last| is(last)).count();
        for state in StateName::ALL {
            metrics.set_state(state, count(&|last| last.state == state));
        }
        let job = self.tenancy.config.worker.job_timeout;
        metrics.set_stuck(count(&|last| last.oldest_busy > job));
        metrics.set_crash_wave(fleet.crash_wave().unwrap_or_default());
        metrics.set_active_tenants(
            snapshots
                .iter()
                .filter(|worker| worker.status() == Status::Running)
                .count(),
        );
    }
}
