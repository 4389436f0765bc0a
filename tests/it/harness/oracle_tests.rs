use uuid::Uuid;

use super::*;

fn tenant() -> TenantId {
    TenantId::from(Uuid::from_u128(1))
}

fn id(n: u128) -> MessageId {
    MessageId::from(Uuid::from_u128(n))
}

fn stored(n: u128, payload: &str) -> StoredRow {
    StoredRow {
        id: id(n),
        tenant: tenant(),
        payload: payload.to_owned(),
    }
}

fn dead(n: u128, payload: &str) -> DeadRow {
    DeadRow {
        message_id: id(n),
        tenant: tenant(),
        payload: payload.as_bytes().to_vec(),
        reason: "test".to_owned(),
    }
}

/// A client that was promised 1 and 2, refused `"no"`, left alone with `"maybe"`, and published
/// `"amqp"` once without and twice with a key.
fn oracle() -> Arc<Oracle> {
    let oracle = Arc::new(Oracle::default());
    oracle.sending(tenant(), b"{\"a\": 1}").answered(id(1));
    oracle.sending(tenant(), b"[2]").answered(id(2));
    oracle.sending(tenant(), b"\"no\"").refused();
    drop(oracle.sending(tenant(), b"\"maybe\""));
    oracle.sending(tenant(), b"\"amqp\"").confirmed(None);
    oracle.sending(tenant(), b"\"amqp\"").confirmed(Some("key"));
    oracle.sending(tenant(), b"\"amqp\"").confirmed(Some("key"));
    oracle
}

/// The rows that keep every promise, in another spelling.
fn kept() -> Vec<StoredRow> {
    vec![
        stored(1, "{\"a\":1}"),
        stored(2, "[ 2 ]"),
        stored(3, "\"amqp\""),
        stored(4, "\"amqp\""),
    ]
}

#[test]
fn the_oracle_is_content_with_kept_promises() {
    assert_eq!(oracle().promised(), 4);
    assert_eq!(oracle().faults(&kept(), &[]), Vec::<String>::new());

    let mut with_the_uncertain = kept();
    with_the_uncertain.push(stored(9, "\"maybe\""));
    assert_eq!(
        oracle().faults(&with_the_uncertain, &[]),
        Vec::<String>::new()
    );

    let mut without_the_dead = kept();
    let letter = without_the_dead.remove(1);
    let letters = [dead(2, &letter.payload)];
    assert_eq!(
        oracle().faults(&without_the_dead, &letters),
        Vec::<String>::new()
    );
}

#[test]
fn the_oracle_sees_each_broken_promise() {
    let changed = |change: fn(&mut Vec<StoredRow>)| {
        let mut rows = kept();
        change(&mut rows);
        rows
    };
    for (rows, letters, fault) in [
        (changed(|rows| drop(rows.remove(0))), vec![], "is lost"),
        (
            changed(|rows| rows.push(stored(1, "{\"a\":1}"))),
            vec![],
            "is stored twice",
        ),
        (
            changed(|rows| rows.push(stored(9, "[2]"))),
            vec![],
            "found 1 times, may be there 0",
        ),
        (
            changed(|rows| rows.push(stored(9, "\"no\""))),
            vec![],
            "found 1 times, may be there 0",
        ),
        (
            changed(|rows| rows.push(stored(9, "\"amqp\""))),
            vec![],
            "found 3 times, may be there 2",
        ),
        (
            changed(|rows| drop(rows.pop())),
            vec![],
            "confirmed 2 times, found 1",
        ),
        (
            changed(|rows| rows[0] = stored(1, "{\"a\":2}")),
            vec![],
            "stored",
        ),
        (kept(), vec![dead(2, "[2]")], "stored and dead"),
        (
            kept(),
            vec![dead(9, "\"strange\"")],
            "found 1 times, may be there 0",
        ),
    ] {
        let faults = oracle().faults(&rows, &letters);
        assert!(
            matches!(faults.as_slice(), [only] if only.contains(fault)),
            "{fault}: {faults:?}"
        );
    }
}

#[test]
fn the_oracle_forgets_a_deleted_tenant_but_not_what_is_left_of_it() {
    let oracle = oracle();
    oracle.deleted(tenant());
    assert_eq!(oracle.promised(), 0);
    assert_eq!(oracle.faults(&[], &[]), Vec::<String>::new());
    assert!(!oracle.faults(&kept(), &[]).is_empty());
}

#[test]
fn the_oracle_misses_no_deleted_message_and_sees_one_that_is_back() {
    let oracle = oracle();
    oracle.erased(tenant(), id(1), b"{\"a\": 1}");
    oracle.erased(tenant(), id(3), b"\"amqp\"");
    assert_eq!(oracle.promised(), 2);
    assert_eq!(oracle.erasures(), [(tenant(), id(1)), (tenant(), id(3))]);
    let left = vec![stored(2, "[2]"), stored(4, "\"amqp\"")];
    assert_eq!(oracle.faults(&left, &[]), Vec::<String>::new());
    assert_eq!(oracle.faults(&kept(), &[]).len(), 4);
}

#[test]
fn equal_numbers_are_one_payload() {
    for (sent, stored) in [
        ("[-0, 15E+1, 1.50]", "[0,150,1.5]"),
        ("{\"a\": 1e-5}", "{\"a\":0.00001}"),
        ("9007199254740993", "9007199254740993"),
    ] {
        assert_eq!(canonical(sent.as_bytes()), canonical(stored.as_bytes()));
    }
    for (one, other) in [
        ("1", "2"),
        ("1.5", "1"),
        ("9007199254740993", "9007199254740992.0"),
    ] {
        assert_ne!(canonical(one.as_bytes()), canonical(other.as_bytes()));
    }
}
