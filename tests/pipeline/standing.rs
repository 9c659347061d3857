//! A chunk of the embedded log that nobody can read: its partition stands still, by name; the others go on.

use diesel::Connection;
use diesel::connection::SimpleConnection;
use diesel::sqlite::SqliteConnection;
use serde_json::{Value, json};
use tillstream::app::open_bus;
use tillstream::bus::partitioner::partition_of;

use crate::process::{Process, command};
use crate::shop::{Shop, append, drawer, drawer_rule, until};

/// Puts events on the log while no process works on it.
async fn append_to(shop: &Shop, events: &[Value]) {
    let bus = open_bus(&shop.config).await.expect("the log can be opened");
    append(&*bus, events).await;
}

#[actix::test]
async fn a_damaged_chunk_of_the_embedded_log_stops_its_partition_alone_and_readiness_names_it() {
    let shop = Shop::with_plugins(&json!({
        "plugins": {"fraud-detection": {"active": true, "settings": {"rules": [drawer_rule(0)]}}},
    }));
    let place = |till: &str| partition_of(till.as_bytes(), shop.config.bus.partitions);
    let other =
        (2..100).map(|number| format!("T{number}")).find(|till| place(till) != place("T1")).expect("another partition");
    append_to(&shop, &[drawer("T1", 1, 0)]).await;
    let mut log = SqliteConnection::establish(&shop.config.bus.path.to_string_lossy()).expect("the log is there");
    log.batch_execute("UPDATE chunks SET data = CAST(substr(data, 1, length(data) - 1) || 'X' AS BLOB)")
        .expect("damage");
    drop(log);
    append_to(&shop, &[drawer(&other, 1, 0)]).await;

    let process = Process::spawn(command(&shop).env("TILLSTREAM__HEALTH__STANDSTILLSECONDS", "8"));
    until("the other till's event is applied", async || {
        let (_, alerts) = process.get("/api/alerts").await;
        alerts["items"].as_array().is_some_and(|items| items.iter().any(|alert| alert["terminalId"] == other.as_str()))
    })
    .await;
    let name = format!("pos.events/{}", place("T1"));
    let mut said = String::new();
    until("readiness names the partition", async || {
        let (status, health) = process.get("/health/ready").await;
        let checks = health["checks"].as_array().cloned().unwrap_or_default();
        let check = checks.into_iter().find(|check| check["name"] == name.as_str());
        said = check.map(|check| check["message"].to_string()).unwrap_or_default();
        status == 503 && !said.is_empty()
    })
    .await;
    for part in ["stands still at offset 0 since 20", "bus.db is damaged", "restore"] {
        assert!(said.contains(part), "{part:?} is missing in: {said}");
    }
}
