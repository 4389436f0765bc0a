//! Work that outlives the request which began it: a client that leaves cuts nothing short.
//!
//! What a request changes is carried out here to its end, in moments; the request waits for it, and
//! waits outside of it for whatever takes longer. A departure goes on for as long as it takes, but
//! not beyond the supervisor's time in charge.

use std::{
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::error::Error;

/// The tasks. Clones are the same.
#[derive(Debug, Clone)]
pub struct Tasks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Owns them all.
    tracker: TaskTracker,
    charge: Mutex<Charge>,
}

/// A supervisor's time in charge.
#[derive(Debug, Clone)]
pub(super) struct Charge {
    /// When it began.
    pub(super) since: Instant,
    /// Cancelled at its end.
    pub(super) over: CancellationToken,
}

impl Default for Tasks {
    /// Without a time in charge yet: what should last as long ends at once.
    fn default() -> Self {
        let charge = Charge {
            since: Instant::now(),
            over: CancellationToken::new(),
        };
        charge.over.cancel();
        Self {
            inner: Arc::new(Inner {
                tracker: TaskTracker::new(),
                charge: Mutex::new(charge),
            }),
        }
    }
}

impl Tasks {
    /// Lets work go on until `over`, from this call on; what is returned ends when all of it has.
    pub fn run(&self, over: &CancellationToken) -> impl Future<Output = ()> {
        *self.lock() = Charge {
            since: Instant::now(),
            over: over.clone(),
        };
        async {
            over.cancelled().await;
            self.inner.tracker.close();
            self.inner.tracker.wait().await;
        }
    }

    /// Carries out work that takes moments and must not be cut off in between.
    ///
    /// Cancel-safe: the work goes on.
    ///
    /// # Errors
    /// The work's.
    pub(super) async fn carry_out<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        match self.inner.tracker.spawn(work).await {
            Ok(outcome) => outcome,
            Err(end) => match end.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_cancelled) => Err(Error::ShuttingDown),
            },
        }
    }

    /// Begins work that is told when the time in charge ends, and ends then.
    pub(super) fn begin<W>(&self, work: impl FnOnce(Charge) -> W)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let charge = self.lock().clone();
        // Owned by the tracker, which `run` waits for.
        drop(self.inner.tracker.spawn(work(charge)));
    }

    fn lock(&self) -> MutexGuard<'_, Charge> {
        let charge = self.inner.charge.lock();
        charge.unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_goes_on_when_nobody_waits_for_it_any_more() {
        let tasks = Tasks::default();
        let (begin, begun) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let work = async move {
            begun.await.map_err(|_| Error::ShuttingDown)?;
            done.send(()).map_err(|()| Error::ShuttingDown)
        };
        let mut waiting = Box::pin(tasks.carry_out(work));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(waiting);
        begin.send(()).expect("the work goes on");
        is_done.await.expect("it comes to its end");
    }

    #[tokio::test]
    async fn a_time_in_charge_ends_when_all_work_has() {
        let tasks = Tasks::default();
        let over = CancellationToken::new();
        let mut running = Box::pin(tasks.run(&over));
        assert!(running.as_mut().now_or_never().is_none());
        let (last, word) = oneshot::channel();
        let (hold, held) = oneshot::channel::<()>();
        tasks.begin(|charge| async move {
            charge.over.cancelled().await;
            last.send(()).expect("the test waits");
            held.await.expect("the test says when");
        });
        over.cancel();
        word.await.expect("it is told");
        assert!(running.as_mut().now_or_never().is_none());
        hold.send(()).expect("it waits");
        running.await;
    }
}
