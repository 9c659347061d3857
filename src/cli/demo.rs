//! `tillstream demo`: everything in one process, with tills at work, a customer system to ask and a third party that takes orders.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio::time::Instant;

use super::serve::start_error;
use super::{logging, stop_signal};
use crate::app::{App, AppOptions, load_defaults};
use crate::bus::partitioner::partition_of;
use crate::bus::{Bus, Topic, TopicPartition};
use crate::config::{Config, Override};
use crate::delivery::stub::Behaviour;
use crate::delivery::stub_customers::StubCustomers;
use crate::delivery::stub_orders::StubOrders;
use crate::event::Source;
use crate::pipeline::duplicates::Window;
use crate::plugins::defaults::Defaults;
use crate::rig::orders::{Client, Orders, Plan, Summary, orders_url, post_orders};
use crate::rig::pump::{Speed, pump};
use crate::rig::sinks::{BusSink, Sink};
use crate::rig::{Limit, Options, Pace, Rig};
use crate::store::Store;
use crate::stores::{DaySpan, WeeklyHours};
use crate::time::Timestamp;

const STORES: u32 = 4;
const TERMINALS: u32 = 50;
const CUSTOMERS: u32 = 2000;
/// The customer system takes this long for an answer, as a remote one would.
const CUSTOMERS_LATENCY_MS: u64 = 40;
/// So does the third party that takes orders, and it fails now and then: what one sees is how that is dealt with.
const ORDERS_LATENCY_MS: u64 = 120;
const ORDERS_FAIL: f64 = 0.05;
/// Orders that the third party remembers.
const ORDERS_REMEMBERED: usize = 10_000;
/// An order for so many events.
const EVENTS_PER_ORDER: f64 = 40.0;
const ORDERS_PER_SECOND_MAX: f64 = 20.0;
/// How long a restart waits until what the last run left behind is applied.
const SETTLE: Duration = Duration::from_secs(5);

/// Shows everything at work on this machine, with no services: tills that never stop, five plugins, the browser admin.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tillstream demo --port 8080 --rate 20")]
pub struct DemoArgs {
    /// Port of the browser admin on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Where the log and the store are kept.
    #[arg(long, value_name = "DIR", default_value = "tillstream-data")]
    data: PathBuf,
    /// Events per second of all tills together.
    #[arg(long, default_value_t = 20.0, value_parser = super::rig::parse_rate)]
    rate: f64,
}

/// Runs until told to stop.
///
/// # Errors
/// If the port or the directory cannot be used.
pub fn run(args: &DemoArgs) -> anyhow::Result<()> {
    logging::start();
    actix::System::new().block_on(demo(args))
}

#[expect(clippy::print_stdout, reason = "the address to open is this command's first line")]
async fn demo(args: &DemoArgs) -> anyhow::Result<()> {
    let behaviour = Behaviour { latency_ms: CUSTOMERS_LATENCY_MS, ..Behaviour::default() };
    let customers = StubCustomers::start(0, behaviour).context("the stand-in for the customer system cannot listen")?;
    let behaviour = Behaviour { latency_ms: ORDERS_LATENCY_MS, fail: ORDERS_FAIL, ..Behaviour::default() };
    let third_party = StubOrders::start(0, behaviour, 1, ORDERS_REMEMBERED)
        .context("the stand-in for the third party that takes orders cannot listen")?;
    let data = |name: &str| args.data.join(name).display().to_string();
    let flags = [
        Override::new("bus.path", "--data", data("bus.db")),
        Override::new("store.url", "--data", format!("sqlite:{}", data("store.db"))),
        Override::new("http.bind", "--port", format!("127.0.0.1:{}", args.port)),
        Override::new("customers.url", "demo", customers.url()),
        Override::new("orders.url", "demo", third_party.url()),
    ];
    let config = Arc::new(Config::load(None, &flags)?);
    let mut defaults = load_defaults(&config).map_err(start_error)?;
    never_close(&mut defaults);
    let options = AppOptions { defaults: Some(defaults), ..AppOptions::default() };
    let app = App::start(Arc::clone(&config), options).await.map_err(start_error)?;
    if let Some(address) = app.address() {
        println!("http://{address}");
    }
    let (stop_orders, orders_stopped) = watch::channel(None);
    let ordering = app
        .address()
        .filter(|_| config.http.tokens.is_empty())
        .map(|address| actix::spawn(order(address, args.rate, orders_stopped)));
    let stop = Arc::new(AtomicBool::new(false));
    let rig = rig(args.rate, &app.bus, &app.store).await?;
    let mut sink = Sink::Bus(BusSink::new(Arc::clone(&app.bus)));
    let speed = Speed::PerSecond { rate: args.rate, present: true };
    let selling = pump(rig, speed, &mut sink, None::<std::io::Sink>, Arc::clone(&stop), |_| {});
    tokio::pin!(selling);
    tokio::select! {
        ended = &mut selling => {
            ended.context("the tills cannot go on")?;
        }
        () = stop_signal() => {
            tracing::info!("stopping");
            stop.store(true, Ordering::Relaxed);
            let _ = tokio::time::timeout(Duration::from_secs(2), &mut selling).await;
        }
    }
    stop_orders.send_replace(Some(Instant::now()));
    if let Some(ordering) = ordering {
        let _ = ordering.await;
    }
    app.stop().await;
    customers.stop().await;
    third_party.stop().await;
    Ok(())
}

