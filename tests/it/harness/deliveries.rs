//! What RabbitMQ delivers, read off the wire.
//!
//! A redelivery is visible only to the consumer, which is the worker under test. The proxy in
//! front of the broker therefore shows the broker's bytes to a [`Wiretap`] per connection, which
//! looks for `basic.deliver` and its `redelivered` bit.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Buf;

use super::frames::{Frame, Frames, METHOD, short_text};

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
    frames: Frames,
}

const BASIC_DELIVER: u32 = 60 << 16 | 60;

impl Wiretap {
    pub(crate) fn new(deliveries: Arc<Deliveries>) -> Self {
        Self {
            deliveries,
            frames: Frames::default(),
        }
    }

    /// Takes the next bytes from the broker.
    pub(crate) fn observe(&mut self, bytes: &[u8]) {
        self.frames.push(bytes);
        while let Some(frame) = self.frames.next() {
            if let Some(redelivered) = redelivered(frame) {
                self.deliveries.seen.fetch_add(1, Ordering::Relaxed);
                self.deliveries
                    .redelivered
                    .fetch_add(u64::from(redelivered), Ordering::Relaxed);
            }
        }
    }

    /// Whether a frame of somebody else's may be put in here.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.frames.is_between_two()
    }
}

/// The bit of a delivery; `None` for any other frame.
fn redelivered(frame: Frame) -> Option<bool> {
    let Frame { kind, mut payload } = frame;
    if kind != METHOD || payload.get_u32() != BASIC_DELIVER {
        return None;
    }
    let _consumer_tag = short_text(&mut payload);
    let _delivery_tag = payload.get_u64();
    Some(payload.get_u8() & 1 == 1)
}
