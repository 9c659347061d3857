//! Starting on what cannot be used, and stopping in good order.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::process::{Process, command, run};
use crate::shop::{Shop, drawer, until};

/// The process must be gone this soon after it was asked to stop.
const STOP: Duration = Duration::from_secs(10);

fn refuses(outcome: &(Option<i32>, String), code: i32, words: &[&str]) {
    assert_eq!(outcome.0, Some(code), "{}", outcome.1);
    for word in words {
        assert!(outcome.1.contains(word), "{word:?} is missing in: {}", outcome.1);
    }
    assert!(!outcome.1.contains("panicked"), "{}", outcome.1);
}

#[actix::test]
async fn a_second_process_on_the_same_data_is_refused_and_the_first_one_goes_on() {
    let shop = Shop::on_a_file();
    let first = Process::start(&shop);
    let second = run(&mut command(&shop));
    refuses(&second, 1, &["in use by another process", "bus.db"]);
    // The same store with a bus of its own is no way in either.
    let other_bus = run(command(&shop).env("TILLSTREAM__BUS__PATH", shop.path("other.db")));
    refuses(&other_bus, 1, &["another Tillstream process uses", "store.db"]);
    first.post(&[drawer("T1", 1, 0)]).await;
    until("the first one still works", async || {
        !first.get("/api/alerts").await.1["items"].as_array().expect("a list").is_empty()
    })
    .await;
}

#[actix::test]
async fn stores_that_cannot_be_read_are_named_and_none_is_guessed() {
    let shop = Shop::new();
    Process::start(&shop).stop_by("TERM");
    for (value, words) in [
        (r#"{"S001": {"timeZone": "Europe/Atlantis"}}"#, ["stores.S001.timeZone", "Europe/Atlantis"]),
        (r#"{"S001": {"colour": "blue"}}"#, ["colour", "the version"]),
        (r#"{"S001": "#, ["is no JSON", "documents"]),
    ] {
        shop.execute(&format!("UPDATE documents SET value = '{value}' WHERE name = 'stores'"));
        refuses(&run(&mut command(&shop)), 2, &words);
    }
    shop.execute("DELETE FROM documents WHERE name = 'stores'");
    assert_eq!(Process::start(&shop).get("/health/live").await.0, 200, "it begins with those of plugins.yaml");
}

#[actix::test]
async fn a_port_that_is_taken_is_named() {
    let shop = Shop::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    refuses(&run(command(&shop).env("TILLSTREAM__HTTP__BIND", &address)), 1, &[&address, "http.bind"]);
    // Nothing is left behind that would keep the next one from starting.
    let process = Process::start(&shop);
    assert_eq!(process.get("/health/live").await.0, 200);
}

#[test]
fn a_place_that_cannot_be_written_to_is_named() {
    let shop = Shop::on_a_file();
    let directory = shop.path("locked");
    fs::create_dir(&directory).expect("a directory");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o555)).expect("rights");
    if fs::write(directory.join("probe"), "").is_ok() {
        // Rights do not bind root: a file where a directory should be does.
        fs::write(shop.path("file"), "").expect("a file");
        let below = shop.path("file/bus.db");
        refuses(&run(command(&shop).env("TILLSTREAM__BUS__PATH", below)), 1, &["cannot be written to", "bus.path"]);
        let store = format!("sqlite:{}", shop.path("file/store.db").display());
        refuses(&run(command(&shop).env("TILLSTREAM__STORE__URL", store)), 1, &["store.url", "file"]);
        return;
    }
    let bus = directory.join("bus.db");
    refuses(&run(command(&shop).env("TILLSTREAM__BUS__PATH", bus)), 1, &["cannot be written to", "bus.path"]);
}

#[test]
fn defaults_that_are_wrong_are_named_with_line_and_nearest_key() {
    let shop = Shop::on_a_file();
    let file = shop.path("wrong.yaml");
    fs::write(&file, "plugins:\n  employee-time-tracker:\n    active: true\n    settings:\n      idleSecond: 5\n")
        .expect("a file");
    let outcome = run(command(&shop).env("TILLSTREAM__PLUGINS__FILE", &file));
    refuses(&outcome, 2, &["wrong.yaml:5", "idleSecond", "idleSeconds"]);
    assert!(!shop.path("store.db").exists(), "nothing was begun");
    let missing = run(command(&shop).env("TILLSTREAM__PLUGINS__FILE", shop.path("none.yaml")));
    refuses(&missing, 2, &["none.yaml"]);
}

#[test]
fn configuration_that_is_wrong_is_named_with_line_and_nearest_key() {
    let shop = Shop::new();
    let file = shop.path("wrong.toml");
    fs::write(&file, "[bus]\npartition = 4\n").expect("a file");
    refuses(&run(command(&shop).arg("--config").arg(&file)), 2, &["wrong.toml", "2", "partition", "bus.partitions"]);
    refuses(&run(command(&shop).env("TILLSTREAM__HTTP__BIND", "0.0.0.0:0")), 2, &["http.tokens"]);
    refuses(&run(command(&shop).args(["--role", "api"])), 2, &["embedded"]);
    refuses(&run(command(&shop).env("TILLSTREAM__BUS__PARTITIONS", "many")), 2, &["PARTITIONS"]);
}

#[actix::test]
async fn either_signal_stops_it_in_time_and_nothing_is_lost() {
    let shop = Shop::new();
    let mut sequence = 0;
    for signal in ["TERM", "INT"] {
        let process = Process::start(&shop);
        for _ in 0..5 {
            let batch: Vec<_> = (0..200).map(|next| drawer("T1", sequence + next + 1, 0)).collect();
            process.post(&batch).await;
            sequence += 200;
        }
        // With work under way.
        let (status, elapsed) = process.stop_by(signal);
        assert_eq!(status.code(), Some(0), "after SIG{signal}");
        assert!(elapsed < STOP, "it took {elapsed:?} after SIG{signal}");
    }
    let open = shop.open().await;
    open.settled().await;
    until("every event is decided on", async || open.alerted().await.len() as u64 == sequence).await;
    open.stop().await;
}

#[actix::test]
async fn killed_at_any_moment_it_goes_on_where_it_was() {
    let shop = Shop::new();
    let mut sequence = 0;
    for _ in 0..4 {
        let process = Process::start(&shop);
        for _ in 0..3 {
            let batch: Vec<_> = (0..100).map(|next| drawer("T1", sequence + next + 1, 0)).collect();
            process.post(&batch).await;
            sequence += 100;
        }
        drop(process);
    }
    let open = shop.open().await;
    open.settled().await;
    until("every event is decided on", async || open.alerted().await.len() as u64 == sequence).await;
    assert_eq!(open.query("SELECT COUNT(*) || '' AS value FROM alerts"), [sequence.to_string()]);
    open.stop().await;
}
