//! `/metrics` in Prometheus' text format: the process's figures as they stand, and how requests were answered.
//!
//! What is counted elsewhere is read when it is asked for (`exposition`); what has to be observed one by one (requests,
//! commits) goes to the recorder of the `metrics` macros. [`catalogue`] says what there is and what it means.

pub mod catalogue;
mod exposition;
mod outbox_age;
mod process;

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, web};
use futures_util::future::join_all;
use metrics::{counter, describe_counter, describe_histogram, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::timeout;

use super::{AppState, Local, State, health};
use crate::bus::TopicPartition;
use crate::config::{BusKind, Role, StoreUrl};
use crate::feed::Extent;
use crate::orders::acceptor::Acceptor;
use crate::processes::parked_items;
use crate::status::COMMIT_DURATION;
use crate::store::{Expiring, FORGOTTEN_TABLES, LaneBacklog};
use crate::time::Timestamp;
use catalogue::{FAMILIES, Kind};
use exposition::Exposition;
use outbox_age::OutboxAge;

const REQUESTS: &str = "tillstream_http_requests_total";
const REQUEST_DURATION: &str = "tillstream_http_request_duration_seconds";
const REQUEST_BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
const COMMIT_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0];
/// Observations are put into their buckets this often even if nobody asks, so that they do not pile up in memory.
const UPKEEP: Duration = Duration::from_secs(5);
/// A bus or store that takes longer is away, as far as a scrape is concerned: Prometheus gives up after 10 s.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    outbox: Mutex<OutboxAge>,
}

impl Memory {
    /// For how long, at least, the oldest record of the outbox has waited, of which this is what waits now.
    pub(super) fn outbox_age(&self, backlog: &[LaneBacklog]) -> Duration {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner).look(backlog, Instant::now())
    }
}

/// The recorder of the whole process, so that whatever counts with the `metrics` macros is seen here. `None` if another
/// recorder was installed first.
fn recorder() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets_for_metric(Matcher::Full(REQUEST_DURATION.to_owned()), &REQUEST_BUCKETS);
        let handle = builder
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Full(COMMIT_DURATION.to_owned()), &COMMIT_BUCKETS)
            })
            .and_then(PrometheusBuilder::install_recorder)
            .inspect_err(|error| tracing::error!(%error, "requests and commits are not measured"))
            .ok()?;
        for family in FAMILIES {
            match family.kind {
                Kind::Counter => describe_counter!(family.name, family.help),
                Kind::Histogram => describe_histogram!(family.name, family.help),
                Kind::Gauge => {}
            }
        }
        Some(handle)
    };
    HANDLE.get_or_init(install).as_ref()
}

/// What is refused at the door is rare: its counters are there from the start, so that the first time is seen as a rise.
const REFUSALS: [(&str, &[&str]); 2] = [
    ("tillstream_logins_refused_total", &["wrong", "limited", "busy"]),
    ("tillstream_http_bodies_refused_total", &["too_large", "too_slow", "not_decodable"]),
];
const CUT_OFF: &str = "tillstream_http_connections_cut_off_total";

/// Keeps what was observed small, for as long as the server lives.
pub(super) async fn keep_up() {
    let Some(recorder) = recorder() else { return };
    for (name, reasons) in REFUSALS {
        for reason in reasons {
            counter!(name, "reason" => *reason).increment(0);
        }
    }
    counter!(CUT_OFF).increment(0);
    let mut tick = tokio::time::interval(UPKEEP);
    loop {
        tick.tick().await;
        recorder.run_upkeep();
    }
}

/// Counts an answered request. `route` is the template, never the path itself, whose variety is without bounds.
pub(super) fn request_answered(method: &Method, route: String, status: StatusCode, took: Duration) {
    let method = if matches!(method.as_str(), "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") {
        method.as_str().to_owned()
    } else {
        "other".to_owned()
    };
    let status = status.as_u16().to_string();
    counter!(REQUESTS, "method" => method.clone(), "route" => route.clone(), "status" => status).increment(1);
    histogram!(REQUEST_DURATION, "method" => method, "route" => route).record(took.as_secs_f64());
}

