//! What is no valid event, and what is one in the wrong place: each costs a dead letter or a detour, and nothing else.

use bytes::Bytes;
use serde_json::{Value, json};
use tillstream::bus::partitioner::partition_of;
use tillstream::bus::{NewRecord, Topic};

use crate::shop::{Open, Shop, drawer, event, record, until};

const TERMINAL: &str = "T1";

/// A message that no till should send, what is wrong with it, and where.
struct Bad {
    value: Vec<u8>,
    headers: Vec<(String, Bytes)>,
    reason: &'static str,
    field: Option<&'static str>,
}

fn bad(value: impl Into<Vec<u8>>, reason: &'static str, field: Option<&'static str>) -> Bad {
    Bad { value: value.into(), headers: Vec::new(), reason, field }
}

fn header(name: &str, value: &str) -> (String, Bytes) {
    (name.to_owned(), Bytes::copy_from_slice(value.as_bytes()))
}

fn item(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let data = json!({
        "basketId": "B1", "employeeId": "E1", "line": 1, "productId": "P1", "category": "beer", "quantity": 1,
        "unitPrice": 100, "currency": "EUR",
    });
    let mut item = event("pos.basket.item_added", TERMINAL, 900, 900, data);
    change(&mut item);
    item.to_string().into_bytes()
}

