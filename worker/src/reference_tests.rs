//! `docs/reference.md` says what the code says.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;

use crate::{
    disposition::{Case, Disposition, Failure, decide},
    message::Reason,
    reference::{rows, words},
    signals::WISHES,
};

#[test]
fn every_signal_is_described() {
    let described: BTreeSet<String> = words("Signals").into_iter().collect();
    let name = |(number, _)| {
        Signal::try_from(number)
            .expect("a signal")
            .as_str()
            .to_owned()
    };
    assert_eq!(described, WISHES.into_iter().map(name).collect());
}

#[test]
fn every_reason_is_described() {
    let reasons = Reason::ALL.map(Reason::as_str);
    assert_eq!(words("Reasons of dead letters"), reasons);
}

#[test]
fn the_sqlstate_table_is_what_is_decided() {
    let table = rows("Failures of a transaction, by SQLSTATE");
    assert_eq!(table.len(), 4);
    for row in table {
        for word in row[0].split(", ") {
            let sqlstate = match word.strip_prefix("class ") {
                Some(class) => format!("{class}000"),
                None if word.len() == 5 => word.to_owned(),
                None => "XX000".to_owned(),
            };
            let alone = if row[2] == "the same" {
                &row[1]
            } else {
                &row[2]
            };
            for (messages, described) in [(500, &row[1]), (1, alone)] {
                assert_eq!(
                    decided(&sqlstate, messages),
                    *described,
                    "{sqlstate}, {messages} messages"
                );
            }
        }
    }
}

/// The words of the page for a decision.
fn decided(sqlstate: &str, messages: usize) -> &'static str {
    let failure = Failure::Refused {
        sqlstate: sqlstate.to_owned(),
        message: String::new(),
        detail: None,
    };
    let case = Case {
        messages,
        is_buried: false,
        conflicts: 0,
        max_conflicts: 5,
    };
    match decide(&failure, case) {
        Disposition::Halve => "halve the batch",
        Disposition::Bury => "dead letter",
        Disposition::Again => "again at once, up to worker.conflict_attempts; then pause",
        Disposition::Pause => "pause",
    }
}
