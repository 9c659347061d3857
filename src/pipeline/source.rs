//! One partition of `pos.events`: records in, events to apply out.
//!
//! Decides per record: dead letter, duplicate, misplaced, internal, or an event for plugins; moves the clock; collects
//! what other scopes need. The outcome is a function of the log and of the state that the last commit left.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use compact_str::CompactString;
use rustc_hash::FxHashMap;

use super::chunk::{CHUNK_BYTES_MAX, Chunk, ChunkEvent};
use super::duplicates::{Arrival, Verdict, Window};
use super::recent::RecentEvent;
use super::till_clocks::{Drifts, TillClocks};
use super::{Addressee, Placed, routes};
use crate::bus::partitioner::partition_of;
use crate::bus::{Header, NewRecord, Record, Topic, TopicPartition};
use crate::effect::Position;
use crate::event::{DeadLetterReplay, Event, EventClass, EventData, EventError, Scope};
use crate::store::model::{DeadLetter, WindowRow};
use crate::time::Timestamp;

/// An event cannot move the clock further than this beyond the time at which the bus received it.
pub(super) const AHEAD_OF_BUS_MS: i64 = 2000;

/// A record that has been looked at once.
#[derive(Debug)]
pub struct ParsedRecord {
    record: Record,
    event: Result<Arc<Event>, EventError>,
}

/// Parses a record of `pos.events`, in structured or binary mode.
#[must_use]
pub fn parse(record: Record) -> ParsedRecord {
    let event = event_of(&record).map(Arc::new);
    ParsedRecord { record, event }
}

/// The event in a record of `pos.events`, in structured or binary mode.
///
/// # Errors
/// If it holds none that is valid.
pub fn event_of(record: &Record) -> Result<Event, EventError> {
    event_in(&record.headers, &record.value)
}

/// The event in a message of these headers and this value, in structured or binary mode.
///
/// # Errors
/// If it holds none that is valid.
pub fn event_in(headers: &[Header], value: &Bytes) -> Result<Event, EventError> {
    if headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("ce_specversion")) {
        Event::parse_binary(headers.iter().map(|(name, value)| (name.as_str(), &value[..])), value)
    } else {
        Event::parse(value)
    }
}

impl ParsedRecord {
    /// The event, if the record is one.
    #[must_use]
    pub fn into_event(self) -> Option<Arc<Event>> {
        self.event.ok()
    }

    /// Where the record stands.
    #[must_use]
    pub const fn offset(&self) -> i64 {
        self.record.offset
    }

    /// The source whose window decides on this record, if one does.
    #[must_use]
    pub fn window_source(&self) -> Option<&str> {
        let event = self.event.as_ref().ok()?;
        has_window(event).then(|| event.source.as_str())
    }
}

/// What plugins publish through the outbox arrives exactly once already.
fn has_window(event: &Event) -> bool {
    event.source.plugin().is_none()
}

/// What a batch of records of one partition came to.
#[derive(Debug, Default)]
pub struct SourceOutcome {
    /// Events for the scope terminal, in order.
    pub placed: Vec<Placed>,
    /// What plugins have published about terminals, in order; empty unless somebody asked for it.
    pub published: Vec<Placed>,
    /// Events that the feed shows.
    pub shown: Vec<Arc<Event>>,
    /// What could not be processed.
    pub dead_letters: Vec<DeadLetter>,
    /// Dead letters of whole messages that were applied at last.
    pub dead_letters_replayed: Vec<String>,
    /// Records that belong to another partition.
    pub misplaced: Vec<NewRecord>,
    /// Chunks to append to `pos.events.rekeyed`: the partition and the chunk.
    pub chunks: Vec<(u32, Chunk)>,
    /// The events that these chunks are about, in offset order, so that they need not be read and parsed again.
    pub rekeyed: Vec<RecentEvent>,
    /// Changed duplicate windows.
    pub windows: Vec<WindowRow>,
    /// Distinct valid events of terminals.
    pub events: u64,
    /// Events that were dropped as duplicates.
    pub duplicates: u64,
    /// Sequences that were skipped and have not come since, as far as this batch can tell.
    pub gaps: u64,
    /// Tills whose clocks are wrong, or right again.
    pub drifts: Drifts,
}

