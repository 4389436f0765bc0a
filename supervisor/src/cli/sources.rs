//! Collects what the configuration is made from, and finds the state directory.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use jatis_shared::config::{
    Config,
    load::{Faults, Inputs, Loaded, load},
};

use super::SourceArgs;

const SYSTEM_FILE: &str = "/etc/jatis/config.yaml";
const SYSTEM_RUN: &str = "/run/jatis";
const SYSTEM_STATE: &str = "/var/lib/jatis";

/// A configuration with what only the host knows of it.
#[derive(Debug)]
pub struct Setup {
    /// What it was read from, to read it again.
    pub arguments: SourceArgs,
    pub env: BTreeMap<String, String>,
    pub loaded: Loaded,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    pub state_dir: PathBuf,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the configuration file {path} cannot be read")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    // No source: its text is this one's.
    #[error("the configuration is at fault:\n{0}")]
    Faults(Faults),
}

/// Reads the configuration as the arguments and this environment say.
///
/// # Errors
/// When the file cannot be read, or with every fault of the configuration.
pub fn setup(arguments: &SourceArgs, env: BTreeMap<String, String>) -> Result<Setup, SetupError> {
    let path = file(arguments, &env);
    let file = match &path {
        None => None,
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|source| SetupError::Unreadable {
                path: path.clone(),
                source,
            })?;
            Some((path.clone(), text))
        }
    };
    let read = |path: &Path| fs::read_to_string(path);
    let inputs = Inputs {
        flags: arguments.set.clone(),
        env,
        file,
        read: &read,
    };
    let loaded = load(&inputs).map_err(SetupError::Faults)?;
    let env = inputs.env;
    let state_dir = state_dir(&loaded.config, path.as_deref(), env.get("STATE_DIRECTORY"));
    Ok(Setup {
        arguments: arguments.clone(),
        env,
        loaded,
        file: path,
        state_dir,
    })
}

impl Setup {
    /// The socket of operators' commands: `admin.socket`, else `admin.sock` in `$RUNTIME_DIRECTORY`,
    /// in the unit's folder when the configuration is the host's, or in the state directory.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        let named = &self.loaded.config.admin.socket;
        if !named.is_empty() {
            return PathBuf::from(named);
        }
        let folder = match self.env.get("RUNTIME_DIRECTORY") {
            Some(folder) => Path::new(folder),
            None if self.file.as_deref() == Some(Path::new(SYSTEM_FILE)) => Path::new(SYSTEM_RUN),
            None => &self.state_dir,
        };
        folder.join("admin.sock")
    }
}

/// `--config`, else `JATIS_CONFIG`, else the first of the usual places where a file stands.
fn file(arguments: &SourceArgs, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let named = arguments
        .config
        .clone()
        .or_else(|| env.get("JATIS_CONFIG").map(PathBuf::from));
    named.or_else(|| {
        ["config.yaml", SYSTEM_FILE]
            .into_iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
    })
}

fn state_dir(config: &Config, file: Option<&Path>, systemd: Option<&String>) -> PathBuf {
    if !config.state_dir.is_empty() {
        return PathBuf::from(&config.state_dir);
    }
    if let Some(directory) = systemd {
        return PathBuf::from(directory);
    }
    match file {
        Some(file) if file == Path::new(SYSTEM_FILE) => PathBuf::from(SYSTEM_STATE),
        Some(file) => file
            .parent()
            .unwrap_or_else(|| Path::new(""))
            .join(".jatis"),
        None => PathBuf::from(".jatis"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_follows_the_file() {
        let mut config = jatis_shared::config::load::defaults().expect("the defaults are valid");
        let systemd = "/var/lib/private/jatis".to_owned();
        for (key, file, systemd, expected) in [
            ("", None, None, ".jatis"),
            ("", Some("config.yaml"), None, ".jatis"),
            ("", Some("/srv/j/config.yaml"), None, "/srv/j/.jatis"),
            ("", Some(SYSTEM_FILE), None, SYSTEM_STATE),
            (
                "",
                Some(SYSTEM_FILE),
                Some(&systemd),
                "/var/lib/private/jatis",
            ),
            ("/data", Some(SYSTEM_FILE), Some(&systemd), "/data"),
        ] {
            config.state_dir = key.to_owned();
            assert_eq!(
                state_dir(&config, file.map(Path::new), systemd),
                Path::new(expected)
            );
        }
    }
}
