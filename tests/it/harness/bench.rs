//! The programs of the benchmark, pointed at a stack.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Stack, wait};

impl Stack {
    /// Runs a program of the benchmark; its figures.
    ///
    /// # Panics
    /// When it fails, with what it said.
    pub(crate) async fn bench(&self, program: &str, arguments: &[&str]) -> Value {
        let figures = self.folder.join("figures.json");
        let token = self.invocation.token(&["--role", "admin", "--ttl", "1h"]);
        let mut command = Command::new(self.environment.jatis.with_file_name("jatis-bench"));
        command
            .env_clear()
            .env("JATIS_TOKEN", token)
            .env(
                "DATABASE_URL",
                self.environment.database.with_path(&self.name),
            )
            .envs(self.invocation.mark.clone())
            .args([program, "--api", &self.client.base(), "--json"])
            .arg(&figures)
            .args(arguments)
            .stdin(Stdio::null());
        let ended = tokio::task::spawn_blocking(move || command.output());
        let output = wait::bounded("the benchmark ends", ended).await;
        let output = output.expect("it does not panic").expect("it can be run");
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let figures = std::fs::read(&figures).expect("the figures are written");
        serde_json::from_slice(&figures).expect("they are JSON")
    }
}
