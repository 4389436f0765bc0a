//! The targets of the Makefile.

use std::{
    collections::BTreeSet,
    process::{Command, Output},
};

use super::{root, text};

#[test]
fn make_help_lists_every_target_with_a_text() {
    let makefile = text("Makefile").replace("\\\n", " ");
    let phony = makefile
        .lines()
        .find_map(|line| line.strip_prefix(".PHONY:"));
    let targets: BTreeSet<_> = phony
        .expect("it names its targets")
        .split_whitespace()
        .collect();
    assert!(targets.len() > 20, "{targets:?}");

    let help = make("help");
    let help = String::from_utf8(help.stdout).expect("the help is text");
    let listed = help.lines().map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let target = words.next().expect("a line names a target");
        assert!(words.next().is_some(), "{target} has no text");
        target
    });
    assert_eq!(listed.collect::<BTreeSet<_>>(), targets);
}

#[test]
fn migrate_down_refuses_and_says_what_to_do_instead() {
    let refused = make("migrate-down");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(said.contains("only go forward"), "{said}");
    assert!(said.contains("restore the backup"), "{said}");
}

fn make(target: &str) -> Output {
    let mut make = Command::new("make");
    let make = make.arg("--silent").arg(target).current_dir(root());
    // What a `make test` around this one says is not for it.
    let make = make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    make.output().expect("make can be run")
}
