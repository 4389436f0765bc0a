//! Cursors: where a page of messages begins, as a text that clients carry and must not read.
//!
//! ```text
//! base64url of   1 version │ 1 order and side │ 16 tenant │ 16 message
//! ```
//!
//! A cursor belongs to its tenant and its order; it is a position and no secret, so it is not
//! signed. Two older forms are understood as well: a message's bare UUID, and an RFC 3339 time.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jatis_shared::ids::{MessageId, TenantId};
use jiff::{Timestamp, ToSpan};
use uuid::Uuid;

use super::{Order, Side};

const VERSION: u8 = 1;
/// Length of a UUID's text with hyphens, the only one that is taken.
const UUID_CHARS: usize = 36;

/// A text that is no cursor, or not one of this tenant in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is not one of this list")]
pub struct InvalidCursor;

/// The cursor of the page that lies on `side` of `message` in a tenant's list of this order.
#[must_use]
pub fn encode(tenant: TenantId, order: Order, side: Side, message: MessageId) -> String {
    let mut bytes = [0; 34];
    let (head, rest) = bytes.split_at_mut(2);
    let (owner, position) = rest.split_at_mut(16);
    head.copy_from_slice(&[VERSION, flags(order, side)]);
    owner.copy_from_slice(tenant.uuid().as_bytes());
    position.copy_from_slice(message.uuid().as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The side and the message a cursor names.
///
/// # Errors
/// When the text is none of the three forms, or a cursor of another tenant or order.
pub fn decode(
    text: &str,
    tenant: TenantId,
    order: Order,
) -> Result<(Side, MessageId), InvalidCursor> {
    if text.len() == UUID_CHARS
        && let Ok(uuid) = Uuid::try_parse(text)
    {
        return Ok((Side::Next, uuid.into()));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok((Side::Next, behind(time, order)));
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
    let bytes: [u8; 34] = bytes.try_into().map_err(|_| InvalidCursor)?;
    let [VERSION, flag, ids @ ..] = bytes else {
        return Err(InvalidCursor);
    };
    let (owner, position) = ids.split_at(16);
    let side = [Side::Next, Side::Previous]
        .into_iter()
        .find(|side| flags(order, *side) == flag)
        .ok_or(InvalidCursor)?;
    if owner != tenant.uuid().as_bytes() {
        return Err(InvalidCursor);
    }
    let position = Uuid::from_slice(position).map_err(|_| InvalidCursor)?;
    Ok((side, position.into()))
}

/// The position behind which a list goes on with messages strictly older (or newer) than `time`:
/// a client that walks by the last message's time must not get that message again.
fn behind(time: Timestamp, order: Order) -> MessageId {
    match order {
        Order::Desc => MessageId::floor(time),
        Order::Asc => MessageId::floor(time.checked_add(1.microsecond()).unwrap_or(time)),
    }
}

const fn flags(order: Order, side: Side) -> u8 {
    match (order, side) {
        (Order::Desc, Side::Next) => 0,
        (Order::Desc, Side::Previous) => 1,
        (Order::Asc, Side::Next) => 2,
        (Order::Asc, Side::Previous) => 3,
    }
}

#[cfg(test)]
mod tests {
    use jatis_shared::ids::{Mint, Origin, TenantNumber};
    use proptest::prelude::*;

    use super::*;

    fn orders() -> impl Strategy<Value = Order> {
        prop_oneof![Just(Order::Desc), Just(Order::Asc)]
    }

    fn sides() -> impl Strategy<Value = Side> {
        prop_oneof![Just(Side::Next), Just(Side::Previous)]
    }

    fn tenant(bits: u128) -> TenantId {
        Uuid::from_u128(bits).into()
    }

    fn message(bits: u128) -> MessageId {
        Uuid::from_u128(bits).into()
    }

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_was(owner: u128, id: u128, order in orders(), side in sides()) {
            let text = encode(tenant(owner), order, side, message(id));
            prop_assert_eq!(decode(&text, tenant(owner), order), Ok((side, message(id))));
        }

        #[test]
        fn a_cursor_of_another_list_is_refused(owner: u128, other: u128, id: u128, order in orders(), side in sides()) {
            let text = encode(tenant(owner), order, side, message(id));
            let opposite = match order {
                Order::Desc => Order::Asc,
                Order::Asc => Order::Desc,
            };
            prop_assert_eq!(decode(&text, tenant(owner), opposite), Err(InvalidCursor));
            prop_assume!(owner != other);
            prop_assert_eq!(decode(&text, tenant(other), order), Err(InvalidCursor));
        }

        #[test]
        fn any_text_is_decoded_or_refused(text in ".{0,64}", cut in 0_usize..46, order in orders()) {
            let _verdict: Result<_, InvalidCursor> = decode(&text, tenant(1), order);
            let whole = encode(tenant(1), order, Side::Next, message(2));
            prop_assert_eq!(decode(&whole[..cut], tenant(1), order), Err(InvalidCursor));
            prop_assert_eq!(decode(&format!("{whole}{text}A"), tenant(1), order), Err(InvalidCursor));
        }

        #[test]
        fn a_time_lies_between_the_older_and_the_newer(at in 2_i64..4_000_000_000_000_000, random: u64) {
            let number = TenantNumber::try_from(1).expect("1 is a number");
            let time = |micros| Timestamp::from_microsecond(micros).expect("in range");
            let mint = |micros| Mint::above(0).mint(time(micros), number, Origin::Accepted, random);
            let text = time(at).to_string();
            let (_, older) = decode(&text, tenant(1), Order::Desc).expect("a time is a cursor");
            prop_assert!(mint(at - 1) < older && older < mint(at));
            let (_, newer) = decode(&text, tenant(1), Order::Asc).expect("a time is a cursor");
            prop_assert!(mint(at) < newer && newer < mint(at + 1));
        }
    }

    #[test]
    fn older_forms_are_understood_and_nothing_else() {
        let id = message(0x0190_d3a2_7c3e_7c3e_8c3e_0190_d3a2_7c3e);
        assert_eq!(
            decode(&id.to_string(), tenant(1), Order::Asc),
            Ok((Side::Next, id))
        );
        for garbage in [
            "",
            "null",
            "2024-13-01T00:00:00Z",
            "0190d3a27c3e7c3e8c3e0190d3a27c3e",
            "{0190d3a2-7c3e-7c3e-8c3e-0190d3a27c3e}",
        ] {
            assert_eq!(
                decode(garbage, tenant(1), Order::Desc),
                Err(InvalidCursor),
                "{garbage}"
            );
        }
    }
}
