//! One message at a time, after a worker has crashed: so that the next crash tells which message
//! it was.
//!
//! ```text
//!   a delivery ─▶ announced ─▶ opened ─▶ its messages, each: announced ─▶ written ─▶ the next
//! ```
//!
//! What is announced has reached the supervisor's socket before anything looks into it. What the
//! supervisor has condemned is not opened at all and becomes a dead letter. After enough messages
//! the worker takes many at a time again.
//!
//! Pure: the pipeline carries out what it says.

use std::collections::{BTreeSet, VecDeque};

use jatis_shared::control;
use lapin::message::Delivery;

use crate::message::{Message, Tag};

/// A worker's probation.
#[derive(Debug)]
pub(crate) struct Probation {
    condemned: BTreeSet<String>,
    /// Messages to be survived before it ends.
    left: u32,
    stage: Stage,
    /// Deliveries that nobody has looked into. The prefetch is 1, so as a rule one.
    pending: VecDeque<(Tag, Delivery)>,
    /// Messages of the delivery that was opened last.
    entries: VecDeque<Message>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Nothing is open. Left by the next delivery, or for good.
    Idle,
    /// Somebody must hear what comes next, before it does. Left when it is written.
    Announcing(Suspect),
    /// A message is in the pipeline. Left when it is settled.
    Working,
}

/// What is about to be opened.
#[derive(Debug, Clone, Copy)]
enum Suspect {
    /// The first of `pending`.
    Delivery,
    /// The first of `entries`.
    Entry,
}

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Say that this is about to be opened (or, with `None`, that nothing is), and tell
    /// [`Probation::announced`] when that is written.
    Announce(Option<String>),
    /// Open this delivery; [`Probation::opened`] takes its messages. Only after an announcement.
    Open(Tag, Delivery),
    /// Bury this delivery unopened.
    Bury(Tag, Delivery),
    /// Pass this message on.
    Pass(Message),
    /// Bury this message.
    Condemn(Message),
    /// Take many at a time from now on; it is over.
    End,
}

impl Probation {
    pub(crate) fn new(spec: control::Probation) -> Self {
        Self {
            condemned: spec.condemned.into_iter().collect(),
            left: spec.messages,
            stage: Stage::Idle,
            pending: VecDeque::new(),
            entries: VecDeque::new(),
        }
    }

    /// Deliveries nobody has looked into.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether messages of an opened delivery wait.
    pub(crate) fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    pub(crate) fn delivered(&mut self, tag: Tag, delivery: Delivery) {
        self.pending.push_back((tag, delivery));
    }

    /// Gives up the deliveries that nobody has looked into.
    pub(crate) fn give_back(&mut self) -> Vec<Tag> {
        if let Stage::Announcing(Suspect::Delivery) = self.stage {
            self.stage = Stage::Idle;
        }
        self.pending.drain(..).map(|(tag, _)| tag).collect()
    }

    /// Forgets every message that `keeps` does not want.
    pub(crate) fn retain(&mut self, keeps: impl Fn(&Message) -> bool) {
        self.entries.retain(keeps);
        if let (Stage::Announcing(Suspect::Entry), true) = (&self.stage, self.entries.is_empty()) {
            self.stage = Stage::Idle;
        }
    }

    /// What is left of it when it is over: messages of an opened delivery, and deliveries nobody has
    /// looked into.
    pub(crate) fn into_rest(self) -> (VecDeque<Message>, VecDeque<(Tag, Delivery)>) {
        (self.entries, self.pending)
    }

    /// Forgets everything: the channel is gone.
    pub(crate) fn clear(&mut self) {
        self.pending.clear();
        self.entries.clear();
        self.stage = match self.stage {
            // A thread may still have it.
            Stage::Working => Stage::Working,
            Stage::Idle | Stage::Announcing(_) => Stage::Idle,
        };
    }

    /// What was to be announced is written.
    pub(crate) fn announced(&mut self) -> Option<Step> {
        let Stage::Announcing(suspect) = self.stage else {
            // What was announced has been given back meanwhile.
            return None;
        };
        self.stage = Stage::Working;
        match suspect {
            Suspect::Delivery => {
                let (tag, delivery) = self.pending.pop_front()?;
                Some(Step::Open(tag, delivery))
            }
            Suspect::Entry => self.entries.pop_front().map(Step::Pass),
        }
    }

    /// Takes the messages of a delivery that was opened; gives the one to be passed on, if the
    /// delivery was no more than that.
    pub(crate) fn opened(&mut self, messages: Vec<Message>) -> Option<Message> {
        self.entries = messages.into();
        if self.entries.len() > 1 {
            // Each is announced by itself.
            self.stage = Stage::Idle;
            return None;
        }
        self.entries.pop_front()
    }

    /// What to do next; nothing while a delivery, an announcement or a message under way is waited
    /// for. `is_clear`: no message is in the pipeline; `begins`: a further delivery may
    /// be begun; `suspect`: what a delivery is called.
    pub(crate) fn step(
        &mut self,
        is_clear: bool,
        begins: bool,
        suspect: impl Fn(&Delivery) -> String,
    ) -> Option<Step> {
        match self.stage {
            Stage::Announcing(_) => return None,
            Stage::Working if !is_clear => return None,
            Stage::Working => {
                self.stage = Stage::Idle;
                self.left = self.left.saturating_sub(1);
                if self.entries.is_empty() && self.pending.is_empty() {
                    // Whatever kills the worker from here on, it is not the message before.
                    return Some(Step::Announce(None));
                }
            }
            Stage::Idle => {}
        }
        if self.left == 0 {
            return Some(Step::End);
        }
        if let Some(entry) = self.entries.front() {
            let name = entry.id.to_string();
            if self.condemned.contains(&name) {
                self.stage = Stage::Working;
                return self.entries.pop_front().map(Step::Condemn);
            }
            self.stage = Stage::Announcing(Suspect::Entry);
            return Some(Step::Announce(Some(name)));
        }
        let (_, delivery) = self.pending.front().filter(|_| begins)?;
        let name = suspect(delivery);
        if self.condemned.contains(&name) {
            self.stage = Stage::Working;
            let (tag, delivery) = self.pending.pop_front()?;
            return Some(Step::Bury(tag, delivery));
        }
        self.stage = Stage::Announcing(Suspect::Delivery);
        Some(Step::Announce(Some(name)))
    }
}

#[cfg(test)]
#[path = "probation_tests.rs"]
mod tests;
