//! The project's documents, and the fenced blocks in them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A document, by its path from the root of the project.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// What stands between two fences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Of the opening fence, from 1.
    pub(crate) line: usize,
    /// The first word behind the opening fence.
    pub(crate) language: String,
    /// The other words there: what this block claims to be.
    pub(crate) claim: String,
    pub(crate) text: String,
}

impl Document {
    /// Every document of the project: those in its root and in the folders of that.
    pub(crate) fn all() -> Vec<Self> {
        let root = root();
        let mut folders = vec![root.clone()];
        let built = ["target", "node_modules"];
        folders.extend(entries(&root).into_iter().filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            let is_ours = name.is_some_and(|name| !name.starts_with('.') && !built.contains(&name));
            path.is_dir() && is_ours
        }));
        let paths = folders.iter().flat_map(|folder| entries(folder));
        let mut names: Vec<String> = paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
            .filter_map(|path| Some(path.strip_prefix(&root).ok()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        names.iter().map(|name| Self::open(name)).collect()
    }

    /// # Panics
    /// When there is no such document.
    pub(crate) fn open(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            text: read(name),
        }
    }

    /// Its blocks, in their order.
    ///
    /// # Panics
    /// When a block is not closed.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        blocks(&self.text)
    }

    /// Its text without the blocks.
    pub(crate) fn prose(&self) -> String {
        let mut is_prose = true;
        let lines = self.text.lines().filter(|line| {
            let is_fence = line.starts_with(FENCE);
            is_prose ^= is_fence;
            is_prose && !is_fence
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

const FENCE: &str = "```";

fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some(info) = line.strip_prefix(FENCE) else {
            continue;
        };
        let info = info.trim();
        let (language, claim) = info.split_once(' ').unwrap_or((info, ""));
        let inner: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| *line != FENCE)
            .collect();
        found.push(Block {
            line: at + 1,
            language: language.to_owned(),
            claim: claim.trim().to_owned(),
            text: inner.join("\n"),
        });
    }
    found
}

/// A file of the project as text.
///
/// # Panics
/// When there is none.
pub(crate) fn read(name: &str) -> String {
    let read = fs::read_to_string(root().join(name));
    read.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every Rust source in these folders and below, as one text.
pub(crate) fn sources(folders: &[&str]) -> String {
    let mut todo: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut sources = String::new();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(entries(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(&path).expect("the project can be read"));
        }
    }
    sources
}

/// The root of the project.
pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests lie in it").to_owned()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the project can be read");
    entries
        .map(|entry| entry.expect("the project can be read").path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_stand_between_fences() {
        let text = "a\n```sh\none\n\ntwo\n```\nb\n```json answer\n{}\n```\n```\n```\nc";
        let block = |line, language: &str, claim: &str, text: &str| Block {
            line,
            language: language.to_owned(),
            claim: claim.to_owned(),
            text: text.to_owned(),
        };
        assert_eq!(
            blocks(text),
            [
                block(2, "sh", "", "one\n\ntwo"),
                block(8, "json", "answer", "{}"),
                block(11, "", "", ""),
            ]
        );
        let document = Document {
            name: String::new(),
            text: text.to_owned(),
        };
        assert_eq!(document.prose(), "a\nb\nc");
    }
}