#[derive(Debug)]
struct HeldWindow {
    window: Window,
    /// When it counts as absent, unless the source sends something new before.
    expires: Option<Timestamp>,
    used: u64,
    changed: bool,
}

/// How other scopes get the events that they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rekeying {
    /// Chunks carry events whole, for readers to whom this partition is far away.
    Whole,
    /// Chunks name the places of events; who reads a chunk reads this partition as easily.
    ByReference,
}

/// One partition of `pos.events` in the hands of its owner.
#[derive(Debug)]
pub struct SourcePartition {
    partition: u32,
    partitions: u32,
    rekeying: Rekeying,
    clock: Timestamp,
    next_offset: i64,
    windows: FxHashMap<CompactString, HeldWindow>,
    chunk_clocks: Vec<Timestamp>,
    batch: u64,
    wants_published: bool,
    forget_after_ms: Option<i64>,
    till_clocks: TillClocks,
}

impl SourcePartition {
    /// The partition as its row left it.
    #[must_use]
    pub fn restore(partition: u32, partitions: u32, next_offset: i64, clock: Timestamp, rekeying: Rekeying) -> Self {
        Self {
            partition,
            partitions,
            rekeying,
            clock,
            next_offset,
            windows: FxHashMap::default(),
            chunk_clocks: vec![Timestamp::MIN; partitions as usize],
            batch: 0,
            wants_published: false,
            forget_after_ms: None,
            till_clocks: TillClocks::default(),
        }
    }

    /// The same, but a source that sends nothing new for so long, by the clock, is forgotten with its duplicate window.
    #[must_use]
    pub fn forgetting_after(self, silence_ms: Option<i64>) -> Self {
        Self { forget_after_ms: silence_ms, ..self }
    }

    /// Whether somebody wants what plugins publish, in the batches to come.
    pub const fn want_published(&mut self, wanted: bool) {
        self.wants_published = wanted;
    }

    /// The clock: the highest min(event time, bus time + 2 s) of terminals' events and ticks.
    #[must_use]
    pub const fn clock(&self) -> Timestamp {
        self.clock
    }

