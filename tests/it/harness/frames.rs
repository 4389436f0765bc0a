//! AMQP 0-9-1 frames, cut out of a stream of bytes.

use bytes::{Buf, Bytes, BytesMut};

/// Reads one direction of one connection.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Bytes of a frame that has not arrived whole; at most one frame of `frame_max`.
    partial: BytesMut,
}

/// A whole frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) payload: Bytes,
}

pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
/// What a client's side begins with, which is no frame.
const GREETING: &[u8] = b"AMQP\0\0\x09\x01";
/// Type, channel and size of a frame.
const HEAD_BYTES: usize = 1 + 2 + 4;
const FRAME_END: u8 = 0xce;

impl Frames {
    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
    }

    /// A whole frame, if there is one.
    pub(super) fn next(&mut self) -> Option<Frame> {
        if self.partial.starts_with(GREETING) {
            self.partial.advance(GREETING.len());
        }
        let mut head = self.partial.get(..HEAD_BYTES)?;
        let (kind, _channel, size) = (head.get_u8(), head.get_u16(), head.get_u32());
        let size = usize::try_from(size).expect("a frame's size fits");
        if self.partial.len() < HEAD_BYTES + size + 1 {
            return None;
        }
        self.partial.advance(HEAD_BYTES);
        let payload = self.partial.split_to(size).freeze();
        assert_eq!(self.partial.get_u8(), FRAME_END, "the wiretap lost track");
        Some(Frame { kind, payload })
    }

    /// Whether all that has come are whole frames.
    pub(super) fn is_between_two(&self) -> bool {
        self.partial.is_empty()
    }
}

/// A method of a connection as a whole, as a frame.
pub(super) fn connection_method(method: u16, arguments: &[u8]) -> Vec<u8> {
    const CONNECTION: u16 = 10;
    let size = u32::try_from(4 + arguments.len()).expect("it is small");
    let mut frame = vec![METHOD, 0, 0];
    frame.extend(size.to_be_bytes());
    frame.extend(CONNECTION.to_be_bytes());
    frame.extend(method.to_be_bytes());
    frame.extend(arguments);
    frame.push(FRAME_END);
    frame
}

/// A text of up to 255 bytes, taken off the front.
pub(super) fn short_text(payload: &mut Bytes) -> String {
    let length = usize::from(payload.get_u8());
    String::from_utf8_lossy(&payload.split_to(length)).into_owned()
}
