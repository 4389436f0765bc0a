//! Tests of `batch`.

use proptest::prelude::*;

use super::*;

const WAIT: Duration = Duration::from_millis(10);

fn waiting(max_rows: u16, max_bytes: u32) -> Waiting {
    let mut keys = jatis_shared::config::load::defaults()
        .expect("defaults")
        .worker;
    (keys.max_batch_rows, keys.max_batch_bytes) = (max_rows, max_bytes);
    keys.max_batch_wait = WAIT;
    Waiting::new(&keys)
}

fn start() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[test]
fn a_batch_is_due_by_room_fill_and_age() {
    let now = start();
    for (messages, age_ms, free, in_flight, expected) in [
        (0, 0, 4, 0, Due::Never),
        // Alone, nobody is waited for.
        (1, 0, 4, 0, Due::Now),
        // Others are on their way: wait to fill, but not for longer than the bound.
        (1, 0, 3, 1, Due::At(now + WAIT)),
        (1, 9, 3, 1, Due::At(now + WAIT)),
        (1, 10, 3, 1, Due::Now),
        (4, 0, 3, 1, Due::At(now + WAIT)),
        (5, 0, 3, 1, Due::Now),
        (9, 0, 3, 1, Due::Now),
        // Without a thread nothing is due.
        (9, 99, 0, 4, Due::Never),
        (9, 99, 0, 0, Due::Never),
    ] {
        let mut waiting = waiting(5, 1_000);
        for number in 0..messages {
            waiting.push(Message::sample(number, b"1"), now);
        }
        let later = now + Duration::from_millis(age_ms);
        let case = (messages, age_ms, free, in_flight);
        assert_eq!(waiting.due(later, free, in_flight), expected, "{case:?}");
    }
}

#[test]
fn a_batch_is_full_by_its_bytes_too() {
    let now = start();
    let mut waiting = waiting(100, 4);
    waiting.push(Message::sample(1, b"123"), now);
    assert_eq!(waiting.due(now, 1, 1), Due::At(now + WAIT));
    waiting.push(Message::sample(2, b"1"), now);
    assert_eq!(waiting.due(now, 1, 1), Due::Now);
    waiting.retain(|message| message.tag.number != 1);
    assert_eq!((waiting.len(), waiting.bytes), (1, 1));
}

proptest! {
    #[test]
    fn batches_lose_nothing_keep_the_order_and_their_bounds(
        sizes in proptest::collection::vec(0_usize..8, 1..60), max_rows in 1_u16..7, max_bytes in 1_u32..12,
    ) {
        const PAYLOAD: &[u8] = b"12345678";
        let now = start();
        let mut waiting = waiting(max_rows, max_bytes);
        for (number, size) in (0..).zip(&sizes) {
            waiting.push(Message::sample(number, &PAYLOAD[..*size]), now);
        }
        let (max_rows, max_bytes) = (usize::from(max_rows), usize::try_from(max_bytes).expect("small"));
        let mut taken = Vec::new();
        while !waiting.is_empty() {
            prop_assert_eq!(waiting.due(now, 1, 0), Due::Now);
            let batch = waiting.take().messages;
            let bytes: usize = batch.iter().map(|message| message.payload.len()).sum();
            prop_assert!(!batch.is_empty() && batch.len() <= max_rows);
            prop_assert!(bytes <= max_bytes || batch.len() == 1);
            taken.extend(batch);
        }
        prop_assert_eq!(waiting.bytes, 0);
        let order = taken.iter().map(|message| (message.tag.number, message.payload.len()));
        prop_assert!(order.eq((0..).zip(sizes)));
    }

    #[test]
    fn whatever_waits_is_due_at_the_latest_when_it_has_waited(
        ages in proptest::collection::vec(0_u64..30, 1..20), in_flight in 0_usize..4,
    ) {
        let mut waiting = waiting(100, 1_000_000);
        let begin = start();
        let mut arrivals = ages;
        arrivals.sort_unstable();
        for (number, arrival) in (0..).zip(&arrivals) {
            waiting.push(Message::sample(number, b"1"), begin + Duration::from_millis(*arrival));
        }
        let ripe = begin + Duration::from_millis(arrivals[0]) + WAIT;
        prop_assert_eq!(waiting.due(ripe, 1, in_flight), Due::Now);
    }
}
