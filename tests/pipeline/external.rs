//! Plugins in other languages, seen from Tillstream: routing, switches, dead letters. The plugin itself is played
//! by the test, which reads and writes the plugin's topics.

use std::io::Write as _;

use bytes::Bytes;
use serde_json::{Value, json};
use tillstream::app::AppOptions;
use tillstream::bus::partitioner::partition_of;
use tillstream::bus::{Bus, InputTopic, NewRecord, Record, Topic};
use tillstream::config::BusKind;

use crate::shop::{Open, Shop, at, drawer, event, until};
use crate::support::database::Database;

pub(crate) const NAME: &str = "till-anomaly";

pub(crate) fn input() -> Topic {
    Topic::Input(InputTopic::of(NAME).expect("a name"))
}

pub(crate) fn manifest(with: &Value) -> Value {
    let mut manifest = json!({
        "protocol": 1, "name": NAME, "version": "1.0.0", "description": "Reports what deviates.", "scope": "terminal",
        "eventTypes": ["pos.drawer.opened"],
        "settingsSchema": {"type": "object", "properties": {"threshold": {"type": "number", "minimum": 1}},
            "required": ["threshold"], "additionalProperties": false},
        "defaultSettings": {"threshold": 4},
    });
    manifest.as_object_mut().expect("an object").extend(with.as_object().expect("an object").clone());
    manifest
}

pub(crate) fn on_topic(topic: Topic, key: &str, value: impl Into<Bytes>, headers: &[(&str, &str)]) -> NewRecord {
    let header = |(name, value): &(&str, &str)| ((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes()));
    NewRecord {
        topic,
        partition: None,
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: value.into(),
        headers: headers.iter().map(header).collect(),
    }
}

pub(crate) async fn announce(open: &Open, with: &Value) {
    let manifest = manifest(with);
    let name = manifest["name"].as_str().expect("a text").to_owned();
    open.append_raw(on_topic(Topic::Manifests, &name, manifest.to_string(), &[])).await;
}

pub(crate) async fn plugin(open: &Open, name: &str) -> Option<Value> {
    let (status, plugin) = open.call("GET", &format!("/api/plugins/{name}"), None).await;
    (status == 200).then_some(plugin)
}

/// A plugin that was announced, is known, and is switched on.
pub(crate) async fn switched_on(open: &Open, with: &Value) {
    announce(open, with).await;
    until("the manifest is taken", async || plugin(open, NAME).await.is_some()).await;
    open.change(NAME, json!({"active": true})).await;
}

fn header(record: &Record, name: &str) -> Option<String> {
    let (_, value) = record.headers.iter().find(|(known, _)| known == name)?;
    Some(String::from_utf8(value.to_vec()).expect("text"))
}

/// The events in the plugin's input, in the order of the log for each partition: id and entity.
async fn inputs(bus: &dyn Bus) -> Vec<(String, String)> {
    let records = crate::shop::records(bus, input()).await;
    let id = |record: &Record| {
        let event: Value = serde_json::from_slice(&record.value).expect("JSON");
        event["id"].as_str().expect("an id").to_owned()
    };
    records.iter().map(|record| (id(record), header(record, "tillstream-entity").expect("an entity"))).collect()
}

pub(crate) async fn input_ids(open: &Open) -> Vec<String> {
    let mut ids: Vec<_> = inputs(&*open.app.bus).await.into_iter().map(|(id, _)| id).collect();
    ids.sort_unstable();
    ids
}

