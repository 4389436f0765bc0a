//! What jatis tells a service manager is so, and one that hangs is noticed.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::{Stack, manager::Manager, processes::Process, wait};

#[tokio::test]
async fn it_says_when_it_is_ready_how_it_is_when_it_reloads_and_when_it_stops() {
    let mut manager = Manager::listen("says");
    let mut stack = Stack::with()
        .environment(manager.environment(Duration::from_secs(3)))
        .start()
        .await;
    let ready = manager.hears(0, "READY=1").await;
    stack.client.create_tenants::<2>().await;
    let told = manager
        .hears(ready, "STATUS=serving; 2 of 2 workers run")
        .await;
    let fed = manager.hears(told, "WATCHDOG=1").await;
    let fed = manager.hears(fed, "WATCHDOG=1").await;
    stack.supervisor().signal(Signal::SIGHUP);
    let reloading = manager.hears(fed, "RELOADING=1").await;
    let stamped = manager.hears(reloading, "MONOTONIC_USEC=").await;
    assert_eq!(stamped, reloading + 1, "in one breath");
    let ready = manager.hears(stamped, "READY=1").await;
    stack.stop().await;
    manager.hears(ready, "STOPPING=1").await;
    // No worker has a word to say to it.
    let heard = manager.heard().to_vec();
    let pid = heard.iter().find(|text| text.starts_with("MAINPID"));
    assert_eq!(pid, None, "{heard:?}");
    stack.start_again().await;
    stack.finish().await;
}

#[tokio::test]
async fn a_supervisor_that_hangs_is_replaced_and_its_workers_finish() {
    const WATCHDOG: Duration = Duration::from_secs(3);
    let mut manager = Manager::listen("hangs");
    let mut stack = Stack::with()
        .environment(manager.environment(WATCHDOG))
        .start()
        .await;
    let tenants = stack.client.create_tenants::<3>().await;
    for tenant in tenants {
        for n in 0..20 {
            stack.client.post(tenant, &json!(n)).await.taken();
        }
    }
    let fed = manager.hears(0, "WATCHDOG=1").await;
    manager.hears(fed, "WATCHDOG=1").await;

    stack.supervisor().signal(Signal::SIGSTOP);
    let mut last = (manager.heard().len(), Instant::now());
    wait::until("the watchdog is not fed", async || {
        let heard = manager.heard().len();
        if heard != last.0 {
            last = (heard, Instant::now());
        }
        match last.1.elapsed() {
            silence if silence > WATCHDOG => Ok(()),
            silence => Err(format!("silent for {silence:?}")),
        }
    })
    .await;
    // What the unit has systemd do: SIGTERM to all of them, then SIGKILL to what stays.
    let workers = stack.supervisor().workers();
    assert_eq!(workers.len(), 3);
    stack.supervisor().signal(Signal::SIGTERM);
    for worker in &workers {
        worker.signal(Signal::SIGTERM);
    }
    Process::finished(&workers).await;
    stack.kill_supervisor().await;
    stack.start_again().await;
    for tenant in tenants {
        stack.client.running(tenant).await;
    }
    stack.settled().await;
    stack.finish().await;
}
