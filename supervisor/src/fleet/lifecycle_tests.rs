use std::collections::BTreeMap;

use jatis_shared::retry::Backoff;
use proptest::prelude::*;

use super::*;
use crate::fleet::snapshot::StateName;

const SECOND: Duration = Duration::from_secs(1);
const SIZE: Size = size(4);
/// Halfway: no jitter to speak of.
const DICE: u32 = u32::MAX / 2;
const FIRST: u64 = 0;

const fn size(threads: u16) -> Size {
    Size {
        threads,
        connections: if threads < 2 { threads } else { 2 },
    }
}

const POLICY: Policy = Policy {
    hello: Duration::from_secs(5),
    confine: Duration::from_secs(2),
    resize: Duration::from_secs(10),
    silence: Duration::from_secs(8),
    patience: Duration::from_secs(3),
    drain: Duration::from_secs(30),
    fast: Duration::from_secs(5),
    backoff: Backoff {
        min: Duration::from_millis(500),
        max: Duration::from_secs(60),
    },
    backoff_reset: Duration::from_secs(120),
    windows: [
        Window {
            crashes: 5,
            within: Duration::from_mins(5),
        },
        Window {
            crashes: 10,
            within: Duration::from_mins(30),
        },
    ],
    quarantine: Backoff {
        min: Duration::from_mins(10),
        max: Duration::from_hours(1),
    },
    trial: Duration::from_mins(2),
    acquittal: Duration::from_mins(10),
    stuck: Duration::from_secs(45),
};

fn told(report: Report) -> Event {
    Event::Told {
        generation: FIRST,
        report,
    }
}

fn resized(threads: u16, signalled: bool) -> Event {
    let size = size(threads);
    told(Report::Resized { size, signalled })
}

fn exited(code: i32) -> Event {
    Event::Exited {
        generation: FIRST,
        ending: Ending::Code(code),
        dice: DICE,
    }
}

fn wanted(threads: u16) -> Event {
    Event::Wanted {
        size: size(threads),
        paused: false,
        insisted: false,
    }
}

/// This size, and a pause.
fn wanted_paused(threads: u16) -> Event {
    Event::Wanted {
        size: size(threads),
        paused: true,
        insisted: false,
    }
}

fn heartbeat(paused: bool) -> Event {
    let busy = Duration::ZERO;
    told(Report::Heartbeat { paused, busy })
}

const fn briefed(paused: bool) -> Action {
    Action::Brief { size: SIZE, paused }
}

fn misbehaved() -> Event {
    Event::Misbehaved {
        generation: FIRST,
        how: "it lies".to_owned(),
    }
}

fn spawn_failed(fault: SpawnFault) -> Event {
    Event::SpawnFailed { fault, dice: DICE }
}

/// The events that lead to a state, and a machine that has gone through them at `now`.
fn at(state: StateName, now: Instant) -> Lifecycle {
    let hung_up = Event::HungUp { generation: FIRST };
    let way: Vec<Event> = match state {
        StateName::Queued => vec![],
        StateName::Spawning => vec![Event::Granted, Event::Spawned],
        StateName::Confining => vec![Event::Granted, Event::Spawned, told(Report::Hello)],
        StateName::Connecting => starting(vec![]),
        StateName::Running => starting(vec![told(Report::Ready)]),
        StateName::Resizing => starting(vec![told(Report::Ready), wanted(8)]),
        StateName::Paused => starting(vec![told(Report::Ready), wanted_paused(4), heartbeat(true)]),
        StateName::Suspect => starting(vec![told(Report::Ready), hung_up]),
        StateName::Draining => starting(vec![told(Report::Ready), Event::Stop(StopLevel::Drain)]),
        StateName::Killing => starting(vec![told(Report::Ready), misbehaved()]),
        StateName::Backoff => starting(vec![told(Report::Ready), exited(101)]),
        StateName::Quarantined => starting(vec![exited(65)]),
        StateName::Refused => starting(vec![exited(71)]),
        StateName::Stopped => vec![Event::Stop(StopLevel::Drain)],
    };
    let mut machine = Lifecycle::new(POLICY, SIZE, false, Past::default());
    for event in way {
        machine.step(&event, now);
    }
    assert_eq!(machine.state().name(), state);
    machine
}

fn starting(then: Vec<Event>) -> Vec<Event> {
    let mut way = vec![
        Event::Granted,
        Event::Spawned,
        told(Report::Hello),
        told(Report::Confined),
    ];
    way.extend(then);
    way
}

