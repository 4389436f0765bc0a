//! The schema: made, or brought up to date, when the supervisor starts or `jatis migrate` is run.
//!
//! The files of `migrations/` are built in. What is missing is applied in one transaction, under
//! the lock that also guards the creation of tenants, so that any number of supervisors may start
//! at once. A history that this build does not know is left alone.

use std::fmt;

use jatis_connect::postgres::{ConnectError, Target};
use jatis_shared::{config::Database, schema::LOCK_CREATE};
use postgres::{Client, error::SqlState};
use refinery::{Migration, Runner};

use super::{
    StoreError, on_blocking_thread,
    server::{self, Purpose},
};

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// The oldest server that is served, as `server_version_num`.
const OLDEST_SERVER: i32 = 130_000;

/// What a migration did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The name of the database, if it does not exist before.
    pub creates: Option<String>,
    /// The files applied, in order; none when the schema was up to date.
    pub steps: Vec<Step>,
    /// The version of the schema after it.
    pub version: i32,
}

impl Changes {
    /// There is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.creates.is_none() && self.steps.is_empty()
    }
}

/// A file of `migrations/`. Shown as it is named: `V1__first_release`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub version: i32,
    pub name: String,
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "V{}__{}", self.version, self.name)
    }
}

/// Creates the database if it is missing, and applies what its schema lacks.
///
/// # Errors
/// The database cannot be reached or made, the server is older than 13, the schema is newer than
/// this build or was changed by hand, or a statement failed; then nothing was applied.
pub async fn migrate(database: &Database) -> Result<Changes, StoreError> {
    let target = server::target(database, Purpose::Schema)?;
    let attempts = database.lock_attempts;
    on_blocking_thread(move || migrate_now(&target, attempts)).await
}

/// Says what [`migrate`] would do now, and changes nothing.
///
/// # Errors
/// As [`migrate`], but for what only happens when something is applied.
pub async fn look(database: &Database) -> Result<Changes, StoreError> {
    let target = server::target(database, Purpose::Schema)?;
    on_blocking_thread(move || look_now(&target)).await
}

fn migrate_now(target: &Target, attempts: u16) -> Result<Changes, StoreError> {
    let runner = runner();
    let (mut client, created) = open_or_create(target)?;
    refuse_old_server(&mut client)?;
    lock(&mut client, attempts)?;
    let applied = history(&mut client, &runner)?;
    let steps = lacking(runner.get_migrations(), &applied)?;
    runner.run(&mut client).map_err(StoreError::Migration)?;
    // The end of the session gives the lock back.
    client
        .close()
        .map_err(StoreError::sql("end the migration"))?;
    Ok(changes(
        created.then(|| target.database().to_owned()),
        steps,
        &runner,
    ))
}

fn look_now(target: &Target) -> Result<Changes, StoreError> {
    let runner = runner();
    let (mut client, exists) = match target.connect() {
        Err(error) if is_no_database(&error) => (maintenance_session(target)?, false),
        opened => (opened?, true),
    };
    refuse_old_server(&mut client)?;
    let applied = if exists {
        history(&mut client, &runner)?
    } else {
        Vec::new()
    };
    let steps = lacking(runner.get_migrations(), &applied)?;
    client.close().map_err(StoreError::sql("end the look"))?;
    Ok(changes(
        (!exists).then(|| target.database().to_owned()),
        steps,
        &runner,
    ))
}

/// Grouped: ungrouped, a file and the note that it was applied are two transactions, and an end
/// between them would leave a schema that can be neither used nor migrated.
fn runner() -> Runner {
    embedded::migrations::runner().set_grouped(true)
}

fn changes(creates: Option<String>, steps: Vec<Step>, runner: &Runner) -> Changes {
    Changes {
        creates,
        steps,
        version: newest(runner.get_migrations()),
    }
}

fn is_no_database(error: &ConnectError) -> bool {
    let refusal = error.refusal();
    refusal.is_some_and(|refusal| *refusal.code() == SqlState::INVALID_CATALOG_NAME)
}

fn open_or_create(target: &Target) -> Result<(Client, bool), StoreError> {
    match target.connect() {
        Err(error) if is_no_database(&error) => {
            let created = create_database(target)?;
            Ok((target.connect()?, created))
        }
        opened => Ok((opened?, false)),
    }
}

/// False when another supervisor was quicker.
fn create_database(target: &Target) -> Result<bool, StoreError> {
    let mut client = maintenance_session(target)?;
    let quoted = target.database().replace('"', "\"\"");
    match client.batch_execute(&format!("CREATE DATABASE \"{quoted}\"")) {
        // The second code is what a tie at the same instant gives.
        Err(error)
            if matches!(
                error.code(),
                Some(&SqlState::DUPLICATE_DATABASE | &SqlState::UNIQUE_VIOLATION)
            ) =>
        {
            Ok(false)
        }
        outcome => outcome
            .map(|()| true)
            .map_err(StoreError::sql("create the database")),
    }
}

