//! The files that a process works on: removed or replaced under it, or put back from another time.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::process::{Process, command, run};
use crate::shop::{Shop, drawer, until};
use crate::support::database::Database;
use crate::support::site::binary;

/// A shop whose files have a directory of their own.
fn shop() -> Shop {
    let mut shop = Shop::on_a_file();
    shop.config.bus.path = shop.path("data/bus.db");
    shop.use_database(Database::Sqlite(shop.path("data/store.db")));
    shop
}

/// Another command with the same configuration.
fn tool(shop: &Shop, arguments: &[&str]) -> Command {
    let of_serve = command(shop);
    let mut tool = Command::new(binary());
    tool.args(arguments).current_dir(shop.path(""));
    for (name, value) in of_serve.get_envs() {
        match value {
            Some(value) => tool.env(name, value),
            None => tool.env_remove(name),
        };
    }
    tool
}

fn order() -> Value {
    json!({
        "storeId": "S001", "terminalId": "T1", "currency": "EUR", "total": 100,
        "items": [{"productId": "P1", "quantity": 1, "unitPrice": 100}],
    })
}

async fn post_order(process: &Process, key: &str) -> u16 {
    let request = reqwest::Client::new().post(format!("{}/api/orders", process.url()));
    let request = request.header("content-type", "application/json").header("idempotency-key", format!("\"{key}\""));
    request.body(order().to_string()).send().await.expect("an answer").status().as_u16()
}

/// Everything that would be lost is refused, and readiness says which file it is about.
async fn refuses_all(process: &Process, words: &[&str]) {
    let (status, body) = process.try_post(&[drawer("T1", 90, 0)]).await;
    assert_eq!(status, 503, "{body}");
    assert_eq!(post_order(process, "k1").await, 503);
    let (status, body) = process.patch("/api/plugins/fraud-detection", json!({"active": false})).await;
    assert_eq!(status, 503, "{body}");
    let (status, body) = process.get("/health/ready").await;
    assert_eq!(status, 503, "{body}");
    for word in words {
        assert!(body.to_string().contains(word), "{word:?} is missing in {body}");
    }
}

#[actix::test]
async fn a_data_directory_that_is_removed_is_noticed_and_nothing_is_accepted_that_would_be_lost() {
    let shop = shop();
    let process = Process::start(&shop);
    process.post(&[drawer("T1", 1, 0)]).await;
    until("it is ready", async || process.get("/health/ready").await.0 == 200).await;
    fs::remove_dir_all(shop.path("data")).expect("it is there");
    refuses_all(&process, &["bus.db was removed", "store.db was removed"]).await;
}

#[actix::test]
async fn a_data_directory_that_is_moved_away_and_back_is_gone_on_with() {
    let shop = shop();
    let process = Process::start(&shop);
    process.post(&[drawer("T1", 1, 0)]).await;
    fs::rename(shop.path("data"), shop.path("moved")).expect("a new name");
    refuses_all(&process, &["was removed"]).await;
    copy(&shop.path("moved"), &shop.path("data"));
    refuses_all(&process, &["was replaced"]).await;
    fs::remove_dir_all(shop.path("data")).expect("the copy");
    fs::rename(shop.path("moved"), shop.path("data")).expect("its old name");
    until("it is ready again", async || process.get("/health/ready").await.0 == 200).await;
    process.post(&[drawer("T1", 2, 0)]).await;
    until("both events are decided on", async || shop.query("SELECT COUNT(*) || '' AS value FROM alerts") == ["2"])
        .await;
    assert_eq!(process.stop_by("TERM").0.code(), Some(0));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

#[actix::test]
async fn each_single_file_that_is_removed_is_named() {
    for file in ["bus.db", "bus.db-wal", "store.db", "store.db-wal"] {
        let shop = shop();
        let process = Process::start(&shop);
        process.post(&[drawer("T1", 1, 0)]).await;
        fs::remove_file(shop.path("data").join(file)).expect("it is there");
        let (status, body) = process.get("/health/ready").await;
        assert_eq!(status, 503, "{file}: {body}");
        assert!(body.to_string().contains(&format!("{file} was removed")), "{body}");
    }
}

fn removed_if_there(path: PathBuf) {
    // Only a process that was killed leaves it.
    let _ = fs::remove_file(path);
}

#[actix::test]
async fn a_log_that_is_older_than_its_store_is_refused_with_what_to_do() {
    let shop = shop();
    let process = Process::start(&shop);
    process.post(&(1..=10).map(|number| drawer("T1", number, 0)).collect::<Vec<_>>()).await;
    assert!(tool(&shop, &["backup", "backup"]).output().expect("it starts").status.success());
    process.post(&(11..=50).map(|number| drawer("T1", number, 0)).collect::<Vec<_>>()).await;
    until("all are decided on", async || shop.query("SELECT COUNT(*) || '' AS value FROM alerts") == ["50"]).await;
    drop(process);

    fs::copy(shop.path("backup/bus.db"), shop.path("data/bus.db")).expect("the older log");
    for suffix in ["-wal", "-shm"] {
        removed_if_there(shop.path(&format!("data/bus.db{suffix}")));
    }
    let (code, said) = run(&mut command(&shop));
    assert_eq!(code, Some(2), "{said}");
    for word in ["the log is older than the store", "pos.events/", "docs/operations.md"] {
        assert!(said.contains(word), "{word:?} is missing in {said}");
    }
    let check = tool(&shop, &["check"]).output().expect("it starts");
    let found = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(1), "{found}");
    assert!(found.contains("FAULT bus") && found.contains("older than the store"), "{found}");

    // With the store of the same backup it is a restore as documented.
    for suffix in ["-wal", "-shm"] {
        removed_if_there(shop.path(&format!("data/store.db{suffix}")));
    }
    fs::copy(shop.path("backup/store.db"), shop.path("data/store.db")).expect("the older store");
    assert_eq!(tool(&shop, &["check"]).output().expect("it starts").status.code(), Some(0));
    let process = Process::start(&shop);
    process.post(&(11..=50).map(|number| drawer("T1", number, 0)).collect::<Vec<_>>()).await;
    until("what the till sent again is decided on", async || {
        shop.query("SELECT COUNT(*) || '' AS value FROM alerts") == ["50"]
    })
    .await;
}

