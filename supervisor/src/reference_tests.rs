//! `docs/reference.md` says what the code says.

use std::collections::BTreeSet;

use jatis_shared::ids::TenantId;
use uuid::Uuid;

use crate::{
    cli::Exit,
    fleet::{Progress, StateName},
    http::problem::PROBLEMS,
    metrics::Metrics,
    reference::{rows, words},
    signals,
};

#[test]
fn every_state_is_described_with_its_status() {
    let described: Vec<(String, String)> = rows("States of a worker")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let states = StateName::ALL.map(|state| {
        (
            state.as_str().to_owned(),
            format!("{:?}", state.status()).to_lowercase(),
        )
    });
    assert_eq!(described, states);
}

#[test]
fn every_exit_code_is_described() {
    let codes = Exit::ALL.map(|exit| exit.code().to_string());
    assert_eq!(words("Exit codes of jatis"), codes);
}

#[test]
fn every_problem_is_described() {
    let described = rows("Problems");
    let problems = PROBLEMS.iter().map(|kind| {
        let again = kind
            .retry_after
            .map_or_else(|| "–".to_owned(), |seconds| seconds.to_string());
        vec![
            kind.code.to_owned(),
            kind.status.as_u16().to_string(),
            kind.title.to_owned(),
            again,
        ]
    });
    assert_eq!(described, problems.collect::<Vec<_>>());
}

#[test]
fn every_signal_is_described() {
    let described: BTreeSet<String> = words("Signals").into_iter().collect();
    let handled: BTreeSet<String> = signals::tests::names()
        .into_iter()
        .map(str::to_owned)
        .collect();
    assert_eq!(described, handled);
}

#[test]
fn every_metric_is_described() {
    let (metrics, tenant) = (Metrics::new(), TenantId::from(Uuid::nil()));
    metrics.observe_request("GET", "/", "200", std::time::Duration::ZERO);
    metrics.progress(tenant, Progress::default());
    metrics.set_depth(tenant, 0);
    metrics.set_workers(tenant, 0);
    metrics.swept("amqp_keys", 0);
    metrics.observe_transition(StateName::Running);
    metrics.set_state(StateName::Running, 0);
    let text = metrics.render().expect("metrics are text");
    let names: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect();
    assert_eq!(words("Metrics").into_iter().collect::<BTreeSet<_>>(), names);
}
