//! The operator's commands: they need no API, no token and no database.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use jatis_shared::ids::TenantId;
use serde_json::{Value, json};

use crate::harness::{Stack, processes::Process};

#[tokio::test]
async fn every_command_about_a_tenant_does_what_it_says() {
    let stack = Stack::with()
        .wait_for_store(Duration::from_millis(100))
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    let id = tenant.to_string();

    let status = json_of(&stack, "status", &[]).await;
    assert_eq!(status["stage"], "serving", "{status}");
    assert_eq!(status["pid"], stack.supervisor().pid());
    assert_eq!(status["checks"]["database"], "healthy");
    assert_eq!(status["workers"]["running"], 1);
    let tenants = json_of(&stack, "tenants", &[]).await;
    assert_eq!(tenants[0]["id"], id);
    let before = stack.worker(tenant).await;
    let shown = json_of(&stack, "tenant", &["show", &id]).await;
    assert_eq!(
        (&shown["pid"], &shown["state"]),
        (&json!(before.pid), &json!("running"))
    );

    // Stopped: no process, and messages are taken and wait.
    let shown = json_of(&stack, "tenant", &["stop", &id]).await;
    assert_eq!(
        (&shown["wanted"], &shown["state"]),
        (&json!("stopped"), &Value::Null)
    );
    assert!(!before.exists());
    assert_eq!(stack.client.tenant(tenant).await["status"], "paused");
    stack.client.post_queued(tenant, 3).await;
    stack.operate("tenant", &["restart", &id]).await.expect(5);
    let shown = json_of(&stack, "tenant", &["start", &id]).await;
    assert_eq!(shown["state"], "running", "{shown}");
    assert_eq!(shown["generation"], 1, "it counts on");
    stack.settled().await;

    let first = stack.worker(tenant).await;
    let shown = json_of(&stack, "tenant", &["restart", &id]).await;
    assert_eq!(shown["state"], "running", "{shown}");
    assert_ne!(shown["pid"], first.pid);
    assert_eq!(
        shown["last_exit"],
        Value::Null,
        "nothing is held against it"
    );

    let shown = json_of(&stack, "tenant", &["pause", &id]).await;
    assert_eq!(shown["state"], "paused");
    let shown = json_of(&stack, "tenant", &["resume", &id]).await;
    assert_eq!(shown["wanted"], "active");
    stack.client.running(tenant).await;
    let shown = json_of(&stack, "tenant", &["resize", &id, "7"]).await;
    assert_eq!(
        (&shown["workers"], &shown["threads"]["live"]),
        (&json!(7), &json!(7))
    );
    assert_eq!(stack.client.tenant(tenant).await["workers"], 7);
    stack
        .operate("tenant", &["resize", &id, "0"])
        .await
        .expect(5);

    let nobody = "00000000-0000-4000-8000-000000000000";
    let refused = stack.operate("tenant", &["show", nobody]).await.expect(5);
    assert!(refused.err.contains("there is no tenant"), "{refused:?}");
    stack.finish().await;
}

#[tokio::test]
async fn a_stop_is_durable_and_a_release_ends_a_quarantine() {
    let mut stack = Stack::with()
        .set("supervision.backoff_min", "10ms")
        .set("supervision.quarantine_crashes", "1")
        .allow_error("is quarantined")
        .start()
        .await;
    let [stopped, failed] = stack.client.create_tenants().await;
    stack
        .operate("tenant", &["stop", &stopped.to_string()])
        .await
        .expect(0);
    for _ in 0..2 {
        let worker = stack.worker(failed).await;
        worker.kill();
        Process::ended(&[worker]).await;
    }
    stack.client.with_status(failed, "failed").await;
    stack.database.until_quarantined(failed, 1).await;
    stack.stop().await;
    stack.start_again().await;
    stack.client.with_status(failed, "failed").await;
    let shown = json_of(&stack, "tenant", &["show", &stopped.to_string()]).await;
    assert_eq!(
        (&shown["wanted"], &shown["pid"]),
        (&json!("stopped"), &Value::Null)
    );

    let shown = json_of(&stack, "tenant", &["release", &failed.to_string()]).await;
    assert_eq!(shown["state"], "running", "{shown}");
    stack.client.post(failed, &json!("free")).await.taken();
    stack.finish().await;
}

#[tokio::test]
async fn it_answers_while_the_database_is_away_and_the_api_takes_nobody_in() {
    let stack = Stack::with()
        .set("http.max_connections", "1")
        .database_proxy()
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    stack.database_proxy().cut().await;
    let caller = stack
        .client
        .begin(hyper::Method::POST, "/api/v1/tenants", &json!({}))
        .await;
    let status = json_of(&stack, "status", &[]).await;
    let database = status["checks"]["database"].as_str().expect("a word");
    assert!(database.starts_with("unhealthy"), "{status}");
    let tenants = json_of(&stack, "tenants", &[]).await;
    assert_eq!(tenants[0]["id"], tenant.to_string());
    // What must be durable is refused, with the reason.
    stack
        .operate("tenant", &["stop", &tenant.to_string()])
        .await
        .expect(5);
    drop(caller);
    stack.database_proxy().resume();
    stack.finish().await;
}

