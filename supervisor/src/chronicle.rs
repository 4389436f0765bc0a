//! What has happened to workers of late: the latest transitions, for an operator who asks, and each
//! new one for those who follow.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::broadcast;

use crate::fleet::Transition;

/// The latest transitions of all tenants.
#[derive(Debug)]
pub struct Chronicle {
    /// Oldest first, at most `admin.events`.
    past: Mutex<VecDeque<Transition>>,
    /// A follower that is slower than as many is told how many it has missed.
    news: broadcast::Sender<Transition>,
    capacity: usize,
}

impl Chronicle {
    /// Empty. Remembers `capacity` transitions, at least 1.
    #[must_use]
    pub fn new(capacity: u16) -> Self {
        let capacity = usize::from(capacity.max(1));
        Self {
            past: Mutex::new(VecDeque::with_capacity(capacity)),
            news: broadcast::channel(capacity).0,
            capacity,
        }
    }

    /// Takes in what has just happened.
    pub fn note(&self, transition: &Transition) {
        let mut past = self.lock();
        if past.len() == self.capacity {
            past.pop_front();
        }
        past.push_back(transition.clone());
        // In the same turn, so that whoever reads misses none and hears none twice. That nobody
        // follows is no error.
        self.news.send(transition.clone()).ok();
    }

    /// What is remembered, oldest first, and what comes after it.
    #[must_use]
    pub fn read(&self) -> (Vec<Transition>, broadcast::Receiver<Transition>) {
        let past = self.lock();
        (past.iter().cloned().collect(), self.news.subscribe())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Transition>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::fleet::StateName;

    fn transition(generation: u64) -> Transition {
        Transition {
            at: Timestamp::UNIX_EPOCH,
            tenant: Uuid::nil().into(),
            pid: None,
            generation,
            from: StateName::Queued,
            to: StateName::Spawning,
            cause: String::new(),
        }
    }

    #[tokio::test]
    async fn the_latest_are_remembered_and_a_follower_misses_none() {
        let chronicle = Chronicle::new(3);
        for generation in 0..5 {
            chronicle.note(&transition(generation));
        }
        let (past, mut news) = chronicle.read();
        let generations = |past: &[Transition]| {
            past.iter()
                .map(|transition| transition.generation)
                .collect::<Vec<_>>()
        };
        assert_eq!(generations(&past), [2, 3, 4]);
        chronicle.note(&transition(5));
        assert_eq!(news.recv().await.map(|next| next.generation), Ok(5));
        for generation in 6..12 {
            chronicle.note(&transition(generation));
        }
        assert!(matches!(
            news.recv().await,
            Err(broadcast::error::RecvError::Lagged(_))
        ));
    }
}
