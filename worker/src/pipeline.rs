//! The path of a message through the worker, and everything decided on it.
//!
//! ```text
//!   deliveries ─▶ consume ─▶ batch ─▶ pool ─▶ disposition ─▶ settle ─▶ orders to the broker
//!                              ▲                   │
//!                              └── kept: halves, poison, batches of a pause
//! ```
//!
//! After a crash a delivery passes through `probation` first, which lets one message in at a time.
//!
//! The reactor passes in what happens and what time it is, then lets the pipeline [`step`]; what
//! the broker is to be told waits in `orders`. It waits for nothing itself.
//!
//! [`step`]: Pipeline::step

use std::time::Instant;

use jatis_shared::{
    config::Worker,
    control::{Heartbeat, Spec},
    ids::MessageId,
};
use jiff::Timestamp;
use lapin::message::Delivery;
use tracing::{debug, info, warn};

use crate::{
    batch::{Due, Waiting},
    broker::Order,
    consume::Intake,
    disposition::{Case, Disposition, Failure, decide},
    insert::Tally,
    kept::Kept,
    message::{Batch, Tag},
    notices::Notices,
    pause::Pause,
    pool::{Job, Outcome, Pool, Report, ThreadPanicked},
    probation::{Probation, Step},
    random,
    settle::Ledger,
};

/// What the clocks show. One moment, in the two forms it is needed in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) time: Timestamp,
}

/// The state of the path.
pub(crate) struct Pipeline {
    keys: Worker,
    intake: Intake,
    waiting: Waiting,
    /// Before any that wait.
    kept: Kept,
    pub(crate) pool: Pool,
    ledger: Ledger,
    flow: Flow,
    /// The database is away. Whoever pauses a tenant closes its flow instead.
    pause: Option<Pause>,
    /// A long pause has cancelled the consumer, and what is held is still to be given back.
    owes_give_back: bool,
    /// Pauses and failed probes since something was stored.
    failures: u32,
    notices: Notices,
    counters: Counters,
    /// One message at a time, after a crash.
    probation: Option<Probation>,
    /// For the supervisor: what is about to be opened.
    announcement: Option<Option<String>>,
    /// For the broker, in this order.
    pub(crate) orders: Vec<Order>,
}

/// What may be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Everything. Left by a hold or a drain.
    Open,
    /// Nothing that is unbegun: the consumer is being cancelled. Left when it is, or by a release.
    Closing(Until),
    /// What is left, at once: it has begun, all else was given back. Left by a release.
    Finishing(Until),
}

/// What a closed flow waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Somebody releases it. Left by a drain.
    Released,
    /// The worker's end. Never left.
    End,
}

/// What happened since the start.
#[derive(Debug, Default)]
struct Counters {
    stored: u64,
    dead: u64,
    retried: u64,
    /// Deliveries given back; by the drain only, once there is one.
    requeued: u64,
}

impl Pipeline {
    pub(crate) fn new(spec: &Spec, intake: Intake, pool: Pool) -> Self {
        let keys = &spec.worker;
        let flow = if spec.paused {
            Flow::Finishing(Until::Released)
        } else {
            Flow::Open
        };
        Self {
            keys: keys.clone(),
            intake,
            waiting: Waiting::new(keys),
            kept: Kept::new(usize::from(keys.max_batch_rows)),
            pool,
            ledger: Ledger::default(),
            flow,
            pause: None,
            owes_give_back: false,
            failures: 0,
            notices: Notices::default(),
            counters: Counters::default(),
            probation: spec.probation.clone().map(Probation::new),
            announcement: None,
            orders: Vec::new(),
        }
    }

    /// This is the channel now.
    pub(crate) fn connected(&mut self, generation: u64) {
        self.ledger.renew(generation);
    }

    /// The channel is gone: the broker delivers again whatever was not acknowledged, so what no
    /// thread has in hand is forgotten.
    pub(crate) fn channel_lost(&mut self) {
        self.ledger.void();
        self.waiting.retain(|_| false);
        self.kept.retain(|_| false);
        if let Some(probation) = &mut self.probation {
            probation.clear();
        }
        self.owes_give_back = false;
    }

    pub(crate) fn delivered(&mut self, tag: Tag, delivery: Delivery, now: Now) {
        if !self.ledger.is_present(tag) {
            return;
        }
        match &mut self.probation {
            Some(probation) => probation.delivered(tag, delivery),
            None => self.take_in(tag, delivery, now),
        }
        if let Flow::Finishing(_) = self.flow {
            // It was on its way when an earlier cancellation was confirmed.
            self.give_back_unbegun();
        }
    }

    fn take_in(&mut self, tag: Tag, delivery: Delivery, now: Now) {
        let messages = self.intake.messages(tag, delivery, now.time);
        self.ledger.open(tag, messages.len());
        for message in messages {
            self.waiting.push(message, now.instant);
        }
    }