#[actix::test]
async fn events_of_its_scope_go_to_its_input_once_and_the_very_next_one_obeys_the_switch() {
    let shop = Shop::new();
    let open = shop.open().await;
    announce(&open, &json!({})).await;
    until("the manifest is taken", async || plugin(&open, NAME).await.is_some()).await;
    open.append(&[drawer("T1", 1, 0)]).await;
    open.change(NAME, json!({"active": true})).await;
    let again = drawer("T1", 2, 10);
    open.append(&[again.clone(), again, drawer("T2", 1, 11)]).await;
    open.append(&[event("pos.basket.started", "T1", 3, 12, json!({"basketId": "B1", "employeeId": "E1"}))]).await;
    open.has_read_all().await;
    open.change(NAME, json!({"eligibility": {"when": "event.data.employeeId == 'E-T2'"}})).await;
    open.append(&[drawer("T1", 4, 20), drawer("T2", 2, 21)]).await;
    open.has_read_all().await;
    open.change(NAME, json!({"active": false})).await;
    open.append(&[drawer("T2", 3, 30)]).await;
    open.has_read_all().await;
    open.change(NAME, json!({"active": true, "eligibility": {"when": null}})).await;
    open.append(&[drawer("T2", 4, 40)]).await;
    open.settled().await;
    assert_eq!(input_ids(&open).await, ["T1-2", "T2-1", "T2-2", "T2-4"]);
    let records = open.records(input()).await;
    let first = records.iter().find(|record| String::from_utf8_lossy(&record.value).contains("T1-2")).expect("there");
    assert_eq!(first.key.as_deref(), Some(&b"T1"[..]));
    assert_eq!(header(first, "content-type").as_deref(), Some("application/cloudevents+json"));
    assert_eq!(header(first, "tillstream-plugin").as_deref(), Some(NAME));
    assert_eq!(header(first, "tillstream-scope").as_deref(), Some("terminal"));
    assert_eq!(header(first, "tillstream-revision").as_deref(), Some("2"));
    assert_eq!(header(first, "tillstream-late"), None);
    let shown = plugin(&open, NAME).await.expect("known");
    assert_eq!(shown["stats"]["consumed"], 4, "{shown}");
    open.stop().await;
}

#[actix::test]
async fn across_tills_an_entitys_events_come_in_the_order_of_their_times() {
    let shop = Shop::new();
    let open = shop.open().await;
    switched_on(&open, &json!({"scope": "employee"})).await;
    let opened =
        |till: &str, sequence, second| event("pos.drawer.opened", till, sequence, second, json!({"employeeId": "E7"}));
    // One till for each partition, read one after the other: only Tillstream can put their events in order.
    let partition = |till: &String| partition_of(till.as_bytes(), open.app.bus.partitions());
    let names: Vec<_> = (1..100).map(|number| format!("T{number}")).collect();
    let tills: Vec<_> =
        (0..4).map(|wanted| names.iter().find(|till| partition(till) == wanted).expect("one")).collect();
    for (index, till) in [0_i64, 1, 2, 3].into_iter().zip(&tills).rev() {
        let events: Vec<_> =
            (0..5).map(|round: i64| opened(till, round.unsigned_abs() + 1, round * 40 + index * 10)).collect();
        open.append(&events).await;
    }
    open.append(&tills.iter().map(|till| opened(till, 9, 1000)).collect::<Vec<_>>()).await;
    until("those whose time has come are there", async || inputs(&*open.app.bus).await.len() >= 20).await;
    let records = open.records(input()).await;
    let times: Vec<_> = records
        .iter()
        .map(|record| {
            serde_json::from_slice::<Value>(&record.value).expect("JSON")["time"].as_str().expect("a time").to_owned()
        })
        .filter(|time| *time < at(900))
        .collect();
    assert_eq!(times, (0..20).map(|index| at(index * 10)).collect::<Vec<_>>());
    assert!(inputs(&*open.app.bus).await.iter().all(|(_, entity)| entity == "E7"));
    open.stop().await;
}

#[actix::test]
async fn what_other_plugins_publish_comes_with_scope_terminal_but_never_what_it_published_itself() {
    let shop = Shop::new();
    let open = shop.open().await;
    switched_on(&open, &json!({"eventTypes": ["pos.fraud.alert_raised", "pos.drawer.opened"]})).await;
    open.append(&[drawer("T1", 1, 0)]).await;
    until("the alert about the drawer is there too", async || inputs(&*open.app.bus).await.len() == 2).await;
    let mut own: Value = open.published("pos.fraud.alert_raised").await[0].clone();
    own["source"] = json!(format!("/plugins/{NAME}"));
    open.append_raw(on_topic(Topic::Events, "T1", own.to_string(), &[])).await;
    open.append(&[drawer("T1", 2, 5)]).await;
    until("the next alert is there", async || inputs(&*open.app.bus).await.len() >= 4).await;
    open.settled().await;
    let entities: Vec<_> = inputs(&*open.app.bus).await.into_iter().map(|(_, entity)| entity).collect();
    assert_eq!(entities, ["T1"; 4]);
    open.stop().await;
}

