//! Another image of the supervisor takes over, and nobody outside notices.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use jatis_shared::ids::TenantId;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::harness::{Client, Stack, wait};

/// Upgrades one after the other.
const UPGRADES: usize = 5;

#[tokio::test]
async fn upgrades_under_load_refuse_nobody_lose_nothing_and_keep_every_worker() {
    let stack = Stack::start().await;
    let tenants = stack.client.create_tenants::<3>().await;
    let mut workers = Vec::new();
    for tenant in tenants {
        workers.push(stack.worker(tenant).await);
    }
    let posters = Posters::start(&stack.client, &tenants);
    posters.posts(20).await;
    let descriptors = descriptors(&stack);
    for nth in 1..=UPGRADES {
        stack.supervisor().signal(Signal::SIGUSR2);
        taken_over(&stack, nth).await;
        posters.posts(20).await;
    }
    let posted = posters.stop().await;
    assert!(posted >= 20 * 6, "{posted}");
    for (tenant, worker) in tenants.iter().zip(workers) {
        assert_eq!(stack.worker(*tenant).await, worker, "the same process");
        let shown = stack.client.tenant(*tenant).await;
        assert_eq!(shown["runtime"]["restarts"], 0, "{shown}");
    }
    // What is counted counts on.
    stack.settled().await;
    wait::until("every message is counted", async || {
        let scrape = stack.client.scrape().await;
        let stored = scrape.sum("messages_processed_total", &[("status", "success")]);
        if stored >= f64::from(u32::try_from(posted).expect("few")) {
            Ok(())
        } else {
            Err(format!("{stored} of {posted}"))
        }
    })
    .await;
    wait::until(
        "no descriptor is left behind",
        async || match self::descriptors(&stack) {
            // Pools of connections grow and shrink; what each image might leave behind (a socket, a
            // pidfd for each worker, the page, the listener) would be forty and more by now.
            now if now <= descriptors + 24 => Ok(()),
            now => Err(format!("{now}, {descriptors} before")),
        },
    )
    .await;
    stack.client.resize(tenants[0], 7).await;
    stack.finish().await;
}

#[tokio::test]
async fn a_program_that_cannot_take_over_changes_nothing() {
    let stack = Stack::with()
        .own_program()
        .allow_error("no upgrade")
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    let worker = stack.worker(tenant).await;
    let program = stack.invocation().program.clone();
    let whole = std::fs::read(&program).expect("it is ours");
    for broken in [
        &whole[..whole.len() / 3],
        b"#!/bin/sh\nexit 3\n",
        b"#!/bin/sh\n",
    ] {
        replace(&program, broken);
        let refused = stack
            .operate_by(&stack.jatis_program(), "upgrade", &[])
            .await;
        assert_eq!(refused.code, Some(5), "{refused:?}");
        stack
            .client
            .post(tenant, &json!(broken.len()))
            .await
            .taken();
    }
    assert_eq!(stack.worker(tenant).await, worker);
    // One that can is taken all the same.
    replace(&program, &whole);
    let upgrade = stack
        .operate_by(&stack.jatis_program(), "upgrade", &[])
        .await;
    upgrade.expect(0);
    taken_over(&stack, 1).await;
    assert_eq!(stack.worker(tenant).await, worker);
    stack.finish().await;
}

#[tokio::test]
async fn a_worker_that_dies_after_an_upgrade_is_replaced_and_a_stop_in_between_is_heard() {
    let mut stack = Stack::start().await;
    let [tenant, other] = stack.client.create_tenants().await;
    stack.client.pause(other).await;
    let worker = stack.worker(tenant).await;
    stack.supervisor().signal(Signal::SIGUSR2);
    taken_over(&stack, 1).await;
    assert_eq!(stack.client.tenant(other).await["status"], "paused");
    worker.kill();
    wait::until("the worker has been replaced", async || {
        let shown = stack.client.tenant(tenant).await;
        if shown["status"] == "running" && shown["runtime"]["pid"] != worker.pid {
            Ok(())
        } else {
            Err(shown.to_string())
        }
    })
    .await;
    stack.client.resume(other).await;
    stack.client.post(other, &json!("after")).await.taken();
    // Wherever it meets the upgrade, it ends both images.
    stack.supervisor().signal(Signal::SIGUSR2);
    stack.supervisor().signal(Signal::SIGTERM);
    stack.ended(0).await;
    stack.start_again().await;
    stack.settled().await;
    stack.finish().await;
}

/// Waits until so many images have taken over, and the latest serves.
async fn taken_over(stack: &Stack, times: usize) {
    let log = stack.supervisor().log();
    wait::until("another image serves", async || {
        let [taken, serving] = ["this image has taken over", "\"message\":\"serving\""]
            .map(|text| log.lines_with(text).len());
        if taken == times && serving == times + 1 {
            Ok(())
        } else {
            Err(format!("{taken} have taken over: {}", log.tail(2)))
        }
    })
    .await;
}

fn descriptors(stack: &Stack) -> usize {
    let folder = format!("/proc/{}/fd", stack.supervisor().pid());
    std::fs::read_dir(folder).expect("it runs").count()
}

fn replace(program: &PathBuf, content: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    let new = program.with_extension("new");
    std::fs::write(&new, content).expect("it is ours");
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    std::fs::rename(&new, program).expect("it is ours");
}

/// Clients that open a connection for each message and never try again.
struct Posters {
    goes_on: Arc<AtomicBool>,
    posted: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Posters {
    fn start(client: &Client, tenants: &[TenantId]) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let posted = Arc::new(AtomicU64::new(0));
        let poster = |tenant: TenantId| {
            let (client, goes_on) = (client.fleeting(), Arc::clone(&goes_on));
            let posted = Arc::clone(&posted);
            tokio::spawn(async move {
                let mut n = 0_u64;
                while goes_on.load(Ordering::Relaxed) {
                    let answer = client.post(tenant, &json!({"n": n})).await;
                    assert!(answer.is_taken(), "message {n} of {tenant}: {answer:?}");
                    posted.fetch_add(1, Ordering::Relaxed);
                    n += 1;
                }
            })
        };
        let tasks = tenants.iter().copied().map(poster).collect();
        Self {
            goes_on,
            posted,
            tasks,
        }
    }

    /// Waits until so many more have been answered.
    async fn posts(&self, more: u64) {
        let until = self.posted.load(Ordering::Relaxed) + more;
        wait::until("messages are answered", async || {
            assert!(
                self.tasks.iter().all(|task| !task.is_finished()),
                "a client was not served"
            );
            match self.posted.load(Ordering::Relaxed) {
                posted if posted >= until => Ok(()),
                posted => Err(format!("{posted} of {until}")),
            }
        })
        .await;
    }

    async fn stop(self) -> u64 {
        self.goes_on.store(false, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("every message was taken");
        }
        self.posted.load(Ordering::Relaxed)
    }
}
