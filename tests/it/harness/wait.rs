//! Waiting: for a condition, and for an answer. The only timers of the tests are here.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

/// Longest wait for anything. Generous: it is only reached when a test fails.
const DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `look` answers `Ok`. `Err` carries what was seen instead, for the failure's text.
///
/// # Panics
/// After a minute, naming `what` was waited for and what was seen last.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    let mut pulse = tokio::time::interval(PAUSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pulse.tick().await;
        match bounded(what, look()).await {
            Ok(found) => return found,
            Err(seen) if started.elapsed() > DEADLINE => {
                panic!("waited {DEADLINE:?} for: {what}; last seen: {seen}")
            }
            Err(_) => {}
        }
    }
}

/// Awaits something that must end by itself.
///
/// # Panics
/// After a minute, naming `what` did not end.
pub(crate) async fn bounded<T>(what: &str, answer: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(answer) => answer,
        Err(_) => panic!("no end within {DEADLINE:?} of: {what}"),
    }
}
