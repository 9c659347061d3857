//! `tillstream check`: whether `serve` could start here now, and what to do about each fault. Tests configuration,
//! `plugins.yaml`, bus, store and the address to listen on; goes on after a fault, so that all are named at once.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::{Failed, logging};
use crate::app::fit::{compare, too_few};
use crate::app::{load_defaults, open_bus};
use crate::bus::{Bus, BusError, InputTopic};
use crate::config::{BusKind, Config};
use crate::store::{Store, StoreReport};

/// Tests configuration, bus and store, and says what to do about each fault
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tillstream check --config tillstream.toml\n  tillstream check --json\n\nEnds with 0 if serve can \
start, 1 if something is wrong with bus, store or address, 2 if it is the configuration. Topics that are missing on Kafka are \
created, as serve would do; nothing else is changed."
)]
pub struct CheckArgs {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// One thing that was tested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was tested: `configuration`, `plugins`, `bus`, `store` or `http`.
    name: &'static str,
    ok: bool,
    /// What was found; if it is a fault, what to do.
    message: String,
    /// What a person should know although `serve` can start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl Finding {
    fn of(name: &'static str, result: Result<String, String>) -> Self {
        Self { name, ok: result.is_ok(), message: result.unwrap_or_else(|fault| fault), warnings: Vec::new() }
    }
}

/// Runs the command.
///
/// # Errors
/// If anything is wrong; everything has been printed by then.
pub fn run(args: &CheckArgs) -> anyhow::Result<()> {
    logging::start();
    super::server_args::install_tls();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let findings = runtime.block_on(findings(args.config.as_deref()));
    print(&findings, args.json)?;
    let fault = findings.iter().find(|finding| !finding.ok);
    match fault.map(|finding| finding.name) {
        None => Ok(()),
        Some("configuration" | "plugins") => Err(Failed(2).into()),
        Some(_) => Err(Failed(1).into()),
    }
}

fn print(findings: &[Finding], json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        let ok = findings.iter().all(|finding| finding.ok);
        let report = serde_json::json!({"ok": ok, "checks": findings});
        return Ok(writeln!(out, "{report}")?);
    }
    for Finding { name, ok, message, warnings } in findings {
        let verdict = if *ok { "ok   " } else { "FAULT" };
        writeln!(out, "{verdict} {name:<14} {}", message.replace('\n', "\n                     "))?;
        for warning in warnings {
            writeln!(out, "warn  {name:<14} {warning}")?;
        }
    }
    Ok(())
}

async fn findings(file: Option<&Path>) -> Vec<Finding> {
    let config = match Config::load(file, &[]) {
        Ok(config) => config,
        Err(error) => return vec![Finding::of("configuration", Err(error.to_string()))],
    };
    let source = file.map_or_else(|| "defaults and environment".to_owned(), |file| file.display().to_string());
    let (bus, opened) = match bus(&config).await {
        Ok((text, bus)) => (Ok(text), bus),
        Err(fault) => (Err(fault), None),
    };
    let identity = opened.as_ref().map(|bus| bus.identity());
    let (store, report) = match store(&config, identity.as_deref()).await {
        Ok((text, report)) => (Ok(text), report),
        Err(fault) => (Err(fault), StoreReport::default()),
    };
    let warnings = match &opened {
        Some(bus) => bus.advice().await,
        None => Vec::new(),
    };
    let bus = match (bus, opened) {
        (Ok(text), Some(bus)) => match fit(&*bus, &report).await {
            Ok(()) => inputs(&*bus, &report.plugins).await.map(|inputs| text + &inputs),
            Err(fault) => Err(fault),
        },
        (Ok(_), None) if report.bus.is_some() => Err(format!(
            "there is no log at {}, but the store was filled from one: put it back, or begin with an empty store (store.url)",
            config.bus.path.display()
        )),
        (bus, _) => bus,
    };
    vec![
        Finding::of("configuration", Ok(source)),
        Finding::of("plugins", plugins(&config)),
        Finding { warnings, ..Finding::of("bus", bus) },
        Finding::of("store", store),
        Finding::of("http", http(&config)),
    ]
}

