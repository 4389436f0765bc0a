//! The fleet with real processes. The worker is this test binary once more, started through a
//! script that names the part it has to play.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::BytesMut;
use jatis_shared::{
    config::{Supervision, load},
    control::{
        Command, Confinement, Event, Frame, Heartbeat, ResizeSource, Threads, VERSION, WorkerCodec,
    },
    exit::ExitCode,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use tokio_util::codec::{Decoder, Encoder};
use uuid::Uuid;

use super::*;

/// Bounds every wait of a test; none lasts as long.
const PATIENCE: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(100);
/// The variable that makes this binary a worker.
const PART: &str = "JATIS_TEST_PART";

/// Stored, so to speak, by a worker that begins on probation.
const PROBATION: Uuid = Uuid::from_u128(77);

/// A fleet over a program of the test's own.
struct Troupe {
    fleet: Fleet,
    tenant: Desired,
    stored: Arc<Mutex<Vec<MessageId>>>,
    progress: Arc<Mutex<Progress>>,
    /// Makes the tenant's task panic at its next spec.
    trap: Arc<AtomicBool>,
    folder: PathBuf,
}

impl Troupe {
    /// A fleet whose worker is this shell script.
    fn with_script(script: &str, change: impl FnOnce(&mut Supervision)) -> Self {
        static NTH: AtomicU64 = AtomicU64::new(0);
        let nth = NTH.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("jatis-fleet-{}-{nth}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder can be made");
        let program = folder.join("worker");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("a file can be written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("it is ours");
        Self::over(program, folder, change)
    }

    fn over(program: PathBuf, folder: PathBuf, change: impl FnOnce(&mut Supervision)) -> Self {
        let mut config = load::defaults().expect("the defaults are a configuration");
        config.supervision.backoff_min = Duration::from_millis(20);
        change(&mut config.supervision);
        let settings = Settings {
            config: Arc::new(config),
            worker_path: program,
        };
        let stored = Arc::new(Mutex::new(Vec::new()));
        let progress = Arc::new(Mutex::new(Progress::default()));
        let (heard, done) = (Arc::clone(&stored), Arc::clone(&progress));
        let hooks = Hooks {
            recall: Box::new(|_tenant| Memory::default()),
            remember: Box::new(|_tenant, _memory| {}),
            signalled: Box::new(|_tenant, _threads| {}),
            moved: Box::new(|_transition| {}),
            stored: Box::new(move |ids| heard.lock().expect("no panic").extend_from_slice(ids)),
            progress: Box::new(move |_tenant, more| {
                done.lock().expect("no panic").stored += more.stored;
            }),
        };
        let trap = Arc::new(AtomicBool::new(false));
        let sprung = Arc::clone(&trap);
        let mint_floor = move || {
            assert!(
                !sprung.swap(false, Ordering::Relaxed),
                "the trap of the test"
            );
            99
        };
        let tenant = Desired {
            tenant: Uuid::from_u128(7).into(),
            number: TenantNumber::try_from(7).expect("7 is a number"),
            threads: 2,
            connections: 2,
            paused: false,
        };
        Self {
            fleet: Fleet::start(settings, hooks, mint_floor).expect("a thread can be started"),
            trap,
            tenant,
            stored,
            progress,
            folder,
        }
    }

    /// A fleet whose worker plays a part in [`acts_as_a_worker`]. Like the real one it does not die
    /// of a SIGTERM.
    fn playing(part: &str, change: impl FnOnce(&mut Supervision)) -> Self {
        let binary = std::env::current_exe().expect("this test has a path");
        let (_crate, module) = module_path!()
            .split_once("::")
            .expect("a module in a crate");
        let script = format!(
            "trap '' TERM\n{PART}={part} exec '{}' --exact {module}::acts_as_a_worker --nocapture",
            binary.display()
        );
        Self::with_script(&script, change)
    }

    async fn until(&self, what: &str, is_there: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let last = self
            .fleet
            .wait(self.tenant.tenant, PATIENCE, &is_there)
            .await;
        let last = last.expect("the tenant is known");
        assert!(is_there(&last), "not {what}: {last:?}");
        last
    }

    /// Starts the worker and waits for it.
    async fn running(&self) -> (u32, Snapshot) {
        self.fleet.ensure(self.tenant);
        let last = self
            .until("running", |last| last.state == StateName::Running)
            .await;
        (last.pid.expect("a running worker has a process"), last)
    }

    async fn stop(self) {
        let pid = self
            .fleet
            .snapshot(self.tenant.tenant)
            .and_then(|last| last.pid);
        self.fleet.stop(self.tenant.tenant).await;
        assert!(self.fleet.tenants().is_empty());
        if let Some(pid) = pid {
            assert!(!exists(pid), "process {pid} is left");
        }
        self.fleet
            .stop_all(watch::channel(StopLevel::Drain).1)
            .await;
    }
}

impl Drop for Troupe {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} is left: {error}", self.folder.display());
        }
    }
}

