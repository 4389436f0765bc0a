//! The database as the pool threads reach it: connections, how many, and what their errors mean.
//!
//! r2d2 keeps the connections, and closes those that idle. What it keeps is a [`Link`], which
//! starts out empty: the thread that takes it out connects it. r2d2's own connecting loses the
//! SQLSTATE, goes on in the background for ever once it has failed, one attempt for each thread
//! that asked, and would so open far more connections than allowed when the server comes back.
//!
//! r2d2 cannot be resized, so it is built for the most threads there may be, and a gate in front
//! lets as many threads through as there may be connections now.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    error::Error,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use jatis_connect::postgres::{Target, TargetError};
use jatis_shared::{control::Spec, telemetry::Chain};
use postgres::{Client, error::DbError};
use r2d2::{ManageConnection, PooledConnection};
use scheduled_thread_pool::ScheduledThreadPool;

use crate::{
    disposition::Failure,
    statements::{Prepared, Statements},
};

/// The connections of this worker. Shared by its pool threads.
pub(crate) struct Store {
    pool: r2d2::Pool<Links>,
    /// r2d2's thread, which closes connections that idle.
    closer: Arc<ScheduledThreadPool>,
    gate: Arc<Gate>,
    target: Target,
    statements: Statements,
}

/// Keys that cannot be worked by, or a host that gives too little.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("the connection pool cannot be built")]
    Pool(#[source] r2d2::Error),
}

impl Store {
    /// Connects nowhere yet.
    pub(crate) fn new(spec: &Spec) -> Result<Self, StoreError> {
        let keys = &spec.database;
        let gate = Arc::new(Gate::new(spec.connections, spec.worker.max_threads));
        let closer = ScheduledThreadPool::builder()
            .num_threads(1)
            .thread_name_pattern("links")
            .build();
        let closer = Arc::new(closer);
        let pool = r2d2::Pool::builder()
            .max_size(u32::from(spec.worker.max_threads))
            .min_idle(Some(0))
            .idle_timeout(Some(keys.idle_timeout))
            .max_lifetime(None)
            .test_on_check_out(false)
            .connection_timeout(keys.connect_timeout)
            .thread_pool(Arc::clone(&closer))
            .build(Links(Arc::clone(&gate)))
            .map_err(StoreError::Pool)?;
        Ok(Self {
            pool,
            closer,
            gate,
            target: target(spec)?,
            statements: Statements::of(spec.tenant),
        })
    }

    /// Lets this many threads have a connection from now on. Of those that are too many the idle
    /// ones are closed at once, the others when they are given back: another tenant is to have them.
    pub(crate) fn resize(&self, connections: u16) {
        self.gate.resize(usize::from(connections));
        let (pool, gate) = (self.pool.clone(), Arc::clone(&self.gate));
        // To close one blocks. What is taken out while there are too many is not kept.
        self.closer
            .execute(move || while gate.has_too_many() && pool.try_get().is_some() {});
    }

    /// Runs `work` on a connection. Blocks while all are taken, and to connect.
    ///
    /// # Errors
    /// When there is no connection, or `work` fails. Every connection is closed then, unless what
    /// failed was the statement: what has broken one has broken all, and those that idle would
    /// tell it only one after the other.
    pub(crate) fn run<T>(
        &self,
        work: impl FnOnce(&mut Open) -> Result<T, postgres::Error>,
    ) -> Result<T, Failure> {
        let _passage = self.gate.pass();
        let (mut link, mut open) = self.check_out()?;
        let outcome = work(&mut open).map_err(|error| failure(&error, error.as_db_error()));
        match &outcome {
            Err(failure) if !spares_the_connection(failure) => self.gate.begin_era(),
            Ok(_) | Err(_) => link.open = Some(open),
        }
        outcome
    }

    /// A connection, and the link to put it back into.
    fn check_out(&self) -> Result<(PooledConnection<Links>, Open), Failure> {
        loop {
            let mut link = self.pool.get().map_err(|error| Failure::Unreachable {
                message: error.to_string(),
            })?;
            if let Some(open) = link.open.take()
                && self.gate.keeps(&open.counted)
            {
                return Ok((link, open));
            }
            if let Some(counted) = Counted::if_there_is_room(&self.gate) {
                return Ok((link, self.connect(counted)?));
            }
            // Every connection allowed exists, and this thread has none of them though it has
            // passed the gate: so one idles. r2d2 drops the empty link and gives that one next.
            drop(link);
        }
    }

    fn connect(&self, counted: Counted) -> Result<Open, Failure> {
        let connected = self.target.connect();
        let mut client = connected.map_err(|error| failure(&error, error.refusal()))?;
        let prepared = self.statements.prepare(&mut client);
        Ok(Open {
            prepared: prepared.map_err(|error| failure(&error, error.as_db_error()))?,
            client,
            counted,
        })
    }
}

