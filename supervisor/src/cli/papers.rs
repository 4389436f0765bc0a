//! What is made from the command line's own description: completions and manual pages.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::Cli;

/// Prints the script that completes `jatis` in a shell.
pub fn completions(shell: Shell, out: &mut impl Write) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "jatis", &mut script);
    out.write_all(&script)
}

/// Writes `jatis.1` and a page for each verb (`jatis-tenant-stop.1`) into a folder, and prints
/// their names.
///
/// # Errors
/// When the folder cannot be written to.
pub fn man(folder: &Path, out: &mut impl Write) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    for page in pages(&command, folder)? {
        writeln!(out, "{}", page.display())?;
    }
    Ok(())
}

fn pages(command: &Command, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name());
    let path = folder.join(format!("{name}.1"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    fs::write(&path, page)?;
    let mut written = vec![path];
    for verb in command.get_subcommands() {
        written.extend(pages(verb, folder)?);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_completes_every_verb() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            completions(shell, &mut script).expect("a vector takes anything");
            let script = String::from_utf8(script).expect("a script is text");
            for verb in ["serve", "status", "events", "release"] {
                assert!(script.contains(verb), "{shell}: {verb}");
            }
        }
    }

    #[test]
    fn every_verb_has_a_page() {
        let folder = std::env::temp_dir().join(format!("jatis-man-{}", std::process::id()));
        let mut names = Vec::new();
        man(&folder, &mut names).expect("it can be written");
        for (page, word) in [
            ("jatis.1", "supervisor of jatis"),
            ("jatis-status.1", "running supervisor"),
            ("jatis-tenant-stop.1", "Drain its worker"),
        ] {
            let text = fs::read_to_string(folder.join(page)).expect(page);
            assert!(text.contains(word), "{page}:\n{text}");
        }
        fs::remove_dir_all(folder).expect("it is ours");
    }
}
