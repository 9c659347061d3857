//! Long-lived actors that die while events flow: nothing is lost, nothing is done twice.

use tillstream::bus::Topic;
use tillstream::delivery::stub_customers::{Behaviour, StubCustomers};

use crate::shop::{Open, Shop, records, until};
use crate::support::compare::assert_same;
use crate::support::results;
use crate::support::site::{Site, Stream};

/// Crashes of each actor. Few: the pause before a service starts again doubles with each of them.
const CRASHES: u64 = 2;
const PARTITIONS: u32 = 8;

fn shop_on(site: &Site, customers: &StubCustomers) -> Shop {
    let mut shop = Shop::new().with_customers(&customers.url());
    shop.config.bus.path = site.path("bus.db");
    shop.config.bus.partitions = PARTITIONS;
    // What a shop starts with.
    shop.config.plugins.file = concat!(env!("CARGO_MANIFEST_DIR"), "/plugins.yaml").into();
    // Many batches, so that there is always one under way.
    shop.config.processor.batch_events_max = 100;
    shop
}

/// Every derived event, whole, in the order of its id.
async fn derived(open: &Open) -> Vec<String> {
    let records = records(&*open.app.bus, Topic::Events).await;
    let values = records.iter().filter_map(|record| serde_json::from_slice::<serde_json::Value>(&record.value).ok());
    let plugins = values.filter(|event| {
        let starts = |key: &str, with: &str| event[key].as_str().is_some_and(|text| text.starts_with(with));
        starts("source", "/plugins/") && starts("type", "pos.")
    });
    plugins.map(|event| event.to_string()).collect()
}

/// Crashes every long-lived actor again and again until the work is done; returns how often each was started again.
async fn crash_all(open: &mut Open) -> Vec<(String, u64)> {
    for _ in 0..CRASHES {
        for name in open.app.crashes.names() {
            let before = open.app.status.actor(&name).restarts.get();
            let commits = open.app.status.totals.commits.get();
            assert!(open.app.crashes.crash(&name), "{name} is known");
            let (status, mut ticks) = (open.app.status.clone(), 0);
            until("the crash is noticed and work goes on", async || {
                ticks += 1;
                // A shard that has nothing to do notices with its next batch.
                let noticed = status.actor(&name).restarts.get() > before || ticks > 200;
                noticed && (status.totals.commits.get() > commits || ticks > 200)
            })
            .await;
        }
    }
    open.app.caught_up().await;
    open.app.status.actors().into_iter().map(|(name, actor)| (name, actor.restarts.get())).collect()
}

#[actix::test]
async fn any_long_lived_actor_may_die_under_load_and_nothing_is_different() {
    let customers = StubCustomers::start(0, Behaviour { latency_ms: 2, ..Behaviour::default() }).expect("a free port");
    let stream = Stream { seed: 11, events: 12_000, terminals_per_store: 6 };
    let (calm_site, site) = tokio::task::spawn_blocking(move || {
        let calm = Site::filled(stream);
        let other = calm.with_same_bus();
        (calm, other)
    })
    .await
    .expect("the rig fills the bus");

    let calm_shop = shop_on(&calm_site, &customers);
    let mut calm = calm_shop.open_to_catch_up().await;
    calm.app.caught_up().await;
    let expected = (results::rows(calm_shop.database()), derived(&calm).await);
    calm.stop().await;

    let shop = shop_on(&site, &customers);
    let mut open = shop.open_to_catch_up().await;
    until("the first commit", async || open.app.status.totals.commits.get() > 0).await;
    let restarts = crash_all(&mut open).await;
    for name in ["dispatcher", "evidence", "ingress", "relay", "shard-0", "shard-1"] {
        let count = restarts.iter().find(|(actor, _)| actor == name).map(|(_, count)| *count);
        assert!(count.is_some_and(|count| count >= 1), "{name} did not crash under load: {restarts:?}");
    }
    let rows = results::rows(shop.database());
    for (table, lines) in expected.0 {
        assert_same(table, lines, rows[table].clone());
    }
    assert_same("derived events", expected.1, derived(&open).await);
    open.stop().await;
}