#[test]
fn every_event_leads_where_the_table_says() {
    use Action::*;
    use StateName as S;
    let start = Instant::now();
    let stop = Event::Stop;
    let hung_up = || Event::HungUp { generation: FIRST };
    let insisted_on = |threads| Event::Wanted {
        size: size(threads),
        paused: false,
        insisted: true,
    };
    let stuck = |busy| {
        told(Report::Heartbeat {
            paused: false,
            busy,
        })
    };
    for (from, event, to, actions) in [
        (S::Queued, Event::Granted, S::Spawning, vec![Spawn]),
        (S::Queued, wanted(8), S::Queued, vec![]),
        (
            S::Queued,
            stop(StopLevel::Drain),
            S::Stopped,
            vec![ReleaseSlot],
        ),
        (
            S::Spawning,
            told(Report::Hello),
            S::Confining,
            vec![briefed(false)],
        ),
        (S::Spawning, told(Report::Ready), S::Killing, vec![Kill]),
        (S::Spawning, told(Report::Confined), S::Killing, vec![Kill]),
        (S::Spawning, hung_up(), S::Spawning, vec![]),
        (
            S::Spawning,
            exited(1),
            S::Backoff,
            vec![ReleaseSlot, Remember],
        ),
        (S::Spawning, stop(StopLevel::Drain), S::Killing, vec![Kill]),
        (
            S::Confining,
            told(Report::Confined),
            S::Connecting,
            vec![ReleaseSlot],
        ),
        (S::Confining, told(Report::Hello), S::Killing, vec![Kill]),
        (S::Confining, told(Report::Ready), S::Killing, vec![Kill]),
        (S::Confining, heartbeat(false), S::Confining, vec![]),
        (
            S::Confining,
            stop(StopLevel::Drain),
            S::Draining,
            vec![Drain(POLICY.drain)],
        ),
        (S::Connecting, told(Report::Ready), S::Running, vec![]),
        (
            S::Connecting,
            told(Report::Confined),
            S::Killing,
            vec![Kill],
        ),
        (S::Connecting, heartbeat(false), S::Connecting, vec![]),
        (S::Connecting, exited(75), S::Backoff, vec![ReleaseSlot]),
        (S::Running, heartbeat(false), S::Running, vec![]),
        (S::Running, told(Report::Ready), S::Running, vec![]),
        (S::Running, told(Report::Hello), S::Killing, vec![Kill]),
        (S::Running, wanted(8), S::Resizing, vec![Resize(size(8))]),
        (S::Running, wanted(4), S::Running, vec![]),
        (S::Queued, wanted_paused(4), S::Queued, vec![]),
        (S::Spawning, wanted_paused(4), S::Spawning, vec![]),
        (S::Confining, wanted_paused(4), S::Confining, vec![Pause]),
        (S::Connecting, wanted_paused(4), S::Connecting, vec![Pause]),
        (S::Connecting, heartbeat(true), S::Connecting, vec![Resume]),
        (S::Running, wanted_paused(4), S::Running, vec![Pause]),
        (
            S::Running,
            wanted_paused(8),
            S::Resizing,
            vec![Pause, Resize(size(8))],
        ),
        (S::Running, heartbeat(true), S::Paused, vec![Resume]),
        (S::Resizing, heartbeat(true), S::Paused, vec![Resume]),
        (S::Suspect, wanted_paused(4), S::Suspect, vec![]),
        (S::Suspect, heartbeat(true), S::Paused, vec![Resume]),
        (S::Backoff, wanted_paused(4), S::Backoff, vec![]),
        (S::Draining, wanted_paused(4), S::Draining, vec![]),
        (S::Paused, heartbeat(true), S::Paused, vec![]),
        (S::Paused, heartbeat(false), S::Running, vec![Pause]),
        (S::Paused, wanted_paused(4), S::Paused, vec![]),
        (S::Paused, wanted(4), S::Paused, vec![Resume]),
        (
            S::Paused,
            wanted_paused(8),
            S::Paused,
            vec![Resize(size(8))],
        ),
        (S::Paused, resized(8, false), S::Paused, vec![]),
        (S::Paused, told(Report::Ready), S::Paused, vec![]),
        (S::Paused, told(Report::Hello), S::Killing, vec![Kill]),
        (S::Paused, told(Report::Sync), S::Paused, vec![Resize(SIZE)]),
        (S::Paused, hung_up(), S::Suspect, vec![]),
        (S::Paused, misbehaved(), S::Killing, vec![Kill]),
        (
            S::Paused,
            exited(101),
            S::Backoff,
            vec![ReleaseSlot, Remember],
        ),
        (
            S::Paused,
            stop(StopLevel::Drain),
            S::Draining,
            vec![Drain(POLICY.drain)],
        ),
        (S::Running, insisted_on(4), S::Running, vec![]),
        (
            S::Running,
            told(Report::Sync),
            S::Resizing,
            vec![Resize(SIZE)],
        ),
        (S::Running, resized(5, true), S::Running, vec![]),
        (S::Running, hung_up(), S::Suspect, vec![]),
        (S::Running, misbehaved(), S::Killing, vec![Kill]),
        (
            S::Running,
            exited(0),
            S::Backoff,
            vec![ReleaseSlot, Remember],
        ),
        (
            S::Running,
            stop(StopLevel::Drain),
            S::Draining,
            vec![Drain(POLICY.drain)],
        ),
        (
            S::Running,
            stop(StopLevel::Fast),
            S::Draining,
            vec![Drain(POLICY.fast)],
        ),
        (
            S::Running,
            stop(StopLevel::Immediate),
            S::Killing,
            vec![Kill],
        ),
        (S::Resizing, resized(8, false), S::Running, vec![]),
        (S::Resizing, resized(4, false), S::Resizing, vec![]),
        (S::Resizing, resized(8, true), S::Resizing, vec![]),
        (S::Resizing, told(Report::Refused), S::Running, vec![]),
        (S::Resizing, wanted(8), S::Resizing, vec![]),
        (S::Resizing, wanted(2), S::Resizing, vec![Resize(size(2))]),
        (S::Resizing, hung_up(), S::Suspect, vec![]),
        (S::Suspect, heartbeat(false), S::Running, vec![]),
        (S::Suspect, wanted(8), S::Suspect, vec![]),
        (
            S::Suspect,
            exited(101),
            S::Backoff,
            vec![ReleaseSlot, Remember],
        ),
        (
            S::Suspect,
            stop(StopLevel::Drain),
            S::Draining,
            vec![Drain(POLICY.drain)],
        ),
        (S::Draining, heartbeat(false), S::Draining, vec![]),
        (S::Draining, hung_up(), S::Draining, vec![]),
        (S::Draining, wanted(8), S::Draining, vec![]),
        (S::Draining, stop(StopLevel::Drain), S::Draining, vec![]),
        (
            S::Draining,
            stop(StopLevel::Fast),
            S::Draining,
            vec![Drain(POLICY.fast)],
        ),
        (
            S::Draining,
            stop(StopLevel::Immediate),
            S::Killing,
            vec![Kill],
        ),
        (S::Draining, exited(0), S::Stopped, vec![ReleaseSlot]),
        (S::Draining, exited(101), S::Stopped, vec![ReleaseSlot]),
        (S::Killing, heartbeat(false), S::Killing, vec![]),
        (S::Killing, misbehaved(), S::Killing, vec![]),
        (S::Killing, stop(StopLevel::Immediate), S::Killing, vec![]),
        (
            S::Killing,
            exited(0),
            S::Backoff,
            vec![ReleaseSlot, Remember],
        ),
        (S::Backoff, wanted(8), S::Backoff, vec![]),
        (S::Backoff, told(Report::Ready), S::Backoff, vec![]),
        (S::Backoff, exited(0), S::Backoff, vec![]),
        (
            S::Backoff,
            stop(StopLevel::Drain),
            S::Stopped,
            vec![ReleaseSlot],
        ),
        (
            S::Backoff,
            Event::Released,
            S::Queued,
            vec![Remember, RequestSlot],
        ),
        (S::Running, Event::Released, S::Running, vec![]),
        (S::Killing, Event::Released, S::Killing, vec![]),
        (
            S::Running,
            exited(65),
            S::Quarantined,
            vec![ReleaseSlot, Remember],
        ),
        (S::Running, exited(71), S::Refused, vec![ReleaseSlot]),
        (S::Running, stuck(POLICY.stuck), S::Running, vec![]),
        (
            S::Running,
            stuck(POLICY.stuck + SECOND),
            S::Killing,
            vec![Kill],
        ),
        (S::Quarantined, wanted(8), S::Quarantined, vec![]),
        (
            S::Quarantined,
            insisted_on(8),
            S::Queued,
            vec![Remember, RequestSlot],
        ),
        (
            S::Quarantined,
            Event::Released,
            S::Queued,
            vec![Remember, RequestSlot],
        ),
        (
            S::Quarantined,
            stop(StopLevel::Drain),
            S::Stopped,
            vec![ReleaseSlot],
        ),
        (S::Refused, wanted(8), S::Refused, vec![]),
        (
            S::Refused,
            insisted_on(8),
            S::Queued,
            vec![Remember, RequestSlot],
        ),
        (
            S::Refused,
            Event::Released,
            S::Queued,
            vec![Remember, RequestSlot],
        ),
        (
            S::Refused,
            stop(StopLevel::Drain),
            S::Stopped,
            vec![ReleaseSlot],
        ),
        (S::Stopped, Event::Released, S::Stopped, vec![]),
        (S::Stopped, wanted(8), S::Stopped, vec![]),
        (S::Stopped, Event::Granted, S::Stopped, vec![ReleaseSlot]),
    ] {
        let mut machine = at(from, start);
        let text = format!("{from:?}: {event:?}");
        assert_eq!(machine.step(&event, start), actions, "{text}");
        assert_eq!(machine.state().name(), to, "{text}");
    }
}

