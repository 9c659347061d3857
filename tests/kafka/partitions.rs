//! Somebody adds partitions to a topic that is in use: what is there goes on, and what nobody reads is named.

use std::sync::LazyLock;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tillstream::time::Timestamp;

use crate::beside_others;
use crate::chain::{Chain, PARTITIONS, PATIENCE, until};
use crate::process::Process;
use crate::shop::{drawer, event};

const ADDED: usize = 4;
const TILLS: u64 = 20;

fn brokers() -> String {
    std::env::var("TILLSTREAM_TEST_KAFKA").expect("the chain was made with it")
}

async fn add_partitions(topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().expect("a client");
    let wanted = NewPartitions::new(topic, PARTITIONS as usize + ADDED);
    let done = admin.create_partitions([&wanted], &AdminOptions::new()).await.expect("an answer");
    assert!(done.into_iter().all(|result| result.is_ok()));
}

/// A sender that counts all partitions puts an event on the last one.
fn send_to_the_last(topic: &str, event: &Value) {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", brokers()).create().expect("a client");
    let (key, value) = ("T1", event.to_string());
    let last = i32::try_from(PARTITIONS as usize + ADDED - 1).expect("a small number");
    producer
        .send(BaseRecord::to(topic).key(key).payload(&value).partition(last))
        .map_err(|(error, _)| error)
        .expect("room");
    producer.flush(PATIENCE).expect("it is written");
}

/// Every till opens its drawer once more, and each event is applied; `applied` were before, since the process started.
async fn drawers_are_opened(process: &Process, round: u64, applied: u64) {
    let events: Vec<_> = (1..=TILLS).map(|till| drawer(&format!("T{till}"), round, 0)).collect();
    process.post(&events).await;
    let expected = format!("tillstream_events_total {}", applied + TILLS);
    until("every drawer is looked at", PATIENCE, async || metrics(process).await.contains(&expected)).await;
}

async fn metrics(process: &Process) -> String {
    let answer = reqwest::get(format!("{}/metrics", process.url())).await.expect("an answer");
    answer.text().await.expect("a text")
}

/// The status of readiness, and what it says of partitions.
async fn partitions_check(process: &Process) -> (u16, Option<Value>) {
    let (status, body) = process.get("/health/ready").await;
    let checks = body["checks"].as_array().cloned().unwrap_or_default();
    (status, checks.into_iter().find(|check| check["name"] == "partitions"))
}

#[actix::test]
async fn partitions_that_somebody_adds_stop_nothing_and_what_nobody_reads_is_named() {
    let _beside = beside_others();
    let Some(mut chain) = Chain::new("partitions are added") else { return };
    // The group hears of new partitions within a second instead of minutes.
    chain.environment.push(("TILLSTREAM__BUS__KAFKA__TOPIC_METADATA_REFRESH_INTERVAL_MS", "1000".to_owned()));
    let process = chain.start("all");
    drawers_are_opened(&process, 1, 0).await;
    assert_eq!(partitions_check(&process).await, (200, None));

    let topic = format!("{}.pos.events", chain.name());
    add_partitions(&topic).await;
    until("the surplus is named", PATIENCE, async || partitions_check(&process).await.1.is_some()).await;
    let (status, check) = partitions_check(&process).await;
    let check = check.expect("just seen");
    assert_eq!((status, &check["state"]), (200, &"degraded".into()), "nothing stands there yet: {check}");
    drawers_are_opened(&process, 2, TILLS).await;

    send_to_the_last(&topic, &drawer("T1", 1000, 0));
    until("what nobody reads makes it unready", PATIENCE, async || partitions_check(&process).await.0 == 503).await;
    let message =
        partitions_check(&process).await.1.expect("it is named")["message"].as_str().expect("a text").to_owned();
    assert!(message.contains("has 12 partitions, but bus.partitions is 8"), "{message}");
    assert!(message.contains("partitions 8 to 11") && message.contains("1 records"), "{message}");
    let metrics = metrics(&process).await;
    assert!(
        metrics.contains("tillstream_bus_surplus_partitions 4") && metrics.contains("tillstream_bus_surplus_records 1")
    );
    drawers_are_opened(&process, 3, 2 * TILLS).await;

    drop(process);
    let again = chain.start("all");
    drawers_are_opened(&again, 4, 0).await;
    assert_eq!(again.get("/api/system").await.1["actors"].to_string().matches("panicked").count(), 0);

    let check = chain.command(&["check"]).output().expect("it starts");
    let said = String::from_utf8(check.stdout).expect("UTF-8");
    assert_eq!(check.status.code(), Some(1), "{said}");
    assert!(said.contains("Nobody reads partitions 8 to 11"), "{said}");
}

