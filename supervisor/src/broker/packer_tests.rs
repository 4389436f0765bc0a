//! Tests of `packer`, and of what its parcels look like.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use jatis_shared::{envelope, ids::MessageId};
use lapin::types::AMQPValue;
use proptest::prelude::*;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::*;
use crate::broker::{Outgoing, parcel::Answered};

const SMALL: Packing = Packing {
    messages: 4,
    bytes: 1000,
    parcels_under_way: 1,
};

/// A queue of requests with the sizes of these payloads, and what each will be answered.
struct Queue {
    sender: mpsc::Sender<Request>,
    packer: Packer,
    answered: Vec<Answered>,
}

impl Queue {
    fn new(packing: Packing) -> Self {
        let (sender, incoming) = mpsc::channel(1000);
        Self {
            sender,
            packer: Packer::new(packing, incoming),
            answered: Vec::new(),
        }
    }

    fn of(packing: Packing, payloads: &[usize]) -> Self {
        let mut queue = Self::new(packing);
        for bytes in payloads {
            queue.ask(*bytes, Instant::now() + Duration::from_secs(60));
        }
        queue
    }

    /// The ids count from 0.
    fn ask(&mut self, payload_bytes: usize, deadline: Instant) {
        let number = self.answered.len();
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned();
        let (request, answered) = Request::new(
            message(number, payload_bytes),
            deadline,
            permit.expect("one"),
        );
        self.sender.try_send(request).expect("there is room");
        self.answered.push(answered);
    }

    /// What goes next; `None` when nothing waits.
    fn next(&mut self) -> Option<Parcel> {
        self.packer.next().now_or_never().flatten()
    }

    /// What a request was answered.
    fn answer(&mut self, number: usize) -> Option<Result<(), PublishError>> {
        self.answered[number].try_recv().ok()
    }
}

fn id(number: usize) -> MessageId {
    MessageId::from(Uuid::from_u128(
        u128::try_from(number).expect("it is small"),
    ))
}

fn message(number: usize, payload_bytes: usize) -> Outgoing {
    Outgoing {
        id: id(number),
        payload: Bytes::from(vec![b' '; payload_bytes]),
        request_id: format!("request-{number}"),
        awaited: false,
        passage: tokio_util::task::TaskTracker::new().token(),
    }
}

/// The ids in a parcel, as a worker takes it apart.
fn ids(parcel: &Parcel) -> Vec<MessageId> {
    if parcel.messages() == 1 {
        return vec![parcel.id()];
    }
    let entries = envelope::unpack(parcel.body()).expect("a batch");
    entries.into_iter().map(|(id, _)| id).collect()
}

#[test]
fn parcels_end_at_either_bound_and_a_large_message_goes_alone() {
    for (payloads, expected) in [
        (&[][..], &[][..]),
        (&[1], &[1]),
        (&[1, 1, 1], &[3]),
        (&[1, 1, 1, 1, 1], &[4, 1]),
        // 20 bytes of each entry are its head.
        (&[480, 480, 480], &[2, 1]),
        (&[480, 481, 480], &[1, 1, 1]),
        (&[5000, 1, 1], &[1, 2]),
        (&[1, 5000, 1], &[1, 1, 1]),
        (&[980, 980], &[1, 1]),
    ] {
        let mut queue = Queue::of(SMALL, payloads);
        let sizes: Vec<usize> = std::iter::from_fn(|| queue.next())
            .map(|parcel| parcel.messages())
            .collect();
        assert_eq!(sizes, expected, "{payloads:?}");
    }
}

#[test]
fn without_coalescing_each_message_goes_by_itself() {
    let mut config = jatis_shared::config::load::defaults()
        .expect("the defaults are valid")
        .rabbitmq;
    config.coalesce = false;
    let mut queue = Queue::of(Packing::of(&config), &[0, 1, 2]);
    let parcels: Vec<Parcel> = std::iter::from_fn(|| queue.next()).collect();
    assert!(parcels.iter().map(Parcel::id).eq((0..3).map(id)));
    assert!(parcels.iter().all(|parcel| parcel.messages() == 1));
}

proptest! {
    #[test]
    fn every_message_goes_once_and_in_order_in_parcels_within_bounds(
        payloads in proptest::collection::vec(0_usize..600, 0..60),
        messages in 1_usize..10,
    ) {
        let packing = Packing { messages, ..SMALL };
        let mut queue = Queue::of(packing, &payloads);
        let parcels: Vec<Parcel> = std::iter::from_fn(|| queue.next()).collect();
        let packed: Vec<MessageId> = parcels.iter().flat_map(ids).collect();
        prop_assert!(packed.into_iter().eq((0..payloads.len()).map(id)));
        for parcel in &parcels {
            prop_assert!(parcel.messages() <= messages);
            if parcel.messages() > 1 {
                prop_assert_eq!(parcel.body().len(), parcel.bytes());
                prop_assert!(parcel.bytes() <= packing.bytes);
            }
        }
        // No parcel has room for what follows it: nothing is sent in more parcels than need be.
        let mut behind = 0;
        for parcel in &parcels {
            behind += parcel.messages();
            let next = payloads.get(behind).map(|payload| envelope::entry_bytes(*payload));
            let is_full = parcel.messages() == messages;
            prop_assert!(is_full || next.is_none_or(|next| parcel.bytes() + next > packing.bytes));
        }
    }
}

