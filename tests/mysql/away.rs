//! The database goes away under load, again and again: nothing is lost, nothing is done twice, and memory stays bounded.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::alone;
use crate::process::Process;
use crate::shop::{Shop, drawer, until};
use crate::support::compare::assert_same;
use crate::support::database::Database;
use crate::support::derived::Derived;
use crate::support::results;
use crate::support::services::Service;
use crate::support::site::{Site, Stream};

const PARTITIONS: u32 = 8;
const STREAM: Stream = Stream { seed: 21, events: 20_000, terminals_per_store: 8 };
/// What the process may grow by while the database is away.
const GROWTH_BYTES_MAX: u64 = 150 << 20;

/// Asserts that a disturbed run on a server left what an undisturbed one left in a file.
fn assert_identical(calm: &Site, disturbed: &Site) {
    let actual = results::rows(disturbed.store());
    for (table, rows) in results::rows(calm.store()) {
        assert_same(table, rows, actual[table].clone());
    }
    let derived = |site: &Site| Derived::on(&site.path("bus.db"), PARTITIONS).lines();
    assert_same("derived events", derived(calm), derived(disturbed));
}

#[test]
fn a_database_that_is_killed_three_times_under_load_changes_nothing() {
    let _alone = alone();
    let what = "a database that is killed";
    let (Some(database), Some(server)) = (Database::on_server(what), Service::of_the_scripts("mariadb", what)) else {
        return;
    };
    let calm = Site::filled(STREAM);
    let disturbed = calm.with_same_bus().with_store(database);
    calm.catch_up(2);
    let records = calm.progress();
    let mut kills = 0;
    disturbed.catch_up_disturbed(2, || {
        if kills < 3 && disturbed.progress() > records * (kills + 1) / 4 {
            kills += 1;
            server.kill();
            std::thread::sleep(Duration::from_secs(1));
            server.start();
        }
    });
    assert_eq!(kills, 3, "everything was done before the last kill");
    assert_identical(&calm, &disturbed);
}

#[test]
fn connections_that_are_killed_all_the_time_change_nothing() {
    let _alone = alone();
    let Some(database) = Database::on_server("killed connections") else { return };
    let calm = Site::filled(STREAM);
    let disturbed = calm.with_same_bus().with_store(database);
    calm.catch_up(2);
    let mut killed = 0;
    let mut next = Instant::now();
    disturbed.catch_up_disturbed(2, || {
        // Not while it starts: what cannot start says so and ends.
        if Instant::now() >= next && disturbed.progress() > 0 {
            killed += disturbed.store().kill_sessions();
            next = Instant::now() + Duration::from_millis(100);
        }
    });
    assert!(killed > 10, "{killed} connections were killed");
    assert_identical(&calm, &disturbed);
}

#[actix::test]
async fn while_the_database_is_away_events_are_taken_and_memory_stays_bounded_and_then_it_goes_on_by_itself() {
    let _alone = alone();
    let what = "a database that is away";
    let (Some(database), Some(server)) = (Database::on_server(what), Service::of_the_scripts("mariadb", what)) else {
        return;
    };
    let mut shop = Shop::on_a_file();
    shop.use_database(database);
    let process = Process::start(&shop);
    process.post(&[drawer("T1", 1, 0)]).await;
    let alerts = "SELECT CAST(COUNT(*) AS CHAR) AS value FROM alerts";
    until("it works", async || shop.query(alerts) == ["1"]).await;

    server.kill();
    let before = process.rss_bytes();
    let mut sequence = 1;
    let mut said = Value::Null;
    for _ in 0..40 {
        let batch: Vec<_> = (1..=500).map(|next| drawer("T1", sequence + next, 0)).collect();
        process.post(&batch).await;
        sequence += 500;
    }
    until("readiness says so", async || {
        let (status, body) = process.get("/health/ready").await;
        said = body;
        status == 503
    })
    .await;
    let checks = said["checks"].as_array().expect("a list");
    let store = checks.iter().find(|check| check["name"] == "store").expect("the store is looked at");
    assert_eq!(store["ok"], false, "{said}");
    assert!(!said.to_string().contains("tillstream:tillstream"), "no password: {said}");
    let grown = process.rss_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "grown by {grown} bytes");

    server.start();
    until("it is ready again", async || process.get("/health/ready").await.0 == 200).await;
    until("every event is decided on", async || shop.query(alerts) == [sequence.to_string()]).await;
}
