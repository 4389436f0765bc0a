//! The socket file: where it is, who may open it, and whose it is.
//!
//! A lock file beside it says whether its supervisor lives: a socket that a dead one left is
//! replaced, a live one's is left alone. The kernel lets in whoever the file's mode lets in; the
//! credentials of each caller are looked at besides.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
};

use nix::unistd::{Group, geteuid};
use rustix::fs::{FlockOperation, flock};
use tokio::net::{UnixListener, UnixStream, unix::UCred};

/// Who may read and write the socket: its user and its group.
const MODE: u32 = 0o660;

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("another jatis serves {0}")]
    Taken(PathBuf),
    #[error("there is no group {0}, as admin.group names it")]
    NoGroup(String),
    #[error("cannot make the admin socket {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A socket that listens. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Members of the socket's group may use it.
    has_group: bool,
    /// Locked for as long as this lives.
    _lock: File,
}

impl Socket {
    /// Listens at `path`. Its folder is made if it is not there.
    pub(super) fn bind(path: &Path, group: &str) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Io {
            path: path.to_owned(),
            source,
        };
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(failed)?;
        let lock = lock(path)?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let listener = reach(path, |path| UnixListener::bind(path)).map_err(failed)?;
        fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(failed)?;
        if !group.is_empty() {
            let gid = Group::from_name(group)
                .map_err(|error| failed(error.into()))?
                .ok_or_else(|| SocketError::NoGroup(group.to_owned()))?
                .gid;
            chown(path, None, Some(gid.as_raw())).map_err(failed)?;
        }
        Ok(Self {
            listener,
            path: path.to_owned(),
            has_group: !group.is_empty(),
            _lock: lock,
        })
    }

    /// Whether somebody may give orders.
    pub(super) fn admits(&self, caller: UCred) -> bool {
        admits(caller.uid(), geteuid().as_raw(), self.has_group)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the admin socket's file was gone already");
        }
    }
}

/// Root, the supervisor's own user, and, if there is a group for it, whoever the kernel has let
/// through the file's mode.
const fn admits(caller: u32, own: u32, has_group: bool) -> bool {
    caller == 0 || caller == own || has_group
}

fn lock(path: &Path) -> Result<File, SocketError> {
    let failed = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path.with_extension("lock"))
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(SocketError::Taken(path.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}

/// Connects to the supervisor that listens at `path`.
///
/// # Errors
/// When none does, or this user may not.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let connected = reach(path, |path| std::os::unix::net::UnixStream::connect(path))?;
    connected.set_nonblocking(true)?;
    UnixStream::from_std(connected)
}

/// Does something at a path, however long it is: a socket's address holds 107 bytes, so one in a
/// deep folder is reached by way of the folder's descriptor.
fn reach<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    };
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = File::open(folder)?;
    let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    act(&by_descriptor.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_own_user_are_admitted_and_others_by_the_group_alone() {
        for (caller, own, has_group, expected) in [
            (0, 1000, false, true),
            (1000, 1000, false, true),
            (1001, 1000, false, false),
            (1001, 0, false, false),
            (1001, 1000, true, true),
        ] {
            assert_eq!(admits(caller, own, has_group), expected, "{caller} {own}");
        }
    }

    #[tokio::test]
    async fn a_socket_in_a_deep_folder_is_reached_and_a_live_one_is_not_taken() {
        let name = format!("jatis-admin-{}", std::process::id());
        let top = std::env::temp_dir().join(name);
        let path = top.join("d".repeat(120)).join("admin.sock");
        let first = Socket::bind(&path, "").expect("nobody has it");
        connect(&path).await.expect("it listens");
        let second = Socket::bind(&path, "");
        assert!(matches!(second, Err(SocketError::Taken(_))), "{second:?}");
        drop(first);
        assert!(!path.exists());
        // One that a dead supervisor left.
        drop(reach(&path, |path| UnixListener::bind(path)).expect("the place is free"));
        assert!(path.exists());
        drop(Socket::bind(&path, "").expect("its supervisor is dead"));
        fs::remove_dir_all(top).expect("it is ours");
    }
}
