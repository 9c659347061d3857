//! `tillstream bench`: how fast a preloaded log is drained, how long an event takes from append to feed, how many orders are
//! accepted and how long they take.
//!
//! All run the whole product in this process, in a directory of their own, with all plugins as `plugins.yaml` says.

mod orders;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use clap::{Args, Subcommand};
use futures_util::StreamExt;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use super::logging;
use super::serve::start_error;
use crate::app::{App, AppOptions};
use crate::bus::{Bus, NewRecord, Topic};
use crate::config::{Config, Override};
use crate::pipeline::source::content_type;
use crate::rig::pump::{Speed, pump};
use crate::rig::sinks::{BusSink, Sink};
use crate::rig::{Limit, Options, Pace, Rig};
use crate::status::peak_rss_bytes;
use crate::time::Timestamp;

/// How often the latency benchmark appends.
const APPEND_EVERY: Duration = Duration::from_millis(2);
/// How long events may still arrive after the last append.
const ARRIVE: Duration = Duration::from_secs(5);

/// Measures this machine: throughput of a drain, latency from append to feed, orders from till to third party.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tillstream bench drain --events 1000000\n  tillstream bench latency --rate 5000 --seconds 20\n  tillstream bench orders --count 30000 --clients 50 --deliver"
)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Preloads a log and drains it; prints throughput and the time spent in each stage.
    Drain(Drain),
    /// Appends at a fixed rate and measures until a websocket client has each event.
    Latency(Latency),
    /// Posts orders over HTTP and measures until each is accepted, and until it has arrived.
    Orders(orders::Orders),
}

