//! `/api/plugins`: the switches, settings and eligibility of the plugins, and who changed them.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::State;
use super::access::Actor;
use super::audit::AuditView;
use super::body::JsonBody;
use super::page::List;
use super::params::Params;
use super::preconditions::{etag, if_match};
use super::problem::{Problem, ProblemField};
use crate::control::{Change, ChangeError, ConditionStats, Member, PluginKind, PluginView};
use crate::event::Scope;
use crate::store::model::WhileOff;
use crate::time::Timestamp;

/// A plugin: its switch, what it may be told, and what it has done.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plugin {
    name: String,
    /// What it does.
    description: String,
    /// Part of Tillstream, or a program of its own.
    kind: PluginKind,
    /// Switched on.
    active: bool,
    /// Raised by one with each change; the `ETag` in quotes.
    revision: i64,
    /// Which events qualify.
    #[schema(value_type = Object)]
    eligibility: Value,
    #[schema(value_type = Object)]
    settings: Value,
    /// JSON Schemas of `settings` and `eligibility`.
    #[schema(value_type = Object)]
    schema: Value,
    /// Why it cannot run although it is switched on.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    stats: Stats,
    // What only plugins in other languages have. Fields of their own: a flattened `Option` is described as one that is
    // null or has all of them, which a plugin without any is not.
    /// The version of its manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// The kind of entity that keys its input.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<Scope>,
    /// The event types that it wants.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_types: Option<Vec<String>>,
    /// What becomes of its input while it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    while_off: Option<WhileOff>,
    /// True if a member was heard of less than 15 s ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    alive: Option<bool>,
    /// Its members, those that are alive first.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<Member>>,
    /// Why the last manifest of this name was refused: there is no such plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// What a plugin has done since this process started.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stats {
    /// Events that it was given.
    consumed: u64,
    /// Events that were not eligible.
    skipped: u64,
    /// Effects that it asked for.
    effects: u64,
    /// Events on which it failed.
    errors: u64,
    /// Time of the newest event that it was given; null before the first.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_event_at: Option<Timestamp>,
    /// Conditions that gave neither true nor false, and so counted as false; absent if there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    conditions: Vec<FailingCondition>,
}

/// A condition that gave neither true nor false for some events.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct FailingCondition {
    /// Which: `eligibility.when`, or `rules.ID`.
    condition: String,
    /// Events for which it cost more than its budget.
    over_budget: u64,
    /// Events that were too large for expressions.
    too_large: u64,
    /// Events for which it failed, such as by reading an absent key.
    failed: u64,
    /// Time of the newest such event.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_at: Option<Timestamp>,
    /// `source#id` of that event.
    last_event: String,
    /// Why the condition gave no answer for that event.
    last_error: String,
}

impl From<ConditionStats> for FailingCondition {
    fn from(stats: ConditionStats) -> Self {
        Self {
            condition: stats.condition,
            over_budget: stats.over_budget,
            too_large: stats.too_large,
            failed: stats.failed,
            last_at: stats.last_at,
            last_event: stats.last_event,
            last_error: stats.last_error,
        }
    }
}

impl From<PluginView> for Plugin {
    fn from(view: PluginView) -> Self {
        let mut plugin = Self {
            name: view.name,
            description: view.description,
            kind: view.kind,
            active: view.active,
            revision: view.revision,
            eligibility: view.eligibility,
            settings: view.settings,
            schema: view.schema,
            fault: view.fault,
            stats: Stats {
                consumed: view.stats.consumed,
                skipped: view.stats.skipped,
                effects: view.stats.effects,
                errors: view.stats.errors,
                last_event_at: view.stats.last_event_at,
                conditions: view.stats.conditions.into_iter().map(FailingCondition::from).collect(),
            },
            version: None,
            scope: None,
            event_types: None,
            while_off: None,
            alive: None,
            members: None,
            refused: view.refused,
        };
        if let Some(external) = view.external {
            plugin.version = Some(external.version);
            plugin.scope = Some(external.scope);
            plugin.event_types = Some(external.event_types);
            plugin.while_off = Some(external.while_off);
            plugin.alive = Some(external.alive);
            plugin.members = Some(external.members);
        }
        plugin
    }
}

fn unknown(name: &str) -> Problem {
    Problem::not_found(format!("There is no plugin {name}; GET /api/plugins lists them."))
}

pub(super) fn refused(name: &str, error: ChangeError) -> Problem {
    match error {
        ChangeError::NotFound => unknown(name),
        ChangeError::Conflict(view) => {
            let revision = view.revision;
            let current = serde_json::to_value(Plugin::from(*view)).expect("a plugin is plain data");
            Problem::precondition_failed(current, revision)
        }
        ChangeError::StoresConflict(revision) => {
            Problem::precondition_failed(serde_json::json!({"revision": revision}), revision)
        }
        ChangeError::Invalid(errors) => Problem::unprocessable(errors.into_iter().map(ProblemField::from).collect()),
        ChangeError::Unavailable(why) => Problem::unavailable(format!("{why}; nothing was changed, try again later.")),
    }
}

