//! Probes: is the process alive, and can it do its work.

use actix_web::{HttpResponse, get};
use serde::Serialize;
use utoipa::ToSchema;

use super::{AppState, State};
use crate::bus::{Topic, TopicPartition};

/// A part of the process and how it fares.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Check {
    /// `bus`, `store`, or a part of the pipeline.
    pub(super) name: String,
    /// Whether it can work.
    pub(super) ok: bool,
    /// Why it cannot, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Whether the process can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`, or `unavailable` if any check fails.
    status: &'static str,
    /// What was looked at.
    checks: Vec<Check>,
}

/// The process answers.
#[utoipa::path(tag = "system", responses((status = 200, description = "Alive", body = Health)))]
#[get("/health/live")]
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok", checks: Vec::new() })
}

/// The process can do its work: its bus and its store answer, and no part of it has given up.
#[utoipa::path(
    tag = "system",
    responses((status = 200, description = "Ready", body = Health), (status = 503, description = "Not ready", body = Health))
)]
#[get("/health/ready")]
pub(super) async fn ready(state: State) -> HttpResponse {
    let checks = checks(&state).await;
    if checks.iter().all(|check| check.ok) {
        HttpResponse::Ok().json(Health { status: "ok", checks })
    } else {
        HttpResponse::ServiceUnavailable().json(Health { status: "unavailable", checks })
    }
}

/// Looks at everything that the process needs.
pub(super) async fn checks(state: &AppState) -> Vec<Check> {
    let bus = state.bus.bounds(TopicPartition::new(Topic::Events, 0)).await;
    let store = state.store.load_stores().await;
    let mut checks = vec![
        Check { name: "bus".to_owned(), ok: bus.is_ok(), message: bus.err().map(|error| error.to_string()) },
        Check { name: "store".to_owned(), ok: store.is_ok(), message: store.err().map(|error| error.to_string()) },
    ];
    let unready = state.status.unready();
    checks.extend(unready.into_iter().map(|(name, why)| Check {
        name: name.to_owned(),
        ok: false,
        message: Some(why),
    }));
    checks
}
