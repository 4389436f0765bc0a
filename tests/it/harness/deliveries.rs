//! What RabbitMQ delivers, read off the wire.
//!
//! A redelivery is visible only to the consumer, which is the worker under test. The proxy in
//! front of the broker therefore shows the broker's bytes to a [`Wiretap`] per connection, which
//! takes the AMQP 0-9-1 frames apart as far as `basic.deliver` and its `redelivered` bit.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::{Buf, BytesMut};

/// Deliveries seen on all connections of a proxy.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    seen: AtomicU64,
    redelivered: AtomicU64,
}

impl Deliveries {
    /// All of them.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Those the broker had delivered before.
    pub(crate) fn redelivered(&self) -> u64 {
        self.redelivered.load(Ordering::Relaxed)
    }
}

/// Reads the broker's side of one connection.
#[derive(Debug)]
pub(crate) struct Wiretap {
    deliveries: Arc<Deliveries>,
    /// Bytes of a frame that has not arrived whole; at most one frame of `frame_max`.
    partial: BytesMut,
}

/// Type, channel and size of a frame.
const HEAD_BYTES: usize = 1 + 2 + 4;
const FRAME_METHOD: u8 = 1;
const FRAME_END: u8 = 0xce;
const BASIC_DELIVER: u32 = 60 << 16 | 60;

impl Wiretap {
    pub(crate) fn new(deliveries: Arc<Deliveries>) -> Self {
        Self {
            deliveries,
            partial: BytesMut::new(),
        }
    }

    /// Takes the next bytes from the broker.
    pub(crate) fn observe(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        while let Some(redelivered) = self.next_frame() {
            if let Some(redelivered) = redelivered {
                self.deliveries.seen.fetch_add(1, Ordering::Relaxed);
                self.deliveries
                    .redelivered
                    .fetch_add(u64::from(redelivered), Ordering::Relaxed);
            }
        }
    }

    /// A whole frame, if there is one: `Some(bit)` for a delivery, `None` for any other.
    fn next_frame(&mut self) -> Option<Option<bool>> {
        let mut head = self.partial.get(..HEAD_BYTES)?;
        let (kind, _channel, size) = (head.get_u8(), head.get_u16(), head.get_u32());
        let size = usize::try_from(size).expect("a frame's size fits");
        if self.partial.len() < HEAD_BYTES + size + 1 {
            return None;
        }
        self.partial.advance(HEAD_BYTES);
        let mut payload = self.partial.split_to(size);
        assert_eq!(self.partial.get_u8(), FRAME_END, "the wiretap lost track");
        if kind != FRAME_METHOD || payload.get_u32() != BASIC_DELIVER {
            return Some(None);
        }
        let consumer_tag_bytes = usize::from(payload.get_u8());
        payload.advance(consumer_tag_bytes);
        let _delivery_tag = payload.get_u64();
        Some(Some(payload.get_u8() & 1 == 1))
    }
}