/// Whether there is a process of this number, be it a zombie.
fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn named(pid: u32) -> Pid {
    let raw = i32::try_from(pid).expect("pids are small");
    Pid::from_raw(raw).expect("pids are not zero")
}

#[tokio::test]
async fn a_worker_starts_works_resizes_and_drains() {
    let troupe = Troupe::playing("obedient", |_| {});
    let (pid, first) = troupe.running().await;
    assert!(exists(pid));
    assert_eq!(
        (first.generation, first.restarts, first.applied_threads),
        (0, 0, 2)
    );
    assert!(troupe.fleet.is_running(troupe.tenant.tenant));

    let wider = Desired {
        threads: 8,
        ..troupe.tenant
    };
    troupe.fleet.resize(wider);
    let resized = troupe.fleet.applied(wider).await.expect("it is known");
    assert_eq!((resized.applied_threads, resized.threads.live), (8, 8));
    assert_eq!(resized.pid, Some(pid), "a resize is no restart");
    let again = troupe.fleet.ready(troupe.tenant.tenant, PATIENCE).await;
    assert_eq!(again.map(|last| last.status()), Some(Status::Running));
    troupe.until("reported", |last| last.unacked == 3).await;

    let (stored, progress) = (Arc::clone(&troupe.stored), Arc::clone(&troupe.progress));
    troupe.stop().await;
    // Both were said right before the exit, and count all the same.
    let id = MessageId::from(Uuid::from_u128(99));
    assert_eq!(*stored.lock().expect("no panic"), vec![id]);
    assert_eq!(progress.lock().expect("no panic").stored, 5);
}

#[tokio::test]
async fn a_paused_worker_is_resized_killed_and_resumed_and_stays_what_is_wanted() {
    // It overhears the first order to pause: the next heartbeat must bring another.
    for part in ["obedient", "inattentive"] {
        let troupe = Troupe::playing(part, |_| {});
        let (pid, _) = troupe.running().await;
        let paused = Desired {
            paused: true,
            ..troupe.tenant
        };
        troupe.fleet.ensure(paused);
        let last = troupe.fleet.applied(paused).await.expect("it is known");
        assert_eq!((last.state, last.applied_threads), (StateName::Paused, 2));
        assert_eq!(last.pid, Some(pid), "a pause is no restart");
        assert!(!troupe.fleet.is_running(troupe.tenant.tenant));

        let wider = Desired {
            threads: 8,
            ..paused
        };
        troupe.fleet.resize(wider);
        let last = troupe.fleet.applied(wider).await.expect("it is known");
        assert_eq!((last.state, last.applied_threads), (StateName::Paused, 8));
        troupe.fleet.resize(paused);
        troupe.fleet.applied(paused).await.expect("it is known");

        kill_process(named(pid), Signal::KILL).expect("it is ours");
        let is_back = |last: &Snapshot| last.generation == 1 && last.state == StateName::Paused;
        troupe.until("paused again", is_back).await;

        troupe.fleet.ensure(troupe.tenant);
        let last = troupe.fleet.applied(troupe.tenant).await;
        assert_eq!(last.map(|last| last.state), Some(StateName::Running));
        troupe.stop().await;
    }
}

#[tokio::test]
async fn a_healthy_worker_killed_once_is_soon_ready_again() {
    let real_pause = |keys: &mut Supervision| keys.backoff_min = Duration::from_millis(500);
    let troupe = Troupe::playing("obedient", real_pause);
    let (pid, _) = troupe.running().await;
    kill_process(named(pid), Signal::KILL).expect("it is ours");
    let is_back = |last: &Snapshot| last.generation == 1 && last.state == StateName::Running;
    let back = troupe.until("back", is_back).await;
    assert_eq!(back.last_exit.as_deref(), Some("signal 9 (SIGKILL)"));
    assert_eq!(back.restarts, 1);
    assert!(!exists(pid));
    troupe.stop().await;
}

