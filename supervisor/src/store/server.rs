//! How the supervisor reaches PostgreSQL: one set of settings for each kind of session.

use jatis_connect::postgres::Target;
use jatis_shared::config::Database;

use super::StoreError;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Statements that answer a request; each ends within `database.statement_timeout`.
    Request,
    /// Changes of the schema: they wait for no lock longer than `database.lock_timeout`, but what
    /// they do once they have it may take its time.
    Schema,
}

/// Where and how to open sessions of this kind.
///
/// # Errors
/// [`StoreError::Target`].
pub(super) fn target(database: &Database, purpose: Purpose) -> Result<Target, StoreError> {
    let parameters = match purpose {
        Purpose::Request => [
            ("statement_timeout", database.statement_timeout.as_millis()),
            // Pages come in the order of an index. A leaf that was filled since it was last
            // analyzed looks small to the planner, which would then read and sort all of it.
            // Where a sort cannot be avoided, its pretended cost must not call the compiler.
            ("enable_sort", 0),
            ("jit", 0),
        ]
        .to_vec(),
        Purpose::Schema => [
            ("statement_timeout", 0),
            ("lock_timeout", database.lock_timeout.as_millis()),
        ]
        .to_vec(),
    };
    Ok(Target::new(database, "jatis supervisor", &parameters)?)
}
