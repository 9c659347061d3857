//! `/api/deadletters`: what could not be processed or delivered, and a person's decision about it.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::State;
use super::access::Actor;
use super::body::JsonBody;
use super::page::List;
use super::params::{Params, WhenText};
use super::problem::{Problem, ProblemField};
use super::replay::{hindrance, original_of, replay_record};
use crate::bus::Header;
use crate::store::model::DeadLetter;
use crate::store::{DeadLetterFilter, DeadLetterSelection, DeadLetterStatus, StoreError, StoredDeadLetter};
use crate::time::Timestamp;

/// A dead letter, kept whole.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeadLetterView {
    id: String,
    /// When it was found.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    status: DeadLetterStatus,
    /// Machine-readable reason.
    reason: String,
    /// The field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// What is wrong, and what to do.
    message: String,
    /// The plugin that failed; absent if the message itself is invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<String>,
    /// Entity whose plugin failed, `scope:id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    entity: Option<String>,
    /// Where it was read.
    topic: &'static str,
    partition: u32,
    offset: i64,
    /// The record's key; null without one.
    key: Option<String>,
    /// The record's headers, with forbidden data masked; absent without any. In binary mode they hold the event's attributes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<HeaderView>,
    /// The record's value, with forbidden data masked.
    bytes_base64: String,
    /// Delivery attempts made.
    attempts: u32,
    /// A replay was asked for at this time and is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    replay_requested_at: Option<Timestamp>,
}

/// A header of a record.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Header)]
struct HeaderView {
    name: String,
    /// As text; what is not UTF-8 in it is replaced.
    value: String,
}

impl From<StoredDeadLetter> for DeadLetterView {
    fn from(stored: StoredDeadLetter) -> Self {
        let letter = stored.letter;
        Self {
            id: letter.id,
            at: letter.at,
            status: letter.status,
            reason: letter.reason,
            field: letter.field,
            message: letter.message,
            plugin: letter.plugin,
            entity: letter.entity,
            topic: letter.partition.topic.name(),
            partition: letter.partition.partition,
            offset: letter.offset,
            key: letter.key.map(|key| String::from_utf8_lossy(&key).into_owned()),
            headers: letter.headers.into_iter().map(HeaderView::from).collect(),
            bytes_base64: STANDARD.encode(&letter.bytes),
            attempts: letter.attempts,
            replay_requested_at: stored.replay_requested_at,
        }
    }
}

impl From<Header> for HeaderView {
    fn from((name, value): Header) -> Self {
        Self { name, value: String::from_utf8_lossy(&value).into_owned() }
    }
}

fn status(name: &str) -> Option<DeadLetterStatus> {
    [DeadLetterStatus::Open, DeadLetterStatus::Replayed, DeadLetterStatus::Discarded]
        .into_iter()
        .find(|status| status.as_str() == name)
}

/// Dead letters, newest first.
#[utoipa::path(
    get,
    path = "/api/deadletters",
    tag = "dead letters",
    params(
        ("status" = inline(Option<DeadLetterStatus>), Query, description = "Where it stands"),
        ("reason" = Option<String>, Query, description = "Machine-readable reason"),
        ("plugin" = Option<String>, Query, description = "The plugin that failed"),
        ("terminal" = Option<String>, Query, description = "The terminal that the message is about"),
        ("from" = inline(Option<WhenText>), Query, description = "Found at or after: RFC 3339, or a business day"),
        ("to" = inline(Option<WhenText>), Query, description = "Found before: RFC 3339, or a business day"),
        ("limit" = Option<u16>, Query, description = "Items of a page", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses((status = 200, description = "A page of dead letters", body = List<DeadLetterView>))
)]
pub(super) async fn list(request: HttpRequest, state: State) -> Result<HttpResponse, Problem> {
    let params = Params::read(&request, &["status", "reason", "plugin", "terminal", "from", "to", "limit", "cursor"])?;
    let filter = DeadLetterFilter {
        status: params.parsed("status", "must be open, replayed or discarded", status)?,
        reason: params.text("reason")?,
        plugin: params.text("plugin")?,
        terminal: params.text("terminal")?,
        from: params.when("from")?.map(|when| state.begin_of(when)),
        to: params.when("to")?.map(|when| state.end_before(when)),
    };
    let (limit, cursor) = (params.limit()?, params.long_text("cursor"));
    let page = state.store.dead_letters(filter, cursor, limit).await?;
    let items = page.items.into_iter().map(DeadLetterView::from).collect();
    Ok(HttpResponse::Ok().json(List { items, next: page.next }))
}

/// One dead letter.
#[utoipa::path(
    get,
    path = "/api/deadletters/{id}",
    tag = "dead letters",
    params(("id" = String, Path, description = "The dead letter's id")),
    responses((status = 200, description = "The dead letter", body = DeadLetterView), (status = 404, description = "No such dead letter", body = Problem, content_type = "application/problem+json"))
)]
pub(super) async fn show(id: web::Path<String>, state: State) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(one(&state, &id).await?))
}

async fn one(state: &State, id: &str) -> Result<DeadLetterView, Problem> {
    state.store.dead_letter(id).await.map(DeadLetterView::from).map_err(|error| not_found(id, error))
}

fn not_found(id: &str, error: StoreError) -> Problem {
    match error {
        StoreError::NotFound => Problem::not_found(format!("There is no dead letter {id}.")),
        other => other.into(),
    }
}

/// Which dead letters a decision is about: by id, or by filter. At least one must be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Selection {
    /// These; without filters.
    ids: Option<Vec<String>>,
    /// Only open ones are ever decided on; `open` therefore means all.
    status: Option<String>,
    /// Those with this reason.
    reason: Option<String>,
    /// Those of this plugin.
    plugin: Option<String>,
    /// Those about this terminal.
    terminal: Option<String>,
}

