//! The command line of `jatis`: its verbs, one file each.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use jatis_shared::ids::TenantId;
use jiff::{Span, SpanRelativeTo};

pub mod config;
pub mod migrate;
pub mod openapi;
mod reload;
pub mod secret;
pub mod serve;
pub mod sources;
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
    /// Print the API's OpenAPI document; no configuration is read
    Openapi,
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
}

impl Exit {
    /// Every way, for the reference and its test.
    pub const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::Usage, Self::Outdated];

    /// The number given to the operating system.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Outdated => 3,
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
