//! The upgrade in place: another image of this program takes over under the same pid, with the same
//! workers, and nobody outside notices.
//!
//! ```text
//!   check the new program ─▶ HTTP answers what it has read, connects wait in the kernel
//!     ─▶ the charge is reserved ─▶ the fleet stands still ─▶ exec ─▶ the next image takes over
//!   whatever fails before the exec, or the exec itself: everything goes on as before
//! ```

mod parcel;

use std::{
    ffi::{CString, OsString},
    io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use jatis_shared::{ids::TenantId, telemetry::Chain};
use nix::unistd::execv;
use rustix::{
    io::fcntl_dupfd_cloexec,
    stdio::{dup2_stdin, stdin},
};
use tokio::{process::Command, time::timeout};
use tracing::{error, info};

pub use self::parcel::{Legacy, Page, ParcelError, VERSION, unpack};
use crate::{fleet::Frozen, http::Server};

/// The hidden flag by which an image knows that there is something for it in its stdin.
pub const FLAG: &str = "--handover";

/// How this program was started, to be started so again.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Absolute, as it was at the start: what is there now may be another file.
    pub program: PathBuf,
    /// Without the program's name and [`FLAG`].
    pub arguments: Vec<OsString>,
}

/// Why there is no upgrade. Everything goes on as before.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    #[error("jatis is not serving")]
    NotServing,
    #[error("the new program cannot be run")]
    Run(#[source] io::Error),
    #[error("the new program refuses: {0}")]
    Refuses(String),
    #[error("the new program does not say within {0:?} whether it can take over")]
    Silent(Duration),
    #[error("requests did not end within {0:?}")]
    Requests(Duration),
    #[error("the charge of the database could not be reserved")]
    Charge,
    #[error("workers are being started or stopped: {0:?}")]
    Workers(Vec<TenantId>),
    #[error("jatis was told to stop meanwhile")]
    Stopping,
    #[error("what is left for the new program could not be packed")]
    Pack(#[from] ParcelError),
    #[error("the new program could not be executed")]
    Exec(#[source] io::Error),
}

impl UpgradeError {
    /// What failed and why, in one line.
    #[must_use]
    pub fn reason(&self) -> String {
        Chain(self).to_string()
    }
}

impl Launch {
    /// Asks the program that is there now whether it can take over what this one would leave.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn check(&self, within: Duration) -> Result<(), UpgradeError> {
        let checking = Command::new(&self.program)
            .args(&self.arguments)
            .arg(FLAG)
            .arg("--handover-check")
            .arg(VERSION.to_string())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = match timeout(within, checking).await {
            Ok(output) => output.map_err(UpgradeError::Run)?,
            Err(_elapsed) => return Err(UpgradeError::Silent(within)),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() && text(&output.stdout) == promise() {
            return Ok(());
        }
        let (status, said) = (output.status, text(&output.stderr));
        Err(UpgradeError::Refuses(format!("{status}, it said: {said}")))
    }

    /// Executes the program that is there now. Returns only if that fails.
    ///
    /// # Errors
    /// Why this image is still here; its stdin is as before.
    pub fn exec(
        &self,
        page: &Page,
        server: Option<&Server>,
        workers: &[Frozen],
    ) -> Result<std::convert::Infallible, UpgradeError> {
        let stdin_before = fcntl_dupfd_cloexec(stdin(), 3);
        let stdin_before = stdin_before.map_err(|error| UpgradeError::Exec(error.into()))?;
        let server = server.ok_or(UpgradeError::Stopping)?;
        let parcel = parcel::pack(page, server.listener(), workers)?;
        dup2_stdin(&parcel).map_err(|error| UpgradeError::Exec(error.into()))?;
        let failure = self.execute();
        if let Err(error) = dup2_stdin(&stdin_before) {
            error!(%error, "standard input is lost");
        }
        Err(UpgradeError::Exec(failure))
    }

    fn execute(&self) -> io::Error {
        let text = |text: OsString| CString::new(text.into_vec());
        let program = self.program.clone().into_os_string();
        let arguments = [program.clone()]
            .into_iter()
            .chain(self.arguments.iter().cloned())
            .chain([FLAG.into()])
            .map(text)
            .collect::<Result<Vec<_>, _>>();
        match (text(program), arguments) {
            (Ok(program), Ok(arguments)) => match execv(&program, &arguments) {
                Ok(never) => match never {},
                Err(error) => error.into(),
            },
            (Err(error), _) | (_, Err(error)) => error.into(),
        }
    }
}

/// Answers [`Launch::check`]: whether this program takes over what an image leaves that writes
/// `version`. The configuration was found in order before.
///
/// # Errors
/// That it does not.
pub fn answer_check(version: u16) -> Result<String, String> {
    if version == VERSION {
        Ok(promise())
    } else {
        Err(format!(
            "it takes over version {VERSION} of what is left, not {version}"
        ))
    }
}

fn promise() -> String {
    format!("takes over {VERSION}")
}

/// Says in the log that an image has taken over.
pub fn taken_over(program: &Path, workers: usize) {
    info!(
        program = %program.display(),
        workers,
        "this image has taken over, with {workers} workers"
    );
}
