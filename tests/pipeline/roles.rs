//! Roles in separate processes: several of them share one bus and one database. Here they are several [`App`]s in one
//! process, on the simulated bus and a real MySQL server; `tests/processes.rs` does the same with Kafka and the binary.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tillstream::app::AppOptions;
use tillstream::bus::Bus;
use tillstream::bus::simulated::SimulatedBus;
use tillstream::config::Role;
use tillstream::delivery::stub_customers::{Behaviour, StubCustomers};
use tillstream::feed::{Delivery, FeedBody, FeedKind, Filter, Since, Subscription};

use crate::shop::{Open, Shop, append, drawer, event, until};
use crate::support::database::Database;

const FRAUD: &str = "fraud-detection";
const TERMINALS: [&str; 6] = ["T1", "T2", "T3", "T4", "T5", "T6"];
/// A process that leaves in good order stops no partition for longer than this.
const TAKE_OVER: Duration = Duration::from_secs(3);

/// Several processes of one installation.
struct Chain {
    shop: Shop,
    bus: SimulatedBus,
}

impl Chain {
    fn new(what: &str) -> Option<Self> {
        let mut shop = Shop::on_a_file();
        shop.use_database(Database::on_server(what)?);
        let bus = SimulatedBus::shared(shop.config.bus.partitions, 1);
        Some(Self { shop, bus })
    }

    async fn open(&self, roles: &[Role]) -> Open {
        let bus: Arc<dyn Bus> = Arc::new(self.bus.clone());
        self.shop.start(AppOptions { roles: roles.to_vec(), bus: Some(bus), ..AppOptions::default() }).await
    }

