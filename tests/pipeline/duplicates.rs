//! The same event again: at once, after a restart, after the till's counter began anew.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;
use serde_json::{Value, json};
use tillstream::bus::NewRecord;
use tillstream::event::Event;
use tillstream::pipeline::duplicates::{Arrival, Verdict, Window};
use tillstream::time::Timestamp;

use crate::oracle;
use crate::shop::{Open, Shop, drawer, event, record, until};

#[actix::test]
async fn an_event_counts_once_whether_it_comes_again_at_once_or_after_a_restart() {
    let shop = Shop::new();
    let open = shop.open().await;
    let mut unnumbered = drawer("T2", 1, 0);
    unnumbered.as_object_mut().expect("an object").remove("sequence");
    let events = [drawer("T1", 1, 0), unnumbered.clone(), drawer("T1", 2, 10)];
    open.append(&events).await;
    open.append(&events).await;
    open.settled().await;
    until("all are decided on", async || open.alerted().await.len() == 3).await;
    assert_eq!((open.app.status.totals.events.get(), open.app.status.totals.duplicates.get()), (3, 3));
    open.stop().await;

    let open = shop.open().await;
    open.append(&events).await;
    open.append(&[drawer("T1", 3, 20)]).await;
    open.settled().await;
    until("the new one is decided on", async || open.alerted().await.len() == 4).await;
    assert_eq!((open.app.status.totals.events.get(), open.app.status.totals.duplicates.get()), (1, 3));
    assert_eq!(open.alerted().await, ["T1-1", "T1-2", "T1-3", "T2-1"]);
    open.stop().await;
}

#[actix::test]
async fn a_counter_that_begins_anew_is_no_repetition_and_what_is_far_behind_it_is_a_dead_letter() {
    let shop = Shop::new();
    let open = shop.open().await;
    open.append(&[drawer("T1", 5000, 0)]).await;
    let mut old = drawer("T1", 3, -60);
    old["id"] = json!("from long ago");
    open.append(&[old, drawer("T1", 1, 60), drawer("T1", 2, 70), drawer("T1", 1, 60)]).await;
    open.settled().await;
    until("all are decided on", async || open.alerted().await.len() == 3).await;
    assert_eq!(open.alerted().await, ["T1-1", "T1-2", "T1-5000"]);
    assert_eq!(open.query("SELECT reason AS value FROM dead_letters"), ["below_window"]);
    assert_eq!(open.app.status.totals.duplicates.get(), 1);
    open.stop().await;
}

/// A payment of so much.
fn payment(id: &str, sequence: Option<u64>, second: i64, amount: u64) -> Value {
    let data = json!({"basketId": "B1", "employeeId": "E1", "paymentId": "P1", "method": "cash", "amount": amount, "currency": "EUR"});
    let mut payment = event("pos.payment.completed", "T1", sequence.unwrap_or(1), second, data);
    payment["id"] = json!(id);
    if sequence.is_none() {
        payment.as_object_mut().expect("an object").remove("sequence");
    }
    payment
}

/// Posts events as a till does; each is accepted.
async fn post(open: &Open, events: &[Value]) {
    for event in events {
        let request = reqwest::Client::new().post(open.url("/api/events")).body(event.to_string());
        let answer = request.header("content-type", "application/cloudevents+json").send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 202);
    }
}

/// Reason and id of each dead letter of a till, as the API finds them.
async fn letters_of(open: &Open, terminal: &str) -> Vec<(String, String)> {
    let (status, list) = open.call("GET", &format!("/api/deadletters?terminal={terminal}"), None).await;
    assert_eq!(status, 200, "{list}");
    let letter = |letter: &Value| {
        let bytes = BASE64.decode(letter["bytesBase64"].as_str().expect("bytes")).expect("base64");
        let event: Value = serde_json::from_slice(&bytes).expect("an event");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        (text(&letter["reason"]), text(&event["id"]))
    };
    let mut letters: Vec<_> = list["items"].as_array().expect("items").iter().map(letter).collect();
    letters.sort_unstable();
    letters
}

#[actix::test]
async fn two_payments_under_one_id_are_a_conflict_that_is_found_by_the_till() {
    let shop = Shop::new();
    let open = shop.open().await;
    post(&open, &[payment("unnumbered", None, 0, 100), payment("unnumbered", None, 0, 9900)]).await;
    post(&open, &[payment("numbered", Some(5), 0, 100), payment("numbered", Some(5), 0, 9900)]).await;
    post(&open, &[payment("numbered", Some(6), 0, 9900), payment("numbered", Some(7), 60, 100)]).await;
    post(&open, &[payment("numbered", Some(5), 0, 100), payment("unnumbered", None, 0, 100), drawer("T2", 1, 0)]).await;
    open.settled().await;
    let conflict = |id: &str| ("id_conflict".to_owned(), id.to_owned());
    assert_eq!(
        letters_of(&open, "T1").await,
        [conflict("numbered"), conflict("numbered"), conflict("numbered"), conflict("unnumbered")]
    );
    assert_eq!(letters_of(&open, "T2").await, []);
    let totals = &open.app.status.totals;
    assert_eq!((totals.events.get(), totals.duplicates.get()), (3, 2));
    let selection = json!({"terminal": "T1", "reason": "id_conflict"});
    let (status, answer) = open.call("POST", "/api/deadletters/discard", Some(selection)).await;
    assert_eq!((status, &answer["affected"]), (200, &json!(4)));
    open.stop().await;
}

