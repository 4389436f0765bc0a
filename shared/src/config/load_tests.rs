use std::time::Duration;

use super::*;
use crate::{authorities::MAX_FILE_BYTES, config::SslMode};

fn certificate() -> String {
    let signed = rcgen::generate_simple_self_signed(["test".to_owned()]);
    signed.expect("a certificate can be made").cert.pem()
}

struct Given<'a> {
    file: &'a str,
    env: &'a [(&'a str, &'a str)],
    flags: &'a [(&'a str, &'a str)],
}

const NOTHING: Given<'static> = Given {
    file: "",
    env: &[],
    flags: &[],
};

fn given(given: &Given<'_>) -> Result<Loaded, Faults> {
    let owned = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect::<Vec<_>>()
    };
    load(&Inputs {
        flags: owned(given.flags),
        env: owned(given.env).into_iter().collect(),
        file: Some((PathBuf::from("c.yaml"), given.file.to_owned())),
        read: &|path| match path.to_str() {
            Some("/run/url") => Ok("amqp://from:file@h\n".to_owned()),
            Some("/cred/database.url") => Ok("postgres://from:credential@h/db\n".to_owned()),
            Some("/run/ca.pem") => Ok(certificate()),
            Some("/run/key.pem") => Ok(certificate().replace("CERTIFICATE", "PRIVATE KEY")),
            Some("/run/large.pem") => Ok("#".repeat(MAX_FILE_BYTES + 1)),
            _ => Err(io::ErrorKind::NotFound.into()),
        },
    })
}

fn faults(input: &Given<'_>) -> Vec<String> {
    let Faults(faults) = given(input).expect_err("the input is at fault");
    faults
        .into_iter()
        .map(
            |Fault {
                 source,
                 key,
                 detail,
             }| format!("{source}: {key} {detail}"),
        )
        .collect()
}

#[test]
fn the_file_of_the_project_is_valid_and_complete() {
    let config = defaults().expect("config.yaml is valid");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.worker.max_batch_wait, Duration::from_millis(10));
    let typed = serde_yaml::to_value(&config).expect("a configuration is YAML");
    let documented: Vec<String> = flatten(&parse(DEFAULTS).expect("config.yaml is YAML"))
        .into_keys()
        .collect();
    assert_eq!(flatten(&typed).into_keys().collect::<Vec<_>>(), documented);
}

#[test]
fn the_three_keys_of_the_first_release_work_alone() {
    let file = "rabbitmq:\n  url: amqp://a:b@h\ndatabase:\n  url: postgres://a:b@h/d\nworkers: 7\n";
    let config = given(&Given { file, ..NOTHING }).expect("valid").config;
    assert_eq!(
        (config.workers, config.rabbitmq.url.expose()),
        (7, "amqp://a:b@h")
    );
    assert_eq!(config.database.url.expose(), "postgres://a:b@h/d");
}

#[test]
fn a_stronger_source_wins_and_is_named() {
    let file = "workers: 2\nhttp:\n  listen: 127.0.0.1:1\n";
    let long = ("JATIS__WORKERS", "4");
    for (env, flags, workers, source) in [
        (&[][..], &[][..], 2, "c.yaml:1"),
        (&[("WORKERS", "3")][..], &[][..], 3, "WORKERS"),
        (&[("WORKERS", "3"), long][..], &[][..], 4, "JATIS__WORKERS"),
        (
            &[("WORKERS", "3"), long][..],
            &[("workers", "5")][..],
            5,
            "--set",
        ),
    ] {
        let loaded = given(&Given { file, env, flags }).expect("valid");
        let (shown, from) = loaded
            .origins
            .get("workers")
            .expect("every key has a source");
        assert_eq!(
            (
                loaded.config.workers,
                shown.as_str(),
                from.to_string().as_str()
            ),
            (workers, workers.to_string().as_str(), source)
        );
    }
}

#[test]
fn secrets_come_from_files_and_credentials_and_are_not_shown() {
    let env = &[
        ("RABBITMQ_URL_FILE", "/run/url"),
        ("CREDENTIALS_DIRECTORY", "/cred"),
    ];
    let loaded = given(&Given { env, ..NOTHING }).expect("valid");
    assert_eq!(loaded.config.rabbitmq.url.expose(), "amqp://from:file@h");
    assert_eq!(
        loaded.config.database.url.expose(),
        "postgres://from:credential@h/db"
    );
    assert!(!format!("{loaded:?}").contains("from:"));
}

#[test]
fn a_text_that_looks_like_a_number_stays_text() {
    let env = &[("JATIS__LOG__LEVEL", "0123")];
    assert_eq!(
        given(&Given { env, ..NOTHING })
            .expect("valid")
            .config
            .log
            .level,
        "0123"
    );
}

