//! A supervisor's time in charge: from the migration over the hold on the database to the loops
//! that run while it is held.
//!
//! ```text
//!   migrate ─▶ seek the hold ─▶ converge ─▶ Serving ─▶ converge on timer, broker's return
//!                    ▲                                   │ hold lost: retire all workers
//!                    └───────────────────────────────────┘
//! ```

use std::{sync::Arc, time::Duration};

use jatis_shared::{
    ids::{Mint, TICKS_PER_SECOND},
    telemetry::Chain,
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    random,
    stage::Stage,
    store::{
        StoreError,
        installation::{Charge, Hold, Identity, Installation},
        migrate,
    },
    sweeper::Sweeper,
    tenancy::Tenancy,
    vitals::Vitals,
};

/// What reigning needs.
pub struct Reign {
    pub tenancy: Tenancy,
    pub vitals: Vitals,
    pub sweeper: Sweeper,
    /// Raised above every id of earlier supervisors before the first message is accepted.
    pub mint: Arc<Mint>,
    pub stage: watch::Sender<Stage>,
    pub stop: CancellationToken,
    /// What the image before this one was in charge of.
    pub charge: Option<Charge>,
}

impl Reign {
    /// Gets in charge and stays it, until `stop`. Gives the hold, to be released when the workers
    /// have stopped; `None` if it never came to one.
    ///
    /// # Errors
    /// What no waiting can mend: a database that is too old, too new or not one.
    pub async fn run(self) -> Result<Option<Installation>, StoreError> {
        let ended = self.seek_and_rule().await;
        self.stage.send_replace(Stage::Stopping);
        ended
    }

    async fn seek_and_rule(&self) -> Result<Option<Installation>, StoreError> {
        if !self.migrate().await? {
            return Ok(None);
        }
        let mut charge = self.charge.clone();
        loop {
            let (identity, epoch) = match charge.take() {
                Some(charge) => (charge.identity, Some(charge.epoch)),
                None => (Identity::of_this_process(), None),
            };
            let hold = Installation::seek(&self.tenancy.config.database, identity, epoch)?;
            if self.wait_until_held(&hold).await {
                self.rule(&hold).await;
            }
            if self.stop.is_cancelled() {
                return Ok(Some(hold));
            }
            // Somebody else has taken over: nothing of ours may run beside theirs.
            self.tenancy.retire().await;
            hold.release().await?;
        }
    }

    /// Brings the schema up to date, trying again while the database is away. False when stopped
    /// before it was done.
    async fn migrate(&self) -> Result<bool, StoreError> {
        let config = &self.tenancy.config;
        let pause = config.worker.probe();
        let mut failures = 0;
        loop {
            let error = match self
                .stop
                .run_until_cancelled(migrate::migrate(&config.database))
                .await
            {
                None => return Ok(false),
                Some(Ok(_)) => return Ok(true),
                Some(Err(error)) if error.is_final() => return Err(error),
                Some(Err(error)) => error,
            };
            warn!(error = %Chain(&error), "the database is not ready; trying again");
            self.stage
                .send_replace(Stage::Starting(match error.tls_fault() {
                    Some(fault) => format!("no TLS with the database: {fault}"),
                    None => "the database is not available".to_owned(),
                }));
            let pause = pause.jittered(failures, random::dice());
            failures += 1;
            self.stop
                .run_until_cancelled(tokio::time::sleep(pause))
                .await;
        }
    }

    /// Waits for the hold; false when it is lost or jatis stops.
    async fn wait_until_held(&self, installation: &Installation) -> bool {
        let mut hold = installation.watch();
        loop {
            let stage = match &*hold.borrow_and_update() {
                Hold::Held { last_tick, .. } => {
                    self.mint.raise(last_tick + TICKS_PER_SECOND);
                    break;
                }
                Hold::Seeking {
                    holder: Some(holder),
                } => Stage::Waiting(format!("another supervisor serves this database: {holder}")),
                Hold::Seeking { holder: None } => {
                    Stage::Starting("seeking the hold on the database".to_owned())
                }
                Hold::Lapsed { .. } | Hold::Lost { .. } => return false,
            };
            let is_news = |now: &mut Stage| std::mem::replace(now, stage.clone()) != stage;
            if self.stage.send_if_modified(is_news)
                && let Stage::Waiting(who) = &stage
            {
                info!("not in charge: {who}");
            }
            match self.stop.run_until_cancelled(hold.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return false,
            }
        }
        installation.keep(Arc::clone(&self.mint));
        true
    }

    /// Everything that is done while in charge, until the hold is lost or jatis stops.
    async fn rule(&self, hold: &Installation) {
        let over = self.stop.child_token();
        info!("in charge of the database");
        tokio::join!(
            self.follow(hold.watch(), &over),
            self.converge(&over),
            self.vitals.observe(&over),
            self.tenancy.janitor.run(&over),
            self.tenancy.tasks.run(&over),
            self.sweeper.run(&over),
            self.remember(hold.watch(), &over),
            self.tenancy.follow_signals(&over),
        );
    }

    /// Writes down how workers fail, and what is still to be written in the end, unless another
    /// supervisor is in charge by then.
    async fn remember(&self, hold: watch::Receiver<Hold>, over: &CancellationToken) {
        let Tenancy {
            memories,
            db,
            config,
            ..
        } = &self.tenancy;
        memories.run(db, config.worker.probe(), over).await;
        let is_held = matches!(&*hold.borrow(), Hold::Held { .. });
        if is_held {
            memories
                .save_within(db, config.database.connect_timeout)
                .await;
        }
    }

    /// Ends the reign when the hold is lost, and tells everybody that it has ended.
    async fn follow(&self, mut hold: watch::Receiver<Hold>, over: &CancellationToken) {
        let is_lost = |hold: &Hold| matches!(hold, Hold::Lost { .. } | Hold::Seeking { .. });
        if let Some(Ok(lost)) = over.run_until_cancelled(hold.wait_for(is_lost)).await {
            error!(hold = ?*lost, "another supervisor has taken the database over; all workers stop");
            self.stage.send_replace(Stage::Waiting(
                "another supervisor has taken over".to_owned(),
            ));
        } else {
            self.stage.send_replace(Stage::Stopping);
        }
        over.cancel();
    }

    /// Converges at once, on a timer, and whenever the broker has come back.
    async fn converge(&self, over: &CancellationToken) {
        let config = &self.tenancy.config;
        let mut broker = self.tenancy.broker.watch();
        // Queues are declared in the first round if the broker answers soon; it need not.
        let connected = broker.wait_for(|link| link.epoch().is_some());
        let limit: Duration = config.rabbitmq.connect_timeout;
        over.run_until_cancelled(timeout(limit, async { drop(connected.await) }))
            .await;
        let mut timer = interval(config.supervision.converge_interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !over.is_cancelled() {
            tokio::select! {
                () = over.cancelled() => return,
                _ = timer.tick() => {}
                Ok(()) = broker.changed() => {}
            }
            match over.run_until_cancelled(self.tenancy.converge()).await {
                None => return,
                Some(Ok(())) => self.serve(over),
                Some(Err(error)) => {
                    warn!(error = %Chain(&error), "what runs cannot be compared with what is wanted; trying again");
                }
            }
        }
    }

    /// From the first round on requests are served.
    fn serve(&self, over: &CancellationToken) {
        let begins = |stage: &mut Stage| {
            let begins = !over.is_cancelled() && *stage != Stage::Serving;
            if begins {
                *stage = Stage::Serving;
            }
            begins
        };
        if self.stage.send_if_modified(begins) {
            info!(tenants = self.tenancy.directory.len(), "serving");
        }
    }
}
