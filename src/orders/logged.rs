//! Orders as the bus tells of them, for a store that has lost them: what a record of `order.created` carries besides the event, and
//! how order, key and end are read back.
//!
//! The headers hold no secret: the key itself is hashed with its caller, as it is in the store.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::order::{OrderRequest, SOURCE_ACCEPTED, document_of_created, fingerprint, is_delivery_event};
use crate::bus::{Header, Record};
use crate::event::{Event, EventData};
use crate::store::{LoggedEnd, LoggedOrder, OrderDelivery, OrderKey, OrderStatus, StoredOrder};
use crate::time::Timestamp;

/// Who sent the order.
const CALLER: &str = "tillstream-caller";
/// Hash of the caller and its `Idempotency-Key`.
const KEY_ID: &str = "tillstream-key-id";
/// Tells the order from others under the same key.
const FINGERPRINT: &str = "tillstream-fingerprint";
/// Longest id of an order or a key, and longest caller, in bytes: what the store takes.
const ID_BYTES_MAX: usize = 64;
const CALLER_BYTES_MAX: usize = 400;

/// The headers by which a repeated request finds this order again after a restore.
#[must_use]
pub fn key_headers(key: &OrderKey, document: &str) -> Vec<Header> {
    let header = |name: &str, value: String| (name.to_owned(), Bytes::from(value));
    vec![header(CALLER, key.caller.clone()), header(KEY_ID, key.id.clone()), header(FINGERPRINT, fingerprint(document))]
}

/// The order that a record of `order.created` is about, if Tillstream wrote the record.
#[must_use]
pub fn logged_order(partition: u32, record: &Record) -> Option<LoggedOrder> {
    let event = Event::parse(&record.value).ok()?;
    let EventData::OrderCreated(order) = &event.data else { return None };
    let id = order.id.as_str();
    if event.source.as_str() != SOURCE_ACCEPTED || event.id.as_str() != id || id.len() > ID_BYTES_MAX {
        return None;
    }
    let document = document_of_created(data_of(&record.value)?, id, event.time)?;
    serde_json::from_str::<OrderRequest>(&document).ok()?;
    let key = key_of(&record.headers, &document);
    let delivery =
        OrderDelivery { order_id: id.to_owned(), partition, offset: record.offset, published_at: record.timestamp };
    let order = StoredOrder {
        id: id.to_owned(),
        store_id: order.store_id.to_string(),
        terminal_id: order.terminal_id.to_string(),
        status: OrderStatus::Pending,
        document,
        created_at: event.time,
        published_at: Some(record.timestamp),
        processed_at: None,
        attempts: 0,
    };
    Some(LoggedOrder { order, key, delivery })
}

fn data_of(value: &[u8]) -> Option<&str> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    serde_json::from_slice::<Envelope<'_>>(value).ok().map(|envelope| envelope.data.get())
}

fn key_of(headers: &[Header], document: &str) -> Option<OrderKey> {
    let header = |name: &str| {
        let (_, value) = headers.iter().find(|(known, _)| known == name)?;
        std::str::from_utf8(value).ok().filter(|text| !text.is_empty())
    };
    let (id, caller) = (header(KEY_ID)?, header(CALLER)?);
    let holds =
        header(FINGERPRINT)? == fingerprint(document) && id.len() <= ID_BYTES_MAX && caller.len() <= CALLER_BYTES_MAX;
    holds.then(|| OrderKey { id: id.to_owned(), caller: caller.to_owned() })
}

/// The end of an order, if that is what a record of `pos.events` tells.
#[must_use]
pub fn logged_end(value: &Bytes) -> Option<LoggedEnd> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Data {
        id: String,
        attempts: u32,
        processed_at: Option<Timestamp>,
    }
    // Most records are about something else, and parsing takes time.
    memchr::memmem::find(value, b"\"order.")?;
    let event = Event::parse(value).ok()?;
    let status = match &event.data {
        EventData::OrderDelivered(_) => OrderStatus::Success,
        EventData::OrderFailed(_) => OrderStatus::Failed,
        _ => return None,
    };
    let data: Data = serde_json::from_str(data_of(value)?).ok()?;
    is_delivery_event(&event, &data.id, data.attempts).then(|| LoggedEnd {
        status,
        at: data.processed_at.unwrap_or(event.time),
        attempts: data.attempts,
        order_id: data.id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orders::order::{created_event, new_id};

    fn stored() -> StoredOrder {
        let created_at = Timestamp::from_millis(1_764_000_000_123);
        let body = serde_json::json!({"storeId": "S1", "terminalId": "T\"1", "currency": "EUR", "total": 250,
            "items": [{"productId": "P ü", "quantity": 0.5, "unitPrice": 500, "description": "a \"b\",\"createdAt\":"}]});
        let document = OrderRequest::parse(body.to_string().as_bytes()).unwrap().document();
        StoredOrder {
            id: new_id(created_at),
            store_id: "S1".to_owned(),
            terminal_id: "T\"1".to_owned(),
            status: OrderStatus::Pending,
            document,
            created_at,
            published_at: None,
            processed_at: None,
            attempts: 0,
        }
    }

    fn record(order: &StoredOrder, headers: Vec<Header>) -> Record {
        let timestamp = Timestamp::from_millis(1_764_000_009_000);
        Record { offset: 17, timestamp, key: None, value: created_event(order), headers }
    }

    fn key() -> OrderKey {
        OrderKey { id: "0123abcd".to_owned(), caller: "Kasse Süd".to_owned() }
    }

    #[test]
    fn an_order_and_its_key_come_back_from_their_record_byte_for_byte() {
        let order = stored();
        let record = record(&order, key_headers(&key(), &order.document));
        let logged = logged_order(3, &record).unwrap();
        assert_eq!(logged.order, StoredOrder { published_at: Some(record.timestamp), ..order });
        assert_eq!(logged.key, Some(key()));
        assert_eq!((logged.delivery.partition, logged.delivery.offset), (3, 17));
        assert_eq!(created_event(&logged.order), record.value);
    }

    #[test]
    fn an_order_of_an_older_version_comes_back_without_a_key_and_so_does_one_whose_key_is_another_orders() {
        let order = stored();
        assert_eq!(logged_order(0, &record(&order, Vec::new())).unwrap().key, None);
        let foreign = key_headers(&key(), "{}");
        assert_eq!(logged_order(0, &record(&order, foreign)).unwrap().key, None);
    }

    #[test]
    fn what_tillstream_did_not_write_is_no_order() {
        let order = stored();
        let text = String::from_utf8(created_event(&order).to_vec()).unwrap();
        for (from, to) in [
            ("/plugins/orders", "/plugins/others"),
            ("\"PENDING\"", "\"SUCCESS\""),
            ("\"attempts\":0", "\"attempts\":1"),
            (order.id.as_str(), "other"),
            ("order.created", "order.delivered"),
        ] {
            let value = Bytes::from(text.replacen(from, to, 1));
            assert!(logged_order(0, &Record { value, ..record(&order, Vec::new()) }).is_none(), "{to}");
        }
    }
}
