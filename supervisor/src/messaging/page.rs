//! Turns a page that is asked for into a scan of the table, and what the scan found into the page.
//! Pure.

use jatis_shared::ids::{MessageId, TenantId};
use jiff::Timestamp;

use super::{Message, MessagePage, MessageQuery, MessageStatus, Order, Side};
use crate::store::messages::{Direction, MessageRow, Scan, Stretch};

/// The scan that finds a page. A page that lies before an id is scanned away from that id, against
/// the order of the list.
pub(super) fn scan(query: &MessageQuery, max_bytes: u32) -> Scan {
    let direction = match (query.order, side(query)) {
        (Order::Desc, Side::Next) | (Order::Asc, Side::Previous) => Direction::Down,
        (Order::Asc, Side::Next) | (Order::Desc, Side::Previous) => Direction::Up,
    };
    Scan {
        tenant: query.tenant,
        direction,
        after: query.from.map(|(_, id)| id),
        // Strictly after a time is from the next microsecond on.
        at_least: query
            .created_after
            .map(|time| MessageId::floor(next_micro(time))),
        below: query.created_before.map(MessageId::floor),
        limit: query.limit,
        max_bytes,
    }
}

/// The page, in the order of the list.
pub(super) fn page(query: &MessageQuery, found: Stretch) -> MessagePage {
    let mut messages: Vec<Message> = found
        .rows
        .into_iter()
        .map(|row| stored(query.tenant, row))
        .collect();
    // Whoever comes from an id came from a page beyond it.
    let (has_next, has_previous) = match side(query) {
        Side::Next => (found.more, query.from.is_some()),
        Side::Previous => {
            messages.reverse();
            (true, found.more)
        }
    };
    MessagePage {
        messages,
        has_next,
        has_previous,
    }
}

/// A row as a message.
pub(super) fn stored(tenant: TenantId, row: MessageRow) -> Message {
    Message {
        id: row.id,
        tenant,
        payload: row.payload,
        status: MessageStatus::Stored,
    }
}

fn side(query: &MessageQuery) -> Side {
    query.from.map_or(Side::Next, |(side, _)| side)
}

fn next_micro(time: Timestamp) -> Timestamp {
    time.checked_add(jiff::SignedDuration::from_micros(1))
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::*;

    fn query(order: Order, from: Option<Side>) -> MessageQuery {
        let tenant = TenantId::from(Uuid::nil());
        let from = from.map(|side| (side, MessageId::from(Uuid::max())));
        MessageQuery {
            tenant,
            limit: 2,
            order,
            from,
            created_after: None,
            created_before: None,
        }
    }

    fn found(ids: &[u128], more: bool) -> Stretch {
        let row = |id: &u128| MessageRow {
            id: MessageId::from(Uuid::from_u128(*id)),
            payload: RawValue::NULL.to_owned(),
        };
        Stretch {
            rows: ids.iter().map(row).collect(),
            more,
        }
    }

    #[test]
    fn a_page_before_an_id_is_scanned_backwards_and_shown_forwards() {
        use Direction::{Down, Up};
        use Order::{Asc, Desc};
        for (order, from, direction, shown, has_next, has_previous) in [
            (Desc, None, Down, [1, 2], true, false),
            (Desc, Some(Side::Next), Down, [1, 2], true, true),
            (Desc, Some(Side::Previous), Up, [2, 1], true, true),
            (Asc, None, Up, [1, 2], true, false),
            (Asc, Some(Side::Previous), Down, [2, 1], true, true),
        ] {
            let query = query(order, from);
            assert_eq!(scan(&query, 1).direction, direction, "{order:?} {from:?}");
            let page = page(&query, found(&[1, 2], true));
            let ids: Vec<u128> = page
                .messages
                .iter()
                .map(|message| message.id.uuid().as_u128())
                .collect();
            assert_eq!(
                (ids.as_slice(), page.has_next, page.has_previous),
                (&shown[..], has_next, has_previous)
            );
        }
        assert!(!page(&query(Desc, None), found(&[1], false)).has_next);
        assert!(!page(&query(Desc, Some(Side::Previous)), found(&[1], false)).has_previous);
    }
}
