//! The row `installation` and the lock that belongs to it, as SQL.

use jatis_shared::schema::LOCK_SUPERVISOR;
use postgres::{Client, Row, types::Type};
use uuid::Uuid;

use super::{Holder, Identity, StoreError};

/// What the row says.
pub(super) struct Standing {
    /// Absent until the database is first taken.
    identity: Option<Identity>,
    pub(super) epoch: i64,
    pub(super) last_tick: u64,
    /// An upgrade of the holder is under way: only it may take the hold now.
    reserved: bool,
}

/// How the row looks to its holder.
pub(super) enum Look {
    /// It names somebody else, or another epoch.
    Another,
    /// It is behind.
    Stale,
    Current,
}

impl Standing {
    pub(super) fn holder(self) -> Option<Holder> {
        let epoch = self.epoch;
        self.identity.map(|identity| Holder { identity, epoch })
    }

    /// The holder, known to be another than this supervisor; unnamed when somebody emptied the row.
    pub(super) fn successor(self) -> Holder {
        let epoch = self.epoch;
        let unnamed = Identity {
            instance: Uuid::nil(),
            host: "unknown".to_owned(),
            pid: 0,
        };
        self.holder().unwrap_or(Holder {
            identity: unnamed,
            epoch,
        })
    }

    pub(super) fn is_reserved_for_another(&self, instance: Uuid) -> bool {
        let named = self.identity.as_ref().map(|identity| identity.instance);
        self.reserved && named != Some(instance)
    }
}

pub(super) fn try_lock(client: &mut Client) -> Result<bool, StoreError> {
    client
        .query_typed_one(
            "SELECT pg_try_advisory_lock($1)",
            &[(&LOCK_SUPERVISOR, Type::INT8)],
        )
        .and_then(|row| row.try_get(0))
        .map_err(StoreError::sql("try the lock of the supervisor"))
}

pub(super) fn unlock(client: &mut Client) -> Result<(), StoreError> {
    client
        .query_typed_one(
            "SELECT pg_advisory_unlock($1)",
            &[(&LOCK_SUPERVISOR, Type::INT8)],
        )
        .map_err(StoreError::sql("give the lock of the supervisor back"))?;
    Ok(())
}

const READ: &str = "
    SELECT instance, host, pid, epoch, last_tick, COALESCE(hold_until > now(), false)
    FROM installation";

pub(super) fn read(client: &mut Client) -> Result<Standing, StoreError> {
    client
        .query_typed_one(READ, &[])
        .and_then(|row| standing(&row))
        .map_err(StoreError::sql("read who holds the database"))
}

fn standing(row: &Row) -> Result<Standing, postgres::Error> {
    let instance: Option<Uuid> = row.try_get(0)?;
    let host: Option<String> = row.try_get(1)?;
    let pid: Option<i32> = row.try_get(2)?;
    let last_tick: i64 = row.try_get(4)?;
    let identity = instance.map(|instance| Identity {
        instance,
        host: host.unwrap_or_default(),
        pid: pid
            .and_then(|pid| u32::try_from(pid).ok())
            .unwrap_or_default(),
    });
    Ok(Standing {
        identity,
        epoch: row.try_get(3)?,
        last_tick: u64::try_from(last_tick).unwrap_or_default(),
        reserved: row.try_get(5)?,
    })
}

const TAKE: &str = "
    UPDATE installation
    SET instance = $1, host = $2, pid = $3, epoch = $4, hold_until = NULL";

pub(super) fn take(client: &mut Client, identity: &Identity, epoch: i64) -> Result<(), StoreError> {
    // Linux pids end at 2^22.
    let pid = i32::try_from(identity.pid).unwrap_or_default();
    client
        .execute_typed(
            TAKE,
            &[
                (&identity.instance, Type::UUID),
                (&identity.host, Type::TEXT),
                (&pid, Type::INT4),
                (&epoch, Type::INT8),
            ],
        )
        .map_err(StoreError::sql("take the hold of the database"))?;
    Ok(())
}

const RESERVE: &str = "
    UPDATE installation
    SET hold_until = now() + make_interval(secs => $2)
    WHERE epoch = $1";

/// Keeps the hold for this epoch's holder for a while, lock or not.
pub(super) fn reserve(client: &mut Client, epoch: i64, seconds: f64) -> Result<(), StoreError> {
    client
        .execute_typed(RESERVE, &[(&epoch, Type::INT8), (&seconds, Type::FLOAT8)])
        .map_err(StoreError::sql("reserve the hold for an upgrade"))?;
    Ok(())
}

/// An idle supervisor writes nothing: the note itself takes one transaction id, hence the 1.
const LOOK: &str = "
    SELECT
        epoch = $1 AND instance IS NOT DISTINCT FROM $2,
        last_tick < $3
            OR xid_high + 1 < xid_base + pg_snapshot_xmax(pg_current_snapshot())::text::bigint
    FROM installation";

pub(super) fn look(
    client: &mut Client,
    instance: Uuid,
    epoch: i64,
    tick: u64,
) -> Result<Look, StoreError> {
    let look = StoreError::sql("look who holds the database");
    let row = client
        .query_typed_one(
            LOOK,
            &[
                (&epoch, Type::INT8),
                (&instance, Type::UUID),
                (&column(tick), Type::INT8),
            ],
        )
        .map_err(&look)?;
    let is_ours: bool = row.try_get(0).map_err(&look)?;
    let is_stale: bool = row.try_get(1).map_err(&look)?;
    Ok(match (is_ours, is_stale) {
        (false, _) => Look::Another,
        (true, true) => Look::Stale,
        (true, false) => Look::Current,
    })
}

const NOTE: &str = "
    UPDATE installation
    SET
        last_tick = GREATEST(last_tick, $2),
        xid_high = GREATEST(xid_high, xid_base + pg_current_xact_id()::text::bigint)
    WHERE epoch = $1";

pub(super) fn note(client: &mut Client, epoch: i64, tick: u64) -> Result<(), StoreError> {
    client
        .execute_typed(NOTE, &[(&epoch, Type::INT8), (&column(tick), Type::INT8)])
        .map_err(StoreError::sql("note the latest tick"))?;
    Ok(())
}

/// As stored in `installation.last_tick`.
fn column(tick: u64) -> i64 {
    i64::try_from(tick).unwrap_or(i64::MAX)
}
