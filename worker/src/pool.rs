//! The threads that write batches, as many as wanted, resized while they work.
//!
//! ```text
//!              inbox of one ──▶ thread 1 ──┐
//!   reactor ── inbox of one ──▶ thread 2 ──┼─ reports ──▶ reactor
//!              inbox of one ──▶ thread N ──┘
//! ```
//!
//! The reactor hands a batch only to a thread that has none, so no inbox ever blocks it. A thread
//! leaves when its inbox is closed, and only between two batches. The pool keeps no batch: what
//! cannot be stored comes back with the report.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use jatis_shared::control::Threads;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::{Span, debug};

use crate::{
    disposition::Failure,
    insert::{Tally, Writer},
    message::Batch,
    store::Store,
};

/// What a thread is asked to do.
#[derive(Debug)]
pub(crate) enum Job {
    Write { batch: Batch, now: Timestamp },
    Probe { now: Timestamp },
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Committed.
    Written { batch: Batch, tally: Tally },
    /// Not written. The batch is the reactor's again.
    Failed { batch: Batch, failure: Failure },
    /// The answer to a probe.
    Probed(Result<(), Failure>),
    /// The thread's last word.
    Left,
}

/// An outcome, and whose.
#[derive(Debug)]
pub(crate) struct Report {
    thread: u64,
    pub(crate) outcome: Outcome,
}

/// A pool thread has panicked, and said why on standard error.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("a pool thread panicked")]
pub(crate) struct ThreadPanicked;

/// The threads. Owned by the reactor.
pub(crate) struct Pool {
    threads: BTreeMap<u64, Thread>,
    /// The number of the next thread; never used twice.
    next: u64,
    target: u16,
    work: Work,
}

struct Thread {
    /// `None` once it was asked to leave.
    inbox: Option<SyncSender<Job>>,
    busy_since: Option<Instant>,
    handle: JoinHandle<()>,
}

/// What every thread works with.
#[derive(Clone)]
struct Work {
    store: Arc<Store>,
    writer: Arc<Writer>,
    reports: mpsc::Sender<Report>,
    span: Span,
}

impl Pool {
    /// A pool without threads. `reports` must have room for two reports of each thread there may
    /// be: an outcome and its last word.
    pub(crate) fn new(
        store: Arc<Store>,
        writer: Arc<Writer>,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        Self {
            threads: BTreeMap::new(),
            next: 0,
            target: 0,
            work: Work {
                store,
                writer,
                reports,
                span: Span::current(),
            },
        }
    }

    /// Grows to `target` threads at once, or asks as many as are too many to leave, idle ones
    /// first. Threads that are busy leave after their batch: see [`Self::has_its_size`].
    ///
    /// # Errors
    /// When the system gives no further thread. The pool keeps those it has, and wants no more.
    pub(crate) fn resize(&mut self, target: u16) -> io::Result<()> {
        self.target = target;
        while self.staying() < usize::from(target) {
            if let Err(error) = self.spawn() {
                self.target = u16::try_from(self.staying()).unwrap_or(target);
                return Err(error);
            }
        }
        self.dismiss();
        Ok(())
    }

    /// Asks every thread to leave.
    pub(crate) fn close(&mut self) {
        self.target = 0;
        for thread in self.threads.values_mut() {
            thread.inbox = None;
        }
    }

    /// As many threads live as are wanted, and nobody is about to leave.
    pub(crate) fn has_its_size(&self) -> bool {
        self.threads.len() == usize::from(self.target)
    }

    pub(crate) const fn target(&self) -> u16 {
        self.target
    }

    pub(crate) fn counts(&self) -> Threads {
        let count = |threads: usize| u16::try_from(threads).unwrap_or(u16::MAX);
        Threads {
            target: self.target,
            live: count(self.threads.len()),
            busy: count(self.busy()),
        }
    }

    /// Threads that could take a batch.
    pub(crate) fn free(&self) -> usize {
        let is_free = |thread: &&Thread| thread.inbox.is_some() && thread.busy_since.is_none();
        self.threads.values().filter(is_free).count()
    }