#[actix::test]
async fn a_retry_that_is_spelled_differently_is_a_duplicate_also_after_a_restart() {
    let first = json!({
        "specversion": "1.0", "id": "a", "source": "/stores/S001/terminals/T1", "type": "pos.drawer.opened",
        "time": "2026-01-05T08:00:00Z", "sequence": 1, "data": {"employeeId": "E-Ä", "weight": 1, "list": [1, {"x": 0.5}]},
    });
    let spelled = [
        r#"{ "data" : {"list":[1.0,{"x":5e-1,"y":null}], "weight":1.0, "employeeId":"E-\u00c4"}, "sequence":"1", "time":"2026-01-05T09:00:00.000+01:00",
            "type":"pos.drawer.opened", "source":"\/stores\/S001\/terminals\/T1", "id":"a", "specversion":"1.0" }"#,
    ];
    let headers = ["specversion", "id", "source", "type", "time"]
        .map(|name| (format!("ce_{name}"), first[name].as_str().expect("a text").to_owned().into()));
    let shop = Shop::new();
    let open = shop.open().await;
    open.append(std::slice::from_ref(&first)).await;
    open.settled().await;
    open.stop().await;
    let open = shop.open().await;
    for text in spelled {
        open.append_raw(NewRecord { value: text.into(), ..record(&first) }).await;
    }
    open.append_raw(NewRecord { value: first["data"].to_string().into(), headers: headers.to_vec(), ..record(&first) })
        .await;
    open.settled().await;
    assert_eq!(open.app.status.totals.duplicates.get(), 2);
    assert_eq!(letters_of(&open, "T1").await, []);
    assert_eq!(open.alerted().await, ["a"]);
    open.stop().await;
}

#[actix::test]
async fn one_sequence_of_two_to_the_53rd_costs_nothing_of_what_follows() {
    let shop = Shop::new();
    let open = shop.open().await;
    let mut poison = drawer("T1", 1 << 53, 0);
    poison["id"] = json!("poison");
    open.append(&[drawer("T1", 1, 0), drawer("T1", 2, 0), poison.clone(), drawer("T1", 3, 0), poison]).await;
    open.append(&[drawer("T1", 4, 0), drawer("T1", 5, 0)]).await;
    open.settled().await;
    until("all are decided on", async || open.alerted().await.len() == 6).await;
    assert_eq!(letters_of(&open, "T1").await, []);
    assert_eq!(open.app.status.totals.gaps.get(), 0);
    open.stop().await;
}

#[actix::test]
async fn a_till_that_is_installed_anew_loses_nothing_and_its_old_events_are_not_applied_again() {
    let installed = |by: &str, sequence: u64, second: i64| {
        let mut event = drawer("T1", sequence, second);
        event["id"] = json!(format!("{by}-{sequence}"));
        event
    };
    let shop = Shop::new();
    let open = shop.open().await;
    let old: Vec<_> = (1..=20).map(|sequence| installed("old", sequence, 10)).collect();
    open.append(&old).await;
    open.settled().await;
    open.stop().await;
    let open = shop.open().await;
    let new: Vec<_> = (1..=25).map(|sequence| installed("new", sequence, 100)).collect();
    open.append(&new).await;
    open.append(&old).await;
    open.append(&new).await;
    open.settled().await;
    until("all are decided on", async || open.alerted().await.len() == 45).await;
    assert_eq!(open.app.status.totals.duplicates.get(), 45);
    assert_eq!(letters_of(&open, "T1").await, []);
    open.stop().await;
}

/// What may happen to one till's messages, in places where the rules meet: few ids, few contents, and numbers around the
/// window's ends, far ahead, and none.
fn any_message() -> impl Strategy<Value = (Value, i64)> {
    let number = prop_oneof![
        4 => (1_u64..40).prop_map(Some),
        2 => (1000_u64..1060).prop_map(Some),
        1 => (2000_u64..2100).prop_map(Some),
        1 => (9_000_000_u64..9_000_010).prop_map(Some),
        1 => Just(Some(1 << 53)),
        1 => Just(None),
    ];
    (number, 0_u32..60, 0_u32..3, 0_i64..40, -30_i64..30).prop_map(|(number, id, employee, second, delay)| {
        let mut message = drawer("T1", number.unwrap_or(1), second);
        message["id"] = json!(format!("id-{id}"));
        message["data"] = json!({"employeeId": format!("E{employee}")});
        if number.is_none() {
            message.as_object_mut().expect("an object").remove("sequence");
        }
        let received = Timestamp::parse(message["time"].as_str().expect("a time")).expect("a time").plus_seconds(delay);
        (message, received.as_millis())
    })
}

proptest! {
    #[test]
    fn windows_judge_as_the_page_says(messages in prop::collection::vec(any_message(), 1..400)) {
        let (mut window, mut oracle) = (Window::default(), oracle::windows::Window::default());
        for (message, received) in messages {
            let bytes = message.to_string().into_bytes();
            let expected = oracle.judge(&oracle::event::read(&bytes).expect("a valid event"), received);
            let event = Event::parse(&bytes.into()).expect("a valid event");
            let arrival = Arrival {
                id: event.id.as_str(),
                sequence: event.sequence,
                content: event.content_hash(),
                time: event.time,
                received: Timestamp::from_millis(received),
            };
            let actual = match window.admit(&arrival) {
                Verdict::New { .. } => oracle::windows::Verdict::New,
                Verdict::Duplicate => oracle::windows::Verdict::Duplicate,
                Verdict::IdConflict => oracle::windows::Verdict::IdConflict,
                Verdict::SequenceConflict => oracle::windows::Verdict::SequenceConflict,
                Verdict::BelowWindow => oracle::windows::Verdict::BelowWindow,
            };
            prop_assert_eq!(actual, expected, "{}", message);
            // As a restart would find it.
            window = Window::decode(&window.encode(), Timestamp::MIN).expect("it was written just now");
        }
    }
}
