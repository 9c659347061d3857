//! Places that stand still: a batch that nobody can decode, by a proxy that names an unknown codec in it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::beside_others;
use crate::chain::{Chain, PATIENCE, until};
use crate::process::Process;
use crate::shop::drawer;
use crate::support::proxy::Proxy;

/// So many events of one till are compressed for sure.
const EVENTS: u64 = 50;

/// An installation behind a proxy that spoils what is compressed, and a process of it that is soon impatient.
fn behind_a_proxy(what: &str) -> Option<(Chain, Proxy, Process)> {
    let mut chain = Chain::new(what)?;
    let proxy = Proxy::before(&std::env::var("TILLSTREAM_TEST_KAFKA").ok()?);
    chain.environment.push(("TILLSTREAM__BUS__BROKERS", proxy.address.clone()));
    chain.environment.push(("TILLSTREAM__HEALTH__STANDSTILLSECONDS", "8".to_owned()));
    let process = chain.start("all");
    Some((chain, proxy, process))
}

/// The message of a check that fails, by the beginning of its name.
fn fault(health: &Value, name: &str) -> Option<String> {
    let checks = health["checks"].as_array()?;
    let check = checks.iter().find(|check| check["name"].as_str().is_some_and(|known| known.starts_with(name)))?;
    (check["ok"] == false).then(|| check["message"].as_str().unwrap_or_default().to_owned())
}

#[actix::test]
async fn a_partition_that_stands_still_is_unready_by_name_with_the_cause_and_goes_on_once_it_can() {
    let _beside = beside_others();
    let Some((chain, mut proxy, process)) = behind_a_proxy("a partition that stands still") else { return };
    until("it is ready", PATIENCE, async || process.get("/health/ready").await.0 == 200).await;
    proxy.does("spoil events");
    let events: Vec<_> = (1..=EVENTS).map(|number| drawer("T1", number, 0)).collect();
    process.post(&events).await;
    let mut said = String::new();
    until("readiness names the partition", PATIENCE, async || {
        let (status, health) = process.get("/health/ready").await;
        said = fault(&health, "pos.events/").unwrap_or_default();
        status == 503 && !said.is_empty()
    })
    .await;
    for part in ["stands still at offset 0 since 20", "codec", "docs/operations.md"] {
        assert!(said.contains(part), "{part:?} is missing in: {said}");
    }

    proxy.does("mend");
    until("it is ready again", PATIENCE, async || process.get("/health/ready").await.0 == 200).await;
    chain.reaches(i64::try_from(EVENTS).expect("small")).await;
}

fn announce(chain: &Chain, codec: &str, manifest: &Value) {
    let brokers = std::env::var("TILLSTREAM_TEST_KAFKA").expect("looked at before");
    let topic = format!("{}.pos.plugins.manifests", chain.name());
    let name = manifest["name"].as_str().expect("a name");
    let mut command = Command::new("kcat");
    command.args(["-P", "-b", &brokers, "-t", &topic, "-k", name, "-z", codec]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("kcat is installed");
    writeln!(child.stdin.take().expect("it is piped"), "{manifest}").expect("kcat reads");
    assert!(child.wait().expect("it ends").success());
}

fn manifest(name: &str) -> Value {
    json!({
        "protocol": 1, "name": name, "version": "1.0.0", "description": "again and again ".repeat(20), "scope": "terminal",
        "eventTypes": ["pos.drawer.opened"],
        "settingsSchema": {"type": "object", "properties": {}, "additionalProperties": false}, "defaultSettings": {},
    })
}

#[actix::test]
async fn a_manifest_that_nobody_can_decode_is_passed_over_named_and_keeps_no_later_plugin_from_being_seen() {
    let _beside = beside_others();
    let Some((chain, mut proxy, process)) = behind_a_proxy("an unreadable manifest") else { return };
    until("it is ready", PATIENCE, async || process.get("/health/ready").await.0 == 200).await;
    proxy.does("spoil manifests");
    announce(&chain, "gzip", &manifest("never-seen"));
    let mut letters = Value::Null;
    until("the record is a dead letter", PATIENCE, async || {
        letters = process.get("/api/deadletters?reason=unreadable").await.1;
        letters["items"].as_array().is_some_and(|items| !items.is_empty())
    })
    .await;
    let letter = &letters["items"][0];
    assert_eq!(
        (&letter["topic"], &letter["partition"], &letter["offset"]),
        (&json!("pos.plugins.manifests"), &json!(0), &json!(0))
    );
    assert!(letter["message"].as_str().is_some_and(|text| text.contains("offsets 0 to 0")), "{letter}");

    announce(&chain, "none", &manifest("seen-later"));
    until("the next plugin is seen", PATIENCE, async || process.get("/api/plugins/seen-later").await.0 == 200).await;
    assert_eq!(process.get("/api/plugins/never-seen").await.0, 404);
    proxy.does("mend");
}
