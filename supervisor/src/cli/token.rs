//! `jatis token`: prints a token signed with the secret that `jatis serve` uses.

use std::io::{self, Write};

use jiff::Timestamp;

use super::{
    RoleArg, TokenArgs,
    secret::{Missing, SecretError, signing_secret},
    sources::Setup,
};
use crate::http::{Role, TokenError, mint};

/// No token.
#[derive(Debug, thiserror::Error)]
pub enum PrintError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the token cannot be made")]
    Token(#[from] TokenError),
    #[error("a tenant's token cannot be an admin's: leave out --role or --tenant")]
    AdminOfOne,
    #[error("the token cannot be printed")]
    Output(#[from] io::Error),
}

/// Prints one token and a line's end.
///
/// # Errors
/// When there is no secret, or the arguments contradict each other.
pub fn print(setup: &Setup, arguments: &TokenArgs, out: &mut impl Write) -> Result<(), PrintError> {
    let role = match (arguments.role, arguments.tenant) {
        (Some(RoleArg::Admin), Some(_)) => return Err(PrintError::AdminOfOne),
        (Some(RoleArg::Tenant) | None, Some(tenant)) => Role::Tenant(tenant),
        (_, None) => Role::Admin,
    };
    let secret = signing_secret(&setup.loaded.config, &setup.state_dir, Missing::Refuse)?;
    writeln!(
        out,
        "{}",
        mint(&secret, role, arguments.ttl, Timestamp::now())?
    )?;
    Ok(())
}
