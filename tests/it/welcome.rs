//! The curl session that `jatis serve --welcome` prints works pasted as it is.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use crate::harness::{Stack, wait};

const FROM: &str = "# --- paste from here ---";
const TO: &str = "# --- to here ---";

#[tokio::test]
async fn the_printed_curl_session_works_as_it_is() {
    let stack = Stack::with().argument("--welcome").start().await;
    let session = wait::until("the session is printed", async || {
        let printed = stack.supervisor().output();
        let session = between(&printed).map(str::to_owned);
        session.ok_or(printed)
    })
    .await;
    eprintln!("---- the session:\n{session}");

    let pasted = session.clone();
    let run = tokio::task::spawn_blocking(move || paste(&pasted));
    let printed = run.await.expect("bash runs");
    eprintln!("---- what it printed:\n{printed}");

    let curls = session.matches("curl ").count();
    assert!(curls >= 5, "create, post, list, resize, delete: {curls}");
    for promised in [
        "\"status\":\"stored\"",
        "\"next_cursor\":",
        "\"applied_workers\":",
        "Tenant deleted successfully",
    ] {
        let packed = printed.replace("\": ", "\":");
        assert!(packed.contains(promised), "{promised} is missing");
    }
    assert!(!printed.contains("\"title\""), "a request was refused");
    stack.finish().await;
}

/// What stands between the two marks.
fn between(printed: &str) -> Option<&str> {
    let (_, rest) = printed.split_once(FROM)?;
    let (session, _) = rest.split_once(TO)?;
    Some(session.trim())
}

/// Feeds the session to a shell as a terminal would; what it printed.
fn paste(session: &str) -> String {
    let mut bash = Command::new("bash")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bash is installed");
    let mut stdin = bash.stdin.take().expect("it is piped");
    stdin
        .write_all(session.as_bytes())
        .expect("bash reads its input");
    drop(stdin);
    let output = bash.wait_with_output().expect("bash ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "bash: {}: {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