/// Shards, relay and all else die again and again while events flow; the input holds each event once, in the till's order.
#[actix::test]
async fn whatever_dies_and_starts_again_the_input_holds_each_event_once() {
    const EVENTS: u64 = 300;
    let shop = Shop::new();
    let open = shop.open().await;
    switched_on(&open, &json!({})).await;
    open.stop().await;
    let open = shop.start(AppOptions::default()).await;
    for sequence in 1..=EVENTS {
        open.append(&["T1", "T2", "T3"].map(|till| drawer(till, sequence, i64::try_from(sequence).expect("few"))))
            .await;
        if sequence % 60 == 0 {
            for name in open.app.crashes.names() {
                assert!(open.app.crashes.crash(&name), "{name} is known");
            }
        }
    }
    open.stop().await;
    let open = shop.open().await;
    open.settled().await;
    let all = inputs(&*open.app.bus).await;
    for till in ["T1", "T2", "T3"] {
        let ids: Vec<_> = all.iter().filter(|(_, entity)| entity == till).map(|(id, _)| id.clone()).collect();
        assert_eq!(ids, (1..=EVENTS).map(|sequence| format!("{till}-{sequence}")).collect::<Vec<_>>());
    }
    open.stop().await;
}

#[actix::test]
async fn input_that_lay_there_while_it_was_off_is_skipped_if_the_manager_chose_so() {
    let shop = Shop::new();
    let open = shop.open().await;
    switched_on(&open, &json!({})).await;
    let refused = open.call("PATCH", &format!("/api/plugins/{NAME}"), Some(json!({"whileOff": "drop"}))).await;
    assert_eq!((refused.0, &refused.1["errors"][0]["field"]), (422, &json!("whileOff")));
    let refused = open.call("PATCH", "/api/plugins/fraud-detection", Some(json!({"whileOff": "skip"}))).await;
    assert_eq!(refused.0, 422, "a built-in plugin has no input");
    open.change(NAME, json!({"active": false, "whileOff": "skip"})).await;
    open.change(NAME, json!({"active": true})).await;
    open.change(NAME, json!({"settings": {"threshold": 5}})).await;
    open.change(NAME, json!({"active": false, "whileOff": "wait"})).await;
    open.change(NAME, json!({"active": true})).await;
    open.settled().await;
    let told = open.records(Topic::Plugins).await;
    let told: Vec<Value> = told.iter().map(|one| serde_json::from_slice(&one.value).expect("JSON")).collect();
    let of = told.iter().map(|one| &one["data"]).filter(|data| data["name"] == NAME);
    let told: Vec<_> = of.map(|data| (data["revision"].clone(), data["skipBefore"].clone())).collect();
    let expected = [(1, 0), (2, 0), (3, 0), (4, 4), (5, 4), (6, 4), (7, 4)];
    assert_eq!(told, expected.map(|(revision, before)| (json!(revision), json!(before))));
    open.stop().await;
}

async fn open_letters(open: &Open) -> Vec<Value> {
    let (_, letters) = open.call("GET", &format!("/api/deadletters?status=open&plugin={NAME}"), None).await;
    letters["items"].as_array().expect("a list").clone()
}

#[actix::test]
async fn an_event_that_it_could_not_handle_is_a_dead_letter_that_can_be_replayed_to_it() {
    let shop = Shop::new();
    let open = shop.open().await;
    switched_on(&open, &json!({})).await;
    open.append(&[drawer("T1", 1, 0)]).await;
    until("it is in the input", async || inputs(&*open.app.bus).await.len() == 1).await;
    let value = open.records(input()).await[0].value.clone();
    let headers = [
        ("plugin", NAME),
        ("tillstream-plugin", NAME),
        ("reason", "plugin_failed"),
        ("message", "KeyError: 'x'"),
        ("topic", input().name()),
        ("partition", "0"),
        ("offset", "0"),
        ("tillstream-scope", "terminal"),
        ("tillstream-entity", "T1"),
    ];
    open.append_raw(on_topic(Topic::DeadLetters, "T1", value.clone(), &headers)).await;
    until("it is shown", async || open_letters(&open).await.len() == 1).await;
    let letter = open_letters(&open).await[0].clone();
    assert_eq!((&letter["message"], &letter["entity"]), (&json!("KeyError: 'x'"), &json!("terminal:T1")));
    let id = letter["id"].as_str().expect("an id").to_owned();
    let replay = format!("/api/deadletters/{id}/replay");

    open.change(NAME, json!({"active": false})).await;
    let (status, problem) = open.call("POST", &replay, None).await;
    assert_eq!(status, 409, "{problem}");
    open.change(NAME, json!({"active": true})).await;
    let (status, letter) = open.call("POST", &replay, None).await;
    assert_eq!((status, &letter["status"]), (200, &json!("replayed")), "{letter}");
    until("it is in the input again", async || inputs(&*open.app.bus).await.len() == 2).await;
    let again = open.records(input()).await.pop().expect("two");
    assert_eq!((&again.value, header(&again, "tillstream-dead-letter")), (&value, Some(id.clone())));

    let mut headers = headers.to_vec();
    headers.push(("tillstream-dead-letter", &id));
    open.append_raw(on_topic(Topic::DeadLetters, "T1", value, &headers)).await;
    until("the same one is open again", async || open_letters(&open).await.len() == 1).await;
    let letter = open_letters(&open).await[0].clone();
    assert_eq!((&letter["id"], &letter["attempts"]), (&json!(id), &json!(2)));
    let (status, _) = open.call("POST", &format!("/api/deadletters/{id}/discard"), None).await;
    assert_eq!(status, 200);
    open.stop().await;
}

