//! SIGHUP: reads the configuration again, applies what can change while jatis runs, and says what
//! needs a restart. A configuration at fault changes nothing.

use std::collections::BTreeMap;

use jatis_shared::{
    admin::Reloaded,
    config::load::{Loaded, SECRETS},
    telemetry::{Chain, Level},
};
use tracing::{error, info, warn};

use super::{SourceArgs, sources};
use crate::fleet::Fleet;

/// Keys that take effect at once, in the workers too.
const LIVE: [&str; 1] = ["log.level"];

/// The configuration that is in force, and how to read it again.
pub(super) struct Reload {
    pub(super) arguments: SourceArgs,
    pub(super) env: BTreeMap<String, String>,
    pub(super) loaded: Loaded,
    pub(super) level: Level,
}

impl Reload {
    /// Reads and applies. Every outcome is in the log too.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub(super) fn run(&mut self, fleet: &Fleet) -> Result<Reloaded, String> {
        let outcome = self.apply(fleet);
        match &outcome {
            Ok(reloaded) => {
                for key in &reloaded.needs_restart {
                    warn!(key, "{key} has changed and needs a restart");
                }
                info!(applied = ?reloaded.applied, "the configuration was reloaded");
            }
            Err(error) => {
                error!(
                    error,
                    "the configuration was not reloaded; the old one stays in force"
                );
            }
        }
        outcome
    }

    fn apply(&mut self, fleet: &Fleet) -> Result<Reloaded, String> {
        let setup = sources::setup(&self.arguments, self.env.clone());
        let next = setup.map_err(|error| Chain(&error).to_string())?.loaded;
        let changed = changed(&self.loaded, &next).into_iter();
        let (applied, needs_restart) = changed.partition(|key| LIVE.contains(&key.as_str()));
        let filter = next.config.log.level.clone();
        let set = self.level.set(&filter);
        set.map_err(|error| Chain(&error).to_string())?;
        fleet.log_at(&filter);
        self.loaded.config.log.level = filter;
        if let Some(origin) = next.origins.get("log.level") {
            self.loaded
                .origins
                .insert("log.level".to_owned(), origin.clone());
        }
        Ok(Reloaded {
            applied,
            needs_restart,
        })
    }
}

/// Keys whose value differs. Secrets are compared as themselves, not as they are shown.
fn changed(old: &Loaded, new: &Loaded) -> Vec<String> {
    let secrets = |loaded: &Loaded| {
        let config = &loaded.config;
        [
            &config.rabbitmq.url,
            &config.database.url,
            &config.auth.hs256_secret,
        ]
        .map(|secret| secret.expose().to_owned())
    };
    let shown = old
        .origins
        .iter()
        .filter(|(key, (value, _))| new.origins.get(*key).is_none_or(|(new, _)| new != value));
    let mut keys: Vec<String> = shown.map(|(key, _)| key.clone()).collect();
    let pairs = SECRETS
        .iter()
        .zip(secrets(old).into_iter().zip(secrets(new)));
    keys.extend(
        pairs
            .filter(|(_, (old, new))| old != new)
            .map(|(key, _)| (*key).to_owned()),
    );
    let (old, new) = (&old.config, &new.config);
    // The files may have changed under the same names.
    if old.rabbitmq.authorities != new.rabbitmq.authorities {
        keys.push("rabbitmq.ca_file".to_owned());
    }
    if old.database.authorities != new.database.authorities {
        keys.push("database.ca_file".to_owned());
    }
    keys.sort();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use std::io;

    use jatis_shared::config::load::{Inputs, load};

    use super::*;

    fn loaded(flags: &[(&str, &str)]) -> Loaded {
        let flags = flags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        // Another certificate each time.
        let read = |_: &std::path::Path| {
            let signed = rcgen::generate_simple_self_signed(["test".to_owned()]);
            Ok(signed.map_err(io::Error::other)?.cert.pem())
        };
        load(&Inputs {
            flags,
            env: BTreeMap::new(),
            file: None,
            read: &read,
        })
        .expect("valid")
    }

    #[test]
    fn changes_are_found_in_secrets_too() {
        let old = loaded(&[("workers", "2"), ("rabbitmq.url", "amqp://a@h")]);
        let new = loaded(&[
            ("workers", "3"),
            ("rabbitmq.url", "amqp://b@h"),
            ("log.level", "debug"),
        ]);
        assert_eq!(
            changed(&old, &new),
            ["log.level", "rabbitmq.url", "workers"]
        );
        assert!(changed(&old, &old).is_empty());
    }

    #[test]
    fn changes_are_found_in_files_of_the_same_name() {
        let flags = [
            ("rabbitmq.url", "amqps://h"),
            ("rabbitmq.ca_file", "ca.pem"),
            ("database.sslmode", "verify-full"),
            ("database.ca_file", "ca.pem"),
        ];
        let (old, new) = (loaded(&flags), loaded(&flags));
        assert_eq!(
            changed(&old, &new),
            ["database.ca_file", "rabbitmq.ca_file"]
        );
        assert!(changed(&old, &old).is_empty());
    }
}
