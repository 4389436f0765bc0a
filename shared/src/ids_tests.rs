use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn number(number: u32) -> TenantNumber {
    TenantNumber::try_from(number).expect("the test gives a number in range")
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).expect("the test gives a time in range")
}

#[test]
fn every_microsecond_of_a_millisecond_comes_back() {
    for micro in 0..1000 {
        let time = at(1_800_000_000_000_000 + micro);
        let id = Mint::above(0).mint(time, number(1), Origin::Accepted, 0);
        assert_eq!(id.created_at(), time);
    }
}

#[test]
fn an_id_is_a_version_7_uuid_with_its_parts_in_place() {
    let id = Mint::above(0).mint(
        at(1_700_000_000_000_500),
        number(0x00ab_cdef),
        Origin::Consumed,
        u64::MAX,
    );
    assert_eq!(id.to_string(), "018bcfe5-6800-7800-aaf3-7bffffffffff");
    assert_eq!(id.uuid().get_version_num(), 7);
    assert_eq!(id.tenant_number(), Some(number(0x00ab_cdef)));
    assert_eq!(id.origin(), Origin::Consumed);
    assert_eq!(id.minute(), 1_700_000_000 / 60);
}

#[test]
fn threads_never_share_a_tick_and_a_clock_set_back_reverses_nothing() {
    let mint = Mint::above(ticks(at(2_000_000)));
    let minted: Vec<MessageId> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    (0..1000)
                        .map(|_| mint.mint(at(1), number(7), Origin::Accepted, 0))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("no thread panics"))
            .collect()
    });
    let ticks_seen: BTreeSet<u64> = minted.iter().map(|id| id.ticks()).collect();
    assert_eq!(ticks_seen.len(), 4000);
    assert!(ticks_seen.first() > Some(&ticks(at(2_000_000))));
}

#[test]
fn a_raised_mint_stays_above_its_new_floor() {
    let mint = Mint::above(0);
    mint.raise(5_000);
    mint.raise(4_000);
    let id = mint.mint(at(0), number(1), Origin::Accepted, 0);
    assert_eq!((id.ticks(), mint.last()), (5_001, 5_001));
}

#[test]
fn only_an_id_of_this_tenant_and_of_about_now_is_ours() {
    let now = at(1_700_000_000_000_000);
    let minted = |micros: i64, tenant: u32| {
        Mint::above(0).mint(at(micros), number(tenant), Origin::Accepted, 5)
    };
    let minute = 60_000_000;
    for (id, ours) in [
        (minted(1_700_000_000_000_000, 7), true),
        (minted(1_000_000_000_000_000, 7), true),
        (minted(1_700_000_000_000_000 + minute, 7), true),
        (minted(1_700_000_000_000_000 + minute + 1, 7), false),
        (minted(1_700_000_000_000_000, 8), false),
        (MessageId::from(Uuid::nil()), false),
        (
            MessageId::from(uuid::uuid!("018bcfe5-6800-4800-aaf3-7bffffffffff")),
            false,
        ),
    ] {
        assert_eq!(id.is_ours(number(7), now), ours, "{id}");
    }
}

#[test]
fn a_tenant_number_has_24_bits_and_is_not_zero() {
    for (number, fits) in [
        (0, false),
        (1, true),
        (0x00ff_ffff, true),
        (0x0100_0000, false),
    ] {
        assert_eq!(TenantNumber::try_from(number).is_ok(), fits, "{number}");
    }
}

proptest! {
    #[test]
    fn parts_round_trip(micros in 0_i64..4_000_000_000_000_000, tenant in 1_u32..0x0100_0000, random: u64, consumed: bool) {
        let origin = if consumed { Origin::Consumed } else { Origin::Accepted };
        let id = Mint::above(0).mint(at(micros).max(at(1)), number(tenant), origin, random);
        prop_assert_eq!(id.created_at(), at(micros).max(at(1)));
        prop_assert_eq!(id.tenant_number(), Some(number(tenant)));
        prop_assert_eq!(id.origin(), origin);
        prop_assert!(id.has_our_layout());
    }

    #[test]
    fn the_floor_of_a_time_parts_earlier_ids_from_later_ones(a in 1_i64..4_000_000_000_000_000, b in 1_i64..4_000_000_000_000_000, random: u64) {
        let id = Mint::above(0).mint(at(a), number(1), Origin::Accepted, random);
        prop_assert_eq!(id >= MessageId::floor(at(b)), a >= b);
    }

    #[test]
    fn the_floor_of_a_time_parts_the_ids_of_its_own_millisecond(micros in 2_i64..4_000_000_000_000_000, random: u64) {
        let floor = MessageId::floor(at(micros));
        let mint = |micros| Mint::above(0).mint(at(micros), number(1), Origin::Accepted, random);
        prop_assert!(mint(micros - 1) < floor && floor < mint(micros));
    }
}