#[actix::test]
async fn members_are_shown_as_their_heartbeats_tell() {
    let shop = Shop::new();
    let open = shop.open().await;
    announce(&open, &json!({})).await;
    until("the manifest is taken", async || plugin(&open, NAME).await.is_some()).await;
    assert_eq!(plugin(&open, NAME).await.expect("known")["alive"], false);
    let heartbeat = json!({"name": NAME, "member": "host-1-ab", "version": "1.0.0", "state": "failing", "revision": 1,
        "lag": 3, "processed": 9, "errors": 2, "lastError": "KeyError", "at": "2026-11-22T10:00:00.000Z"});
    until("it is heard", async || {
        open.append_raw(on_topic(Topic::Heartbeats, NAME, heartbeat.to_string(), &[])).await;
        plugin(&open, NAME).await.is_some_and(|plugin| plugin["alive"] == true)
    })
    .await;
    let shown = plugin(&open, NAME).await.expect("known");
    let member = &shown["members"][0];
    assert_eq!(
        (&member["state"], &member["lag"], &member["lastError"]),
        (&json!("failing"), &json!(3), &json!("KeyError"))
    );
    assert_eq!(shown["stats"]["errors"], 2);
    open.stop().await;
}

/// On a real broker: the topics are made, what is written can be read by those who read only what is committed, and two processes
/// that share the work obey one switch. Without `TILLSTREAM_TEST_KAFKA` and `TILLSTREAM_TEST_MYSQL` it says so and returns.
#[actix::test]
async fn on_kafka_two_processes_fill_its_input_and_obey_one_switch() {
    const EVENTS: u64 = 200;
    let (Ok(brokers), Some(database)) = (std::env::var("TILLSTREAM_TEST_KAFKA"), Database::on_server("two processes"))
    else {
        let why =
            "skipped: TILLSTREAM_TEST_KAFKA names no broker, or TILLSTREAM_TEST_MYSQL no server (scripts/services up)";
        let _ = writeln!(std::io::stderr(), "{why}");
        return;
    };
    let mut shop = Shop::on_a_file();
    shop.use_database(database);
    shop.config.bus.kind = BusKind::Kafka;
    shop.config.bus.brokers = brokers;
    shop.config.bus.topic_prefix = format!("external-{:016x}.", rand::random::<u64>());
    shop.config.bus.group = format!("{}group", shop.config.bus.topic_prefix);
    let open = shop.open().await;
    switched_on(&open, &json!({})).await;
    let other = shop.open().await;
    until("the other process knows it", async || plugin(&other, NAME).await.is_some_and(|one| one["active"] == true))
        .await;
    let tills = ["T1", "T2", "T3", "T4", "T5"];
    let append_all = async |from: u64, to: u64| {
        for sequence in from..=to {
            let second = i64::try_from(sequence).expect("few");
            open.append(&tills.map(|till| drawer(till, sequence, second))).await;
        }
    };
    append_all(1, EVENTS).await;
    let count = async || inputs(&*open.app.bus).await.len();
    until("all is in the input", async || count().await >= tills.len() * 200).await;
    open.change(NAME, json!({"active": false})).await;
    until("the other process knows it", async || plugin(&other, NAME).await.is_some_and(|one| one["active"] == false))
        .await;
    append_all(EVENTS + 1, EVENTS + 20).await;
    open.change(NAME, json!({"active": true})).await;
    append_all(EVENTS + 21, EVENTS + 40).await;
    until("what followed is in the input", async || count().await >= tills.len() * 220).await;
    other.stop().await;
    let all = inputs(&*open.app.bus).await;
    for till in tills {
        let ids: Vec<_> = all.iter().filter(|(_, entity)| entity == till).map(|(id, _)| id.clone()).collect();
        let expected = (1..=EVENTS).chain(EVENTS + 21..=EVENTS + 40).map(|sequence| format!("{till}-{sequence}"));
        assert_eq!(ids, expected.collect::<Vec<_>>());
    }
    open.stop().await;
}