#[test]
fn a_list_comes_from_every_source() {
    let (one, two) = ("https://a.example", "http://localhost:3000");
    let variable = "JATIS__HTTP__CORS_ORIGINS";
    let file = "http:\n  cors_origins:\n    - https://a.example\n    - http://localhost:3000\n";
    let commas = "https://a.example, http://localhost:3000,";
    let yaml = "[https://a.example, 'http://localhost:3000']";
    for (file, env, flags, expected) in [
        ("", &[][..], &[][..], &[][..]),
        (file, &[], &[], &[one, two]),
        (file, &[(variable, one)], &[], &[one]),
        (file, &[(variable, "")], &[], &[]),
        ("", &[(variable, commas)], &[], &[one, two]),
        ("", &[(variable, yaml)], &[], &[one, two]),
        (
            "",
            &[(variable, one)],
            &[("http.cors_origins", two)],
            &[two],
        ),
    ] {
        let loaded = given(&Given { file, env, flags }).expect("valid");
        assert_eq!(loaded.config.http.cors_origins, expected, "{file}{env:?}");
        let (shown, _) = &loaded.origins["http.cors_origins"];
        let shown = parse(shown).expect("what is shown is YAML");
        let config = serde_yaml::to_value(expected).expect("texts are YAML");
        assert_eq!(shown, config, "it is shown on one line");
    }
}

#[test]
fn an_origin_is_written_as_browsers_write_it() {
    for origin in [
        "https://app.example.com",
        "http://127.0.0.1:8080",
        "http://[::1]:3000",
        "https://xn--bcher-kva.example",
    ] {
        let flags = &[("http.cors_origins", origin)];
        given(&Given { flags, ..NOTHING }).expect(origin);
    }
    for origin in [
        "*",
        "null",
        "app.example.com",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://app.example.com:443",
        "https://App.example.com",
        "https://bücher.example",
        "https://user@app.example.com",
        "https://*.example.com",
        "file:///",
        "ftp://app.example.com",
    ] {
        let flags = &[("http.cors_origins", origin)];
        assert_eq!(
            faults(&Given { flags, ..NOTHING }),
            [format!(
                "--set: http.cors_origins {origin:?} is not an origin such as https://app.example.com"
            )]
        );
    }
    let file = "http:\n  cors_origins: https://app.example.com\n";
    assert_eq!(
        faults(&Given { file, ..NOTHING }),
        [
            "c.yaml:2: http.cors_origins does not fit: invalid type: string \"https://app.example.com\", expected a sequence"
        ]
    );
}

#[test]
fn every_fault_is_reported_at_once_with_its_place() {
    let file = "workers: many\n\nhttp:\n  listen: 127.0.0.1:1\n  colour: red\nmessages: {wait_for_store: 5}\nrabbitmq:\n";
    let env = &[
        ("JATIS__HTTP__COLOUR", "red"),
        ("WORKERS", "1"),
        ("WORKERS_FILE", "/x"),
        ("JWT_SECRET_FILE", "/gone"),
    ];
    let flags = &[
        ("nonsense", "1"),
        ("http.max_body_bytes", "-1"),
        ("worker.conflict_attempts", "0"),
    ];
    assert_eq!(
        faults(&Given { file, env, flags }),
        [
            "c.yaml:5: http.colour is not a key of jatis",
            "WORKERS: workers is given by WORKERS_FILE as well",
            "JWT_SECRET_FILE: auth.hs256_secret cannot be read from /gone: entity not found",
            "JATIS__HTTP__COLOUR:  is not a variable of jatis",
            "--set: nonsense is not a key of jatis",
            "--set: http.max_body_bytes does not fit: invalid value: integer `-1`, expected u32",
            "c.yaml:6: messages.wait_for_store does not fit: invalid type: integer `5`, expected an unsigned duration string",
            "c.yaml:1: workers does not fit: invalid type: string \"many\", expected u16",
            "--set: worker.conflict_attempts 0 is not between 1 and 100",
        ]
    );
}

#[test]
fn waits_and_ages_that_do_not_fit_each_other_are_refused() {
    let file = "messages:\n  wait_for_store: 25s\n  max_wait: 24500ms\n  idempotency_window: 169h\nsweep: {minute_counts_after: 24h}";
    assert_eq!(
        faults(&Given { file, ..NOTHING }),
        [
            "c.yaml:3: messages.max_wait must be whole seconds",
            "c.yaml:5: sweep.minute_counts_after must be at least 25h",
            "c.yaml:2: messages.wait_for_store must, with messages.publish_timeout, be shorter than http.request_timeout",
            "default: sweep.tombstones_after must not be shorter than messages.idempotency_window",
        ]
    );
    let flags = &[("messages.max_wait", "25s")];
    assert_eq!(
        faults(&Given { flags, ..NOTHING }),
        [
            "--set: messages.max_wait must, with messages.publish_timeout, be shorter than http.request_timeout",
        ]
    );
}

#[test]
fn values_that_do_not_fit_each_other_are_refused() {
    let file = "database:\n  statement_timeout: 20s\nworkers: 101\nhttp: {listen: '0.0.0.0:80'}\nauth: {mode: disabled}";
    assert_eq!(
        faults(&Given { file, ..NOTHING }),
        [
            "c.yaml:3: workers 101 is not between 1 and 100",
            "default: worker.job_timeout must be longer than database.statement_timeout",
            "c.yaml:3: workers must not be more than worker.max_threads",
            "c.yaml:5: auth.mode is refused on a listener that is not loopback, unless auth.allow_insecure is true",
        ]
    );
}

