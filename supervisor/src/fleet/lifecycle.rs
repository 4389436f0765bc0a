//! The life of a tenant's worker as a state machine: events in, actions out.
//!
//! PURE: it does no I/O and reads no clock. `supervise` feeds it what happens, carries out what it
//! answers, and wakes it at [`Lifecycle::deadline`]. What holds whatever comes in whatever order:
//! at most one process at a time, nothing started after a stop was asked for, nothing believed that
//! an earlier process said, and every kill followed until the process is reaped. Whether a worker
//! consumes is a level: it is told when that changes, and again after each heartbeat that says
//! otherwise, so that a command which was lost delays a pause and never drops it.
//!
//! ```text
//!  Queued ─▶ Spawning ─▶ Confining ─▶ Connecting ─▶ Running ◀─▶ Resizing ◀─▶ Paused
//!   ▲  ▲                                               ▲ ▼
//!   │  │           exit                             Suspect       (any) ─▶ Draining ─▶ Stopped
//!   │ Backoff ◀──────────── (any) ◀── Killing ◀── a deadline, a breach of the protocol
//!   │                         │
//!  Quarantined, Refused ◀─────┘ too many crashes, or nothing that a repetition would mend
//! ```
//!
//! A quarantine is left by a person, or by itself for a trial: one crash early in it leads back,
//! for longer; a good run ends it.

mod crashes;
mod event;
mod failures;
mod policy;
mod state;
mod told;

use std::time::Duration;

use tokio::time::Instant;

use self::failures::Failures;
use self::state::Asked;
pub(super) use self::{
    crashes::{Crashes, Window},
    event::{Action, Event, Report, SpawnFault},
    policy::Policy,
    state::State,
};
use super::{
    handover::Carried,
    order::{Size, StopLevel},
    process::{Blame, Ending},
};

/// The machine of one tenant.
#[derive(Debug)]
pub(super) struct Lifecycle {
    policy: Policy,
    state: State,
    wanted: Size,
    /// Whether it shall consume nothing.
    wants_pause: bool,
    /// What it said last: whether it consumes nothing. Its spec says what it begins with.
    is_paused: bool,
    /// What a signal to this worker made of its threads. It outlives `wanted` of the same size,
    /// or converging would undo at once what a person did by hand.
    signalled: Option<u16>,
    /// What the worker last confirmed.
    applied: Option<Size>,
    stop: Option<StopLevel>,
    /// Processes made so far.
    starts: u64,
    failures: Failures,
    crashes: Crashes,
    /// When the present process was made.
    started_at: Option<Instant>,
    ready_since: Option<Instant>,
}

/// What another image of this program could take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Process,
    Nothing,
    NotNow,
}

/// What a machine begins with, of the processes its tenant had before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Past {
    /// Processes made, in this supervisor's life.
    pub(super) starts: u64,
    pub(super) crashes: Crashes,
    pub(super) quarantined_until: Option<Instant>,
}

impl Lifecycle {
    /// A machine in `Queued`, with its slot to be asked for, or still in quarantine.
    pub(super) fn new(policy: Policy, wanted: Size, wants_pause: bool, past: Past) -> Self {
        let Past {
            starts,
            crashes,
            quarantined_until,
        } = past;
        Self {
            policy,
            state: match quarantined_until {
                Some(until) => State::Quarantined { until },
                None => State::Queued,
            },
            wanted,
            wants_pause,
            is_paused: wants_pause,
            signalled: None,
            applied: None,
            stop: None,
            starts,
            failures: Failures::NONE,
            crashes,
            started_at: None,
            ready_since: None,
        }
    }

    /// Whether its process has its spec, and may be told something else.
    pub(super) const fn has_spec(&self) -> bool {
        self.state.has_process() && !matches!(self.state, State::Spawning { .. })
    }

