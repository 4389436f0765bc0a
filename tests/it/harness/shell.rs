//! A shell in which blocks of a document are pasted, one after the other, as its reader would.
//!
//! The documents speak of the default addresses, and of the program where `make run` builds it;
//! these, and nothing else, are replaced by the stack's. `jatis` is on the PATH, with the stack's
//! configuration, and the secret of tokens lies where `jatis serve` would have made it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use jatis_shared::config::load::defaults;

use super::{Stack, markdown, wait};

/// A block to paste.
#[derive(Debug)]
pub(crate) struct Paste {
    /// For messages, and for the shell's own: `README.md:27`.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// What became of a block.
#[derive(Debug)]
pub(crate) struct Pasted {
    /// Standard output.
    pub(crate) out: String,
    /// What curl was answered, in order.
    pub(crate) replies: Vec<Reply>,
}

/// An answer to curl.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) method: String,
    pub(crate) url: String,
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Sources each of its arguments, so that what one sets is there for the next, until one fails.
const PASTE: &str = "\
set -euo pipefail
for block in \"$@\"; do
    . \"$block\" >\"$block.out\" 2>\"$block.err\"
    : >\"$block.done\"
done";
/// How curl says on standard error what it was answered; and no word of its progress.
const CURLRC: &str = "\
silent
show-error
write-out = \"%{stderr}curl was answered %{http_code} %{method} %{url_effective}\\n\"
";
const ANSWERED: &str = "curl was answered ";

impl Stack {
    /// Pastes blocks into one shell, in their order.
    ///
    /// # Panics
    /// When a command of a block fails, with what the block printed.
    pub(crate) async fn paste(&self, blocks: &[Paste]) -> Vec<Pasted> {
        let folder = self.folder.join("shell");
        fs::create_dir_all(&folder).expect("the stack's folder is writable");
        let files: Vec<PathBuf> = blocks
            .iter()
            .map(|block| {
                let file = folder.join(block.name.replace('/', "_"));
                fs::write(&file, self.localised(&block.text)).expect("the folder is writable");
                file
            })
            .collect();
        let mut bash = self.bash(&folder, &files);
        let mut pasted = Vec::new();
        for (block, file) in blocks.iter().zip(&files) {
            bash.done(&block.name, file).await;
            pasted.push(Pasted::read(file));
        }
        pasted
    }

    fn bash(&self, folder: &Path, files: &[PathBuf]) -> Bash {
        fs::write(folder.join(".curlrc"), CURLRC).expect("the folder is writable");
        fs::write(self.folder.join("jwt.key"), &self.invocation.jwt_secret)
            .expect("the stack's folder is writable");
        let programs = self.environment.jatis.parent().expect("a file has one");
        let log = File::create(folder.join("bash.log")).expect("the folder is writable");
        let bash = Command::new("bash")
            .args(["-c", PASTE, "bash"])
            .args(files)
            .current_dir(markdown::root())
            .env_clear()
            .env("PATH", format!("{}:{PATH}", programs.display()))
            .env("HOME", folder)
            .env("LC_ALL", "C.UTF-8")
            .env("JATIS_CONFIG", &self.invocation.config)
            .envs(self.invocation.mark.clone())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        Bash(bash.expect("bash is installed"))
    }

    /// A block with the stack's addresses in the place of the default ones.
    fn localised(&self, text: &str) -> String {
        let defaults = defaults().expect("the defaults are valid");
        let address = self.supervisor().address().to_string();
        let port = defaults.http.listen.port();
        text.replace("target/release/jatis", "jatis")
            .replace(&defaults.http.listen.to_string(), &address)
            .replace(&format!("localhost:{port}"), &address)
            .replace(
                defaults.database.url.expose(),
                &self.environment.database.with_path(&self.name),
            )
            .replace(
                defaults.rabbitmq.url.expose(),
                &self.environment.broker.with_path(&self.name),
            )
    }
}

/// The shell. Dropping it ends it.
#[derive(Debug)]
struct Bash(Child);

impl Bash {
    /// Waits until a block has run to its end.
    async fn done(&mut self, name: &str, file: &Path) {
        let done = beside(file, "done");
        wait::until(&format!("{name} has run"), async || {
            let ended = self.0.try_wait().expect("it is our child");
            // Looked for after the end: bash leaves this and then ends.
            match (done.exists(), ended) {
                (true, _) => Ok(()),
                (false, None) => Err(printed(file)),
                (false, Some(status)) => {
                    panic!("{name} failed ({status}):\n{}", printed(file))
                }
            }
        })
        .await;
    }
}

impl Drop for Bash {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _status = self.0.wait();
    }
}

impl Pasted {
    fn read(file: &Path) -> Self {
        let err = text(&beside(file, "err"));
        let replies = err.lines().filter_map(|line| {
            let mut words = line.strip_prefix(ANSWERED)?.split(' ');
            Some(Reply {
                status: words.next()?.parse().ok()?,
                method: words.next()?.to_owned(),
                url: words.next()?.to_owned(),
            })
        });
        Self {
            out: text(&beside(file, "out")),
            replies: replies.collect(),
        }
    }

    /// The JSON values that were printed, one after the other.
    ///
    /// # Errors
    /// When something else was printed; says what.
    pub(crate) fn values(&self) -> Result<Vec<serde_json::Value>, String> {
        let values = serde_json::Deserializer::from_str(&self.out).into_iter();
        let values: Result<_, _> = values.collect();
        values.map_err(|error| format!("no JSON ({error}): {:?}", self.out))
    }
}

/// The file of this kind that belongs to a block's.
fn beside(file: &Path, kind: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(kind);
    name.into()
}

fn printed(file: &Path) -> String {
    format!(
        "{}\n{}",
        text(&beside(file, "out")),
        text(&beside(file, "err"))
    )
}

/// What a file holds so far; nothing, before it is there.
fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}
