//! How long a connection is waited for, and for what. Pure.
//!
//! ```text
//!   connected ──▶ Head ──▶ Busy ──▶ Idle ──▶ closed
//!                  │ ▲       ▲        │  after http.idle_timeout
//!         cut ◀────┘ └───────┼────────┤  a first byte of HTTP/1.1
//!   after http.header_timeout└────────┘  a request of HTTP/2
//! ```
//!
//! The HTTP library has one timer for both: it would close a connection that rests as soon as it
//! would cut a head that drags on.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::Version;
use tokio::{sync::Notify, time::Instant};

/// How long each wait may last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// `http.header_timeout`.
    pub(crate) header: Duration,
    /// `http.idle_timeout`.
    pub(crate) idle: Duration,
}

/// What a connection is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A head that has begun, or the first one that has not even begun.
    Head { since: Instant },
    /// Answers to so many requests; they have their own deadlines.
    Busy { requests: usize },
    /// The next request, if the client has one.
    Idle { since: Instant },
}

/// What is to be done about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Look again at this time; nothing can be due before.
    Wait(Instant),
    /// It has rested for too long: let what is being sent go out, and close it.
    Close,
    /// A head did not come in time.
    Cut,
}

/// The course of one connection, shared by those who see parts of it.
#[derive(Debug, Clone)]
pub(crate) struct Course(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told when the first request has begun.
    begun: Notify,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Frames come between requests too, so bytes do not mean that a head begins.
    multiplexed: bool,
    has_begun: bool,
}

/// A request under way; it is over when this is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay(Course);

impl Course {
    /// Of a connection that is taken now.
    pub(crate) fn new(now: Instant) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                phase: Phase::Head { since: now },
                multiplexed: false,
                has_begun: false,
            }),
            begun: Notify::new(),
        }))
    }

    /// Whether it has ever asked for anything.
    pub(crate) fn has_begun(&self) -> bool {
        self.with(|state| state.has_begun)
    }

    /// Waits until it asks for something for the first time.
    pub(crate) async fn begun(&self) {
        while !self.has_begun() {
            self.0.begun.notified().await;
        }
    }

    /// Bytes have come.
    pub(crate) fn received(&self, now: Instant) {
        self.with(|state| {
            if let Phase::Idle { .. } = state.phase
                && !state.multiplexed
            {
                state.phase = Phase::Head { since: now };
            }
        });
    }

    /// A request's head is complete.
    pub(crate) fn begin(&self, version: Version) -> UnderWay {
        self.with(|state| {
            state.has_begun = true;
            state.multiplexed = version == Version::HTTP_2;
            let others = match state.phase {
                Phase::Busy { requests } => requests,
                Phase::Head { .. } | Phase::Idle { .. } => 0,
            };
            state.phase = Phase::Busy {
                requests: others + 1,
            };
        });
        self.0.begun.notify_one();
        UnderWay(self.clone())
    }

    fn end(&self, now: Instant) {
        self.with(|state| {
            state.phase = match state.phase {
                Phase::Busy { requests } if requests > 1 => Phase::Busy {
                    requests: requests - 1,
                },
                Phase::Busy { .. } | Phase::Head { .. } | Phase::Idle { .. } => {
                    Phase::Idle { since: now }
                }
            };
        });
    }

    /// What is due.
    pub(crate) fn verdict(&self, limits: Limits, now: Instant) -> Verdict {
        // Whatever begins from now on cannot be due before this.
        let soonest = now + limits.header.min(limits.idle);
        let (due, what) = match self.with(|state| state.phase) {
            Phase::Head { since } => (since + limits.header, Verdict::Cut),
            Phase::Busy { .. } => return Verdict::Wait(soonest),
            Phase::Idle { since } => (since + limits.idle, Verdict::Close),
        };
        if due <= now {
            what
        } else {
            Verdict::Wait(due.min(soonest))
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // Every change is one assignment: a panic leaves nothing half done.
        let state = self.0.state.lock();
        act(&mut state.unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.end(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        header: Duration::from_secs(10),
        idle: Duration::from_secs(60),
    };

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_bound() {
        let start = Instant::now();
        let at = |seconds| after(start, seconds);
        let course = Course::new(start);
        let verdict = |seconds| course.verdict(LIMITS, at(seconds));

        // Bytes do not prolong the time for a head.
        course.received(at(9));
        assert_eq!(verdict(9), Verdict::Wait(at(10)));
        assert_eq!(verdict(10), Verdict::Cut);

        let request = course.begin(Version::HTTP_11);
        assert_eq!(verdict(1000), Verdict::Wait(at(1010)), "it is busy");
        tokio::time::advance(Duration::from_secs(1000)).await;
        drop(request);
        assert_eq!(verdict(1001), Verdict::Wait(at(1011)), "it rests");
        assert_eq!(verdict(1055), Verdict::Wait(at(1060)));
        assert_eq!(verdict(1060), Verdict::Close);

        course.received(at(1059));
        course.received(at(1065));
        assert_eq!(verdict(1065), Verdict::Wait(at(1069)), "a head has begun");
        assert_eq!(verdict(1069), Verdict::Cut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_of_many_requests_rests_when_the_last_has_ended() {
        let start = Instant::now();
        let at = |seconds| after(start, seconds);
        let course = Course::new(start);
        let requests = [Version::HTTP_2; 2].map(|version| course.begin(version));
        for request in requests {
            assert_eq!(course.verdict(LIMITS, at(100)), Verdict::Wait(at(110)));
            drop(request);
        }
        // A ping, say.
        course.received(at(59));
        assert_eq!(course.verdict(LIMITS, at(59)), Verdict::Wait(at(60)));
        assert_eq!(course.verdict(LIMITS, at(60)), Verdict::Close);
    }
}
