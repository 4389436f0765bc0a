//! Provokes what a consumer cannot ask for: deliveries that were dealt with and come once more.

use jatis_shared::ids::{MessageId, TenantId};
use serde_json::Value;

use super::{Stack, wait};

impl Stack {
    /// Posts messages, has the worker deal with them (store or bury), and kills it before the
    /// broker hears of it: they are the broker's again, which is unreachable from here on. The
    /// blueprint must have a broker proxy, patient statements and little patience in publishing.
    pub(crate) async fn deal_without_acknowledging(
        &self,
        tenant: TenantId,
        payloads: &[Value],
    ) -> Vec<MessageId> {
        let worker = self.worker(tenant).await;
        let before = self.database.settled_count().await;
        let lock = self.database.lock_leaf(tenant).await;
        let mut ids = Vec::new();
        for payload in payloads {
            ids.push(self.client.post(tenant, payload).await.taken());
        }
        wait::until("all are with the worker, and an insert waits", async || {
            let ready = self.broker.ready(tenant).await;
            let inserts = self.database.waiting_inserts(tenant).await;
            if ready == 0 && inserts > 0 {
                Ok(())
            } else {
                Err(format!("{ready} are ready, {inserts} inserts wait"))
            }
        })
        .await;
        // From here on no acknowledgement reaches the broker; those held back are cut off below.
        self.broker_proxy().stall();
        lock.release().await;
        let wanted = before + u64::try_from(ids.len()).expect("a count fits");
        wait::until("all are dealt with", async || {
            match self.database.settled_count().await {
                settled if settled == wanted => Ok(()),
                settled => Err(format!("{settled} of {wanted}")),
            }
        })
        .await;
        worker.kill();
        self.broker_proxy().cut().await;
        ids
    }

    /// Lets the broker deliver again to the worker's successor; `count` deliveries must come.
    pub(crate) async fn redeliver(&self, count: u64) {
        let before = self.broker_proxy().deliveries().redelivered();
        self.broker_proxy().resume();
        wait::until("the messages are delivered again", async || {
            let redelivered = self.broker_proxy().deliveries().redelivered() - before;
            if redelivered >= count {
                Ok(())
            } else {
                Err(format!("{redelivered} of {count}"))
            }
        })
        .await;
    }
}