#[test]
fn every_deadline_leads_on() {
    use Action::*;
    use StateName as S;
    let start = Instant::now();
    for (from, after, to, actions) in [
        (S::Spawning, POLICY.hello, S::Killing, vec![Kill]),
        (S::Confining, POLICY.confine, S::Killing, vec![Kill]),
        (S::Running, POLICY.silence, S::Suspect, vec![]),
        (S::Resizing, POLICY.silence, S::Suspect, vec![]),
        (S::Paused, POLICY.silence, S::Suspect, vec![]),
        (S::Suspect, POLICY.patience, S::Killing, vec![Kill]),
        (
            S::Draining,
            POLICY.drain + POLICY.patience,
            S::Killing,
            vec![Kill],
        ),
        (S::Killing, POLICY.patience, S::Killing, vec![Alarm]),
        (S::Backoff, SECOND, S::Queued, vec![RequestSlot]),
        (
            S::Quarantined,
            POLICY.quarantine.min,
            S::Queued,
            vec![Remember, RequestSlot],
        ),
    ] {
        let mut machine = at(from, start);
        let deadline = machine.deadline().expect("it has a deadline");
        assert!(deadline <= start + after, "{from:?}");
        assert_eq!(
            machine.step(&Event::Timer, deadline - SECOND / 1000),
            vec![],
            "{from:?}"
        );
        assert_eq!(machine.state().name(), from);
        assert_eq!(machine.step(&Event::Timer, deadline), actions, "{from:?}");
        assert_eq!(machine.state().name(), to, "{from:?}");
    }
    for from in [S::Queued, S::Connecting, S::Refused, S::Stopped] {
        assert_eq!(at(from, start).deadline(), None, "{from:?}");
    }
}

