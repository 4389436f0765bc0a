//! Clients that post one message after the other for as long as a test wants.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use jatis_shared::ids::TenantId;
use serde_json::json;
use tokio::{sync::watch, task::JoinSet};

use super::{
    client::{Client, Posted},
    wait,
};

/// Posts that one poster makes at most, should a test forget to stop it.
const MAX_POSTS: u32 = 100_000;

/// Parallel posters. Each ends when the load is stopped, or at its first message that is not taken:
/// whoever stops the supervisor ends the load.
#[derive(Debug)]
pub(crate) struct Load {
    /// Closed to stop the posters.
    going: watch::Sender<()>,
    posters: JoinSet<()>,
    answered: Arc<AtomicU64>,
}

impl Load {
    /// Starts `posters` clients, spread over the tenants.
    pub(crate) fn start(client: &Client, tenants: &[TenantId], posters: usize) -> Self {
        let (going, watched) = watch::channel(());
        let answered = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for (number, tenant) in tenants.iter().cycle().take(posters).enumerate() {
            let poster = Poster {
                client: client.clone(),
                tenant: *tenant,
                number,
                going: watched.clone(),
                answered: Arc::clone(&answered),
            };
            tasks.spawn(poster.post());
        }
        Self {
            going,
            posters: tasks,
            answered,
        }
    }

    /// Waits until `count` further messages have been answered 201 or 202.
    pub(crate) async fn answers(&self, count: u64) {
        let wanted = self.answered.load(Ordering::Relaxed) + count;
        wait::until("further messages are answered", async || {
            let answered = self.answered.load(Ordering::Relaxed);
            if answered >= wanted {
                Ok(())
            } else {
                Err(format!("{answered} of {wanted}"))
            }
        })
        .await;
    }

    /// Ends the posters after their present request; how many messages they were answered.
    pub(crate) async fn stop(self) -> u64 {
        let Self {
            going,
            mut posters,
            answered,
        } = self;
        drop(going);
        let ended = async {
            while let Some(ended) = posters.join_next().await {
                ended.expect("a poster does not panic");
            }
        };
        wait::bounded("the posters end", ended).await;
        answered.load(Ordering::Relaxed)
    }
}

struct Poster {
    client: Client,
    tenant: TenantId,
    number: usize,
    going: watch::Receiver<()>,
    answered: Arc<AtomicU64>,
}

impl Poster {
    async fn post(self) {
        for n in 0..MAX_POSTS {
            if self.going.has_changed().is_err() {
                return;
            }
            let payload = json!({"poster": self.number, "n": n});
            match self.client.post(self.tenant, &payload).await {
                Posted::Stored(_) | Posted::Queued(_) => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
                Posted::Refused(_) | Posted::Lost(_) => return,
            }
        }
    }
}
