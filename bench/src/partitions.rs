//! Tenants made and deleted by the thousand while others are written to.
//!
//! ```text
//!   rounds:  (quiet ▸ create some)…  ▸  quiet ▸ reader open  ▸  (quiet ▸ delete some ▸ janitor done)…
//!   load:    ───────────────────── ten tenants, all the time ──────────────────────
//! ```
//!
//! When as many are alive as may be, rounds of deleting and creating take turns, until all have been
//! made. Each round is compared with the quiet window just before it, so that neither the number of
//! tenants alive nor a machine that is busy with something else counts as a delay.

use std::{ops::Range, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use jatis_shared::ids::TenantId;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::{
    api::{Api, Deleted, Made},
    database::Database,
    load::{Load, Sample},
    machine::{self, Ticks},
    rows::{Rows, verify},
};

/// Longest wait for the janitor once nothing is in its way.
const JANITOR_WITHIN: Duration = Duration::from_mins(30);

/// How the run shall be.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Options {
    /// Tenants to make and delete
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tenants: u32,
    /// How many of them exist at a time, at most; the memory that the broker may use sets a limit
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) alive: u32,
    /// Tenants made or deleted between two quiet windows
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) round: u32,
    /// Tenants made or deleted at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) concurrency: u16,
    /// Tenants that are written to
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) writers: u16,
    /// Messages a second to each of them
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rate: u16,
    /// Seconds of a quiet window
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) quiet: u16,
    /// Seconds that a reader of all messages stays open; 0 for none
    #[arg(long, default_value_t = 60)]
    pub(crate) reader: u16,
    /// Tenants made, and as many deleted, while it is
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) reader_tenants: u16,
}

/// What happens besides the writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Quiet,
    Creating,
    /// Ends when the janitor is done.
    Deleting,
    /// Tenants come and go while a reader is open.
    Reading,
}

/// A part of the run.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    pub(crate) kind: Kind,
    pub(crate) time: Range<Instant>,
    /// Tenants besides those written to, at its beginning.
    pub(crate) alive: usize,
    pub(crate) creates: Vec<Duration>,
    /// Made tenants whose worker was not running when the answer came.
    pub(crate) starting: usize,
    pub(crate) deletes: Vec<Duration>,
    /// Deleted tenants whose worker or queues were not gone when the answer came.
    pub(crate) leaving: usize,
    pub(crate) ticks: Ticks,
}

/// How the janitor did.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Janitor {
    /// Longest time from the last answer of a round to the end of its last tenant, in seconds.
    pub(crate) longest_drain: f64,
    /// Deleted tenants that were left when the reader ended.
    pub(crate) held_by_reader: u64,
    /// Tenants deleted while it was open.
    pub(crate) deleted_before_reader: u64,
    /// From its end to the end of the last of them, in seconds.
    pub(crate) drain_after_reader: f64,
}

/// All that was seen.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) samples: Vec<Sample>,
    pub(crate) windows: Vec<Window>,
    pub(crate) janitor: Janitor,
    pub(crate) rows: Rows,
}

/// Measures.
///
/// # Errors
/// When a tenant is not made or deleted as it should be, or a server fails.
pub(crate) async fn run(
    api: Api,
    database: Database,
    processes: &[u32],
    options: &Options,
) -> Result<Seen> {
    api.ready().await?;
    let mut family = processes.to_vec();
    family.push(std::process::id());
    family.extend(database.backend().await?.and_then(machine::parent));
    let mut tenants = Vec::new();
    for number in 0..options.writers {
        let (made, _) = api.create(&format!("writer {number}")).await?;
        tenants.push(made.tenant);
    }
    let load = Load::start(&api, &tenants, options.rate);
    let mut run = Run {
        api,
        database,
        options,
        family,
        windows: Vec::new(),
        janitor: Janitor::default(),
        alive: Vec::new(),
    };
    run.whole().await?;
    let samples = load.stop().await?;
    let rows = verify(&run.database, &tenants, &samples).await?;
    Ok(Seen {
        samples,
        windows: run.windows,
        janitor: run.janitor,
        rows,
    })
}

struct Run<'a> {
    api: Api,
    database: Database,
    options: &'a Options,
    /// Whose processor time is that of what is measured.
    family: Vec<u32>,
    windows: Vec<Window>,
    janitor: Janitor,
    /// The oldest first.
    alive: Vec<TenantId>,
}