#[test]
fn a_connecting_worker_is_watched_from_its_first_heartbeat_on() {
    let start = Instant::now();
    let mut machine = at(StateName::Connecting, start);
    machine.step(&heartbeat(false), start);
    assert_eq!(
        machine.step(&Event::Timer, start + POLICY.silence),
        vec![Action::Kill]
    );
}

#[test]
fn a_resize_without_an_answer_is_asked_for_again() {
    let start = Instant::now();
    let mut machine = at(StateName::Resizing, start);
    machine.step(&heartbeat(false), start + POLICY.silence - SECOND);
    let again = machine.step(&Event::Timer, start + POLICY.resize);
    assert_eq!(again, vec![Action::Resize(size(8))]);
}

#[test]
fn a_size_wanted_while_it_starts_is_asked_for_when_it_is_ready() {
    let start = Instant::now();
    let mut machine = at(StateName::Connecting, start);
    assert_eq!(machine.step(&wanted(2), start), vec![]);
    let actions = machine.step(&told(Report::Ready), start);
    assert_eq!(actions, vec![Action::Resize(size(2))]);
}

#[test]
fn a_worker_that_starts_for_a_paused_tenant_is_briefed_so_and_never_told_to_consume() {
    let now = Instant::now();
    let mut machine = Lifecycle::new(POLICY, SIZE, true, Past::default());
    let mut told_so = Vec::new();
    for event in starting(vec![heartbeat(true), told(Report::Ready), heartbeat(true)]) {
        told_so.extend(machine.step(&event, now));
    }
    assert_eq!(
        told_so,
        vec![Action::Spawn, briefed(true), Action::ReleaseSlot]
    );
    assert_eq!(machine.state().name(), StateName::Paused);
    // Its successor as well.
    machine.step(&exited(101), now);
    let rested = machine.deadline().expect("it rests");
    machine.step(&Event::Timer, rested);
    machine.step(&Event::Granted, rested);
    machine.step(&Event::Spawned, rested);
    let hello = Event::Told {
        generation: FIRST + 1,
        report: Report::Hello,
    };
    assert_eq!(machine.step(&hello, rested), vec![briefed(true)]);
}

#[test]
fn a_pause_wanted_while_it_starts_is_told_as_soon_as_it_can_be_heard() {
    let now = Instant::now();
    let mut machine = at(StateName::Spawning, now);
    machine.step(&wanted_paused(4), now);
    assert_eq!(
        machine.step(&told(Report::Hello), now),
        vec![briefed(true)],
        "it is in the spec"
    );
    machine.step(&wanted(4), now);
    machine.step(&told(Report::Confined), now);
    assert_eq!(
        machine.step(&wanted_paused(4), now),
        vec![Action::Pause],
        "the spec's word may be overtaken"
    );
}

#[test]
fn a_paused_worker_is_resized_and_stays_paused() {
    let start = Instant::now();
    let mut machine = at(StateName::Paused, start);
    assert_eq!(
        machine.step(&wanted_paused(8), start),
        vec![Action::Resize(size(8))]
    );
    machine.step(&heartbeat(true), start + POLICY.silence - SECOND);
    assert_eq!(
        machine.step(&Event::Timer, start + POLICY.resize),
        vec![Action::Resize(size(8))],
        "asked again"
    );
    machine.step(&resized(8, false), start + POLICY.resize);
    assert_eq!(machine.state().name(), StateName::Paused);
    assert_eq!(machine.applied(), Some(size(8)));
    assert_eq!(machine.step(&wanted_paused(8), start), vec![]);
}

#[test]
fn a_resize_under_way_goes_along_into_a_pause_and_out_of_it() {
    let now = Instant::now();
    let mut machine = at(StateName::Resizing, now);
    machine.step(&wanted_paused(8), now);
    machine.step(&heartbeat(true), now);
    assert_eq!(machine.state().name(), StateName::Paused);
    machine.step(&wanted(8), now);
    machine.step(&heartbeat(false), now);
    assert_eq!(machine.state().name(), StateName::Resizing);
    machine.step(&resized(8, false), now);
    assert_eq!(machine.state().name(), StateName::Running);
}

