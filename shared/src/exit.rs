//! The exit codes of a worker, told to the supervisor that reaps it.
//!
//! The numbers from 64 up follow `sysexits.h` where it has a fitting one.

/// Why a worker ended, as far as it could say so itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Drained as asked.
    Clean,
    /// Started without a control socket, or with a spec that makes no sense (`EX_USAGE`).
    BadSpec,
    /// The broker or the database refuses the credentials (`EX_DATAERR`).
    BadCredentials,
    /// Supervisor and worker speak no common version, or a frame was malformed (`EX_NOINPUT`).
    Protocol,
    /// The operating system refused a step of the confinement (`EX_OSERR`).
    Sandbox,
    /// The supervisor is gone; drained and left (`EX_TEMPFAIL`).
    Orphaned,
    /// The drain deadline passed; what was unacknowledged goes back to the queue (`EX_PROTOCOL`).
    Deadline,
}

impl ExitCode {
    /// Every code, for the reference and its test.
    pub const ALL: [Self; 7] = [
        Self::Clean,
        Self::BadSpec,
        Self::BadCredentials,
        Self::Protocol,
        Self::Sandbox,
        Self::Orphaned,
        Self::Deadline,
    ];

    /// The number given to the operating system.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::BadSpec => 64,
            Self::BadCredentials => 65,
            Self::Protocol => 66,
            Self::Sandbox => 71,
            Self::Orphaned => 75,
            Self::Deadline => 76,
        }
    }

    /// The code behind a number; `None` for one a worker never chooses (a panic's 101, say).
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|exit| i32::from(exit.code()) == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_number() {
        for exit in ExitCode::ALL {
            assert_eq!(ExitCode::from_code(i32::from(exit.code())), Some(exit));
        }
        assert_eq!(ExitCode::from_code(101), None);
    }
}