#[tokio::test]
async fn a_worker_that_exits_at_once_is_tried_again_and_can_be_stopped() {
    let troupe = Troupe::with_script("exit 101", |_| {});
    troupe.fleet.ensure(troupe.tenant);
    let rests = |last: &Snapshot| last.restarts >= 2 && last.state == StateName::Backoff;
    let last = troupe.until("tried again", rests).await;
    assert_eq!(last.last_exit.as_deref(), Some("exit 101"));
    assert_eq!((last.pid, last.status()), (None, Status::Backoff));
    troupe.stop().await;
}

#[tokio::test]
async fn a_crash_loop_comes_to_an_end_after_six_starts_and_begins_anew_when_released() {
    let troupe = Troupe::with_script("exit 101", |keys| keys.backoff_max = keys.backoff_min);
    troupe.fleet.ensure(troupe.tenant);
    let rests = |last: &Snapshot| last.state == StateName::Quarantined;
    let last = troupe.until("in quarantine", rests).await;
    assert_eq!((last.restarts, last.status()), (5, Status::Failed));
    assert!(troupe.fleet.release(troupe.tenant.tenant));
    let again = |last: &Snapshot| last.state == StateName::Quarantined && last.restarts > 5;
    let last = troupe.until("in quarantine again", again).await;
    assert_eq!(last.restarts, 11, "the release forgave what was before");
    troupe.stop().await;
}

#[tokio::test]
async fn what_no_repetition_mends_is_not_repeated_until_somebody_says_so() {
    for (code, state) in [
        (64, StateName::Quarantined),
        (65, StateName::Quarantined),
        (66, StateName::Quarantined),
        (71, StateName::Refused),
    ] {
        let troupe = Troupe::with_script(&format!("exit {code}"), |_| {});
        troupe.fleet.ensure(troupe.tenant);
        let last = troupe.until("given up", |last| last.state == state).await;
        assert_eq!((last.restarts, last.pid), (0, None), "{code}");
        // Wanting the same once more changes nothing; a person who asks for a size does.
        troupe.fleet.ensure(troupe.tenant);
        troupe.fleet.resize(troupe.tenant);
        let again = |last: &Snapshot| last.state == state && last.restarts > 0;
        let last = troupe.until("given up again", again).await;
        assert_eq!(last.restarts, 1, "{code}");
        troupe.stop().await;
    }
}

