//! The command line of `jatis`: its verbs, one file each.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use jatis_shared::ids::TenantId;
use jiff::{Span, SpanRelativeTo};

pub mod config;
pub mod migrate;
pub mod openapi;
pub mod operate;
pub mod papers;
mod reload;
pub mod secret;
pub mod serve;
pub mod sources;
mod table;
pub mod token;
mod welcome;

/// Multi-tenant messaging, self-hosted: one isolated worker process per tenant.
#[derive(Debug, Parser)]
#[command(name = "jatis", version, about)]
pub struct Cli {
    #[command(flatten)]
    pub sources: SourceArgs,
    #[command(subcommand)]
    pub verb: Verb,
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    /// The configuration file [default: $JATIS_CONFIG, ./config.yaml or /etc/jatis/config.yaml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sets one key, over every other source; may be repeated
    #[arg(long = "set", global = true, value_name = "SECTION.KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serve the API and run the workers, until SIGTERM or Ctrl-C
    Serve {
        /// Print the API's URL, a token and a session to paste once it serves
        #[arg(long)]
        welcome: bool,
        /// Take over from the image that left its state in stdin
        #[arg(long, hide = true)]
        handover: bool,
        /// Say whether a state of this version could be taken over
        #[arg(long, hide = true, value_name = "VERSION")]
        handover_check: Option<u16>,
    },
    /// Print a token that the API accepts
    Token(TokenArgs),
    /// Bring the database's schema up to date, as `serve` does when it starts
    Migrate {
        /// Only say what would be done; exit 3 when there is something
        #[arg(long)]
        check: bool,
    },
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Say how the running supervisor is
    Status(OperatorArgs),
    /// List the tenants and what runs for them
    Tenants(OperatorArgs),
    /// List the workers: processes, threads, what they hold
    Workers(OperatorArgs),
    /// Look at one tenant, or change what runs for it
    #[command(subcommand)]
    Tenant(TenantVerb),
    /// Tell what has happened to workers, and with --follow what happens
    Events {
        /// Go on telling until Ctrl-C
        #[arg(long, short)]
        follow: bool,
        /// Only of this tenant
        #[arg(long, value_name = "ID")]
        tenant: Option<TenantId>,
        #[command(flatten)]
        operator: OperatorArgs,
    },
    /// Read the configuration again, as SIGHUP does, and say what came of it
    Reload(OperatorArgs),
    /// Have the program that is there now take over: same pid, same workers, nothing refused
    Upgrade(OperatorArgs),
    /// Finish what has begun, end everything, and say what each worker stored and gave back
    Drain(OperatorArgs),
    /// The same as drain, or faster
    Stop {
        /// Give workers supervision.fast_timeout to finish what they have begun
        #[arg(long, conflicts_with = "immediate")]
        fast: bool,
        /// Kill the workers; what they have begun goes back to the queues
        #[arg(long)]
        immediate: bool,
        #[command(flatten)]
        operator: OperatorArgs,
    },
    /// Print the API's OpenAPI document; no configuration is read
    Openapi,
    /// Print a script that completes commands in this shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    Man {
        /// Into this folder, which is made if it is not there
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// How to reach the running supervisor, and how to tell what it answers.
#[derive(Debug, Clone, Args)]
pub struct OperatorArgs {
    /// For programs: one JSON document, or one a line of what comes by and by
    #[arg(long)]
    pub json: bool,
    /// The admin socket; then no configuration is read [default: as the configuration says]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// What to do with one tenant.
#[derive(Debug, Subcommand)]
pub enum TenantVerb {
    /// Show everything that is known of what runs for it
    Show(OneTenant),
    /// Have its worker run that was stopped or paused
    Start(OneTenant),
    /// Drain its worker and keep it without one until it is started again; its messages wait
    Stop(OneTenant),
    /// Drain its worker and start another
    Restart(OneTenant),
    /// Keep its worker connected and store nothing; its messages wait
    Pause(OneTenant),
    /// Store a paused tenant's messages again
    Resume(OneTenant),
    /// Give its worker so many threads, for good
    Resize {
        /// The tenant
        id: TenantId,
        /// Pool threads, 1 to worker.max_threads
        workers: u16,
        #[command(flatten)]
        operator: OperatorArgs,
    },
    /// Start its worker that rests, is in quarantine or was refused, as if it had never failed
    Release(OneTenant),
}

/// A tenant, and how to reach its supervisor.
#[derive(Debug, Args)]
pub struct OneTenant {
    /// The tenant
    pub id: TenantId,
    #[command(flatten)]
    pub operator: OperatorArgs,
}

/// What the token shall allow.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// What its bearer may do [default: tenant with --tenant, else admin]
    #[arg(long)]
    pub role: Option<RoleArg>,
    /// The tenant it is for
    #[arg(long, value_name = "ID", required_if_eq("role", "tenant"))]
    pub tenant: Option<TenantId>,
    /// How long it is valid, such as 15m or 30d
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub ttl: Duration,
}

/// A role, as written on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    Admin,
    Tenant,
}

/// How `jatis` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done as asked.
    Done,
    /// Something is in the way; standard error says what.
    Failed,
    /// The arguments make no sense. The parser of the command line ends with it by itself.
    Usage,
    /// `migrate --check` found something to do.
    Outdated,
    /// No supervisor answers on the admin socket.
    Unreached,
    /// The supervisor refused.
    Refused,
    /// It is under way, and was not done in time.
    TimedOut,
}

impl Exit {
    /// Every way, for the reference and its test.
    pub const ALL: [Self; 7] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Outdated,
        Self::Unreached,
        Self::Refused,
        Self::TimedOut,
    ];

    /// The number given to the operating system.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Outdated => 3,
            Self::Unreached => 4,
            Self::Refused => 5,
            Self::TimedOut => 6,
        }
    }
}

/// What to look at.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Name every fault of the configuration; exit 0 when there is none
    Check,
    /// Print each key with its value and where that comes from
    Show,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err("must be section.key=value".to_owned()),
    }
}

/// A length of time; a day is 24 hours.
fn duration(text: &str) -> Result<Duration, String> {
    let told = |error: jiff::Error| error.to_string();
    let span: Span = text.parse().map_err(told)?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours());
    Duration::try_from(length.map_err(told)?).map_err(|_| "must not be negative".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_token_for_a_tenant_needs_the_tenant() {
        let tenant = "0190d3a2-7c3e-7c3e-8c3e-0190d3a27c3e";
        for (arguments, accepted) in [
            (&["token"][..], true),
            (&["token", "--role", "admin", "--ttl", "30m"][..], true),
            (&["token", "--tenant", tenant][..], true),
            (&["token", "--ttl", "30d"][..], true),
            (&["token", "--ttl", "1h 30m"][..], true),
            (&["token", "--ttl", "1 month"][..], false),
            (&["token", "--role", "tenant"][..], false),
            (&["token", "--tenant", "x"][..], false),
            (&["token", "--ttl", "-5s"][..], false),
        ] {
            let parsed = Cli::try_parse_from([&["jatis"], arguments].concat());
            assert_eq!(parsed.is_ok(), accepted, "{arguments:?}");
        }
    }
}