/// The bus holds what the store has read, and what it has yet to read.
async fn fit(bus: &dyn Bus, report: &StoreReport) -> Result<(), String> {
    let text = |error: BusError| error.to_string();
    let fit = compare(bus, &report.places).await.map_err(text)?;
    let too_few = too_few(bus, report.bus.is_some()).await.map_err(text)?;
    too_few.or(fit.older).or(fit.lost).map_or(Ok(()), Err)
}

/// The topics of plugins in other languages, which `serve` needs as soon as one of them is on. A bus of one process has none.
async fn inputs(bus: &dyn Bus, known: &[String]) -> Result<String, String> {
    if known.is_empty() || !bus.is_shared() {
        return Ok(String::new());
    }
    for input in known.iter().filter_map(|name| InputTopic::of(name)) {
        bus.create_input(input).await.map_err(|error| error.to_string())?;
    }
    Ok(format!(", and the topics of {}", known.join(", ")))
}

fn plugins(config: &Config) -> Result<String, String> {
    let defaults = load_defaults(config).map_err(|error| error.to_string())?;
    let file = &config.plugins.file;
    let source =
        if file.exists() { file.display().to_string() } else { "the built-in copy of plugins.yaml".to_owned() };
    Ok(format!("{source}: {} plugins", defaults.plugins.len()))
}

/// What was found, and the bus if it is there.
async fn bus(config: &Config) -> Result<(String, Option<Arc<dyn Bus>>), String> {
    let embedded = config.bus.kind == BusKind::Embedded;
    if embedded && !config.bus.path.exists() {
        let path = config.bus.path.display();
        return match Store::is_writable(&config.bus.path) {
            Ok(()) => Ok((format!("embedded, {path}: will be created"), None)),
            Err(why) => Err(format!("bus.path: {path} cannot be made: {why}")),
        };
    }
    let bus = open_bus(config).await.map_err(|error| error.to_string())?;
    bus.try_rights().await.map_err(|error| error.to_string())?;
    let place = if embedded { config.bus.path.display().to_string() } else { config.bus.brokers.clone() };
    let surplus = bus.surplus().await.map_err(|error| error.to_string())?;
    if let Some(surplus) = surplus.filter(|surplus| surplus.records > 0) {
        return Err(surplus.to_string());
    }
    let mut text = format!("{}, {place}: {} partitions", config.bus.kind.as_str(), bus.partitions());
    if let Some(surplus) = surplus {
        text = format!("{text}. {surplus}");
    }
    Ok((text, Some(bus)))
}

/// What was found, in words and in full.
async fn store(config: &Config, bus: Option<&str>) -> Result<(String, StoreReport), String> {
    let single_writer = config.store.galera_single_writer;
    let cluster = Store::refuse_several_writers(&config.store.url.to_text(), single_writer).await;
    cluster.map_err(|error| error.to_string())?;
    let report = Store::inspect(&config.store.url.to_text(), config.store.migrate).await;
    let report = report.map_err(|error| error.to_string())?;
    if let (Some((known, _)), Some(given)) = (&report.bus, bus)
        && known != given
    {
        return Err(format!(
            "the store belongs to bus {known}, but this bus is {given}: use the bus that the store was filled from, or an empty \
             store (store.url)"
        ));
    }
    if let Some((_, known)) = &report.bus
        && *known != config.bus.partitions.to_string()
    {
        return Err(format!(
            "the store was filled from a bus of {known} partitions, but bus.partitions is {}: set bus.partitions = {known}",
            config.bus.partitions
        ));
    }
    let tables = match report.schema.pending.len() {
        0 => "the tables are up to date".to_owned(),
        count => format!("{count} migrations to run, which serve does at its start"),
    };
    Ok((format!("{}: {tables}", report.server), report))
}

fn http(config: &Config) -> Result<String, String> {
    let bind = config.http.bind;
    match TcpListener::bind(bind) {
        Ok(_) => Ok(format!("{bind} is free")),
        Err(error) => Err(format!(
            "http.bind: nothing can listen on {bind}: {error}. Stop what listens there (a running Tillstream?), or choose another \
             http.bind"
        )),
    }
}
