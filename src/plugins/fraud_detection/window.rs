//! What the rules remember about one entity: event-time windows, buckets and preceding events, all of bounded size.
//!
//! It is stored after every batch that touches the entity, so entries are small: a source is kept once and referred to by
//! number; `stored` is the form in which it is written.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::compile::{BUCKETS, Compiled};
use super::field::FieldValue;
use crate::effect::Position;
use crate::event::Event;

/// Most entries of a window.
pub(super) const ENTRIES_MAX: usize = 500;
/// Most buckets of a ratio: those of the window, and as many that are ahead of a late event.
const BUCKETS_MAX: usize = 48;
/// Most preceding events that a rule with `after` keeps.
const PRECEDING_MAX: usize = 64;
/// From so many sources on, those that nothing refers to are dropped before a new one is added.
const SOURCES_BEFORE_CLEANING: usize = 32;

/// What the rules remember about one entity.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    sources: Vec<CompactString>,
    rules: Vec<RuleState>,
}

/// What one rule remembers.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct RuleState {
    pub(super) key: u32,
    /// Time of the event that raised the last alert.
    pub(super) last_alert: Option<i64>,
    /// By time, then in the order of arrival.
    pub(super) entries: Vec<Entry>,
    /// Number of a bucket and events in it, by number.
    pub(super) buckets: Vec<(i64, u32)>,
    /// By time, then in the order of arrival.
    pub(super) preceding: Vec<Preceding>,
}

/// An event in a window.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) time: i64,
    pub(super) value: FieldValue,
    pub(super) event: EventRef,
    /// The event before it that made it count.
    pub(super) antecedent: Option<EventRef>,
}

/// Which event, and where it stands on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EventRef {
    /// Index in [`State::sources`].
    pub(super) source: u16,
    pub(super) id: CompactString,
    pub(super) partition: u32,
    pub(super) offset: i64,
}

/// An event that may make later ones count.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Preceding {
    pub(super) time: i64,
    pub(super) key: CompactString,
    pub(super) event: EventRef,
}

impl State {
    /// A reference to the event, whose source is remembered.
    pub(super) fn reference(&mut self, event: &Event, position: Position) -> EventRef {
        let text = event.source.as_str();
        let known = self.sources.iter().position(|source| source == text);
        let index = known.unwrap_or_else(|| {
            if self.sources.len() >= SOURCES_BEFORE_CLEANING {
                self.forget_unused_sources();
            }
            self.sources.push(CompactString::new(text));
            self.sources.len() - 1
        });
        let source = u16::try_from(index).expect("at most 100 rules refer to at most 1064 events each");
        EventRef {
            source,
            id: CompactString::new(event.id.as_str()),
            partition: position.partition,
            offset: position.offset,
        }
    }

    fn forget_unused_sources(&mut self) {
        let mut kept = vec![None; self.sources.len()];
        let mut sources = Vec::new();
        let old = std::mem::take(&mut self.sources);
        for rule in &mut self.rules {
            let entries = rule
                .entries
                .iter_mut()
                .flat_map(|entry| [Some(&mut entry.event), entry.antecedent.as_mut()].into_iter().flatten());
            for event in entries.chain(rule.preceding.iter_mut().map(|preceding| &mut preceding.event)) {
                let old_index = usize::from(event.source);
                event.source = *kept[old_index].get_or_insert_with(|| {
                    sources.push(old[old_index].clone());
                    u16::try_from(sources.len() - 1).expect("no more than before")
                });
            }
        }
        self.sources = sources;
    }

    /// `source#id` and place of an event that is remembered.
    pub(super) fn resolve(&self, event: &EventRef) -> (String, Position) {
        let source = &self.sources[usize::from(event.source)];
        (format!("{source}#{}", event.id), Position { partition: event.partition, offset: event.offset })
    }

