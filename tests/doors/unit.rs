//! The systemd unit.

use std::{collections::BTreeMap, io, path::Path, time::Duration};

use jatis_shared::config::load::{Inputs, Source, defaults, load};

use super::text;

#[test]
fn the_unit_gives_jatis_the_time_to_stop_that_it_may_take() {
    let given = values("TimeoutStopSec");
    let [given] = given.as_slice() else {
        panic!("one TimeoutStopSec, not {given:?}");
    };
    let seconds = given.strip_suffix('s').and_then(|text| text.parse().ok());
    let given = Duration::from_secs(seconds.expect("it is in seconds"));
    let taken = defaults()
        .expect("the defaults are valid")
        .supervision
        .stop_timeout;
    assert!(given > taken, "{given:?} are not longer than {taken:?}");
}

#[test]
fn the_unit_s_credentials_are_keys_that_jatis_reads_from_there() {
    let credentials = values("LoadCredential");
    assert!(!credentials.is_empty());
    for credential in credentials {
        let (key, source) = credential.split_once(':').expect("ID:SOURCE");
        assert_eq!(source, format!("jatis.{key}"));
        let secret = match key {
            "database.url" => "postgres://a:b@c/d",
            "rabbitmq.url" => "amqp://a:b@c/d",
            "auth.hs256_secret" => "0123456789abcdef0123456789abcdef",
            other => panic!("{other} is not known to this test"),
        };
        let read = |path: &Path| {
            if path == Path::new("/c").join(key) {
                return Ok(secret.to_owned());
            }
            Err(io::Error::from(io::ErrorKind::NotFound))
        };
        let loaded = load(&Inputs {
            flags: Vec::new(),
            env: BTreeMap::from([("CREDENTIALS_DIRECTORY".to_owned(), "/c".to_owned())]),
            file: None,
            read: &read,
        });
        let loaded = loaded.unwrap_or_else(|faults| panic!("{key}: {faults}"));
        assert_ne!(loaded.origins[key].1, Source::Default, "{key}");
    }
}

/// The values of a directive of the unit, in its order.
fn values(directive: &str) -> Vec<String> {
    let unit = text("systemd/jatis.service");
    let values = unit.lines().filter_map(|line| line.split_once('='));
    let values = values.filter(|(name, _)| *name == directive);
    values.map(|(_, value)| value.to_owned()).collect()
}
