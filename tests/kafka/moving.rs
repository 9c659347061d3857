//! A processor joins and another one leaves in good order while tills go on: how long each partition stands still.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tillstream::time::Timestamp;

use crate::alone;
use crate::chain::{Chain, PARTITIONS, PATIENCE, say, until};
use crate::process::Process;
use crate::shop::drawer;
use crate::support::database::Database;

/// No partition may stand still for longer than this when somebody joins or leaves in good order.
const STOP_MAX: Duration = Duration::from_secs(3);
/// Tills that open their drawers at once, so that each partition has something to do.
const TILLS: u64 = 60;
const EVERY: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_millis(20);

/// Longest time that each partition of `pos.events` has stood still.
type Stops = BTreeMap<String, Duration>;

/// Looks at the places in the store until told to stop.
fn watch(database: &Database, stop: &AtomicBool) -> Stops {
    let places = "SELECT CONCAT(`partition`, ' ', next_offset) AS value FROM offsets WHERE topic = 'pos.events'";
    let mut seen: BTreeMap<String, (String, Instant)> = BTreeMap::new();
    let mut stops = Stops::new();
    while !stop.load(Ordering::Acquire) {
        for row in database.texts(places) {
            let (partition, offset) = row.split_once(' ').expect("two words");
            let (known, since) = seen.entry(partition.to_owned()).or_insert((offset.to_owned(), Instant::now()));
            let longest = stops.entry(partition.to_owned()).or_default();
            *longest = since.elapsed().max(*longest);
            if known != offset {
                (*known, *since) = (offset.to_owned(), Instant::now());
            }
        }
        std::thread::sleep(LOOK);
    }
    stops
}

/// The longest stop of any partition while this happens, and until all go on.
async fn longest_stop(chain: &Arc<Chain>, what: &str, happens: impl Future<Output = ()>) -> Duration {
    let stop = Arc::new(AtomicBool::new(false));
    let watching = {
        let (chain, stop) = (Arc::clone(chain), Arc::clone(&stop));
        std::thread::spawn(move || watch(&chain.database, &stop))
    };
    happens.await;
    // Longer than what is allowed: whatever still stands is seen to.
    tokio::time::sleep(STOP_MAX + Duration::from_secs(1)).await;
    stop.store(true, Ordering::Release);
    let stops = watching.join().expect("it looks to the end");
    assert_eq!(stops.len(), PARTITIONS as usize);
    let longest = stops.values().max().copied().expect("there are partitions");
    say(&format!("{what}: no partition stood still for longer than {longest:?}"));
    longest
}

/// The processes that own partitions, if every partition has an owner.
pub(crate) async fn owners(api: &Process) -> Vec<String> {
    let (_, system) = api.get("/api/system").await;
    let partitions = system["partitions"].as_array().cloned().unwrap_or_default();
    let of_events = partitions.iter().filter(|one| one["topic"] == "pos.events");
    let mut owners: Vec<String> = of_events.filter_map(|one| one["process"].as_str().map(Into::into)).collect();
    if owners.len() != PARTITIONS as usize {
        return Vec::new();
    }
    owners.sort_unstable();
    owners.dedup();
    owners
}

pub(crate) async fn open_drawers(url: String, stop: Arc<AtomicBool>) {
    let client = reqwest::Client::new();
    let mut round = 0;
    while !stop.load(Ordering::Acquire) {
        round += 1;
        let events: Vec<Value> = (0..TILLS)
            .map(|till| {
                let mut event = drawer(&format!("T{till}"), round, 0);
                event["time"] = json!(Timestamp::now().to_string());
                event
            })
            .collect();
        let request = client.post(format!("{url}/api/events")).body(Value::Array(events).to_string());
        let sent = request.header("content-type", "application/cloudevents-batch+json").send().await;
        assert_eq!(sent.expect("an answer").status().as_u16(), 202);
        tokio::time::sleep(EVERY).await;
    }
}

#[actix::test]
async fn whoever_joins_or_leaves_in_good_order_stops_no_partition_for_long() {
    let _alone = alone();
    let Some(chain) = Chain::new("a processor joins and leaves") else { return };
    let chain = Arc::new(chain);
    let api = chain.start("api,relay,dispatcher");
    let processors = [chain.start("processor"), chain.start("processor")];
    let done = Arc::new(AtomicBool::new(false));
    let tills = actix::spawn(open_drawers(api.url().to_owned(), Arc::clone(&done)));
    until("both have partitions", PATIENCE, async || owners(&api).await.len() == 2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;

    let mut third = None;
    let joining = longest_stop(&chain, "one joins", async {
        third = Some(chain.start("processor"));
        until("it has its share", PATIENCE, async || owners(&api).await.len() == 3).await;
    })
    .await;
    let leaving = longest_stop(&chain, "one leaves", async {
        let third = third.take().expect("it has joined");
        let stopped = tokio::task::spawn_blocking(move || third.stop_by("TERM"));
        assert!(stopped.await.expect("it ends").0.success());
        until("the others have its share", PATIENCE, async || owners(&api).await.len() == 2).await;
    })
    .await;
    done.store(true, Ordering::Release);
    tills.await.expect("every event was taken");
    assert!(joining < STOP_MAX, "{joining:?}");
    assert!(leaving < STOP_MAX, "{leaving:?}");
    drop(processors);
}
