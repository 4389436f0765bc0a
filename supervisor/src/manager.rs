//! What the service manager is told: sd_notify(3), if there is one that listens.
//!
//! ```text
//!   READY ── STATUS … ── RELOADING, READY ── STOPPING        WATCHDOG all along
//! ```
//!
//! The watchdog is fed from what has to move: the loop that hears signals, the thread that starts
//! processes, and, one after the other, the tasks that mind workers. Each is asked and must answer
//! in time; a timer alone would feed it for a jatis that hangs. The API is not among them: whoever
//! can use up its connections could have jatis killed.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tracing::{debug, warn};

use crate::{
    admin::Wish,
    fleet::{Fleet, Snapshot, Status},
    stage::{Stage, StageWatch},
};

/// How often it is looked whether there is something to tell.
const LOOK: Duration = Duration::from_secs(1);
/// A changed status is told this often at most, and more time is asked for this often.
const TELL: Duration = Duration::from_secs(5);
/// Time that is asked for each time; a start or stop that does not get on for as long is not given
/// any more.
const EXTENSION: Duration = Duration::from_secs(15);

/// Tells the service manager.
pub struct Manager {
    stage: StageWatch,
    fleet: Fleet,
    wishes: mpsc::Sender<Wish>,
    told: Told,
}

/// What has been told.
#[derive(Debug, Default)]
struct Told {
    is_ready: bool,
    status: String,
    status_at: Option<Instant>,
    extended_at: Option<Instant>,
    /// What everything looked like when it last looked different, and when that was.
    progress: Option<(u64, Instant)>,
}

/// What is to be told now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tidings {
    ready: bool,
    status: Option<String>,
    extend: bool,
}

impl Manager {
    /// `wishes`: the way to the loop that hears signals.
    #[must_use]
    pub fn new(stage: StageWatch, fleet: Fleet, wishes: mpsc::Sender<Wish>) -> Self {
        let told = Told::default();
        Self {
            stage,
            fleet,
            wishes,
            told,
        }
    }

    /// Tells what there is to tell, for ever. Returns at once where nobody listens.
    ///
    /// Cancel-safe.
    pub async fn run(mut self, listens: bool) {
        if !listens {
            return;
        }
        let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 3);
        let mut look = interval(LOOK);
        let mut feed = interval(watchdog.unwrap_or(Duration::MAX / 4));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        feed.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut nth = 0;
        loop {
            tokio::select! {
                _ = look.tick() => self.look(),
                _ = feed.tick(), if watchdog.is_some() => {
                    let within = watchdog.unwrap_or(LOOK);
                    match timeout(within, self.moves(nth)).await {
                        Ok(true) => notify(&[NotifyState::Watchdog]),
                        Ok(false) => warn!("the watchdog is not fed: the thread that starts processes is gone"),
                        Err(_elapsed) => warn!("the watchdog is not fed: something does not answer in time"),
                    }
                    nth += 1;
                }
            }
        }
    }

    fn look(&mut self) {
        let (stage, workers) = (self.stage.now(), self.fleet.snapshots());
        let tidings = self.told.tidings(&stage, &workers, Instant::now());
        let mut states = Vec::new();
        if tidings.ready {
            states.push(NotifyState::Ready);
        }
        if let Some(status) = &tidings.status {
            states.push(NotifyState::Status(status));
        }
        if tidings.extend {
            let micros = u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX);
            states.push(NotifyState::ExtendTimeoutUsec(micros));
        }
        if !states.is_empty() {
            notify(&states);
        }
    }

    /// Waits until everything has moved that must; false when a part of it is gone.
    async fn moves(&self, nth: usize) -> bool {
        let (reply, answer) = oneshot::channel();
        if self.wishes.send(Wish::Ping(reply)).await.is_ok() && answer.await.is_err() {
            return false;
        }
        self.fleet.roll_call(nth).await
    }
}

/// The configuration is being read again; [`reloaded`] must follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "the clock cannot be read for the service manager"),
    }
}

/// The configuration was read again, or not: jatis goes on.
pub fn reloaded() {
    notify(&[NotifyState::Ready]);
}

/// jatis has begun to stop.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the service manager does not hear");
    }
}

