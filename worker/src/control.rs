//! The control socket: the worker's stdin, read by the reactor, written by a task of its own.
//!
//! ```text
//!   supervisor ── Command ──▶ commands ──▶ reactor
//!              ◀── Event ──── writer ◀──── outbox
//! ```
//!
//! The supervisor may be slow to read. The outbox then holds at most what one command or timer put
//! there: no further command is read, no heartbeat made and no notice sent until it is empty.

use std::{collections::VecDeque, io, os::fd::OwnedFd};

use futures_util::SinkExt;
use jatis_shared::control::{Event, Frame, FrameError, Refusal, Spec, VERSION, WorkerCodec};
use rustix::{
    fs::{Mode, OFlags, open},
    io::fcntl_dupfd_cloexec,
    net::sockopt::socket_type,
    stdio::{dup2_stdin, stdin},
};
use tokio::{
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::codec::{FramedRead, FramedWrite};
use tracing::debug;

/// Frames between the outbox and the socket.
const WRITER_QUEUE: usize = 16;
/// Longest detail of a refusal or fault, bytes.
const MAX_DETAIL_BYTES: usize = 1024;

/// Takes the socket from stdin, which is /dev/null afterwards.
///
/// # Errors
/// When stdin is no socket: somebody started the worker by hand.
pub(crate) fn take_stdin() -> io::Result<OwnedFd> {
    socket_type(stdin())?;
    let socket = fcntl_dupfd_cloexec(stdin(), 3)?;
    let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    dup2_stdin(null)?;
    Ok(socket)
}

/// What the supervisor orders. A read may be cancelled: a frame that came in part is kept.
pub(crate) type Commands = FramedRead<OwnedReadHalf, WorkerCodec>;

/// Splits the socket into its directions.
///
/// # Errors
/// When the socket cannot be used asynchronously.
pub(crate) fn open_socket(socket: OwnedFd) -> io::Result<(Commands, Outbox)> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    let (read, write) = UnixStream::from_std(socket)?.into_split();
    let (frames, queue) = mpsc::channel(WRITER_QUEUE);
    let (tell_written, written) = watch::channel(0);
    let outbox = Outbox {
        waiting: VecDeque::new(),
        frames,
        writer: tokio::spawn(write_frames(write, queue, tell_written)),
        written,
        generation: 0,
        next_id: 1,
    };
    Ok((FramedRead::new(read, WorkerCodec::default()), outbox))
}

/// What the supervisor is to be told.
pub(crate) struct Outbox {
    waiting: VecDeque<Frame<Event>>,
    frames: mpsc::Sender<Frame<Event>>,
    writer: JoinHandle<Result<(), FrameError>>,
    /// The number of the latest frame that the socket has taken.
    written: watch::Receiver<u64>,
    /// As the frame with the spec had it; 0 before.
    generation: u64,
    next_id: u64,
}

impl Outbox {
    pub(crate) const fn belongs_to(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// Tells something nobody asked for.
    pub(crate) fn tell(&mut self, event: Event) {
        self.push(None, event);
    }

    /// Tells something that must have left before anything else is done.
    pub(crate) fn announce(&mut self, event: Event) -> Announced {
        self.push(None, event);
        Announced {
            frame: self.next_id - 1,
            written: self.written.clone(),
        }
    }

    /// Answers the command of the frame `re`.
    pub(crate) fn answer(&mut self, re: u64, event: Event) {
        self.push(Some(re), event);
    }

    pub(crate) fn refuse(&mut self, re: u64, code: Refusal, detail: &str) {
        let detail = shortened(detail);
        self.answer(re, Event::Refused { code, detail });
    }

    /// Tells a person something.
    pub(crate) fn fault(&mut self, detail: &str) {
        let detail = shortened(detail);
        self.tell(Event::Fault { detail });
    }

    fn push(&mut self, re: Option<u64>, body: Event) {
        self.waiting.push_back(Frame {
            v: VERSION,
            generation: self.generation,
            id: self.next_id,
            re,
            body,
        });
        self.next_id += 1;
    }

    /// Nothing waits for the supervisor to read.
    pub(crate) fn is_clear(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Moves one frame on as soon as there is room. Cancel-safe. Frames to a supervisor that is
    /// gone are dropped; its end of file says so.
    pub(crate) async fn move_one(&mut self) {
        match self.frames.reserve().await {
            Ok(room) => {
                if let Some(frame) = self.waiting.pop_front() {
                    room.send(frame);
                }
            }
            Err(_) => self.waiting.clear(),
        }
    }

    /// Writes everything and closes this direction. Not cancel-safe.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub(crate) async fn close(mut self) -> Result<(), FrameError> {
        while !self.is_clear() {
            self.move_one().await;
        }
        drop(self.frames);
        match self.writer.await {
            Ok(outcome) => outcome,
            Err(panic) => Err(FrameError::Io(io::Error::other(panic))),
        }
    }
}

/// A frame on its way to the socket.
#[derive(Debug)]
pub(crate) struct Announced {
    frame: u64,
    written: watch::Receiver<u64>,
}

impl Announced {
    /// Waits until the socket has taken the frame, or nobody is there to take any. Cancel-safe.
    pub(crate) async fn is_written(&mut self) {
        let frame = self.frame;
        if self
            .written
            .wait_for(|latest| *latest >= frame)
            .await
            .is_err()
        {
            debug!("the supervisor is gone; nobody hears what is told");
        }
    }
}

async fn write_frames(
    socket: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Frame<Event>>,
    written: watch::Sender<u64>,
) -> Result<(), FrameError> {
    let mut socket = FramedWrite::new(socket, WorkerCodec::default());
    while let Some(frame) = queue.recv().await {
        socket.send(&frame).await?;
        written.send_replace(frame.id);
    }
    Ok(())
}

fn shortened(detail: &str) -> String {
    let end = detail.floor_char_boundary(MAX_DETAIL_BYTES);
    detail.get(..end).unwrap_or_default().to_owned()
}

/// The spec, if it is one a worker can work by.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub(crate) fn check(spec: &Spec) -> Result<(), String> {
    if spec.prefetch == 0 {
        return Err("a prefetch of 0 would be unbounded".to_owned());
    }
    check_size(spec.threads, spec.connections, spec.worker.max_threads)
}

/// A size of the pool, if it is one.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub(crate) fn check_size(threads: u16, connections: u16, max_threads: u16) -> Result<(), String> {
    if !(1..=max_threads).contains(&threads) {
        return Err(format!(
            "{threads} threads are not between 1 and {max_threads}"
        ));
    }
    if !(1..=threads).contains(&connections) {
        return Err(format!(
            "{connections} connections are not between 1 and the {threads} threads"
        ));
    }
    Ok(())
}