    /// Begins nothing new until it is released; the consumer is to be cancelled. Harmless to repeat,
    /// and without effect on a drain.
    pub(crate) fn hold(&mut self) {
        if self.flow == Flow::Open {
            info!("paused: what has begun is finished, the rest goes back to the queue");
            self.flow = Flow::Closing(Until::Released);
            self.orders.push(Order::Cancel);
        }
    }

    /// Lets everything flow again, unless it drains. Harmless to repeat.
    pub(crate) fn release(&mut self) {
        let (Flow::Closing(Until::Released) | Flow::Finishing(Until::Released)) = self.flow else {
            return;
        };
        info!("resumed");
        self.flow = Flow::Open;
        // After a long pause the consumer waits for the database as well.
        if !self.pause.as_ref().is_some_and(Pause::has_cancelled) {
            self.orders.push(Order::Consume);
        }
    }

    /// Whether it was told to hold, and has nothing left in hand.
    pub(crate) fn is_held(&self) -> bool {
        self.flow == Flow::Finishing(Until::Released) && self.held() == 0
    }

    /// Deliveries that are neither acknowledged nor given back.
    fn held(&self) -> usize {
        let pending = self.probation.as_ref().map_or(0, Probation::pending);
        self.ledger.unacknowledged() + pending
    }

    /// Begins nothing new from here on; the consumer is to be cancelled.
    pub(crate) fn drain(&mut self) {
        match self.flow {
            Flow::Open => {
                self.flow = Flow::Closing(Until::End);
                self.orders.push(Order::Cancel);
            }
            Flow::Closing(Until::Released) => self.flow = Flow::Closing(Until::End),
            Flow::Finishing(Until::Released) => self.flow = Flow::Finishing(Until::End),
            Flow::Closing(Until::End) | Flow::Finishing(Until::End) => return,
        }
        self.counters.requeued = 0;
    }

    /// No delivery comes any more.
    pub(crate) fn cancelled(&mut self) {
        if self.pause.as_mut().is_some_and(Pause::cancelled) {
            self.owes_give_back = true;
        }
        if let Flow::Closing(until) = self.flow {
            self.flow = Flow::Finishing(until);
            self.give_back_unbegun();
        }
    }

    /// Whether a drain has nothing left to wait for. What it cannot finish, because the database
    /// is away, goes back to the queue with the channel.
    pub(crate) fn is_drained(&self) -> bool {
        let can_finish = self.pause.is_none();
        let has_entries = self.probation.as_ref().is_some_and(Probation::has_entries);
        let is_empty = self.kept.is_empty() && self.waiting.is_empty() && !has_entries;
        let flows = self.flow != Flow::Finishing(Until::End);
        !flows && self.in_flight() == 0 && (is_empty || !can_finish)
    }

    /// Deliveries that the drain has given back, with those that go back with the channel.
    pub(crate) fn requeued(&self) -> u64 {
        self.counters.requeued.saturating_add(count(self.held()))
    }

    /// # Errors
    /// When a thread has panicked.
    pub(crate) fn report(&mut self, report: Report, now: Now) -> Result<(), ThreadPanicked> {
        match self.pool.note(report)? {
            Outcome::Written { batch, tally } => self.written(&batch, tally, now),
            Outcome::Failed { batch, failure } => self.failed(batch, &failure, now),
            Outcome::Probed(Ok(())) => self.resume(now),
            Outcome::Probed(Err(failure)) => self.still_away(&failure, now),
            Outcome::Left => {}
        }
        Ok(())
    }

    /// Hands out what is due.
    pub(crate) fn step(&mut self, now: Now) {
        if self.pause.is_some() {
            self.step_pause(now);
            return;
        }
        self.step_probation(now);
        while self.pool.free() > 0
            && let Some(batch) = self.kept.pop()
        {
            self.counters.retried += count(batch.messages.len());
            self.hand(batch, now);
        }
        while self.due(now.instant) == Due::Now {
            let batch = self.waiting.take();
            for message in &batch.messages {
                self.ledger.begin(message.tag);
            }
            self.hand(batch, now);
        }
    }

    /// When to step again if nothing happens before.
    pub(crate) fn wake(&self, now: Instant) -> Option<Instant> {
        let work = match &self.pause {
            Some(pause) if self.flow == Flow::Open => pause.wake(&self.keys, self.pool.free() > 0),
            Some(_) => None,
            None => match self.due(now) {
                Due::Now => Some(now),
                Due::At(at) => Some(at),
                Due::Never => None,
            },
        };
        let notices = self.notices.due(self.keys.notice_interval);
        work.into_iter().chain(notices).min()
    }

