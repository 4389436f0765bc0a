//! One running `jatis serve`.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{log::Log, processes::Process, wait};

/// How `jatis` is called: the same for `serve` and `token`.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    pub(crate) program: PathBuf,
    pub(crate) config: PathBuf,
    /// HS256 secret of the tokens, given by the environment.
    pub(crate) jwt_secret: String,
    /// A further variable of the environment.
    pub(crate) mark: Option<(&'static str, String)>,
    /// And those that a test wants.
    pub(crate) environment: Vec<(&'static str, String)>,
}

/// Lines of a log that a failing test prints.
const TAIL_LINES: usize = 60;

impl Invocation {
    /// `jatis VERB --config FILE ARGUMENTS` with nothing in its environment but the secret and the
    /// mark.
    fn command(&self, verb: &str, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg(verb)
            .arg("--config")
            .arg(&self.config)
            .args(arguments)
            .env_clear()
            .env("JWT_SECRET", &self.jwt_secret)
            .envs(self.mark.clone())
            .envs(self.environment.clone())
            .stdin(Stdio::null());
        command
    }

    /// Runs a verb that ends by itself.
    pub(crate) fn run(&self, verb: &str, arguments: &[&str]) -> Ran {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let output = self.command(verb, &arguments).output();
        let output = output.expect("jatis can be run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ran {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// A token minted by `jatis token`.
    pub(crate) fn token(&self, arguments: &[&str]) -> String {
        self.run("token", arguments).expect(0).out
    }
}

/// How a call of `jatis` ended, and what it printed, without spaces around it.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Absent after a signal.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// # Panics
    /// When the exit code is another.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

/// A supervisor, with the log and the output of its own. Dropping it kills it and its workers.
#[derive(Debug)]
pub(crate) struct Supervisor {
    child: Child,
    log: Log,
    output: PathBuf,
    address: Option<SocketAddr>,
}

impl Supervisor {
    /// Starts one that writes to `NAME.log` and `NAME.out` in `folder`, and waits until its API
    /// listens.
    pub(crate) async fn start(
        invocation: &Invocation,
        arguments: &[String],
        folder: &Path,
        name: &str,
    ) -> Self {
        let log = folder.join(format!("{name}.log"));
        let output = folder.join(format!("{name}.out"));
        let file = |path| File::create(path).expect("the stack's folder is writable");
        let child = invocation
            .command("serve", arguments)
            .stderr(file(&log))
            .stdout(file(&output))
            .spawn()
            .expect("jatis can be run");
        let mut supervisor = Self {
            child,
            log: Log::new(log),
            output,
            address: None,
        };
        let address = wait::until("the API listens", async || {
            if let Some(status) = supervisor.child.try_wait().expect("it is our child") {
                panic!("jatis serve ended: {status}");
            }
            let address = supervisor.log.address();
            address.ok_or_else(|| supervisor.log.tail(1))
        })
        .await;
        supervisor.address = Some(address);
        supervisor
    }

    /// Where its API listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.expect("it is known once started")
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid fits")
    }

    pub(crate) const fn log(&self) -> &Log {
        &self.log
    }

    /// What it wrote to standard output.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(&self.output).expect("it was created at the start")
    }

    /// Its worker processes.
    pub(crate) fn workers(&self) -> Vec<Process> {
        Process::children(self.pid())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // Not reaped yet, so the pid is its own.
        kill(Pid::from_raw(self.pid()), signal).expect("our own child can be signalled");
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        wait::until("the supervisor ends", async || {
            let ended = self.child.try_wait().expect("it is our child");
            ended.ok_or_else(|| self.log.tail(3))
        })
        .await
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let alive = matches!(self.child.try_wait(), Ok(None));
        if alive {
            // The children first: once it is dead they are nobody's.
            let workers = self.workers();
            self.signal(Signal::SIGKILL);
            for worker in workers {
                worker.kill();
            }
            let _status = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("---- the end of the supervisor's log:");
            eprintln!("{}", self.log.tail(TAIL_LINES));
        }
    }
}