#[tokio::test]
async fn a_crash_puts_the_next_worker_on_probation_and_an_exit_in_order_does_not() {
    for (part, on_probation) in [("obedient", true), ("leaver", false)] {
        let troupe = Troupe::playing(part, |_| {});
        troupe.fleet.ensure(troupe.tenant);
        if part == "obedient" {
            let (pid, _) = troupe.running().await;
            kill_process(named(pid), Signal::KILL).expect("it is ours");
        }
        let is_back = |last: &Snapshot| last.generation == 1 && last.state == StateName::Running;
        troupe.until("back", is_back).await;
        // It says so before it says that it is ready.
        let heard = troupe
            .stored
            .lock()
            .expect("no panic")
            .contains(&PROBATION.into());
        assert_eq!(heard, on_probation, "{part}");
        troupe.stop().await;
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_tried_again_and_can_be_stopped() {
    let troupe = Troupe::with_script("", |_| {});
    fs::remove_file(troupe.folder.join("worker")).expect("it is there");
    troupe.fleet.ensure(troupe.tenant);
    troupe
        .until("resting", |last| last.state == StateName::Backoff)
        .await;
    troupe.stop().await;
}

#[tokio::test]
async fn a_worker_that_never_says_hello_is_killed() {
    let troupe = Troupe::with_script("exec sleep 600", |keys| keys.hello_timeout = SOON);
    troupe.fleet.ensure(troupe.tenant);
    let last = troupe
        .until("killed", |last| last.last_exit.is_some())
        .await;
    assert_eq!(last.last_exit.as_deref(), Some("signal 9 (SIGKILL)"));
    troupe.stop().await;
}

#[tokio::test]
async fn a_worker_that_breaks_the_protocol_is_killed() {
    for part in ["garbage", "hasty", "endless", "flood"] {
        let troupe = Troupe::playing(part, |keys| {
            keys.flood_timeout = SOON;
            keys.max_frames_per_second = 100;
        });
        troupe.fleet.ensure(troupe.tenant);
        let last = troupe.until(part, |last| last.last_exit.is_some()).await;
        assert_eq!(
            last.last_exit.as_deref(),
            Some("signal 9 (SIGKILL)"),
            "{part}"
        );
        troupe.stop().await;
    }
}

#[tokio::test]
async fn a_worker_that_falls_silent_or_closes_its_socket_is_suspect_then_killed() {
    for part in ["mute", "closed"] {
        let troupe = Troupe::playing(part, |keys| {
            keys.heartbeat_interval = SOON;
            keys.kill_after = SOON;
        });
        troupe.fleet.ensure(troupe.tenant);
        troupe
            .until("suspect", |last| last.state == StateName::Suspect)
            .await;
        let last = troupe
            .until("killed", |last| last.last_exit.is_some())
            .await;
        assert_eq!(
            last.last_exit.as_deref(),
            Some("signal 9 (SIGKILL)"),
            "{part}"
        );
        troupe.stop().await;
    }
}

#[tokio::test]
async fn a_worker_that_does_not_drain_is_killed_at_its_deadline() {
    let troupe = Troupe::playing("stubborn", |keys| {
        keys.drain_timeout = SOON;
        keys.kill_after = SOON;
    });
    troupe.running().await;
    troupe.stop().await;
}

#[tokio::test]
async fn a_worker_that_was_halted_is_woken_to_drain() {
    let troupe = Troupe::playing("obedient", |_| {});
    let (pid, _) = troupe.running().await;
    kill_process(named(pid), Signal::STOP).expect("it is ours");
    let progress = Arc::clone(&troupe.progress);
    troupe.stop().await;
    assert_eq!(
        progress.lock().expect("no panic").stored,
        5,
        "it was killed"
    );
}

#[tokio::test]
async fn a_stop_that_gets_harder_does_not_wait_for_the_drain() {
    let troupe = Troupe::playing("stubborn", |_| {});
    let (pid, _) = troupe.running().await;
    let (raise, levels) = watch::channel(StopLevel::Drain);
    let fleet = troupe.fleet.clone();
    let stopping = tokio::spawn(async move { fleet.stop_all(levels).await });
    troupe
        .until("draining", |last| last.state == StateName::Draining)
        .await;
    troupe.fleet.ensure(troupe.tenant);
    raise.send_replace(StopLevel::Immediate);
    timeout(PATIENCE, stopping)
        .await
        .expect("in time")
        .expect("no panic");
    assert!(!exists(pid));
    assert!(troupe.fleet.snapshots().is_empty());
    troupe.fleet.ensure(troupe.tenant);
    assert!(
        troupe.fleet.tenants().is_empty(),
        "a stopped fleet takes in nobody"
    );
}

#[tokio::test]
async fn a_task_that_panics_leaves_no_process_and_is_begun_anew() {
    let troupe = Troupe::playing("obedient", |_| {});
    troupe.trap.store(true, Ordering::Relaxed);
    troupe.fleet.ensure(troupe.tenant);
    let mut snapshots = troupe
        .fleet
        .inner
        .watch(troupe.tenant.tenant)
        .expect("it is known");
    while snapshots.changed().await.is_ok() {}
    let pid = snapshots.borrow().pid.expect("it had a process");
    assert!(!exists(pid));
    let (_, last) = troupe.running().await;
    assert_eq!(last.generation, 1);
    troupe.stop().await;
}

#[tokio::test]
async fn a_fleet_that_is_dropped_leaves_no_process() {
    let troupe = Troupe::playing("stubborn", |_| {});
    let (pid, _) = troupe.running().await;
    let pidfd = pidfd_open(named(pid), PidfdFlags::empty()).expect("it is there");
    drop(troupe);
    let ended = tokio::task::spawn_blocking(move || {
        let mut ended = [PollFd::new(&pidfd, PollFlags::IN)];
        let patience = Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        poll(&mut ended, Some(&patience))
    });
    assert_eq!(ended.await.expect("no panic"), Ok(1), "it lives on");
}

/// Not a test, unless it is told its part: then this process is a worker.
#[test]
fn acts_as_a_worker() {
    #[expect(clippy::disallowed_methods, reason = "how the script tells the part")]
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let stdin = rustix::stdio::stdin().try_clone_to_owned();
    let code = Actor::new(stdin.expect("there is a socket").into()).play(&part);
    #[expect(
        clippy::disallowed_methods,
        reason = "the code is the worker's last word"
    )]
    std::process::exit(i32::from(code.code()));
}

struct Actor {
    socket: UnixStream,
    codec: WorkerCodec,
    buffer: BytesMut,
    generation: u64,
    threads: u16,
    paused: bool,
    /// Commands to pause that it does not hear.
    overhears: u8,
}

