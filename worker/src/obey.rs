//! Obeying: what the reactor does with a command of the supervisor and with a signal.
//!
//! Both ways lead to the same steps. A command is answered by number; a signal carries none, so a
//! resize by signal is told to the supervisor as news.

use std::time::Duration;

use jatis_shared::{
    control::{Command, Event, Frame, FrameError, Refusal, ResizeSource},
    exit::ExitCode,
    telemetry::Chain,
};
use tracing::{debug, error, info, warn};

use crate::{
    broker::Order,
    control::check_size,
    run::{Flow, Reactor, Resize, clock},
    signals::Wish,
};

impl Reactor {
    pub(crate) fn obey_signal(&mut self, wish: Wish) -> Flow {
        debug!(?wish, "a signal came");
        match wish {
            Wish::Drain => self.drain(self.spec.drain_timeout, ExitCode::Clean),
            Wish::Abort => {
                warn!("SIGQUIT: leaving at once");
                return Flow::Break(Ok(ExitCode::Deadline));
            }
            Wish::Sync if self.outbox.is_clear() => self.outbox.tell(Event::Sync),
            Wish::Dump => self.pipeline.dump(clock().into_std()),
            Wish::Grow => self.resize_by_one(u16::saturating_add),
            Wish::Shrink => self.resize_by_one(u16::saturating_sub),
            // A supervisor that does not read has asked for itself.
            Wish::Sync | Wish::Nothing => {}
        }
        Flow::Continue(())
    }

    pub(crate) fn hear(&mut self, command: Option<Result<Frame<Command>, FrameError>>) -> Flow {
        match command {
            Some(Ok(frame)) => return self.obey(frame.id, frame.body),
            Some(Err(FrameError::Io(error))) => {
                warn!(%error, "the control socket failed; draining");
                self.orphaned(ExitCode::Orphaned);
            }
            Some(Err(error)) => {
                error!(%error, "the supervisor sent what this build does not understand; draining");
                self.orphaned(ExitCode::Protocol);
            }
            None => {
                warn!("the supervisor is gone; draining");
                self.orphaned(ExitCode::Orphaned);
            }
        }
        Flow::Continue(())
    }

    fn obey(&mut self, re: u64, command: Command) -> Flow {
        match command {
            Command::Resize {
                threads,
                connections,
            } => self.resize(re, threads, connections),
            Command::Drain { deadline_ms } => {
                self.drain(Duration::from_millis(deadline_ms), ExitCode::Clean);
            }
            Command::Abort => {
                warn!("told to leave at once");
                return Flow::Break(Ok(ExitCode::Deadline));
            }
            Command::Ping { nonce } => self.outbox.answer(re, Event::Pong { nonce }),
            Command::Pause => self.pipeline.hold(),
            Command::Resume => self.pipeline.release(),
            Command::Reconnect => self.order(Order::Reconnect)?,
            Command::Log { filter } => {
                if let Err(error) = self.level.set(&filter) {
                    self.outbox
                        .refuse(re, Refusal::Invalid, &Chain(&error).to_string());
                }
            }
            Command::Dump => self.pipeline.dump(clock().into_std()),
            Command::Spec(_) => {
                let detail = "a worker keeps the spec it was started with";
                self.outbox.refuse(re, Refusal::Invalid, detail);
            }
            Command::Adopt { pid, .. } => {
                info!(pid, "another image of the supervisor has taken over");
                self.state.pulse().hurry(clock().into_std());
            }
            Command::Rung { .. } | Command::Rotate { .. } | Command::Unknown => {
                let detail = "this build does not do that";
                self.outbox.refuse(re, Refusal::Unsupported, detail);
            }
        }
        Flow::Continue(())
    }

    /// Nobody listens any more.
    fn orphaned(&mut self, exit: ExitCode) {
        self.state.is_orphan = true;
        self.drain(self.spec.orphan_timeout, exit);
    }

    fn resize(&mut self, re: u64, threads: u16, connections: u16) {
        if let Err(detail) = check_size(threads, connections, self.spec.worker.max_threads) {
            self.outbox.refuse(re, Refusal::Invalid, &detail);
            return;
        }
        self.state.connections = connections;
        let source = ResizeSource::Command;
        self.set_threads(
            threads,
            Resize {
                source,
                re: Some(re),
            },
        );
    }

    fn resize_by_one(&mut self, step: fn(u16, u16) -> u16) {
        let wanted = step(self.pipeline.pool.target(), 1);
        let threads = wanted.clamp(1, self.spec.worker.max_threads);
        let source = ResizeSource::Signal;
        self.set_threads(threads, Resize { source, re: None });
    }

    fn set_threads(&mut self, threads: u16, resize: Resize) {
        match self.pipeline.pool.resize(threads) {
            Ok(()) => {
                info!(threads, source = ?resize.source, "resizing to {threads} threads");
                self.state.resize = Some(resize);
            }
            Err(problem) => {
                let live = self.pipeline.pool.target();
                warn!(%problem, live, "the system gives no further thread; going on with {live}");
                let detail = format!("going on with {live} threads: {problem}");
                self.state.resize = None;
                match resize.re {
                    Some(re) => self.outbox.refuse(re, Refusal::Exhausted, &detail),
                    None => self.outbox.fault(&detail),
                }
            }
        }
        self.store.resize(self.connections());
    }

    /// Connections in use: no more than threads.
    fn connections(&self) -> u16 {
        self.state.connections.min(self.pipeline.pool.target())
    }

    /// Confirms a resize once the pool has its size: grown at once, shrunk when the last surplus
    /// thread has left.
    pub(crate) fn confirm_resize(&mut self) {
        if !self.pipeline.pool.has_its_size() {
            return;
        }
        if let Some(resize) = self.state.resize.take() {
            let event = Event::Resized {
                threads: self.pipeline.pool.target(),
                connections: self.connections(),
                source: resize.source,
            };
            match resize.re {
                Some(re) => self.outbox.answer(re, event),
                None => self.outbox.tell(event),
            }
        }
    }
}