#[actix::test]
async fn a_log_that_is_missing_beside_its_store_is_no_reason_to_make_a_new_one() {
    let shop = shop();
    let process = Process::start(&shop);
    process.post(&[drawer("T1", 1, 0)]).await;
    assert_eq!(process.stop_by("TERM").0.code(), Some(0));
    fs::remove_file(shop.path("data/bus.db")).expect("it is there");
    let check = tool(&shop, &["check"]).output().expect("it starts");
    assert_eq!(check.status.code(), Some(1), "{}", String::from_utf8_lossy(&check.stdout));
    let (code, said) = run(&mut command(&shop));
    assert_eq!(code, Some(2), "{said}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

/// Everything in a directory, and the directory itself, is for its owner alone.
fn is_private(directory: &Path) {
    assert_eq!(mode(directory), 0o700, "{}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        names.push(path);
    }
    assert!(names.len() > 1, "{names:?}");
}

#[actix::test]
async fn nobody_but_the_owner_can_read_what_is_kept_or_copied() {
    let shop = shop();
    let process = Process::start(&shop);
    process.post(&[drawer("T1", 1, 0)]).await;
    is_private(&shop.path("data"));
    assert!(tool(&shop, &["backup", "backup"]).output().expect("it starts").status.success());
    is_private(&shop.path("backup"));
}

#[actix::test]
async fn files_that_were_open_to_others_are_closed_at_the_next_start() {
    let shop = shop();
    drop(Process::start(&shop));
    for entry in fs::read_dir(shop.path("data")).expect("a directory") {
        fs::set_permissions(entry.expect("an entry").path(), fs::Permissions::from_mode(0o644)).expect("rights");
    }
    fs::set_permissions(shop.path("data"), fs::Permissions::from_mode(0o755)).expect("rights");
    let process = Process::start(&shop);
    process.post(&[drawer("T1", 1, 0)]).await;
    is_private(&shop.path("data"));
}

#[actix::test]
async fn a_directory_that_others_use_too_stays_open_to_them_and_the_files_are_closed() {
    let shop = shop();
    fs::create_dir(shop.path("data")).expect("a directory");
    fs::set_permissions(shop.path("data"), fs::Permissions::from_mode(0o755)).expect("rights");
    fs::write(shop.path("data/notes.txt"), "of somebody else").expect("a file");
    let _process = Process::start(&shop);
    assert_eq!(mode(&shop.path("data")), 0o755);
    for file in ["bus.db", "bus.db-wal", "bus.db.lock", "store.db", "store.db-wal", "store.db.lock"] {
        assert_eq!(mode(&shop.path("data").join(file)), 0o600, "{file}");
    }
}
