//! What an AMQP message of ours looks like.
//!
//! Everything jatis publishes carries the property `type`: [`MESSAGE`] for one message (the body is
//! its payload, the property `message_id` its id) or [`BATCH`] for several. Nothing else is ours:
//! a message without one of them comes from an AMQP client, and its body is a payload.
//!
//! A batch is a run of entries, each
//!
//! ```text
//! id: 16 bytes │ payload length: u32, big-endian │ payload: that many bytes of JSON
//! ```
//!
//! Its property `message_id` is the id of its first message. A header that is a flag of a message
//! holds of a batch when it holds of any message in it, so a reader of such a header does for some
//! messages what it need not do, and never misses one. Other headers a batch has none: what tells
//! messages apart belongs into the entries of a later version.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::ids::MessageId;

/// The property `type` of one message.
pub const MESSAGE: &str = "jatis.v1.message";
/// The property `type` of a batch.
pub const BATCH: &str = "jatis.v1.batch";
/// The property `content_type` of one message.
pub const MESSAGE_CONTENT_TYPE: &str = "application/json";
/// The property `content_type` of a batch.
pub const BATCH_CONTENT_TYPE: &str = "application/vnd.jatis.batch.v1";
/// Header, a boolean: somebody waits to hear that this message, or one of this batch, is stored.
pub const HEADER_AWAITED: &str = "jatis-awaited";
/// Header of one message, text: the id of the request that published it.
pub const HEADER_REQUEST_ID: &str = "jatis-request-id";

const ENTRY_HEAD_BYTES: usize = 16 + 4;

/// A batch that cannot be taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBatch {
    #[error("the batch is empty")]
    Empty,
    #[error("the batch ends inside an entry")]
    Truncated,
}

/// What a payload of this many bytes adds to the body of a batch, bytes.
#[must_use]
pub const fn entry_bytes(payload_bytes: usize) -> usize {
    ENTRY_HEAD_BYTES + payload_bytes
}

/// Packs messages into the body of a batch.
///
/// # Panics
/// When a payload is 4 GiB or more; every payload passes a far smaller bound first.
#[must_use]
pub fn pack(messages: &[(MessageId, Bytes)]) -> Bytes {
    let size = messages
        .iter()
        .map(|(_, payload)| entry_bytes(payload.len()))
        .sum();
    let mut body = BytesMut::with_capacity(size);
    for (id, payload) in messages {
        body.put_slice(id.uuid().as_bytes());
        #[expect(
            clippy::expect_used,
            reason = "bodies are bounded far below 4 GiB at accept"
        )]
        body.put_u32(u32::try_from(payload.len()).expect("a payload is shorter than 4 GiB"));
        body.put_slice(payload);
    }
    body.freeze()
}

/// Takes the body of a batch apart. The payloads share the body's memory.
///
/// # Errors
/// When the body is empty or does not end with an entry's end; nothing of it is then usable.
pub fn unpack(mut body: Bytes) -> Result<Vec<(MessageId, Bytes)>, BadBatch> {
    let mut messages = Vec::new();
    while !body.is_empty() {
        if body.len() < ENTRY_HEAD_BYTES {
            return Err(BadBatch::Truncated);
        }
        let id = MessageId::from(Uuid::from_u128(body.get_u128()));
        let length = usize::try_from(body.get_u32()).map_err(|_| BadBatch::Truncated)?;
        if body.len() < length {
            return Err(BadBatch::Truncated);
        }
        messages.push((id, body.split_to(length)));
    }
    if messages.is_empty() {
        Err(BadBatch::Empty)
    } else {
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_batch_comes_back_whole_and_no_part_of_one_passes_for_whole(
            parts in proptest::collection::vec((any::<u128>(), proptest::collection::vec(any::<u8>(), 0..50)), 1..20),
            cut in 0_usize..2000,
        ) {
            let messages: Vec<(MessageId, Bytes)> =
                parts.into_iter().map(|(id, body)| (MessageId::from(Uuid::from_u128(id)), Bytes::from(body))).collect();
            let body = pack(&messages);
            prop_assert_eq!(body.len(), messages.iter().map(|(_, payload)| entry_bytes(payload.len())).sum::<usize>());
            prop_assert_eq!(unpack(body.clone()), Ok(messages.clone()));

            let cut = cut % body.len();
            match unpack(body.slice(..cut)) {
                Ok(fewer) => prop_assert!(fewer.len() < messages.len() && messages.starts_with(&fewer)),
                Err(reason) => prop_assert_eq!(reason == BadBatch::Empty, cut == 0),
            }
        }

        #[test]
        fn no_bytes_make_unpacking_fail_badly(body: Vec<u8>) {
            let _verdict: Result<Vec<_>, BadBatch> = unpack(Bytes::from(body));
        }
    }
}
