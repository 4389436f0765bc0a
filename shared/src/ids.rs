//! Identities, and the mint of message ids.
//!
//! A message id is a UUIDv7 (RFC 9562 §5.7) whose bits are
//!
//! ```text
//! 48 Unix milliseconds │ 4 version │ 12 fraction │ 2 variant │ 24 tenant number │ 1 origin │ 37 random
//! ```
//!
//! The fraction counts 4096ths of a millisecond (RFC 9562 §6.2, method 3), so time and fraction
//! together are one number of *ticks*, and ids sort by it. A process never mints two ids of the
//! same tick. The tenant's number tells `GET /messages/{id}` its partition without a search.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const TICKS_PER_MILLI: u64 = 4096;
/// Ticks in a second.
pub const TICKS_PER_SECOND: u64 = 1000 * TICKS_PER_MILLI;
/// An id may be this far ahead of the clock of whoever checks it; beyond, it is not believed.
const MAX_AHEAD_TICKS: u64 = 60 * TICKS_PER_SECOND;
const RANDOM_BITS: u32 = 37;
const ORIGIN_BIT: u64 = 1 << RANDOM_BITS;

/// A tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(Uuid);

/// A message: its identity, its place in every list and the time it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(Uuid);

macro_rules! uuid_newtype {
    ($name:ident) => {
        impl $name {
            /// The bare UUID, for SQL parameters.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }
        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::from_str(text).map(Self)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(out)
            }
        }
    };
}
uuid_newtype!(TenantId);
uuid_newtype!(MessageId);

/// The number of a tenant inside its message ids: 1 to 2^24 − 1, never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct TenantNumber(u32);

/// A tenant number outside 1 to 2^24 − 1.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0} is not a tenant number (1 to 16777215)")]
pub struct NotATenantNumber(u32);

impl TryFrom<u32> for TenantNumber {
    type Error = NotATenantNumber;
    fn try_from(number: u32) -> Result<Self, NotATenantNumber> {
        match number {
            1..0x0100_0000 => Ok(Self(number)),
            _ => Err(NotATenantNumber(number)),
        }
    }
}

impl From<TenantNumber> for u32 {
    fn from(number: TenantNumber) -> Self {
        number.0
    }
}

/// Where a message got its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// At accept, by the supervisor that answered the client.
    Accepted,
    /// At consumption, by the worker: an AMQP client had put it into the queue itself.
    Consumed,
}

impl Origin {
    /// As stored in `message_counts.origin`.
    #[must_use]
    pub const fn column(self) -> i16 {
        match self {
            Self::Accepted => 0,
            Self::Consumed => 1,
        }
    }
}

impl MessageId {
    /// Ticks since 1970, the id's time.
    #[must_use]
    pub const fn ticks(self) -> u64 {
        let (high, _) = self.0.as_u64_pair();
        (high >> 16) * TICKS_PER_MILLI + (high & 0xfff)
    }

    /// The time the id was minted, to the microsecond.
    #[must_use]
    pub fn created_at(self) -> Timestamp {
        // 48 bits of milliseconds end in the year 10889, beyond what Timestamp holds; such an id
        // is never minted and never accepted (`is_ours`), but it may be asked for.
        Timestamp::from_microsecond(micros(self.ticks())).unwrap_or(Timestamp::MAX)
    }

    /// The minute since 1970 the id belongs to, as stored in `message_counts.bucket`.
    #[must_use]
    pub fn minute(self) -> i32 {
        i32::try_from(self.ticks() / TICKS_PER_SECOND / 60).unwrap_or(i32::MAX)
    }

    /// The 24 bits that name a tenant; any value for an id that is not of this layout.
    #[must_use]
    pub fn tenant_number(self) -> Option<TenantNumber> {
        let (_, low) = self.0.as_u64_pair();
        let number = u32::try_from((low >> (RANDOM_BITS + 1)) & 0x00ff_ffff).ok()?;
        TenantNumber::try_from(number).ok()
    }

    /// Where the id was minted.
    #[must_use]
    pub const fn origin(self) -> Origin {
        let (_, low) = self.0.as_u64_pair();
        if low & ORIGIN_BIT == 0 {
            Origin::Accepted
        } else {
            Origin::Consumed
        }
    }

    /// Version and variant are those of a UUIDv7 of RFC 9562.
    #[must_use]
    pub const fn has_our_layout(self) -> bool {
        let (high, low) = self.0.as_u64_pair();
        (high >> 12) & 0xf == 7 && low >> 62 == 0b10
    }

    /// Whether this tenant may have been given this id by us: layout and number fit, and its time
    /// is at most a minute ahead of `now`.
    #[must_use]
    pub fn is_ours(self, number: TenantNumber, now: Timestamp) -> bool {
        self.has_our_layout()
            && self.tenant_number() == Some(number)
            && self.ticks() <= ticks(now).saturating_add(MAX_AHEAD_TICKS)
    }

    /// The smallest id of a time: every id minted at `at` or later is equal or greater, every
    /// earlier one smaller. For time ranges over the primary key.
    #[must_use]
    pub fn floor(at: Timestamp) -> Self {
        Self(Uuid::from_u64_pair(high(ticks(at)), 0))
    }
}

/// Ticks since 1970 of a time; times before count as 1970. The fraction is rounded up, so that
/// the microsecond comes back whole from `micros`.
#[must_use]
pub fn ticks(at: Timestamp) -> u64 {
    let micros = u64::try_from(at.as_microsecond()).unwrap_or(0);
    (micros / 1000) * TICKS_PER_MILLI + ((micros % 1000) * TICKS_PER_MILLI).div_ceil(1000)
}

/// Microseconds since 1970 of a number of ticks.
fn micros(ticks: u64) -> i64 {
    let whole = ticks / TICKS_PER_MILLI * 1000 + (ticks % TICKS_PER_MILLI) * 1000 / TICKS_PER_MILLI;
    i64::try_from(whole).unwrap_or(i64::MAX)
}

const fn high(ticks: u64) -> u64 {
    ((ticks / TICKS_PER_MILLI) << 16) | 0x7000 | (ticks % TICKS_PER_MILLI)
}

/// Mints the message ids of a process: no two share a tick, over all threads.
#[derive(Debug)]
pub struct Mint {
    last: AtomicU64,
}

impl Mint {
    /// A mint whose ids all lie above `floor` ticks, however the clock was set back since the
    /// process that reached `floor`.
    #[must_use]
    pub const fn above(floor: u64) -> Self {
        Self {
            last: AtomicU64::new(floor),
        }
    }

    /// A new id. `random` gives its 37 random bits.
    pub fn mint(
        &self,
        now: Timestamp,
        number: TenantNumber,
        origin: Origin,
        random: u64,
    ) -> MessageId {
        let now = ticks(now);
        let step = |last: u64| now.max(last + 1);
        // The closure always returns Some, so both arms carry the previous value.
        let (Ok(last) | Err(last)) =
            self.last
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                    Some(step(last))
                });
        let origin = match origin {
            Origin::Accepted => 0,
            Origin::Consumed => ORIGIN_BIT,
        };
        let number = u64::from(number.0) << (RANDOM_BITS + 1);
        let low = (0b10 << 62) | number | origin | (random & (ORIGIN_BIT - 1));
        MessageId(Uuid::from_u64_pair(high(step(last)), low))
    }

    /// From now on ids lie above `floor` ticks as well.
    pub fn raise(&self, floor: u64) {
        self.last.fetch_max(floor, Ordering::Relaxed);
    }

    /// The tick of the latest id (or the floor): what a successor must start above.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
#[path = "ids_tests.rs"]
mod tests;
