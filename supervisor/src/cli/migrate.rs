//! `jatis migrate`: brings the schema up to date, or says what that would do.
//!
//! `jatis serve` does the same when it starts. This verb is for those who want it done, or known,
//! before: by another role, or while an earlier version still serves.

use std::io::{self, Write};

use super::{Exit, sources::Setup};
use crate::store::{
    StoreError,
    migrate::{self, Changes},
};

/// The schema is not up to date, or nobody can be told that it is.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("what was done cannot be printed")]
    Output(#[from] io::Error),
}

/// Creates the database if it is missing, applies what its schema lacks, and prints both.
///
/// # Errors
/// When the schema could not be brought up to date; it is then as it was.
pub async fn run(setup: &Setup, out: &mut impl Write) -> Result<Exit, MigrateError> {
    let changes = migrate::migrate(&setup.loaded.config.database).await?;
    print(&changes, Tense::Past, out)?;
    Ok(Exit::Done)
}

/// Prints what [`run`] would do, and does nothing of it.
///
/// # Errors
/// When `run` would be refused from the start.
pub async fn check(setup: &Setup, out: &mut impl Write) -> Result<Exit, MigrateError> {
    let changes = migrate::look(&setup.loaded.config.database).await?;
    print(&changes, Tense::Conditional, out)?;
    Ok(if changes.is_empty() {
        Exit::Done
    } else {
        Exit::Outdated
    })
}

/// Whether it has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tense {
    Past,
    Conditional,
}

fn print(changes: &Changes, tense: Tense, out: &mut impl Write) -> io::Result<()> {
    let (created, applied) = match tense {
        Tense::Past => ("created", "applied"),
        Tense::Conditional => ("would create", "would apply"),
    };
    if let Some(database) = &changes.creates {
        writeln!(out, "{created} the database {database}")?;
    }
    for step in &changes.steps {
        writeln!(out, "{applied} {step}")?;
    }
    if tense == Tense::Past || changes.is_empty() {
        writeln!(out, "the schema is up to date: version {}", changes.version)?;
    }
    Ok(())
}
