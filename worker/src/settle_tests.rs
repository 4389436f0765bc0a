//! Tests of `settle`.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn tag(number: u64) -> Tag {
    Tag {
        generation: 1,
        number,
    }
}

fn ledger(messages: &[usize]) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.renew(1);
    for (number, messages) in (1..).zip(messages) {
        ledger.open(tag(number), *messages);
    }
    ledger
}

#[test]
fn acknowledgements_cover_the_prefix_without_a_gap() {
    let mut ledger = ledger(&[1, 2, 1, 1]);
    for (settled, expected) in [
        (3, None),
        (2, None),
        (1, Some(tag(1))),
        // The last message of the second delivery frees the third as well.
        (2, Some(tag(3))),
        (4, Some(tag(4))),
    ] {
        ledger.begin(tag(settled));
        ledger.settle(tag(settled));
        assert_eq!(ledger.acknowledge(), expected, "{settled}");
        assert_eq!(ledger.acknowledge(), None, "{settled}, again");
    }
    assert_eq!(ledger.unacknowledged(), 0);
}

#[test]
fn what_is_given_back_leaves_no_gap_and_is_not_acknowledged() {
    let mut ledger = ledger(&[1, 3, 1, 1, 1]);
    for number in [2, 3, 5] {
        ledger.begin(tag(number));
    }
    assert_eq!(ledger.give_back_unbegun(), [tag(1), tag(4)]);
    assert_eq!(ledger.give_back_unbegun(), []);
    assert!(!ledger.is_held(tag(1)) && ledger.is_held(tag(2)));
    assert_eq!(
        (ledger.unacknowledged(), ledger.unsettled_messages()),
        (3, 5)
    );
    ledger.settle(tag(5));
    ledger.settle(tag(3));
    assert_eq!(ledger.acknowledge(), None);
    assert_eq!(ledger.give_back_unsettled(), [tag(2)]);
    assert_eq!(ledger.acknowledge(), Some(tag(5)));
    assert_eq!(
        (ledger.unacknowledged(), ledger.unsettled_messages()),
        (0, 0)
    );
}

#[test]
fn an_older_channel_changes_nothing() {
    let mut ledger = ledger(&[1]);
    ledger.begin(tag(1));
    ledger.renew(2);
    let present = Tag {
        generation: 2,
        number: 1,
    };
    ledger.open(present, 1);
    ledger.settle(tag(1));
    assert_eq!(ledger.acknowledge(), None);
    ledger.open(tag(2), 1);
    assert_eq!(ledger.unacknowledged(), 1);
    ledger.settle(present);
    assert_eq!(ledger.acknowledge(), Some(present));
    // The same channel told again keeps its books; a lost one has none.
    ledger.open(
        Tag {
            number: 2,
            ..present
        },
        1,
    );
    ledger.renew(2);
    assert_eq!(ledger.unacknowledged(), 1);
    ledger.void();
    assert!(!ledger.is_held(Tag {
        number: 2,
        ..present
    }));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Open(usize),
    Settle(usize),
    Acknowledge,
    GiveBackUnbegun,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1_usize..4).prop_map(Step::Open),
        6 => (0_usize..30).prop_map(Step::Settle),
        2 => Just(Step::Acknowledge),
        1 => Just(Step::GiveBackUnbegun),
    ]
}

proptest! {
    #[test]
    fn each_delivery_is_acknowledged_once_after_it_is_settled_or_given_back(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut ledger = ledger(&[]);
        // The broker's view: what it holds as unacknowledged; ours: messages left of each.
        let (mut unacked, mut left): (BTreeSet<u64>, Vec<usize>) = Default::default();
        for step in steps.into_iter().chain([Step::GiveBackUnbegun, Step::Acknowledge]) {
            match step {
                Step::Open(messages) => {
                    left.push(messages);
                    let number = u64::try_from(left.len()).expect("few");
                    unacked.insert(number);
                    ledger.open(tag(number), messages);
                }
                Step::Settle(place) => {
                    let number = u64::try_from(place).expect("few") + 1;
                    if place < left.len() && left[place] > 0 && ledger.is_held(tag(number)) {
                        ledger.begin(tag(number));
                        ledger.settle(tag(number));
                        left[place] -= 1;
                    }
                }
                Step::Acknowledge => {
                    if let Some(covered) = ledger.acknowledge() {
                        prop_assert!(unacked.contains(&covered.number), "covers something");
                        let rest = unacked.split_off(&(covered.number + 1));
                        for number in std::mem::replace(&mut unacked, rest) {
                            let place = usize::try_from(number).expect("few") - 1;
                            prop_assert_eq!(left[place], 0, "delivery {} is settled", number);
                        }
                    }
                }
                Step::GiveBackUnbegun => {
                    for given in ledger.give_back_unbegun() {
                        prop_assert!(unacked.remove(&given.number), "the broker has it once");
                    }
                }
            }
            // Whatever is settled and not acknowledged waits for an older one.
            prop_assert_eq!(ledger.unacknowledged(), unacked.len());
        }
        for place in 0..left.len() {
            let number = u64::try_from(place).expect("few") + 1;
            let older_open = unacked.range(..=number).any(|&open| left[usize::try_from(open).expect("few") - 1] > 0);
            prop_assert!(!unacked.contains(&number) || older_open, "{} is not forgotten", number);
        }
    }
}
