//! `jatis config check` and `jatis config show`.

use std::io::{self, Write};

use super::sources::Setup;

/// Says that the configuration is valid; reading it has found every fault already.
///
/// # Errors
/// When the output cannot be written.
pub fn check(setup: &Setup, out: &mut impl Write) -> io::Result<()> {
    match &setup.file {
        Some(path) => writeln!(out, "{}: no fault", path.display()),
        None => writeln!(
            out,
            "no configuration file; the defaults and the environment: no fault"
        ),
    }
}

/// Prints each key with its value, secrets redacted, and where the value comes from.
///
/// # Errors
/// When the output cannot be written.
pub fn show(setup: &Setup, out: &mut impl Write) -> io::Result<()> {
    let rows = setup
        .loaded
        .origins
        .iter()
        .map(|(key, (value, source))| (format!("{key}: {value}"), source));
    let rows: Vec<_> = rows.collect();
    let width = rows
        .iter()
        .map(|(setting, _)| setting.len())
        .max()
        .unwrap_or(0);
    for (setting, source) in rows {
        writeln!(out, "{setting:width$}  # {source}")?;
    }
    writeln!(out, "# state directory: {}", setup.state_dir.display())
}