    /// Every till opens its drawer once in each of these rounds.
    async fn rounds(&self, rounds: std::ops::RangeInclusive<u64>) {
        for round in rounds {
            let second = i64::try_from(round).expect("few rounds");
            append(&self.bus, &TERMINALS.map(|terminal| drawer(terminal, round, second))).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn is_ready(open: &Open) -> bool {
    open.call("GET", "/health/ready", None).await.0 == 200
}

/// Which process owns each partition of `pos.events`, as the API tells.
async fn owners(api: &Open) -> BTreeMap<i64, Option<String>> {
    let (_, system) = api.call("GET", "/api/system", None).await;
    let partitions = system["partitions"].as_array().expect("a list");
    let of_events = partitions.iter().filter(|one| one["topic"] == "pos.events");
    of_events
        .map(|one| (one["partition"].as_i64().expect("a number"), one["process"].as_str().map(ToOwned::to_owned)))
        .collect()
}

async fn all_owned_by(api: &Open, processes: &[&Open]) -> bool {
    let wanted: BTreeSet<&str> = processes.iter().map(|one| one.app.processes.id()).collect();
    let owners = owners(api).await;
    let found: BTreeSet<&str> = owners.values().flatten().map(String::as_str).collect();
    owners.len() == 4 && owners.values().all(Option::is_some) && found == wanted
}

/// What the feed has shown since the last call, as (kind, event).
fn take(feed: &mut Subscription) -> Vec<(FeedKind, Value)> {
    let mut seen = Vec::new();
    while let Some(delivery) = feed.take(10_000) {
        let Delivery::Items(items) = delivery else { panic!("the ring is large enough: {delivery:?}") };
        seen.extend(items.into_iter().map(|one| {
            let json = match &one.item.body {
                FeedBody::Event(event) => serde_json::from_slice(&event.raw),
                FeedBody::Json { json, .. } => serde_json::from_slice(json),
            };
            (one.item.kind, json.expect("JSON"))
        }));
    }
    seen
}

/// Each till's events in their order, each once, and an alert after the event that it is about.
fn assert_in_order(seen: &[(FeedKind, Value)]) {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut shown: BTreeSet<String> = BTreeSet::new();
    for (kind, event) in seen {
        match kind {
            FeedKind::Event => {
                let source = event["source"].as_str().expect("a text").to_owned();
                let sequence = event["sequence"].as_u64().expect("a number");
                let before = last.insert(source.clone(), sequence);
                assert!(before.is_none_or(|before| before < sequence), "{source}: {sequence} after {before:?}");
                shown.insert(format!("{source}#{}", event["id"].as_str().expect("a text")));
            }
            FeedKind::Derived => {
                let cause = event["causationid"].as_str().expect("a cause");
                assert!(shown.contains(cause), "an alert is shown before {cause}");
            }
            _ => {}
        }
    }
}

#[actix::test]
async fn roles_in_separate_processes_do_together_what_one_process_does() {
    let Some(chain) = Chain::new("roles in separate processes") else { return };
    let api = chain.open(&[Role::Api]).await;
    let (status, health) = api.call("GET", "/health/ready", None).await;
    assert_eq!((status, health["roles"].clone()), (200, json!(["api"])), "an API needs no processor: {health}");
    let first = chain.open(&[Role::Processor]).await;
    let second = chain.open(&[Role::Processor]).await;
    let relays = [chain.open(&[Role::Relay]).await, chain.open(&[Role::Relay]).await];
    for process in [&first, &second, &relays[0], &relays[1]] {
        until("every process is ready", async || is_ready(process).await).await;
    }
    until("both processors own partitions", async || all_owned_by(&api, &[&first, &second]).await).await;
    let mut feed = api.app.feed.subscribe(Filter::default(), Since::Now);
    tokio::time::sleep(Duration::from_millis(300)).await;

    chain.rounds(1..=20).await;
    until("every drawer has raised its alert", async || api.alerted().await.len() == 120).await;
    let mut seen = Vec::new();
    until("the feed of the API has shown all", async || {
        seen.extend(take(&mut feed));
        seen.iter().filter(|(kind, _)| *kind == FeedKind::Derived).count() == 120
    })
    .await;
    assert_eq!(seen.iter().filter(|(kind, _)| *kind == FeedKind::Event).count(), 120);
    assert_in_order(&seen);

    // Every process tells its figures once a second.
    until("the figures are those of all processes together", async || {
        api.call("GET", "/api/system", None).await.1["totals"]["events"] == 120
    })
    .await;
    let (_, system) = api.call("GET", "/api/system", None).await;
    let roles: Vec<_> =
        system["processes"].as_array().expect("a list").iter().map(|one| one["roles"].clone()).collect();
    assert_eq!(roles.len(), 5);
    assert_eq!(roles[0], json!(["api"]));
    let (status, problem) = first.call("GET", "/api/plugins", None).await;
    assert_eq!(status, 404, "{problem}");

    // One leaves in good order while tills go on.
    let begun = Instant::now();
    let leaving = async {
        first.stop().await;
        until("the other one owns everything", async || all_owned_by(&api, &[&second]).await).await;
        begun.elapsed()
    };
    let (took, ()) = tokio::join!(leaving, chain.rounds(21..=60));
    assert!(took < TAKE_OVER, "{took:?}");
    let [relay, other] = relays;
    relay.stop().await;
    chain.rounds(61..=70).await;
    until("nothing is lost or doubled", async || api.alerted().await.len() == 420).await;
    let third = chain.open(&[Role::Processor, Role::Relay]).await;
    other.stop().await;
    chain.rounds(71..=80).await;
    until("those who came later do the same", async || api.alerted().await.len() == 480).await;
    until("the feed has shown that as well", async || {
        seen.extend(take(&mut feed));
        seen.iter().filter(|(kind, _)| *kind == FeedKind::Derived).count() == 480
    })
    .await;
    assert_in_order(&seen);
    for process in [third, second, api] {
        process.stop().await;
    }
}

#[actix::test]
async fn a_switch_reaches_every_process_within_a_second_and_its_feed_too() {
    let Some(chain) = Chain::new("a switch across processes") else { return };
    let api = chain.open(&[Role::Api]).await;
    let other_api = chain.open(&[Role::Api]).await;
    let worker = chain.open(&[Role::Processor, Role::Relay]).await;
    until("events are processed", async || is_ready(&worker).await).await;
    let mut feed =
        other_api.app.feed.subscribe(Filter { kinds: vec![FeedKind::Control], ..Filter::default() }, Since::Now);
    chain.rounds(1..=3).await;
    until("every drawer has raised its alert", async || api.alerted().await.len() == 18).await;
    for (round, active) in [(10, false), (20, true), (30, false)] {
        let before = api.alerted().await.len();
        let path = format!("/api/plugins/{FRAUD}");
        let (status, answer) = api.call("PATCH", &path, Some(json!({"active": active}))).await;
        assert_eq!(status, 200, "{answer}");
        let answered = Instant::now();
        until("everybody knows", async || {
            [&other_api, &worker].iter().all(|one| one.app.control.view(FRAUD).expect("a plugin").active == active)
        })
        .await;
        assert!(answered.elapsed() < Duration::from_secs(1), "{:?}", answered.elapsed());
        chain.rounds(round..=round).await;
        worker.has_read_all().await;
        let expected = before + if active { TERMINALS.len() } else { 0 };
        until("as it was switched", async || api.alerted().await.len() == expected).await;
    }
    let mut changes = Vec::new();
    until("the feed tells of each change", async || {
        changes.extend(take(&mut feed).into_iter().map(|(_, change)| change["active"].clone()));
        changes.len() == 3
    })
    .await;
    assert_eq!(changes, [json!(false), json!(true), json!(false)]);
    for process in [api, other_api, worker] {
        process.stop().await;
    }
    let again = chain.open(&[Role::Api]).await;
    assert!(!again.app.control.view(FRAUD).expect("a plugin").active, "it survives everybody's restart");
    again.stop().await;
}

#[actix::test]
async fn several_dispatchers_make_each_call_once_and_log_lines_and_calls_show_in_the_feed_of_the_api() {
    let Some(mut chain) = Chain::new("several dispatchers") else { return };
    let customers = StubCustomers::start(0, Behaviour::default()).expect("a stub");
    chain.shop = chain.shop.with_customers(&customers.url());
    let api = chain.open(&[Role::Api]).await;
    let worker = chain.open(&[Role::Processor, Role::Relay]).await;
    let dispatchers = [chain.open(&[Role::Dispatcher]).await, chain.open(&[Role::Dispatcher]).await];
    for process in [&worker, &dispatchers[0], &dispatchers[1]] {
        until("every process is ready", async || is_ready(process).await).await;
    }
    let calls = Filter { kinds: vec![FeedKind::Http], ..Filter::default() };
    let mut feed = api.app.feed.subscribe(calls, Since::Now);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let identified = |number: u64| {
        let data = json!({"basketId": format!("B{number}"), "employeeId": "E1", "customerId": format!("C{number:04}")});
        event("pos.customer.identified", "T1", number, i64::try_from(number).expect("few"), data)
    };
    for number in 1..=60 {
        append(&chain.bus, &[identified(number)]).await;
    }
    until("every customer is looked up", async || {
        let enriched = api.published("pos.customer.enriched").await.len();
        enriched + api.published("pos.customer.lookup_failed").await.len() == 60
    })
    .await;
    let mut notices = Vec::new();
    until("the feed has shown every call", async || {
        notices.extend(take(&mut feed));
        notices.len() >= 60
    })
    .await;
    let ids: BTreeSet<_> = notices.iter().map(|(_, notice)| notice["id"].to_string()).collect();
    assert_eq!((notices.len(), ids.len()), (60, 60), "each call ends once");
    let made = |open: &Open| {
        let figures = open.app.processes.delivery().dispatcher.as_ref().expect("its role").figures();
        figures.answered + figures.failed
    };
    assert_eq!(dispatchers.iter().map(made).sum::<u64>(), 60);
    for process in dispatchers.into_iter().chain([worker, api]) {
        process.stop().await;
    }
    customers.stop().await;
}
