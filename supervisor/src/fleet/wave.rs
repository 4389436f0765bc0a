//! Whether so many workers crash at once that the cause is none of theirs: a worker program that
//! is broken, a server that breaks them all.
//!
//! PURE: it reads no clock. Restarting them all at full speed would then only heat the host, and
//! drown in their starts the tenants that run.

use std::{collections::HashMap, time::Duration};

use jatis_shared::{config::Supervision, ids::TenantId};
use tokio::time::Instant;

/// The crashes of all tenants.
#[derive(Debug)]
pub(super) struct Wave {
    percent: usize,
    least: usize,
    window: Duration,
    pause: Duration,
    /// By tenant: its latest crash. Entries older than the window go when it is looked at.
    crashed: HashMap<TenantId, Instant>,
    /// When the next restart may begin while it is high.
    next: Option<Instant>,
    is_high: bool,
}

/// Whether a restart may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Go,
    Wait(Instant),
}

/// A change that a person should hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tide {
    Rose { crashed: usize },
    Fell,
}

impl Wave {
    pub(super) fn new(keys: &Supervision) -> Self {
        Self {
            percent: usize::from(keys.wave_percent),
            least: usize::from(keys.wave_tenants),
            window: keys.wave_window,
            pause: keys.wave_pause,
            crashed: HashMap::new(),
            next: None,
            is_high: false,
        }
    }

    /// A tenant's worker has crashed.
    pub(super) fn crashed(&mut self, tenant: TenantId, now: Instant) {
        self.crashed.insert(tenant, now);
    }

    /// How many tenants have crashed of late, while that is a wave.
    pub(super) fn height(&self) -> Option<usize> {
        self.is_high.then_some(self.crashed.len())
    }

    /// Looks how it stands among this many tenants; tells a change.
    pub(super) fn look(&mut self, tenants: usize, now: Instant) -> Option<Tide> {
        let window = self.window;
        self.crashed.retain(|_, at| now - *at <= window);
        let crashed = self.crashed.len();
        let is_high = crashed >= self.least && crashed * 100 > tenants * self.percent;
        let was_high = std::mem::replace(&mut self.is_high, is_high);
        match (was_high, is_high) {
            (false, true) => Some(Tide::Rose { crashed }),
            (true, false) => Some(Tide::Fell),
            (true, true) | (false, false) => None,
        }
    }

    /// Whether one restart may begin now; if so, the next one may after a pause.
    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        if !self.is_high {
            self.next = None;
            return Turn::Go;
        }
        match self.next.filter(|next| now < *next) {
            Some(next) => Turn::Wait(next),
            None => {
                self.next = Some(now + self.pause);
                Turn::Go
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jatis_shared::config::load;
    use uuid::Uuid;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn wave(crashed: u128, now: Instant) -> Wave {
        let config = load::defaults().expect("the defaults are a configuration");
        let mut wave = Wave::new(&config.supervision);
        for tenant in 0..crashed {
            // However often one crashes, it is one.
            for _ in 0..3 {
                wave.crashed(Uuid::from_u128(tenant).into(), now);
            }
        }
        wave
    }

    #[test]
    fn ten_tenants_and_more_than_a_fifth_of_all_are_a_wave() {
        for (crashed, tenants, is_high) in [
            (9, 9, false),
            (10, 10, true),
            (10, 49, true),
            (10, 50, false),
            (200, 1000, false),
            (201, 1000, true),
        ] {
            let now = Instant::now();
            let mut wave = wave(crashed, now);
            let tide = wave.look(tenants, now);
            assert_eq!(tide.is_some(), is_high, "{crashed} of {tenants}");
            assert_eq!(wave.height().is_some(), is_high, "{crashed} of {tenants}");
            assert_eq!(wave.look(tenants, now), None, "told once");
        }
    }

    #[test]
    fn while_it_is_high_two_restarts_a_second_may_begin() {
        let now = Instant::now();
        let mut wave = wave(20, now);
        assert_eq!(wave.look(20, now), Some(Tide::Rose { crashed: 20 }));
        assert_eq!(wave.turn(now), Turn::Go);
        let next = now + SECOND / 2;
        assert_eq!(wave.turn(now), Turn::Wait(next));
        assert_eq!(wave.turn(next), Turn::Go);
        assert_eq!(wave.turn(next), Turn::Wait(next + SECOND / 2));
        let calm = now + 31 * SECOND;
        assert_eq!(wave.look(20, calm), Some(Tide::Fell));
        assert_eq!([wave.turn(calm), wave.turn(calm)], [Turn::Go; 2]);
        assert_eq!(wave.height(), None);
    }
}