#[test]
fn a_word_said_before_the_order_arrived_is_answered_with_the_order() {
    let now = Instant::now();
    let mut machine = at(StateName::Running, now);
    assert_eq!(machine.step(&wanted_paused(4), now), vec![Action::Pause]);
    assert_eq!(machine.step(&heartbeat(false), now), vec![Action::Pause]);
    // The pause is on its way, so the worker must hear that it is over.
    assert_eq!(machine.step(&wanted(4), now), vec![Action::Resume]);
    assert_eq!(machine.step(&heartbeat(true), now), vec![Action::Resume]);
    assert_eq!(machine.step(&heartbeat(false), now), vec![]);
    assert_eq!(machine.state().name(), StateName::Running);
}

#[test]
fn what_a_signal_did_holds_until_another_size_is_wanted_or_a_person_insists() {
    let now = Instant::now();
    let insisted = Event::Wanted {
        size: SIZE,
        paused: false,
        insisted: true,
    };
    for (event, actions) in [
        (wanted(4), vec![]),
        (wanted(6), vec![Action::Resize(size(6))]),
        (insisted, vec![Action::Resize(SIZE)]),
        (told(Report::Sync), vec![Action::Resize(SIZE)]),
    ] {
        let mut machine = at(StateName::Running, now);
        machine.step(&resized(5, true), now);
        assert_eq!(machine.step(&event, now), actions, "{event:?}");
    }
}

#[test]
fn a_size_the_worker_cannot_have_is_asked_for_again_at_the_next_occasion_only() {
    let now = Instant::now();
    let mut machine = at(StateName::Resizing, now);
    assert_eq!(machine.step(&told(Report::Refused), now), vec![]);
    assert_eq!(machine.step(&heartbeat(false), now), vec![]);
    assert_eq!(machine.step(&wanted(8), now), vec![Action::Resize(size(8))]);
}

#[test]
fn a_stop_while_the_process_is_made_kills_it_when_it_is_there() {
    let now = Instant::now();
    for (outcome, to, actions) in [
        (Event::Spawned, StateName::Killing, vec![Action::Kill]),
        (
            spawn_failed(SpawnFault::Host),
            StateName::Stopped,
            vec![Action::ReleaseSlot],
        ),
        (
            spawn_failed(SpawnFault::Program),
            StateName::Stopped,
            vec![Action::ReleaseSlot],
        ),
    ] {
        let mut machine = at(StateName::Queued, now);
        machine.step(&Event::Granted, now);
        assert_eq!(machine.step(&Event::Stop(StopLevel::Drain), now), vec![]);
        assert_eq!(machine.step(&outcome, now), actions, "{outcome:?}");
        assert_eq!(machine.state().name(), to, "{outcome:?}");
    }
}

#[test]
fn a_host_without_means_is_not_held_against_the_tenant() {
    let now = Instant::now();
    let mut machine = at(StateName::Queued, now);
    for _ in 0..10 {
        machine.step(&Event::Granted, now);
        let actions = machine.step(&spawn_failed(SpawnFault::Host), now);
        assert_eq!(actions, vec![Action::ReleaseSlot, Action::RequestSlot]);
    }
    assert_eq!(machine.failures, Failures::NONE);
}

/// Runs a machine through one life after the other: how long each was ready, its exit code, and
/// the pause that must follow, in milliseconds.
fn check_pauses(lives: &[(u64, i32, u64)]) {
    let mut now = Instant::now();
    let windows = POLICY.windows.map(|window| Window {
        crashes: 100,
        ..window
    });
    let policy = Policy { windows, ..POLICY };
    let mut machine = Lifecycle::new(policy, SIZE, false, Past::default());
    for (nth, (ready_seconds, code, pause)) in lives.iter().enumerate() {
        let generation = u64::try_from(nth).expect("few lives");
        machine.step(&Event::Granted, now);
        machine.step(&Event::Spawned, now);
        assert_eq!(machine.generation(), generation);
        for report in [Report::Hello, Report::Confined, Report::Ready] {
            machine.step(&Event::Told { generation, report }, now);
        }
        now += SECOND * u32::try_from(*ready_seconds).expect("short lives");
        let (ending, dice) = (Ending::Code(*code), DICE);
        machine.step(
            &Event::Exited {
                generation,
                ending,
                dice,
            },
            now,
        );
        let until = machine.deadline().expect("it rests");
        let difference = (until - now).abs_diff(Duration::from_millis(*pause));
        assert!(difference < SECOND / 1000, "life {nth}: {:?}", until - now);
        now = until;
        machine.step(&Event::Timer, now);
    }
}

#[test]
fn the_pause_doubles_with_each_failure_and_starts_over_after_a_good_run() {
    check_pauses(&[
        (0, 101, 500),
        (0, 101, 1000),
        (0, 1, 2000),
        (119, 101, 4000),
        (120, 101, 500),
        (0, 101, 1000),
    ]);
}