    /// Threads that have one.
    pub(crate) fn busy(&self) -> usize {
        let is_busy = |thread: &&Thread| thread.busy_since.is_some();
        self.threads.values().filter(is_busy).count()
    }

    /// How long the oldest batch has been with its thread.
    pub(crate) fn oldest_busy(&self, now: Instant) -> Duration {
        let since = self.threads.values().filter_map(|thread| thread.busy_since);
        since
            .min()
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Hands a job to a free thread; back if there is none.
    pub(crate) fn hand(&mut self, job: Job, now: Instant) -> Result<(), Job> {
        let mut threads = self.threads.values_mut();
        let free = threads.find(|thread| thread.inbox.is_some() && thread.busy_since.is_none());
        let Some((thread, inbox)) = free.and_then(|thread| {
            let inbox = thread.inbox.take()?;
            Some((thread, inbox))
        }) else {
            return Err(job);
        };
        match inbox.try_send(job) {
            Ok(()) => {
                thread.busy_since = Some(now);
                thread.inbox = Some(inbox);
                Ok(())
            }
            // It has panicked, and is free no more; `note` tells it at its last word.
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Err(job),
        }
    }

    /// Enters a report in the books; gives its outcome.
    ///
    /// # Errors
    /// When the thread has panicked: its batch is lost to this process, and only the end of the
    /// process brings the messages back to the queue.
    pub(crate) fn note(&mut self, report: Report) -> Result<Outcome, ThreadPanicked> {
        if let Outcome::Left = report.outcome {
            let left = self.threads.remove(&report.thread);
            if let Some(Err(_)) = left.map(|thread| thread.handle.join()) {
                return Err(ThreadPanicked);
            }
        } else if let Some(thread) = self.threads.get_mut(&report.thread) {
            thread.busy_since = None;
            self.dismiss();
        }
        Ok(report.outcome)
    }

    /// Threads that nobody asked to leave.
    fn staying(&self) -> usize {
        let stays = |thread: &&Thread| thread.inbox.is_some();
        self.threads.values().filter(stays).count()
    }

    /// Asks idle threads to leave while there are too many.
    fn dismiss(&mut self) {
        let mut surplus = self.staying().saturating_sub(usize::from(self.target));
        for thread in self.threads.values_mut() {
            if surplus > 0 && thread.inbox.is_some() && thread.busy_since.is_none() {
                thread.inbox = None;
                surplus -= 1;
            }
        }
    }

    fn spawn(&mut self) -> io::Result<()> {
        let number = self.next;
        let (inbox, jobs) = sync_channel(1);
        let work = self.work.clone();
        let handle = Builder::new()
            .name(format!("store-{number}"))
            .spawn(move || work.run(number, &jobs))?;
        self.next += 1;
        self.threads.insert(
            number,
            Thread {
                inbox: Some(inbox),
                busy_since: None,
                handle,
            },
        );
        Ok(())
    }
}

impl Work {
    fn run(&self, thread: u64, jobs: &Receiver<Job>) {
        let _tenant = self.span.enter();
        let _last_word = LastWord { thread, work: self };
        for job in jobs {
            let outcome = match job {
                Job::Write { batch, now } => self.write(batch, now),
                Job::Probe { now } => {
                    Outcome::Probed(self.store.run(|open| self.writer.probe(open, now)))
                }
            };
            self.report(Report { thread, outcome });
        }
    }

    fn write(&self, batch: Batch, now: Timestamp) -> Outcome {
        let written = self.store.run(|open| self.writer.write(open, &batch, now));
        match written {
            Ok(tally) => Outcome::Written { batch, tally },
            Err(failure) => Outcome::Failed { batch, failure },
        }
    }

    fn report(&self, report: Report) {
        if self.reports.blocking_send(report).is_err() {
            debug!("the worker exits at once; a batch goes back to the queue");
        }
    }
}

/// Reports the thread's end, also that by a panic.
struct LastWord<'a> {
    thread: u64,
    work: &'a Work,
}

impl Drop for LastWord<'_> {
    fn drop(&mut self) {
        let outcome = Outcome::Left;
        let report = Report {
            thread: self.thread,
            outcome,
        };
        // Nobody reads it when the worker exits at once.
        let _unread = self.work.reports.blocking_send(report);
    }
}
