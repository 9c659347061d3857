//! A store that is put back from a backup: what was accepted since then comes back from the bus, with its keys, and nothing that
//! had ended is sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tillstream::bus::embedded::EmbeddedBus;
use tillstream::bus::{Bus, NewRecord, Topic};
use tillstream::delivery::stub_orders::{Behaviour, StubOrders};
use tillstream::store::Store;

use crate::chain::{self, Chain};
use crate::process::Process;
use crate::shop::{Open, Shop, until};
use crate::support::database::Database;
use crate::support::site::binary;
use crate::tills::{keys, order, post, tills};

const PATIENCE: Duration = Duration::from_mins(4);
/// Tills, and orders of each.
const SIZE: (usize, usize) = (8, 40);

fn third_party(behaviour: Behaviour) -> StubOrders {
    StubOrders::start(0, behaviour, 7, StubOrders::REMEMBER_DEFAULT).expect("a free port")
}

fn backup(shop: &Shop) {
    let mut command = Command::new(binary());
    command.arg("backup").arg(shop.path("backup")).current_dir(shop.path(""));
    command.env("TILLSTREAM__STORE__URL", shop.database().url()).env("TILLSTREAM__BUS__PATH", &shop.config.bus.path);
    assert!(command.stdout(Stdio::null()).status().expect("the binary starts").success());
}

/// As docs/operations.md says: the file in its place, without what SQLite left beside the old one.
fn put_back(copy: &Path, place: &Path) {
    for rest in ["-wal", "-shm"] {
        // Not there if the process ended in good order.
        let _ = fs::remove_file(format!("{}{rest}", place.display()));
    }
    fs::copy(copy, place).expect("a copy");
}

/// Posts what was posted before, under the same keys.
async fn again(process: &Process) -> BTreeMap<String, String> {
    let (_address, addresses) = tokio::sync::watch::channel(process.url().to_owned());
    let mut told = tills(addresses, SIZE.0, SIZE.1).await;
    told.extend(later(process).await);
    told
}

/// Posts some orders that no backup can hold.
async fn later(process: &Process) -> BTreeMap<String, String> {
    let (client, mut told) = (reqwest::Client::new(), BTreeMap::new());
    for number in 0..5 {
        let key = format!("later-{number}");
        let (status, id) = post(&client, process.url(), &key, &order("T1", 7 + number)).await.expect("an answer");
        assert_eq!(status, 201);
        told.insert(key, id.expect("an id"));
    }
    told
}

async fn have_succeeded(process: &Process, count: usize) {
    let counts = async || process.get("/api/orders/stats").await.1["counts"].clone();
    let all = json!({"PENDING": 0, "SUCCESS": count, "FAILED": 0});
    chain::until("the orders have ended", PATIENCE, async || counts().await == all).await;
}

/// Waits until all that was decided is on the bus as well.
async fn told_all(database: &Database) {
    let left = "SELECT CAST(COUNT(*) AS CHAR) AS value FROM outbox";
    chain::until("the outbox is empty", PATIENCE, async || database.texts(left) == ["0"]).await;
}

/// What the restore told the audit trail.
async fn audited(process: &Process) -> Value {
    told(&process.get("/api/audit").await.1)
}

fn told(audit: &Value) -> Value {
    let items = audit["items"].as_array().expect("a list");
    let entry = items.iter().find(|entry| entry["action"] == "orders.restore").expect("it is audited");
    entry["new"].clone()
}

fn assert_each_arrived_once(party: &StubOrders, told: &BTreeMap<String, String>) {
    let received = party.received();
    assert_eq!(received.len(), told.len());
    assert!(received.iter().all(|order| order.times == 1), "nothing is sent again");
    let ids: BTreeSet<&str> = received.iter().map(|order| order.id.as_str()).collect();
    assert_eq!(ids, told.values().map(String::as_str).collect());
}

fn assert_each_published_once(mut published: Vec<String>, told: &BTreeMap<String, String>) {
    published.sort_unstable();
    let mut ids: Vec<&String> = told.values().collect();
    ids.sort_unstable();
    assert_eq!(published.iter().collect::<Vec<_>>(), ids);
}

