//! Frames: how supervisor and worker, and supervisor and operator, talk over a socket.
//!
//! A frame is a big-endian u32, the length of what follows, and that many bytes of JSON. The
//! direction is part of the codec's type: neither side can send what the other does not read. A
//! frame that is too long, empty, of another version or not what its type allows ends the
//! conversation.

use std::{io, marker::PhantomData};

use bytes::{Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

/// What travels in one direction.
pub trait Framed: Serialize + DeserializeOwned {
    /// Longest JSON text of a frame, bytes.
    const MAX_BYTES: usize;
    /// The version of the protocol that this build speaks.
    const VERSION: u8;

    /// The version that this frame is written in.
    fn version(&self) -> u8;
}

/// A frame that ends the conversation.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the socket failed")]
    Io(#[from] io::Error),
    #[error("a frame of version {found} came, this build speaks {known}")]
    Version { found: u8, known: u8 },
    #[error("an empty frame came")]
    Empty,
    #[error("a frame is not what the protocol allows")]
    Json(#[from] serde_json::Error),
}

/// Reads frames of `In` and writes frames of `Out`, each within its cap. Keeps a frame that has
/// arrived in part, so a read may be cancelled at any time.
#[derive(Debug)]
pub struct Codec<In, Out> {
    reader: LengthDelimitedCodec,
    writer: LengthDelimitedCodec,
    directions: PhantomData<fn(Out) -> In>,
}

impl<In: Framed, Out: Framed> Default for Codec<In, Out> {
    fn default() -> Self {
        let capped = |bytes| {
            LengthDelimitedCodec::builder()
                .max_frame_length(bytes)
                .new_codec()
        };
        Self {
            reader: capped(In::MAX_BYTES),
            writer: capped(Out::MAX_BYTES),
            directions: PhantomData,
        }
    }
}

impl<In: Framed, Out: Framed> Decoder for Codec<In, Out> {
    type Item = In;
    type Error = FrameError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<In>, FrameError> {
        let Some(json) = self.reader.decode(bytes)? else {
            return Ok(None);
        };
        if json.is_empty() {
            return Err(FrameError::Empty);
        }
        let frame: In = serde_json::from_slice(&json)?;
        if frame.version() == In::VERSION {
            Ok(Some(frame))
        } else {
            Err(FrameError::Version {
                found: frame.version(),
                known: In::VERSION,
            })
        }
    }
}

impl<In: Framed, Out: Framed> Encoder<&Out> for Codec<In, Out> {
    type Error = FrameError;

    fn encode(&mut self, frame: &Out, bytes: &mut BytesMut) -> Result<(), FrameError> {
        let json = Bytes::from(serde_json::to_vec(frame)?);
        Ok(self.writer.encode(json, bytes)?)
    }
}