#[test]
fn the_authorities_are_read_with_the_configuration() {
    let file = "rabbitmq: {url: 'amqps://h', ca_file: /run/ca.pem}\ndatabase: {sslmode: verify-full, ca_file: /run/ca.pem}";
    let config = given(&Given { file, ..NOTHING }).expect("valid").config;
    assert_eq!(config.rabbitmq.authorities.certificates().count(), 1);
    assert_eq!(config.database.authorities.certificates().count(), 1);
    assert!(config.rabbitmq.has_tls());

    let config = defaults().expect("config.yaml is valid");
    assert!(config.rabbitmq.authorities.is_empty() && config.database.authorities.is_empty());
}

#[test]
fn a_file_without_authorities_is_a_fault_of_its_key() {
    for (path, expected) in [
        (
            "/run/gone.pem",
            "cannot be read from /run/gone.pem: entity not found",
        ),
        (
            "/run/key.pem",
            "names /run/key.pem, which holds no PEM certificate",
        ),
        ("/run/url", "names /run/url, which holds no PEM certificate"),
        (
            "/run/large.pem",
            "names /run/large.pem, which is larger than 65536 bytes",
        ),
    ] {
        let flags = &[
            ("database.sslmode", "verify-full"),
            ("database.ca_file", path),
            ("rabbitmq.url", "amqps://h"),
            ("rabbitmq.ca_file", path),
        ];
        assert_eq!(
            faults(&Given { flags, ..NOTHING }),
            ["rabbitmq", "database"].map(|section| format!("--set: {section}.ca_file {expected}"))
        );
    }
}

#[test]
fn tls_that_would_not_happen_is_refused() {
    let file = "rabbitmq: {ca_file: /run/ca.pem}\ndatabase:\n  ca_file: /run/ca.pem";
    assert_eq!(
        faults(&Given { file, ..NOTHING }),
        [
            "c.yaml:1: rabbitmq.ca_file is only of use when rabbitmq.url is amqps://",
            "c.yaml:3: database.ca_file is only of use with sslmode verify-full, not prefer",
        ]
    );
    let flags = &[
        ("database.sslmode", "verify-ca"),
        ("database.url", "postgres://u@h/d?sslmode=allow"),
    ];
    assert_eq!(
        faults(&Given { flags, ..NOTHING }),
        [
            "--set: database.sslmode does not fit: unknown variant `verify-ca`, expected one of `disable`, `prefer`, `require`, `verify-full`",
            "--set: database.url has an sslmode that is not disable, prefer, require or verify-full",
        ]
    );
}

#[test]
fn the_sslmode_of_the_url_wins() {
    for (url, key, mode) in [
        ("postgres://u@h/d", "require", SslMode::Require),
        (
            "postgres://u@h/d?sslmode=disable",
            "require",
            SslMode::Disable,
        ),
        (
            "postgres://u@h/d?sslmode=verify-full",
            "disable",
            SslMode::VerifyFull,
        ),
    ] {
        let flags = &[("database.url", url), ("database.sslmode", key)];
        let database = given(&Given { flags, ..NOTHING }).expect(url).config;
        let (address, found) = database.database.address().expect(url);
        assert_eq!((address.expose(), found), ("postgres://u@h/d", mode));
    }
}

#[test]
fn a_file_that_is_no_yaml_names_the_line() {
    let faults = faults(&Given {
        file: "workers: 1\n  x: [",
        ..NOTHING
    });
    assert!(
        faults.len() == 1 && faults.iter().all(|fault| fault.starts_with("c.yaml:2:")),
        "{faults:?}"
    );
}

#[test]
fn a_worker_holds_no_more_bytes_than_it_may_whatever_a_delivery_is() {
    for (largest_body, largest_batch, prefetch) in [
        // The defaults: 1 GiB of bodies of 2 MiB.
        (2 << 20, 256 << 10, 512),
        // Small bodies come in batches, which may be larger than any body.
        (1 << 10, 1 << 20, 1024),
        (1 << 10, 1 << 10, 2000),
    ] {
        let mut config = defaults().expect("config.yaml is valid");
        config.http.max_body_bytes = largest_body;
        config.rabbitmq.coalesce_bytes = largest_batch;
        assert_eq!(config.prefetch(), prefetch);
        let held = u64::from(prefetch) * u64::from(largest_body.max(largest_batch));
        assert!(held <= config.worker.max_unacked_bytes, "{held} bytes");
    }
}

#[test]
fn shares_of_the_database_never_fall_to_nothing() {
    let config = defaults().expect("config.yaml is valid");
    for (threads, tenants, connections) in [(4, 1, 2), (1, 1, 1), (8, 80, 1), (8, 1000, 1)] {
        assert_eq!(
            config.connections(threads, tenants),
            connections,
            "{threads} threads, {tenants} tenants"
        );
    }
}