    /// What the rule with that key remembers.
    pub(super) fn rule(&mut self, key: u32, compiled: &Compiled) -> &mut RuleState {
        let index = self.rules.iter().position(|rule| rule.key == key).unwrap_or_else(|| {
            // Settings have changed, or the entity is new: a good moment to drop what no rule owns any more.
            self.rules.retain(|rule| compiled.knows(rule.key));
            self.rules.push(RuleState { key, ..RuleState::default() });
            self.rules.len() - 1
        });
        &mut self.rules[index]
    }

    /// What the rule with that key remembers, if anything.
    pub(super) fn known_rule(&self, key: u32) -> Option<&RuleState> {
        self.rules.iter().find(|rule| rule.key == key)
    }
}

impl RuleState {
    /// Puts an event into the window of `window_ms` and returns where the window ends and which entries are in it.
    pub(super) fn insert(&mut self, entry: Entry, window_ms: i64) -> (i64, std::ops::Range<usize>) {
        let time = entry.time;
        let entries = &mut self.entries;
        let over = entries.partition_point(|entry| entry.time <= time - window_ms);
        entries.drain(..over);
        let at = entries.partition_point(|entry| entry.time <= time);
        entries.insert(at, entry);
        if entries.len() > ENTRIES_MAX {
            entries.remove(0);
        }
        let end = entries.partition_point(|entry| entry.time < time + window_ms);
        let end_time = entries[..end].last().map_or(time, |last| last.time.max(time));
        let start = entries.partition_point(|entry| entry.time <= end_time - window_ms);
        (end_time, start..end)
    }

    /// Counts an event of a denominator.
    pub(super) fn count(&mut self, time: i64, window_ms: i64) {
        let number = time.div_euclid(bucket_ms(window_ms));
        let buckets = &mut self.buckets;
        if buckets.first().is_some_and(|(oldest, _)| *oldest <= number - BUCKETS) {
            let over = buckets.partition_point(|(bucket, _)| *bucket <= number - BUCKETS);
            buckets.drain(..over);
        }
        if let Some((newest, count)) = buckets.last_mut()
            && *newest == number
        {
            *count = count.saturating_add(1);
            return;
        }
        match buckets.binary_search_by_key(&number, |(bucket, _)| *bucket) {
            Ok(index) => buckets[index].1 = buckets[index].1.saturating_add(1),
            Err(index) => buckets.insert(index, (number, 1)),
        }
        if buckets.len() > BUCKETS_MAX {
            buckets.remove(0);
        }
    }

    /// Events of the denominator in the window that ends at `end_time`.
    pub(super) fn counted(&self, end_time: i64, window_ms: i64) -> u64 {
        let last = end_time.div_euclid(bucket_ms(window_ms));
        let within = self.buckets.iter().filter(|(bucket, _)| *bucket > last - BUCKETS && *bucket <= last);
        within.map(|(_, count)| u64::from(*count)).sum()
    }

    /// Keeps an event that may make later ones count.
    pub(super) fn precede(&mut self, time: i64, key: &str, event: EventRef, within_ms: i64) {
        let preceding = &mut self.preceding;
        let over = preceding.partition_point(|before| before.time < time - within_ms);
        preceding.drain(..over);
        let at = preceding.partition_point(|before| before.time <= time);
        preceding.insert(at, Preceding { time, key: CompactString::new(key), event });
        if preceding.len() > PRECEDING_MAX {
            preceding.remove(0);
        }
    }

    /// The latest event with that key that came at most `within_ms` before.
    pub(super) fn antecedent(&self, time: i64, key: &str, within_ms: i64) -> Option<EventRef> {
        let mut before = self.preceding.iter().rev().skip_while(|before| before.time > time);
        before
            .by_ref()
            .take_while(|before| before.time >= time - within_ms)
            .find(|before| before.key == key)
            .map(|before| before.event.clone())
    }
}

/// Length of a bucket: a 24th of the window, rounded up.
const fn bucket_ms(window_ms: i64) -> i64 {
    (window_ms + BUCKETS - 1) / BUCKETS
}