#[actix::test]
async fn orders_accepted_after_the_backup_come_back_with_their_keys_and_are_not_sent_again() {
    let party = third_party(Behaviour::default());
    let shop = Shop::on_a_file().with_orders(&party.url());
    let process = Process::start(&shop);
    let (address, addresses) = tokio::sync::watch::channel(process.url().to_owned());
    let posting = actix::spawn(tills(addresses, SIZE.0, SIZE.1));
    until("some orders arrived", async || party.received().len() > 20).await;
    backup(&shop);
    let mut told = posting.await.expect("the tills did not give up");
    told.extend(later(&process).await);
    drop(address);
    have_succeeded(&process, told.len()).await;
    told_all(shop.database()).await;
    process.stop_by("TERM");

    put_back(&shop.path("backup/store.db"), &shop.path("store.db"));
    let process = Process::start(&shop);
    have_succeeded(&process, told.len()).await;
    assert_eq!(again(&process).await, told, "each key finds the order that it made");
    have_succeeded(&process, told.len()).await;
    let restored = audited(&process).await;
    assert!(restored["rebuilt"].as_u64() >= Some(5) && restored["withoutKey"] == 0, "{restored}");
    process.stop_by("TERM");
    assert_each_arrived_once(&party, &told);
    let open = shop.open().await;
    assert_each_published_once(keys(&open.records(Topic::OrderCreated).await), &told);
    open.stop().await;
    party.stop().await;
}

#[actix::test]
async fn store_and_log_of_one_backup_taken_under_load_hold_every_order_that_either_of_them_knows() {
    let party = third_party(Behaviour::default());
    let shop = Shop::on_a_file().with_orders(&party.url());
    let process = Process::start(&shop);
    let (address, addresses) = tokio::sync::watch::channel(process.url().to_owned());
    let posting = actix::spawn(tills(addresses, SIZE.0, SIZE.1));
    until("some orders arrived", async || party.received().len() > 20).await;
    let before: BTreeSet<String> = party.received().into_iter().map(|order| order.id).collect();
    backup(&shop);
    let told = posting.await.expect("the tills did not give up");
    drop(address);
    process.stop_by("KILL");

    put_back(&shop.path("backup/store.db"), &shop.path("store.db"));
    put_back(&shop.path("backup/bus.db"), &shop.path("bus.db"));
    let open = shop.open().await;
    let logged: BTreeSet<String> = keys(&open.records(Topic::OrderCreated).await).into_iter().collect();
    let stored: BTreeSet<String> = open.query("SELECT id AS value FROM orders").into_iter().collect();
    assert!(before.is_subset(&stored), "what was there before the backup is in it");
    assert!(logged.is_subset(&stored), "what the log knows is there");
    open.stop().await;
    let process = Process::start(&shop);
    let now = again(&process).await;
    let same = told.iter().filter(|(key, id)| stored.contains(*id) && now.get(*key) == Some(id)).count();
    assert_eq!(same, stored.len(), "each key of these finds its order");
    have_succeeded(&process, now.len()).await;
    process.stop_by("TERM");
    let open = shop.open().await;
    assert_each_published_once(keys(&open.records(Topic::OrderCreated).await), &now);
    open.stop().await;
    party.stop().await;
}

/// Posts one order and returns the whole answer.
async fn answer(open: &Open, key: &str) -> (u16, bool, String) {
    let request = reqwest::Client::new().post(open.url("/api/orders")).header("idempotency-key", key);
    let request = request.header("content-type", "application/json").body(order("T1", 150).to_string());
    let answer = request.send().await.expect("an answer");
    let replayed = answer.headers().contains_key("idempotent-replayed");
    (answer.status().as_u16(), replayed, answer.text().await.expect("a body"))
}

#[actix::test]
async fn an_order_that_failed_after_the_backup_has_failed_after_the_restore_and_can_be_sent_again() {
    let party = third_party(Behaviour { fail: 1.0, ..Behaviour::default() });
    let shop = Shop::on_a_file().with_orders(&party.url());
    let open = shop.open().await;
    open.change("order-delivery", json!({"settings": {"attempts": 1}})).await;
    Store::backup(&shop.path("store.db"), &shop.path("copy.db")).expect("a copy");
    let (status, _, first) = answer(&open, "k1").await;
    assert_eq!(status, 201);
    until("it failed", async || open.published("order.failed").await.len() == 1).await;
    open.stop().await;

    put_back(&shop.path("copy.db"), &shop.path("store.db"));
    let open = shop.open().await;
    assert_eq!(answer(&open, "k1").await, (201, true, first.clone()), "the same answer, byte for byte");
    let first: Value = serde_json::from_str(&first).expect("JSON");
    let path = format!("/api/orders/{}", first["id"].as_str().expect("an id"));
    assert_eq!(open.call("GET", &path, None).await.1["status"], "FAILED");
    let (_, letters) = open.call("GET", "/api/deadletters?plugin=order-delivery&status=open", None).await;
    assert_eq!(letters["items"][0]["reason"], "failed_before_restore", "{letters}");
    assert_eq!(party.received()[0].times, 1, "it is a person's to send it again");
    party.set_behaviour(Behaviour::default());
    assert_eq!(open.call("POST", &format!("{path}/resend"), None).await.0, 200);
    until("it arrived", async || open.call("GET", &path, None).await.1["status"] == "SUCCESS").await;
    open.stop().await;
    party.stop().await;
}

