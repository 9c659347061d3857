//! A manifest that would take for ever, on a real compacted topic: it is named, everything else goes on, also after a restart.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tillstream::bus::{NewRecord, Topic};

use crate::beside_others;
use crate::chain::{Chain, PATIENCE, until};
use crate::process::Process;
use crate::shop::drawer;

/// Forty definitions that each refer twice to the next one: 2^40 steps for whoever follows them.
fn endless() -> Value {
    let next = |number: usize| json!({"$ref": format!("#/$defs/d{number}")});
    let mut definitions: Map<String, Value> =
        (0..40).map(|number| (format!("d{number}"), json!({"allOf": [next(number + 1), next(number + 1)]}))).collect();
    definitions.insert("d40".to_owned(), json!({"type": "integer"}));
    json!({"type": "object", "properties": {"a": next(0)}, "$defs": definitions})
}

fn manifest(name: &str, version: &str, schema: &Value) -> NewRecord {
    let manifest = json!({"protocol": 1, "name": name, "version": version, "description": "Does something.",
        "scope": "terminal", "eventTypes": ["pos.drawer.opened"], "settingsSchema": schema, "defaultSettings": {"a": 1}});
    NewRecord {
        topic: Topic::Manifests,
        partition: None,
        key: Some(Bytes::copy_from_slice(name.as_bytes())),
        value: Bytes::from(manifest.to_string()),
        headers: Vec::new(),
    }
}

/// Waits until a plugin is there, with this in one of its fields.
async fn shows(process: &Process, name: &str, field: &str, part: &str) {
    until(&format!("{name} shows {part}"), PATIENCE, async || {
        let (_, plugin) = process.get(&format!("/api/plugins/{name}")).await;
        plugin[field].as_str().is_some_and(|text| text.contains(part))
    })
    .await;
}

#[actix::test]
async fn a_manifest_that_would_take_for_ever_stops_nothing_and_nothing_after_a_restart() {
    let _beside = beside_others();
    let Some(chain) = Chain::new("manifests on Kafka") else { return };
    let process = chain.start("all");
    let plain = json!({"type": "object"});
    chain.append(vec![manifest("endless", "1", &endless()), manifest("plain", "1", &plain)]).await;
    shows(&process, "plain", "version", "1").await;
    shows(&process, "endless", "refused", "references counted").await;
    until("it is ready", PATIENCE, async || process.get("/health/ready").await.0 == 200).await;
    let (status, _) = process.patch("/api/plugins/customer-lookup", json!({"active": true})).await;
    assert_eq!(status, 200);
    process.post(&[drawer("T1", 1, 0)]).await;
    chain.reaches(1).await;
    let (status, took) = process.stop_by("TERM");
    assert!(status.success() && took < Duration::from_secs(30), "{status} after {took:?}");

    // The topic hands out the same record again, since nothing has replaced it.
    let process = chain.start("all");
    chain.append(vec![manifest("plain", "2", &plain)]).await;
    shows(&process, "plain", "version", "2").await;
    shows(&process, "endless", "refused", "references counted").await;
    chain.append(vec![manifest("endless", "2", &plain)]).await;
    shows(&process, "endless", "version", "2").await;
    process.stop_by("TERM");
}