    /// The offset to read on from.
    #[must_use]
    pub const fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The sources in these records whose windows must be loaded first.
    pub fn unknown_sources<'a>(&self, records: &'a [ParsedRecord]) -> Vec<&'a str> {
        let mut sources: Vec<&str> = Vec::new();
        let mut last = "";
        for source in records.iter().filter_map(ParsedRecord::window_source) {
            if source != last && !self.windows.contains_key(source) {
                sources.push(source);
            }
            last = source;
        }
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    /// Takes windows from the store; sources without one have not been seen before.
    ///
    /// Returns the first source whose window is not understood.
    pub fn load_windows(&mut self, sources: &[&str], rows: Vec<WindowRow>) -> Option<String> {
        for source in sources {
            let held = HeldWindow { window: Window::default(), expires: None, used: self.batch, changed: false };
            self.windows.insert(CompactString::new(source), held);
        }
        for row in rows {
            let Some(window) = Window::decode(&row.window, self.clock) else {
                return Some(row.source);
            };
            let held = HeldWindow { window, expires: row.expires, used: self.batch, changed: false };
            self.windows.insert(CompactString::from(row.source), held);
        }
        None
    }

    /// Forgets windows that no batch after `committed_batch` has used, once there are more than `windows_max`.
    pub fn forget_idle_windows(&mut self, windows_max: usize, committed_batch: u64) {
        if self.windows.len() > windows_max {
            let mut used: Vec<u64> = self.windows.values().map(|held| held.used).collect();
            let middle = used.len() / 2;
            let (_, &mut median, _) = used.select_nth_unstable(middle);
            self.windows.retain(|_, held| held.used > committed_batch || held.used > median);
        }
    }

    /// Decides on a batch of records. All windows it needs must have been loaded.
    pub fn admit(&mut self, records: Vec<ParsedRecord>, next_offset: i64, batch: u64) -> SourceOutcome {
        self.batch = batch;
        let from = self.next_offset;
        let mut outcome = SourceOutcome::default();
        let mut routed: Vec<Vec<ChunkEvent>> = vec![Vec::new(); self.partitions as usize];
        for ParsedRecord { record, event } in records {
            match event {
                Err(error) => outcome.dead_letters.push(self.invalid(&record, &error)),
                Ok(event) => self.admit_event(&record, event, &mut outcome, &mut routed),
            }
        }
        self.next_offset = next_offset;
        outcome.drifts = self.till_clocks.take_changed();
        for (partition, events) in routed.into_iter().enumerate() {
            if !events.is_empty() {
                self.chunk(partition, from, events, &mut outcome.chunks);
            }
        }
        for (source, held) in &mut self.windows {
            if std::mem::take(&mut held.changed) {
                let window = held.window.encode();
                let (partition, source) = (self.partition, source.to_string());
                outcome.windows.push(WindowRow { partition, source, window, expires: held.expires });
            }
        }
        outcome.windows.sort_unstable_by(|a, b| a.source.cmp(&b.source));
        outcome
    }

    /// True if some rekeyed partition does not know the clock yet.
    #[must_use]
    pub fn has_untold_clock(&self) -> bool {
        self.chunk_clocks.iter().any(|told| *told < self.clock)
    }

    /// Empty chunks for the rekeyed partitions that do not know the clock yet.
    pub fn clock_chunks(&mut self) -> Vec<(u32, Chunk)> {
        let mut chunks = Vec::new();
        for partition in 0..self.chunk_clocks.len() {
            if self.chunk_clocks[partition] < self.clock {
                self.chunk(partition, self.next_offset, Vec::new(), &mut chunks);
            }
        }
        chunks
    }

    fn chunk(&mut self, partition: usize, from: i64, events: Vec<ChunkEvent>, chunks: &mut Vec<(u32, Chunk)>) {
        let target = u32::try_from(partition).expect("partitions are few");
        let mut piece = Chunk { source: self.partition, from, to: from, clock: Timestamp::MIN, events: Vec::new() };
        let mut bytes = 0;
        for event in events {
            let length = event.encoded_len();
            if bytes + length > CHUNK_BYTES_MAX && !piece.events.is_empty() {
                let next = Chunk { from: event.offset, events: Vec::new(), ..piece };
                let full = std::mem::replace(&mut piece, next);
                // Below this clock nothing is missing: the next event is at least as late as the last one here.
                let clock = full.events.last().map_or(Timestamp::MIN, |last| last.clock);
                chunks.push((target, Chunk { to: event.offset, clock, ..full }));
                bytes = 0;
            }
            bytes += length;
            piece.events.push(event);
        }
        chunks.push((target, Chunk { to: self.next_offset, clock: self.clock, ..piece }));
        self.chunk_clocks[partition] = self.clock;
    }

    fn admit_event(
        &mut self,
        record: &Record,
        event: Arc<Event>,
        outcome: &mut SourceOutcome,
        routed: &mut [Vec<ChunkEvent>],
    ) {
        if let EventData::Tick(_) = event.data {
            self.advance(event.time, record.timestamp);
            return;
        }
        if let EventData::DeadLetterReplay(replay) = &event.data {
            self.replay(&event, replay, record, outcome, routed);
            return;
        }
        if partition_of(event.key().as_bytes(), self.partitions) != self.partition {
            outcome.misplaced.push(to_own_partition(&event));
            return;
        }
        let mut same_actor = false;
        if has_window(&event) {
            let now = self.clock_with(&event, record.timestamp);
            let held = self.windows.get_mut(event.source.as_str()).expect("windows are loaded before");
            held.used = self.batch;
            if held.expires.is_some_and(|at| at <= now) {
                held.window = Window::default();
            }
            let arrival = Arrival {
                id: event.id.as_str(),
                sequence: event.sequence,
                content: event.content_hash(),
                time: event.time,
                received: record.timestamp,
            };
            match held.window.admit(&arrival) {
                Verdict::New { gap } => {
                    held.changed = true;
                    held.expires = self.forget_after_ms.map(|silence| now.plus_millis(silence));
                    outcome.gaps += gap;
                    same_actor = event.data.employee_id().is_some_and(|employee| held.window.acts(employee));
                }
                Verdict::Duplicate => {
                    outcome.duplicates += 1;
                    return;
                }
                verdict => {
                    outcome.dead_letters.push(self.refused(record, &event, verdict));
                    return;
                }
            }
        }
        if let EventData::Reply(reply) = &event.data {
            if reply.scope == Scope::Terminal {
                let addressee = Addressee {
                    plugin: Some(reply.plugin.clone()),
                    scope: reply.scope,
                    entity: CompactString::new(reply.entity.as_str()),
                    dead_letter: None,
                };
                outcome.placed.push(self.placed(record.offset, event, (false, false), Some(addressee)));
            }
            return;
        }
        self.apply(record, event, (false, same_actor), outcome, routed);
    }

    /// A valid event that was not seen before: moves the clock, goes to plugins and to other scopes. A replayed one is not
    /// what stands at its record's offset, so others get it whole.
    fn apply(
        &mut self,
        record: &Record,
        event: Arc<Event>,
        (replayed, same_actor): (bool, bool),
        outcome: &mut SourceOutcome,
        routed: &mut [Vec<ChunkEvent>],
    ) {
        let from_terminal = moves_clock(&event);
        let late = event.time < self.clock;
        if from_terminal {
            if !replayed {
                self.till_clocks.look(&event, self.clock, record.timestamp);
            }
            self.advance(event.time, record.timestamp);
            outcome.events += 1;
        }
        if event.event_type().class() == EventClass::Terminal {
            outcome.shown.push(Arc::clone(&event));
        }
        let whole = replayed || self.rekeying == Rekeying::Whole;
        let mut readers = 0;
        routes(&event, self.partitions, |partition| {
            let carried = whole.then(|| event.raw.clone());
            routed[partition as usize].push(ChunkEvent {
                offset: record.offset,
                clock: self.clock,
                late,
                same_actor,
                event: carried,
            });
            readers += 1;
        });
        if readers > 0 && !replayed {
            outcome.rekeyed.push(RecentEvent { offset: record.offset, event: Arc::clone(&event), readers });
        }
        if event.is_from_terminal() && !matches!(event.data, EventData::Unknown) {
            outcome.placed.push(self.placed(record.offset, event, (late, same_actor), None));
        } else if self.wants_published && event.event_type().class() == EventClass::Plugin {
            outcome.published.push(self.placed(record.offset, event, (late, same_actor), None));
        }
    }

    /// A person asked for a dead letter to be applied again.
    fn replay(
        &mut self,
        carrier: &Arc<Event>,
        replay: &DeadLetterReplay,
        record: &Record,
        outcome: &mut SourceOutcome,
        routed: &mut [Vec<ChunkEvent>],
    ) {
        let Some(original) = original_of(replay) else {
            outcome.dead_letters.push(self.unreadable_replay(record, replay));
            return;
        };
        let addressee = addressee_of(replay);
        if addressee.as_ref().is_some_and(|addressee| addressee.plugin.is_none()) {
            outcome.dead_letters_replayed.push(replay.dead_letter_id.to_string());
        }
        match addressee {
            Some(addressee) if addressee.scope == Scope::Terminal => {
                let position = Position { partition: replay.partition, offset: replay.offset };
                let placed = self.placed(record.offset, original, (true, false), Some(addressee));
                outcome.placed.push(Placed { position, ..placed });
            }
            Some(_) => routes(carrier, self.partitions, |partition| {
                let (offset, event) = (record.offset, Some(carrier.raw.clone()));
                routed[partition as usize].push(ChunkEvent {
                    offset,
                    clock: self.clock,
                    late: true,
                    same_actor: false,
                    event,
                });
            }),
            // The message itself had been refused, and a person decided that it counts after all.
            None => {
                outcome.dead_letters_replayed.push(replay.dead_letter_id.to_string());
                self.apply(record, original, (true, false), outcome, routed);
            }
        }
    }

    fn placed(
        &self,
        offset: i64,
        event: Arc<Event>,
        (late, same_actor): (bool, bool),
        addressee: Option<Addressee>,
    ) -> Placed {
        let position = Position { partition: self.partition, offset };
        Placed { event, position, clock: self.clock, late, same_actor, addressee: addressee.map(Arc::new) }
    }

    fn advance(&mut self, time: Timestamp, received: Timestamp) {
        self.clock = self.clock.max(time.min(received.plus_millis(AHEAD_OF_BUS_MS)));
    }

    /// The clock just after an event, if it is new.
    fn clock_with(&self, event: &Event, received: Timestamp) -> Timestamp {
        let time = event.time.min(received.plus_millis(AHEAD_OF_BUS_MS));
        if moves_clock(event) { self.clock.max(time) } else { self.clock }
    }

    fn refused(&self, record: &Record, event: &Event, verdict: Verdict) -> DeadLetter {
        let sequence = event.sequence.unwrap_or_default();
        let (reason, field, message) = match verdict {
            Verdict::IdConflict => (
                "id_conflict",
                "id",
                format!(
                    "another event of {} with this id and other content was applied before; discard this one, or replay it if \
                     both are real, and make the terminal give each event an id of its own",
                    event.source
                ),
            ),
            Verdict::SequenceConflict => (
                "sequence_conflict",
                "sequence",
                format!("another event of {} has sequence {sequence}; replay it if both are real", event.source),
            ),
            _ => (
                "below_window",
                "sequence",
                format!(
                    "sequence {sequence} of {} is too far back to tell whether it was seen; replay it if it was not",
                    event.source
                ),
            ),
        };
        let letter = self.dead_letter(record, (reason, Some(field.to_owned()), message));
        // A till's own letters are found by its id, whatever key it gave its records.
        DeadLetter { key: Some(Bytes::copy_from_slice(event.key().as_bytes())), ..letter }
    }

    /// The dead letter whose replay this was, open again.
    fn unreadable_replay(&self, record: &Record, replay: &DeadLetterReplay) -> DeadLetter {
        let message = "what was replayed is no valid event to this version; discard it, or send it again".to_owned();
        let letter = self.dead_letter(record, ("replay_failed", None, message));
        DeadLetter {
            id: replay.dead_letter_id.to_string(),
            plugin: replay.plugin.as_deref().map(ToOwned::to_owned),
            entity: replay.entity.as_deref().map(ToOwned::to_owned),
            bytes: Bytes::from(BASE64.decode(&replay.bytes_base64).unwrap_or_default()),
            ..letter
        }
    }

    fn invalid(&self, record: &Record, error: &EventError) -> DeadLetter {
        self.dead_letter(record, (error.reason.as_str(), error.field.clone(), error.message.clone()))
    }

    fn dead_letter(&self, record: &Record, fault: (&str, Option<String>, String)) -> DeadLetter {
        DeadLetter::of_record(TopicPartition::new(Topic::Events, self.partition), record, self.clock, fault)
    }
}

