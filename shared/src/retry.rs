//! The arithmetic of trying again: a pause that doubles between two bounds, with jitter.

use std::time::Duration;

/// A pause that doubles from `min` to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub min: Duration,
    pub max: Duration,
}

impl Backoff {
    /// The pause before attempt `attempt` (0 is the first repetition), without jitter.
    #[must_use]
    pub fn pause(self, attempt: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempt.min(31)).unwrap_or(u32::MAX);
        self.min
            .saturating_mul(factor)
            .clamp(self.min, self.max.max(self.min))
    }

    /// The same pause moved by up to a fifth either way, so that many who failed together do not
    /// come back together. `dice` is any number; its whole range is used evenly.
    #[must_use]
    pub fn jittered(self, attempt: u32, dice: u32) -> Duration {
        let fifth = f64::from(dice) / f64::from(u32::MAX) * 0.4 - 0.2;
        self.pause(attempt).mul_f64(1.0 + fifth)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff {
        min: Duration::from_millis(500),
        max: Duration::from_secs(60),
    };

    #[test]
    fn a_pause_doubles_up_to_its_bound() {
        for (attempt, millis) in [
            (0, 500),
            (1, 1_000),
            (2, 2_000),
            (6, 32_000),
            (7, 60_000),
            (4_000_000_000, 60_000),
        ] {
            assert_eq!(
                BACKOFF.pause(attempt),
                Duration::from_millis(millis),
                "attempt {attempt}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_pause_never_shrinks_and_jitter_stays_within_a_fifth(attempt in 0_u32..100, dice: u32) {
            prop_assert!(BACKOFF.pause(attempt) <= BACKOFF.pause(attempt + 1));
            let (pause, jittered) = (BACKOFF.pause(attempt), BACKOFF.jittered(attempt, dice));
            prop_assert!(jittered >= pause.mul_f64(0.799) && jittered <= pause.mul_f64(1.201));
        }
    }
}