/// What a till sends, so many seconds after it was two hours ago: it works on while the shop moves from one bus to the other.
fn of_employee(kind: &str, sequence: u64, second: i64) -> Value {
    let mut event = event(kind, "T1", sequence, 0, json!({"employeeId": "E7"}));
    event["time"] = json!(opened().plus_seconds(second).to_string());
    event
}

/// When the shop was opened: the same for all events of this test.
fn opened() -> Timestamp {
    static OPENED: LazyLock<Timestamp> = LazyLock::new(|| Timestamp::now().plus_seconds(-7200));
    *OPENED
}

/// Everything is processed; what the summary says.
fn caught_up(chain: &Chain) -> Value {
    let output = chain.command(&["serve", "--until-caught-up"]).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary = String::from_utf8(output.stdout).expect("UTF-8");
    serde_json::from_str(summary.lines().last().expect("a summary")).expect("JSON")
}

async fn posted(chain: &Chain, events: &[Value]) {
    let api = chain.start("api");
    api.post(events).await;
    assert!(api.stop_by("TERM").0.success());
}

#[actix::test]
async fn a_store_goes_on_with_more_partitions_as_if_nothing_had_happened() {
    let _beside = beside_others();
    let Some(mut chain) = Chain::new("a store is repartitioned") else { return };
    let mut events: Vec<_> = (1..=TILLS).map(|till| drawer(&format!("T-{till}"), 1, 0)).collect();
    events.push(of_employee("pos.employee.logged_in", 1, 0));
    posted(&chain, &events).await;
    let topic = format!("{}.pos.events", chain.name());
    add_partitions(&topic).await;
    send_to_the_last(&topic, &of_employee("pos.drawer.opened", 2, 60));

    let (old, new) = (format!("{}.", chain.name()), format!("{}.more.", chain.name()));
    chain.environment.push(("TILLSTREAM__BUS__TOPICPREFIX", new));
    chain.environment.push(("TILLSTREAM__BUS__PARTITIONS", "12".to_owned()));
    let environment = std::mem::replace(&mut chain.environment, vec![("TILLSTREAM__BUS__TOPICPREFIX", old)]);
    assert_eq!(caught_up(&chain)["events"], TILLS + 1);

    chain.environment = environment;
    let refused = chain.command(&["serve", "--until-caught-up"]).output().expect("it starts");
    assert_eq!(refused.status.code(), Some(2), "the store belongs to the old topics");
    let done = chain.command(&["repartition"]).output().expect("it starts");
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains("1 records of added partitions were appended"), "{said}");
    let again = chain.command(&["repartition"]).output().expect("it starts");
    assert_eq!(again.status.code(), Some(2), "there is nothing left to do");

    // Every window has come along, so the drawers are known; and so has the session that is open.
    events.pop();
    events.push(of_employee("pos.employee.logged_out", 3, 3600));
    posted(&chain, &events).await;
    let summary = caught_up(&chain);
    assert_eq!((&summary["events"], &summary["duplicates"]), (&2.into(), &TILLS.into()), "{summary}");
    let sessions = "SELECT CONCAT(seconds, ' ', cause) AS value FROM sessions WHERE employee_id = 'E7'";
    assert_eq!(chain.database.texts(sessions), ["3600 logout"]);
}