/// True of what terminals send; what comes of it is told by others.
fn moves_clock(event: &Event) -> bool {
    event.source.terminal_id().is_some() && event.event_type().class() == EventClass::Terminal
}

/// The event that a replay carries, if it is one by now.
#[must_use]
pub fn original_of(replay: &DeadLetterReplay) -> Option<Arc<Event>> {
    let bytes = BASE64.decode(&replay.bytes_base64).ok()?;
    Event::parse(&Bytes::from(bytes)).ok().map(Arc::new)
}

/// The one entity that a replay is for: of a plugin's failure, or of what all plugins of one entity did not get. `None` if the
/// whole message is replayed.
#[must_use]
pub fn addressee_of(replay: &DeadLetterReplay) -> Option<Addressee> {
    let (scope, entity) = replay.entity.as_ref()?.split_once(':')?;
    let scope = Scope::from_name(scope)?;
    let plugin = replay.plugin.clone();
    let dead_letter = plugin.is_some().then(|| replay.dead_letter_id.to_string());
    Some(Addressee { plugin, scope, entity: CompactString::new(entity), dead_letter })
}

/// The event as a record for the partition where it belongs.
#[must_use]
pub fn to_own_partition(event: &Event) -> NewRecord {
    NewRecord {
        topic: Topic::Events,
        partition: None,
        key: Some(Bytes::copy_from_slice(event.key().as_bytes())),
        value: event.raw.clone(),
        headers: vec![content_type()],
    }
}

