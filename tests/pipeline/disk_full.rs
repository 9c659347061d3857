//! A disk that is full: the process says so, loses nothing, and goes on by itself when there is room again. Needs a small
//! disk of its own, which only root can mount; elsewhere these tests say that they were skipped.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::process::Process;
use crate::shop::{Shop, drawer, until};
use crate::support::database::Database;

const DISK: &str = "size=24m";
const BATCH: u64 = 500;

/// A small disk in memory.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(&at).stderr(Stdio::null());
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Self(at));
        }
        #[expect(clippy::print_stdout, reason = "whoever runs the tests shall know")]
        {
            println!("skipped: a small disk cannot be mounted here; run as root to try a full one");
        }
        None
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut ballast = File::create(self.0.join("ballast")).expect("a file");
        while ballast.write_all(&[0; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("ballast")).expect("the ballast");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A process of a failed test may still hold files of it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn batch(number: u64) -> Vec<Value> {
    (1..=BATCH).map(|next| drawer("T1", number * BATCH + next, 0)).collect()
}

async fn is_ready(process: &Process) -> bool {
    process.get("/health/ready").await.0 == 200
}

/// Waits until every event has been decided on once.
async fn all_decided(shop: &Shop, process: Process, events: u64) {
    until("it is ready again", async || is_ready(&process).await).await;
    let alerts = "SELECT COUNT(*) || '' AS value FROM alerts";
    until("every event is decided on", async || shop.query(alerts) == [events.to_string()]).await;
    let (status, _) = process.stop_by("TERM");
    assert_eq!(status.code(), Some(0));
    let open = shop.open().await;
    open.settled().await;
    assert_eq!(open.alerted().await.len() as u64, events);
    assert_eq!(open.query(alerts), [events.to_string()]);
    assert_eq!(open.query("SELECT id AS value FROM dead_letters"), Vec::<String>::new());
    open.stop().await;
}

#[actix::test]
async fn while_the_disk_of_the_bus_is_full_events_are_refused_with_the_reason_and_taken_again_later() {
    let mut shop = Shop::on_a_file();
    let Some(disk) = Disk::mount(shop.path("disk")) else { return };
    shop.config.bus.path = shop.path("disk/bus.db");
    let process = Process::start(&shop);
    process.post(&batch(0)).await;
    disk.fill();
    let mut next = 1;
    let refused = loop {
        let (status, body) = process.try_post(&batch(next)).await;
        if status != 202 {
            assert_eq!(status, 503, "{body}");
            break body;
        }
        next += 1;
    };
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("is full")), "{refused}");
    disk.make_room();
    until("events are taken again", async || process.try_post(&batch(next)).await.0 == 202).await;
    all_decided(&shop, process, (next + 1) * BATCH).await;
}

#[actix::test]
async fn while_the_disk_of_the_store_is_full_events_wait_on_the_bus() {
    let mut shop = Shop::on_a_file();
    let Some(disk) = Disk::mount(shop.path("disk")) else { return };
    shop.use_database(Database::Sqlite(shop.path("disk/store.db")));
    let process = Process::start(&shop);
    process.post(&batch(0)).await;
    disk.fill();
    let mut next = 1;
    until("it says that it cannot go on", async || {
        process.post(&batch(next)).await;
        next += 1;
        !is_ready(&process).await
    })
    .await;
    let (status, body) = process.get("/health/ready").await;
    assert_eq!(status, 503);
    assert!(body.to_string().contains("full"), "{body}");
    let checks = body["checks"].as_array().expect("checks");
    let of_store: Vec<_> = checks.iter().filter(|check| check["name"] == "store").map(|check| &check["ok"]).collect();
    assert_eq!(of_store, [false], "one word on each part: {body}");
    disk.make_room();
    all_decided(&shop, process, next * BATCH).await;
}

#[actix::test]
async fn killed_while_the_disk_is_full_it_goes_on_when_it_is_started_with_room() {
    let mut shop = Shop::on_a_file();
    let Some(disk) = Disk::mount(shop.path("disk")) else { return };
    shop.config.bus.path = shop.path("disk/bus.db");
    shop.use_database(Database::Sqlite(shop.path("disk/store.db")));
    let process = Process::start(&shop);
    disk.fill();
    let mut next = 0;
    while process.try_post(&batch(next)).await.0 == 202 {
        next += 1;
    }
    drop(process);
    disk.make_room();
    let process = Process::start(&shop);
    // The till was told that the last batch was not taken, and sends it again.
    process.post(&batch(next)).await;
    all_decided(&shop, process, (next + 1) * BATCH).await;
}
