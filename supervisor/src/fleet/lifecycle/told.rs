//! What a worker's word does to its state.

use tokio::time::Instant;

use super::{Action, Crashes, Lifecycle, Report, State};
use crate::fleet::order::Size;

impl Lifecycle {
    /// A worker that is on its way out may say what it likes.
    pub(super) fn told(&mut self, report: Report, now: Instant) -> Vec<Action> {
        if let State::Draining { .. } | State::Killing { .. } = self.state {
            return Vec::new();
        }
        match report {
            Report::Hello => self.hello(now),
            Report::Confined => self.confined(now),
            Report::Ready => self.ready(now),
            Report::Heartbeat { busy, .. } if busy > self.policy.stuck => self.kill(now),
            Report::Heartbeat { paused, .. } => self.heartbeat(paused, now),
            Report::Resized { size, signalled } => self.resized(size, signalled),
            Report::Refused => self.refused(),
            Report::Sync => self.sync(now),
        }
    }

    fn hello(&mut self, now: Instant) -> Vec<Action> {
        let State::Spawning { .. } = self.state else {
            return self.kill(now);
        };
        self.state = State::Confining {
            confined_by: now + self.policy.confine,
        };
        // Until it says otherwise this is what the worker will have.
        self.applied = Some(self.target());
        self.is_paused = self.wants_pause;
        vec![Action::Brief {
            size: self.target(),
            paused: self.wants_pause,
        }]
    }

    fn confined(&mut self, now: Instant) -> Vec<Action> {
        let State::Confining { .. } = self.state else {
            return self.kill(now);
        };
        self.state = State::Connecting { silent_at: None };
        vec![Action::ReleaseSlot]
    }

    fn ready(&mut self, now: Instant) -> Vec<Action> {
        if self.ready_since.is_some() {
            // It had lost its connection and has found it again.
            return Vec::new();
        }
        let State::Connecting { .. } = self.state else {
            return self.kill(now);
        };
        self.ready_since = Some(now);
        self.serve(now + self.policy.silence, None);
        self.reconcile(now)
    }

    fn heartbeat(&mut self, paused: bool, now: Instant) -> Vec<Action> {
        let heard = now + self.policy.silence;
        self.is_paused = paused;
        let mut resize = Vec::new();
        match self.state {
            State::Connecting { .. } => {
                self.state = State::Connecting {
                    silent_at: Some(heard),
                };
            }
            State::Running { .. } | State::Resizing { .. } | State::Paused { .. } => {
                self.serve(heard, self.asked());
            }
            State::Suspect { .. } => {
                self.serve(heard, None);
                resize = self.reconcile(now);
            }
            State::Queued
            | State::Spawning { .. }
            | State::Confining { .. }
            | State::Draining { .. }
            | State::Killing { .. }
            | State::Backoff { .. }
            | State::Quarantined { .. }
            | State::Refused
            | State::Stopped => {}
        }
        let mut actions = self.correct_pause();
        actions.extend(resize);
        actions.extend(self.acquit(now));
        actions
    }

    /// Forgets quarantines after a good run.
    fn acquit(&mut self, now: Instant) -> Option<Action> {
        let ran = self.ready_since.map(|since| now - since);
        let is_good = ran.is_some_and(|ran| ran >= self.policy.acquittal);
        if !is_good || self.crashes.quarantines == 0 {
            return None;
        }
        self.crashes = Crashes::default();
        Some(Action::Remember)
    }

    fn resized(&mut self, size: Size, signalled: bool) -> Vec<Action> {
        self.applied = Some(size);
        if let Some(asked) = self.asked() {
            // What a signal did gives way to the request under way, and other threads than asked
            // for are the answer to an earlier request.
            if !signalled && asked.size.threads == size.threads {
                self.asked_no_more();
            }
        } else if signalled {
            self.signalled = Some(size.threads);
        }
        Vec::new()
    }

    /// The worker goes on with what it has; the next `Wanted` asks again.
    fn refused(&mut self) -> Vec<Action> {
        self.asked_no_more();
        Vec::new()
    }

    const fn asked_no_more(&mut self) {
        if let State::Resizing { silent_at, .. } | State::Paused { silent_at, .. } = self.state {
            self.serve(silent_at, None);
        }
    }

    /// Asked for even if it should be there already: the worker wants an answer.
    fn sync(&mut self, now: Instant) -> Vec<Action> {
        self.signalled = None;
        self.ask(now)
    }
}