#[actix::test]
async fn orders_of_an_older_version_come_back_without_their_keys_and_are_counted() {
    let shop = Shop::on_a_file();
    let open = shop.open().await;
    let (_, _, first) = answer(&open, "k1").await;
    until("it is published", async || open.records(Topic::OrderCreated).await.len() == 1).await;
    let record = open.records(Topic::OrderCreated).await.remove(0);
    open.stop().await;

    // A bus on which an older version has written, beside an empty store.
    let shop = Shop::on_a_file();
    let bus = EmbeddedBus::open(&shop.config.bus.path, shop.config.bus.partitions).expect("a log");
    let (topic, headers) = (Topic::OrderCreated, vec![("content-type".to_owned(), Bytes::from_static(b"x"))]);
    let older = NewRecord { topic, partition: None, key: record.key, value: record.value, headers };
    bus.append(vec![older]).await.expect("the bus takes it");
    drop(bus);
    let open = shop.open().await;
    let first: Value = serde_json::from_str(&first).expect("JSON");
    let path = format!("/api/orders/{}", first["id"].as_str().expect("an id"));
    assert_eq!(open.call("GET", &path, None).await.0, 200);
    let (_, audit) = open.call("GET", "/api/audit", None).await;
    let restored = json!({"rebuilt": 1, "withoutKey": 1, "delivered": 0, "failed": 0});
    assert_eq!(told(&audit), restored, "{audit}");
    let (status, replayed, _) = answer(&open, "k1").await;
    assert_eq!((status, replayed), (201, false), "its key is not known");
    open.stop().await;
}

/// A client program of the database, for this database.
fn client_of(database: &Database, program: &str) -> Option<Command> {
    let url = reqwest::Url::parse(&database.url()).expect("an address");
    Command::new(program).arg("--version").stdout(Stdio::null()).status().ok()?;
    let mut command = Command::new(program);
    command.args(["--protocol=tcp", "-h", url.host_str().expect("a host")]).arg("-P").arg(url.port()?.to_string());
    command.arg(format!("-u{}", url.username())).env("MYSQL_PWD", url.password().unwrap_or_default());
    Some(command)
}

#[actix::test]
async fn a_dump_taken_under_load_and_the_brokers_together_know_every_order() {
    let Some(mut chain) = Chain::new("a restore of the database") else { return };
    let Some(mut dump) = client_of(&chain.database, "mariadb-dump") else { return };
    let Some(mut load) = client_of(&chain.database, "mariadb") else { return };
    let Database::Mysql { name, .. } = &chain.database else { return };
    let name = name.clone();
    let party = third_party(Behaviour::default());
    chain.environment.push(("TILLSTREAM__ORDERS__URL", party.url()));
    let process = chain.start("all");
    let (address, addresses) = tokio::sync::watch::channel(process.url().to_owned());
    let posting = actix::spawn(tills(addresses, SIZE.0, SIZE.1));
    chain::until("some orders arrived", PATIENCE, async || party.received().len() > 20).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("dump.sql");
    dump.args(["--single-transaction", "--quick", "--hex-blob", &name]).stdout(File::create(&file).expect("a file"));
    assert!(dump.status().expect("it runs").success());
    let mut told = posting.await.expect("the tills did not give up");
    told.extend(later(&process).await);
    drop(address);
    have_succeeded(&process, told.len()).await;
    told_all(&chain.database).await;
    process.stop_by("TERM");

    load.arg(&name).stdin(File::open(&file).expect("a file"));
    assert!(load.status().expect("it runs").success());
    assert_eq!(chain.database.execute("DELETE FROM meta WHERE name = 'identity'"), 1);
    let process = chain.start("all");
    have_succeeded(&process, told.len()).await;
    assert_eq!(again(&process).await, told, "each key finds the order that it made");
    let restored = audited(&process).await;
    assert!(restored["rebuilt"].as_u64() >= Some(5) && restored["withoutKey"] == 0, "{restored}");
    process.stop_by("TERM");
    assert_each_arrived_once(&party, &told);
    assert_each_published_once(keys(&chain.records(Topic::OrderCreated).await), &told);
    party.stop().await;
}