#[test]
fn an_exit_that_is_nobodys_fault_does_not_lengthen_the_pause() {
    check_pauses(&[
        (0, 75, 500),
        (0, 76, 500),
        (0, 101, 500),
        (0, 101, 1000),
        (0, 75, 1000),
    ]);
}

#[test]
fn a_clean_exit_nobody_asked_for_rests_a_second() {
    check_pauses(&[(0, 0, 1000), (0, 0, 1000), (0, 101, 500)]);
}

/// A life that ends with this code after so many seconds.
fn live(machine: &mut Lifecycle, seconds: u32, code: i32, now: &mut Instant) -> StateName {
    if let Some(until) = machine.deadline() {
        *now = until;
        machine.step(&Event::Timer, *now);
    }
    machine.step(&Event::Granted, *now);
    machine.step(&Event::Spawned, *now);
    let generation = machine.generation();
    let busy = Duration::ZERO;
    let beat = Report::Heartbeat {
        paused: false,
        busy,
    };
    for report in [Report::Hello, Report::Confined, Report::Ready] {
        machine.step(&Event::Told { generation, report }, *now);
    }
    *now += SECOND * seconds;
    let report = beat;
    machine.step(&Event::Told { generation, report }, *now);
    let (ending, dice) = (Ending::Code(code), DICE);
    let exited = Event::Exited {
        generation,
        ending,
        dice,
    };
    machine.step(&exited, *now);
    machine.state().name()
}

#[test]
fn the_sixth_crash_in_five_minutes_leads_into_quarantine_and_each_for_longer() {
    let mut now = Instant::now();
    let mut machine = Lifecycle::new(POLICY, SIZE, false, Past::default());
    for _ in 0..5 {
        assert_eq!(live(&mut machine, 0, 101, &mut now), StateName::Backoff);
    }
    for minutes in [10, 20, 40, 60, 60] {
        // The first time it is the sixth crash, then one is enough.
        assert_eq!(live(&mut machine, 1, 101, &mut now), StateName::Quarantined);
        let until = machine.quarantined_until().expect("it ends by itself");
        let lasts = (until - now).abs_diff(Duration::from_mins(minutes));
        assert!(lasts < SECOND, "{:?}", until - now);
    }
}

#[test]
fn a_good_run_ends_a_trial_and_an_early_crash_alone_leads_back() {
    let mut now = Instant::now();
    let mut machine = at(StateName::Quarantined, now);
    assert_eq!(
        live(&mut machine, 121, 101, &mut now),
        StateName::Backoff,
        "not early any more"
    );
    assert_eq!(
        live(&mut machine, 119, 101, &mut now),
        StateName::Quarantined
    );
    assert_eq!(live(&mut machine, 600, 101, &mut now), StateName::Backoff);
    assert_eq!(
        live(&mut machine, 1, 101, &mut now),
        StateName::Backoff,
        "it was acquitted"
    );
}

#[test]
fn what_is_remembered_goes_on() {
    let mut now = Instant::now();
    let until = now + SECOND;
    let past = Past {
        starts: 0,
        crashes: Crashes::remembered(vec![now; 4], 0),
        quarantined_until: None,
    };
    let mut machine = Lifecycle::new(POLICY, SIZE, false, past.clone());
    assert_eq!(live(&mut machine, 0, 101, &mut now), StateName::Backoff);
    assert_eq!(live(&mut machine, 0, 101, &mut now), StateName::Quarantined);
    let machine = Lifecycle::new(
        POLICY,
        SIZE,
        false,
        Past {
            quarantined_until: Some(until),
            ..past
        },
    );
    assert_eq!(machine.state().name(), StateName::Quarantined);
    assert_eq!(machine.deadline(), Some(until));
}

#[test]
fn an_exit_that_is_nobodys_fault_leads_into_no_quarantine() {
    let mut now = Instant::now();
    let mut machine = Lifecycle::new(POLICY, SIZE, false, Past::default());
    for code in [75, 76].into_iter().cycle().take(40) {
        assert_eq!(live(&mut machine, 0, code, &mut now), StateName::Backoff);
    }
}

/// A world around the machine: at most one process, which does what the dice say.
struct World {
    machine: Lifecycle,
    now: Instant,
    slot_asked: bool,
    spawn_asked: bool,
    /// The process there is.
    alive: Option<u64>,
    killed: bool,
    stopped: bool,
    /// Failures counted when they last could not have started over.
    failures: Failures,
    kills: BTreeMap<u64, u32>,
}

#[derive(Debug, Clone)]
enum Move {
    Grant,
    SpawnEnds(Option<SpawnFault>),
    Say {
        stale: bool,
        report: Report,
    },
    HangUp {
        stale: bool,
    },
    Misbehave {
        stale: bool,
    },
    Exit {
        stale: bool,
        code: i32,
    },
    Want {
        threads: u16,
        paused: bool,
        insisted: bool,
    },
    Release,
    Stop(StopLevel),
    Wait(u64),
    Due,
}