/// The header of every structured event on the bus.
#[must_use]
pub fn content_type() -> (String, Bytes) {
    ("content-type".to_owned(), Bytes::from_static(b"application/cloudevents+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    /// A record of this till's event number `sequence`, sent on this day.
    fn record(offset: i64, till: &str, sequence: i64, day: i64) -> ParsedRecord {
        let time = Timestamp::from_millis(1_767_000_000_000 + day * DAY_MS);
        let event = serde_json::json!({
            "specversion": "1.0", "type": "pos.drawer.opened", "id": format!("{till}-{sequence}"),
            "source": format!("/stores/S1/terminals/{till}"), "time": time.to_string(), "sequence": sequence,
            "data": {"employeeId": "E1"},
        });
        let (key, value) = (Some(Bytes::from(till.to_owned())), Bytes::from(event.to_string()));
        parse(Record { offset, key, value, headers: vec![content_type()], timestamp: time })
    }

    /// What becomes of each record (1 event, 0 duplicate), if the partition's owner changes after each, or not, and rows of
    /// windows that have expired go, or not.
    fn fares(records: &[(&str, i64, i64)], owners_change: bool, rows_go: bool) -> Vec<u64> {
        let new = |next_offset, clock| {
            let restored = SourcePartition::restore(0, 1, next_offset, clock, Rekeying::Whole);
            restored.forgetting_after(Some(10 * DAY_MS))
        };
        let mut source = new(0, Timestamp::MIN);
        let mut stored: FxHashMap<String, WindowRow> = FxHashMap::default();
        let mut events = Vec::new();
        for (offset, &(till, sequence, day)) in (0..).zip(records) {
            let batch = vec![record(offset, till, sequence, day)];
            let unknown = source.unknown_sources(&batch);
            let rows = unknown.iter().filter_map(|name| stored.get(*name).cloned()).collect();
            assert_eq!(source.load_windows(&unknown, rows), None);
            let outcome = source.admit(batch, offset + 1, 0);
            assert_eq!(outcome.events + outcome.duplicates, 1, "{:?}", outcome.dead_letters);
            events.push(outcome.events);
            stored.extend(outcome.windows.into_iter().map(|row| (row.source.clone(), row)));
            let clock = source.clock();
            if rows_go {
                stored.retain(|_, row| row.expires.is_none_or(|at| at > clock));
            }
            if owners_change {
                source = new(offset + 1, clock);
            }
        }
        events
    }

    #[test]
    fn a_till_that_was_silent_for_its_time_is_forgotten_wherever_its_window_was_meanwhile() {
        let records = [
            ("T1", 1, 0),
            ("T1", 1, 0),
            ("T2", 1, 9),
            // Repeated within its time: known, and being repeated does not prolong it.
            ("T1", 1, 0),
            ("T2", 2, 11),
            // Repeated after it: nobody can tell any more.
            ("T1", 1, 0),
            ("T1", 1, 0),
            // A counter that restarts after a long silence collides with nothing.
            ("T2", 1, 30),
        ];
        let in_memory = fares(&records, false, false);
        assert_eq!(in_memory, [1, 0, 1, 0, 1, 1, 0, 1]);
        for (owners_change, rows_go) in [(true, false), (true, true)] {
            assert_eq!(fares(&records, owners_change, rows_go), in_memory);
        }
    }
}
