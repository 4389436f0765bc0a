//! Tests of `pipeline`: what becomes of batches, with a database that is only thought of.

use std::{sync::Arc, time::Duration};

use jatis_shared::{
    config,
    control::Spec,
    ids::{Mint, TenantId, TenantNumber},
};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{insert::Writer, message::Message, store::Store};

fn spec() -> Spec {
    let config = config::load::defaults().expect("defaults");
    Spec {
        tenant: TenantId::from(Uuid::nil()),
        number: TenantNumber::try_from(5).expect("a number"),
        threads: 1,
        connections: 1,
        paused: false,
        prefetch: 64,
        probation: None,
        mint_floor: 0,
        orphan_timeout: Duration::ZERO,
        drain_timeout: Duration::ZERO,
        heartbeat_interval: Duration::ZERO,
        rabbitmq: config.rabbitmq,
        database: config.database,
        worker: config.worker,
        log: config.log,
    }
}

/// A pipeline without threads: what it would hand out stays where a test can take it.
fn pipeline() -> Pipeline {
    let spec = spec();
    let mint = Arc::new(Mint::above(0));
    let writer = Writer {
        tenant: spec.tenant,
        number: spec.number,
        mint: Arc::clone(&mint),
    };
    let store = Store::new(&spec).expect("nothing is connected yet");
    let (reports, _unread) = tokio::sync::mpsc::channel(1);
    let pool = Pool::new(Arc::new(store), Arc::new(writer), reports);
    let intake = Intake {
        number: spec.number,
        mint,
    };
    let mut pipeline = Pipeline::new(&spec, intake, pool);
    pipeline.connected(1);
    pipeline
}

fn now() -> Now {
    Now {
        instant: tokio::time::Instant::now().into_std(),
        time: Timestamp::UNIX_EPOCH,
    }
}

const fn tag(number: u64) -> Tag {
    Tag {
        generation: 1,
        number,
    }
}

/// A delivery of one message that waits to be begun.
fn waits(pipeline: &mut Pipeline, number: u64) {
    let message = Message::sample(number, b"1");
    pipeline.ledger.open(message.tag, 1);
    pipeline.waiting.push(message, now().instant);
}

/// A batch of this many deliveries, one message each, all begun.
fn begun(pipeline: &mut Pipeline, size: u64) -> Batch {
    let messages: Vec<_> = (1..=size).map(|n| Message::sample(n, b"1")).collect();
    for message in &messages {
        pipeline.ledger.open(message.tag, 1);
        pipeline.ledger.begin(message.tag);
    }
    Batch {
        messages,
        conflicts: 0,
    }
}

fn refused(sqlstate: &str) -> Failure {
    Failure::Refused {
        sqlstate: sqlstate.to_owned(),
        message: "no".to_owned(),
        detail: Some("why".to_owned()),
    }
}

/// Writes `batch` and all that becomes of it to a database that refuses `poison`. Gives the
/// numbers stored, the numbers buried, and the transactions it took.
fn written(pipeline: &mut Pipeline, batch: Batch, poison: &[u64]) -> (Vec<u64>, Vec<u64>, usize) {
    let (mut stored, mut buried, mut transactions) = (Vec::new(), Vec::new(), 0);
    pipeline.kept.push(batch);
    while let Some(batch) = pipeline.kept.pop() {
        transactions += 1;
        let is_refused =
            |message: &Message| message.fault.is_none() && poison.contains(&message.tag.number);
        if batch.messages.iter().any(is_refused) {
            pipeline.failed(batch, &refused("22P05"), now());
            continue;
        }
        for message in &batch.messages {
            let place = if message.fault.is_none() {
                &mut stored
            } else {
                &mut buried
            };
            place.push(message.tag.number);
        }
        pipeline.written(&batch, Tally::default(), now());
    }
    (stored, buried, transactions)
}

#[test]
fn one_poison_among_500_is_buried_with_its_neighbours_in_few_transactions() {
    for poison in [1, 2, 250, 321, 499, 500] {
        let mut pipeline = pipeline();
        let batch = begun(&mut pipeline, 500);
        let (stored, buried, transactions) = written(&mut pipeline, batch, &[poison]);
        assert_eq!((stored.len(), buried), (499, vec![poison]));
        assert!(transactions <= 20, "{poison}: {transactions} transactions");
        assert_eq!(pipeline.ledger.unacknowledged(), 0);
    }
}