fn moves() -> impl Strategy<Value = Move> {
    let report = prop_oneof![
        4 => Just(Report::Hello),
        4 => Just(Report::Confined),
        4 => Just(Report::Ready),
        2 => (any::<bool>(), 0_u64..60).prop_map(|(paused, busy)| {
            Report::Heartbeat { paused, busy: SECOND * u32::try_from(busy).expect("few") }
        }),
        1 => (1_u16..9, any::<bool>())
            .prop_map(|(threads, signalled)| Report::Resized { size: size(threads), signalled }),
        1 => Just(Report::Refused),
        1 => Just(Report::Sync),
    ];
    let fault = prop_oneof![
        6 => Just(None),
        1 => Just(Some(SpawnFault::Host)),
        1 => Just(Some(SpawnFault::Program)),
    ];
    let level = prop_oneof![
        Just(StopLevel::Drain),
        Just(StopLevel::Fast),
        Just(StopLevel::Immediate)
    ];
    let stale = || prop::bool::weighted(0.2);
    let codes = prop::sample::select(vec![0, 1, 64, 65, 66, 71, 75, 76, 101]);
    prop_oneof![
        8 => Just(Move::Grant),
        8 => fault.prop_map(Move::SpawnEnds),
        24 => (stale(), report).prop_map(|(stale, report)| Move::Say { stale, report }),
        2 => stale().prop_map(|stale| Move::HangUp { stale }),
        1 => stale().prop_map(|stale| Move::Misbehave { stale }),
        4 => (stale(), codes).prop_map(|(stale, code)| Move::Exit { stale, code }),
        3 => (1_u16..9, any::<bool>(), any::<bool>()).prop_map(|(threads, paused, insisted)| {
            Move::Want { threads, paused, insisted }
        }),
        1 => Just(Move::Release),
        1 => level.prop_map(Move::Stop),
        4 => (0_u64..200_000).prop_map(Move::Wait),
        8 => Just(Move::Due),
    ]
}

impl World {
    fn new() -> Self {
        Self {
            machine: Lifecycle::new(POLICY, SIZE, false, Past::default()),
            now: Instant::now(),
            slot_asked: true,
            spawn_asked: false,
            alive: None,
            killed: false,
            stopped: false,
            failures: Failures::NONE,
            kills: BTreeMap::new(),
        }
    }

    /// The event a move amounts to in this world; none if it cannot happen.
    fn event(&mut self, next: &Move) -> Option<Event> {
        let of = |stale: bool| match self.alive {
            Some(alive) if !stale => Some(alive),
            None if !stale => Some(self.machine.generation()),
            Some(_) | None => self.machine.generation().checked_sub(1),
        };
        match next {
            Move::Grant => std::mem::take(&mut self.slot_asked).then_some(Event::Granted),
            Move::SpawnEnds(fault) => {
                if !std::mem::take(&mut self.spawn_asked) {
                    return None;
                }
                let dice = DICE;
                Some(match fault {
                    Some(fault) => Event::SpawnFailed {
                        fault: *fault,
                        dice,
                    },
                    None => {
                        assert_eq!(self.alive, None, "two processes");
                        self.alive = Some(self.machine.starts());
                        self.killed = false;
                        Event::Spawned
                    }
                })
            }
            Move::Say { stale, report } => of(*stale).map(|generation| Event::Told {
                generation,
                report: *report,
            }),
            Move::HangUp { stale } => of(*stale).map(|generation| Event::HungUp { generation }),
            Move::Misbehave { stale } => of(*stale).map(|generation| Event::Misbehaved {
                generation,
                how: String::new(),
            }),
            Move::Exit { stale, code } => {
                let generation = of(*stale)?;
                if self.alive == Some(generation) {
                    self.alive = None;
                }
                Some(Event::Exited {
                    generation,
                    ending: Ending::Code(*code),
                    dice: DICE,
                })
            }
            Move::Want {
                threads,
                paused,
                insisted,
            } => Some(Event::Wanted {
                size: size(*threads),
                paused: *paused,
                insisted: *insisted,
            }),
            Move::Release => Some(Event::Released),
            Move::Stop(level) => {
                self.stopped = true;
                Some(Event::Stop(*level))
            }
            Move::Wait(millis) => {
                self.now += Duration::from_millis(*millis);
                Some(Event::Timer)
            }
            Move::Due => {
                self.now = self.now.max(self.machine.deadline()?);
                Some(Event::Timer)
            }
        }
    }

