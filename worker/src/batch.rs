//! Decides when the messages that wait become a batch, and which of them.
//!
//! A batch goes out as soon as a thread is free and nothing is on its way, so a message that is
//! alone waits for nobody. While others are on their way it pays to collect: every transaction
//! costs the same whatever it holds. Then a batch goes out when it is full or when its first
//! message has waited for long enough.
//!
//! Pure: the clock comes in as an argument.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use jatis_shared::config::Worker;

use crate::message::{Batch, Message};

/// Messages that no thread has begun, in the order of their arrival. Bounded by the prefetch: no
/// more than that many deliveries hold.
#[derive(Debug)]
pub(crate) struct Waiting {
    messages: VecDeque<(Instant, Message)>,
    bytes: usize,
    max_rows: usize,
    max_bytes: usize,
    max_wait: Duration,
}

/// When to take the next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    /// Then, unless something happens before.
    At(Instant),
    /// Not before a message arrives or a thread becomes free.
    Never,
}

impl Waiting {
    pub(crate) fn new(keys: &Worker) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            max_rows: usize::from(keys.max_batch_rows),
            max_bytes: usize::try_from(keys.max_batch_bytes).unwrap_or(usize::MAX),
            max_wait: keys.max_batch_wait,
        }
    }

    pub(crate) fn push(&mut self, message: Message, now: Instant) {
        self.bytes += message.payload.len();
        self.messages.push_back((now, message));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// When the next batch is due, with `free` threads idle and `in_flight` ones busy.
    pub(crate) fn due(&self, now: Instant, free: usize, in_flight: usize) -> Due {
        let Some((oldest, _)) = self.messages.front() else {
            return Due::Never;
        };
        let is_full = self.messages.len() >= self.max_rows || self.bytes >= self.max_bytes;
        let ripe_at = *oldest + self.max_wait;
        if free == 0 {
            Due::Never
        } else if in_flight == 0 || is_full || ripe_at <= now {
            Due::Now
        } else {
            Due::At(ripe_at)
        }
    }

    /// The next batch: the oldest messages, as many as its bounds allow; at least one if any
    /// waits, however large it is.
    pub(crate) fn take(&mut self) -> Batch {
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while let Some((_, next)) = self.messages.front() {
            let size = next.payload.len();
            let has_room = messages.len() < self.max_rows && bytes + size <= self.max_bytes;
            if !messages.is_empty() && !has_room {
                break;
            }
            bytes += size;
            messages.extend(self.messages.pop_front().map(|(_, message)| message));
        }
        self.bytes -= bytes;
        Batch {
            messages,
            conflicts: 0,
        }
    }

    /// Forgets every message that `keeps` does not want.
    pub(crate) fn retain(&mut self, keeps: impl Fn(&Message) -> bool) {
        self.messages.retain(|(_, message)| keeps(message));
        self.bytes = self
            .messages
            .iter()
            .map(|(_, message)| message.payload.len())
            .sum();
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