#[tokio::test]
async fn tables_are_for_people_and_json_for_programs() {
    let stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;
    let table = stack.operate("tenants", &[]).await.expect(0).out;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert!(lines[0].starts_with("TENANT"), "{table}");
    assert!(lines[1].starts_with(&tenant.to_string()), "{table}");
    assert!(!table.contains('\u{1b}'), "no colour but on a terminal");
    let workers = stack.operate("workers", &[]).await.expect(0).out;
    let worker = stack.worker(tenant).await;
    assert!(workers.contains(&worker.pid.to_string()), "{workers}");
    let reloaded = json_of(&stack, "reload", &[]).await;
    assert_eq!(reloaded, json!({"applied": [], "needs_restart": []}));

    let nowhere = stack
        .operate("status", &["--socket", "/nowhere/admin.sock"])
        .await;
    let nowhere = nowhere.expect(4);
    assert!(nowhere.err.contains("no supervisor answers"), "{nowhere:?}");
    stack.finish().await;
}

#[tokio::test]
async fn whoever_may_not_or_talks_nonsense_gets_nowhere_and_hurts_nobody() {
    let stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;
    let socket = socket(&stack);
    let mode = std::fs::metadata(&socket)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    for nonsense in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 64],
        &[0, 0, 0, 0],
        &[0, 0, 0, 2, b'{', b'}'],
        &[0, 0, 0, 9, b'{'],
    ] {
        let mut stream = UnixStream::connect(&socket).expect("it listens");
        stream.write_all(nonsense).expect("it takes bytes");
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("it is open");
        let mut answer = Vec::new();
        // A reset is as good an end as any.
        stream.read_to_end(&mut answer).ok();
        assert_eq!(answer, b"", "{nonsense:?}");
    }
    // One that says nothing takes a place, and no more.
    let silent = UnixStream::connect(&socket).expect("it listens");
    let shown = json_of(&stack, "tenant", &["show", &tenant.to_string()]).await;
    assert_eq!(shown["state"], "running");
    drop(silent);
    stack.finish().await;
}

#[tokio::test]
async fn events_follow_a_kill_and_a_drain_tells_what_was_stored() {
    let mut stack = Stack::with()
        .wait_for_store(Duration::from_millis(100))
        .start()
        .await;
    let [tenant, other] = stack.client.create_tenants().await;
    let mut following = follow(&stack, tenant);
    let mut lines = BufReader::new(following.stdout.take().expect("it is a pipe")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("there is a line").expect("it is text");
        serde_json::from_str(&line).expect("it is JSON")
    };
    while next()["to"] != "running" {}
    let worker = stack.worker(tenant).await;
    let undisturbed = stack.worker(other).await;
    worker.kill();
    // Its socket may be seen closed a moment before its end.
    let mut event = next();
    while event["to"] == "suspect" {
        event = next();
    }
    assert_eq!(
        (&event["pid"], &event["to"]),
        (&json!(worker.pid), &json!("backoff"))
    );
    assert_eq!(event["cause"], "signal 9 (SIGKILL)");
    while next()["to"] != "running" {}
    following.kill().expect("it is ours");
    following.wait().expect("it is ours");
    stack.client.running(tenant).await;
    assert!(undisturbed.exists());

    for n in 0..20 {
        stack.client.post(tenant, &json!(n)).await.taken();
    }
    let drained = stack.drain().await;
    let report: Value = serde_json::from_str(&drained.out).expect("it is JSON");
    let left = report["tenants"].as_array().expect("a list");
    assert_eq!(left.len(), 2, "{report}");
    assert!(
        left.iter().all(|left| left["exit"] == "exit 0 (clean)"),
        "{report}"
    );
    let stored = stack.database.stored_count(tenant).await;
    let queued = i64::from(stack.broker.ready(tenant).await);
    assert_eq!(stored + queued, 20, "every one is in a row or in the queue");
    stack.start_again().await;
    stack.settled().await;
    stack.finish().await;
}

/// What a command prints with `--json`.
async fn json_of(stack: &Stack, verb: &'static str, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    let ran = stack.operate(verb, &arguments).await.expect(0);
    serde_json::from_str(&ran.out).expect("it is JSON")
}

fn socket(stack: &Stack) -> PathBuf {
    let config = &stack.invocation().config;
    let folder = config.parent().expect("a file is in a folder");
    folder.join("admin.sock")
}

/// `jatis events --follow` of one tenant.
fn follow(stack: &Stack, tenant: TenantId) -> std::process::Child {
    let invocation = stack.invocation();
    Command::new(&invocation.program)
        .args([
            "events",
            "--follow",
            "--json",
            "--tenant",
            &tenant.to_string(),
        ])
        .arg("--config")
        .arg(&invocation.config)
        .stdout(Stdio::piped())
        .spawn()
        .expect("jatis can be run")
}
