//! How long a worker rests before it is started again.

use std::time::Duration;

use jatis_shared::retry::Backoff;

use crate::fleet::process::Blame;

/// The least pause after an exit that nobody asked for and that is no failure: somebody sent the
/// worker a SIGTERM.
const CLEAN_EXIT_PAUSE: Duration = Duration::from_secs(1);

/// Failures in a row, which the pause grows by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Failures(u32);

impl Failures {
    pub(super) const NONE: Self = Self(0);

    /// The pause after a further ending; counts it if it is a failure.
    pub(super) fn pause(&mut self, blame: Blame, backoff: Backoff, dice: u32) -> Duration {
        // The one after the latest failure: what does not count does not shorten it either.
        let latest = backoff.jittered(self.0.saturating_sub(1), dice);
        match blame {
            Blame::Nobody => latest,
            Blame::Clean => latest.max(CLEAN_EXIT_PAUSE),
            Blame::Crash => {
                let pause = backoff.jittered(self.0, dice);
                self.0 = self.0.saturating_add(1);
                pause
            }
            // No repetition helps: whoever asks for a pause gets the longest.
            Blame::Setup | Blame::Sandbox => backoff.jittered(u32::MAX, dice),
        }
    }
}
