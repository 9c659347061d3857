//! The examples of the plugin protocol (`clients/vectors`) that Tillstream itself writes: messages about switch and settings, and
//! input records. The clients read the very same.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tillstream::bus::Topic;

use crate::external::{NAME, announce, input, plugin};
use crate::shop::{Open, Shop, until};

/// Those that Tillstream writes when a manager makes `changes`.
fn written(name: &str) -> Vec<Value> {
    let path = format!("{}/clients/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let all: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    let written: Vec<_> = all.into_iter().filter(|vector| vector.get("changes").is_some()).collect();
    assert!(!written.is_empty(), "{path} has none");
    written
}

fn list(vector: &Value, key: &str) -> Vec<Value> {
    vector[key].as_array().cloned().unwrap_or_default()
}

async fn changed(open: &Open, vector: &Value) {
    announce(open, &json!({})).await;
    until("the manifest is taken", async || plugin(open, NAME).await.is_some()).await;
    for change in list(vector, "changes") {
        open.change(NAME, change).await;
    }
}

#[actix::test]
async fn what_a_manager_does_is_told_on_pos_plugins_as_the_clients_expect_it() {
    for vector in written("settings") {
        let shop = Shop::new();
        let open = shop.open().await;
        changed(&open, &vector).await;
        open.settled().await;
        let records = open.records(Topic::Plugins).await;
        let told = records.iter().filter(|record| record.key.as_deref() == Some(NAME.as_bytes())).map(|record| {
            let mut value: Value = serde_json::from_slice(&record.value).expect("JSON");
            assert!(value["time"].is_string(), "{value}");
            // The only thing that differs from run to run.
            value["time"] = json!("2026-01-05T08:00:00.000Z");
            json!({"key": NAME, "value": value})
        });
        assert_eq!(told.collect::<Vec<_>>(), list(&vector, "messages"), "{}", vector["name"]);
        open.stop().await;
    }
}

#[actix::test]
async fn an_event_is_written_to_the_input_as_the_clients_expect_it() {
    for vector in written("inputs") {
        let shop = Shop::new();
        let open = shop.open().await;
        changed(&open, &vector).await;
        let before = list(&vector, "before");
        for event in before.iter().chain([&vector["value"]]) {
            open.append(std::slice::from_ref(event)).await;
        }
        open.settled().await;
        let mut records = open.records(input()).await;
        assert_eq!(records.len(), before.len() + 1);
        let record = records.pop().expect("the last one");
        let headers: BTreeMap<_, _> =
            record.headers.iter().map(|(name, text)| (name, String::from_utf8_lossy(text).into_owned())).collect();
        assert_eq!(json!(headers), vector["headers"], "{}", vector["name"]);
        assert_eq!(record.key.as_deref(), vector["key"].as_str().map(str::as_bytes));
        let value: Value = serde_json::from_slice(&record.value).expect("JSON");
        assert_eq!(value, vector["value"]);
        open.stop().await;
    }
}
