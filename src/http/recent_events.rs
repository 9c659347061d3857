//! `GET /api/events`: what is on the bus, newest first.

use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::State;
use super::events::CloudEvent;
use super::log_reader::{Cursor, newest_first};
use super::page::List;
use super::params::{Params, When, WhenText, encode_cursor};
use super::problem::Problem;
use crate::bus::{Record, Topic, TopicPartition, partitioner};
use crate::event::{Event, EventClass, Scope};
use crate::feed::TypeGlob;
use crate::time::Timestamp;

/// How far a terminal's clock may be ahead of the bus's before `from` misses its events.
const CLOCK_SKEW_SECONDS: i64 = 24 * 3600;

#[derive(Debug)]
struct Wanted {
    types: Vec<TypeGlob>,
    terminal: Option<String>,
    employee: Option<String>,
    basket: Option<String>,
    from: Option<When>,
    to: Option<When>,
}

impl Wanted {
    fn holds(&self, event: &Event) -> bool {
        let is =
            |wanted: &Option<String>, value: Option<&str>| wanted.as_deref().is_none_or(|wanted| value == Some(wanted));
        event.event_type().class() != EventClass::Internal
            && (self.types.is_empty() || self.types.iter().any(|glob| glob.matches(&event.type_name)))
            && is(&self.terminal, event.terminal_id())
            && is(&self.employee, event.entity(Scope::Employee))
            && is(&self.basket, event.data.basket_id().map(|id| &**id))
            && self.from.is_none_or(|from| !is_before(event, from))
            && self.to.is_none_or(|to| is_before(event, to))
    }
}

fn is_before(event: &Event, when: When) -> bool {
    match when {
        When::At(time) => event.time < time,
        When::Day(day) => {
            let own_day = || event.time.to_jiff().to_zoned(jiff::tz::TimeZone::UTC).date();
            event.business_day.unwrap_or_else(own_day) < day
        }
    }
}

/// Events on the bus, newest first by the time at which the bus received them.
///
/// A request looks at a bounded number of records: a page may hold fewer items than `limit`, or none, while `next` says
/// where to go on.
#[utoipa::path(
    get,
    path = "/api/events",
    tag = "events",
    params(
        ("type" = Option<Vec<String>>, Query, description = "Patterns such as `pos.basket.*`, repeated or with commas"),
        ("terminal" = Option<String>, Query, description = "The terminal that it is about"),
        ("employee" = Option<String>, Query, description = "The employee who acted"),
        ("basket" = Option<String>, Query, description = "The basket that it belongs to"),
        ("from" = inline(Option<WhenText>), Query, description = "Event time, inclusive: RFC 3339, or a business day"),
        ("to" = inline(Option<WhenText>), Query, description = "Event time, exclusive: RFC 3339, or a business day"),
        ("limit" = Option<u16>, Query, description = "Items of a page", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses((status = 200, description = "A page of events", body = List<CloudEvent>))
)]
pub(super) async fn list(request: HttpRequest, state: State) -> Result<HttpResponse, Problem> {
    let known = ["type", "terminal", "employee", "basket", "from", "to", "limit", "cursor"];
    let params = Params::read(&request, &known)?;
    let wanted = Wanted {
        types: params.parsed_list("type", "must be a pattern such as pos.basket.*", |t| TypeGlob::new(t).ok())?,
        terminal: params.text("terminal")?,
        employee: params.text("employee")?,
        basket: params.text("basket")?,
        from: params.when("from")?,
        to: params.when("to")?,
    };
    let (limit, cursor) = (params.limit()?, params.cursor::<Cursor>()?);

    let count = state.bus.partitions();
    let partitions = match &wanted.terminal {
        Some(terminal) => {
            let partition = partitioner::partition_of(terminal.as_bytes(), count);
            partition..partition + 1
        }
        None => 0..count,
    };
    // An event is on the bus after it happened, so what the bus had earlier cannot be wanted.
    let earliest = wanted.from.map(|from| earliest(from).plus_seconds(-CLOCK_SKEW_SECONDS));
    let mut begins = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let from = match earliest {
            Some(time) => state.bus.offset_at(TopicPartition::new(Topic::Events, partition), time).await?,
            None => 0,
        };
        begins.push((partition, from));
    }
    let keep = |_, record: &Record| {
        let event = Event::parse(&record.value).ok()?;
        wanted.holds(&event).then_some(event.raw)
    };
    let (events, next) = newest_first(&*state.bus, &begins, cursor, limit, keep).await?;
    let items = events.iter().filter_map(|raw| as_json(raw)).collect();
    Ok(HttpResponse::Ok().json(List { items, next: next.as_ref().map(encode_cursor) }))
}

fn earliest(when: When) -> Timestamp {
    match when {
        When::At(time) => time,
        // Somewhere on earth the day has begun 14 hours before UTC.
        When::Day(day) => day
            .to_zoned(jiff::tz::TimeZone::UTC)
            .map_or(Timestamp::MIN, |start| Timestamp::from_millis(start.timestamp().as_millisecond()))
            .plus_seconds(-14 * 3600),
    }
}

/// The bytes as they came: they are JSON, since they were parsed.
fn as_json(raw: &Bytes) -> Option<&RawValue> {
    serde_json::from_slice(raw).ok()
}
