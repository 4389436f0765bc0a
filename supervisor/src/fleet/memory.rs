//! What of a tenant's worker must outlive the supervisor.
//!
//! The lifecycle counts in instants, which mean nothing to the next process or after a reboot; what
//! is kept counts in times of day. Here one becomes the other.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::lifecycle::{Crashes, Lifecycle, Past};

/// How a tenant's workers have failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// When they crashed, oldest first: as many as the quarantine's windows ask for.
    pub crash_times: Vec<Timestamp>,
    /// When the present quarantine ends by itself.
    pub quarantined_until: Option<Timestamp>,
    /// Quarantines in a row.
    pub quarantines: u16,
    /// Messages that were alone in a worker when it crashed, and how often.
    pub suspects: BTreeMap<String, u16>,
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) instant: Instant,
    pub(super) time: Timestamp,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self {
            instant: Instant::now(),
            time: Timestamp::now(),
        }
    }

    /// A time of day that is out of reach counts as this moment.
    fn instant_of(self, time: Timestamp) -> Instant {
        let away = time.duration_since(self.time);
        let instant = if away.is_negative() {
            self.instant.checked_sub(away.unsigned_abs())
        } else {
            self.instant.checked_add(away.unsigned_abs())
        };
        instant.unwrap_or(self.instant)
    }

    fn time_of(self, instant: Instant) -> Timestamp {
        let ahead = SignedDuration::try_from(instant.saturating_duration_since(self.instant));
        let behind = SignedDuration::try_from(self.instant.saturating_duration_since(instant));
        let away = ahead.unwrap_or_default() - behind.unwrap_or_default();
        self.time.saturating_add(away).unwrap_or(self.time)
    }
}

impl Memory {
    /// What is to be kept of a tenant now.
    pub(super) fn of(
        lifecycle: &Lifecycle,
        suspects: BTreeMap<String, u16>,
        moment: Moment,
    ) -> Self {
        let crashes = lifecycle.crashes();
        Self {
            crash_times: crashes.times().map(|at| moment.time_of(at)).collect(),
            quarantined_until: lifecycle.quarantined_until().map(|at| moment.time_of(at)),
            quarantines: crashes.quarantines(),
            suspects,
        }
    }

    /// What a lifecycle begins with.
    pub(super) fn past(&self, starts: u64, moment: Moment) -> Past {
        // A crash later than now is one before the clock was set back.
        let times = self.crash_times.iter().map(|at| moment.instant_of(*at));
        let times = times.map(|at| at.min(moment.instant)).collect();
        Past {
            starts,
            crashes: Crashes::remembered(times, self.quarantines),
            quarantined_until: self.quarantined_until.map(|at| moment.instant_of(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_remembered_comes_back_as_long_ago_as_it_was() {
        let moment = Moment::now();
        let ago = |seconds: i64| moment.time - SignedDuration::from_secs(seconds);
        let memory = Memory {
            crash_times: vec![ago(90), ago(30)],
            quarantined_until: Some(ago(-600)),
            quarantines: 2,
            suspects: BTreeMap::new(),
        };
        let past = memory.past(3, moment);
        let now = moment.instant;
        let crashes: Vec<Instant> = past.crashes.times().collect();
        let second = Duration::from_secs(1);
        assert_eq!(crashes, [now - 90 * second, now - 30 * second]);
        assert_eq!(past.quarantined_until, Some(now + 600 * second));
        assert_eq!((past.starts, past.crashes.quarantines()), (3, 2));
        let times: Vec<Timestamp> = past.crashes.times().map(|at| moment.time_of(at)).collect();
        assert_eq!(times, memory.crash_times);
    }

    #[test]
    fn a_crash_in_the_future_is_one_of_just_now() {
        let moment = Moment::now();
        let memory = Memory {
            crash_times: vec![moment.time + SignedDuration::from_hours(1)],
            ..Memory::default()
        };
        let past = memory.past(0, moment);
        assert_eq!(past.crashes.times().next(), Some(moment.instant));
    }
}