fn bad_messages() -> Vec<Bad> {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let text = String::from_utf8(item(|_| {})).expect("UTF-8");
    let without = |key: &'static str| item(move |event| drop(event.as_object_mut().expect("an object").remove(key)));
    let with = |key: &'static str, value: Value| item(move |event| event["data"][key] = value);
    let binary = Bad {
        value: br#"{"employeeId": 7}"#.to_vec(),
        headers: vec![
            header("ce_specversion", "1.0"),
            header("ce_id", "binary"),
            header("ce_type", "pos.drawer.opened"),
            header("ce_source", "/stores/S001/terminals/T1"),
            header("ce_time", "2026-01-05T08:00:00Z"),
        ],
        reason: "invalid_field",
        field: Some("data.employeeId"),
    };
    vec![
        bad("this is no JSON", "not_json", None),
        bad("", "not_json", None),
        bad(b"{\"id\": \"\xff\xfe\"}", "not_utf8", None),
        bad(without("type"), "missing_field", Some("type")),
        bad(without("time"), "missing_field", Some("time")),
        bad(with("unitPrice", json!("a lot")), "invalid_field", Some("data.unitPrice")),
        bad(with("quantity", json!(1e300)), "invalid_field", Some("data.quantity")),
        bad(with("unitPrice", json!(-5)), "invalid_field", Some("data.unitPrice")),
        bad(with("currency", json!("EURO")), "invalid_field", Some("data.currency")),
        bad(item(|event| event["sequence"] = json!(0)), "invalid_field", Some("sequence")),
        bad(item(|event| event["data"] = json!([])), "invalid_field", Some("data")),
        bad(with("note", json!("x".repeat(2 << 20))), "too_large", None),
        bad(text.replace(r#""line":1"#, &format!(r#""line":1,"deep":{deep}"#)), "too_deep", None),
        bad(text.replace(r#""line":1"#, r#""line":1,"line":2"#), "duplicate_key", Some("data.line")),
        bad(text.replace(r#""id":"#, r#""id":"other","id":"#), "duplicate_key", Some("id")),
        binary,
    ]
}

#[actix::test]
async fn each_bad_message_is_a_dead_letter_with_its_bytes_and_field_and_the_batch_goes_on() {
    let shop = Shop::new();
    let open = shop.open().await;
    let messages = bad_messages();
    let mut records = Vec::new();
    for (sequence, message) in (1..).zip(&messages) {
        records.push(record(&drawer(TERMINAL, sequence, 0)));
        let (value, headers) = (Bytes::from(message.value.clone()), message.headers.clone());
        let key = Some(Bytes::from_static(TERMINAL.as_bytes()));
        records.push(NewRecord { topic: Topic::Events, partition: None, key, value, headers });
    }
    let offsets = open.app.bus.append(records).await.expect("the bus takes everything");
    open.settled().await;
    until("all alerts are there", async || open.alerted().await.len() == messages.len()).await;

    let (_, list) = open.call("GET", "/api/deadletters?limit=100", None).await;
    let copies = open.records(Topic::DeadLetters).await;
    assert_eq!((list["items"].as_array().map(Vec::len), copies.len()), (Some(messages.len()), messages.len()));
    let partition = partition_of(TERMINAL.as_bytes(), open.app.bus.partitions());
    for (index, message) in messages.iter().enumerate() {
        let offset = offsets[index * 2 + 1];
        let items = list["items"].as_array().expect("a list");
        let letter = items.iter().find(|item| item["offset"] == offset).expect("a dead letter for each");
        let field = letter["field"].as_str();
        assert_eq!((letter["reason"].as_str(), field), (Some(message.reason), message.field), "{letter}");
        assert_eq!((letter["status"].as_str(), letter["topic"].as_str()), (Some("open"), Some("pos.events")));
        let copy = copies.iter().find(|copy| header_of(copy, "offset") == offset.to_string()).expect("a copy of each");
        assert_eq!(copy.value, message.value, "the bytes as they came: {}", message.reason);
        let place = (header_of(copy, "reason"), header_of(copy, "topic"), header_of(copy, "partition"));
        assert_eq!(place, (message.reason.to_owned(), "pos.events".to_owned(), partition.to_string()));
        assert_eq!(copy.key.as_deref(), Some(TERMINAL.as_bytes()));
    }
    open.stop().await;
}

fn header_of(record: &tillstream::bus::Record, name: &str) -> String {
    let value = record.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.clone());
    String::from_utf8(value.unwrap_or_default().to_vec()).expect("UTF-8")
}

#[actix::test]
async fn what_another_client_put_on_the_wrong_partition_is_moved_and_applied_once() {
    let shop = Shop::new();
    let open = shop.open().await;
    let partitions = open.app.bus.partitions();
    let mut records = Vec::new();
    for sequence in 1..=20 {
        let right = partition_of(TERMINAL.as_bytes(), partitions);
        // As a hash of another kind would have it: here and there, and twice.
        for wrong in [1, 2] {
            let partition = Some((right + wrong) % partitions);
            records.push(NewRecord { partition, ..record(&drawer(TERMINAL, sequence, 0)) });
        }
    }
    records.push(binary_drawer(partitions));
    open.app.bus.append(records).await.expect("the bus takes everything");
    open.settled().await;
    until("all alerts are there", async || open.alerted().await.len() >= 21).await;
    let mut expected: Vec<String> = (1..=20).map(|sequence| format!("{TERMINAL}-{sequence}")).collect();
    expected.push("binary".to_owned());
    expected.sort_unstable();
    assert_eq!(open.alerted().await, expected);
    assert_eq!((open.app.status.totals.events.get(), open.app.status.totals.duplicates.get()), (21, 20));
    open.stop().await;
}

/// A valid event in binary mode, on a partition where it does not belong.
fn binary_drawer(partitions: u32) -> NewRecord {
    let terminal = "T9";
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", "binary"),
        ("ce_type", "pos.drawer.opened"),
        ("ce_source", "/stores/S001/terminals/T9"),
        ("ce_time", "2026-01-05T08:00:00Z"),
        ("ce_sequence", "1"),
        ("content-type", "application/json"),
    ];
    NewRecord {
        topic: Topic::Events,
        partition: Some((partition_of(terminal.as_bytes(), partitions) + 1) % partitions),
        key: Some(Bytes::from_static(b"T9")),
        value: Bytes::from_static(br#"{"employeeId":"E9"}"#),
        headers: headers.iter().map(|(name, value)| header(name, value)).collect(),
    }
}

#[actix::test]
async fn nothing_that_tills_do_in_a_strange_order_stops_anything() {
    let shop = Shop::new();
    let open = shop.open().await;
    let data = |basket: &str| {
        json!({
            "basketId": basket, "employeeId": "E1", "line": 3, "productId": "P1", "category": "beer", "quantity": 1,
            "unitPrice": 100, "currency": "EUR",
        })
    };
    let payment = json!({
        "basketId": "B2", "employeeId": "E1", "paymentId": "pay", "method": "card", "amount": 100, "currency": "EUR",
    });
    open.append(&[
        event("pos.employee.logged_out", "T1", 1, 0, json!({"employeeId": "E1"})),
        event("pos.basket.item_added", "T1", 2, 10, data("nobody knows it")),
        event("pos.basket.item_voided", "T1", 3, 20, data("nor this")),
        event("pos.payment.completed", "T1", 4, 30, payment),
        event(
            "pos.age.checked",
            "T1",
            5,
            40,
            json!({"basketId": "B9", "employeeId": "E1", "outcome": "refused", "minimumAge": 16}),
        ),
        event("pos.basket.cancelled", "unheard-of", 77, 50, json!({"basketId": "B3", "employeeId": "E2"})),
        event("pos.something.else", "T1", 6, 60, json!({"whatever": [1, 2, 3]})),
        // Hours late, and behind the clock of the partition.
        event("pos.employee.logged_in", "T1", 7, -7200, json!({"employeeId": "E1"})),
        drawer("T1", 8, 70),
    ])
    .await;
    open.settled().await;
    until("the last of them is decided on", async || open.alerted().await == ["T1-8"]).await;
    assert_eq!(open.query("SELECT id AS value FROM dead_letters"), Vec::<String>::new());
    // An unknown basket is a basket: what is in it counts.
    assert_eq!(open.published("pos.recommendation.made").await.len(), 1);
    assert_eq!(open.published("pos.age.verification_required").await.len(), 1);
    let restarts: u64 = open.app.status.actors().iter().map(|(_, actor)| actor.restarts.get()).sum();
    assert_eq!(restarts, 0, "{:?}", errors(&open));
    open.stop().await;
}

fn errors(open: &Open) -> Vec<Option<String>> {
    open.app.status.actors().iter().map(|(_, actor)| actor.last_error()).collect()
}