    /// The ids for one notice, when it is time for it.
    pub(crate) fn take_notice(&mut self, now: Instant) -> Option<Vec<MessageId>> {
        self.notices.take(now, self.keys.notice_interval)
    }

    pub(crate) const fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// What a heartbeat reports; whoever sends it knows of the broker.
    pub(crate) fn heartbeat(&self, now: Instant) -> Heartbeat {
        Heartbeat {
            threads: self.pool.counts(),
            oldest_busy_ms: u64::try_from(self.pool.oldest_busy(now).as_millis())
                .unwrap_or(u64::MAX),
            unacked: count(self.held()),
            in_flight: count(self.ledger.unsettled_messages()),
            stored: self.counters.stored,
            dead: self.counters.dead,
            retried: self.counters.retried,
            waiting_for: None,
            paused: self.is_held(),
            last_tick: self.intake.mint.last(),
        }
    }

    /// One line for a person.
    pub(crate) fn dump(&self, now: Instant) {
        let threads = self.pool.counts();
        info!(
            threads.target = threads.target,
            threads.live = threads.live,
            threads.busy = threads.busy,
            oldest_busy = ?self.pool.oldest_busy(now),
            waiting = self.waiting.len(),
            kept = self.kept.len(),
            unacked = self.ledger.unacknowledged(),
            flow = ?self.flow,
            pause = ?self.pause,
            counters = ?self.counters,
            "state of the worker, as asked for"
        );
    }

    fn due(&self, now: Instant) -> Due {
        let (free, busy) = (self.pool.free(), self.pool.busy());
        match self.flow {
            Flow::Open => self.waiting.due(now, free, busy),
            Flow::Finishing(_) => self.waiting.due(now, free, 0),
            Flow::Closing(_) => Due::Never,
        }
    }

    /// Batches in threads; a probe is none.
    fn in_flight(&self) -> usize {
        let probes = self.pause.as_ref().is_some_and(Pause::is_probing);
        self.pool.busy().saturating_sub(usize::from(probes))
    }

    fn hand(&mut self, batch: Batch, now: Now) {
        let time = now.time;
        let job = Job::Write { batch, now: time };
        if let Err(Job::Write { batch, .. }) = self.pool.hand(job, now.instant) {
            self.kept.push(batch);
        }
    }

    fn written(&mut self, batch: &Batch, tally: Tally, now: Now) {
        self.failures = 0;
        self.counters.stored += tally.stored;
        self.counters.dead += tally.dead;
        for message in &batch.messages {
            self.ledger.settle(message.tag);
        }
        self.orders
            .extend(self.ledger.acknowledge().map(Order::Acknowledge));
        self.notices.add(tally.notices, now.instant);
    }

    fn failed(&mut self, mut batch: Batch, failure: &Failure, now: Now) {
        let case = Case {
            messages: batch.messages.len(),
            is_buried: batch.messages.iter().all(|message| message.fault.is_some()),
            conflicts: batch.conflicts,
            max_conflicts: self.keys.conflict_attempts,
        };
        let disposition = decide(failure, case);
        debug!(%failure, ?disposition, messages = case.messages, "a batch could not be stored");
        // What the broker delivers again is not ours to write any more.
        batch
            .messages
            .retain(|message| self.ledger.is_held(message.tag));
        match disposition {
            Disposition::Halve => self.kept.push_halves(batch),
            Disposition::Bury => self.kept.bury(batch, failure),
            Disposition::Again => {
                batch.conflicts = batch.conflicts.saturating_add(1);
                self.kept.push(batch);
            }
            Disposition::Pause => {
                self.kept.push(batch);
                self.pause(failure, now);
            }
        }
    }

    fn pause(&mut self, failure: &Failure, now: Now) {
        if self.pause.is_some() {
            return;
        }
        if self.failures == 0 {
            warn!(%failure, "storing pauses until the database answers a probe");
        }
        self.pause = Some(Pause::new(
            &self.keys,
            failure.to_string(),
            now.instant,
            self.failures,
            random::dice(),
        ));
    }

    fn still_away(&mut self, failure: &Failure, now: Now) {
        let Some(pause) = self.pause.as_mut() else {
            return;
        };
        let reason = failure.to_string();
        if pause.probe_failed(&self.keys, reason, now.instant, random::dice()) {
            warn!(%failure, "storing still pauses, now for another reason");
        } else {
            debug!(%failure, "the database is still away");
        }
    }

