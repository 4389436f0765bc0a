//! The time while the database is away: when to probe it, when to stop holding messages.
//!
//! A pause begins with a failure that is no message's fault, and ends when a probe succeeds.
//! Batches are kept over it. A long one gives every message back to the queue instead, once, so
//! that nothing lies in the memory of a worker that can do nothing with it.
//!
//! Pure: the clock comes in as an argument.

use std::time::Instant;

use jatis_shared::config::Worker;

/// A pause.
#[derive(Debug)]
pub(crate) struct Pause {
    since: Instant,
    /// Why, as known last.
    reason: String,
    /// Pauses in a row, this one and its failed probes included, since something was stored.
    failures: u32,
    probe: Probe,
    holding: Holding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// Left when a thread is handed the probe.
    Due(Instant),
    /// Left by its answer.
    Running,
}

/// What becomes of the messages held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holding {
    /// Kept. Left when the pause gets long.
    Kept,
    /// The consumer is being cancelled. Left when it is.
    Cancelling,
    /// Given back. Never left: the pause ends.
    Empty,
}

impl Pause {
    /// A pause that begins now, after `failures` others without anything stored in between.
    pub(crate) fn new(
        keys: &Worker,
        reason: String,
        now: Instant,
        failures: u32,
        dice: u32,
    ) -> Self {
        Self {
            since: now,
            reason,
            failures,
            probe: Probe::Due(now + keys.probe().jittered(failures, dice)),
            holding: Holding::Kept,
        }
    }

    pub(crate) const fn since(&self) -> Instant {
        self.since
    }

    pub(crate) fn is_probing(&self) -> bool {
        self.probe == Probe::Running
    }

    /// Whether a probe shall be handed out.
    pub(crate) fn wants_probe(&self, now: Instant) -> bool {
        matches!(self.probe, Probe::Due(at) if at <= now)
    }

    /// A thread probes.
    pub(crate) const fn probing(&mut self) {
        self.probe = Probe::Running;
    }

    /// The probe failed. Whether that was for another reason than was known.
    pub(crate) fn probe_failed(
        &mut self,
        keys: &Worker,
        reason: String,
        now: Instant,
        dice: u32,
    ) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.probe = Probe::Due(now + keys.probe().jittered(self.failures, dice));
        let is_news = self.reason != reason;
        self.reason = reason;
        is_news
    }

    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the consumer shall be cancelled now; true once.
    pub(crate) fn gives_up(&mut self, keys: &Worker, now: Instant) -> bool {
        let is_long = self.since + keys.requeue_after <= now;
        if self.holding == Holding::Kept && is_long {
            self.holding = Holding::Cancelling;
            return true;
        }
        false
    }

    /// The consumer is cancelled. Whether what is held shall be given back.
    pub(crate) fn cancelled(&mut self) -> bool {
        let waits = self.holding == Holding::Cancelling;
        if waits {
            self.holding = Holding::Empty;
        }
        waits
    }

    /// Whether the consumer must be started again when the pause ends.
    pub(crate) fn has_cancelled(&self) -> bool {
        self.holding != Holding::Kept
    }

    /// When to look again; without a free thread a probe waits for one, not for the clock.
    pub(crate) fn wake(&self, keys: &Worker, has_free_thread: bool) -> Option<Instant> {
        let give_up = (self.holding == Holding::Kept).then(|| self.since + keys.requeue_after);
        let probe = match self.probe {
            Probe::Due(at) => has_free_thread.then_some(at),
            Probe::Running => None,
        };
        give_up.into_iter().chain(probe).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn keys() -> Worker {
        let mut keys = jatis_shared::config::load::defaults()
            .expect("defaults")
            .worker;
        keys.probe_min = Duration::from_millis(100);
        keys.probe_max = Duration::from_secs(1);
        keys.requeue_after = Duration::from_secs(30);
        keys
    }

    #[test]
    fn probes_come_slower_and_slower() {
        let (keys, begin) = (keys(), tokio::time::Instant::now().into_std());
        // The middle of the dice is no jitter.
        let dice = u32::MAX / 2;
        let mut pause = Pause::new(&keys, String::new(), begin, 0, dice);
        let mut now = begin;
        for millis in [100, 200, 400, 800, 1_000, 1_000] {
            let (early, due) = (millis - 1, millis + 1);
            assert!(
                !pause.wants_probe(now + Duration::from_millis(early)),
                "{millis}"
            );
            now += Duration::from_millis(due);
            assert!(pause.wants_probe(now), "{millis}");
            pause.probing();
            assert!(pause.is_probing() && !pause.wants_probe(now), "{millis}");
            pause.probe_failed(&keys, String::new(), now, dice);
        }
        assert_eq!(pause.failures(), 6);
    }

    #[test]
    fn another_reason_is_news_once() {
        let (keys, begin) = (keys(), tokio::time::Instant::now().into_std());
        let mut pause = Pause::new(&keys, "lost".to_owned(), begin, 0, 0);
        for (reason, is_news) in [("lost", false), ("no TLS", true), ("no TLS", false)] {
            let told = pause.probe_failed(&keys, reason.to_owned(), begin, 0);
            assert_eq!(told, is_news, "{reason}");
        }
    }

    #[test]
    fn a_long_pause_cancels_and_gives_back_once() {
        let (keys, begin) = (keys(), tokio::time::Instant::now().into_std());
        let mut pause = Pause::new(&keys, String::new(), begin, 0, 0);
        let end = begin + keys.requeue_after;
        assert!(!pause.gives_up(&keys, end - Duration::from_millis(1)));
        assert!(!pause.cancelled() && !pause.has_cancelled());
        assert_eq!(pause.wake(&keys, false), Some(end));
        assert!(pause.gives_up(&keys, end) && !pause.gives_up(&keys, end));
        assert!(pause.cancelled() && !pause.cancelled() && pause.has_cancelled());
        assert_eq!(pause.wake(&keys, false), None);
    }
}
