//! `tillstream bench orders`: how many orders a second are accepted over HTTP, how long that takes, and how long it is from
//! there to the third party.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::app::{App, AppOptions};
use crate::cli::serve::start_error;
use crate::config::{Config, Override};
use crate::delivery::stub_orders::{Behaviour, StubOrders};
use crate::status::peak_rss_bytes;
use crate::store::{OrderFilter, OrderStatus};
use crate::time::Timestamp;

/// How long orders may take to end after the last one was accepted.
const END: Duration = Duration::from_mins(2);
/// How many of the others may still be under way when it is looked whether all have ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(super) struct Orders {
    /// Orders to post.
    #[arg(long, default_value_t = 30_000)]
    count: u64,
    /// Tills that post at the same time, each one order after the other.
    #[arg(long, default_value_t = 50)]
    clients: u64,
    /// Orders per second of all tills together; as fast as they can if absent.
    #[arg(long)]
    rate: Option<u64>,
    /// Where the store is; a SQLite file in a temporary directory if absent. It must be empty.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Send the orders to a stand-in for the third party and measure until they have ended.
    #[arg(long)]
    deliver: bool,
    /// This fraction of the third party's answers never comes.
    #[arg(long, default_value_t = 0.0, requires = "deliver")]
    hang: f64,
}

pub(super) async fn measure(args: &Orders, directory: &Path) -> anyhow::Result<Value> {
    let behaviour = Behaviour { hang: args.hang, ..Behaviour::default() };
    let party =
        if args.deliver { Some(StubOrders::start(0, behaviour, 1, StubOrders::REMEMBER_DEFAULT)?) } else { None };
    let config = config(args, directory, party.as_ref().map(StubOrders::url))?;
    let app = App::start(config, AppOptions::default()).await.map_err(start_error)?;
    let before = app.store.order_stats().await?;
    ensure!(before.pending + before.success + before.failed == 0, "--store holds orders already; name an empty one");
    let url = format!("http://{}/api/orders", app.address().context("the server listens")?);
    let (count, clients, rate) = (args.count, args.clients.max(1), args.rate);
    // The tills have a thread of their own, as they would be elsewhere.
    let posting = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(post_all(&url, count, clients, rate))
    });
    let posted = posting.await??;
    let accepted = posted.histogram.len();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let per_second = (accepted as f64 / posted.seconds).round();
    let mut figures = json!({
        "orders": accepted,
        "clients": clients,
        "store": if app.store.is_shared() { "mysql" } else { "sqlite" },
        "seconds": posted.seconds,
        "acceptedPerSecond": per_second,
        "acceptMilliseconds": quantiles(&posted.histogram),
    });
    if args.deliver {
        let ended = wait_for_the_end(&app, args.hang > 0.0).await?;
        figures["delivered"] = ended.len().into();
        figures["acceptedToSuccessMilliseconds"] = quantiles(&ended);
    }
    figures["peakRssBytes"] = peak_rss_bytes().into();
    app.stop().await;
    if let Some(party) = party {
        party.stop().await;
    }
    Ok(figures)
}

fn config(args: &Orders, directory: &Path, third_party: Option<String>) -> anyhow::Result<Arc<Config>> {
    let path = |name: &str| directory.join(name).display().to_string();
    let store = args.store.clone().unwrap_or_else(|| format!("sqlite:{}", path("store.db")));
    let mut flags = vec![
        Override::new("bus.path", "bench", path("bus.db")),
        Override::new("store.url", "--store", store),
        Override::new("http.bind", "bench", "127.0.0.1:0"),
    ];
    flags.extend(third_party.map(|url| Override::new("orders.url", "--deliver", url)));
    Ok(Arc::new(Config::load(None, &flags)?))
}

struct Posted {
    seconds: f64,
    /// Microseconds from request to answer.
    histogram: Histogram<u64>,
}

async fn post_all(url: &str, count: u64, clients: u64, rate: Option<u64>) -> anyhow::Result<Posted> {
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let tills = (0..clients).map(|till| {
        let (url, next) = (url.to_owned(), Arc::clone(&next));
        let client = reqwest::Client::new();
        tokio::spawn(async move {
            let mut histogram = Histogram::<u64>::new(3)?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, anyhow::Error>(histogram);
                }
                if let Some(rate) = rate {
                    let due = started + Duration::from_micros(number * 1_000_000 / rate.max(1));
                    tokio::time::sleep_until(due.into()).await;
                }
                let asked = Instant::now();
                let request = client.post(&url).header("content-type", "application/json");
                let request = request.header("idempotency-key", format!("\"bench-{till}-{number}\""));
                let response = request.body(order(till, number)).send().await?;
                ensure!(response.status().as_u16() == 201, "an order was answered with {}", response.status());
                response.bytes().await?;
                histogram.record(u64::try_from(asked.elapsed().as_micros())?)?;
            }
        })
    });
    let tills: Vec<_> = tills.collect();
    let mut histogram = Histogram::<u64>::new(3)?;
    for till in tills {
        histogram.add(till.await??)?;
    }
    Ok(Posted { seconds: started.elapsed().as_secs_f64(), histogram })
}

fn order(till: u64, number: u64) -> String {
    let price = 100 + number % 900;
    json!({
        "storeId": format!("S{:03}", till % 4 + 1), "terminalId": format!("T{till:04}"), "employeeId": "E0007",
        "currency": "EUR", "total": price * 3 + 250,
        "items": [
            {"productId": "P0001", "quantity": 3, "unitPrice": price, "description": "Farmhouse bread"},
            {"productId": "P0090", "quantity": 0.5, "unitPrice": 500, "description": "Loose tea"},
        ],
    })
    .to_string()
}

/// Waits until all orders have ended, or all but those that hang; answers how long each took, in microseconds.
async fn wait_for_the_end(app: &App, some_hang: bool) -> anyhow::Result<Histogram<u64>> {
    let begun = Instant::now();
    let (mut last, mut moved) = (-1, Instant::now());
    loop {
        let stats = app.store.order_stats().await?;
        if stats.success != last {
            (last, moved) = (stats.success, Instant::now());
        }
        let stands_still = some_hang && moved.elapsed() > Duration::from_secs(1);
        if stats.pending == 0 || stands_still {
            break;
        }
        ensure!(begun.elapsed() < END, "{} orders are still pending", stats.pending);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let mut histogram = Histogram::<u64>::new(3)?;
    let mut cursor = None::<String>;
    loop {
        let filter = OrderFilter { status: Some(OrderStatus::Success), ..OrderFilter::default() };
        let page = app.store.orders(filter, cursor.as_deref(), 1000).await?;
        // Those that hung at first and were sent again are not the others.
        for order in page.items.iter().filter(|order| order.attempts == 1) {
            let took = order.processed_at.unwrap_or(Timestamp::MIN).millis_since(order.created_at).max(0);
            histogram.record(u64::try_from(took)?.saturating_mul(1000))?;
        }
        cursor = page.next;
        if cursor.is_none() {
            return Ok(histogram);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn quantiles(histogram: &Histogram<u64>) -> Value {
    let ms = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    json!({"p50": ms(0.5), "p90": ms(0.9), "p99": ms(0.99), "p999": ms(0.999), "max": ms(1.0)})
}