    fn step_pause(&mut self, now: Now) {
        let is_closed = self.flow == Flow::Finishing(Until::Released);
        if (self.owes_give_back || is_closed) && self.in_flight() == 0 {
            self.owes_give_back = false;
            let mut tags = self.give_back_pending();
            tags.extend(self.ledger.give_back_unsettled());
            info!(
                deliveries = tags.len(),
                "the messages held go back to the queue"
            );
            self.give_back(&tags);
            if is_closed {
                // With nothing in hand there is no database to wait for.
                self.pause = None;
            }
        }
        let Some(pause) = self.pause.as_mut() else {
            return;
        };
        // A drain or a hold gives everything back soon; it neither waits nor probes.
        if self.flow != Flow::Open {
            return;
        }
        if pause.gives_up(&self.keys, now.instant) {
            self.orders.push(Order::Cancel);
        }
        let probe = Job::Probe { now: now.time };
        if pause.wants_probe(now.instant) && self.pool.hand(probe, now.instant).is_ok() {
            pause.probing();
        }
    }

    fn resume(&mut self, now: Now) {
        let Some(pause) = self.pause.take() else {
            return;
        };
        let took = now.instant.saturating_duration_since(pause.since());
        if self.failures == 0 {
            info!(?took, "the database answers; storing goes on");
        }
        // Not forgotten before something is stored: a probe may pass where a batch does not.
        self.failures = pause.failures().saturating_add(1);
        if pause.has_cancelled() && self.flow == Flow::Open {
            self.orders.push(Order::Consume);
        }
    }

    fn give_back_unbegun(&mut self) {
        let mut tags = self.give_back_pending();
        tags.extend(self.ledger.give_back_unbegun());
        self.give_back(&tags);
    }

    /// The deliveries that wait to be looked into.
    fn give_back_pending(&mut self) -> Vec<Tag> {
        let probation = self.probation.as_mut();
        probation.map_or_else(Vec::new, Probation::give_back)
    }

    fn give_back(&mut self, tags: &[Tag]) {
        self.counters.requeued += count(tags.len());
        self.orders
            .extend(tags.iter().copied().map(Order::GiveBack));
        // What is settled may have waited for one of them.
        self.orders
            .extend(self.ledger.acknowledge().map(Order::Acknowledge));
        let ledger = &self.ledger;
        self.waiting.retain(|message| ledger.is_held(message.tag));
        self.kept.retain(|message| ledger.is_held(message.tag));
        if let Some(probation) = &mut self.probation {
            probation.retain(|message| ledger.is_held(message.tag));
        }
    }

    /// What the supervisor is to hear before anything else is opened; told once. Of a message
    /// [`announced`](Self::announced) must follow when it is written.
    pub(crate) fn take_announcement(&mut self) -> Option<Option<String>> {
        self.announcement.take()
    }

    /// The supervisor's socket has what was to be announced.
    pub(crate) fn announced(&mut self, now: Now) {
        if self.announcement.is_some() {
            // It was an earlier one; the present one has yet to be told.
            return;
        }
        if let Some(step) = self.probation.as_mut().and_then(Probation::announced) {
            self.walk(step, now);
        }
    }

    /// Goes on with the probation as far as it can.
    fn step_probation(&mut self, now: Now) {
        loop {
            let is_empty = self.waiting.is_empty() && self.kept.is_empty();
            let (is_clear, begins) = (is_empty && self.in_flight() == 0, self.flow == Flow::Open);
            let Some(probation) = &mut self.probation else {
                return;
            };
            let Some(step) = probation.step(is_clear, begins, Intake::suspect) else {
                return;
            };
            self.walk(step, now);
        }
    }

    fn walk(&mut self, step: Step, now: Now) {
        match step {
            Step::Announce(suspect) => self.announcement = Some(suspect),
            Step::Open(tag, delivery) => {
                let messages = self.intake.messages(tag, delivery, now.time);
                self.ledger.open(tag, messages.len());
                let alone = self.probation.as_mut();
                if let Some(message) = alone.and_then(|probation| probation.opened(messages)) {
                    self.waiting.push(message, now.instant);
                }
            }
            Step::Bury(tag, delivery) => {
                warn!("a message that killed workers becomes a dead letter");
                let message = self.intake.condemned(tag, delivery, now.time);
                self.ledger.open(tag, 1);
                self.waiting.push(message, now.instant);
            }
            Step::Pass(message) => self.waiting.push(message, now.instant),
            Step::Condemn(message) => {
                warn!(message.id = %message.id, "a message that killed workers becomes a dead letter");
                self.waiting.push(message.condemned(), now.instant);
            }
            Step::End => self.end_probation(now),
        }
    }

    fn end_probation(&mut self, now: Now) {
        let Some(probation) = self.probation.take() else {
            return;
        };
        info!("many messages at a time again: enough have been stored one by one");
        self.announcement = Some(None);
        self.orders.push(Order::Widen);
        let (entries, pending) = probation.into_rest();
        for message in entries {
            self.waiting.push(message, now.instant);
        }
        for (tag, delivery) in pending {
            self.take_in(tag, delivery, now);
        }
    }
}

fn count(things: usize) -> u64 {
    u64::try_from(things).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
