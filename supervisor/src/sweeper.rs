//! Takes away, again and again, what has grown too old: one small step after the other, so that
//! neither the pool nor the disk is ever busy with it for long.

use std::{sync::Arc, time::Duration};

use jatis_shared::{config::Config, telemetry::Chain};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    metrics::Metrics,
    store::{
        Db, StoreError,
        sweep::{self, Swept},
    },
};

/// Sweeps the tables; to be run only by the supervisor in charge.
pub struct Sweeper {
    pub db: Db,
    pub metrics: Metrics,
    pub config: Arc<Config>,
}

impl Sweeper {
    /// Sweeps at once and then every `sweep.interval`, until `stop`. What a failure leaves is found
    /// again by the next round.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut timer = interval(self.config.sweep.interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(timer.tick()).await.is_some() {
            for swept in Swept::ALL {
                match stop.run_until_cancelled(self.sweep(swept)).await {
                    None => return,
                    Some(Ok(0)) => {}
                    Some(Ok(rows)) => {
                        let table = swept.table();
                        info!(table, rows, "{rows} rows of {table} were too old");
                    }
                    Some(Err(error)) => {
                        warn!(error = %Chain(&error), table = swept.table(), "what is too old cannot be deleted yet; trying again");
                    }
                }
            }
        }
    }

    /// Deletes what is too old now; how many rows it were.
    ///
    /// Dropped mid-way, the step under way goes on to its end.
    async fn sweep(&self, swept: Swept) -> Result<u64, StoreError> {
        let (age, rows) = (age(&self.config, swept), self.config.sweep.rows);
        let mut total = 0;
        loop {
            let deleted = self
                .db
                .run(move |client| sweep::step(client, swept, age, rows))
                .await?;
            self.metrics.swept(swept.table(), deleted);
            total += deleted;
            if deleted < u64::from(rows) {
                return Ok(total);
            }
        }
    }
}

/// How long the rows are kept.
fn age(config: &Config, swept: Swept) -> Duration {
    match swept {
        Swept::Tombstones => config.sweep.tombstones_after,
        Swept::MinuteCounts => config.sweep.minute_counts_after,
        Swept::AmqpKeys => config
            .sweep
            .amqp_keys_after
            .max(config.messages.idempotency_window),
    }
}

#[cfg(test)]
mod tests {
    use jatis_shared::config::load;

    use super::*;

    #[test]
    fn a_key_is_kept_for_as_long_as_repetitions_are_recognised() {
        let mut config = load::defaults().expect("defaults");
        let days = |days: u64| Duration::from_hours(24 * days);
        assert_eq!(age(&config, Swept::AmqpKeys), days(7));
        config.messages.idempotency_window = days(9);
        assert_eq!(age(&config, Swept::AmqpKeys), days(9));
        assert_eq!(age(&config, Swept::Tombstones), days(7));
        assert_eq!(age(&config, Swept::MinuteCounts), days(8));
    }
}
