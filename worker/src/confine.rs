//! What a worker gives up before its first byte from the outside.
//!
//! Each step is checked by asking the system afterwards: the report says what is, not what was
//! asked for.

use jatis_shared::control::Confinement;
use nix::sys::{
    prctl,
    resource::{Resource, getrlimit, setrlimit},
};

/// Gives up core files, being read by other processes of the user, and gaining privileges.
///
/// # Errors
/// When the system refuses a step, or says afterwards that it did not happen.
pub(crate) fn confine() -> Result<Confinement, ConfineError> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)?;
    prctl::set_no_new_privs()?;
    let report = Confinement {
        no_new_privs: prctl::get_no_new_privs()?,
        undumpable: !prctl::get_dumpable()?,
        no_core: getrlimit(Resource::RLIMIT_CORE)? == (0, 0),
    };
    if report.no_new_privs && report.undumpable && report.no_core {
        Ok(report)
    } else {
        Err(ConfineError::Ineffective(report))
    }
}

/// A confinement that is not what it must be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    #[error("the system refuses a step of the confinement")]
    Refused(#[from] nix::Error),
    #[error("the confinement did not take effect: {0:?}")]
    Ineffective(Confinement),
}
