//! Keeps the books of the deliveries of one channel: which are held, begun, settled, given back.
//!
//! A delivery is settled when each of its messages is. Settled deliveries are acknowledged from
//! the oldest on without a gap, so that one acknowledgement covers many and never one too many;
//! one that was given back leaves no gap. On a new channel the broker numbers from 1 again:
//! what is heard of an older channel's deliveries changes nothing.
//!
//! Pure: it says what to acknowledge, the connection does it.

use std::collections::VecDeque;

use crate::message::Tag;

/// The deliveries of the present channel.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// 0 while there is no channel.
    generation: u64,
    /// In the order of their numbers, from the oldest that is not acknowledged on. At most as many
    /// as the prefetch and those that were given back behind the oldest.
    deliveries: VecDeque<Delivery>,
}

#[derive(Debug)]
struct Delivery {
    number: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No message of it was handed to a thread. Left by the first that is, or by giving it back.
    Unbegun { messages: usize },
    /// Messages of it are not settled yet. Left by the last that is.
    Begun { messages: usize },
    /// To be acknowledged. Never left.
    Settled,
    /// It is the broker's again. Never left.
    GivenBack,
}

impl Ledger {
    /// The channel of this generation is there; if it is another than before, the books are new.
    pub(crate) fn renew(&mut self, generation: u64) {
        if self.generation != generation {
            self.generation = generation;
            self.deliveries.clear();
        }
    }

    /// The channel is gone.
    pub(crate) fn void(&mut self) {
        self.renew(0);
    }

    /// Whether a delivery belongs to the present channel.
    pub(crate) const fn is_present(&self, tag: Tag) -> bool {
        tag.generation == self.generation
    }

    /// Enters a delivery with this many messages. The broker numbers upwards.
    pub(crate) fn open(&mut self, tag: Tag, messages: usize) {
        if self.is_present(tag) {
            self.deliveries.push_back(Delivery {
                number: tag.number,
                state: State::Unbegun { messages },
            });
        }
    }

    /// A message of it is handed to a thread.
    pub(crate) fn begin(&mut self, tag: Tag) {
        if let Some(delivery) = self.find(tag)
            && let State::Unbegun { messages } = delivery.state
        {
            delivery.state = State::Begun { messages };
        }
    }

    /// A message of it is stored or buried.
    pub(crate) fn settle(&mut self, tag: Tag) {
        if let Some(delivery) = self.find(tag) {
            delivery.state = match delivery.state {
                State::Unbegun { messages: 0 | 1 } | State::Begun { messages: 0 | 1 } => {
                    State::Settled
                }
                State::Unbegun { messages } | State::Begun { messages } => State::Begun {
                    messages: messages - 1,
                },
                ended @ (State::Settled | State::GivenBack) => ended,
            };
        }
    }

    /// The delivery up to which everything may be acknowledged now; each is covered once.
    pub(crate) fn acknowledge(&mut self) -> Option<Tag> {
        let mut covered = None;
        while let Some(oldest) = self.deliveries.front() {
            match oldest.state {
                State::Settled => covered = Some(oldest.number),
                State::GivenBack => {}
                State::Unbegun { .. } | State::Begun { .. } => break,
            }
            self.deliveries.pop_front();
        }
        covered.map(|number| self.tag(number))
    }

    /// Gives back the deliveries that no thread has begun.
    pub(crate) fn give_back_unbegun(&mut self) -> Vec<Tag> {
        self.give_back(|state| matches!(state, State::Unbegun { .. }))
    }

    /// Gives back every delivery that is not settled.
    pub(crate) fn give_back_unsettled(&mut self) -> Vec<Tag> {
        self.give_back(|state| matches!(state, State::Unbegun { .. } | State::Begun { .. }))
    }

    fn give_back(&mut self, concerns: impl Fn(State) -> bool) -> Vec<Tag> {
        let mut numbers = Vec::new();
        for delivery in &mut self.deliveries {
            if concerns(delivery.state) {
                delivery.state = State::GivenBack;
                numbers.push(delivery.number);
            }
        }
        numbers.into_iter().map(|number| self.tag(number)).collect()
    }

    const fn tag(&self, number: u64) -> Tag {
        Tag {
            generation: self.generation,
            number,
        }
    }

    /// Whether it is this worker's to finish: of the present channel, and not given back.
    pub(crate) fn is_held(&self, tag: Tag) -> bool {
        self.is_present(tag)
            && self
                .place(tag.number)
                .and_then(|place| self.deliveries.get(place))
                .is_some_and(|delivery| delivery.state != State::GivenBack)
    }

    /// Deliveries that are neither acknowledged nor given back.
    pub(crate) fn unacknowledged(&self) -> usize {
        let given_back = |delivery: &&Delivery| delivery.state != State::GivenBack;
        self.deliveries.iter().filter(given_back).count()
    }

    /// Messages of them that are not settled.
    pub(crate) fn unsettled_messages(&self) -> usize {
        let messages = self.deliveries.iter().map(|delivery| match delivery.state {
            State::Unbegun { messages } | State::Begun { messages } => messages,
            State::Settled | State::GivenBack => 0,
        });
        messages.sum()
    }

    fn place(&self, number: u64) -> Option<usize> {
        self.deliveries
            .binary_search_by_key(&number, |delivery| delivery.number)
            .ok()
    }

    fn find(&mut self, tag: Tag) -> Option<&mut Delivery> {
        if !self.is_present(tag) {
            return None;
        }
        let place = self.place(tag.number)?;
        self.deliveries.get_mut(place)
    }
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