impl Told {
    fn tidings(&mut self, stage: &Stage, workers: &[Snapshot], now: Instant) -> Tidings {
        let gets_on = self.gets_on(stage, workers, now);
        let is_up = match stage {
            Stage::Serving | Stage::Waiting(_) => true,
            // One that waits for its servers is up, and says that it waits; starting it again would
            // not bring them back.
            Stage::Starting(_) => !gets_on,
            Stage::Stopping => false,
        };
        let changes = match stage {
            Stage::Starting(_) | Stage::Stopping => true,
            Stage::Serving | Stage::Waiting(_) => false,
        };
        let ready = is_up && !self.is_ready;
        self.is_ready |= is_up;
        let is_due = |at: Option<Instant>| at.is_none_or(|at| now - at >= TELL);
        let extend = changes && gets_on && is_due(self.extended_at);
        if extend {
            self.extended_at = Some(now);
        }
        let text = text(stage, workers);
        let is_news = self.status != text && (ready || is_due(self.status_at));
        if is_news {
            self.status.clone_from(&text);
            self.status_at = Some(now);
        }
        Tidings {
            ready,
            status: is_news.then_some(text),
            extend,
        }
    }

    /// Whether anything has changed of late.
    fn gets_on(&mut self, stage: &Stage, workers: &[Snapshot], now: Instant) -> bool {
        let seen = outline(stage, workers);
        match self.progress {
            Some((before, since)) if before == seen => now - since < EXTENSION,
            _ => {
                self.progress = Some((seen, now));
                true
            }
        }
    }
}

/// A number that changes when something gets on.
fn outline(stage: &Stage, workers: &[Snapshot]) -> u64 {
    let mut hasher = DefaultHasher::new();
    stage.to_string().hash(&mut hasher);
    for worker in workers {
        worker.tenant.uuid().hash(&mut hasher);
        worker.state.as_str().hash(&mut hasher);
        (worker.generation, worker.in_flight, worker.stored).hash(&mut hasher);
    }
    hasher.finish()
}

fn text(stage: &Stage, workers: &[Snapshot]) -> String {
    let count = |status| {
        let have = workers.iter().filter(|worker| worker.status() == status);
        have.count()
    };
    let all = workers.len();
    match stage {
        Stage::Serving => {
            let mut text = format!("serving; {} of {all} workers run", count(Status::Running));
            for (status, word) in [
                (Status::Paused, "paused"),
                (Status::Backoff, "restarting"),
                (Status::Failed, "failed"),
            ] {
                if count(status) > 0 {
                    text.push_str(&format!(", {} {word}", count(status)));
                }
            }
            text
        }
        Stage::Stopping => format!("stopping; {all} workers have not left yet"),
        Stage::Starting(_) | Stage::Waiting(_) => stage.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn starting() -> Stage {
        Stage::Starting("the database is not available".to_owned())
    }

    #[test]
    fn it_is_ready_when_it_serves_and_says_so_once() {
        let (mut told, now) = (Told::default(), Instant::now());
        let first = told.tidings(&starting(), &[], now);
        assert!(!first.ready && first.extend && first.status.is_some());
        let serving = told.tidings(&Stage::Serving, &[], now + SECOND);
        assert!(serving.ready && !serving.extend);
        assert_eq!(
            serving.status.as_deref(),
            Some("serving; 0 of 0 workers run")
        );
        let again = told.tidings(&Stage::Serving, &[], now + 2 * SECOND);
        assert_eq!(again, Tidings::default());
        let stopping = told.tidings(&Stage::Stopping, &[], now + 10 * SECOND);
        assert!(stopping.extend && !stopping.ready);
        let again = told.tidings(&Stage::Stopping, &[], now + 11 * SECOND);
        assert_eq!(again, Tidings::default());
    }

    #[test]
    fn one_that_waits_for_its_servers_is_up_after_a_while() {
        let (mut told, start) = (Told::default(), Instant::now());
        let mut extensions = 0;
        for second in 0..15 {
            let tidings = told.tidings(&starting(), &[], start + second * SECOND);
            assert!(!tidings.ready, "{second}");
            extensions += u32::from(tidings.extend);
        }
        assert_eq!(extensions, 3, "every five seconds");
        let up = told.tidings(&starting(), &[], start + 15 * SECOND);
        assert!(up.ready && !up.extend);
    }

    #[test]
    fn no_more_time_is_asked_for_by_a_stop_that_does_not_get_on() {
        let (mut told, start) = (Told::default(), Instant::now());
        assert!(told.tidings(&Stage::Stopping, &[], start).extend);
        let late = told.tidings(&Stage::Stopping, &[], start + 20 * SECOND);
        assert!(!late.extend);
    }
}