#[derive(Debug, Args)]
struct Drain {
    /// Distinct events to preload.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Kafka's brokers instead of the embedded bus; the topics begin with `bench-` and are left there.
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// An empty database instead of SQLite: mysql://user:password@host:port/db.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Terminals, in four stores, and in more of them where there are over 800.
    #[arg(long, default_value_t = 200)]
    terminals: u32,
    /// Seed of the rig.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Args)]
struct Latency {
    /// Events per second.
    #[arg(long, default_value_t = 5000)]
    rate: u64,
    /// How long.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Terminals, in four stores, and in more of them where there are over 800.
    #[arg(long, default_value_t = 200)]
    terminals: u32,
    /// Seed of the rig.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs a benchmark and prints one line of JSON.
///
/// # Errors
/// If the process cannot be started in a temporary directory.
#[expect(clippy::print_stdout, reason = "the figures are this command's output")]
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    logging::start_quiet();
    let directory = std::env::temp_dir().join(format!("tillstream-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let figures = actix::System::new().block_on(async {
        match &args.what {
            What::Drain(drain) => measure_drain(drain, &directory).await,
            What::Latency(latency) => measure_latency(latency, &directory).await,
            What::Orders(orders) => orders::measure(orders, &directory).await,
        }
    });
    let _ = std::fs::remove_dir_all(&directory);
    println!("{}", figures?);
    Ok(())
}

fn config(directory: &Path, others: Vec<Override>) -> anyhow::Result<Arc<Config>> {
    let path = |name: &str| directory.join(name).display().to_string();
    let mut flags = vec![
        Override::new("bus.path", "bench", path("bus.db")),
        Override::new("store.url", "bench", format!("sqlite:{}", path("store.db"))),
        Override::new("http.bind", "bench", "127.0.0.1:0"),
    ];
    flags.extend(others);
    Ok(Arc::new(Config::load(None, &flags)?))
}

/// Bus and database as the flags say.
fn services(args: &Drain) -> Vec<Override> {
    let mut flags = Vec::new();
    if let Some(brokers) = &args.brokers {
        let name = format!("bench-{:08x}", rand::random::<u32>());
        flags.push(Override::new("bus.kind", "bench", "kafka".to_owned()));
        flags.push(Override::new("bus.brokers", "--brokers", brokers.clone()));
        flags.push(Override::new("bus.topicPrefix", "bench", format!("{name}.")));
        flags.push(Override::new("bus.group", "bench", name));
    }
    flags.extend(args.store.clone().map(|url| Override::new("store.url", "--store", url)));
    flags
}

/// At most, as long as there are four stores.
const TERMINALS_OF_A_STORE: u32 = 200;

fn rig(terminals: u32, seed: u64, limit: Limit, start: Timestamp, pace: Pace) -> Rig {
    let stores = (terminals / TERMINALS_OF_A_STORE).max(4);
    let per_store = (terminals / stores).max(1);
    let always_open = pace != Pace::Simulated;
    Rig::new(Options {
        stores,
        terminals: per_store,
        employees: Options::default_employees(stores, per_store),
        customers: terminals * 10,
        limit,
        pace,
        seed,
        start,
        always_open,
        anomalies: 0.02,
        duplicates: 0.0,
        late: 0.0,
        out_of_order: 0.0,
        corrupt: 0.0,
    })
}

async fn measure_drain(args: &Drain, directory: &Path) -> anyhow::Result<Value> {
    let config = config(directory, services(args))?;
    let filling = Instant::now();
    {
        let bus: Arc<dyn Bus> = crate::app::open_bus(&config).await?;
        let rig = rig(args.terminals, args.seed, Limit::Events(args.events), Options::DEFAULT_START, Pace::Simulated);
        let mut sink = Sink::Bus(BusSink::new(bus));
        let stop = Arc::new(AtomicBool::new(false));
        pump(rig, Speed::Unlimited, &mut sink, None::<std::io::Sink>, stop, |_| {}).await?;
    }
    let filled = filling.elapsed().as_secs_f64();
    let options = AppOptions { until_caught_up: true, ..AppOptions::default() };
    let mut app = App::start(config, options).await.map_err(start_error)?;
    app.caught_up().await;
    let (events, seconds) = (app.status.totals.events.get(), app.seconds());
    let mut stages = serde_json::Map::new();
    for (name, nanos) in app.status.stages.list() {
        stages.insert(name.to_owned(), json!(nanos / events.max(1)));
    }
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let (rate, fill_rate) = (events as f64 / seconds, args.events as f64 / filled);
    let figures = json!({
        "events": events,
        "terminals": args.terminals,
        "filledPerSecond": fill_rate.round(),
        "derived": app.status.totals.derived.get(),
        "commits": app.status.totals.commits.get(),
        "readAgain": app.status.totals.read_again.get(),
        "seconds": seconds,
        "eventsPerSecond": rate.round(),
        "nanosecondsPerEvent": stages,
        "peakRssBytes": peak_rss_bytes(),
    });
    app.stop().await;
    Ok(figures)
}

async fn measure_latency(args: &Latency, directory: &Path) -> anyhow::Result<Value> {
    let app = App::start(config(directory, Vec::new())?, AppOptions::default()).await.map_err(start_error)?;
    let address = app.address().context("the server listens")?;
    let (socket, _) = connect_async(format!("ws://{address}/ws/feed?type=pos.*")).await?;
    let (heard, mut hearing) = mpsc::unbounded_channel();
    let listener = actix::spawn(async move {
        let mut socket = socket;
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Text(text) = message
                && heard.send((Instant::now(), text.to_string())).is_err()
            {
                return;
            }
        }
    });
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let pace = Pace::EventsPerSecond(args.rate as f64);
    let mut rig = rig(args.terminals, args.seed, Limit::Events(args.rate * args.seconds), Timestamp::now(), pace);
    let mut sent: HashMap<String, Instant> = HashMap::new();
    let started = Instant::now();
    let mut count = 0;
    while count < args.rate * args.seconds {
        let due = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX) * args.rate / 1000;
        let batch: Vec<_> = rig.by_ref().take(usize::try_from(due.saturating_sub(count))?).collect();
        if batch.is_empty() && due > count {
            break;
        }
        count += batch.len() as u64;
        let now = Instant::now();
        let records = batch.into_iter().map(|message| {
            sent.insert(event_id(&message.bytes), now);
            NewRecord {
                topic: Topic::Events,
                partition: None,
                key: Some(Bytes::copy_from_slice(message.key.as_bytes())),
                value: message.bytes,
                headers: vec![content_type()],
            }
        });
        let records: Vec<_> = records.collect();
        if !records.is_empty() {
            actix::spawn(app.bus.append(records));
        }
        tokio::time::sleep(APPEND_EVERY).await;
    }
    let mut histogram = Histogram::<u64>::new(3)?;
    let mut missing = sent.len();
    while missing > 0 {
        let Ok(Some((at, text))) = tokio::time::timeout(ARRIVE, hearing.recv()).await else {
            break;
        };
        let message: Value = serde_json::from_str(&text)?;
        for item in message["items"].as_array().into_iter().flatten().filter(|item| item["kind"] == "event") {
            if let Some(began) = sent.get(item["event"]["id"].as_str().unwrap_or_default()) {
                missing -= 1;
                histogram.record(u64::try_from(at.duration_since(*began).as_micros())?)?;
            }
        }
    }
    listener.abort();
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let ms = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    let commits = app.status.totals.commits.get();
    let mut stages = serde_json::Map::new();
    for (name, nanos) in app.status.stages.list() {
        stages.insert(name.to_owned(), json!(nanos / 1000 / commits.max(1)));
    }
    let figures = json!({
        "rate": args.rate,
        "events": sent.len(),
        "missing": missing,
        "milliseconds": {"p50": ms(0.5), "p90": ms(0.9), "p99": ms(0.99), "p999": ms(0.999), "max": ms(1.0)},
        "commits": commits,
        "microsecondsPerCommit": stages,
        "peakRssBytes": peak_rss_bytes(),
    });
    app.stop().await;
    Ok(figures)
}

fn event_id(bytes: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Named {
        id: String,
    }
    serde_json::from_slice::<Named>(bytes).map(|named| named.id).unwrap_or_default()
}
