//! The figures of a run, as a table for people and as JSON.

use std::{
    fmt::{self, Display},
    time::Duration,
};

use serde::Serialize;

use crate::{
    latency::{Summary, median},
    load::answered,
    machine::{Shares, Ticks},
    partitions::{Janitor, Kind, Options, Seen, Window},
    rows::Rows,
};

/// What creating a tenant shall take at most, at the median, in milliseconds.
const CREATE_P50: f64 = 100.0;
/// How much later others may be answered at the 99th percentile meanwhile, in milliseconds.
const DELAY_P99: f64 = 10.0;

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) options: Options,
    pub(crate) phases: Vec<Phase>,
    pub(crate) delays: Vec<Delay>,
    pub(crate) rounds: Vec<Round>,
    pub(crate) janitor: Janitor,
    pub(crate) machine: Option<Shares>,
    pub(crate) rows: Rows,
}

/// One kind of request in one kind of window.
#[derive(Debug, Serialize)]
pub(crate) struct Phase {
    phase: &'static str,
    #[serde(flatten)]
    summary: Summary,
    /// A second.
    rate: f64,
    #[serde(skip)]
    goal: Option<f64>,
}

/// How much later others were answered at the 99th percentile, in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Delay {
    during: &'static str,
    /// Over all windows of the run.
    of_the_run: f64,
    /// The median of the rounds, each against the quiet window before it.
    of_a_round: f64,
}

/// A quiet window and what followed it.
#[derive(Debug, Serialize)]
pub(crate) struct Round {
    during: &'static str,
    alive: usize,
    seconds: f64,
    requests: Option<Summary>,
    /// Tenants that were still starting or leaving when they were answered.
    unfinished: usize,
    quiet_p99: f64,
    busy_p99: f64,
    quiet_machine: Option<Shares>,
    busy_machine: Option<Shares>,
}

impl Kind {
    const fn posts(self) -> &'static str {
        match self {
            Self::Quiet => "post, quiet",
            Self::Creating => "post, creating",
            Self::Deleting => "post, deleting",
            Self::Reading => "post, reader open",
        }
    }

    const fn during(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Creating => "creating",
            Self::Deleting => "deleting",
            Self::Reading => "reader open",
        }
    }
}

impl Report {
    pub(crate) fn new(options: Options, seen: &Seen) -> Self {
        let total = seen.windows.iter().map(|window| window.ticks);
        Self {
            options,
            phases: phases(seen),
            delays: [Kind::Creating, Kind::Deleting, Kind::Reading]
                .into_iter()
                .filter_map(|kind| delay(seen, kind))
                .collect(),
            rounds: pairs(seen)
                .filter_map(|(quiet, busy)| round(seen, quiet, busy))
                .collect(),
            janitor: seen.janitor,
            machine: total.fold(Ticks::default(), std::ops::Add::add).shares(),
            rows: seen.rows,
        }
    }
}

fn phases(seen: &Seen) -> Vec<Phase> {
    let creates = |kind| requests(seen, kind, |window| &window.creates);
    let deletes = |kind| requests(seen, kind, |window| &window.deletes);
    let kinds = [Kind::Quiet, Kind::Creating, Kind::Deleting, Kind::Reading];
    let posts = kinds.map(|kind| phase(kind.posts(), posts(seen, kind), time(seen, kind), None));
    let others = [
        ("create", Kind::Creating, creates(Kind::Creating)),
        ("create, reader open", Kind::Reading, creates(Kind::Reading)),
        ("delete", Kind::Deleting, deletes(Kind::Deleting)),
        ("delete, reader open", Kind::Reading, deletes(Kind::Reading)),
    ];
    let others = others.map(|(name, kind, requests)| {
        let goal = name.starts_with("create").then_some(CREATE_P50);
        phase(name, requests, time(seen, kind), goal)
    });
    posts.into_iter().chain(others).flatten().collect()
}

fn phase(
    phase: &'static str,
    latencies: Vec<Duration>,
    time: Duration,
    goal: Option<f64>,
) -> Option<Phase> {
    let summary = Summary::of(latencies)?;
    let count = u32::try_from(summary.n).ok()?;
    Some(Phase {
        phase,
        summary,
        rate: f64::from(count) / time.as_secs_f64(),
        goal,
    })
}

fn windows(seen: &Seen, kind: Kind) -> impl Iterator<Item = &Window> {
    seen.windows
        .iter()
        .filter(move |window| window.kind == kind)
}

fn time(seen: &Seen, kind: Kind) -> Duration {
    windows(seen, kind).map(Window::length).sum()
}

fn posts(seen: &Seen, kind: Kind) -> Vec<Duration> {
    windows(seen, kind)
        .flat_map(|window| answered(&seen.samples, &window.time))
        .collect()
}

fn requests(seen: &Seen, kind: Kind, of: fn(&Window) -> &[Duration]) -> Vec<Duration> {
    windows(seen, kind).flat_map(of).copied().collect()
}

