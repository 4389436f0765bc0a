//! Which message kills a worker.
//!
//! A worker on probation says which message it opens before it opens it, one at a time. What was
//! open when it crashed is suspect; what was open alone in so many crashes is condemned, and
//! becomes a dead letter unopened.

use std::collections::BTreeMap;

/// Most suspects kept of a tenant. On probation there is one at a time, and one that was survived is
/// none any more: more than a handful are never there together.
const MAX_SUSPECTS: usize = 64;

/// The suspects of one tenant.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// How often a worker crashed with it alone.
    crashes: BTreeMap<String, u16>,
    /// What the present worker has open, alone.
    open: Option<String>,
    /// The latest worker crashed, so the next one is on probation.
    is_shaken: bool,
}

impl Suspects {
    /// What is remembered of earlier supervisors.
    pub(super) fn remembered(crashes: BTreeMap<String, u16>) -> Self {
        Self {
            is_shaken: false,
            crashes,
            open: None,
        }
    }

    /// How often each was alone in a worker that crashed.
    pub(super) const fn crashes(&self) -> &BTreeMap<String, u16> {
        &self.crashes
    }

    /// The worker is about to open a message, or has none open, so it has survived the one before.
    /// Says whether that changes what is to be remembered.
    pub(super) fn begun(&mut self, suspect: Option<String>, alone: bool) -> bool {
        let survived = self
            .open
            .take()
            .filter(|open| Some(open) != suspect.as_ref());
        self.open = suspect.filter(|_| alone);
        survived.is_some_and(|survived| self.crashes.remove(&survived).is_some())
    }

    /// The worker has ended, by a crash or not.
    pub(super) fn ended(&mut self, is_crash: bool) {
        self.is_shaken = is_crash;
        let Some(open) = self.open.take().filter(|_| is_crash) else {
            return;
        };
        if self.crashes.len() < MAX_SUSPECTS || self.crashes.contains_key(&open) {
            *self.crashes.entry(open).or_default() += 1;
        }
    }

    /// What the next worker shall not open, if it is to be on probation: everything that so many
    /// crashes speak against.
    pub(super) fn condemned(&self, crashes: u16) -> Option<Vec<String>> {
        if !self.is_shaken && self.crashes.is_empty() {
            return None;
        }
        let guilty = self.crashes.iter().filter(|(_, times)| **times >= crashes);
        Some(guilty.map(|(suspect, _)| suspect.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash(suspects: &mut Suspects, open: &str) {
        suspects.begun(Some(open.to_owned()), true);
        suspects.ended(true);
    }

    #[test]
    fn a_message_alone_in_three_crashes_is_condemned() {
        let mut suspects = Suspects::default();
        assert_eq!(suspects.condemned(3), None, "nothing has happened");
        for _ in 0..2 {
            crash(&mut suspects, "a");
            assert_eq!(suspects.condemned(3), Some(vec![]));
        }
        crash(&mut suspects, "a");
        assert_eq!(suspects.condemned(3), Some(vec!["a".to_owned()]));
        let again = Suspects::remembered(suspects.crashes().clone());
        assert_eq!(again.condemned(3), Some(vec!["a".to_owned()]));
    }

    #[test]
    fn one_in_company_one_that_was_survived_and_a_clean_exit_count_nothing() {
        let mut suspects = Suspects::default();
        suspects.begun(Some("a".to_owned()), false);
        suspects.ended(true);
        assert!(suspects.crashes().is_empty(), "not alone");
        for next in [Some("b".to_owned()), None] {
            crash(&mut suspects, "a");
            assert!(!suspects.begun(Some("a".to_owned()), true));
            assert!(suspects.begun(next, true));
            assert!(suspects.crashes().is_empty(), "survived");
        }
        suspects.ended(true);
        assert!(suspects.crashes().is_empty(), "nothing was open");
        suspects.begun(Some("c".to_owned()), true);
        suspects.ended(false);
        assert!(suspects.crashes().is_empty(), "nothing crashed");
        assert_eq!(suspects.condemned(3), None, "it left in order");
    }

    #[test]
    fn there_are_not_endlessly_many() {
        let mut suspects = Suspects::default();
        for nth in 0..200 {
            crash(&mut suspects, &nth.to_string());
            suspects.open = None;
        }
        assert_eq!(suspects.crashes().len(), MAX_SUSPECTS);
    }
}