/// All plugins.
#[utoipa::path(get, path = "/api/plugins", tag = "plugins", responses((status = 200, description = "All on one page", body = List<Plugin>)))]
pub(super) async fn list(request: HttpRequest, state: State) -> Result<HttpResponse, Problem> {
    Params::read(&request, &["limit", "cursor"])?;
    let items = state.control.views().into_iter().map(Plugin::from).collect();
    Ok(HttpResponse::Ok().json(List { items, next: None }))
}

/// One plugin.
#[utoipa::path(
    get,
    path = "/api/plugins/{name}",
    tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name")),
    responses(
        (status = 200, description = "The plugin", body = Plugin, headers(("ETag" = String, description = "The revision in quotes"))),
        (status = 404, description = "No such plugin", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn show(name: web::Path<String>, state: State) -> Result<HttpResponse, Problem> {
    let view = state.control.view(&name).ok_or_else(|| unknown(&name))?;
    Ok(HttpResponse::Ok().insert_header(etag(view.revision)).json(Plugin::from(view)))
}

/// What a person changes of a plugin: a JSON merge patch.
#[derive(ToSchema)]
#[schema(as = PluginPatch)]
#[allow(dead_code, reason = "describes the body, which is read as a patch since null means something in it")]
pub(super) struct PluginPatch {
    /// Switched on.
    active: Option<bool>,
    #[schema(value_type = Option<Object>)]
    eligibility: Option<Value>,
    #[schema(value_type = Option<Object>)]
    settings: Option<Value>,
    /// Of a plugin in another language: whether its input waits while it is off, or is skipped.
    #[serde(rename = "whileOff")]
    while_off: Option<crate::store::model::WhileOff>,
    /// Why, for the history.
    reason: Option<String>,
    /// Not available yet: must be false or absent.
    #[serde(rename = "catchUp")]
    catch_up: Option<bool>,
}

/// Longest reason in bytes.
const REASON_BYTES_MAX: usize = 1000;

fn take_reason(patch: &mut Map<String, Value>) -> Result<Option<String>, Problem> {
    let wrong = |field: &str, message: &str| {
        Problem::unprocessable(vec![ProblemField { field: field.to_owned(), message: message.to_owned() }])
    };
    match patch.remove("catchUp") {
        None | Some(Value::Null | Value::Bool(false)) => {}
        Some(_) => {
            return Err(wrong("catchUp", "is not available yet; leave it out, the plugin goes on with the next event"));
        }
    }
    match patch.remove("reason") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(reason)) if reason.len() <= REASON_BYTES_MAX => {
            Ok(Some(reason).filter(|reason| !reason.is_empty()))
        }
        Some(_) => Err(wrong("reason", "must be a text of at most 1000 bytes")),
    }
}

/// Changes a plugin. With `If-Match`, only if nobody else changed it meanwhile.
///
/// Answers once all events appended afterwards meet the new settings in this process.
#[utoipa::path(
    patch,
    path = "/api/plugins/{name}",
    tag = "plugins",
    params(
        ("name" = String, Path, description = "The plugin's name"),
        ("If-Match" = Option<String>, Header, description = "The ETag that the change is based on"),
    ),
    request_body(content((PluginPatch = "application/merge-patch+json"), (PluginPatch = "application/json"))),
    responses(
        (status = 200, description = "The plugin as it is now", body = Plugin, headers(("ETag" = String, description = "The revision in quotes"))),
        (status = 404, description = "No such plugin", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "Changed by somebody else; `current` is how it is now", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn change(
    request: HttpRequest,
    name: web::Path<String>,
    body: JsonBody<Map<String, Value>>,
    actor: Actor,
    state: State,
) -> Result<HttpResponse, Problem> {
    let mut patch = body.0;
    let reason = take_reason(&mut patch)?;
    let if_match = if_match(&request)?;
    let change = Change { patch: Value::Object(patch), if_match, actor: actor.name, reason };
    let view = state.control.change(&name, change).await.map_err(|error| refused(&name, error))?;
    Ok(HttpResponse::Ok().insert_header(etag(view.revision)).json(Plugin::from(view)))
}

/// Who changed a plugin, when, and what it was before; newest first.
#[utoipa::path(
    get,
    path = "/api/plugins/{name}/history",
    tag = "plugins",
    params(
        ("name" = String, Path, description = "The plugin's name"),
        ("limit" = Option<u16>, Query, description = "Items of a page", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of changes", body = List<AuditView>),
        (status = 404, description = "No such plugin", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn history(
    request: HttpRequest,
    name: web::Path<String>,
    state: State,
) -> Result<HttpResponse, Problem> {
    let params = Params::read(&request, &["limit", "cursor"])?;
    if state.control.snapshot().row(&name).is_none() {
        return Err(unknown(&name));
    }
    let page = state.store.plugin_history(&name, params.long_text("cursor"), params.limit()?).await?;
    let items = page.items.into_iter().map(AuditView::from).collect();
    Ok(HttpResponse::Ok().json(List { items, next: page.next }))
}