impl Selection {
    fn read(self) -> Result<DeadLetterSelection, Problem> {
        let wrong = |field: &str, message: &str| {
            Problem::unprocessable(vec![ProblemField { field: field.to_owned(), message: message.to_owned() }])
        };
        let filters = [&self.status, &self.reason, &self.plugin, &self.terminal];
        let has_filter = filters.into_iter().any(Option::is_some);
        match self.ids {
            Some(_) if has_filter => Err(wrong("ids", "goes without status, reason, plugin and terminal")),
            Some(ids) => Ok(DeadLetterSelection::Ids(ids)),
            None if !has_filter => Err(wrong("ids", "is missing; give ids, or status, reason, plugin or terminal")),
            None => match self.status.as_deref() {
                None | Some("open") => Ok(DeadLetterSelection::Filter(DeadLetterFilter {
                    status: Some(DeadLetterStatus::Open),
                    reason: self.reason,
                    plugin: self.plugin,
                    terminal: self.terminal,
                    ..DeadLetterFilter::default()
                })),
                Some(_) => Err(wrong("status", "must be open: others have been decided on")),
            },
        }
    }
}

/// How many dead letters a decision was about.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Affected {
    /// Those that were open, at most 10000 at a time; a replay also ends at 64 MB. Ask again for the others.
    affected: usize,
    /// Those that still are no valid events, that are timers, or whose plugin is switched off, so that a replay would change
    /// nothing.
    skipped: usize,
}

/// The ids of those that can be applied, and how many cannot.
async fn replayable(state: &State, selection: DeadLetterSelection) -> Result<(Vec<String>, usize), Problem> {
    let settings = state.control.snapshot();
    let can_be_applied =
        move |letter: &DeadLetter| original_of(letter).is_ok() && hindrance(&settings, letter).is_none();
    Ok(state.store.sift_dead_letters(selection, can_be_applied).await?)
}

async fn decided(state: &State, id: &str, affected: usize) -> Result<HttpResponse, Problem> {
    let now = one(state, id).await?;
    if affected > 0 {
        return Ok(HttpResponse::Ok().json(now));
    }
    let detail = "It was decided on before, or its replay is under way; read it again to see how it stands.";
    Err(Problem::new(StatusCode::CONFLICT, detail))
}

/// Applies open dead letters again. Their status turns to `replayed` with the commit that does so.
#[utoipa::path(
    post,
    path = "/api/deadletters/replay",
    tag = "dead letters",
    request_body = Selection,
    responses((status = 200, description = "How many", body = Affected))
)]
pub(super) async fn replay_many(
    body: JsonBody<Selection>,
    actor: Actor,
    state: State,
) -> Result<HttpResponse, Problem> {
    let (ids, skipped) = replayable(&state, body.0.read()?).await?;
    let settings = state.control.snapshot();
    let make = move |letter: &DeadLetter| replay_record(&settings, letter);
    let affected = state.store.replay(DeadLetterSelection::Ids(ids), &actor.name, make).await?;
    Ok(HttpResponse::Ok().json(Affected { affected, skipped }))
}

/// Discards open dead letters; they stay readable.
#[utoipa::path(
    post,
    path = "/api/deadletters/discard",
    tag = "dead letters",
    request_body = Selection,
    responses((status = 200, description = "How many", body = Affected))
)]
pub(super) async fn discard_many(
    body: JsonBody<Selection>,
    actor: Actor,
    state: State,
) -> Result<HttpResponse, Problem> {
    let affected = state.store.discard(body.0.read()?, &actor.name).await?;
    Ok(HttpResponse::Ok().json(Affected { affected, skipped: 0 }))
}

/// Applies one dead letter again. One that still is no valid event is refused with 422.
#[utoipa::path(
    post,
    path = "/api/deadletters/{id}/replay",
    tag = "dead letters",
    params(("id" = String, Path, description = "The dead letter's id")),
    responses(
        (status = 200, description = "The dead letter as it is now", body = DeadLetterView),
        (status = 404, description = "No such dead letter", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not open any more, or nothing that can be replayed now", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Still no valid event", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn replay(id: web::Path<String>, actor: Actor, state: State) -> Result<HttpResponse, Problem> {
    let letter = match state.store.dead_letter(&id).await {
        Ok(stored) => stored.letter,
        Err(error) => return Err(not_found(&id, error)),
    };
    let settings = state.control.snapshot();
    if let Some(why) = hindrance(&settings, &letter) {
        return Err(Problem::new(StatusCode::CONFLICT, why));
    }
    original_of(&letter).map_err(|error| Problem::unprocessable(vec![error.into()]))?;
    let make = move |letter: &DeadLetter| replay_record(&settings, letter);
    let affected = state.store.replay(DeadLetterSelection::Ids(vec![letter.id]), &actor.name, make).await?;
    decided(&state, &id, affected).await
}

/// Discards one dead letter; it stays readable.
#[utoipa::path(
    post,
    path = "/api/deadletters/{id}/discard",
    tag = "dead letters",
    params(("id" = String, Path, description = "The dead letter's id")),
    responses(
        (status = 200, description = "The dead letter as it is now", body = DeadLetterView),
        (status = 404, description = "No such dead letter", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not open any more", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn discard(id: web::Path<String>, actor: Actor, state: State) -> Result<HttpResponse, Problem> {
    let affected = state.store.discard(DeadLetterSelection::Ids(vec![id.to_string()]), &actor.name).await?;
    decided(&state, &id, affected).await
}
