//! SQL parameters that are written to the wire as they are.

use std::{error::Error, fmt};

use bytes::{BufMut, BytesMut};
use jiff::Timestamp;
use postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};

/// JSON text for a `jsonb` parameter. It is not parsed here: the server does, and refuses what it
/// cannot store.
pub(crate) struct Jsonb<'a>(pub(crate) &'a [u8]);

/// The version of the binary format: the text follows.
const JSONB_VERSION: u8 = 1;

impl fmt::Debug for Jsonb<'_> {
    /// Says nothing of the payload.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Jsonb({} bytes)", self.0.len())
    }
}

impl ToSql for Jsonb<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u8(JSONB_VERSION);
        out.put_slice(self.0);
        Ok(IsNull::No)
    }

    accepts!(JSONB);
    to_sql_checked!();
}

/// A time for a `timestamptz` parameter.
#[derive(Debug)]
pub(crate) struct TimestampTz(pub(crate) Timestamp);

/// Microseconds from 1970 to 2000, where PostgreSQL counts from.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

impl ToSql for TimestampTz {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.0.as_microsecond() - EPOCH_MICROS);
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(value: &dyn ToSql, kind: &Type) -> Vec<u8> {
        let mut out = BytesMut::new();
        value.to_sql_checked(kind, &mut out).expect("it fits");
        out.to_vec()
    }

    #[test]
    fn json_goes_out_as_it_is() {
        assert_eq!(wire(&Jsonb(b"{ }"), &Type::JSONB), b"\x01{ }");
        assert_eq!(format!("{:?}", Jsonb(b"secret")), "Jsonb(6 bytes)");
    }

    #[test]
    fn times_count_from_2000() {
        let time: Timestamp = "2000-01-01T00:00:00.000001Z".parse().expect("a time");
        assert_eq!(
            wire(&TimestampTz(time), &Type::TIMESTAMPTZ),
            1_i64.to_be_bytes()
        );
        let before: Timestamp = "1999-12-31T23:59:59Z".parse().expect("a time");
        assert_eq!(
            wire(&TimestampTz(before), &Type::TIMESTAMPTZ),
            (-1_000_000_i64).to_be_bytes()
        );
    }
}
