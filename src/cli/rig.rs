//! `tillstream rig`: terminals at work.

mod orders;

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use self::orders::{OrdersArgs, Posting, Stop};
use super::serve::start_error;
use super::usage;
use crate::app::open_bus;
use crate::config::Config;
use crate::rig::orders::Summary;
use crate::rig::pump::{PumpError, Speed, Totals, pump};
use crate::rig::sinks::{BusSink, HttpSink, Sink, SinkError, events_url};
use crate::rig::{Limit, Options, Pace, Rig};
use crate::time::Timestamp;

/// Events without any limit given.
const DEFAULT_EVENTS: u64 = 10_000;
const TERMINALS_MAX: u32 = 2_000_000;
/// How long a sink that is away may hold up the end after Ctrl-C.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// Terminals at work: sessions in logical order, reproducible byte for byte from the seed
#[derive(Debug, Args)]
#[command(after_help = "Without a limit, 10000 events are made; with --rate and no limit, the rig never ends.\n\n\
Examples:\n  tillstream rig --stores 4 --terminals 50 --events 200000 --duplicates 0.05 --corrupt 0.01 \\\n    \
--out-of-order 0.02 --anomalies 0.01 --labels truth.ndjson --to bus\n  \
tillstream rig --rate 50 --to http://127.0.0.1:8080\n  tillstream rig --sessions 3 | head\n  \
tillstream rig --events 0 --orders 200 --orders-limit 20000 --orders-log told.ndjson --to http://127.0.0.1:8080")]
pub struct RigArgs {
    /// Number of stores
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    stores: u32,
    /// Terminals of each store
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    terminals: u32,
    /// Employees of all stores together [default: two for each terminal]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    employees: Option<u32>,
    /// Customers of all stores together
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(0..=50_000_000))]
    customers: u32,
    /// Stop after so many sessions (login to logout at one terminal)
    #[arg(long, value_name = "N", group = "limit")]
    sessions: Option<u64>,
    /// Stop after so many distinct valid events; duplicates and corrupt copies come on top
    #[arg(long, value_name = "N", group = "limit")]
    events: Option<u64>,
    /// Stop after this time: of the scenario, or with --rate of the clock on the wall
    #[arg(long, value_name = "60s", group = "limit", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Events per second over all terminals [default: unlimited]
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    rate: Option<f64>,
    /// The same seed gives the same bytes
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Time of the first events [default: 2026-01-05T06:00:00Z, with --rate now]
    #[arg(long, value_name = "RFC3339", value_parser = parse_time)]
    start: Option<Timestamp>,
    /// Fraction of baskets that are an anomaly, of a kind that a default fraud rule looks for
    #[arg(long, value_name = "F", default_value_t = 0.0, value_parser = parse_fraction)]
    anomalies: f64,
    /// Fraction of events that are sent again, the same bytes
    #[arg(long, value_name = "F", default_value_t = 0.0, value_parser = parse_fraction)]
    duplicates: f64,
    /// Fraction of events that come 20 to 200 events of their terminal late
    #[arg(long, value_name = "F", default_value_t = 0.0, value_parser = parse_fraction)]
    late: f64,
    /// Fraction of events that 1 to 3 events of their terminal overtake
    #[arg(long, value_name = "F", default_value_t = 0.0, value_parser = parse_fraction)]
    out_of_order: f64,
    /// Fraction of events of which a corrupt copy is sent as well
    #[arg(long, value_name = "F", default_value_t = 0.0, value_parser = parse_fraction)]
    corrupt: f64,
    /// File for the truth: a line of JSON for each anomaly, duplicate, late, misplaced or corrupt message
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    orders: OrdersArgs,
    /// Where to: `bus` (as configured), `stdout`, or the address of a server such as <http://127.0.0.1:8080>
    #[arg(long, value_name = "bus|http://…|stdout", default_value = "stdout")]
    to: String,
    /// Configuration file, for `--to bus`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Token for `--to http://…`, where the server asks for one
    #[arg(long, value_name = "TOKEN", env = "TILLSTREAM_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

fn parse_fraction(text: &str) -> Result<f64, String> {
    let fraction: f64 = text.parse().map_err(|_| "is not a number".to_owned())?;
    if (0.0..=1.0).contains(&fraction) { Ok(fraction) } else { Err("is not between 0 and 1".to_owned()) }
}

pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "is not a number".to_owned())?;
    if (0.001..=1e8).contains(&rate) { Ok(rate) } else { Err("is not between 0.001 and 100000000".to_owned()) }
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).map_err(|error| error.to_string())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| "is not a duration such as 60s".to_owned())?;
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" | "" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("has an unknown unit; use ms, s, m, h or d".to_owned()),
    };
    let ms = number.checked_mul(unit_ms).filter(|ms| *ms <= 10 * 365 * 86_400_000);
    ms.map(Duration::from_millis).ok_or_else(|| "is longer than ten years".to_owned())
}

