//! What the supervisor is told of stored messages: merged over a short time, and bounded.

use std::time::{Duration, Instant};

use jatis_shared::{control::MAX_STORED_IDS, ids::MessageId};

/// Ids of stored messages that somebody awaits, until the next notice.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    ids: Vec<MessageId>,
    /// When the first of them came, or the last notice was taken.
    since: Option<Instant>,
}

/// Most notices that wait while the supervisor does not read. The oldest are dropped: who awaits
/// them has been answered without by then.
const MAX_NOTICES: usize = 16 * MAX_STORED_IDS;

impl Notices {
    pub(crate) fn add(&mut self, ids: Vec<MessageId>, now: Instant) {
        if ids.is_empty() {
            return;
        }
        self.ids.extend(ids);
        let surplus = self.ids.len().saturating_sub(MAX_NOTICES);
        self.ids.drain(..surplus);
        self.since.get_or_insert(now);
    }

    /// When the next notice is due, if one is to come.
    pub(crate) fn due(&self, interval: Duration) -> Option<Instant> {
        self.since.map(|since| since + interval)
    }

    /// The ids of one notice, if it is due.
    pub(crate) fn take(&mut self, now: Instant, interval: Duration) -> Option<Vec<MessageId>> {
        if self.due(interval)? > now {
            return None;
        }
        let rest = self.ids.split_off(self.ids.len().min(MAX_STORED_IDS));
        let ids = std::mem::replace(&mut self.ids, rest);
        self.since = (!self.ids.is_empty()).then_some(now);
        Some(ids)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn notices_are_merged_over_their_interval_and_bounded() {
        const INTERVAL: Duration = Duration::from_millis(2);
        let begin = tokio::time::Instant::now().into_std();
        let mut notices = Notices::default();
        let id = |n: usize| MessageId::from(Uuid::from_u128(u128::try_from(n).expect("small")));
        notices.add(Vec::new(), begin);
        assert_eq!(notices.due(INTERVAL), None);
        notices.add(vec![id(0)], begin);
        notices.add((1..MAX_NOTICES + 7).map(id).collect(), begin + INTERVAL);
        assert_eq!(notices.due(INTERVAL), Some(begin + INTERVAL));
        assert_eq!(notices.take(begin, INTERVAL), None);
        let (mut now, mut next) = (begin, 7);
        while notices.due(INTERVAL).is_some() {
            now += INTERVAL;
            let ids = notices.take(now, INTERVAL).expect("it is due");
            assert!(ids.iter().copied().eq((next..next + ids.len()).map(id)));
            assert!(ids.len() <= MAX_STORED_IDS && notices.take(now, INTERVAL).is_none());
            next += ids.len();
        }
        assert_eq!(next, MAX_NOTICES + 7);
    }
}