impl Actor {
    fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            codec: WorkerCodec::default(),
            buffer: BytesMut::new(),
            generation: 0,
            threads: 0,
            paused: false,
            overhears: 0,
        }
    }

    fn play(mut self, part: &str) -> ExitCode {
        if part == "garbage" {
            self.socket
                .write_all(&[0xff; 64])
                .expect("the supervisor reads");
            return self.dawdle();
        }
        self.say(Event::Hello {
            min_version: VERSION,
            max_version: VERSION,
            build: "test".to_owned(),
            pid: std::process::id(),
        });
        if part == "hasty" {
            self.say(Event::Ready { connect_ms: 0 });
            return self.dawdle();
        }
        let Some(Command::Spec(spec)) = self.hear() else {
            return ExitCode::BadSpec;
        };
        self.threads = spec.threads;
        self.paused = spec.paused;
        assert_eq!(
            (spec.threads, spec.connections, spec.mint_floor),
            (2, 2, 99)
        );
        self.say(Event::Confined(Confinement {
            no_new_privs: true,
            undumpable: true,
            no_core: true,
        }));
        self.beat(0);
        if spec.probation.is_some() {
            let ids = vec![PROBATION.into()];
            self.say(Event::Stored { ids });
        }
        self.say(Event::Ready { connect_ms: 1 });
        match part {
            "leaver" if self.generation == 0 => ExitCode::Clean,
            "obedient" | "leaver" => self.obey(true),
            "inattentive" => {
                self.overhears = 1;
                self.obey(true)
            }
            "stubborn" => self.obey(false),
            "mute" => self.dawdle(),
            "closed" => {
                self.socket
                    .shutdown(std::net::Shutdown::Both)
                    .expect("it is open");
                self.dawdle_without_a_socket()
            }
            "endless" => loop {
                self.say(Event::Fault {
                    detail: "x".repeat(Self::TOO_LONG),
                });
            },
            "flood" => loop {
                self.beat(0);
            },
            _ => panic!("there is no part {part}"),
        }
    }

    const TOO_LONG: usize = 65 * 1024;

    /// Does as told; whether it also leaves when told is another question.
    fn obey(mut self, drains: bool) -> ExitCode {
        self.beat(2);
        while let Some(command) = self.hear() {
            if let Command::Resize {
                threads,
                connections,
            } = command
            {
                self.threads = threads;
                let source = ResizeSource::Command;
                self.say(Event::Resized {
                    threads,
                    connections,
                    source,
                });
                self.beat(2);
            } else if let Command::Pause = command {
                self.paused = self.overhears == 0;
                self.overhears = self.overhears.saturating_sub(1);
                self.beat(2);
            } else if let Command::Resume = command {
                self.paused = false;
                self.beat(2);
            } else if let (Command::Drain { .. }, true) = (command, drains) {
                let ids = vec![MessageId::from(Uuid::from_u128(99))];
                self.say(Event::Stored { ids });
                self.beat(5);
                self.say(Event::Drained { requeued: 0 });
                return ExitCode::Clean;
            }
        }
        ExitCode::Orphaned
    }

    fn beat(&mut self, stored: u64) {
        let live = self.threads;
        self.say(Event::Heartbeat(Heartbeat {
            threads: Threads {
                target: live,
                live,
                busy: 0,
            },
            unacked: 3,
            paused: self.paused,
            stored,
            ..Heartbeat::default()
        }));
    }

    /// Lives on until the supervisor is gone.
    fn dawdle(mut self) -> ExitCode {
        while self.hear().is_some() {}
        ExitCode::Orphaned
    }

    fn dawdle_without_a_socket(self) -> ExitCode {
        loop {
            std::thread::park();
        }
    }

    fn say(&mut self, body: Event) {
        let frame = Frame {
            v: VERSION,
            generation: self.generation,
            id: 0,
            re: None,
            body,
        };
        let mut bytes = BytesMut::new();
        match self.codec.encode(&frame, &mut bytes) {
            Ok(()) => {}
            // Longer than the codec lets through: then without it.
            Err(_too_long) => {
                let length = u32::try_from(Self::TOO_LONG).expect("it fits");
                bytes.extend_from_slice(&length.to_be_bytes());
                bytes.resize(Self::TOO_LONG, b' ');
            }
        }
        let said: io::Result<()> = self.socket.write_all(&bytes);
        said.expect("the supervisor reads");
    }

    /// The next command; none when the supervisor is gone.
    fn hear(&mut self) -> Option<Command> {
        loop {
            let decoded = self.codec.decode(&mut self.buffer);
            if let Some(frame) = decoded.expect("the supervisor keeps to the protocol") {
                self.generation = frame.generation;
                return Some(frame.body);
            }
            let mut bytes = [0; 4096];
            match self.socket.read(&mut bytes) {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.buffer.extend_from_slice(&bytes[..read]),
            }
        }
    }
}
