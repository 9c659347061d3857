//! A person's decisions about dead letters: each has its effect once, however often it is asked for.

use serde_json::{Value, json};
use tillstream::bus::{NewRecord, Topic};

use crate::shop::{Open, Shop, drawer, record, until};

/// The only dead letter, as the API shows it.
async fn letter(open: &Open) -> Value {
    let (status, list) = open.call("GET", "/api/deadletters", None).await;
    assert_eq!((status, list["items"].as_array().map(Vec::len)), (200, Some(1)), "{list}");
    list["items"][0].clone()
}

async fn decide(open: &Open, letter: &Value, decision: &str) -> u16 {
    let id = letter["id"].as_str().expect("an id");
    open.call("POST", &format!("/api/deadletters/{id}/{decision}"), None).await.0
}

async fn becomes(open: &Open, status: &str) {
    until("the dead letter has changed", async || letter(open).await["status"] == status).await;
}

#[actix::test]
async fn a_corrupt_message_stays_open_however_often_it_is_replayed() {
    let shop = Shop::new();
    let open = shop.open().await;
    open.append_raw(NewRecord { value: "{".into(), ..record(&drawer("T1", 1, 0)) }).await;
    open.settled().await;
    let corrupt = letter(&open).await;
    assert_eq!(decide(&open, &corrupt, "replay").await, 422);
    assert_eq!(decide(&open, &corrupt, "replay").await, 422);
    open.settled().await;
    assert_eq!(letter(&open).await["status"], "open");
    assert_eq!(decide(&open, &corrupt, "discard").await, 200);
    assert_eq!(decide(&open, &corrupt, "discard").await, 409);
    assert_eq!(letter(&open).await["status"], "discarded");
    open.stop().await;
}

/// Two different events with one sequence; the second one is refused.
async fn conflict(open: &Open, record_of: impl Fn(&Value) -> NewRecord) -> Value {
    let first = drawer("T1", 1, 0);
    let mut second = drawer("T1", 1, 60);
    second["id"] = json!("T1-other");
    open.append_raw(record_of(&first)).await;
    open.append_raw(record_of(&second)).await;
    open.settled().await;
    until("the first is decided on", async || !open.alerted().await.is_empty()).await;
    let letter = letter(open).await;
    assert_eq!((letter["reason"].as_str(), letter["field"].as_str()), (Some("sequence_conflict"), Some("sequence")));
    assert_eq!(open.alerted().await, ["T1-1"]);
    letter
}

#[actix::test]
async fn an_event_whose_sequence_was_taken_is_applied_once_when_it_is_replayed() {
    let shop = Shop::new();
    let open = shop.open().await;
    let refused = conflict(&open, record).await;
    let (one, other) = tokio::join!(decide(&open, &refused, "replay"), decide(&open, &refused, "replay"));
    let mut statuses = [one, other];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    becomes(&open, "replayed").await;
    assert_eq!(decide(&open, &refused, "replay").await, 409);
    assert_eq!(decide(&open, &refused, "discard").await, 409);
    open.settled().await;
    until("the second is decided on", async || open.alerted().await.len() == 2).await;
    assert_eq!(open.alerted().await, ["T1-1", "T1-other"]);
    open.stop().await;
}

/// The event as a message in binary mode.
fn binary(event: &Value) -> NewRecord {
    let attribute = |name: &str| (format!("ce_{name}"), event[name].as_str().unwrap_or("1").to_owned().into());
    let names = ["specversion", "id", "source", "type", "time", "sequence"];
    NewRecord {
        value: event["data"].to_string().into(),
        headers: names.into_iter().map(attribute).collect(),
        ..record(event)
    }
}

#[actix::test]
async fn an_event_in_binary_mode_is_kept_with_its_attributes_and_replayed_whole() {
    let shop = Shop::new();
    let open = shop.open().await;
    let refused = conflict(&open, binary).await;
    let headers = refused["headers"].as_array().expect("headers");
    assert!(headers.contains(&json!({"name": "ce_id", "value": "T1-other"})), "{refused}");
    let copies = open.records(Topic::DeadLetters).await;
    let header = |name: &str| copies[0].headers.iter().find(|(known, _)| known == name).map(|(_, value)| &value[..]);
    assert_eq!((header("ce_id"), header("reason")), (Some(&b"T1-other"[..]), Some(&b"sequence_conflict"[..])));
    assert_eq!(decide(&open, &refused, "replay").await, 200);
    becomes(&open, "replayed").await;
    until("the second is decided on", async || open.alerted().await == ["T1-1", "T1-other"]).await;
    open.stop().await;
}

