//! When the worker gives its next sign of life.

use std::time::{Duration, Instant};

/// The pulse of a worker. A beat that falls due while the supervisor has something unread is not
/// lost: it waits for that and no longer. Left out, it would be missed for a whole interval, and a
/// worker that reports stored messages in step with it would pass for dead.
#[derive(Debug)]
pub(crate) struct Pulse {
    due: Instant,
    interval: Duration,
}

impl Pulse {
    /// The first beat is due `now`.
    pub(crate) const fn new(now: Instant, interval: Duration) -> Self {
        Self { due: now, interval }
    }

    /// Somebody waits for the next beat.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.due = self.due.min(now);
    }

    /// Whether to beat now. `is_read`: the supervisor has read all there was.
    pub(crate) fn beat(&mut self, now: Instant, is_read: bool) -> bool {
        let beats = is_read && self.due <= now;
        if beats {
            self.due = now + self.interval;
        }
        beats
    }

    /// When to look again; `None` while only the supervisor can bring it on.
    pub(crate) fn wake(&self, is_read: bool) -> Option<Instant> {
        is_read.then_some(self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_that_meets_something_unread_comes_as_soon_as_that_is_read() {
        const INTERVAL: Duration = Duration::from_secs(2);
        let begin = tokio::time::Instant::now().into_std();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut pulse = Pulse::new(begin, INTERVAL);
        assert!(pulse.beat(begin, true));
        assert_eq!(pulse.wake(true), Some(at(2000)));
        assert!(!pulse.beat(at(1999), true), "it is not due");
        assert!(!pulse.beat(at(2000), false), "nobody would read it sooner");
        assert_eq!(pulse.wake(false), None, "no clock brings it on");
        assert!(pulse.beat(at(2001), true));
        assert_eq!(pulse.wake(true), Some(at(4001)));
        pulse.hurry(at(2500));
        assert!(pulse.beat(at(2500), true), "somebody waits for it");
        assert!(!pulse.beat(at(2501), true), "once");
    }
}
