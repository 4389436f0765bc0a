//! The supervisor's end of one worker's control socket.
//!
//! The two directions are two values, so that reading never waits for writing. Neither lets the
//! worker do harm: what it does not take in is bounded in number and time, what it says is bounded
//! in size, number and rate, and whatever the protocol does not allow ends the conversation.

use std::{
    collections::VecDeque,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net,
    },
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use jatis_shared::{
    config::Supervision,
    control::{Command, Event, Frame, FrameError, SupervisorCodec, VERSION},
    frames::Framed,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::codec::{Decoder, Encoder};

/// Space made for a read: a heartbeat fits many times.
const READ_BYTES: usize = 4096;

/// Why a conversation is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    /// The worker is gone, or about to be.
    #[error("its socket is closed")]
    Closed,
    #[error("it broke the protocol: {0}")]
    Frame(FrameError),
    #[error("it floods its socket")]
    Flood,
    #[error("it does not read its commands")]
    Stalled,
    #[error("too many commands wait for it")]
    Full,
}

/// Both ends of the conversation with a worker of this generation.
///
/// # Errors
/// When the socket cannot be watched by the reactor.
pub(super) fn open(
    socket: net::UnixStream,
    keys: &Supervision,
    generation: u64,
) -> io::Result<(Incoming, Outgoing)> {
    let (reader, writer) = UnixStream::from_std(socket)?.into_split();
    let incoming = Incoming {
        socket: reader,
        codec: SupervisorCodec::default(),
        buffer: BytesMut::new(),
        meter: Meter::new(keys),
    };
    let outgoing = Outgoing {
        socket: writer,
        codec: SupervisorCodec::default(),
        queue: VecDeque::new(),
        capacity: usize::from(keys.command_queue),
        write_timeout: keys.write_timeout,
        stalled_at: None,
        generation,
        next_id: 0,
    };
    Ok((incoming, outgoing))
}

/// What the worker says.
#[derive(Debug)]
pub(super) struct Incoming {
    socket: OwnedReadHalf,
    codec: SupervisorCodec,
    /// Bytes of frames not decoded yet: at most one frame's cap and one read.
    buffer: BytesMut,
    meter: Meter,
}

impl Incoming {
    /// Goes on where another image of this program has stopped.
    pub(super) fn resume(&mut self, unread: &[u8]) {
        self.buffer.extend_from_slice(unread);
    }

    /// The next frame. Over the allowed rate it does not read on before the second is over.
    ///
    /// Cancel-safe: a frame that has arrived in part is kept.
    pub(super) async fn receive(&mut self) -> Result<Frame<Event>, ControlError> {
        loop {
            if let Some(until) = self.meter.pause(Instant::now())? {
                sleep_until(until).await;
                continue;
            }
            // Only whole frames are decoded, so that the buffer holds all that is not understood.
            if is_whole(&self.buffer)
                && let Some(frame) = self
                    .codec
                    .decode(&mut self.buffer)
                    .map_err(ControlError::Frame)?
            {
                self.meter.frames += 1;
                return Ok(frame);
            }
            self.buffer.reserve(READ_BYTES);
            match self.socket.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Err(ControlError::Closed),
                Ok(bytes) => self.meter.bytes += bytes,
            }
        }
    }
}

impl Incoming {
    /// The socket, for whoever minds the worker next.
    ///
    /// # Errors
    /// When the host has no descriptor left.
    pub(super) fn share(&self) -> io::Result<OwnedFd> {
        self.socket.as_ref().as_fd().try_clone_to_owned()
    }

    /// Bytes that were read and not understood yet.
    pub(super) fn unread(&self) -> Vec<u8> {
        self.buffer.to_vec()
    }
}

/// Whether the codec can make something of it: a whole frame, or one that is longer than allowed.
fn is_whole(buffer: &[u8]) -> bool {
    let Some((head, body)) = buffer.split_first_chunk() else {
        return false;
    };
    let length = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
    length > <Frame<Event> as Framed>::MAX_BYTES || body.len() >= length
}

/// What the worker is told.
#[derive(Debug)]
pub(super) struct Outgoing {
    socket: OwnedWriteHalf,
    codec: SupervisorCodec,
    /// Frames to be written, the first one maybe in part: at most `supervision.command_queue`.
    queue: VecDeque<Bytes>,
    capacity: usize,
    write_timeout: Duration,
    /// When the worker has taken in nothing for too long.
    stalled_at: Option<Instant>,
    generation: u64,
    next_id: u64,
}

impl Outgoing {
    /// Puts a command into the queue; `flush` writes it.
    pub(super) fn send(&mut self, body: Command) -> Result<(), ControlError> {
        if self.queue.len() >= self.capacity {
            return Err(ControlError::Full);
        }
        let frame = Frame {
            v: VERSION,
            generation: self.generation,
            id: self.next_id,
            re: None,
            body,
        };
        self.next_id += 1;
        let mut bytes = BytesMut::new();
        let encoded = self.codec.encode(&frame, &mut bytes);
        encoded.map_err(ControlError::Frame)?;
        self.queue.push_back(bytes.freeze());
        Ok(())
    }

    /// The number of the next frame, and the bytes that are not written yet.
    pub(super) fn unsent(&self) -> (u64, Vec<u8>) {
        (self.next_id, self.queue.iter().flatten().copied().collect())
    }

    /// Goes on where another image of this program has stopped.
    pub(super) fn resume(&mut self, next_id: u64, unsent: Vec<u8>) {
        self.next_id = next_id;
        if !unsent.is_empty() {
            self.queue.push_back(Bytes::from(unsent));
        }
    }

    /// Whether all is written.
    pub(super) fn is_flushed(&self) -> bool {
        self.queue.is_empty()
    }

