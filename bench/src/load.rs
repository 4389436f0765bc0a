//! Tenants that are written to steadily.
//!
//! The load is open: a message is posted when its time has come, whether or not the ones before it
//! are answered, and its latency counts from that time. Whatever makes jatis wait is then seen by
//! every message that a client would have sent meanwhile, and not by the first one alone.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use jatis_shared::ids::{MessageId, TenantId};
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::api::{Api, Posted};

/// Posts that await their answer at a time; one that is due beyond that fails unsent.
const IN_FLIGHT: usize = 4096;
/// What a payload is filled up with, so that it has about 256 bytes.
const FILLING: &str = "The quick brown fox jumps over the lazy dog, and does so again and again: \
                       a payload as there are many, of no more than one line of a letter, read by \
                       nobody and kept for ever, in a table that is made for just this one tenant.";

/// A message and what became of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) tenant: TenantId,
    /// When it was due.
    pub(crate) due: Instant,
    /// From then to its answer.
    pub(crate) latency: Duration,
    pub(crate) posted: Posted,
}

/// The load, while it runs.
#[derive(Debug)]
pub(crate) struct Load {
    /// Closed to end it.
    going: watch::Sender<()>,
    writers: JoinSet<()>,
    samples: Arc<Mutex<Vec<Sample>>>,
}

impl Load {
    /// Begins to write to these tenants, `rate` messages a second to each, out of step with the
    /// others.
    pub(crate) fn start(api: &Api, tenants: &[TenantId], rate: u16) -> Self {
        let (going, watched) = watch::channel(());
        let samples = Arc::new(Mutex::new(Vec::new()));
        let room = Arc::new(Semaphore::new(IN_FLIGHT));
        let period = Duration::from_secs(1) / u32::from(rate);
        let begin = Instant::now() + period;
        let writers = (0..).zip(tenants).map(|(number, tenant)| Writer {
            api: api.clone(),
            tenant: *tenant,
            begin: begin + period * number / u32::try_from(tenants.len()).unwrap_or(u32::MAX),
            period,
            going: watched.clone(),
            room: Arc::clone(&room),
            samples: Arc::clone(&samples),
        });
        let writers = writers.map(Writer::write).collect();
        Self {
            going,
            writers,
            samples,
        }
    }

    /// Ends it when all is answered; every message in the order of the answers.
    ///
    /// # Errors
    /// When a writer broke.
    pub(crate) async fn stop(mut self) -> Result<Vec<Sample>> {
        drop(self.going);
        while let Some(ended) = self.writers.join_next().await {
            ended?;
        }
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(!samples.is_empty(), "nothing was written");
        Ok(std::mem::take(&mut samples))
    }
}

/// Writes to one tenant.
struct Writer {
    api: Api,
    tenant: TenantId,
    begin: Instant,
    period: Duration,
    going: watch::Receiver<()>,
    room: Arc<Semaphore>,
    samples: Arc<Mutex<Vec<Sample>>>,
}

impl Writer {
    async fn write(mut self) {
        let mut posts = JoinSet::new();
        for number in 0.. {
            let due = self.begin + self.period * number;
            tokio::select! {
                () = sleep_until(due) => {}
                _ = self.going.changed() => break,
            }
            let room = Arc::clone(&self.room).try_acquire_owned().ok();
            posts.spawn(self.post(number, due, room));
            while posts.try_join_next().is_some() {}
        }
        while posts.join_next().await.is_some() {}
    }

    fn post(
        &self,
        number: u32,
        due: Instant,
        room: Option<OwnedSemaphorePermit>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (api, tenant, samples) = (self.api.clone(), self.tenant, Arc::clone(&self.samples));
        let body = json!({"payload": {"number": number, "text": FILLING}}).to_string();
        async move {
            let posted = match room {
                Some(_room) => api.post(tenant, Bytes::from(body)).await,
                None => Posted::Failed,
            };
            let sample = Sample {
                tenant,
                due,
                latency: due.elapsed(),
                posted,
            };
            samples
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(sample);
        }
    }
}

/// The latencies of what was due in this time and was answered.
pub(crate) fn answered(
    samples: &[Sample],
    time: &Range<Instant>,
) -> impl Iterator<Item = Duration> {
    samples
        .iter()
        .filter(|sample| time.contains(&sample.due) && sample.posted.id().is_some())
        .map(|sample| sample.latency)
}

impl Posted {
    /// The id of a message that was taken.
    pub(crate) const fn id(self) -> Option<MessageId> {
        match self {
            Self::Stored(id) | Self::Queued(id) => Some(id),
            Self::Failed => None,
        }
    }
}
