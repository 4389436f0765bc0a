//! Decides what becomes of a batch that could not be stored, by the SQLSTATE of its failure.
//!
//! | SQLSTATE | meaning | several messages | alone |
//! |---|---|---|---|
//! | class 22, class 54, 23514 | a payload the database refuses | halve | bury |
//! | 57014, 53200 | too slow, or too large for its memory | halve | pause |
//! | class 40 | deadlock, serialization failure | again, a few times; then pause | same |
//! | everything else, unknown ones and lost connections included | the database's trouble | pause | pause |
//!
//! Halving leaves the culprit alone after a logarithmic number of transactions. Nothing is buried
//! for an outage: whoever pauses keeps the batch and tries it again. A message that is alone and
//! too slow waits like that too, in front of the others: there is no place yet where it could be
//! put aside for later.
//!
//! CAUTION: `docs/reference.md` shows this table. Pure.

use std::fmt;

/// Why a transaction failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The database said no. `detail` may quote a payload.
    Refused {
        sqlstate: String,
        message: String,
        detail: Option<String>,
    },
    /// There is no connection, or it broke; what the database did is not known.
    Unreachable { message: String },
}

impl Failure {
    /// What a dead letter says of it.
    pub(crate) fn with_detail(&self) -> String {
        match self {
            Self::Refused {
                detail: Some(detail),
                ..
            } => format!("{self} ({detail})"),
            Self::Refused { detail: None, .. } | Self::Unreachable { .. } => self.to_string(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused {
                sqlstate, message, ..
            } => write!(out, "{sqlstate}: {message}"),
            Self::Unreachable { message } => out.write_str(message),
        }
    }
}

/// What the decision depends on, besides the failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) messages: usize,
    /// All of them are dead letters already: what failed is not their payload.
    pub(crate) is_buried: bool,
    /// Conflicts it has met before this one, and how many it may meet.
    pub(crate) conflicts: u16,
    pub(crate) max_conflicts: u16,
}

/// What becomes of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// Each half is a batch of its own.
    Halve,
    /// Its one message becomes a dead letter.
    Bury,
    /// The same batch, at once.
    Again,
    /// The same batch, once a probe has succeeded. Until then nothing is stored at all.
    Pause,
}

/// The decision.
pub(crate) fn decide(failure: &Failure, case: Case) -> Disposition {
    let Failure::Refused { sqlstate, .. } = failure else {
        return Disposition::Pause;
    };
    let class = sqlstate.get(..2).unwrap_or_default();
    match (class, sqlstate.as_str()) {
        ("22" | "54", _) | (_, "23514") if case.messages > 1 => Disposition::Halve,
        ("22" | "54", _) | (_, "23514") if !case.is_buried => Disposition::Bury,
        (_, "57014" | "53200") if case.messages > 1 => Disposition::Halve,
        ("40", _) if case.conflicts < case.max_conflicts => Disposition::Again,
        _ => Disposition::Pause,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CASE: Case = Case {
        messages: 1,
        is_buried: false,
        conflicts: 0,
        max_conflicts: 5,
    };

    fn refused(sqlstate: &str) -> Failure {
        Failure::Refused {
            sqlstate: sqlstate.to_owned(),
            message: String::new(),
            detail: None,
        }
    }

    #[test]
    fn a_failure_is_disposed_of_by_its_sqlstate() {
        use Disposition::{Again, Bury, Halve, Pause};
        for (sqlstate, several, alone) in [
            ("22P02", Halve, Bury),
            ("22P05", Halve, Bury),
            ("22003", Halve, Bury),
            ("54001", Halve, Bury),
            ("54000", Halve, Bury),
            ("23514", Halve, Bury),
            ("57014", Halve, Pause),
            ("53200", Halve, Pause),
            ("40001", Again, Again),
            ("40P01", Again, Again),
            ("23505", Pause, Pause),
            ("25006", Pause, Pause),
            ("28P01", Pause, Pause),
            ("42P01", Pause, Pause),
            ("53100", Pause, Pause),
            ("53300", Pause, Pause),
            ("55P03", Pause, Pause),
            ("57P01", Pause, Pause),
            ("58030", Pause, Pause),
            ("08006", Pause, Pause),
            ("XX000", Pause, Pause),
            ("", Pause, Pause),
        ] {
            let failure = refused(sqlstate);
            let many = Case {
                messages: 500,
                ..CASE
            };
            assert_eq!(decide(&failure, many), several, "{sqlstate}, several");
            assert_eq!(decide(&failure, CASE), alone, "{sqlstate}, alone");
        }
    }

    #[test]
    fn conflicts_are_tried_again_only_so_often() {
        let last = Case {
            conflicts: 4,
            ..CASE
        };
        assert_eq!(decide(&refused("40001"), last), Disposition::Again);
        let beyond = Case {
            conflicts: 5,
            ..CASE
        };
        assert_eq!(decide(&refused("40001"), beyond), Disposition::Pause);
    }

    #[test]
    fn a_dead_letter_is_not_buried_again() {
        let buried = Case {
            is_buried: true,
            ..CASE
        };
        assert_eq!(decide(&refused("22P02"), buried), Disposition::Pause);
    }

    proptest! {
        #[test]
        fn only_a_message_alone_is_buried_and_never_for_an_outage(
            sqlstate in "[0-9A-Z]{5}", messages in 1_usize..600, conflicts in 0_u16..10, is_buried: bool,
        ) {
            let case = Case { messages, is_buried, conflicts, max_conflicts: 5 };
            let outage = Failure::Unreachable { message: String::new() };
            prop_assert_eq!(decide(&outage, case), Disposition::Pause);
            match decide(&refused(&sqlstate), case) {
                Disposition::Bury => prop_assert!(messages == 1 && !is_buried),
                Disposition::Halve => prop_assert!(messages > 1),
                Disposition::Again => prop_assert!(conflicts < 5),
                Disposition::Pause => {}
            }
        }
    }
}
