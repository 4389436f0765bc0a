//! Publishing: which connection and which channel a tenant's messages take.
//!
//! Each tenant published to lately has a channel of its own (`line`), on the connection its id
//! picks, or on another while that one is down or blocked: then it changes over, and back. The
//! channel used longest ago is closed when a further tenant needs one. A channel that is given up
//! finishes what was handed to it.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jatis_connect::amqp::ConnectError;
use jatis_shared::{config::RabbitMq, ids::TenantId};
use lapin::Connection;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};
use tracing::warn;

use super::{
    BrokerError, Outgoing, PublishError, PublishedHook,
    line::{self, Terms},
    link::{Link, Publishing},
    packer::Packing,
    parcel::Request,
};

pub(super) struct Publishers {
    links: Box<[Link]>,
    terms: Arc<Terms>,
    permits: Arc<Semaphore>,
    channels: Mutex<Channels>,
}

/// The channels in use, and which of them was used longest ago.
struct Channels {
    by_tenant: HashMap<TenantId, Entry>,
    bound: NonZeroUsize,
    /// A channel's queue holds this many requests: all that may be under way, so it is never full.
    queue: usize,
    uses: u64,
    tasks: JoinSet<()>,
}

struct Entry {
    requests: mpsc::Sender<Request>,
    route: Route,
    last_use: u64,
}

/// A connection: the place of its link, and which of that link's connections it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    place: usize,
    epoch: u64,
}

impl Publishers {
    pub(super) fn start(
        config: &RabbitMq,
        timeout: Duration,
        published: PublishedHook,
    ) -> Result<Self, ConnectError> {
        let links = (1..=config.publisher_connections)
            .map(|n| Link::start(config, &format!("jatis publisher {n}")));
        let permits = usize::try_from(config.max_publishing).unwrap_or(Semaphore::MAX_PERMITS);
        let channels = Channels {
            queue: permits,
            by_tenant: HashMap::new(),
            bound: NonZeroUsize::new(usize::from(config.publisher_channels))
                .unwrap_or(NonZeroUsize::MIN),
            uses: 0,
            tasks: JoinSet::new(),
        };
        let terms = Terms {
            timeout,
            packing: Packing::of(config),
            published,
        };
        Ok(Self {
            links: links.collect::<Result<_, _>>()?,
            terms: Arc::new(terms),
            permits: Arc::new(Semaphore::new(permits)),
            channels: Mutex::new(channels),
        })
    }

    pub(super) async fn publish(
        &self,
        tenant: TenantId,
        message: Outgoing,
    ) -> Result<(), PublishError> {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return Err(PublishError::Overloaded);
        };
        let deadline = Instant::now() + self.terms.timeout;
        let (request, answered) = Request::new(message, deadline, permit);
        self.hand(tenant, request)
            .map_err(PublishError::NotPublished)?;
        // The task answers everything it took, by the deadline at the latest.
        answered
            .await
            .unwrap_or(Err(PublishError::Uncertain(BrokerError::Closing)))
    }

    /// Closes a tenant's channel, once what it took is answered.
    pub(super) fn forget(&self, tenant: TenantId) {
        self.lock().by_tenant.remove(&tenant);
    }

    /// Closes every channel in order, then the connections.
    pub(super) async fn close(&self) {
        let mut tasks = {
            let mut channels = self.lock();
            channels.by_tenant.clear();
            std::mem::take(&mut channels.tasks)
        };
        while let Some(ended) = tasks.join_next().await {
            log_end(&ended);
        }
        for link in &self.links {
            link.close().await;
        }
    }

    /// Puts a request into the queue of its tenant's channel, and opens one if there is none that
    /// lives, or none where the tenant publishes now.
    fn hand(&self, tenant: TenantId, mut request: Request) -> Result<(), BrokerError> {
        let (route, connection) = self.route_of(tenant)?;
        let mut channels = self.lock();
        if let Some(entry) = channels.of(tenant, route) {
            match entry.requests.try_send(request) {
                Ok(()) => return Ok(()),
                // The channel has just failed.
                Err(refused) => request = refused.into_inner(),
            }
        }
        let (requests, incoming) = mpsc::channel(channels.queue);
        requests
            .try_send(request)
            .map_err(|_| BrokerError::Closing)?;
        channels.insert(tenant, route, requests);
        let terms = Arc::clone(&self.terms);
        channels
            .tasks
            .spawn(line::serve(tenant, connection, terms, incoming));
        Ok(())
    }

    /// The way a tenant's messages take now: its own link, or the next that takes messages.
    fn route_of(&self, tenant: TenantId) -> Result<(Route, Arc<Connection>), BrokerError> {
        let mut first_error = None;
        for place in places(tenant, self.links.len()) {
            match self.links.get(place).map(Link::publishing) {
                Some(Ok(Publishing { epoch, connection })) => {
                    return Ok((Route { place, epoch }, connection));
                }
                Some(Err(error)) => first_error = first_error.or(Some(error)),
                None => {}
            }
        }
        Err(first_error.unwrap_or(BrokerError::Closing))
    }

    fn lock(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channels {
    /// The tenant's channel, if it is on this route; it is used now.
    fn of(&mut self, tenant: TenantId, route: Route) -> Option<&Entry> {
        self.uses += 1;
        let entry = self.by_tenant.get_mut(&tenant)?;
        entry.last_use = self.uses;
        (entry.route == route).then_some(entry)
    }

    /// Puts a channel in the place of the tenant's own, if it has one, or else of the one used
    /// longest ago, if there are too many.
    fn insert(&mut self, tenant: TenantId, route: Route, requests: mpsc::Sender<Request>) {
        while let Some(ended) = self.tasks.try_join_next() {
            log_end(&ended);
        }
        self.by_tenant.remove(&tenant);
        if self.by_tenant.len() >= self.bound.get() {
            let by_use = self
                .by_tenant
                .iter()
                .min_by_key(|(_, entry)| entry.last_use);
            let oldest = by_use.map(|(tenant, _)| *tenant);
            oldest.and_then(|oldest| self.by_tenant.remove(&oldest));
        }
        let last_use = self.uses;
        let entry = Entry {
            requests,
            route,
            last_use,
        };
        self.by_tenant.insert(tenant, entry);
    }
}

/// The places of all links in the order a tenant tries them: its own first. Tenants choose their
/// ids, so the whole id decides.
fn places(tenant: TenantId, count: usize) -> impl Iterator<Item = usize> {
    let mut hasher = DefaultHasher::new();
    tenant.hash(&mut hasher);
    let links = u64::try_from(count.max(1)).unwrap_or(u64::MAX);
    let own = usize::try_from(hasher.finish() % links).unwrap_or(0);
    (0..count).map(move |step| (own + step) % count)
}

fn log_end(ended: &Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        warn!(%error, "a publishing task ended badly");
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_tenant_tries_every_link_and_their_own_ones_differ_evenly() {
        const TENANTS: u128 = 1000;
        for count in [1, 2, 3, 16] {
            let mut own = vec![0; count];
            for n in 0..TENANTS {
                // Ids as people choose them: the last byte is the same for all.
                let tenant = TenantId::from(Uuid::from_u128(n << 8));
                let mut tried: Vec<usize> = places(tenant, count).collect();
                own[tried[0]] += 1;
                tried.sort_unstable();
                assert!(tried.into_iter().eq(0..count), "{tenant}, {count} links");
            }
            let fair = 1000 / count;
            assert!(
                own.iter().all(|tenants| *tenants > fair / 2),
                "{own:?} of {count} links"
            );
        }
    }
}
