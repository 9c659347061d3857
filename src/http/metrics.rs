//! `/metrics` in Prometheus' text format: the process's figures, and how requests were answered.

use std::sync::OnceLock;
use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, get};
use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::{AppState, State};
use crate::feed::Extent;
use crate::status::rss_bytes;

const DURATION: &str = "tillstream_http_request_duration_seconds";
const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// The recorder of the whole process, so that whatever counts with the `metrics` macros is seen here. `None` if another
/// recorder was installed first.
fn recorder() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(DURATION.to_owned()), &BUCKETS)
            .and_then(PrometheusBuilder::install_recorder)
            .inspect_err(|error| tracing::error!(%error, "metrics are not available"))
            .ok()
    };
    HANDLE.get_or_init(install).as_ref()
}

/// Counts an answered request. `route` is the template, never the path itself, whose variety is without bounds.
pub(super) fn request_answered(method: &Method, route: String, status: StatusCode, took: Duration) {
    recorder();
    let method = if matches!(method.as_str(), "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") {
        method.as_str().to_owned()
    } else {
        "other".to_owned()
    };
    let status = status.as_u16().to_string();
    counter!("tillstream_http_requests_total", "method" => method.clone(), "route" => route.clone(), "status" => status)
        .increment(1);
    histogram!(DURATION, "method" => method, "route" => route).record(took.as_secs_f64());
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floating-point numbers")]
fn copy_figures(state: &AppState) {
    let status = &state.status;
    let totals = &status.totals;
    counter!("tillstream_events_total").absolute(totals.events.get());
    counter!("tillstream_duplicates_total").absolute(totals.duplicates.get());
    counter!("tillstream_sequence_gaps_total").absolute(totals.gaps.get());
    counter!("tillstream_dead_letters_total").absolute(totals.dead_letters.get());
    counter!("tillstream_derived_events_total").absolute(totals.derived.get());
    counter!("tillstream_commits_total").absolute(totals.commits.get());
    for (partition, figures) in status.partitions() {
        let labels = [("topic", partition.topic.name().to_owned()), ("partition", partition.partition.to_string())];
        gauge!("tillstream_partition_next_offset", &labels).set(figures.next_offset.get() as f64);
        let lag = (figures.end_offset.get() - figures.next_offset.get()).max(0);
        gauge!("tillstream_partition_lag", &labels).set(lag as f64);
        gauge!("tillstream_partition_clock_seconds", &labels).set(figures.clock.get() as f64 / 1000.0);
    }
    for (plugin, figures) in status.plugins() {
        counter!("tillstream_plugin_consumed_total", "plugin" => plugin.clone()).absolute(figures.consumed.get());
        counter!("tillstream_plugin_skipped_total", "plugin" => plugin.clone()).absolute(figures.skipped.get());
        counter!("tillstream_plugin_effects_total", "plugin" => plugin.clone()).absolute(figures.effects.get());
        counter!("tillstream_plugin_errors_total", "plugin" => plugin).absolute(figures.errors.get());
    }
    for (actor, figures) in status.actors() {
        counter!("tillstream_actor_restarts_total", "actor" => actor).absolute(figures.restarts.get());
    }
    let Extent { newest, .. } = state.feed.extent();
    counter!("tillstream_feed_items_total").absolute(newest);
    gauge!("tillstream_feed_clients").set(state.feed.readers() as f64);
    gauge!("tillstream_uptime_seconds").set(status.uptime_seconds() as f64);
    if let Some(bytes) = rss_bytes() {
        gauge!("process_resident_memory_bytes").set(bytes as f64);
    }
}

/// Figures for Prometheus.
#[utoipa::path(
    tag = "system",
    responses((status = 200, description = "Prometheus text format", body = String, content_type = "text/plain"))
)]
#[get("/metrics")]
pub(super) async fn show(state: State) -> HttpResponse {
    let recorder = recorder();
    copy_figures(&state);
    let text = recorder.map(PrometheusHandle::render).unwrap_or_default();
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text)
}
