//! What else the machine did while something was measured: a noisy neighbour spoils figures, and
//! whoever reads them should know.

use std::{
    collections::HashMap,
    fs,
    ops::{Add, Sub},
};

use anyhow::{Context, Result};
use serde::Serialize;

/// Processor time since the start of the machine, in ticks of the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ticks {
    /// All there was, idle or not.
    total: u64,
    /// Used by anything on this machine.
    busy: u64,
    /// Taken away by the machine's own host.
    steal: u64,
    /// Used by the processes that are measured.
    own: u64,
}

/// How a span of processor time was used, in hundredths of all there was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Shares {
    /// By what is measured: jatis, its servers and the benchmark.
    pub(crate) own: f64,
    /// By anything else on this machine.
    pub(crate) foreign: f64,
    /// By the machine's own host.
    pub(crate) steal: f64,
}

impl Ticks {
    /// As of now. `roots` and all that descends from them is what is measured.
    ///
    /// # Errors
    /// When `/proc` does not tell.
    pub(crate) fn read(roots: &[u32]) -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let mut ticks = whole(&stat).context("/proc/stat has no line of the processors")?;
        ticks.own = family(&processes()?, roots);
        Ok(ticks)
    }

    /// How this span was used; `None` of an empty one.
    #[expect(
        clippy::cast_precision_loss,
        clippy::as_conversions,
        reason = "ticks of a machine's life fit into the 52 bits of a float"
    )]
    pub(crate) fn shares(self) -> Option<Shares> {
        let share = |part: u64| 100.0 * part as f64 / self.total as f64;
        (self.total > 0).then(|| Shares {
            own: share(self.own),
            // Both are sampled, so the difference may be a little below nothing.
            foreign: share(self.busy.saturating_sub(self.own)),
            steal: share(self.steal),
        })
    }
}

impl Sub for Ticks {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            total: self.total.saturating_sub(before.total),
            busy: self.busy.saturating_sub(before.busy),
            steal: self.steal.saturating_sub(before.steal),
            own: self.own.saturating_sub(before.own),
        }
    }
}

impl Add for Ticks {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            total: self.total + more.total,
            busy: self.busy + more.busy,
            steal: self.steal + more.steal,
            own: self.own + more.own,
        }
    }
}

/// From the line `cpu user nice system idle iowait irq softirq steal …`; what follows is counted in
/// it already.
fn whole(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .take(8)
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let [user, nice, system, idle, iowait, irq, softirq, steal] = fields.try_into().ok()?;
    let busy = user + nice + system + irq + softirq;
    Some(Ticks {
        total: busy + idle + iowait + steal,
        busy,
        steal,
        own: 0,
    })
}

/// A process as `/proc` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    parent: u32,
    /// Its own and that of the children it has waited for.
    ticks: u64,
}

fn processes() -> Result<HashMap<u32, Process>> {
    let entries = fs::read_dir("/proc").context("cannot read /proc")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // One that has gone in between is part of its parent's.
    Ok(pids.filter_map(|pid| Some((pid, process(pid)?))).collect())
}

fn process(pid: u32) -> Option<Process> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// From `pid (name) state ppid …`, where a name may hold anything.
fn parse(stat: &str) -> Option<Process> {
    let (_, tail) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    // utime, stime, cutime, cstime: fields 14 to 17 of the whole line.
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some(Process {
        parent: fields.get(1)?.parse().ok()?,
        ticks,
    })
}

/// The parent of a process.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    process(pid).map(|process| process.parent)
}

/// The ticks of these processes and of all that descends from them.
fn family(processes: &HashMap<u32, Process>, roots: &[u32]) -> u64 {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (pid, process) in processes {
        children.entry(process.parent).or_default().push(*pid);
    }
    let mut ticks = 0;
    let mut queue = roots.to_vec();
    while let Some(pid) = queue.pop() {
        ticks += processes.get(&pid).map_or(0, |process| process.ticks);
        queue.extend(children.remove(&pid).unwrap_or_default());
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_processors_is_understood() {
        let stat = "cpu  10 20 30 400 5 6 7 8 90 100\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        let expected = Ticks {
            total: 486,
            busy: 73,
            steal: 8,
            own: 0,
        };
        assert_eq!(whole(stat), Some(expected));
        assert_eq!(whole("cpu  10 20"), None);
    }

    #[test]
    fn a_name_may_look_like_fields() {
        let stat = "7 (a) b) 1 (c) S 3 7 7 0 -1 4194304 1 2 3 4 100 20 3 4 20 0 1 0";
        let expected = Process {
            parent: 3,
            ticks: 127,
        };
        assert_eq!(parse(stat), Some(expected));
    }

    #[test]
    fn a_family_is_whoever_descends_from_it() {
        let processes = [(1, 0, 1), (2, 1, 10), (3, 2, 100), (4, 1, 1000)];
        let processes = processes
            .map(|(pid, parent, ticks)| (pid, Process { parent, ticks }))
            .into();
        assert_eq!(family(&processes, &[2]), 110);
        assert_eq!(family(&processes, &[2, 4, 9]), 1110);
    }

    #[test]
    fn shares_are_parts_of_all_the_time_there_was() {
        let span = Ticks {
            total: 200,
            busy: 100,
            steal: 20,
            own: 60,
        };
        let expected = Shares {
            own: 30.0,
            foreign: 20.0,
            steal: 10.0,
        };
        assert_eq!(span.shares(), Some(expected));
        assert_eq!(Ticks::default().shares(), None);
    }
}