/// What the pipeline has counted.
fn add_pipeline(state: &AppState, figures: &mut Exposition) {
    let status = &state.status;
    let totals = &status.totals;
    figures.count("tillstream_events_total", &[], totals.events.get());
    figures.count("tillstream_duplicates_total", &[], totals.duplicates.get());
    figures.count("tillstream_sequence_gaps_total", &[], totals.gaps.get());
    figures.count("tillstream_dead_letters_total", &[], totals.dead_letters.get());
    figures.count("tillstream_terminal_clocks_wrong", &[], status.clocks().len() as u64);
    figures.count("tillstream_derived_events_total", &[], totals.derived.get());
    figures.count("tillstream_commits_total", &[], totals.commits.get());
    figures.count("tillstream_events_read_again_total", &[], totals.read_again.get());
    for (stage, nanos) in status.stages.list() {
        let seconds = Duration::from_nanos(nanos).as_secs_f64();
        figures.add("tillstream_stage_seconds_total", &[("stage", stage)], seconds);
    }
    for (plugin, counted) in status.plugins() {
        let labels = [("plugin", plugin.as_str())];
        figures.count("tillstream_plugin_consumed_total", &labels, counted.consumed.get());
        figures.count("tillstream_plugin_skipped_total", &labels, counted.skipped.get());
        figures.count("tillstream_plugin_effects_total", &labels, counted.effects.get());
        figures.count("tillstream_plugin_errors_total", &labels, counted.errors.get());
        for (reason, count) in counted.conditions().by_reason() {
            let labels = [("plugin", plugin.as_str()), ("reason", reason)];
            figures.count("tillstream_plugin_condition_failures_total", &labels, count);
        }
    }
    for plugin in state.control.snapshot().plugins() {
        let labels = [("plugin", plugin.row.name.as_str())];
        figures.flag("tillstream_plugin_active", &labels, plugin.row.active);
        figures.flag("tillstream_plugin_faulty", &labels, plugin.row.active && plugin.fault.is_some());
    }
    for (actor, counted) in status.actors() {
        figures.count("tillstream_actor_restarts_total", &[("actor", actor.as_str())], counted.restarts.get());
    }
}

/// Owned partitions; the bus is asked for their ends.
async fn add_partitions(state: &AppState, figures: &mut Exposition) {
    let owned = state.status.partitions();
    // Where a partition cannot be asked, what was seen last is better than nothing.
    let end = |place| async move { timeout(PATIENCE, end_of(state, place)).await.unwrap_or(0) };
    let ends = join_all(owned.iter().map(|(place, _)| end(*place))).await;
    for ((place, partition), end) in owned.iter().zip(ends) {
        let number = place.partition.to_string();
        let labels = [("topic", place.topic.name()), ("partition", number.as_str())];
        let next = partition.next_offset.get();
        let end = partition.end_offset.get().max(end);
        figures.number("tillstream_partition_next_offset", &labels, next);
        figures.number("tillstream_partition_lag", &labels, (end - next).max(0));
        let clock = u64::try_from(partition.clock.get()).unwrap_or(0);
        figures.add("tillstream_partition_clock_seconds", &labels, Duration::from_millis(clock).as_secs_f64());
    }
}

/// Partitions that somebody added. While the bus is away these figures are left out.
async fn add_surplus(state: &AppState, figures: &mut Exposition) {
    let Ok(Ok(surplus)) = timeout(PATIENCE, state.bus.surplus()).await else { return };
    let (partitions, records) = surplus.map_or((0, 0), |found| (found.partitions - found.configured, found.records));
    figures.count("tillstream_bus_surplus_partitions", &[], partitions.into());
    figures.number("tillstream_bus_surplus_records", &[], records);
}

async fn end_of(state: &AppState, place: TopicPartition) -> i64 {
    state.bus.bounds(place).await.map_or(0, |bounds| bounds.high)
}

