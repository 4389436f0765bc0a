//! Signals of an operator: what they ask for is done, and nothing is lost by it.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{Stack, wait};

#[tokio::test]
async fn a_thread_added_by_a_signal_is_wanted_from_then_on() {
    let mut stack = Stack::with().set("worker.max_threads", "6").start().await;
    let tenant = stack
        .client
        .create_tenant(json!({"name": "signalled", "workers": 4}))
        .await;
    let worker = stack.worker(tenant).await;
    for (signal, threads) in [
        (Signal::SIGTTIN, 5),
        (Signal::SIGTTIN, 6),
        // As many as there may be.
        (Signal::SIGTTIN, 6),
        (Signal::SIGTTOU, 5),
    ] {
        worker.signal(signal);
        wait::until("what is wanted follows the signal", async || {
            let shown = stack.client.tenant(tenant).await;
            let runs = &shown["runtime"]["active_workers"];
            if shown["workers"] == threads && *runs == threads {
                Ok(())
            } else {
                Err(shown.to_string())
            }
        })
        .await;
    }
    assert_eq!(stack.worker(tenant).await, worker, "no restart");
    stack.stop().await;
    stack.start_again().await;
    let shown = stack.client.running(tenant).await;
    assert_eq!(shown["workers"], 5, "for good");
    stack.finish().await;
}

#[tokio::test]
async fn signals_that_say_nothing_end_nothing() {
    let stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;
    let worker = stack.worker(tenant).await;
    for signal in [
        Signal::SIGINT,
        Signal::SIGUSR2,
        Signal::SIGPIPE,
        Signal::SIGHUP,
        Signal::SIGUSR1,
    ] {
        worker.signal(signal);
    }
    for signal in [
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGPIPE,
        Signal::SIGUSR1,
    ] {
        stack.supervisor().signal(signal);
    }
    let log = stack.supervisor().log();
    wait::until("both have written down how they are", async || {
        let [table, state] = ["\"tenant ", "state of the worker"].map(|text| log.lines_with(text));
        if table.is_empty() || state.is_empty() {
            Err(log.tail(3))
        } else {
            Ok(())
        }
    })
    .await;
    stack.client.post(tenant, &json!("after")).await.stored();
    assert_eq!(stack.worker(tenant).await, worker);
    stack.finish().await;
}

#[tokio::test]
async fn a_second_signal_hurries_a_stop_and_a_third_kills() {
    for signals in [2, 3] {
        let mut stack = Stack::with()
            .wait_for_store(Duration::from_millis(100))
            .patient_statements()
            .set("supervision.drain_timeout", "59s")
            // Of a third signal nothing is to be seen if the second one has done it already.
            .set(
                "supervision.fast_timeout",
                if signals == 2 { "200ms" } else { "50s" },
            )
            .start()
            .await;
        let [tenant] = stack.client.create_tenants().await;
        let lock = stack.database.lock_leaf(tenant).await;
        stack.client.post(tenant, &json!(1)).await.taken();
        wait::until("an insert waits", async || {
            match stack.database.waiting_inserts(tenant).await {
                0 => Err("none".to_owned()),
                waiting => Ok(waiting),
            }
        })
        .await;
        for nth in 1..=signals {
            stack.supervisor().signal(Signal::SIGINT);
            if nth < signals {
                // Signals that meet are one.
                let heard = ["\"stopping\"", "the stop is hurried"][nth - 1];
                let log = stack.supervisor().log();
                wait::until("it is heard", async || {
                    let lines = log.lines_with(heard);
                    lines.first().cloned().ok_or_else(|| log.tail(2))
                })
                .await;
            }
        }
        stack.ended(0).await;
        let log = stack.supervisor().log();
        let left = log.lines_with("has left:");
        assert!(
            left.iter().any(|line| line.contains("signal 9 (SIGKILL)")),
            "{left:?}"
        );
        lock.release().await;
        stack.start_again().await;
        stack.settled().await;
        stack.finish().await;
    }
}
