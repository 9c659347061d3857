//! Dead letters on their way back to the bus.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use compact_str::CompactString;

use crate::bus::{NewRecord, Topic};
use crate::control::{ExternalSnapshot, Snapshot};
use crate::event::{DeadLetterReplay, Event, EventError, EventType, Id, NewEvent, stable_id};
use crate::pipeline::source::event_in;
use crate::store::model::DeadLetter;
use crate::time::Timestamp;

/// Who writes the internal event.
const SOURCE: &str = "/plugins/tillstream";
/// The reason of a dead letter that is about a timer.
const TIMER_FAILED: &str = "timer_failed";

/// The event that a dead letter holds.
pub(super) fn original_of(letter: &DeadLetter) -> Result<Event, EventError> {
    event_in(&letter.headers, &letter.bytes)
}

/// Why a dead letter cannot be applied again now, whatever it holds: a timer is no event, or the plugin in another language
/// that failed on it gets nothing.
pub(super) fn hindrance(settings: &Snapshot, letter: &DeadLetter) -> Option<String> {
    if letter.reason == TIMER_FAILED {
        let (plugin, entity) = (letter.plugin.as_deref()?, letter.entity.as_deref()?);
        return Some(format!(
            "A timer cannot be replayed. {plugin} looks at {entity} again with its next event; discard this once the cause is known."
        ));
    }
    let Topic::Input(input) = letter.partition.topic else {
        return None;
    };
    let name = input.plugin();
    match settings.external(name) {
        Some(plugin) if plugin.is_active() => None,
        Some(_) => Some(format!("{name} is switched off; switch it on and replay again.")),
        None => Some(format!("There is no plugin {name} any more; discard this.")),
    }
}

/// What puts a dead letter on the bus again: the internal event that asks for it to be applied, or for a plugin in another
/// language the event itself, on its input.
pub(super) fn replay_record(settings: &Snapshot, letter: &DeadLetter) -> NewRecord {
    match letter.partition.topic {
        Topic::Input(input) => match settings.external(input.plugin()) {
            Some(plugin) => input_record(plugin, letter),
            None => internal_record(letter),
        },
        _ => internal_record(letter),
    }
}

fn input_record(plugin: &ExternalSnapshot, letter: &DeadLetter) -> NewRecord {
    let entity = letter.entity.as_deref().and_then(|entity| entity.split_once(':')).map_or("", |(_, id)| id);
    let mut headers = plugin.input_headers(entity);
    headers.push(("tillstream-dead-letter".to_owned(), Bytes::copy_from_slice(letter.id.as_bytes())));
    let key = Some(Bytes::copy_from_slice(entity.as_bytes()));
    NewRecord { topic: letter.partition.topic, partition: None, key, value: letter.bytes.clone(), headers }
}

fn internal_record(letter: &DeadLetter) -> NewRecord {
    let now = Timestamp::now();
    let original = original_of(letter).ok();
    // What came in binary mode goes on as one JSON text.
    let bytes = original.as_ref().map_or(&letter.bytes, |original| &original.raw);
    let data = DeadLetterReplay {
        dead_letter_id: Id::new(&letter.id).expect("a derived id is a valid one"),
        plugin: letter.plugin.as_deref().map(CompactString::new),
        entity: letter.entity.as_deref().map(CompactString::new),
        partition: letter.partition.partition,
        offset: letter.offset,
        bytes_base64: STANDARD.encode(bytes),
    };
    // Each request has an id of its own: a replay that fails again may be asked for again.
    let id = stable_id(&["replay", &letter.id, &now.to_string()]);
    let mut event = NewEvent::new(&id, SOURCE, EventType::DeadLetterReplay, now, data);
    // Where the original belongs, there is the state that it is applied to.
    let key = original.as_ref().map_or_else(
        || letter.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned()).unwrap_or_default(),
        |original| original.key().to_owned(),
    );
    event.partitionkey = (!key.is_empty()).then_some(key.as_str());
    NewRecord {
        topic: Topic::Events,
        partition: None,
        key: Some(Bytes::from(key.clone())),
        value: event.to_bytes(),
        headers: vec![("content-type".to_owned(), Bytes::from_static(b"application/cloudevents+json"))],
    }
}
