//! Everything that shops run in production is killed under load, again and again: the broker, the database, processors; and
//! another processor joins and leaves. What is left must be what one undisturbed process leaves with neither.
//!
//! `TILLSTREAM_FULL=1` runs the full size; `TILLSTREAM_BINARY` names a release build for it, and `TILLSTREAM_TEST_LOGS` a
//! directory in which the log of each process is kept.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tillstream::bus::Topic;

use crate::alone;
use crate::chain::{Chain, PARTITIONS, PATIENCE, say, until};
use crate::process::Process;
use crate::support::compare::assert_same;
use crate::support::derived::Derived;
use crate::support::results;
use crate::support::services::Service;
use crate::support::site::{Site, Stream, at_full_size};

/// How long a killed server stays away.
const AWAY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disturbance {
    /// So many of the two processors are killed at work, and as many started in their place.
    Processors(usize),
    Broker,
    Database,
    /// A processor joins, takes its share, and leaves in good order.
    Rebalance,
}

use Disturbance::{Broker, Database, Processors, Rebalance};

/// Ten processors are killed, the broker three times, the database three times, and in the middle there is a rebalance. Where
/// both processors die at once, the group waits for both together.
const PLAN: [Disturbance; 13] = [
    Processors(1),
    Broker,
    Processors(2),
    Database,
    Processors(2),
    Rebalance,
    Broker,
    Processors(2),
    Database,
    Processors(2),
    Processors(1),
    Broker,
    Database,
];

fn stream() -> Stream {
    // Fewer tills make the smaller stream last as long: hours, so that people log out and shifts end.
    if at_full_size() {
        Stream { seed: 23, events: 200_000, terminals_per_store: 50 }
    } else {
        Stream { seed: 23, events: 15_000, terminals_per_store: 4 }
    }
}

/// How many events those who start from now on apply at once, at most.
fn batches(chain: &mut Chain, events: u32) {
    let name = "TILLSTREAM__PROCESSOR__BATCHEVENTSMAX";
    chain.environment.retain(|(other, _)| *other != name);
    chain.environment.push((name, events.to_string()));
}

/// A processor and the name under which `/api/system` shows it.
struct Worker {
    process: Process,
    id: String,
}

impl Worker {
    async fn start(chain: &Chain) -> Self {
        let process = chain.start("processor");
        let id = process.get("/api/system").await.1["process"].as_str().expect("its name").to_owned();
        Self { process, id }
    }

    /// Waits until it owns partitions.
    async fn is_at_work(&self, api: &Process) {
        until("a processor has its share", PATIENCE, async || {
            let (_, system) = api.get("/api/system").await;
            let partitions = system["partitions"].as_array().cloned().unwrap_or_default();
            partitions.iter().any(|one| one["process"] == self.id.as_str())
        })
        .await;
    }
}

#[actix::test]
async fn whatever_is_killed_under_load_the_rows_and_events_are_those_of_an_undisturbed_run() {
    let _alone = alone();
    let what = "everything is killed under load";
    let Some(mut chain) = Chain::new(what) else { return };
    let (Some(kafka), Some(mariadb)) =
        (Service::of_the_scripts("kafka", what), Service::of_the_scripts("mariadb", what))
    else {
        return;
    };
    let stream = stream();
    // Beside it: most of what follows is waiting.
    let calm = std::thread::spawn(move || {
        let calm = Site::filled(stream);
        calm.catch_up(2);
        calm
    });
    let all = i64::try_from(stream.messages().len()).expect("few");
    chain.fill(stream);

    let begun = Instant::now();
    let (api, delivery) = (chain.start("api"), chain.start("relay,dispatcher"));
    // So few that work is left for each disturbance, whatever waiting for the one before it took.
    let (few, fewer) = if at_full_size() { (100, 5) } else { (5, 1) };
    batches(&mut chain, few);
    let mut workers = VecDeque::from([Worker::start(&chain).await, Worker::start(&chain).await]);
    for (done, disturbance) in (1..).zip(PLAN) {
        let due = all * done / (i64::try_from(PLAN.len()).expect("few") + 2);
        chain.reaches(due).await;
        let is_ahead = results::progress(&chain.database) > due + all / 20;
        batches(&mut chain, if is_ahead { fewer } else { few });
        match disturbance {
            Processors(count) => {
                let victims: Vec<Worker> = workers.drain(..count).collect();
                for victim in &victims {
                    victim.is_at_work(&api).await;
                }
                drop(victims);
                for _ in 0..count {
                    workers.push_back(Worker::start(&chain).await);
                }
            }
            Broker => take_away(&kafka).await,
            Database => take_away(&mariadb).await,
            Rebalance => {
                let third = Worker::start(&chain).await;
                third.is_at_work(&api).await;
                let (status, took) = third.process.stop_by("TERM");
                assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
            }
        }
        let progress = results::progress(&chain.database);
        say(&format!("{:.1?}: {disturbance:?}, at {progress} of {all}", begun.elapsed()));
        assert!(progress < all, "everything was done at {disturbance:?}");
    }
    let disturbed = begun.elapsed();
    for process in workers.into_iter().map(|worker| worker.process).chain([delivery, api]) {
        let (status, took) = process.stop_by("TERM");
        assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
    }
    batches(&mut chain, 10_000);
    chain.finish();
    let took = begun.elapsed();

    let calm = calm.join().expect("the undisturbed run ends");
    let (expected, actual) = (results::rows_of_any_bus(calm.store()), results::rows_of_any_bus(&chain.database));
    for (table, rows) in expected {
        assert_same(table, rows, actual[table].clone());
    }
    let undisturbed = Derived::on(&calm.path("bus.db"), PARTITIONS).lines();
    let derived = undisturbed.len();
    // Fails if one is there twice.
    assert_same("derived events", undisturbed, chain.derived().lines());
    let dead_letters = chain.database.texts("SELECT CAST(COUNT(*) AS CHAR) AS value FROM dead_letters");
    let copies = chain.records(Topic::DeadLetters).await.len();
    assert_eq!(dead_letters, [copies.to_string()], "each dead letter has one copy on the bus");
    say(&format!("{all} messages, {derived} derived events: disturbed for {disturbed:.1?}, done after {took:.1?}"));
}

/// Kills a server and starts it again.
async fn take_away(server: &Service) {
    server.kill();
    tokio::time::sleep(AWAY).await;
    server.start();
}
