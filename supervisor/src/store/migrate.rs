//! The schema: made, or brought up to date, when the supervisor starts.
//!
//! The files of `migrations/` are built in. What is missing is applied in one transaction, under
//! the lock that also guards the creation of tenants, so that any number of supervisors may start
//! at once.

use jatis_shared::{config::Database, schema::LOCK_CREATE};
use postgres::{Client, Config, error::SqlState};
use refinery::error::Kind;

use super::{
    StoreError, on_blocking_thread,
    server::{self, Purpose},
};

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// The oldest server that is served, as `server_version_num`.
const OLDEST_SERVER: i32 = 130_000;

/// What a migration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The database did not exist and was created here.
    pub created: bool,
    /// Files applied now; 0 when all were already.
    pub applied: usize,
}

/// Creates the database if it is missing, and applies what its schema lacks.
///
/// # Errors
/// The database cannot be reached or made, the server is older than 13, the schema is newer than
/// this build or was changed by hand, or a statement failed; then nothing was applied.
pub async fn migrate(database: &Database) -> Result<Migrated, StoreError> {
    let settings = server::settings(database, Purpose::Schema)?;
    let attempts = database.lock_attempts;
    on_blocking_thread(move || migrate_now(&settings, attempts)).await
}

fn migrate_now(settings: &Config, attempts: u16) -> Result<Migrated, StoreError> {
    let (mut client, created) = open_or_create(settings)?;
    let version = server_version(&mut client)?;
    if version < OLDEST_SERVER {
        return Err(StoreError::ServerTooOld(version));
    }
    lock(&mut client, attempts)?;
    let applied = apply(&mut client)?;
    // The end of the session gives the lock back.
    client
        .close()
        .map_err(StoreError::sql("end the migration"))?;
    Ok(Migrated { created, applied })
}

fn open_or_create(settings: &Config) -> Result<(Client, bool), StoreError> {
    match server::connect(settings) {
        Err(StoreError::Connect(error))
            if error.code() == Some(&SqlState::INVALID_CATALOG_NAME) =>
        {
            let created = create_database(settings)?;
            Ok((server::connect(settings)?, created))
        }
        opened => Ok((opened?, false)),
    }
}

/// False when another supervisor was quicker.
fn create_database(settings: &Config) -> Result<bool, StoreError> {
    // Without a name, the server takes the user's; so does libpq.
    let name = settings
        .get_dbname()
        .or_else(|| settings.get_user())
        .unwrap_or_default();
    let mut client = maintenance_session(settings)?;
    let quoted = name.replace('"', "\"\"");
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
fn maintenance_session(settings: &Config) -> Result<Client, StoreError> {
    server::connect(settings.clone().dbname("postgres"))
        .or_else(|_| server::connect(settings.clone().dbname("template1")))
}

fn server_version(client: &mut Client) -> Result<i32, StoreError> {
    client
        .query_typed_one("SELECT current_setting('server_version_num')::integer", &[])
        .and_then(|row| row.try_get(0))
        .map_err(StoreError::sql("read the server's version"))
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

fn apply(client: &mut Client) -> Result<usize, StoreError> {
    // Grouped: ungrouped, a file and the note that it was applied are two transactions, and an end
    // between them would leave a schema that can be neither used nor migrated.
    let runner = embedded::migrations::runner().set_grouped(true);
    let known = runner
        .get_migrations()
        .iter()
        .map(refinery::Migration::version)
        .max()
        .unwrap_or_default();
    let report = runner.run(client).map_err(|error| {
        if let Kind::MissingVersion(migration) = error.kind()
            && migration.version() > known
        {
            let found = migration.version();
            return StoreError::NewerSchema { found, known };
        }
        StoreError::Migration(error)
    })?;
    Ok(report.applied_migrations().len())
}