/// A session from which a database can be created.
fn maintenance_session(target: &Target) -> Result<Client, StoreError> {
    let opened = target.with_database("postgres").connect();
    Ok(opened.or_else(|_| target.with_database("template1").connect())?)
}

fn refuse_old_server(client: &mut Client) -> Result<(), StoreError> {
    let version: i32 = client
        .query_typed_one("SELECT current_setting('server_version_num')::integer", &[])
        .and_then(|row| row.try_get(0))
        .map_err(StoreError::sql("read the server's version"))?;
    if version < OLDEST_SERVER {
        return Err(StoreError::ServerTooOld(version));
    }
    Ok(())
}

/// Waits for the lock `attempts` times as long as for any other, since what another supervisor
/// migrates or creates meanwhile takes its time.
fn lock(client: &mut Client, attempts: u16) -> Result<(), StoreError> {
    let doing = "lock the schema";
    let mut met = 0;
    loop {
        match client.batch_execute(&format!("SELECT pg_advisory_lock({LOCK_CREATE})")) {
            Ok(()) => return Ok(()),
            Err(source) if source.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                return Err(StoreError::Sql { doing, source });
            }
            Err(source) => {
                met += 1;
                if met >= attempts {
                    return Err(StoreError::Locked {
                        doing,
                        attempts,
                        source,
                    });
                }
            }
        }
    }
}

/// What was applied to the database, oldest first.
fn history(client: &mut Client, runner: &Runner) -> Result<Vec<Migration>, StoreError> {
    // Asking the library first would be an error where nothing was ever applied.
    let exists = client
        .query_typed_one(
            "SELECT to_regclass('refinery_schema_history') IS NOT NULL",
            &[],
        )
        .and_then(|row| row.try_get(0))
        .map_err(StoreError::sql("look for the schema's history"))?;
    if exists {
        runner
            .get_applied_migrations(client)
            .map_err(StoreError::Migration)
    } else {
        Ok(Vec::new())
    }
}

/// The known files that follow the applied ones, which must be the first of the known.
fn lacking(known: &[Migration], applied: &[Migration]) -> Result<Vec<Step>, StoreError> {
    let (newest_known, newest_applied) = (newest(known), newest(applied));
    if newest_applied > newest_known {
        return Err(StoreError::NewerSchema {
            found: newest_applied,
            known: newest_known,
        });
    }
    let mut known: Vec<&Migration> = known.iter().collect();
    known.sort();
    for (position, migration) in applied.iter().enumerate() {
        // Equal are those of the same version, name and text.
        if known.get(position) != Some(&migration) {
            return Err(StoreError::ForeignSchema(step(migration)));
        }
    }
    Ok(known.into_iter().skip(applied.len()).map(step).collect())
}

fn newest(migrations: &[Migration]) -> i32 {
    let versions = migrations.iter().map(Migration::version);
    versions.max().unwrap_or_default()
}

fn step(migration: &Migration) -> Step {
    Step {
        version: migration.version(),
        name: migration.name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> Vec<Migration> {
        let migration = |(name, sql): &(&str, &str)| Migration::unapplied(name, sql);
        let migrations: Result<_, _> = files.iter().map(migration).collect();
        migrations.expect("the names are valid")
    }

    const FIRST: (&str, &str) = ("V1__first", "CREATE TABLE one ()");
    const SECOND: (&str, &str) = ("V2__second", "CREATE TABLE two ()");
    const THIRD: (&str, &str) = ("V3__third", "CREATE TABLE three ()");

    #[test]
    fn what_follows_the_applied_files_is_lacking() {
        // The library promises no order.
        let known = files(&[THIRD, FIRST, SECOND]);
        for (applied, expected) in [
            (&[][..], &["V1__first", "V2__second", "V3__third"][..]),
            (&[FIRST][..], &["V2__second", "V3__third"][..]),
            (&[FIRST, SECOND, THIRD][..], &[][..]),
        ] {
            let steps = lacking(&known, &files(applied)).expect("the history is known");
            let names: Vec<String> = steps.iter().map(ToString::to_string).collect();
            assert_eq!(names, expected, "{applied:?}");
        }
    }

    #[test]
    fn a_history_of_another_build_is_refused() {
        let known = files(&[FIRST, SECOND]);
        let edited = ("V1__first", "CREATE TABLE another ()");
        let renamed = ("V1__zeroth", FIRST.1);
        for (applied, expected) in [
            (&[FIRST, SECOND, THIRD][..], "schema version 3"),
            (&[edited][..], "V1__first"),
            (&[renamed][..], "V1__zeroth"),
            // Left out, and the next one applied.
            (&[SECOND][..], "V2__second"),
        ] {
            let refused = lacking(&known, &files(applied)).expect_err("it is not ours");
            assert!(refused.to_string().contains(expected), "{refused}");
            assert!(refused.is_final(), "{refused}");
        }
    }
}