/// What waits in the store. While it is away these figures are left out: old ones would look like new ones.
async fn add_waiting(state: &AppState, memory: &Memory, figures: &mut Exposition) {
    let store = &state.store;
    // One that is slow or fails keeps none of the others from being shown.
    let (backlog, counts, orders) = tokio::join!(
        timeout(PATIENCE, store.outbox_backlog()),
        timeout(PATIENCE, store.counts()),
        timeout(PATIENCE, store.order_stats()),
    );
    if let Ok(Ok(backlog)) = backlog {
        let records = backlog.iter().map(|lane| lane.records).sum();
        let age = memory.outbox_age(&backlog);
        figures.number("tillstream_outbox_records", &[], records);
        figures.add("tillstream_outbox_oldest_seconds", &[], age.as_secs_f64());
    }
    if let Ok(Ok(counts)) = counts {
        figures.number("tillstream_http_calls_waiting", &[], counts.http_calls);
        figures.number("tillstream_dead_letters_open", &[], counts.dead_letters_open);
        figures.number("tillstream_alerts_new", &[], counts.alerts_new);
    }
    if let Ok(Ok(orders)) = orders {
        for (status, count) in [("pending", orders.pending), ("success", orders.success), ("failed", orders.failed)] {
            figures.number("tillstream_orders", &[("status", status)], count);
        }
        figures.number("tillstream_orders_unpublished", &[], orders.unpublished);
        figures.number("tillstream_orders_parked", &[], orders.parked);
        let age = orders.oldest_pending_at.map_or(0, |at| Timestamp::now().millis_since(at).max(0));
        let age = Duration::from_millis(age.unsigned_abs());
        figures.add("tillstream_orders_oldest_pending_seconds", &[], age.as_secs_f64());
    }
}

/// What this process did with orders.
fn add_order_totals(state: &AppState, acceptor: &Acceptor, figures: &mut Exposition) {
    let totals = &state.status.orders;
    figures.count("tillstream_orders_accepted_total", &[], acceptor.figures.accepted.get());
    figures.count("tillstream_orders_replayed_total", &[], acceptor.figures.replayed.get());
    figures.count("tillstream_orders_published_total", &[], totals.published.get());
    figures.count("tillstream_orders_consumed_total", &[], totals.consumed.get());
    for (outcome, counter) in [("taken", &totals.attempts_taken), ("failed", &totals.attempts_failed)] {
        figures.count("tillstream_order_attempts_total", &[("outcome", outcome)], counter.get());
    }
    for (status, counter) in [("success", &totals.delivered), ("failed", &totals.failed)] {
        figures.count("tillstream_orders_ended_total", &[("status", status)], counter.get());
    }
    figures.number("tillstream_order_attempts_in_flight", &[], totals.in_flight.get());
    figures.number("tillstream_orders_breaker_open", &[], totals.breaker_open.get());
}

/// What was removed from the store by this process, if it does that.
fn add_removed(state: &AppState, figures: &mut Exposition) {
    if state.status.roles().contains(&Role::Processor) {
        for table in Expiring::ALL.map(Expiring::as_str).into_iter().chain(FORGOTTEN_TABLES) {
            let labels = [("table", table)];
            figures.count("tillstream_store_removed_total", &labels, state.status.removed(table).get());
        }
    }
}

/// Whether the process and its parts can work, by the same checks as `/health/ready`.
async fn add_readiness(state: &AppState, figures: &mut Exposition) {
    // The checks have a patience of their own, which comes first.
    let checks = timeout(PATIENCE * 2, health::checks(state)).await.unwrap_or_default();
    for part in ["bus", "store"] {
        let of_part: Vec<_> = checks.iter().filter(|check| check.name == part).collect();
        // A role that does not need the bus does not look at it.
        if checks.is_empty() || !of_part.is_empty() {
            let ready = !checks.is_empty() && of_part.iter().all(|check| check.ok);
            figures.flag("tillstream_part_ready", &[("part", part)], ready);
        }
    }
    for role in state.status.roles() {
        let mut of_role = checks.iter().filter(|check| check.name == role.as_str());
        if matches!(role, Role::Processor | Role::Relay | Role::Dispatcher) {
            figures.flag("tillstream_part_ready", &[("part", role.as_str())], of_role.all(|check| check.ok));
        }
    }
    figures.flag("tillstream_ready", &[], !checks.is_empty() && checks.iter().all(|check| check.ok));
}

