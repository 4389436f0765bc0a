//! The name of a request: in its answer, in every log line about it, and in the broker's headers.

use std::{fmt, sync::Arc};

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use jiff::Timestamp;
use uuid::Builder;

use crate::random;

/// The header that carries it both ways.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id taken from a client, characters.
const MAX_CHARS: usize = 128;

/// A request's id: 1–128 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(Arc<str>);

impl RequestId {
    /// The client's own, if it is fit to be one; else a new UUIDv7.
    pub(crate) fn of(headers: &HeaderMap, now: Timestamp) -> Self {
        let given = headers
            .get(X_REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .filter(|text| {
                (1..=MAX_CHARS).contains(&text.len())
                    && text.bytes().all(|byte| byte.is_ascii_graphic())
            });
        given.map_or_else(|| Self::new(now), |text| Self(text.into()))
    }

    fn new(now: Timestamp) -> Self {
        let bits = (u128::from(random::bits()) << 64) | u128::from(random::bits());
        let [random @ .., _, _, _, _, _, _] = bits.to_be_bytes();
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let uuid = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        Self(uuid.to_string().into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// As a header's value; absent never happens, since the characters are those of one.
    pub(crate) fn header_value(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fit_id_is_taken_and_any_other_is_replaced() {
        let of = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
            RequestId::of(&headers, Timestamp::UNIX_EPOCH)
        };
        assert_eq!(of(b"abc/1:2").as_str(), "abc/1:2");
        assert_eq!(of(&[b'x'; 128]).as_str().len(), 128);
        for unfit in [&b""[..], b"a b", b"\xc3\xa9", &[b'x'; 129]] {
            assert!(
                of(unfit).as_str().starts_with("00000000-0000-7"),
                "{unfit:?}"
            );
        }
    }
}