impl Run<'_> {
    async fn whole(&mut self) -> Result<()> {
        let mut left = self.options.tenants;
        while left > 0 {
            let room = usize::try_from(self.options.alive)?.saturating_sub(self.alive.len());
            let round = left.min(self.options.round).min(u32::try_from(room)?);
            left -= round;
            match round {
                0 => self.shrink().await?,
                round => self.grow(round).await?,
            }
        }
        if self.options.reader > 0 {
            self.read().await?;
        }
        while !self.alive.is_empty() {
            self.shrink().await?;
        }
        Ok(())
    }

    /// Makes so many tenants.
    async fn grow(&mut self, round: u32) -> Result<()> {
        self.quiet().await?;
        let mut window = self.begin(Kind::Creating)?;
        let api = &self.api;
        let made: Vec<(Made, Duration)> = stream::iter(0..round)
            .map(async |number| api.create(&format!("tenant {number}")).await)
            .buffer_unordered(usize::from(self.options.concurrency))
            .try_collect()
            .await
            .with_context(|| format!("with {} tenants", self.alive.len()))?;
        for (made, took) in made {
            window.created(made, took);
            self.alive.push(made.tenant);
        }
        self.end(window)
    }

    /// Deletes the oldest tenants; done when nothing is left of them.
    async fn shrink(&mut self) -> Result<()> {
        self.quiet().await?;
        let mut window = self.begin(Kind::Deleting)?;
        let round = usize::try_from(self.options.round)?.min(self.alive.len());
        let leaving: Vec<TenantId> = self.alive.drain(..round).collect();
        let api = &self.api;
        let deleted: Vec<(Deleted, Duration)> = stream::iter(leaving)
            .map(async |tenant| api.delete(tenant).await)
            .buffer_unordered(usize::from(self.options.concurrency))
            .try_collect()
            .await?;
        for (deleted, took) in deleted {
            window.deleted(deleted, took);
        }
        let answered = Instant::now();
        self.database.drained(JANITOR_WITHIN).await?;
        let drain = answered.elapsed().as_secs_f64();
        self.janitor.longest_drain = self.janitor.longest_drain.max(drain);
        self.end(window)
    }

    /// Has tenants come and go while somebody reads all messages in a transaction that stays open.
    async fn read(&mut self) -> Result<()> {
        let open = Duration::from_secs(self.options.reader.into());
        let pairs = self.options.reader_tenants;
        self.quiet().await?;
        let mut window = self.begin(Kind::Reading)?;
        let reader = self.database.read_on_and_on().await?;
        let opened = Instant::now();
        let mut pulse = interval(open / u32::from(pairs));
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0..pairs {
            pulse.tick().await;
            let (made, took) = self
                .api
                .create(&format!("beside a reader {number}"))
                .await?;
            window.created(made, took);
            self.alive.push(made.tenant);
            let oldest = self.alive.remove(0);
            let (deleted, took) = self.api.delete(oldest).await?;
            window.deleted(deleted, took);
        }
        sleep(open.saturating_sub(opened.elapsed())).await;
        self.janitor.held_by_reader = self.database.backlog().await?;
        self.janitor.deleted_before_reader = pairs.into();
        self.end(window)?;
        reader.end().await?;
        let ended = Instant::now();
        self.database.drained(JANITOR_WITHIN).await?;
        self.janitor.drain_after_reader = ended.elapsed().as_secs_f64();
        Ok(())
    }

    async fn quiet(&mut self) -> Result<()> {
        let window = self.begin(Kind::Quiet)?;
        sleep(Duration::from_secs(self.options.quiet.into())).await;
        self.end(window)
    }

    fn begin(&self, kind: Kind) -> Result<Window> {
        let ticks = Ticks::read(&self.family)?;
        let now = Instant::now();
        Ok(Window {
            kind,
            time: now..now,
            alive: self.alive.len(),
            creates: Vec::new(),
            starting: 0,
            deletes: Vec::new(),
            leaving: 0,
            ticks,
        })
    }

    fn end(&mut self, mut window: Window) -> Result<()> {
        window.time.end = Instant::now();
        window.ticks = Ticks::read(&self.family)? - window.ticks;
        ensure!(!window.time.is_empty(), "a window without time");
        eprintln!("{}", progress(&window));
        self.windows.push(window);
        Ok(())
    }
}

impl Window {
    fn created(&mut self, made: Made, took: Duration) {
        self.creates.push(took);
        self.starting += usize::from(!made.is_running);
    }

    fn deleted(&mut self, deleted: Deleted, took: Duration) {
        self.deletes.push(took);
        self.leaving += usize::from(deleted == Deleted::UnderWay);
    }

    pub(crate) fn length(&self) -> Duration {
        self.time.end - self.time.start
    }
}

fn progress(window: &Window) -> String {
    let what = match window.kind {
        Kind::Quiet => "quiet",
        Kind::Creating => "creating",
        Kind::Deleting => "deleting",
        Kind::Reading => "reader open",
    };
    format!(
        "{what}: {:.1} s with {} tenants, {} made, {} deleted",
        window.length().as_secs_f64(),
        window.alive,
        window.creates.len(),
        window.deletes.len()
    )
}
