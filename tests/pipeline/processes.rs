//! The binary in several processes, over a real Kafka and a real MySQL server: killed, paused until it is fenced, added,
//! removed, while a log is being worked off. What is left must be what one undisturbed process leaves with neither.

use std::time::Duration;

use serde_json::{Value, json};

use crate::chain::{Chain, PARTITIONS, PATIENCE, say, until};
use crate::process::Process;
use crate::shop::drawer;
use crate::support::compare::assert_same;
use crate::support::derived::Derived;
use crate::support::results;
use crate::support::site::{Site, Stream};

/// Longer than the session of a group's member, so that it is put out.
const PAUSE: Duration = Duration::from_secs(9);
/// Far below the session's time-out: whoever leaves in good order is not waited for. Whom the page names is up to two seconds
/// old; `tests/kafka/moving.rs` measures how long partitions really stand still.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// The processes that own a partition of `pos.events`, or nothing while some partition has no owner.
async fn owners(api: &Process) -> Vec<String> {
    let (_, system) = api.get("/api/system").await;
    let partitions = system["partitions"].as_array().cloned().unwrap_or_default();
    let of_events = || partitions.iter().filter(|one| one["topic"] == "pos.events");
    let mut owners: Vec<String> =
        of_events().filter_map(|one| one["process"].as_str().map(ToOwned::to_owned)).collect();
    if owners.len() != PARTITIONS as usize {
        return Vec::new();
    }
    owners.sort_unstable();
    owners.dedup();
    owners
}

/// Records of `pos.events` that are not committed.
async fn lag(api: &Process) -> i64 {
    let (_, system) = api.get("/api/system").await;
    let partitions = system["partitions"].as_array().expect("a list");
    let of_events = partitions.iter().filter(|one| one["topic"] == "pos.events");
    of_events.map(|one| one["lag"].as_i64().expect("a number")).sum()
}

async fn id(process: &Process) -> String {
    process.get("/api/system").await.1["process"].as_str().expect("its name").to_owned()
}

async fn is_ready(process: &Process) -> bool {
    process.get("/health/ready").await.0 == 200
}

#[actix::test]
async fn processes_that_die_stall_come_and_go_leave_what_an_undisturbed_one_leaves() {
    let Some(chain) = Chain::new("processes that die, stall, come and go") else { return };
    let stream = Stream { seed: 21, events: 40_000, terminals_per_store: 8 };
    let calm = Site::filled(stream);
    calm.catch_up(4);
    let all = calm.progress();
    chain.fill(stream);

    let api = chain.start("api");
    let (first, second) = (chain.start("processor"), chain.start("processor"));
    let (relay, other_relay) = (chain.start("relay"), chain.start("relay"));
    let dispatcher = chain.start("dispatcher");
    until("both processors have partitions", PATIENCE, async || owners(&api).await.len() == 2).await;
    chain.reaches(all / 20).await;

    drop(first);
    let third = chain.start("processor");
    drop(relay);
    let relay = chain.start("relay");
    chain.reaches(all / 5).await;

    second.signal("STOP");
    tokio::time::sleep(PAUSE).await;
    let without: Vec<String> = vec![id(&third).await];
    until("the others have what the paused one had", PATIENCE, async || owners(&api).await == without).await;
    second.signal("CONT");
    until("it is back among them", PATIENCE, async || owners(&api).await.len() == 2).await;
    drop(dispatcher);
    let dispatcher = chain.start("dispatcher");
    chain.reaches(all / 2).await;

    let fourth = chain.start("processor");
    until("the new one has its share", PATIENCE, async || owners(&api).await.len() == 3).await;
    let leaving = id(&third).await;
    let (status, took) = third.stop_by("TERM");
    assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
    let left = until("its partitions have new owners", TAKE_OVER, async || {
        let owners = owners(&api).await;
        owners.len() == 2 && !owners.contains(&leaving)
    })
    .await;
    drop(api);
    let api = chain.start("api");
    chain.reaches(all * 3 / 4).await;
    until("all are ready", PATIENCE, async || {
        is_ready(&api).await && is_ready(&second).await && is_ready(&fourth).await && is_ready(&relay).await
    })
    .await;
    for process in [second, fourth, dispatcher, relay, other_relay, api] {
        let (status, took) = process.stop_by("TERM");
        assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
    }
    chain.finish();

    let (expected, actual) = (results::rows_of_any_bus(calm.store()), results::rows_of_any_bus(&chain.database));
    for (table, rows) in expected {
        assert_same(table, rows, actual[table].clone());
    }
    let undisturbed = Derived::on(&calm.path("bus.db"), PARTITIONS).lines();
    assert_same("derived events", undisturbed, chain.derived().lines());
    say(&format!("a process that left in good order was replaced {left:?} after it had ended"));
}

#[actix::test]
async fn a_switch_flipped_through_one_api_is_obeyed_by_a_processor_elsewhere_and_survives_everybody() {
    let Some(chain) = Chain::new("a switch across real processes") else { return };
    let (api, other_api) = (chain.start("api"), chain.start("api"));
    let (processor, relay) = (chain.start("processor"), chain.start("relay"));
    until("events are processed", PATIENCE, async || is_ready(&processor).await && is_ready(&relay).await).await;
    let rule = json!({
        "id": "drawer", "name": "Drawer opened", "severity": "low", "scope": "terminal", "status": "active",
        "eventTypes": ["pos.drawer.opened"], "aggregate": {"kind": "count"}, "windowSeconds": 0, "limit": 0, "cooldownSeconds": 0,
    });
    let fraud = "/api/plugins/fraud-detection";
    let patch = |value: Value| api.patch(fraud, value);
    assert_eq!(patch(json!({"active": true, "settings": {"rules": [rule]}})).await.0, 200);
    let alerts = async |count: usize| {
        let (_, body) = other_api.get("/api/alerts?limit=1000").await;
        body["items"].as_array().is_some_and(|items| items.len() == count)
    };
    let now = || tillstream::time::Timestamp::now().to_string();
    let open = async |sequence: u64| {
        let mut event = drawer("T1", sequence, 0);
        event["time"] = json!(now());
        api.post(&[event]).await;
    };
    open(1).await;
    until("the rule has fired", PATIENCE, async || alerts(1).await).await;
    assert_eq!(patch(json!({"active": false})).await.0, 200);
    let seen =
        until("the other API knows", Duration::from_secs(1), async || other_api.get(fraud).await.1["active"] == false)
            .await;
    open(2).await;
    until("it has been looked at", PATIENCE, async || lag(&api).await == 0).await;
    assert_eq!(patch(json!({"active": true})).await.0, 200);
    open(3).await;
    until("the third one has fired", PATIENCE, async || alerts(2).await).await;
    assert_eq!(patch(json!({"active": false})).await.0, 200);
    for process in [api, other_api, processor, relay] {
        drop(process);
    }
    let again = chain.start("api");
    assert_eq!(again.get(fraud).await.1["active"], false, "it survives everybody's restart");
    say(&format!("the other process knew of a switch {seen:?} after the answer"));
}
