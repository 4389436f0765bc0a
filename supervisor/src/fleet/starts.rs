//! How many workers may be starting at a time, and when none may.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jatis_shared::{config::Supervision, retry::Backoff};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

use crate::random;

/// The start slots of all tenants.
#[derive(Debug)]
pub(super) struct Starts {
    /// `supervision.starts_in_flight` permits: one from before a spawn until the worker is
    /// confined, or gone.
    slots: Arc<Semaphore>,
    pause: Mutex<Pause>,
    backoff: Backoff,
}

/// The leave to start one worker; dropping it gives it back.
pub(super) type Slot = OwnedSemaphorePermit;

impl Starts {
    pub(super) fn new(keys: &Supervision) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(usize::from(keys.starts_in_flight))),
            pause: Mutex::new(Pause::default()),
            backoff: keys.backoff(),
        }
    }

    /// Waits for a slot, then until the host is given a new chance. `None` never comes while the
    /// fleet lives.
    pub(super) async fn slot(self: Arc<Self>) -> Option<Slot> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        loop {
            let until = self.pause().until;
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => sleep_until(until).await,
                None => return Some(slot),
            }
        }
    }

    /// A process was made.
    pub(super) fn succeeded(&self) {
        *self.pause() = Pause::default();
    }

    /// The host could not make a process: no start for a while. Gives the pause when it is a new
    /// one.
    pub(super) fn exhausted(&self, now: Instant) -> Option<Duration> {
        self.pause().lengthen(self.backoff, random::dice(), now)
    }

    fn pause(&self) -> MutexGuard<'_, Pause> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the next start may be tried.
#[derive(Debug, Default)]
struct Pause {
    until: Option<Instant>,
    failures: u32,
}

impl Pause {
    /// Those that fail while a pause lasts had begun before it, and do not lengthen it.
    fn lengthen(&mut self, backoff: Backoff, dice: u32, now: Instant) -> Option<Duration> {
        if self.until.is_some_and(|until| now < until) {
            return None;
        }
        let pause = backoff.jittered(self.failures, dice);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_that_fail_together_lengthen_the_pause_once() {
        let backoff = Backoff {
            min: Duration::from_millis(500),
            max: Duration::from_secs(60),
        };
        let (middle, now) = (u32::MAX / 2, Instant::now());
        let near = |pause: Option<Duration>, millis: u64| {
            pause.is_some_and(|pause| pause.abs_diff(Duration::from_millis(millis)).as_millis() < 1)
        };
        let mut pause = Pause::default();
        assert!(near(pause.lengthen(backoff, middle, now), 500));
        assert_eq!(pause.lengthen(backoff, middle, now), None);
        let later = now + Duration::from_secs(1);
        assert!(near(pause.lengthen(backoff, middle, later), 1000));
    }
}
