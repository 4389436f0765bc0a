//! What a worker says, sorted: what its life depends on becomes a report, the rest goes where it
//! is awaited or into the log.

use std::time::Duration;

use jatis_shared::control::{Confinement, Event, Frame, Heartbeat, ResizeSource, VERSION};
use tracing::{debug, warn};

use super::Caretaker;
use crate::fleet::{
    lifecycle::{self, Report},
    order::Size,
    snapshot::Progress,
};

impl Caretaker {
    /// Takes in a frame; gives the event if the lifecycle depends on it.
    pub(super) fn hear(&mut self, frame: Frame<Event>) -> Option<lifecycle::Event> {
        let (tenant, generation) = (self.record.tenant, self.lifecycle.generation());
        // A worker learns its generation from its spec, after its hello.
        let is_hello = matches!(frame.body, Event::Hello { .. });
        if frame.generation != generation && !is_hello {
            debug!(tenant.id = %tenant, generation, of = frame.generation, "a stale frame is dropped");
            return None;
        }
        if let Event::Hello {
            min_version: min,
            max_version: max,
            ..
        } = frame.body
            && !(min..=max).contains(&VERSION)
        {
            let how = format!("it speaks protocol {min} to {max}, not {VERSION}");
            return Some(lifecycle::Event::Misbehaved { generation, how });
        }
        let report = self.sort(frame.body)?;
        Some(lifecycle::Event::Told { generation, report })
    }

    fn sort(&mut self, event: Event) -> Option<Report> {
        let (tenant, generation) = (self.record.tenant, self.lifecycle.generation());
        match event {
            Event::Hello { .. } => return Some(Report::Hello),
            Event::Confined(confinement) => {
                self.check(&confinement);
                return Some(Report::Confined);
            }
            Event::Ready { .. } => return Some(Report::Ready),
            Event::Heartbeat(heartbeat) => {
                let paused = heartbeat.paused;
                let busy = Duration::from_millis(heartbeat.oldest_busy_ms);
                self.count(heartbeat);
                return Some(Report::Heartbeat { paused, busy });
            }
            Event::Resized {
                threads,
                connections,
                source,
            } => {
                self.record.resized(threads);
                let size = Size {
                    threads,
                    connections,
                };
                let signalled = source == ResizeSource::Signal;
                if signalled {
                    (self.shared.hooks.signalled)(tenant, threads);
                }
                return Some(Report::Resized { size, signalled });
            }
            Event::Refused { code, detail } => {
                warn!(tenant.id = %tenant, generation, ?code, ?detail,
                    "the worker of {tenant} refused a command");
                return Some(Report::Refused);
            }
            Event::Sync => return Some(Report::Sync),
            Event::Stored { ids } => (self.shared.hooks.stored)(&ids),
            Event::Fault { detail } => {
                warn!(tenant.id = %tenant, generation, ?detail,
                    "the worker of {tenant} reports a fault");
            }
            Event::Drained { requeued } => {
                self.record.requeued = Some(requeued);
                debug!(tenant.id = %tenant, generation, requeued, "the worker of {tenant} drained");
            }
            Event::Begin { suspect, alone } => {
                if self.suspects.begun(suspect, alone) {
                    self.remember();
                }
            }
            Event::NeedRung { .. } | Event::Pong { .. } | Event::Unknown => {
                debug!(tenant.id = %tenant, generation, "an event nobody awaits is dropped");
            }
        }
        None
    }

    fn check(&self, confinement: &Confinement) {
        let Confinement {
            no_new_privs,
            undumpable,
            no_core,
        } = *confinement;
        if !(no_new_privs && undumpable && no_core) {
            let tenant = self.record.tenant;
            warn!(tenant.id = %tenant, no_new_privs, undumpable, no_core,
                "the worker of {tenant} is confined only in part");
        }
    }

    fn count(&mut self, heartbeat: Heartbeat) {
        let progress = self.record.count(heartbeat);
        if progress != Progress::default() {
            (self.shared.hooks.progress)(self.record.tenant, progress);
        }
    }
}
