//! How often a worker has crashed, and when that is too often.
//!
//! Times, not counters: a counter would have to be told when to forget. What stands here outlives
//! the supervisor, or a restart of it would let loose every worker that it had shut away.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// More than so many crashes within so long are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fleet) struct Window {
    pub(in crate::fleet) crashes: u16,
    pub(in crate::fleet) within: Duration,
}

/// What a tenant's crashes have come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::fleet) struct Crashes {
    /// Oldest first; one more than the larger window may hold is all that is ever asked for.
    times: VecDeque<Instant>,
    /// An ending that counts half waits for another.
    half: bool,
    /// Quarantines since the last release or good run. Above 0 outside of one, the tenant is on
    /// trial.
    pub(super) quarantines: u16,
}

impl Crashes {
    /// What is remembered of earlier supervisors. `times` in any order.
    pub(in crate::fleet) fn remembered(mut times: Vec<Instant>, quarantines: u16) -> Self {
        times.sort_unstable();
        Self {
            times: times.into(),
            half: false,
            quarantines,
        }
    }

    /// When it crashed, oldest first.
    pub(in crate::fleet) fn times(&self) -> impl Iterator<Item = Instant> + '_ {
        self.times.iter().copied()
    }

    /// Quarantines in a row.
    pub(in crate::fleet) const fn quarantines(&self) -> u16 {
        self.quarantines
    }

    /// Counts a crash; says whether that is one too many.
    pub(super) fn crash(&mut self, windows: &[Window], now: Instant) -> bool {
        self.times.push_back(now);
        let longest = windows.iter().map(|window| window.within).max();
        let is_old = |at: &Instant| longest.is_none_or(|longest| now - *at > longest);
        let most = windows.iter().map(|window| usize::from(window.crashes) + 1);
        let most = most.max().unwrap_or_default();
        while self.times.front().is_some_and(is_old) || self.times.len() > most {
            self.times.pop_front();
        }
        windows.iter().any(|window| {
            let recent = self.times().filter(|at| now - *at <= window.within);
            recent.count() > usize::from(window.crashes)
        })
    }

    /// Counts half a crash; says whether it makes a whole one that is one too many.
    pub(super) fn half_crash(&mut self, windows: &[Window], now: Instant) -> bool {
        self.half = !self.half;
        !self.half && self.crash(windows, now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOWS: [Window; 2] = [
        Window {
            crashes: 5,
            within: Duration::from_mins(5),
        },
        Window {
            crashes: 10,
            within: Duration::from_mins(30),
        },
    ];

    /// Crashes at these pauses, in seconds; says which one is too many.
    fn too_many(pauses: impl IntoIterator<Item = u64>) -> Option<usize> {
        let (mut crashes, mut now) = (Crashes::default(), Instant::now());
        pauses.into_iter().position(|pause| {
            now += Duration::from_secs(pause);
            crashes.crash(&WINDOWS, now)
        })
    }

    #[test]
    fn the_sixth_crash_in_five_minutes_and_the_eleventh_in_thirty_are_too_many() {
        assert_eq!(too_many([0; 6]), Some(5));
        assert_eq!(too_many([60; 6]), Some(5));
        assert_eq!(too_many([61; 6]), None);
        assert_eq!(too_many([180; 11]), Some(10));
        assert_eq!(too_many([181; 20]), None);
    }

    #[test]
    fn two_halves_are_a_whole() {
        let (mut crashes, now) = (Crashes::default(), Instant::now());
        let one_too_many = (0..20).position(|_| crashes.half_crash(&WINDOWS, now));
        assert_eq!(one_too_many, Some(11));
    }

    proptest! {
        #[test]
        fn a_list_of_all_times_says_the_same(pauses in prop::collection::vec(0_u64..400, 0..60)) {
            let (mut crashes, mut now) = (Crashes::default(), Instant::now());
            let mut all = Vec::new();
            for pause in pauses {
                now += Duration::from_secs(pause);
                all.push(now);
                let naive = WINDOWS.iter().any(|window| {
                    let recent = all.iter().filter(|at| now - **at <= window.within);
                    recent.count() > usize::from(window.crashes)
                });
                prop_assert_eq!(crashes.crash(&WINDOWS, now), naive);
                prop_assert!(crashes.times.len() <= 11, "it grows without bound");
                let times = crashes.times().collect();
                prop_assert_eq!(&Crashes::remembered(times, 0), &crashes);
            }
        }
    }
}
