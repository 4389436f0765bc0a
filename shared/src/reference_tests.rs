//! `docs/reference.md` says what the code says.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::{
    config::load::DEFAULTS,
    envelope,
    exit::ExitCode,
    ids::TenantId,
    reference::{rows, words},
    schema::TenantState,
    topology::{Queue, QueueType, dead_letter_queue, main_queue},
};

/// The variants of an enum, from its source: no list can be forgotten then.
fn variants(source: &str, name: &str) -> BTreeSet<String> {
    let (_, body) = source
        .split_once(&format!("pub enum {name} {{"))
        .expect("the enum is there");
    let body = body.split("\n}").next().unwrap_or_default();
    let variants = body.lines().filter_map(|line| line.strip_prefix("    "));
    let is_variant = |line: &&str| line.starts_with(|first: char| first.is_ascii_uppercase());
    let name = |line: &str| {
        line.chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect()
    };
    variants.filter(is_variant).map(name).collect()
}

#[test]
fn every_command_and_event_is_described() {
    let source = include_str!("control.rs");
    let both = &variants(source, "Command") | &variants(source, "Event");
    assert!(
        both.contains("Resize") && both.contains("Stored"),
        "{both:?}"
    );
    let described: BTreeSet<String> = words("Control socket").into_iter().collect();
    assert_eq!(described, both);
}

#[test]
fn every_exit_code_is_described() {
    let codes: Vec<String> = ExitCode::ALL
        .iter()
        .map(|exit| exit.code().to_string())
        .collect();
    assert_eq!(words("Exit codes of a worker"), codes);
}

#[test]
fn every_wanted_state_is_described() {
    let states: Vec<&str> = TenantState::ALL
        .iter()
        .map(|state| state.as_str())
        .collect();
    assert_eq!(words("What is wanted of a tenant"), states);
}

#[test]
fn every_queue_is_described_with_its_arguments() {
    let tenant = TenantId::from(Uuid::nil());
    let row = |kind: &str, queue: &Queue| {
        let arguments: Vec<String> = queue
            .arguments
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let named = |text: String| text.replace(&tenant.to_string(), "{id}");
        vec![
            named(format!("{}{kind}", queue.name)),
            named(arguments.join(" ")),
        ]
    };
    assert_eq!(
        rows("Queues"),
        [
            row(", quorum", &main_queue(tenant, QueueType::Quorum)),
            row(", classic", &main_queue(tenant, QueueType::Classic)),
            row("", &dead_letter_queue(tenant)),
        ]
    );
}

#[test]
fn every_kind_of_amqp_message_is_described_with_its_headers() {
    let described = rows("AMQP messages");
    for (row, kind, content_type, headers) in [
        (
            0,
            envelope::MESSAGE,
            envelope::MESSAGE_CONTENT_TYPE,
            &[envelope::HEADER_AWAITED, envelope::HEADER_REQUEST_ID][..],
        ),
        (
            1,
            envelope::BATCH,
            envelope::BATCH_CONTENT_TYPE,
            &[envelope::HEADER_AWAITED],
        ),
    ] {
        let row = &described[row];
        assert_eq!((row[0].as_str(), row[2].as_str()), (kind, content_type));
        for header in headers {
            assert!(row[4].contains(header), "{header} of {kind}");
        }
    }
    assert_eq!(described.len(), 2);
}

#[test]
fn every_key_is_listed_with_its_default() {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in DEFAULTS
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
    {
        match line.split_once(':') {
            Some((name, "")) => section = format!("{name}."),
            Some((name, value)) => {
                let section = if name.starts_with(' ') {
                    section.as_str()
                } else {
                    ""
                };
                keys.push(vec![
                    format!("{section}{}", name.trim()),
                    value.trim().to_owned(),
                ]);
            }
            None => {}
        }
    }
    assert_eq!(rows("Configuration keys"), keys);
}