    /// Writes what is in the queue.
    ///
    /// Cancel-safe: what has been written is not written again, and the time that the worker has
    /// for taking something in runs on.
    pub(super) async fn flush(&mut self) -> Result<(), ControlError> {
        while let Some(frame) = self.queue.front_mut() {
            let deadline = Instant::now() + self.write_timeout;
            let stalled_at = *self.stalled_at.get_or_insert(deadline);
            match timeout_at(stalled_at, self.socket.write_buf(frame)).await {
                Ok(Ok(0) | Err(_)) => return Err(ControlError::Closed),
                Ok(Ok(_written)) => self.stalled_at = None,
                Err(_elapsed) => return Err(ControlError::Stalled),
            }
            if !frame.has_remaining() {
                self.queue.pop_front();
            }
        }
        Ok(())
    }
}

/// Counts what comes in by the second. PURE.
#[derive(Debug)]
struct Meter {
    max_frames: u32,
    max_bytes: usize,
    flood_timeout: Duration,
    frames: u32,
    bytes: usize,
    second_ends: Option<Instant>,
    /// When the first of those seconds was full that have all been full since.
    flooded_since: Option<Instant>,
}

impl Meter {
    fn new(keys: &Supervision) -> Self {
        Self {
            max_frames: keys.max_frames_per_second,
            max_bytes: usize::try_from(keys.max_frame_bytes_per_second).unwrap_or(usize::MAX),
            flood_timeout: keys.flood_timeout,
            frames: 0,
            bytes: 0,
            second_ends: None,
            flooded_since: None,
        }
    }

    const fn is_full(&self) -> bool {
        self.frames >= self.max_frames || self.bytes >= self.max_bytes
    }

    /// How long nothing more may be taken in; none if something may be.
    fn pause(&mut self, now: Instant) -> Result<Option<Instant>, ControlError> {
        let ends = match self.second_ends {
            Some(ends) if now < ends => ends,
            Some(_) | None => {
                if !self.is_full() {
                    self.flooded_since = None;
                }
                (self.frames, self.bytes) = (0, 0);
                *self.second_ends.insert(now + Duration::from_secs(1))
            }
        };
        if !self.is_full() {
            return Ok(None);
        }
        let since = *self.flooded_since.get_or_insert(now);
        if now - since >= self.flood_timeout {
            return Err(ControlError::Flood);
        }
        Ok(Some(ends))
    }
}

#[cfg(test)]
mod tests {
    use jatis_shared::config::load;

    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// The supervisor's writing end, to a worker that reads nothing.
    fn to_nobody() -> (Outgoing, Incoming, net::UnixStream) {
        let (ours, theirs) = net::UnixStream::pair().expect("a pair can be made");
        ours.set_nonblocking(true).expect("it is open");
        let mut keys = load::defaults().expect("they are valid").supervision;
        keys.write_timeout = 50 * MILLISECOND;
        let (incoming, outgoing) = open(ours, &keys, 0).expect("it can be watched");
        (outgoing, incoming, theirs)
    }

    #[tokio::test]
    async fn commands_wait_up_to_their_number() {
        let (mut outgoing, _incoming, _worker) = to_nobody();
        for _ in 0..64 {
            outgoing.send(Command::Dump).expect("there is room");
        }
        assert!(matches!(
            outgoing.send(Command::Dump),
            Err(ControlError::Full)
        ));
        outgoing.flush().await.expect("the kernel takes them");
        assert!(outgoing.is_flushed());
        outgoing.send(Command::Dump).expect("there is room again");
    }

    #[tokio::test]
    async fn a_worker_that_takes_in_nothing_is_given_up_in_time() {
        let (mut outgoing, _incoming, _worker) = to_nobody();
        // More than a socket holds.
        for _ in 0..32 {
            let filter = "x".repeat(200_000);
            outgoing
                .send(Command::Log { filter })
                .expect("there is room");
        }
        // Cancelling it does not give the worker more time.
        while timeout_at(Instant::now() + MILLISECOND, outgoing.flush())
            .await
            .is_err()
        {}
        assert!(matches!(outgoing.flush().await, Err(ControlError::Stalled)));
    }

    fn meter() -> Meter {
        Meter {
            max_frames: 10,
            max_bytes: 1000,
            flood_timeout: Duration::from_secs(3),
            frames: 0,
            bytes: 0,
            second_ends: None,
            flooded_since: None,
        }
    }

    #[test]
    fn a_full_second_pauses_reading_until_it_is_over() {
        for (frames, bytes, full) in [(9, 999, false), (10, 0, true), (0, 1000, true)] {
            let (mut meter, start) = (meter(), Instant::now());
            assert!(matches!(meter.pause(start), Ok(None)));
            (meter.frames, meter.bytes) = (frames, bytes);
            let until = full.then_some(start + Duration::from_secs(1));
            assert_eq!(meter.pause(start + MILLISECOND).expect("no flood"), until);
            let next = meter.pause(start + Duration::from_secs(1));
            assert!(matches!(next, Ok(None)));
        }
    }

    #[test]
    fn only_full_seconds_in_a_row_are_a_flood() {
        let flooded_after = |quiet_second: Option<u64>| {
            let (mut meter, start) = (meter(), Instant::now());
            (0..10).find(|second| {
                let now = start + Duration::from_secs(*second);
                let begun = meter.pause(now).is_err();
                if quiet_second != Some(*second) {
                    meter.frames = 10;
                }
                begun || meter.pause(now + MILLISECOND).is_err()
            })
        };
        assert_eq!(flooded_after(None), Some(3));
        assert_eq!(flooded_after(Some(2)), Some(6));
    }
}