#[test]
fn a_late_request_is_answered_and_not_sent() {
    let mut queue = Queue::new(SMALL);
    let now = Instant::now();
    for deadline in [now, now + Duration::from_secs(60), now] {
        queue.ask(1, deadline);
    }
    let parcel = queue.next().expect("one waits");
    assert_eq!(ids(&parcel), [id(1)]);
    assert!(queue.next().is_none());
    for late in [0, 2] {
        let answer = queue.answer(late);
        assert!(
            matches!(
                answer,
                Some(Err(PublishError::NotPublished(BrokerError::Timeout)))
            ),
            "{answer:?}"
        );
    }
    assert!(queue.answer(1).is_none(), "it is under way");
}

#[test]
fn a_request_whose_sender_has_left_is_not_sent() {
    let mut queue = Queue::of(SMALL, &[1, 1, 1]);
    let left = queue.answered.remove(1);
    drop(left);
    let parcel = queue.next().expect("two wait");
    assert_eq!(ids(&parcel), [id(0), id(2)]);
}

#[test]
fn everybody_in_a_parcel_is_told_what_became_of_it_and_nobody_else() {
    let mut queue = Queue::of(SMALL, &[1, 1, 950]);
    let parcel = queue.next().expect("they wait");
    assert_eq!(parcel.messages(), 2);
    parcel.answer(&Err(PublishError::Uncertain(BrokerError::Timeout)));
    for number in 0..2 {
        let answer = queue.answer(number);
        assert!(
            matches!(answer, Some(Err(PublishError::Uncertain(_)))),
            "{answer:?}"
        );
    }
    // The third did not fit and is held; a fourth has come behind it.
    queue.ask(1, Instant::now() + Duration::from_secs(60));
    let Queue {
        packer, answered, ..
    } = queue;
    packer.refuse(&BrokerError::Closing);
    for mut waiting in answered.into_iter().skip(2) {
        let answer = waiting.try_recv();
        assert!(
            matches!(answer, Ok(Err(PublishError::NotPublished(_)))),
            "{answer:?}"
        );
    }
}

#[test]
fn nothing_more_comes_once_nobody_can_ask_and_all_has_gone() {
    let mut queue = Queue::of(SMALL, &[1, 1, 1, 1, 1]);
    let Queue { sender, packer, .. } = &mut queue;
    drop(std::mem::replace(sender, mpsc::channel(1).0));
    let sizes: Vec<Option<Option<usize>>> = (0..3)
        .map(|_| {
            let next = packer.next().now_or_never();
            next.map(|parcel| parcel.map(|parcel| parcel.messages()))
        })
        .collect();
    assert_eq!(sizes, [Some(Some(4)), Some(Some(1)), Some(None)]);
}

#[test]
fn a_batch_says_what_a_worker_must_know_of_it() {
    let mut queue = Queue::new(SMALL);
    let later = Instant::now() + Duration::from_secs(60);
    queue.ask(1, later + Duration::from_secs(1));
    queue.ask(1, later);
    let parcel = queue.next().expect("they wait");
    assert_eq!(parcel.deadline(), later);
    let properties = parcel.properties();
    assert_eq!(properties.kind(), &Some(envelope::BATCH.into()));
    assert_eq!(
        properties.content_type(),
        &Some(envelope::BATCH_CONTENT_TYPE.into())
    );
    assert_eq!(
        properties.message_id(),
        &Some(id(0).to_string().as_str().into())
    );
    assert_eq!(properties.delivery_mode(), &Some(2));

    for (awaited, expected) in [
        ([false, false], false),
        ([true, false], true),
        ([false, true], true),
    ] {
        let parcel = parcel_of(awaited);
        let headers = parcel.properties().headers().clone().expect("there are");
        let header = |name: &str| headers.inner().get(name).cloned();
        assert_eq!(
            header(envelope::HEADER_AWAITED),
            Some(AMQPValue::Boolean(expected)),
            "{awaited:?}"
        );
        assert_eq!(header(envelope::HEADER_REQUEST_ID), None);
    }
}

#[test]
fn a_message_alone_is_no_batch() {
    let mut queue = Queue::of(SMALL, &[7]);
    let parcel = queue.next().expect("it waits");
    let properties = parcel.properties();
    assert_eq!(parcel.body().len(), 7);
    assert_eq!(properties.kind(), &Some(envelope::MESSAGE.into()));
    let headers = properties.headers().clone().expect("there are");
    assert_eq!(
        headers.inner().get(envelope::HEADER_REQUEST_ID),
        Some(&AMQPValue::LongString("request-0".into()))
    );
}

/// A parcel of two messages, awaited or not.
fn parcel_of(awaited: [bool; 2]) -> Parcel {
    let [first, second] = [0, 1].map(|number| {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned();
        let message = Outgoing {
            awaited: awaited[number],
            ..message(number, 1)
        };
        Request::new(message, Instant::now(), permit.expect("one")).0
    });
    let mut parcel = Parcel::of(first);
    parcel.add(second);
    parcel
}
