//! Tests of `consume`.

use lapin::{BasicProperties, types::FieldArray};
use uuid::Uuid;

use super::*;

const TAG: Tag = Tag {
    generation: 3,
    number: 9,
};

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("a time")
}

fn intake() -> Intake {
    Intake {
        number: TenantNumber::try_from(5).expect("a number"),
        mint: Arc::new(Mint::above(0)),
    }
}

fn own_id(number: u32, at: Timestamp) -> MessageId {
    let number = TenantNumber::try_from(number).expect("a number");
    Mint::above(0).mint(at, number, Origin::Accepted, 1)
}

fn taken(properties: BasicProperties, body: &[u8]) -> Vec<Message> {
    delivered(false, properties, body)
}

fn delivered(redelivered: bool, properties: BasicProperties, body: &[u8]) -> Vec<Message> {
    let mut delivery = Delivery::mock(9, "".into(), "".into(), redelivered, body.to_vec());
    delivery.properties = properties;
    intake().messages(TAG, delivery, now())
}

fn reason(messages: &[Message]) -> Option<Reason> {
    let [message] = messages else {
        panic!("one message, not {}", messages.len());
    };
    message.fault.as_ref().map(|fault| fault.reason)
}

#[test]
fn a_message_of_ours_keeps_its_id_and_its_payload_is_not_looked_at() {
    let id = own_id(5, now());
    let mut headers = FieldTable::default();
    headers.insert(envelope::HEADER_AWAITED.into(), AMQPValue::Boolean(true));
    let properties = BasicProperties::default()
        .with_type(envelope::MESSAGE.into())
        .with_message_id(id.to_string().into())
        .with_headers(headers);
    let messages = taken(properties, b"not json");
    assert_eq!(reason(&messages), None);
    let message = &messages[0];
    assert_eq!((message.id, message.tag, message.awaited), (id, TAG, true));
    assert_eq!(
        (&message.payload[..], &message.key),
        (&b"not json"[..], &None)
    );
}

#[test]
fn an_id_that_cannot_be_ours_is_a_bad_envelope() {
    let ahead = now() + std::time::Duration::from_secs(61);
    for id in [
        own_id(6, now()).to_string(),
        own_id(5, ahead).to_string(),
        Uuid::nil().to_string(),
        "no uuid".to_owned(),
    ] {
        let properties = BasicProperties::default()
            .with_type(envelope::MESSAGE.into())
            .with_message_id(id.as_str().into());
        let messages = taken(properties, b"1");
        assert_eq!(reason(&messages), Some(Reason::BadEnvelope), "{id}");
        assert!(messages[0].id.is_ours(intake().number, now()), "{id}");
        assert_eq!(messages[0].key.as_deref(), Some(id.as_bytes()));
    }
}

#[test]
fn a_batch_of_ours_is_taken_apart_or_buried_whole() {
    let properties = || BasicProperties::default().with_type(envelope::BATCH.into());
    let good = [
        (own_id(5, now()), Bytes::from_static(b"1")),
        (own_id(5, now()), Bytes::from_static(b"2")),
    ];
    let messages = taken(properties(), &envelope::pack(&good));
    let ids = messages
        .iter()
        .map(|message| (message.id, message.payload.clone()));
    assert!(ids.eq(good.clone()));
    assert!(messages.iter().all(|message| message.fault.is_none()));

    let [first, (_, payload)] = good;
    let foreign = envelope::pack(&[first, (own_id(6, now()), payload)]);
    for body in [&foreign[..], &foreign[..30], b""] {
        let messages = taken(properties(), body);
        assert_eq!(reason(&messages), Some(Reason::BadEnvelope));
        assert_eq!(messages[0].payload, body);
    }
}

#[test]
fn only_what_keeps_its_id_over_a_redelivery_may_have_been_seen_before() {
    let id = own_id(5, now());
    let single = || {
        BasicProperties::default()
            .with_type(envelope::MESSAGE.into())
            .with_message_id(id.to_string().into())
    };
    let batch = || BasicProperties::default().with_type(envelope::BATCH.into());
    let packed = envelope::pack(&[(id, Bytes::from_static(b"1"))]);
    let clients = || BasicProperties::default().with_message_id("key".into());
    for (redelivered, properties, body, expected) in [
        (false, single(), &b"1"[..], false),
        (true, single(), b"1", true),
        (false, batch(), &packed[..], false),
        (true, batch(), &packed[..], true),
        (true, batch(), b"", false),
        (true, clients(), b"1", false),
    ] {
        let messages = delivered(redelivered, properties, body);
        let seen: Vec<bool> = messages.iter().map(|message| message.seen_before).collect();
        assert_eq!(seen, [expected], "{redelivered} {body:?}");
    }
}

#[test]
fn a_clients_payload_is_scanned_and_its_id_minted() {
    for (body, expected) in [
        (&br#"{"a": 1}"#[..], None),
        (b"{", Some(Reason::MalformedJson)),
        (b"\xff", Some(Reason::MalformedJson)),
        (br#""\u0000""#, Some(Reason::UnstorablePayload)),
        (b"1e999", Some(Reason::UnstorablePayload)),
    ] {
        let properties = BasicProperties::default().with_message_id("k\0".into());
        let messages = taken(properties, body);
        assert_eq!(reason(&messages), expected, "{body:?}");
        assert_eq!(messages[0].id.origin(), Origin::Consumed);
        assert!(messages[0].id.is_ours(intake().number, now()));
        assert_eq!(messages[0].key.as_deref(), Some(&b"k\0"[..]));
    }
    let unknown = BasicProperties::default().with_type("jatis.v2.message".into());
    assert_eq!(reason(&taken(unknown, b"1")), None);
}

#[test]
fn headers_are_told_as_json_without_nul() {
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("text\0", AMQPValue::LongString("a\0b".into())),
        ("number", AMQPValue::LongInt(-3)),
        ("flag", AMQPValue::Boolean(false)),
        (
            "list",
            AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::Void])),
        ),
        ("infinite", AMQPValue::Double(f64::INFINITY)),
    ] {
        headers.insert(name.into(), value);
    }
    let provenance = Provenance {
        content_type: None,
        headers: Some(headers),
    };
    let json: serde_json::Value =
        serde_json::from_str(&provenance.headers_json().expect("some")).expect("JSON");
    assert_eq!(json["text\u{fffd}"], "a\u{fffd}b");
    assert_eq!(json["number"], -3);
    assert_eq!(json["flag"], false);
    assert_eq!(json["infinite"], serde_json::Value::Null);
    assert!(
        json["list"]
            .as_str()
            .is_some_and(|text| text.contains("Void"))
    );
    assert_eq!(Provenance::default().headers_json(), None);
}
