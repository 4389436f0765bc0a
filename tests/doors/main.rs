//! What stands beside the programs, held against itself and against them: the Makefile's targets
//! and the systemd unit. It needs no server.

#[cfg(test)]
mod makefile;
#[cfg(test)]
mod unit;

/// The clone's root.
#[cfg(test)]
fn root() -> std::path::PathBuf {
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("it lies in the clone").to_owned()
}

/// The text of a file of the clone.
#[cfg(test)]
fn text(name: &str) -> String {
    let path = root().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