impl RigArgs {
    fn options(&self) -> anyhow::Result<Options> {
        if self.stores.checked_mul(self.terminals).is_none_or(|total| total > TERMINALS_MAX) {
            return Err(usage(format!("--stores times --terminals is more than {TERMINALS_MAX}")));
        }
        let follows_the_clock = self.rate.is_some() && self.start.is_none();
        let pace = match self.rate {
            Some(rate) if follows_the_clock => Pace::EventsPerSecond(rate),
            _ => Pace::Simulated,
        };
        let default_start = if follows_the_clock { Timestamp::now() } else { Options::DEFAULT_START };
        Ok(Options {
            stores: self.stores,
            terminals: self.terminals,
            employees: self.employees.unwrap_or(Options::default_employees(self.stores, self.terminals)),
            customers: self.customers,
            limit: self.limit(),
            pace,
            seed: self.seed,
            start: self.start.unwrap_or(default_start),
            // Whoever asks for a rate wants it now, also at night.
            always_open: follows_the_clock,
            anomalies: self.anomalies,
            duplicates: self.duplicates,
            late: self.late,
            out_of_order: self.out_of_order,
            corrupt: self.corrupt,
        })
    }

    fn limit(&self) -> Limit {
        match (self.sessions, self.events, self.duration, self.rate) {
            (Some(sessions), ..) => Limit::Sessions(sessions),
            (_, Some(events), ..) => Limit::Events(events),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "both are bounded and positive"
            )]
            (.., Some(duration), Some(rate)) => Limit::Events((duration.as_secs_f64() * rate).round() as u64),
            (.., Some(duration), None) => {
                Limit::DurationMs(i64::try_from(duration.as_millis()).expect("at most ten years"))
            }
            (.., Some(_)) => Limit::Endless,
            _ => Limit::Events(DEFAULT_EVENTS),
        }
    }

    fn speed(&self) -> Speed {
        self.rate.map_or(Speed::Unlimited, |rate| Speed::PerSecond { rate, present: self.start.is_none() })
    }

    async fn sink(&self) -> anyhow::Result<Sink> {
        match self.to.as_str() {
            "stdout" => Ok(Sink::stdout()),
            "bus" => {
                let config = Config::load(self.config.as_deref(), &[])?;
                Ok(Sink::Bus(BusSink::new(open_bus(&config).await.map_err(start_error)?)))
            }
            url if url.starts_with("http://") || url.starts_with("https://") => {
                let url = events_url(url).map_err(|error| usage(format!("--to: {error}")))?;
                Ok(Sink::Http(HttpSink::new(url, self.token.clone())?))
            }
            other => Err(usage(format!(
                "--to: {other:?} is neither bus nor stdout nor an address such as http://127.0.0.1:8080"
            ))),
        }
    }
}

/// Runs the rig until its limit, Ctrl-C or SIGTERM.
///
/// # Errors
/// Wrong usage, or a sink or labels file that cannot be written to.
pub fn run(args: &RigArgs) -> anyhow::Result<()> {
    let options = args.options()?;
    let labels = match &args.labels {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("--labels: cannot create {}", path.display()))?;
            Some(BufWriter::new(file))
        }
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(send(args, options, labels))
}

async fn send(args: &RigArgs, options: Options, labels: Option<BufWriter<File>>) -> anyhow::Result<()> {
    let posting = args.orders.posting(&args.to, args.token.clone(), &options)?;
    let mut sink = args.sink().await?;
    let bar = progress_bar(options.limit);
    let began = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let stop_orders = posting.as_ref().map(Posting::stop);
    let progress = |totals: Totals| bar.set_position(totals.events);
    let pumping = pump(Rig::new(options), args.speed(), &mut sink, labels, Arc::clone(&stop), progress);
    let events = async {
        let result = pumping.await;
        stop_orders.iter().for_each(Stop::events_ended);
        result.map(|totals| (totals, began.elapsed()))
    };
    let orders = async {
        let progress = |summary: &Summary| bar.set_message(format!(", {} orders", HumanCount(summary.answered())));
        match posting {
            Some(posting) => posting.run(progress).await.map(Some),
            None => Ok(None),
        }
    };
    let (events, orders) = tokio::select! {
        results = async { tokio::join!(events, orders) } => results,
        () = told_to_stop_and_stuck(&stop, stop_orders.as_ref()) => anyhow::bail!("stopped before everything had arrived: the receiver does not answer"),
    };
    bar.finish_and_clear();
    match events {
        Ok((totals, elapsed)) => report(&totals, elapsed),
        Err(PumpError::Sink(SinkError::Closed)) => {}
        Err(error) => return Err(error.into()),
    }
    orders?.as_ref().map_or(Ok(()), orders::report)
}

/// Asks for an orderly end at the first signal; completes if that takes too long.
async fn told_to_stop_and_stuck(stop: &AtomicBool, orders: Option<&Stop>) {
    super::stop_signal().await;
    stop.store(true, Ordering::Relaxed);
    orders.into_iter().for_each(Stop::interrupted);
    tokio::time::sleep(STOP_TIMEOUT).await;
}

fn progress_bar(limit: Limit) -> ProgressBar {
    let (bar, template) = match limit {
        Limit::Events(events) => {
            (ProgressBar::new(events), "{wide_bar} {human_pos}/{human_len} events, {per_sec}, {eta} to go{msg}")
        }
        _ => (ProgressBar::new_spinner(), "{spinner} {human_pos} events, {per_sec}, {elapsed}{msg}"),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("a template that does not change"))
}

#[expect(clippy::print_stderr, reason = "the last line of the progress, which goes to stderr")]
fn report(totals: &Totals, elapsed: Duration) {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "for people"
    )]
    let rate = (totals.events as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
    eprintln!(
        "{} events, {} duplicates, {} corrupt in {:.1} s ({} events/s)",
        HumanCount(totals.events),
        HumanCount(totals.duplicates),
        HumanCount(totals.corrupt),
        elapsed.as_secs_f64(),
        HumanCount(rate)
    );
}
