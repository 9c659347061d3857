//! `--orders` and what belongs to it.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::HumanCount;
use tokio::sync::watch;
use tokio::time::Instant;

use super::parse_rate;
use crate::cli::usage;
use crate::rig::Options;
use crate::rig::orders::{Client, OrderLog, Orders, Plan, Summary, orders_url, post_orders};

/// How long orders under way may still take once the last event is sent.
const PATIENCE: Duration = Duration::from_mins(1);
/// The same after Ctrl-C or SIGTERM.
const PATIENCE_STOPPED: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct OrdersArgs {
    /// Post orders at this rate per second, to the server of --to or --orders-to; a client tries again under the same
    /// Idempotency-Key until it knows what became of its order
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    orders: Option<f64>,
    /// Stop after so many orders, also if the events end earlier [default: orders end with the events]
    #[arg(long, value_name = "N", requires = "orders")]
    orders_limit: Option<u64>,
    /// Orders that may be under way at a time
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    orders_clients: u16,
    /// Address of the server that takes the orders, if the events go elsewhere
    #[arg(long, value_name = "URL", requires = "orders")]
    orders_to: Option<String>,
    /// File for what the clients were told: a line of JSON with key, id and status for each order
    #[arg(long, value_name = "FILE", requires = "orders")]
    orders_log: Option<PathBuf>,
}

/// Orders to be posted beside the events.
pub(super) struct Posting {
    orders: Orders,
    client: Client,
    plan: Plan,
    log: Option<OrderLog>,
    give_up_at: watch::Sender<Option<Instant>>,
}

/// Ends a [`Posting`] from outside.
#[derive(Clone)]
pub(super) struct Stop {
    give_up_at: watch::Sender<Option<Instant>>,
    outlasts_events: bool,
}

impl OrdersArgs {
    /// `None` without `--orders`.
    pub(super) fn posting(
        &self,
        events_to: &str,
        token: Option<String>,
        options: &Options,
    ) -> anyhow::Result<Option<Posting>> {
        let Some(rate) = self.orders else { return Ok(None) };
        let (flag, server) = match &self.orders_to {
            Some(server) => ("--orders-to", server.as_str()),
            None if events_to.starts_with("http") => ("--to", events_to),
            None => {
                return Err(usage(
                    "--orders: orders are posted to a server; name it with --to http://127.0.0.1:8080, or with \
                     --orders-to if the events go elsewhere",
                ));
            }
        };
        let url = orders_url(server).map_err(|error| usage(format!("{flag}: {error}")))?;
        let log = match &self.orders_log {
            Some(path) => {
                let file =
                    File::create(path).with_context(|| format!("--orders-log: cannot create {}", path.display()))?;
                Some(OrderLog::new(BufWriter::new(file)))
            }
            None => None,
        };
        Ok(Some(Posting {
            orders: Orders::new(options.clone()),
            client: Client::new(url, token)?,
            plan: Plan { rate, limit: self.orders_limit, clients: usize::from(self.orders_clients) },
            log,
            give_up_at: watch::channel(None).0,
        }))
    }
}

impl Posting {
    pub(super) fn stop(&self) -> Stop {
        Stop { give_up_at: self.give_up_at.clone(), outlasts_events: self.plan.limit.is_some() }
    }

    pub(super) async fn run(self, progress: impl FnMut(&Summary)) -> anyhow::Result<Summary> {
        let stop = self.give_up_at.subscribe();
        post_orders(self.orders, self.client, self.plan, self.log, stop, progress)
            .await
            .context("--orders-log: the file cannot be written")
    }
}

impl Stop {
    /// The last event is sent.
    pub(super) fn events_ended(&self) {
        if !self.outlasts_events {
            self.give_up_at.send_replace(Some(Instant::now() + PATIENCE));
        }
    }

    /// Somebody asks for an end.
    pub(super) fn interrupted(&self) {
        self.give_up_at.send_replace(Some(Instant::now() + PATIENCE_STOPPED));
    }
}

/// Says what became of the orders.
///
/// # Errors
/// If the server refused any.
#[expect(clippy::print_stderr, reason = "the last line of the progress, which goes to stderr")]
pub(super) fn report(summary: &Summary) -> anyhow::Result<()> {
    let quantile = |q: f64| Duration::from_micros(summary.latency_us.value_at_quantile(q));
    let latency = if summary.answered() > 0 {
        format!("; p50 {:.1?}, p99 {:.1?}", quantile(0.5), quantile(0.99))
    } else {
        String::new()
    };
    eprintln!(
        "{} orders accepted ({} by a request whose answer was lost), {} retries, {} refused, {} unknown{latency}",
        HumanCount(summary.accepted),
        HumanCount(summary.replayed),
        HumanCount(summary.retried),
        HumanCount(summary.refused),
        HumanCount(summary.unknown),
    );
    match &summary.first_refusal {
        Some(first) => Err(anyhow::anyhow!("{} orders were refused, the first with {first}", summary.refused)),
        None => Ok(()),
    }
}
