//! What one image of the supervisor leaves to the next: a page of JSON in sealed memory, and
//! descriptors, sent over a socket of which the other end is the next image's stdin.
//!
//! So nothing but stdin is inherited: every other descriptor is closed by the exec, and the kernel
//! keeps those in the socket meanwhile (unix(7), SCM_RIGHTS).

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut, Read, Seek, Write},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use jiff::Timestamp;
use rustix::{
    fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, open},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    stdio::{dup2_stdin, stdin},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    fleet::{Carried, Frozen, Inherited},
    metrics::Sample,
};

/// The version of what is left; another one is refused by the check.
pub const VERSION: u16 = 1;
/// Most descriptors in one message: the kernel allows 253.
const FDS: usize = 200;

/// The page.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page {
    pub version: u16,
    pub instance: Uuid,
    pub host: String,
    pub epoch: i64,
    pub last_tick: u64,
    /// When the first image began.
    pub since: Timestamp,
    /// What has been counted so far.
    pub samples: Vec<Sample>,
    /// In the order of their sockets.
    pub workers: Vec<Carried>,
}

/// Everything that is left.
#[derive(Debug)]
pub struct Legacy {
    pub page: Page,
    pub listener: TcpListener,
    pub workers: Vec<Inherited>,
}

/// Why there is no legacy.
#[derive(Debug, thiserror::Error)]
pub enum ParcelError {
    #[error("what the image before has left cannot be read")]
    Io(#[from] io::Error),
    #[error("what the image before has left makes no sense")]
    Page(#[from] serde_json::Error),
    #[error("what the image before has left is not whole")]
    Truncated,
}

/// Packs it; gives the end that is to be the next image's stdin.
///
/// # Errors
/// When the host has no memory or descriptor for it.
pub(super) fn pack(
    page: &Page,
    listener: BorrowedFd<'_>,
    workers: &[Frozen],
) -> Result<OwnedFd, ParcelError> {
    let memory = memfd_create(
        "jatis-handover",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )
    .map_err(io::Error::from)?;
    let mut memory = File::from(memory);
    memory.write_all(&serde_json::to_vec(page)?)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&memory, seals).map_err(io::Error::from)?;
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(io::Error::from)?;
    let mut fds = vec![memory.as_fd(), listener];
    fds.extend(workers.iter().map(|worker| worker.socket.as_fd()));
    for chunk in fds.chunks(FDS) {
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(chunk)) {
            return Err(ParcelError::Truncated);
        }
        let byte = [IoSlice::new(b"x")];
        sendmsg(&ours, &byte, &mut ancillary, SendFlags::DONTWAIT).map_err(io::Error::from)?;
    }
    Ok(theirs)
}

/// Takes what the image before has left in stdin, which is /dev/null afterwards.
///
/// # Errors
/// When it is not whole, or of another version.
pub fn unpack() -> Result<Legacy, ParcelError> {
    let mut fds = Vec::new();
    loop {
        let mut byte = [0];
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            stdin(),
            &mut [IoSliceMut::new(&mut byte)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )
        .map_err(io::Error::from)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(sent) = message {
                fds.extend(sent);
            }
        }
        if received.bytes == 0 {
            break;
        }
    }
    let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(io::Error::from)?;
    dup2_stdin(null).map_err(io::Error::from)?;
    let mut fds = fds.into_iter();
    let (Some(memory), Some(listener)) = (fds.next(), fds.next()) else {
        return Err(ParcelError::Truncated);
    };
    let mut text = Vec::new();
    let mut memory = File::from(memory);
    memory.rewind()?;
    memory.read_to_end(&mut text)?;
    let mut page: Page = serde_json::from_slice(&text)?;
    let sockets: Vec<UnixStream> = fds.map(UnixStream::from).collect();
    if page.version != VERSION || sockets.len() != page.workers.len() {
        return Err(ParcelError::Truncated);
    }
    let workers = std::mem::take(&mut page.workers).into_iter().zip(sockets);
    Ok(Legacy {
        page,
        listener: TcpListener::from(listener),
        workers: workers
            .map(|(carried, socket)| Inherited { carried, socket })
            .collect(),
    })
}
