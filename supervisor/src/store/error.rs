//! What can go wrong between jatis and its database.

use std::{io, time::Duration};

use jatis_connect::{
    postgres::{ConnectError, TargetError},
    tls::TlsFault,
};
use postgres::error::SqlState;

use super::migrate::Step;

/// Why the store did not do what it was asked. The text says what failed, the source why.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The pool found no connection within `database.pool_timeout`.
    #[error("no connection to the database")]
    Unavailable(#[source] r2d2::Error),
    /// Every connection of the pool was in use for as long as `database.pool_timeout`.
    #[error("all connections to the database have been busy for {0:?}")]
    Busy(Duration),
    #[error("cannot {doing}")]
    Sql {
        /// What the statement was for, as an order: "list tenants".
        doing: &'static str,
        #[source]
        source: postgres::Error,
    },
    /// `database.lock_attempts` attempts met a lock of somebody else each time.
    #[error("cannot {doing}: a lock was in the way {attempts} times")]
    Locked {
        doing: &'static str,
        attempts: u16,
        #[source]
        source: postgres::Error,
    },
    /// A value this build cannot read: written by a later one, or by hand.
    #[error("the database holds {found:?} where a {expected} belongs")]
    Corrupt {
        expected: &'static str,
        found: String,
    },
    /// All 2^24 − 1 tenant numbers have been given.
    #[error("no tenant number is left")]
    NumbersExhausted,
    /// `server_version_num`, of a server before PostgreSQL 13.
    #[error("the server is PostgreSQL {}; jatis needs 13 or later", .0 / 10_000)]
    ServerTooOld(i32),
    #[error(
        "the database has schema version {found}, this build knows {known}: a later jatis was here"
    )]
    NewerSchema { found: i32, known: i32 },
    /// Of the same version, but not this build's: edited after its release, or another program's.
    #[error(
        "the database's migration {0} is not one that this build knows: it was changed by hand"
    )]
    ForeignSchema(Step),
    #[error("cannot bring the schema up to date")]
    Migration(#[source] refinery::Error),
    #[error("cannot start a thread for the database")]
    Thread(#[source] io::Error),
    /// The process is ending and takes no more jobs.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Adds to a driver's error what was being done.
    pub(super) fn sql(doing: &'static str) -> impl Fn(postgres::Error) -> Self {
        move |source| Self::Sql { doing, source }
    }

    /// Waiting cannot mend it: a person must change the address, the server or the program.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Target(_)
            | Self::ServerTooOld(_)
            | Self::NewerSchema { .. }
            | Self::ForeignSchema(_)
            | Self::Corrupt { .. } => true,
            Self::Connect(_)
            | Self::Unavailable(_)
            | Self::Busy(_)
            | Self::Sql { .. }
            | Self::Locked { .. }
            | Self::NumbersExhausted
            | Self::Migration(_)
            | Self::Thread(_)
            | Self::Closed => false,
        }
    }

    /// No outage: the program or the data is wrong, and a person must look.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Sql { source, .. } => source.code().is_some_and(|state| {
                // Connection, conflict, resources, state of an object, operator, system: of the
                // classes of SQLSTATE (PostgreSQL manual, appendix A) those that pass.
                let passing = ["08", "25", "28", "40", "53", "55", "57", "58"];
                !passing.iter().any(|class| state.code().starts_with(class))
            }),
            Self::Target(_)
            | Self::Connect(_)
            | Self::Unavailable(_)
            | Self::Busy(_)
            | Self::Locked { .. }
            | Self::NumbersExhausted
            | Self::ServerTooOld(_)
            | Self::NewerSchema { .. }
            | Self::ForeignSchema(_)
            | Self::Migration(_)
            | Self::Thread(_)
            | Self::Closed => false,
        }
    }

    /// What was wrong with TLS, if that was it.
    #[must_use]
    pub fn tls_fault(&self) -> Option<TlsFault> {
        TlsFault::behind(self)
    }

    /// A statement failed because a lock was not to be had in time.
    pub(super) fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Sql { source, .. } if source.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
    }
}
