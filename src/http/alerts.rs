//! `/api/alerts`: what fraud rules found, and what people made of it.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::State;
use super::access::Actor;
use super::body::JsonBody;
use super::page::List;
use super::params::{Params, WhenText};
use super::problem::{Problem, ProblemField};
use crate::event::{Scope, Severity};
use crate::store::{Alert, AlertChange, AlertFilter, AlertStatus, Disposition, StoreError};
use crate::time::Timestamp;

/// An alert: what the rule found, and what people made of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Alert)]
#[serde(rename_all = "camelCase")]
pub(super) struct AlertView {
    id: String,
    alert_id: String,
    rule_id: String,
    /// Revision of the rule that fired.
    rule_revision: u64,
    severity: Severity,
    /// Kind of the entity: `terminal`, `employee`, `customer` or `card`.
    scope: Scope,
    entity: String,
    /// What was measured.
    observed: f64,
    /// What the rule allows.
    limit: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_seconds: Option<i64>,
    /// The contributing events, each named `source#id`.
    event_ids: Vec<String>,
    message: String,
    /// Time of the event that completed the pattern.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    store_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    terminal_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    employee_id: Option<String>,
    /// True for a rule in status `shadow`.
    shadow: bool,
    status: AlertStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    disposition: Option<Disposition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assignee: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// The contributing events whole; in lists, and until they have been copied from the bus, absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    events: Option<Vec<Value>>,
}

impl From<Alert> for AlertView {
    fn from(stored: Alert) -> Self {
        let Alert { record, status, disposition, assignee, note, events } = stored;
        let alert = record.alert;
        let events = events.map(|events| events.iter().filter_map(|raw| serde_json::from_slice(raw).ok()).collect());
        Self {
            id: alert.alert_id.to_string(),
            alert_id: alert.alert_id.to_string(),
            rule_id: alert.rule_id.to_string(),
            rule_revision: alert.rule_revision,
            severity: alert.severity,
            scope: alert.scope,
            entity: alert.entity.to_string(),
            observed: alert.observed,
            limit: alert.limit,
            window_seconds: alert.window_seconds,
            event_ids: alert.event_ids,
            message: alert.message,
            at: record.at,
            store_id: record.store_id,
            terminal_id: record.terminal_id,
            employee_id: record.employee_id,
            shadow: record.shadow,
            status,
            disposition,
            assignee,
            note,
            events,
        }
    }
}

/// A text of an enumeration that serde reads.
fn named<T: serde::de::DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_value(Value::String(name.to_owned())).ok()
}

/// Alerts, newest first.
#[utoipa::path(
    get,
    path = "/api/alerts",
    tag = "alerts",
    params(
        ("status" = inline(Option<AlertStatus>), Query, description = "How far people are with it"),
        ("severity" = inline(Option<Severity>), Query, description = "How serious it is"),
        ("ruleId" = Option<String>, Query, description = "The rule that fired"),
        ("entity" = Option<String>, Query, description = "`scope:id`, or the id alone"),
        ("from" = inline(Option<WhenText>), Query, description = "Inclusive: RFC 3339, or a business day"),
        ("to" = inline(Option<WhenText>), Query, description = "Exclusive: RFC 3339, or a business day"),
        ("shadow" = Option<bool>, Query, description = "Those of shadow rules instead of the others"),
        ("limit" = Option<u16>, Query, description = "Items of a page", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses((status = 200, description = "A page of alerts", body = List<AlertView>))
)]
pub(super) async fn list(request: HttpRequest, state: State) -> Result<HttpResponse, Problem> {
    let known = ["status", "severity", "ruleId", "entity", "from", "to", "shadow", "limit", "cursor"];
    let params = Params::read(&request, &known)?;
    let filter = AlertFilter {
        status: params.parsed("status", "must be new, acknowledged or closed", named)?,
        severity: params.parsed("severity", "must be low, medium or high", named)?,
        rule_id: params.text("ruleId")?,
        entity: params.text("entity")?,
        from: params.when("from")?.map(|when| state.begin_of(when)),
        to: params.when("to")?.map(|when| state.end_before(when)),
        shadow: Some(params.parsed("shadow", "must be true or false", |text| text.parse().ok())?.unwrap_or(false)),
    };
    let (limit, cursor) = (params.limit()?, params.long_text("cursor"));
    let page = state.store.alerts(filter, cursor, limit).await?;
    let items = page.items.into_iter().map(AlertView::from).collect();
    Ok(HttpResponse::Ok().json(List { items, next: page.next }))
}

/// One alert with the events that it rests on.
#[utoipa::path(
    get,
    path = "/api/alerts/{id}",
    tag = "alerts",
    params(("id" = String, Path, description = "The alert's id")),
    responses((status = 200, description = "The alert", body = AlertView), (status = 404, description = "No such alert", body = Problem, content_type = "application/problem+json"))
)]
pub(super) async fn show(id: web::Path<String>, state: State) -> Result<HttpResponse, Problem> {
    let alert = state.store.alert(&id).await.map_err(|error| not_found(&id, error))?;
    Ok(HttpResponse::Ok().json(AlertView::from(alert)))
}

/// What a person changes of an alert; what is absent stays, null takes away.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(clippy::option_option, reason = "a merge patch tells absent from null")]
pub(super) struct AlertPatch {
    status: Option<AlertStatus>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Disposition>)]
    disposition: Option<Option<Disposition>>,
    /// Who looks after it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    assignee: Option<Option<String>>,
    /// What they found.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    note: Option<Option<String>>,
}

/// Tells null from absent.
#[expect(clippy::option_option, reason = "a merge patch tells absent from null")]
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Changes what people made of an alert: a JSON merge patch.
#[utoipa::path(
    patch,
    path = "/api/alerts/{id}",
    tag = "alerts",
    params(("id" = String, Path, description = "The alert's id")),
    request_body = AlertPatch,
    responses((status = 200, description = "The alert as it is now", body = AlertView), (status = 404, description = "No such alert", body = Problem, content_type = "application/problem+json"))
)]
pub(super) async fn change(
    id: web::Path<String>,
    body: JsonBody<AlertPatch>,
    actor: Actor,
    state: State,
) -> Result<HttpResponse, Problem> {
    let AlertPatch { status, disposition, assignee, note } = body.0;
    let change = AlertChange {
        status,
        disposition,
        assignee: assignee.map(Option::unwrap_or_default),
        note: note.map(Option::unwrap_or_default),
    };
    let changed = state.store.change_alert(&id, change, &actor.name).await;
    let alert = changed.map_err(|error| match error {
        StoreError::Invalid(error) => Problem::unprocessable(vec![ProblemField::from(error)]),
        other => not_found(&id, other),
    })?;
    Ok(HttpResponse::Ok().json(AlertView::from(alert)))
}

fn not_found(id: &str, error: StoreError) -> Problem {
    match error {
        StoreError::NotFound => Problem::not_found(format!("There is no alert {id}.")),
        other => other.into(),
    }
}
