//! How much a tenant has: stored, of late, waiting and dead.

use jatis_shared::{ids::TenantId, schema::TenantState};
use jiff::{SignedDuration, Timestamp};

use super::Tenancy;
use crate::{
    error::Error,
    store::stats::{self, Window},
};

const DAY: SignedDuration = SignedDuration::from_hours(24);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// A tenant's numbers. Those of messages are of one moment; `queued` is as of the latest look at
/// the broker, at most `supervision.depth_interval` old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Stored now.
    pub total_messages: u64,
    /// Of these, accepted within 24 hours.
    pub messages_24h: u64,
    /// Of these, accepted within one hour.
    pub messages_1h: u64,
    /// Deliveries in the tenant's queue, ready and unacknowledged; a delivery may carry several
    /// messages. Absent while the broker has not told.
    pub queued: Option<u64>,
    /// Messages that wait for another attempt. A failed message is kept by its worker and tried
    /// again from there, unacknowledged: it counts as queued, and none waits anywhere else.
    pub retrying: u64,
    /// Dead letters now.
    pub dead_letters: u64,
}

impl Tenancy {
    /// A tenant's statistics at `now`.
    ///
    /// # Errors
    /// When there is no such tenant, or the database is away.
    pub async fn statistics(&self, id: TenantId, now: Timestamp) -> Result<Statistics, Error> {
        self.stage.serving()?;
        self.directory
            .get(id)
            .filter(|known| known.state != TenantState::Dropping)
            .ok_or(Error::TenantNotFound(id))?;
        let window = |length| Window::since(now.checked_sub(length).unwrap_or(Timestamp::MIN));
        let (day, hour) = (window(DAY), window(HOUR));
        let counts = self
            .db
            .run(move |client| stats::count(client, id, day, hour))
            .await?;
        let unacked = self.fleet.snapshot(id).map_or(0, |worker| worker.unacked);
        Ok(Statistics {
            total_messages: counts.stored,
            messages_24h: counts.longer,
            messages_1h: counts.shorter,
            queued: self.depths.get(id).map(|ready| ready + unacked),
            retrying: 0,
            dead_letters: counts.dead,
        })
    }
}