#[test]
fn an_outage_keeps_the_batch_and_pauses() {
    let mut pipeline = pipeline();
    let batch = begun(&mut pipeline, 3);
    let outage = Failure::Unreachable {
        message: "gone".to_owned(),
    };
    pipeline.failed(batch, &outage, now());
    assert!(pipeline.is_paused() && pipeline.orders.is_empty());
    let kept = pipeline.kept.pop().expect("it is kept");
    assert_eq!(kept.messages.len(), 3);
    assert!(kept.messages.iter().all(|message| message.fault.is_none()));
    pipeline.resume(now());
    assert!(!pipeline.is_paused() && pipeline.orders.is_empty());
}

#[test]
fn a_long_pause_gives_everything_back_once_and_consumes_again_after_it() {
    let mut pipeline = pipeline();
    let batch = begun(&mut pipeline, 2);
    pipeline.failed(batch, &refused("57P01"), now());
    let mut later = now();
    later.instant += pipeline.keys.requeue_after * 2;
    pipeline.step(later);
    pipeline.step(later);
    assert_eq!(std::mem::take(&mut pipeline.orders), [Order::Cancel]);
    pipeline.cancelled();
    pipeline.step(later);
    let tag = |number| {
        Order::GiveBack(Tag {
            generation: 1,
            number,
        })
    };
    assert_eq!(std::mem::take(&mut pipeline.orders), [tag(1), tag(2)]);
    assert!(pipeline.kept.is_empty());
    pipeline.resume(later);
    assert_eq!(pipeline.orders, [Order::Consume]);
}

#[test]
fn a_drain_gives_back_what_is_unbegun_and_finishes_the_rest() {
    let mut pipeline = pipeline();
    let batch = begun(&mut pipeline, 1);
    let unbegun = Message::sample(2, b"1");
    pipeline.ledger.open(unbegun.tag, 1);
    pipeline.waiting.push(unbegun, now().instant);
    pipeline.kept.push(batch);
    pipeline.drain();
    pipeline.drain();
    assert_eq!(std::mem::take(&mut pipeline.orders), [Order::Cancel]);
    assert!(!pipeline.is_drained());
    pipeline.cancelled();
    let second = Tag {
        generation: 1,
        number: 2,
    };
    assert_eq!(
        std::mem::take(&mut pipeline.orders),
        [Order::GiveBack(second)]
    );
    assert!(pipeline.waiting.is_empty() && !pipeline.is_drained());
    let batch = pipeline.kept.pop().expect("it was kept");
    pipeline.written(&batch, Tally::default(), now());
    assert!(pipeline.is_drained());
    assert_eq!(pipeline.requeued(), 1);
    let first = Tag {
        generation: 1,
        number: 1,
    };
    assert_eq!(pipeline.orders, [Order::Acknowledge(first)]);
}

#[test]
fn a_held_pipeline_gives_back_what_is_unbegun_finishes_the_rest_and_goes_on_when_released() {
    let mut pipeline = pipeline();
    let batch = begun(&mut pipeline, 1);
    waits(&mut pipeline, 2);
    pipeline.kept.push(batch);
    pipeline.hold();
    pipeline.hold();
    assert_eq!(std::mem::take(&mut pipeline.orders), [Order::Cancel]);
    pipeline.cancelled();
    assert_eq!(
        std::mem::take(&mut pipeline.orders),
        [Order::GiveBack(tag(2))]
    );
    assert!(!pipeline.is_held(), "one has begun");
    let batch = pipeline.kept.pop().expect("it was kept");
    pipeline.written(&batch, Tally::default(), now());
    assert!(pipeline.is_held() && !pipeline.is_drained());
    assert_eq!(
        std::mem::take(&mut pipeline.orders),
        [Order::Acknowledge(tag(1))]
    );
    pipeline.release();
    pipeline.release();
    assert!(!pipeline.is_held());
    assert_eq!(std::mem::take(&mut pipeline.orders), [Order::Consume]);
    waits(&mut pipeline, 3);
    assert_eq!(pipeline.ledger.unacknowledged(), 1);
    assert!(pipeline.orders.is_empty());
}

