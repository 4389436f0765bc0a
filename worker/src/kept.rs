//! Batches that failed and are to be written again.

use std::collections::VecDeque;

use tracing::info;

use crate::{
    disposition::Failure,
    message::{Batch, Fault, Message, Reason},
};

/// The batches, the next one first; none is empty. They hold no more than the deliveries of the
/// prefetch.
#[derive(Debug)]
pub(crate) struct Kept {
    batches: VecDeque<Batch>,
    max_rows: usize,
}

impl Kept {
    pub(crate) const fn new(max_rows: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            max_rows,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    /// Keeps it as the next one.
    pub(crate) fn push(&mut self, batch: Batch) {
        if !batch.messages.is_empty() {
            self.batches.push_front(batch);
        }
    }

    /// Keeps its halves as the next two, to find what is wrong with one of them.
    pub(crate) fn push_halves(&mut self, batch: Batch) {
        let [first, second] = batch.halves();
        self.push(second);
        self.push(first);
    }

    /// Makes a dead letter of the one message of a batch. It joins the batch that is next, its
    /// neighbours as a rule, if that has room.
    pub(crate) fn bury(&mut self, batch: Batch, failure: &Failure) {
        for mut message in batch.messages {
            info!(
                message.id = %message.id, %failure,
                "the database refuses message {}; it becomes a dead letter", message.id
            );
            message.fault = Some(Fault {
                reason: Reason::UnstorablePayload,
                error: failure.with_detail(),
            });
            match self.batches.front_mut() {
                Some(next) if next.messages.len() < self.max_rows => next.messages.push(message),
                Some(_) | None => self.push(Batch {
                    messages: vec![message],
                    conflicts: 0,
                }),
            }
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Batch> {
        self.batches.pop_front()
    }

    /// Forgets every message that `keeps` does not want.
    pub(crate) fn retain(&mut self, keeps: impl Fn(&Message) -> bool) {
        for batch in &mut self.batches {
            batch.messages.retain(&keeps);
        }
        self.batches.retain(|batch| !batch.messages.is_empty());
    }
}
