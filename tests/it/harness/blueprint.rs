//! What a stack is to be built like.

use std::time::Duration;

/// A stack's deviations from the defaults.
#[derive(Debug, Default)]
pub(crate) struct Blueprint {
    pub(super) arguments: Vec<String>,
    pub(super) broker_tls: bool,
    pub(super) broker_proxy: bool,
    /// Empty, or what follows the path of the broker's URL.
    pub(super) broker_query: String,
    pub(super) database_proxy: bool,
    pub(super) allowed_errors: Vec<&'static str>,
    pub(super) dead_letters: usize,
    pub(super) environment: Vec<(&'static str, String)>,
    pub(super) own_program: bool,
}

impl Blueprint {
    /// Sets a key of the configuration.
    #[must_use]
    pub(crate) fn set(self, key: &str, value: &str) -> Self {
        self.argument("--set").argument(&format!("{key}={value}"))
    }

    /// Lets publishes wait for their commit for `patience` only, so that clients go on while a test
    /// keeps commits from happening.
    #[must_use]
    pub(crate) fn wait_for_store(self, patience: Duration) -> Self {
        self.set(
            "messages.wait_for_store",
            &format!("{}ms", patience.as_millis()),
        )
    }

    /// Gives statements so much time that a slow machine does not cancel those a test keeps
    /// waiting; the deadlines above it follow.
    #[must_use]
    pub(crate) fn patient_statements(self) -> Self {
        self.set("database.statement_timeout", "25s")
            .set("worker.job_timeout", "26s")
            .set("supervision.orphan_timeout", "28s")
    }

    /// Has jatis reach the broker by TLS.
    #[must_use]
    pub(crate) fn broker_tls(mut self) -> Self {
        self.broker_tls = true;
        self
    }

    /// Adds parameters to `rabbitmq.url`: what follows its `?`.
    #[must_use]
    pub(crate) fn broker_query(mut self, query: &str) -> Self {
        self.broker_query = format!("?{query}");
        self
    }

    /// Puts a proxy between jatis and the broker.
    #[must_use]
    pub(crate) fn broker_proxy(mut self) -> Self {
        self.broker_proxy = true;
        self
    }

    /// Puts a proxy between jatis and PostgreSQL.
    #[must_use]
    pub(crate) fn database_proxy(mut self) -> Self {
        self.database_proxy = true;
        self
    }

    /// Sets variables of the supervisor's environment.
    #[must_use]
    pub(crate) fn environment(
        mut self,
        variables: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        self.environment.extend(variables);
        self
    }

    /// Runs copies of the programs that the test may replace.
    #[must_use]
    pub(crate) fn own_program(mut self) -> Self {
        self.own_program = true;
        self
    }

    /// Names an ERROR that the test brings about: a literal part of its line.
    #[must_use]
    pub(crate) fn allow_error(mut self, text: &'static str) -> Self {
        self.allowed_errors.push(text);
        self
    }

    /// Declares that there will be exactly this many dead letters.
    #[must_use]
    pub(crate) fn dead_letters(mut self, count: usize) -> Self {
        self.dead_letters = count;
        self
    }

    /// A further argument of `jatis serve`.
    #[must_use]
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }
}
