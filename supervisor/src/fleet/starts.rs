//! How many workers may be starting at a time, and when none may.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jatis_shared::{config::Supervision, ids::TenantId, retry::Backoff};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};
use tracing::{error, info};

use super::wave::{Tide, Turn, Wave};
use crate::random;

/// The start slots of all tenants.
#[derive(Debug)]
pub(super) struct Starts {
    /// `supervision.starts_in_flight` permits: one from before a spawn until the worker is
    /// confined, or gone.
    slots: Arc<Semaphore>,
    pause: Mutex<Pause>,
    wave: Mutex<Wave>,
    backoff: Backoff,
}

/// Whether a start is a tenant's first, in this supervisor's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    First,
    /// It has run before, so it takes part in a crash wave.
    Again,
}

/// The leave to start one worker; dropping it gives it back.
pub(super) type Slot = OwnedSemaphorePermit;

impl Starts {
    pub(super) fn new(keys: &Supervision) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(usize::from(keys.starts_in_flight))),
            pause: Mutex::new(Pause::default()),
            wave: Mutex::new(Wave::new(keys)),
            backoff: keys.backoff(),
        }
    }

    /// Waits for its turn in a crash wave, for a slot, then until the host is given a new chance.
    /// `None` never comes while the fleet lives.
    pub(super) async fn slot(self: Arc<Self>, occasion: Occasion) -> Option<Slot> {
        while let (Occasion::Again, Turn::Wait(until)) = (occasion, self.turn()) {
            sleep_until(until).await;
        }
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

    /// The worker of one of this many tenants has crashed.
    pub(super) fn crashed(&self, tenant: TenantId, tenants: usize, now: Instant) {
        let mut wave = self.wave();
        wave.crashed(tenant, now);
        tell(wave.look(tenants, now), tenants);
    }

    /// How many of this many tenants have crashed of late, while that is a crash wave.
    pub(super) fn crash_wave(&self, tenants: usize, now: Instant) -> Option<usize> {
        let mut wave = self.wave();
        tell(wave.look(tenants, now), tenants);
        wave.height()
    }

    fn turn(&self) -> Turn {
        self.wave().turn(Instant::now())
    }

    fn wave(&self) -> MutexGuard<'_, Wave> {
        self.wave.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pause(&self) -> MutexGuard<'_, Pause> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(tide: Option<Tide>, tenants: usize) {
    match tide {
        Some(Tide::Rose { crashed }) => error!(
            crashed,
            tenants,
            "crash wave: {crashed} of {tenants} workers have crashed together; restarts are slowed"
        ),
        Some(Tide::Fell) => info!("the crash wave is over; restarts go at full speed"),
        None => {}
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