#[test]
fn a_pipeline_released_before_it_was_closed_keeps_what_it_has() {
    let mut pipeline = pipeline();
    waits(&mut pipeline, 1);
    pipeline.hold();
    pipeline.release();
    pipeline.cancelled();
    assert_eq!(pipeline.orders, [Order::Cancel, Order::Consume]);
    assert_eq!(pipeline.waiting.len(), 1);
}

#[test]
fn what_still_arrives_at_a_held_pipeline_goes_back_unbegun() {
    let mut pipeline = pipeline();
    pipeline.hold();
    pipeline.cancelled();
    pipeline.orders.clear();
    let delivery = Delivery::mock(1, "".into(), "".into(), false, b"1".to_vec());
    pipeline.delivered(tag(1), delivery, now());
    assert_eq!(pipeline.orders, [Order::GiveBack(tag(1))]);
    assert!(pipeline.waiting.is_empty() && pipeline.is_held());
}

#[test]
fn a_held_pipeline_keeps_nothing_for_a_database_that_is_away() {
    let mut pipeline = pipeline();
    let batch = begun(&mut pipeline, 3);
    pipeline.hold();
    pipeline.cancelled();
    pipeline.orders.clear();
    pipeline.failed(batch, &refused("57P03"), now());
    assert!(!pipeline.is_held());
    pipeline.step(now());
    let all = [1, 2, 3].map(|number| Order::GiveBack(tag(number)));
    assert_eq!(std::mem::take(&mut pipeline.orders), all);
    assert!(pipeline.is_held() && !pipeline.is_paused());
    pipeline.release();
    assert_eq!(pipeline.orders, [Order::Consume]);
}

#[test]
fn what_is_settled_behind_something_given_back_is_acknowledged() {
    let mut pipeline = pipeline();
    let mut batch = begun(&mut pipeline, 2);
    let second = batch.messages.pop().expect("two were made");
    let settled = Batch {
        messages: vec![second],
        conflicts: 0,
    };
    pipeline.written(&settled, Tally::default(), now());
    pipeline.failed(batch, &refused("57P03"), now());
    pipeline.hold();
    pipeline.cancelled();
    pipeline.orders.clear();
    pipeline.step(now());
    assert_eq!(
        pipeline.orders,
        [Order::GiveBack(tag(1)), Order::Acknowledge(tag(2))]
    );
    assert!(pipeline.is_held());
}

#[test]
fn a_held_pipeline_drains_at_once() {
    let mut pipeline = pipeline();
    pipeline.hold();
    pipeline.cancelled();
    pipeline.orders.clear();
    pipeline.drain();
    pipeline.release();
    assert!(pipeline.is_drained() && pipeline.orders.is_empty());
}

#[test]
fn a_drain_does_not_wait_for_a_database_that_is_away() {
    let mut pipeline = pipeline();
    let batch = begun(&mut pipeline, 3);
    pipeline.drain();
    pipeline.cancelled();
    pipeline.failed(batch, &refused("57P03"), now());
    assert!(pipeline.is_drained());
    assert_eq!(pipeline.requeued(), 3);
}

#[test]
fn a_lost_channel_leaves_nothing_that_would_be_written_twice() {
    let mut pipeline = pipeline();
    let batch = begun(&mut pipeline, 4);
    pipeline
        .waiting
        .push(Message::sample(9, b"1"), now().instant);
    pipeline.channel_lost();
    pipeline.connected(2);
    // It was with a thread when the channel broke.
    pipeline.failed(batch.clone(), &refused("40001"), now());
    assert!(pipeline.kept.is_empty() && pipeline.waiting.is_empty());
    pipeline.written(&batch, Tally::default(), now());
    assert!(pipeline.orders.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_poison_every_neighbour_is_stored_and_all_is_acknowledged(
        size in 1_u64..200, poison in proptest::collection::btree_set(1_u64..200, 0..8),
    ) {
        let mut pipeline = pipeline();
        let batch = begun(&mut pipeline, size);
        let poison: Vec<_> = poison.into_iter().filter(|number| *number <= size).collect();
        let (mut stored, mut buried, transactions) = written(&mut pipeline, batch, &poison);
        stored.sort_unstable();
        buried.sort_unstable();
        prop_assert_eq!(&buried, &poison);
        prop_assert!(stored.into_iter().eq((1..=size).filter(|number| !poison.contains(number))));
        prop_assert!(transactions <= 1 + poison.len() * 18);
        prop_assert_eq!(pipeline.ledger.unacknowledged(), 0);
    }
}