    /// A machine whose process another image of this program has started.
    pub(super) fn inherited(policy: Policy, carried: &Carried, past: Past, now: Instant) -> Self {
        let size = |(threads, connections)| Size {
            threads,
            connections,
        };
        let mut machine = Self::new(policy, size(carried.wanted), carried.wants_pause, past);
        machine.is_paused = carried.is_paused;
        machine.signalled = carried.signalled;
        machine.applied = carried.applied.map(size);
        machine.started_at = Some(now);
        let silent_at = now + policy.silence;
        match carried.ready_ms {
            None => {
                machine.state = State::Connecting {
                    silent_at: Some(silent_at),
                };
            }
            Some(ready_ms) => {
                machine.ready_since = now.checked_sub(Duration::from_millis(ready_ms));
                machine.ready_since.get_or_insert(now);
                machine.serve(silent_at, None);
            }
        }
        machine
    }

    /// Whether another image of this program may take over now, and whether there is a process to
    /// take: a worker that is being started or stopped has to come to an end of that first.
    pub(super) const fn may_pass(&self) -> Pass {
        match self.state {
            State::Connecting { .. }
            | State::Running { .. }
            | State::Resizing { .. }
            | State::Paused { .. }
            | State::Suspect { .. } => Pass::Process,
            State::Queued
            | State::Backoff { .. }
            | State::Quarantined { .. }
            | State::Refused
            | State::Stopped => Pass::Nothing,
            State::Spawning { .. }
            | State::Confining { .. }
            | State::Draining { .. }
            | State::Killing { .. } => Pass::NotNow,
        }
    }

    /// Fills in what the next image needs.
    pub(super) fn carry(&self, carried: &mut Carried, now: Instant) {
        let pair = |size: Size| (size.threads, size.connections);
        carried.starts = self.starts;
        carried.wanted = pair(self.wanted);
        carried.applied = self.applied.map(pair);
        carried.wants_pause = self.wants_pause;
        carried.is_paused = self.is_paused;
        carried.signalled = self.signalled;
        carried.ready_ms = self
            .ready_since
            .map(|since| u64::try_from((now - since).as_millis()).unwrap_or(u64::MAX));
    }

    /// What there is to remember of its crashes.
    pub(super) const fn crashes(&self) -> &Crashes {
        &self.crashes
    }

    /// How long it stays in quarantine, if it is there.
    pub(super) const fn quarantined_until(&self) -> Option<Instant> {
        match self.state {
            State::Quarantined { until } => Some(until),
            State::Queued
            | State::Spawning { .. }
            | State::Confining { .. }
            | State::Connecting { .. }
            | State::Running { .. }
            | State::Resizing { .. }
            | State::Paused { .. }
            | State::Suspect { .. }
            | State::Draining { .. }
            | State::Killing { .. }
            | State::Backoff { .. }
            | State::Refused
            | State::Stopped => None,
        }
    }

    pub(super) const fn state(&self) -> State {
        self.state
    }

    pub(super) const fn applied(&self) -> Option<Size> {
        self.applied
    }

    pub(super) const fn wanted(&self) -> Size {
        self.wanted
    }

    /// Processes made so far.
    pub(super) const fn starts(&self) -> u64 {
        self.starts
    }

    /// The number of the present process, or of the latest one: how many there were before it.
    pub(super) const fn generation(&self) -> u64 {
        self.starts.saturating_sub(1)
    }