/// Each quiet window with the one that follows it.
fn pairs(seen: &Seen) -> impl Iterator<Item = (&Window, &Window)> {
    seen.windows
        .iter()
        .zip(seen.windows.iter().skip(1))
        .filter(|(before, after)| before.kind == Kind::Quiet && after.kind != Kind::Quiet)
}

fn delay(seen: &Seen, kind: Kind) -> Option<Delay> {
    let p99 = |kind| Some(Summary::of(posts(seen, kind))?.p99);
    let rounds = pairs(seen)
        .filter(|(_, busy)| busy.kind == kind)
        .filter_map(|(quiet, busy)| round(seen, quiet, busy))
        .map(|round| round.busy_p99 - round.quiet_p99);
    Some(Delay {
        during: kind.during(),
        of_the_run: p99(kind)? - p99(Kind::Quiet)?,
        of_a_round: median(rounds.collect())?,
    })
}

fn round(seen: &Seen, quiet: &Window, busy: &Window) -> Option<Round> {
    let p99 = |window: &Window| Some(Summary::of(answered(&seen.samples, &window.time))?.p99);
    let requests = busy.creates.iter().chain(&busy.deletes).copied();
    Some(Round {
        during: busy.kind.during(),
        alive: busy.alive,
        seconds: busy.length().as_secs_f64(),
        requests: Summary::of(requests),
        unfinished: busy.starting + busy.leaving,
        quiet_p99: p99(quiet)?,
        busy_p99: p99(busy)?,
        quiet_machine: quiet.ticks.shares(),
        busy_machine: busy.ticks.shares(),
    })
}

impl Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print_rounds(out)?;
        self.print_phases(out)?;
        self.print_delays(out)?;
        self.print_janitor(out)?;
        self.print_rows(out)
    }
}

impl Report {
    fn print_rounds(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{:<11} {:>6} {:>8} {:>9} {:>9} {:>10} {:>10}   own/foreign/steal %, before and during",
            "round", "alive", "s", "p50 ms", "p99 ms", "quiet p99", "post p99"
        )?;
        for round in &self.rounds {
            let (p50, p99) = round
                .requests
                .map_or((0.0, 0.0), |requests| (requests.p50, requests.p99));
            writeln!(
                out,
                "{:<11} {:>6} {:>8.1} {p50:>9.1} {p99:>9.1} {:>10.1} {:>10.1}   {} {}",
                round.during,
                round.alive,
                round.seconds,
                round.quiet_p99,
                round.busy_p99,
                shares(round.quiet_machine),
                shares(round.busy_machine),
            )?;
        }
        Ok(())
    }

    fn print_phases(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "\n{:<20} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "phase", "n", "p50 ms", "p90 ms", "p99 ms", "max ms", "rate /s"
        )?;
        for phase in &self.phases {
            let Summary {
                n,
                p50,
                p90,
                p99,
                max,
            } = phase.summary;
            write!(
                out,
                "{:<20} {n:>8} {p50:>9.1} {p90:>9.1} {p99:>9.1} {max:>9.1} {:>9.1}",
                phase.phase, phase.rate
            )?;
            match phase.goal {
                Some(goal) => writeln!(out, "   goal: p50 < {goal} ms")?,
                None => writeln!(out)?,
            }
        }
        Ok(())
    }

    fn print_delays(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out)?;
        for delay in &self.delays {
            writeln!(
                out,
                "others are answered later at p99, {}: {:.1} ms over the run, {:.1} ms in the median round   goal: < {DELAY_P99} ms",
                delay.during, delay.of_the_run, delay.of_a_round
            )?;
        }
        let unfinished: usize = self.rounds.iter().map(|round| round.unfinished).sum();
        writeln!(
            out,
            "tenants answered before their worker ran or was gone: {unfinished}"
        )?;
        writeln!(
            out,
            "own/foreign/steal % of the machine over the run: {}",
            shares(self.machine)
        )
    }

    fn print_janitor(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "janitor: done at most {:.1} s after the last answer of a round",
            self.janitor.longest_drain
        )?;
        if self.options.reader == 0 {
            return Ok(());
        }
        writeln!(
            out,
            "reader open for {} s: {} tenants deleted, {} of them left at its end, all gone {:.1} s later",
            self.options.reader,
            self.janitor.deleted_before_reader,
            self.janitor.held_by_reader,
            self.janitor.drain_after_reader,
        )
    }

    fn print_rows(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rows {
            accepted,
            queued,
            failed,
            stored,
            missing,
            repeated,
            surplus,
            dead,
        } = self.rows;
        writeln!(
            out,
            "messages: {accepted} accepted ({queued} as queued), {failed} failed; {stored} stored, \
             {missing} missing, {repeated} repeated, {surplus} surplus, {dead} dead"
        )?;
        let verdict = if self.rows.are_right() {
            "rows = accepted"
        } else {
            "ROWS DIFFER FROM WHAT WAS ACCEPTED"
        };
        writeln!(out, "{verdict}")
    }
}

fn shares(shares: Option<Shares>) -> String {
    match shares {
        Some(Shares {
            own,
            foreign,
            steal,
        }) => format!("{own:.0}/{foreign:.0}/{steal:.0}"),
        None => "?".to_owned(),
    }
}