#[actix::test]
async fn attributes_that_make_a_message_invalid_are_kept_without_what_may_not_be_stored() {
    let shop = Shop::new();
    let open = shop.open().await;
    let mut message = binary(&drawer("T1", 1, 0));
    message.headers.retain(|(name, _)| name != "ce_time");
    message.headers.push(("ce_dateofbirth".to_owned(), "1990-01-02".into()));
    message.headers.push(("reason".to_owned(), "a header of the till's own".into()));
    open.append_raw(message).await;
    open.settled().await;
    let invalid = letter(&open).await;
    assert_eq!((invalid["reason"].as_str(), invalid["field"].as_str()), (Some("missing_field"), Some("time")));
    let headers = invalid["headers"].as_array().expect("headers");
    let value = |name: &str| headers.iter().find(|one| one["name"] == name).map(|one| &one["value"]);
    assert_eq!(value("ce_id"), Some(&json!("T1-1")));
    assert_eq!(value("ce_dateofbirth"), Some(&json!("**********")));
    assert_eq!(value("reason"), Some(&json!("a header of the till's own")));
    let copies = open.records(Topic::DeadLetters).await;
    let reasons: Vec<_> = copies[0].headers.iter().filter(|(name, _)| name == "reason").collect();
    assert_eq!(reasons, [&("reason".to_owned(), "missing_field".into())]);
    assert_eq!(decide(&open, &invalid, "replay").await, 422);
    open.stop().await;
}

#[actix::test]
async fn what_is_discarded_is_never_applied() {
    let shop = Shop::new();
    let open = shop.open().await;
    let refused = conflict(&open, record).await;
    assert_eq!(decide(&open, &refused, "discard").await, 200);
    assert_eq!(decide(&open, &refused, "replay").await, 409);
    open.append(&[drawer("T1", 2, 120)]).await;
    open.settled().await;
    until("the next event is decided on", async || open.alerted().await.len() == 2).await;
    assert_eq!(open.alerted().await, ["T1-1", "T1-2"]);
    assert_eq!(open.records(Topic::DeadLetters).await.len(), 1);
    open.stop().await;
}

/// Where the built-in plugins do not fail by themselves: a state that was damaged in the store.
#[actix::test]
async fn an_event_at_which_a_plugin_fails_waits_for_its_cause_to_be_gone_and_is_then_applied_once() {
    let shop = Shop::new();
    let open = shop.open().await;
    open.append(&[drawer("T1", 1, 0)]).await;
    open.settled().await;
    open.stop().await;

    let own = "plugin = 'fraud-detection' AND scope = 'terminal' AND entity = 'T1'";
    let states = format!("SELECT hex(state) AS value FROM entities WHERE {own}");
    let whole = shop.query(&states).pop().expect("a state");
    shop.execute(&format!("UPDATE entities SET state = X'C1' WHERE {own}"));
    let open = shop.open().await;
    open.append(&[drawer("T1", 2, 60), drawer("T2", 1, 60)]).await;
    open.settled().await;
    until("the other till is served", async || open.alerted().await == ["T1-1", "T2-1"]).await;
    let failed = letter(&open).await;
    let of = |key: &str| failed[key].as_str().unwrap_or_default().to_owned();
    assert_eq!([of("reason"), of("plugin"), of("entity")], ["plugin_failed", "fraud-detection", "terminal:T1"]);
    assert_eq!(decide(&open, &failed, "replay").await, 200);
    until("it has failed again", async || letter(&open).await["attempts"] == 2).await;
    assert_eq!(letter(&open).await["status"], "open");
    open.stop().await;

    shop.execute(&format!("UPDATE entities SET state = X'{whole}' WHERE {own}"));
    let open = shop.open().await;
    let (one, other) = tokio::join!(decide(&open, &failed, "replay"), decide(&open, &failed, "replay"));
    assert_eq!(one.min(other), 200);
    becomes(&open, "replayed").await;
    open.settled().await;
    until("it is applied", async || open.alerted().await == ["T1-1", "T1-2", "T2-1"]).await;
    open.stop().await;
}