    fn play(&mut self, next: &Move) {
        let Some(event) = self.event(next) else {
            return;
        };
        let was = self.machine.state();
        let is_exit = matches!(event, Event::Exited { .. });
        let is_stale = match &event {
            Event::Told { generation, .. }
            | Event::HungUp { generation }
            | Event::Misbehaved { generation, .. }
            | Event::Exited { generation, .. } => !self.machine.is_present(*generation),
            Event::Wanted { .. }
            | Event::Released
            | Event::Stop(_)
            | Event::Granted
            | Event::Spawned
            | Event::SpawnFailed { .. }
            | Event::Timer => false,
        };
        let ran_well = self
            .machine
            .ready_since
            .is_some_and(|since| self.now - since >= POLICY.backoff_reset);
        let actions = self.machine.step(&event, self.now);
        if is_stale {
            assert_eq!(self.machine.state(), was, "a stale event changed the state");
            assert_eq!(actions, vec![], "a stale event had an effect");
        }
        for action in actions {
            self.carry_out(action);
        }
        let failures = self.machine.failures;
        let is_pardon = matches!(
            event,
            Event::Released | Event::Wanted { insisted: true, .. }
        );
        let may_shrink = is_pardon || is_exit && ran_well;
        if !may_shrink {
            assert!(failures >= self.failures, "the pause shrank while failing");
        }
        self.failures = failures;
        if was == State::Stopped {
            assert_eq!(self.machine.state(), State::Stopped, "Stopped was left");
        }
        if let State::Killing { .. } = was {
            let left = self.machine.state().name() != StateName::Killing;
            assert_eq!(left, is_exit && !is_stale, "Killing ends by the exit alone");
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::RequestSlot => {
                assert!(!self.stopped, "a start was asked for after the stop");
                self.slot_asked = true;
            }
            Action::ReleaseSlot => self.slot_asked = false,
            Action::Spawn => {
                assert!(!self.stopped, "a start after the stop");
                assert!(
                    self.alive.is_none() && !self.spawn_asked,
                    "a second process"
                );
                self.spawn_asked = true;
            }
            Action::Pause | Action::Resume => {
                assert!(self.alive.is_some() && !self.killed, "nobody to tell");
                assert!(!self.stopped, "told to work after the stop");
            }
            Action::Brief { size, .. } | Action::Resize(size) => {
                assert!(self.alive.is_some() && !self.killed, "nobody to tell");
                assert!(!self.stopped, "told to work after the stop");
                assert!(size.connections <= size.threads);
            }
            Action::Drain(_) => assert!(self.alive.is_some() && !self.killed, "nobody to drain"),
            Action::Kill => {
                let alive = self.alive.expect("a kill needs a process");
                assert!(self.machine.is_present(alive));
                *self.kills.entry(alive).or_default() += 1;
                assert_eq!(self.kills.get(&alive), Some(&1), "one kill is enough");
                self.killed = true;
            }
            Action::Alarm => assert!(self.killed, "an alarm without a kill"),
            Action::Remember => {}
        }
    }

    /// Asks for a stop and lets time pass: nobody helps but the kernel, who kills.
    fn finish(&mut self) {
        self.play(&Move::Stop(StopLevel::Drain));
        for _ in 0..10 {
            if self.machine.state() == State::Stopped {
                assert_eq!(self.alive, None, "a process was left behind");
                assert!(!self.slot_asked && !self.spawn_asked);
                return;
            }
            let next = match (self.spawn_asked, self.killed && self.alive.is_some()) {
                (true, _) => Move::SpawnEnds(None),
                (false, true) => Move::Exit {
                    stale: false,
                    code: 0,
                },
                (false, false) => Move::Due,
            };
            self.play(&next);
        }
        panic!("it never stops: {:?}", self.machine);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn whatever_happens_there_is_one_process_at_most_and_a_stop_ends(
        story in prop::collection::vec(moves(), 0..120)
    ) {
        let mut world = World::new();
        for next in &story {
            world.play(next);
        }
        world.finish();
    }

    /// The worker here does as told, but only by the commands that reach it.
    #[test]
    fn whatever_is_lost_a_heartbeat_brings_the_pause_that_is_wanted(
        orders in prop::collection::vec((any::<bool>(), 1_u16..9, any::<bool>(), any::<bool>()), 1..20)
    ) {
        let now = Instant::now();
        let mut machine = at(StateName::Running, now);
        let (mut paused, mut wants_pause) = (false, false);
        let obey = |actions: Vec<Action>, paused: &mut bool, is_lost: bool| {
            for action in actions.into_iter().filter(|_| !is_lost) {
                match action {
                    Action::Pause => *paused = true,
                    Action::Resume => *paused = false,
                    Action::Resize(_) => {}
                    unexpected @ (Action::RequestSlot
                    | Action::ReleaseSlot
                    | Action::Spawn
                    | Action::Brief { .. }
                    | Action::Drain(_)
                    | Action::Kill
                    | Action::Alarm
                    | Action::Remember) => panic!("{unexpected:?}"),
                }
            }
        };
        for (wanted, threads, is_lost, beats) in orders {
            wants_pause = wanted;
            let event = Event::Wanted { size: size(threads), paused: wanted, insisted: false };
            obey(machine.step(&event, now), &mut paused, is_lost);
            if beats {
                obey(machine.step(&heartbeat(paused), now), &mut paused, is_lost);
            }
        }
        for _ in 0..2 {
            obey(machine.step(&heartbeat(paused), now), &mut paused, false);
        }
        prop_assert_eq!(paused, wants_pause);
        prop_assert_eq!(machine.state().name() == StateName::Paused, wants_pause);
        prop_assert_eq!(machine.step(&heartbeat(paused), now), vec![]);
    }
}
