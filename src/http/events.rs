//! `POST /api/events`: events from terminals that speak HTTP. Acknowledged once they are durable on the bus.

use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use super::batch::{Batch, Rejected};
use super::body::{media_type, unsupported};
use super::large::BoundedBody;
use super::problem::Problem;
use super::{Local, State};
use crate::bus::{NewRecord, Topic};
use crate::event::{EVENT_BYTES_MAX, Event, EventClass, EventError, Reason};

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

/// A `CloudEvents` 1.0 event in structured mode; a batch is a list of such. `schemas/` holds what `data` must be for each type; an unknown type is
/// passed on as it is.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes the body, which is parsed once, by Event::parse")]
pub(super) struct CloudEvent {
    #[schema(pattern = "^1\\.0$")]
    specversion: String,
    /// Unique for its source.
    #[schema(min_length = 1, max_length = 255)]
    id: String,
    /// `/stores/STORE/terminals/TERMINAL` for what terminals tell.
    #[schema(min_length = 1, max_length = 255, example = "/stores/S001/terminals/T0007")]
    source: String,
    #[serde(rename = "type")]
    #[schema(min_length = 1, max_length = 255, example = "pos.basket.started")]
    type_name: String,
    /// When it happened; required for the types that are known.
    #[schema(nullable = false, format = DateTime)]
    time: Option<String>,
    /// Counts up from 1 for each terminal.
    #[schema(nullable = false, minimum = 1)]
    sequence: Option<u64>,
    /// The store's business day.
    #[schema(nullable = false, format = Date)]
    businessday: Option<String>,
    /// Done in training mode: plugins leave it alone unless told otherwise.
    #[schema(nullable = false)]
    training: Option<bool>,
    #[schema(nullable = false, value_type = Option<Object>)]
    data: Option<serde_json::Value>,
}

/// What became of the events of one request.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Accepted {
    /// Events that are durable on the bus now.
    accepted: usize,
    /// Events that are not valid and were left out, the first 100 of them.
    rejected: Vec<Rejected>,
    /// Further events that are not valid and were left out; absent if all are listed.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    rejected_unlisted: usize,
}

/// Takes one event, or a batch.
///
/// One event as `application/cloudevents+json` (or `application/json`), a batch as `application/cloudevents-batch+json`, or
/// one in binary mode: `ce-` headers and the data as body. One invalid event is a 422; in a batch it is left out and
/// listed, the others are taken. A batch of more events than `http.batchItemsMax` is a 413.
#[utoipa::path(
    post,
    path = "/api/events",
    tag = "events",
    request_body(content(
        (CloudEvent = "application/cloudevents+json"), (Vec<serde_json::Value> = "application/cloudevents-batch+json"), (CloudEvent = "application/json")
    )),
    responses((status = 202, description = "Durable on the bus", body = Accepted))
)]
pub(super) async fn append(
    request: HttpRequest,
    body: BoundedBody,
    state: State,
    local: web::Data<Local>,
) -> Result<HttpResponse, Problem> {
    let BoundedBody { bytes: body, permit: _permit } = body;
    let media_type = media_type(&request);
    let Batch { events, rejected, rejected_unlisted } = if request.headers().contains_key("ce-specversion") {
        Batch::of(one(read_binary(request.headers(), &body))?)
    } else {
        match media_type.as_deref() {
            Some(STRUCTURED | "application/json") => Batch::of(one(Event::parse(&body))?),
            Some(BATCH) => Batch::read(body, state.config.http.batch_items_max, &local.batches).await?,
            _ => return Err(unsupported("application/cloudevents+json (or application/cloudevents-batch+json)")),
        }
    };
    let accepted = events.len();
    if accepted > 0 {
        state.bus.append(events.into_iter().map(to_record).collect()).await?;
    }
    Ok(HttpResponse::Accepted().json(Accepted { accepted, rejected, rejected_unlisted }))
}

fn read_binary(headers: &HeaderMap, body: &Bytes) -> Result<Event, EventError> {
    let ours = |name: &str| name.starts_with("ce-") || name == "content-type";
    let attributes: Vec<_> = headers
        .iter()
        .filter(|(name, _)| ours(name.as_str()))
        .map(|(name, value)| (name.as_str(), percent_decoded(value.as_bytes())))
        .collect();
    Event::parse_binary(attributes.iter().map(|(name, value)| (*name, value.as_slice())), body)
}

/// CloudEvents' HTTP binding, section 3.1.3.2: header values are percent-encoded UTF-8.
fn percent_decoded(value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [first, tail @ ..] = rest {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let code = match (first, tail) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    bytes
}

fn one(event: Result<Event, EventError>) -> Result<Event, Problem> {
    event.and_then(from_outside).map_err(|error| match error.reason {
        Reason::TooLarge => Problem::too_large(EVENT_BYTES_MAX),
        Reason::NotJson | Reason::NotUtf8 => Problem::bad_request(format!("The body is not a JSON event: {error}.")),
        _ => Problem::unprocessable(vec![error.into()]),
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// What moves clocks, answers plugins or is published by them comes over the bus, from those who may.
pub(super) fn from_outside(event: Event) -> Result<Event, EventError> {
    let refused = |field: &str, message: String| {
        Err(EventError { reason: Reason::InvalidField, field: Some(field.to_owned()), message })
    };
    if event.event_type().class() == EventClass::Internal {
        return refused("type", format!("{} is Tillstream's own; nobody else may send it", event.type_name));
    }
    if event.source.plugin().is_some() {
        return refused("source", "is a plugin's; plugins publish on the bus, not here".to_owned());
    }
    Ok(event)
}

fn to_record(event: Event) -> NewRecord {
    NewRecord {
        topic: Topic::Events,
        partition: None,
        key: Some(Bytes::copy_from_slice(event.key().as_bytes())),
        value: event.raw,
        headers: vec![("content-type".to_owned(), Bytes::from_static(STRUCTURED.as_bytes()))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_codes_are_utf_8_and_a_lone_percent_stays() {
        assert_eq!(percent_decoded(b"Gr%C3%BC%C3%9Fe%20%"), "Grüße %".as_bytes());
        assert_eq!(percent_decoded(b"100%zz"), b"100%zz");
    }
}