/// Tills order as well, through the same door as others.
async fn order(server: SocketAddr, rate: f64, stop: watch::Receiver<Option<Instant>>) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let orders = Orders::new(Options { seed: seed_of(now), start: now, ..shops() });
    let url = orders_url(&format!("http://{server}")).map_err(anyhow::Error::msg)?;
    let rate = (rate / EVENTS_PER_ORDER).min(ORDERS_PER_SECOND_MAX);
    let plan = Plan { rate, limit: None, clients: 20 };
    let mut refused = 0;
    let progress = |summary: &Summary| {
        if summary.refused > refused {
            refused = summary.refused;
            tracing::warn!(refused, first = summary.first_refusal, "orders of the demo's tills were refused");
        }
    };
    post_orders(orders, Client::new(url, None)?, plan, None, stop, progress).await?;
    Ok(())
}

fn shops() -> Options {
    Options {
        stores: STORES,
        terminals: TERMINALS,
        employees: Options::default_employees(STORES, TERMINALS),
        customers: CUSTOMERS,
        ..Options::default()
    }
}

/// Every run is another one.
const fn seed_of(now: Timestamp) -> u64 {
    now.as_millis().unsigned_abs()
}

/// The demo runs at any hour, so its stores are always open.
fn never_close(defaults: &mut Defaults) {
    let day = DaySpan::parse("00:00-24:00");
    for store in defaults.stores.values_mut() {
        store.hours = Some(WeeklyHours { mon: day, tue: day, wed: day, thu: day, fri: day, sat: day, sun: day });
    }
}

/// Tills that go on where those of the last run stopped.
async fn rig(rate: f64, bus: &Arc<dyn Bus>, store: &Store) -> anyhow::Result<Rig> {
    let now = Timestamp::now();
    let mut rig = Rig::new(Options {
        limit: Limit::Endless,
        pace: Pace::EventsPerSecond(rate),
        seed: seed_of(now),
        start: now,
        always_open: true,
        anomalies: 0.02,
        ..shops()
    });
    let _ = tokio::time::timeout(SETTLE, settled(bus, store)).await;
    let mut highest = std::collections::HashMap::new();
    let mut sources: Vec<Vec<String>> = vec![Vec::new(); bus.partitions() as usize];
    for number in 0..STORES * TERMINALS {
        let terminal = format!("T{:04}", number + 1);
        let store_id = format!("S{:03}", number / TERMINALS + 1);
        let source = Source::terminal_of(&store_id, &terminal)?;
        let partition = partition_of(terminal.as_bytes(), bus.partitions());
        sources[partition as usize].push(source.as_str().to_owned());
    }
    for (partition, sources) in (0..).zip(sources) {
        for row in store.load_windows(partition, sources).await? {
            highest
                .insert(row.source, Window::decode(&row.window, Timestamp::MAX).map_or(0, |window| window.highest()));
        }
    }
    rig.resume(|source| highest.get(source).copied().unwrap_or(0));
    Ok(rig)
}

/// Completes once everything that is on the bus has been applied.
async fn settled(bus: &Arc<dyn Bus>, store: &Store) {
    loop {
        let rows = store.partitions().await.unwrap_or_default();
        let mut behind = rows.is_empty();
        for row in rows.iter().filter(|row| row.partition.topic == Topic::Events) {
            let place = TopicPartition::new(Topic::Events, row.partition.partition);
            behind |= bus.bounds(place).await.is_ok_and(|bounds| bounds.high > row.next_offset);
        }
        if !behind {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