/// How this process's relay and dispatcher fare, and who else shares the work.
fn add_delivery(state: &AppState, figures: &mut Exposition) {
    let delivery = state.processes.delivery();
    if let Some(relay) = delivery.relay.as_ref().map(|relay| relay.figures()) {
        figures.count("tillstream_relay_records_total", &[], relay.records);
        figures.count("tillstream_relay_parked_lanes", &[], relay.parked.len() as u64);
    }
    if let Some(dispatcher) = delivery.dispatcher.as_ref().map(|dispatcher| dispatcher.figures()) {
        let ends = [
            ("answered", dispatcher.answered),
            ("failed", dispatcher.failed),
            ("retried", dispatcher.retried),
            ("cached", dispatcher.cached),
        ];
        for (outcome, count) in ends {
            figures.count("tillstream_dispatcher_calls_total", &[("outcome", outcome)], count);
        }
        for (service, breaker) in dispatcher.breakers {
            figures.flag("tillstream_dispatcher_breaker_open", &[("service", service)], breaker == "open");
        }
    }
    let mut parts: BTreeMap<&str, u64> = BTreeMap::new();
    for item in parked_items(&state.status, delivery) {
        *parts.entry(item.part).or_default() += 1;
    }
    figures.count("tillstream_parked", &[("part", "all")], parts.values().sum());
    for (part, items) in parts {
        figures.count("tillstream_parked", &[("part", part)], items);
    }
    for role in Role::ALL {
        let others = state.processes.others_alive();
        let here = usize::from(state.status.roles().contains(&role));
        let alive = here + others.iter().filter(|process| process.info.has(role)).count();
        figures.count("tillstream_processes", &[("role", role.as_str())], alive as u64);
    }
}

fn add_process(state: &AppState, figures: &mut Exposition) {
    let config = &state.config;
    let roles: Vec<_> = state.status.roles().iter().map(|role| role.as_str()).collect();
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("bus", config.bus.kind.as_str()),
        ("store", config.store.url.kind()),
        ("roles", &roles.join(",")),
    ];
    figures.flag("tillstream_build_info", &labels, true);
    figures.count("tillstream_bus_partitions", &[], state.bus.partitions().into());
    figures.count("tillstream_uptime_seconds", &[], state.status.uptime_seconds());
    let Extent { newest, .. } = state.feed.extent();
    figures.count("tillstream_feed_items_total", &[], newest);
    figures.count("tillstream_feed_clients", &[], state.feed.readers() as u64);
    figures.count("tillstream_feed_dropped_total", &[], state.feed.dropped());
    let log = (config.bus.kind == BusKind::Embedded).then_some(config.bus.path.as_path());
    let store = match &config.store.url {
        StoreUrl::Sqlite(path) => Some(path.as_path()),
        StoreUrl::MySql(_) => None,
    };
    for (file, path) in [("bus", log), ("store", store)] {
        let Some(path) = path else { continue };
        let mut write_ahead = path.as_os_str().to_owned();
        write_ahead.push("-wal");
        let bytes = [path.as_os_str(), &write_ahead].map(|path| std::fs::metadata(path).map_or(0, |file| file.len()));
        figures.count("tillstream_file_bytes", &[("file", file)], bytes.iter().sum());
    }
    add_files(state, figures);
    process::add(figures);
}

/// The write-ahead logs of the embedded log and of the SQLite store, and the room on their disks.
fn add_files(state: &AppState, figures: &mut Exposition) {
    for (file, files) in [("bus", state.bus.files()), ("store", state.store.files())] {
        let Some(files) = files else { continue };
        let labels = [("file", file)];
        figures.count("tillstream_wal_bytes", &labels, files.wal_bytes());
        if let Some(disk) = files.disk() {
            figures.count("tillstream_disk_free_bytes", &labels, disk.free_bytes);
            figures.count("tillstream_disk_bytes", &labels, disk.bytes);
        }
    }
}

/// Figures for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "system",
    responses((status = 200, description = "Prometheus text format", body = String, content_type = "text/plain"))
)]
pub(super) async fn show(state: State, local: web::Data<Local>) -> HttpResponse {
    let mut figures = Exposition::default();
    add_process(&state, &mut figures);
    add_pipeline(&state, &mut figures);
    add_delivery(&state, &mut figures);
    // One after the other: each is answered in a moment, or not before its patience is at an end.
    add_readiness(&state, &mut figures).await;
    add_partitions(&state, &mut figures).await;
    add_surplus(&state, &mut figures).await;
    add_waiting(&state, &local.metrics, &mut figures).await;
    add_order_totals(&state, &local.orders, &mut figures);
    add_removed(&state, &mut figures);
    let mut text = recorder().map(PrometheusHandle::render).unwrap_or_default();
    text.push_str(&figures.into_text());
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text)
}