    /// When to send `Timer`, if nothing else happens first.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.state.deadline()
    }

    /// Takes in what happened and says what to do about it, in this order.
    pub(super) fn step(&mut self, event: &Event, now: Instant) -> Vec<Action> {
        match *event {
            Event::Wanted {
                size,
                paused,
                insisted,
            } => self.want(size, paused, insisted, now),
            Event::Released => self.release(),
            Event::Stop(level) => self.stop(level, now),
            Event::Granted => self.granted(),
            Event::Spawned => self.spawned(now),
            Event::SpawnFailed { fault, dice } => self.spawn_failed(fault, dice, now),
            Event::Told { generation, report } if self.is_present(generation) => {
                self.told(report, now)
            }
            Event::HungUp { generation } if self.is_present(generation) => self.hung_up(now),
            Event::Misbehaved { generation, .. } if self.is_present(generation) => self.kill(now),
            Event::Exited {
                generation,
                ending,
                dice,
            } if self.is_present(generation) => self.exited(ending, dice, now),
            // An earlier process has no say any more.
            Event::Told { .. }
            | Event::HungUp { .. }
            | Event::Misbehaved { .. }
            | Event::Exited { .. } => Vec::new(),
            Event::Timer => self.timer(now),
        }
    }

    /// Whether there is a process, and this is its number.
    const fn is_present(&self, generation: u64) -> bool {
        self.state.has_process() && generation == self.generation()
    }

    fn want(&mut self, size: Size, paused: bool, insisted: bool, now: Instant) -> Vec<Action> {
        if insisted || size.threads != self.wanted.threads {
            self.signalled = None;
        }
        self.wanted = size;
        if let (true, State::Quarantined { .. } | State::Refused) = (insisted, self.state) {
            // Somebody has changed something.
            self.wants_pause = paused;
            return self.release();
        }
        let is_news = std::mem::replace(&mut self.wants_pause, paused) != paused;
        let mut actions = if is_news {
            // Even if it said so last: an order to the contrary may be on its way.
            self.tell_pause()
        } else {
            self.correct_pause()
        };
        actions.extend(self.reconcile(now));
        actions
    }

    /// Starts it anew as if it had never failed, unless it runs or is about to.
    fn release(&mut self) -> Vec<Action> {
        match self.state {
            State::Backoff { .. } | State::Quarantined { .. } | State::Refused => {}
            State::Queued
            | State::Spawning { .. }
            | State::Confining { .. }
            | State::Connecting { .. }
            | State::Running { .. }
            | State::Resizing { .. }
            | State::Paused { .. }
            | State::Suspect { .. }
            | State::Draining { .. }
            | State::Killing { .. }
            | State::Stopped => return Vec::new(),
        }
        self.state = State::Queued;
        self.failures = Failures::NONE;
        self.crashes = Crashes::default();
        vec![Action::Remember, Action::RequestSlot]
    }

    /// Tells whether to consume if the worker says otherwise.
    fn correct_pause(&self) -> Vec<Action> {
        if self.is_paused == self.wants_pause {
            return Vec::new();
        }
        self.tell_pause()
    }

    /// Tells whether to consume, once the worker has its spec. One that is suspect hears it when it
    /// is heard of again.
    fn tell_pause(&self) -> Vec<Action> {
        match self.state {
            State::Confining { .. }
            | State::Connecting { .. }
            | State::Running { .. }
            | State::Resizing { .. }
            | State::Paused { .. } => {}
            State::Queued
            | State::Spawning { .. }
            | State::Suspect { .. }
            | State::Draining { .. }
            | State::Killing { .. }
            | State::Backoff { .. }
            | State::Quarantined { .. }
            | State::Refused
            | State::Stopped => return Vec::new(),
        }
        vec![if self.wants_pause {
            Action::Pause
        } else {
            Action::Resume
        }]
    }

    /// The size the worker should have by now.
    fn target(&self) -> Size {
        let threads = self.signalled.unwrap_or(self.wanted.threads);
        Size {
            threads,
            connections: self.wanted.connections.min(threads),
        }
    }

    /// Asks for the target size if it is neither there nor asked for already.
    fn reconcile(&mut self, now: Instant) -> Vec<Action> {
        let present = self.asked().map_or(self.applied, |asked| Some(asked.size));
        if present == Some(self.target()) {
            return Vec::new();
        }
        self.ask(now)
    }

    /// The size asked for, while it is not confirmed.
    const fn asked(&self) -> Option<Asked> {
        match self.state {
            State::Resizing { asked, .. } => Some(asked),
            State::Paused { asked, .. } => asked,
            State::Queued
            | State::Spawning { .. }
            | State::Confining { .. }
            | State::Connecting { .. }
            | State::Running { .. }
            | State::Suspect { .. }
            | State::Draining { .. }
            | State::Killing { .. }
            | State::Backoff { .. }
            | State::Quarantined { .. }
            | State::Refused
            | State::Stopped => None,
        }
    }

    /// Asks for the target size, if the worker is at work or paused.
    fn ask(&mut self, now: Instant) -> Vec<Action> {
        let (State::Running { silent_at }
        | State::Resizing { silent_at, .. }
        | State::Paused { silent_at, .. }) = self.state
        else {
            return Vec::new();
        };
        let size = self.target();
        let again_at = now + self.policy.resize;
        self.serve(silent_at, Some(Asked { size, again_at }));
        vec![Action::Resize(size)]
    }

    /// Enters the state of a worker that is well, by what it says and what it was asked for.
    const fn serve(&mut self, silent_at: Instant, asked: Option<Asked>) {
        self.state = match (self.is_paused, asked) {
            (true, asked) => State::Paused { silent_at, asked },
            (false, Some(asked)) => State::Resizing { silent_at, asked },
            (false, None) => State::Running { silent_at },
        };
    }

    fn stop(&mut self, level: StopLevel, now: Instant) -> Vec<Action> {
        if self.stop >= Some(level) {
            return Vec::new();
        }
        self.stop = Some(level);
        match self.state {
            State::Queued | State::Backoff { .. } | State::Quarantined { .. } | State::Refused => {
                self.state = State::Stopped;
                vec![Action::ReleaseSlot]
            }
            // The process may come to be at any moment: it is waited for, then killed.
            State::Spawning { hello_by: None } => Vec::new(),
            // It has begun nothing, and does not handle signals before its hello.
            State::Spawning { hello_by: Some(_) } => self.kill(now),
            State::Confining { .. }
            | State::Connecting { .. }
            | State::Running { .. }
            | State::Resizing { .. }
            | State::Paused { .. }
            | State::Suspect { .. } => self.drain(level, None, now),
            State::Draining { kill_at } => self.drain(level, Some(kill_at), now),
            State::Killing { .. } | State::Stopped => Vec::new(),
        }
    }

    /// Tells the worker to finish. A kill already set for a time is not put off.
    fn drain(&mut self, level: StopLevel, at_most: Option<Instant>, now: Instant) -> Vec<Action> {
        let (within, spare) = match level {
            // A worker leaves by itself at its deadline; patience is for the one that does not.
            StopLevel::Drain => (self.policy.drain, self.policy.patience),
            StopLevel::Fast => (self.policy.fast, Duration::ZERO),
            StopLevel::Immediate => return self.kill(now),
        };
        let kill_at = now + within + spare;
        let kill_at = at_most.map_or(kill_at, |earlier| earlier.min(kill_at));
        self.state = State::Draining { kill_at };
        vec![Action::Drain(within)]
    }

    fn granted(&mut self) -> Vec<Action> {
        if self.state != State::Queued {
            return vec![Action::ReleaseSlot];
        }
        self.state = State::Spawning { hello_by: None };
        vec![Action::Spawn]
    }

    fn spawned(&mut self, now: Instant) -> Vec<Action> {
        self.starts += 1;
        self.started_at = Some(now);
        self.signalled = None;
        self.state = State::Spawning {
            hello_by: Some(now + self.policy.hello),
        };
        match self.stop {
            Some(_) => self.kill(now),
            None => Vec::new(),
        }
    }

    fn spawn_failed(&mut self, fault: SpawnFault, dice: u32, now: Instant) -> Vec<Action> {
        if self.stop.is_some() {
            self.state = State::Stopped;
            return vec![Action::ReleaseSlot];
        }
        match fault {
            SpawnFault::Host => {
                self.state = State::Queued;
                vec![Action::ReleaseSlot, Action::RequestSlot]
            }
            // Every tenant's worker is this program, so it is no tenant's fault.
            SpawnFault::Program => self.rest(Blame::Crash, dice, now),
        }
    }

    /// Its socket closes a moment before a process that exits can be reaped, so this alone says
    /// little. A process that lives on without it can be neither heard nor told anything.
    fn hung_up(&mut self, now: Instant) -> Vec<Action> {
        let soon = now + self.policy.patience;
        match &mut self.state {
            State::Spawning {
                hello_by: Some(deadline),
            }
            | State::Confining {
                confined_by: deadline,
            } => *deadline = soon.min(*deadline),
            State::Connecting { silent_at } => *silent_at = Some(soon),
            State::Running { .. } | State::Resizing { .. } | State::Paused { .. } => {
                self.state = State::Suspect { kill_at: soon };
            }
            State::Queued
            | State::Spawning { hello_by: None }
            | State::Suspect { .. }
            | State::Draining { .. }
            | State::Killing { .. }
            | State::Backoff { .. }
            | State::Quarantined { .. }
            | State::Refused
            | State::Stopped => {}
        }
        Vec::new()
    }

    fn kill(&mut self, now: Instant) -> Vec<Action> {
        if let State::Killing { .. } = self.state {
            return Vec::new();
        }
        self.state = State::Killing {
            overdue_at: Some(now + self.policy.patience),
        };
        vec![Action::Kill]
    }

    fn exited(&mut self, ending: Ending, dice: u32, now: Instant) -> Vec<Action> {
        let ran = self.ready_since.take().map(|since| now - since);
        if ran.is_some_and(|ran| ran >= self.policy.backoff_reset) {
            self.failures = Failures::NONE;
        }
        self.applied = None;
        if self.stop.is_some() {
            self.state = State::Stopped;
            return vec![Action::ReleaseSlot];
        }
        let blame = if let State::Killing { .. } = self.state {
            // However it called its end: it was we who had to end it.
            Blame::Crash
        } else {
            ending.blame()
        };
        let is_on_trial = self.crashes.quarantines > 0
            && self
                .started_at
                .is_some_and(|start| now - start < self.policy.trial);
        let windows = &self.policy.windows;
        let is_too_much = match blame {
            Blame::Nobody => false,
            Blame::Clean => self.crashes.half_crash(windows, now),
            Blame::Crash => self.crashes.crash(windows, now) || is_on_trial,
            Blame::Setup => true,
            Blame::Sandbox => {
                self.state = State::Refused;
                return vec![Action::ReleaseSlot];
            }
        };
        let mut actions = if is_too_much {
            self.quarantine(dice, now)
        } else {
            self.rest(blame, dice, now)
        };
        if blame != Blame::Nobody {
            actions.push(Action::Remember);
        }
        actions
    }

    /// Shuts it away: each time in a row for twice as long.
    fn quarantine(&mut self, dice: u32, now: Instant) -> Vec<Action> {
        let before = u32::from(self.crashes.quarantines);
        let until = now + self.policy.quarantine.jittered(before, dice);
        self.crashes.quarantines = self.crashes.quarantines.saturating_add(1);
        self.state = State::Quarantined { until };
        vec![Action::ReleaseSlot]
    }

    fn rest(&mut self, blame: Blame, dice: u32, now: Instant) -> Vec<Action> {
        let pause = self.failures.pause(blame, self.policy.backoff, dice);
        self.state = State::Backoff { until: now + pause };
        vec![Action::ReleaseSlot]
    }

    fn timer(&mut self, now: Instant) -> Vec<Action> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        match self.state {
            State::Spawning { .. }
            | State::Confining { .. }
            | State::Connecting { .. }
            | State::Suspect { .. }
            | State::Draining { .. } => self.kill(now),
            State::Running { silent_at }
            | State::Resizing { silent_at, .. }
            | State::Paused { silent_at, .. }
                if silent_at <= now =>
            {
                self.state = State::Suspect {
                    kill_at: now + self.policy.patience,
                };
                Vec::new()
            }
            State::Running { .. } => Vec::new(),
            State::Resizing { .. } | State::Paused { .. } => self.ask(now),
            State::Killing { .. } => {
                self.state = State::Killing { overdue_at: None };
                vec![Action::Alarm]
            }
            State::Backoff { .. } => {
                self.state = State::Queued;
                vec![Action::RequestSlot]
            }
            State::Quarantined { .. } => {
                self.state = State::Queued;
                vec![Action::Remember, Action::RequestSlot]
            }
            State::Queued | State::Refused | State::Stopped => Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;
