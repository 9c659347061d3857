//! The answer to an HTTP effect as an internal event, on its way back to the plugin that asked.

use bytes::Bytes;

use crate::bus::{NewRecord, Topic};
use crate::effect::HttpEffect;
use crate::event::{Event, EventType, Id, NewEvent, Reply, ReplyOutcome, Source, redact};

/// The records that carry an answer, and the outcome as they tell it: card numbers and dates of birth are masked, and an
/// answer that no event can hold (nested too deep) is an invalid one.
pub(super) fn records(effect: &HttpEffect, outcome: ReplyOutcome) -> (Vec<NewRecord>, ReplyOutcome) {
    let invalid = || ReplyOutcome::Failed { error: "invalid_answer".to_owned() };
    for outcome in [masked(outcome).unwrap_or_else(invalid), invalid()] {
        if let Some(record) = record(effect, &outcome) {
            return (vec![record], outcome);
        }
    }
    // Only an effect that no plugin could have made; there is nobody to answer to.
    tracing::error!(call = effect.id, plugin = effect.plugin, "an HTTP call has no return address");
    (Vec::new(), invalid())
}

/// The outcome without forbidden data, whichever key it hides under; `None` if nothing is left that could be read.
fn masked(outcome: ReplyOutcome) -> Option<ReplyOutcome> {
    let ReplyOutcome::Answered { status, body } = outcome else { return Some(outcome) };
    let text = serde_json::to_vec(&body).ok()?;
    let masked = redact(&text);
    let body = if masked == text { body } else { serde_json::from_slice(&masked).ok()? };
    Some(ReplyOutcome::Answered { status, body })
}

fn record(effect: &HttpEffect, outcome: &ReplyOutcome) -> Option<NewRecord> {
    let terminal = Source::new(&effect.terminal).ok()?;
    let terminal_id = terminal.terminal_id().unwrap_or_else(|| terminal.as_str());
    let (id, source) = (format!("{}-reply", effect.id), format!("/plugins/{}", effect.plugin));
    let reply = Reply {
        plugin: effect.plugin.as_str().into(),
        scope: effect.scope,
        entity: Id::new(&effect.entity).ok()?,
        token: effect.request.token.clone(),
        outcome: outcome.clone(),
    };
    let mut event = NewEvent::new(&id, &source, EventType::Reply, effect.at, reply);
    event.subject = Some(&effect.terminal);
    event.partitionkey = Some(terminal_id);
    event.causationid = Some(&effect.causation_id);
    let value = event.to_bytes();
    Event::parse(&value).ok()?;
    Some(NewRecord {
        topic: Topic::Events,
        partition: None,
        key: Some(Bytes::copy_from_slice(terminal_id.as_bytes())),
        value,
        headers: vec![("content-type".to_owned(), Bytes::from_static(b"application/cloudevents+json"))],
    })
}
