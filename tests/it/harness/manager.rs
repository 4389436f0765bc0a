//! A service manager: what systemd is to a supervisor, as far as sd_notify(3) goes.

use std::{io, os::unix::net::UnixDatagram, path::PathBuf, time::Duration};

use super::wait;

/// Hears what a supervisor tells.
#[derive(Debug)]
pub(crate) struct Manager {
    socket: UnixDatagram,
    /// In the folder for temporary files: the name of a socket must be short.
    path: PathBuf,
    heard: Vec<String>,
}

impl Manager {
    pub(crate) fn listen(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("jatis-{}-{name}", std::process::id()));
        let socket = UnixDatagram::bind(&path).expect("nobody has the name");
        socket.set_nonblocking(true).expect("it is open");
        Self {
            socket,
            path,
            heard: Vec::new(),
        }
    }

    /// What a supervisor's environment must say; `watchdog` is how often it must feed it.
    pub(crate) fn environment(&self, watchdog: Duration) -> [(&'static str, String); 2] {
        [
            ("NOTIFY_SOCKET", self.path.display().to_string()),
            ("WATCHDOG_USEC", watchdog.as_micros().to_string()),
        ]
    }

    /// Every assignment heard so far, in order.
    pub(crate) fn heard(&mut self) -> &[String] {
        let mut datagram = [0; 4096];
        loop {
            match self.socket.recv(&mut datagram) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
                    self.heard.extend(text.lines().map(str::to_owned));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return &self.heard,
                Err(error) => panic!("the manager cannot hear: {error}"),
            }
        }
    }

    /// Waits until this has been heard after the first `known` assignments; gives how many there
    /// are up to it.
    pub(crate) async fn hears(&mut self, known: usize, begins: &str) -> usize {
        wait::until(&format!("the manager hears {begins}"), async || {
            let heard = self.heard();
            let news = heard.iter().skip(known);
            match news.clone().position(|text| text.starts_with(begins)) {
                Some(place) => Ok(known + place + 1),
                None => Err(format!("{:?}", news.collect::<Vec<_>>())),
            }
        })
        .await
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // Nobody else knows of it.
        let _outcome = std::fs::remove_file(&self.path);
    }
}
