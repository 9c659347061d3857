//! Stock Kafka clients on both sides of the product, on a real broker: kcat, whose default partitioner is not the Java
//! client's, writes events; a kcat that reads only what is committed sees what plugins publish; Kafka's own tool shows the
//! group and its lag. And broker, database and processes go away, if `scripts/services` started them, with the same
//! `SERVICES_DIR`.
#![expect(clippy::await_holding_lock, reason = "tests take turns, and each has a runtime of its own")]

#[path = "kafka/away.rs"]
mod away;
#[path = "pipeline/chain.rs"]
mod chain;
#[path = "kafka/codecs.rs"]
mod codecs;
#[path = "kafka/disturbed.rs"]
mod disturbed;
#[path = "kafka/ghosts.rs"]
mod ghosts;
#[path = "kafka/late_end.rs"]
mod late_end;
#[path = "kafka/manifests.rs"]
mod manifests;
#[path = "kafka/moving.rs"]
mod moving;
mod oracle;
#[path = "kafka/outage.rs"]
mod outage;
#[path = "kafka/partitions.rs"]
mod partitions;
#[path = "pipeline/process.rs"]
mod process;
#[path = "kafka/refusals.rs"]
mod refusals;
#[path = "pipeline/shop.rs"]
mod shop;
#[path = "kafka/standing.rs"]
mod standing;
mod support;
#[path = "pipeline/tills.rs"]
mod tills;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::Value;

const EVENTS: u64 = 3000;
const BINARY_EVENTS: u64 = 3;

static SERVERS: RwLock<()> = RwLock::new(());

/// For tests that take a server away, or measure: no other one runs meanwhile.
fn alone() -> RwLockWriteGuard<'static, ()> {
    SERVERS.write().unwrap_or_else(PoisonError::into_inner)
}

/// For tests that only use the servers: those run beside each other.
fn beside_others() -> RwLockReadGuard<'static, ()> {
    SERVERS.read().unwrap_or_else(PoisonError::into_inner)
}

struct Installation {
    brokers: String,
    prefix: String,
    data: tempfile::TempDir,
}

impl Installation {
    /// `None`, said aloud, if the environment names no broker.
    fn new() -> Option<Self> {
        let Ok(brokers) = std::env::var("TILLSTREAM_TEST_KAFKA") else {
            let _ = writeln!(std::io::stderr(), "skipped: TILLSTREAM_TEST_KAFKA names no broker (scripts/services up)");
            return None;
        };
        let prefix = format!("it-{:016x}.", rand::random::<u64>());
        Some(Self { brokers, prefix, data: tempfile::tempdir().expect("a directory") })
    }

    fn tillstream(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tillstream"));
        command.args(arguments).current_dir(self.data.path());
        command
            .env("TILLSTREAM__BUS__KIND", "kafka")
            .env("TILLSTREAM__BUS__BROKERS", &self.brokers)
            .env("TILLSTREAM__BUS__TOPICPREFIX", &self.prefix)
            .env("TILLSTREAM__BUS__GROUP", self.group())
            .env("TILLSTREAM__BUS__PARTITIONS", "4")
            .env("TILLSTREAM__STORE__URL", format!("sqlite:{}", self.data.path().join("store.db").display()));
        let output = command.output().expect("it starts");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    fn group(&self) -> String {
        format!("{}group", self.prefix)
    }

    fn kcat(&self, arguments: &[&str], input: &str) -> String {
        let topic = format!("{}pos.events", self.prefix);
        let mut command = Command::new("kcat");
        command.args(["-b", &self.brokers, "-t", &topic]).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("kcat is installed");
        child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("kcat reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "kcat {arguments:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn until_caught_up(&self) -> Value {
        let output = self.tillstream(&["serve", "--until-caught-up"]);
        let summary = String::from_utf8(output.stdout).expect("UTF-8");
        serde_json::from_str(summary.lines().last().expect("a summary")).expect("JSON")
    }

    /// What a stock consumer that reads only committed records finds on `pos.events`.
    fn committed(&self) -> Vec<Value> {
        let read = ["-C", "-e", "-q", "-o", "beginning", "-X", "isolation.level=read_committed"];
        self.kcat(&read, "").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

#[test]
fn what_kcat_writes_is_understood_and_what_plugins_publish_can_be_read_by_it() {
    let _beside = beside_others();
    let Some(shop) = Installation::new() else { return };
    // Creates the topics.
    assert_eq!(shop.until_caught_up()["events"], 0);

    let count = EVENTS.to_string();
    let made = shop.tillstream(&["rig", "--to", "stdout", "--events", &count, "--anomalies", "0.05", "--seed", "7"]);
    let mut keyed = String::new();
    for event in String::from_utf8(made.stdout).expect("UTF-8").lines() {
        let parsed: Value = serde_json::from_str(event).expect("JSON");
        let key = parsed["partitionkey"].as_str().expect("the rig names the key");
        writeln!(keyed, "{key}\t{event}").expect("a string takes everything");
    }
    shop.kcat(&["-P", "-K", "\t", "-H", "content-type=application/cloudevents+json"], &keyed);
    for number in 1..=BINARY_EVENTS {
        let id = format!("ce_id=binary-{number}");
        let headers = [
            "ce_specversion=1.0",
            &id,
            "ce_source=/stores/S009/terminals/T0901",
            "ce_type=pos.drawer.opened",
            "ce_time=2026-01-05T10:00:00Z",
            "content-type=application/json",
        ];
        let headers = headers.iter().flat_map(|header| ["-H", *header]);
        let arguments: Vec<_> = ["-P", "-k", "T0901"].into_iter().chain(headers).collect();
        shop.kcat(&arguments, "{\"employeeId\":\"E0001\"}");
    }

    let summary = shop.until_caught_up();
    assert_eq!(summary["events"], EVENTS + BINARY_EVENTS, "{summary}");
    assert_eq!((&summary["duplicates"], &summary["deadLetters"]), (&0.into(), &0.into()), "{summary}");
    let again = shop.until_caught_up();
    assert_eq!((&again["events"], &again["derived"]), (&0.into(), &0.into()), "everything was done once: {again}");

    let read = shop.committed();
    let published: Vec<_> = read
        .iter()
        .filter(|event| event["source"].as_str().is_some_and(|source| source.starts_with("/plugins/")))
        .filter(|event| event["type"].as_str().is_some_and(|kind| kind.starts_with("pos.")))
        .map(|event| event["id"].as_str().expect("an id"))
        .collect();
    let distinct: HashSet<_> = published.iter().collect();
    assert!(!published.is_empty() && distinct.len() == published.len(), "{} of {}", distinct.len(), published.len());

    the_tool_shows_group_and_lag(&shop);
}

fn the_tool_shows_group_and_lag(shop: &Installation) {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services");
    let arguments = ["kafka-tool", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--bootstrap-server"];
    let output = Command::new(tool)
        .args(arguments)
        .args([&shop.brokers, "--describe", "--group", &shop.group()])
        .output()
        .expect("the script starts");
    let described = String::from_utf8(output.stdout).expect("UTF-8");
    let events = format!("{}pos.events", shop.prefix);
    let lags: Vec<i64> = described
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns.get(1) == Some(&events.as_str()))
        .map(|columns| columns[5].parse().expect("a number"))
        .collect();
    assert_eq!(lags, [0, 0, 0, 0], "{described}{}", String::from_utf8_lossy(&output.stderr));
}
