//! The secret that signs tokens: configured, or generated once and kept in the state directory.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use jatis_shared::{config::Config, secret::Secret};
use tracing::info;

use crate::random;

/// Bytes of a generated secret, before it is written as base64.
const GENERATED_BYTES: usize = 48;

/// What to do when there is no secret yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Make one: only `jatis serve` does.
    Generate,
    /// Say which file is missing.
    Refuse,
}

/// No secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(
        "there is no secret to sign tokens with: auth.hs256_secret is not set and {0} does not exist; \
         `jatis serve` makes it at its first start"
    )]
    Missing(PathBuf),
    #[error("the secret file {path} cannot be used")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the secret file {0} holds less than 32 bytes")]
    TooShort(PathBuf),
}

/// The secret of HS256 tokens: `auth.hs256_secret`, else `jwt.key` in the state directory.
///
/// # Errors
/// When there is none and none may be made, or its file is of no use.
pub fn signing_secret(
    config: &Config,
    state_dir: &Path,
    missing: Missing,
) -> Result<Secret, SecretError> {
    if !config.auth.hs256_secret.expose().is_empty() {
        return Ok(config.auth.hs256_secret.clone());
    }
    let path = state_dir.join("jwt.key");
    let failed = |source| SecretError::Io {
        path: path.clone(),
        source,
    };
    match fs::read_to_string(&path) {
        Ok(text) if text.trim_end().len() >= 32 => Ok(Secret::from(text.trim_end().to_owned())),
        Ok(_) => Err(SecretError::TooShort(path)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        Err(_) if missing == Missing::Refuse => Err(SecretError::Missing(path)),
        Err(_) => generate(&path).map_err(failed),
    }
}

/// Makes the file, which must not exist: of two supervisors that start at once, one makes it.
fn generate(path: &Path) -> io::Result<Secret> {
    if let Some(directory) = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    let random: Vec<u8> = (0..GENERATED_BYTES / 8)
        .flat_map(|_| random::bits().to_be_bytes())
        .collect();
    let text = STANDARD.encode(random);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    info!(path = %path.display(), "made the secret that signs tokens");
    Ok(Secret::from(text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_only_by_who_may() {
        let directory = std::env::temp_dir().join(format!("jatis-secret-{:x}", random::bits()));
        let mut config = jatis_shared::config::load::defaults().expect("the defaults are valid");
        let get = |config: &Config, missing| signing_secret(config, &directory, missing);

        let refused = get(&config, Missing::Refuse).expect_err("there is none");
        assert!(refused.to_string().contains("jwt.key"), "{refused}");

        let made = get(&config, Missing::Generate).expect("it is made");
        assert!(made.expose().len() >= 32);
        let again = get(&config, Missing::Refuse).expect("it is there");
        assert_eq!(made.expose(), again.expose());
        let mode = fs::metadata(directory.join("jwt.key"))
            .expect("the file is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);

        config.auth.hs256_secret = Secret::from("x".repeat(32));
        assert_eq!(
            get(&config, Missing::Refuse)
                .expect("it is configured")
                .expose(),
            "x".repeat(32)
        );
        fs::remove_dir_all(&directory).expect("the directory is ours");
    }
}