/// What r2d2 keeps: a connection, or room for one.
#[derive(Default)]
pub(crate) struct Link {
    open: Option<Open>,
}

/// A connection to the database, with what is prepared on it.
pub(crate) struct Open {
    pub(crate) client: Client,
    pub(crate) prepared: Prepared,
    counted: Counted,
}

impl Open {
    /// The slot of `message_counts` that no other connection of this worker has now.
    pub(crate) const fn slot(&self) -> i16 {
        self.counted.slot
    }
}

/// Makes empty links for r2d2.
#[derive(Debug)]
struct Links(Arc<Gate>);

impl ManageConnection for Links {
    type Connection = Link;
    type Error = Infallible;

    fn connect(&self) -> Result<Link, Infallible> {
        Ok(Link::default())
    }

    fn is_valid(&self, _link: &mut Link) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, link: &mut Link) -> bool {
        let is_sound = |open: &Open| !open.client.is_closed() && self.0.keeps(&open.counted);
        !link.open.as_ref().is_some_and(is_sound)
    }
}

/// Counts who may hold a connection, and the connections there are.
#[derive(Debug)]
struct Gate {
    state: Mutex<GateState>,
    opened: Condvar,
}

#[derive(Debug)]
struct GateState {
    limit: usize,
    inside: usize,
    /// Slots no connection has; the lowest is given first, so that few rows are ever used.
    free_slots: BTreeSet<i16>,
    connections: usize,
    /// Grows when the database is lost: connections of an older era are not used again.
    era: u64,
}

impl Gate {
    fn new(limit: u16, max_connections: u16) -> Self {
        let slots = i16::try_from(max_connections).unwrap_or(i16::MAX);
        Self {
            state: Mutex::new(GateState {
                limit: usize::from(limit),
                inside: 0,
                free_slots: (0..slots).collect(),
                connections: 0,
                era: 0,
            }),
            opened: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resize(&self, limit: usize) {
        self.lock().limit = limit;
        self.opened.notify_all();
    }

    fn pass(&self) -> Passage<'_> {
        let full = |state: &mut GateState| state.inside >= state.limit;
        let state = self.opened.wait_while(self.lock(), full);
        state.unwrap_or_else(PoisonError::into_inner).inside += 1;
        Passage(self)
    }

    fn begin_era(&self) {
        self.lock().era += 1;
    }

    /// Whether a connection may be used on: of this era, and not one too many.
    fn keeps(&self, counted: &Counted) -> bool {
        let state = self.lock();
        state.era == counted.era && state.connections <= state.limit
    }

    fn has_too_many(&self) -> bool {
        let state = self.lock();
        state.connections > state.limit
    }
}

/// The right to hold a connection.
struct Passage<'a>(&'a Gate);

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.0.lock().inside -= 1;
        self.0.opened.notify_one();
    }
}

/// A connection's entry in the gate's books, and its slot.
struct Counted {
    gate: Arc<Gate>,
    slot: i16,
    era: u64,
}

impl Counted {
    fn if_there_is_room(gate: &Arc<Gate>) -> Option<Self> {
        let mut state = gate.lock();
        if state.connections >= state.limit {
            return None;
        }
        let slot = state.free_slots.pop_first()?;
        state.connections += 1;
        Some(Self {
            gate: Arc::clone(gate),
            slot,
            era: state.era,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.connections -= 1;
        state.free_slots.insert(self.slot);
    }
}

/// How this worker connects.
fn target(spec: &Spec) -> Result<Target, TargetError> {
    let keys = &spec.database;
    let name = format!("jatis worker {}", spec.tenant);
    let timeout = keys.statement_timeout.as_millis();
    Target::new(keys, &name, &[("statement_timeout", timeout)])
}

/// Whether the statement failed and the connection is as good as before. A statement prepared
/// before a table was changed fails for ever on its connection, so all else costs it.
fn spares_the_connection(failure: &Failure) -> bool {
    match failure {
        Failure::Refused { sqlstate, .. } => {
            let class = sqlstate.get(..2).unwrap_or_default();
            matches!(class, "22" | "23" | "40" | "54") || sqlstate == "57014"
        }
        Failure::Unreachable { .. } => false,
    }
}

/// What an error means, with what the server said if it comes from there.
fn failure(error: &dyn Error, refusal: Option<&DbError>) -> Failure {
    match refusal {
        Some(refusal) => Failure::Refused {
            sqlstate: refusal.code().code().to_owned(),
            message: refusal.message().to_owned(),
            detail: refusal.detail().map(str::to_owned),
        },
        None => Failure::Unreachable {
            message: Chain(error).to_string(),
        },
    }
}
