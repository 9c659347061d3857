//! The live feed where several processes share the work: everybody's feed shows what all of them do, as the bus tells it.
//!
//! Events of tills and of plugins come from `pos.events`, orders from `order.created`, dead letters from `pos.deadletters`, changes of plugins from
//! `pos.plugins`. Log lines and notices of HTTP calls are on no topic for others, so whoever has them puts them on
//! `pos.feed`, where they live for minutes. The events of one till share a partition, so their order is right, and what a
//! plugin publishes about an event comes after it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Delivery, Feed, FeedBody, FeedItem, FeedKind, Filter, Since};
use crate::bus::partitioner::partition_of;
use crate::bus::{Bus, NewRecord, Record, Topic, TopicPartition, follow as follow_topics};
use crate::control::CONTROL_TYPE;
use crate::event::{Event, EventClass};
use crate::pipeline::source::event_of;
use crate::time::Timestamp;

/// Items that are told to others in one append.
const FORWARD_MAX: usize = 500;
/// Items travel together for this long.
const FORWARD_INTERVAL: Duration = Duration::from_millis(50);
/// Pause after a fault of the bus.
const PAUSE: Duration = Duration::from_millis(500);
/// For so long after the last reader has gone, items are kept for those who come back; then nobody pays for them.
const KEPT: Duration = Duration::from_mins(1);
/// Events of each partition whose repetition is noticed.
const SEEN_MAX: usize = 8192;
/// Topics that the feed is made of.
const TOPICS: [Topic; 5] = [Topic::Events, Topic::OrderCreated, Topic::DeadLetters, Topic::Plugins, Topic::Feed];

/// An item on `pos.feed`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    kind: CompactString,
    at: Timestamp,
    #[serde(rename = "type")]
    type_name: CompactString,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    terminal: Option<CompactString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plugin: Option<CompactString>,
    #[serde(borrow)]
    event: &'a RawValue,
}

/// Puts what is in this process's feed on `pos.feed`, until the future is dropped. What the bus does not take is
/// forgotten: nothing depends on it.
pub async fn forward(feed: &Feed, bus: &dyn Bus) {
    let mut items = feed.subscribe(Filter::default(), Since::Now);
    loop {
        items.ready().await;
        let records: Vec<NewRecord> = match items.take(FORWARD_MAX) {
            Some(Delivery::Items(items)) => items.iter().filter_map(|numbered| told(&numbered.item)).collect(),
            Some(Delivery::Gap(_)) | None => Vec::new(),
        };
        if records.is_empty() {
            continue;
        }
        let pause = match bus.append(records).await {
            Ok(_) => FORWARD_INTERVAL,
            Err(error) => {
                tracing::debug!(%error, "log lines and calls are not told to other processes");
                PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

fn told(item: &FeedItem) -> Option<NewRecord> {
    let FeedBody::Json { type_name, terminal, plugin, json } = &item.body else {
        return None;
    };
    let told = Told {
        kind: CompactString::const_new(item.kind.as_str()),
        at: item.at,
        type_name: type_name.clone(),
        terminal: terminal.clone(),
        plugin: plugin.clone(),
        event: serde_json::from_slice(json).ok()?,
    };
    let value = Bytes::from(serde_json::to_vec(&told).ok()?);
    Some(NewRecord { topic: Topic::Feed, partition: Some(0), key: None, value, headers: Vec::new() })
}

/// Shows in this process's feed what all processes do, until the future is dropped. While nobody reads it, items are only
/// counted.
pub async fn follow(feed: &Feed, bus: Arc<dyn Bus>) {
    let mut reader = Reader::new(bus.partitions());
    let mut records = follow_topics(bus, TOPICS.to_vec());
    let mut failing = false;
    let mut read_at: Option<Instant> = None;
    loop {
        match records.next().await {
            Ok(records) => {
                failing = false;
                if feed.readers() > 0 {
                    read_at = Some(Instant::now());
                }
                if read_at.is_none_or(|at| at.elapsed() > KEPT) {
                    feed.skip(records.len());
                    continue;
                }
                feed.publish(records.iter().filter_map(|(place, record)| reader.item(*place, record)).collect());
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the live feed stands still; it goes on by itself when the bus is back");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Makes items of the feed out of records.
struct Reader {
    partitions: u32,
    hasher: RandomState,
    seen: HashMap<u32, Seen>,
}

/// The events of one partition that were shown last.
#[derive(Default)]
struct Seen {
    hashes: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Seen {
    /// True the first time.
    fn is_new(&mut self, hash: u64) -> bool {
        if !self.hashes.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.hashes.remove(&oldest);
        }
        true
    }
}

impl Reader {
    fn new(partitions: u32) -> Self {
        Self { partitions, hasher: RandomState::new(), seen: HashMap::new() }
    }

    fn item(&mut self, place: TopicPartition, record: &Record) -> Option<FeedItem> {
        match place.topic {
            Topic::Events => self.event(place.partition, record),
            Topic::DeadLetters => Some(dead_letter(record)),
            Topic::Plugins => change(record),
            Topic::Feed => told_by_others(record),
            Topic::OrderCreated => {
                let body = FeedBody::Event(Arc::new(event_of(record).ok()?));
                Some(FeedItem { kind: FeedKind::Event, at: record.timestamp, body })
            }
            Topic::Rekeyed | Topic::Manifests | Topic::Heartbeats | Topic::Input(_) => None,
        }
    }

    /// An event as its processor shows it: not one of Tillstream's own, not one that stands on the wrong partition, and
    /// each once. What is no valid event comes as a dead letter.
    fn event(&mut self, partition: u32, record: &Record) -> Option<FeedItem> {
        let event: Event = event_of(record).ok()?;
        if event.event_type().class() == EventClass::Internal
            || partition_of(event.key().as_bytes(), self.partitions) != partition
        {
            return None;
        }
        let hash = self.hasher.hash_one((event.source.as_str(), &*event.id));
        if !self.seen.entry(partition).or_default().is_new(hash) {
            return None;
        }
        let kind = if event.source.plugin().is_some() { FeedKind::Derived } else { FeedKind::Event };
        Some(FeedItem { kind, at: record.timestamp, body: FeedBody::Event(Arc::new(event)) })
    }
}

fn header<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let (_, value) = record.headers.iter().find(|(known, _)| known == name)?;
    std::str::from_utf8(value).ok()
}

fn dead_letter(record: &Record) -> FeedItem {
    let text = |name| header(record, name);
    let number = |name| header(record, name).and_then(|text| text.parse::<i64>().ok());
    let (topic, partition, offset) = (text("topic"), number("partition"), number("offset"));
    let json = json!({
        "id": text("id"),
        "reason": text("reason"),
        "field": text("field"),
        "message": text("message"),
        "plugin": text("plugin"),
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "bytes": record.value.len(),
    });
    let terminal = record.key.as_ref().and_then(|key| std::str::from_utf8(key).ok());
    let body = FeedBody::Json {
        type_name: CompactString::const_new("deadletter"),
        terminal: terminal.map(CompactString::new),
        plugin: text("plugin").map(CompactString::new),
        json: Bytes::from(json.to_string()),
    };
    FeedItem { kind: FeedKind::DeadLetter, at: record.timestamp, body }
}

fn change(record: &Record) -> Option<FeedItem> {
    let event: Value = serde_json::from_slice(&record.value).ok()?;
    let data = &event["data"];
    let name = data["name"].as_str()?;
    let json = json!({"plugin": name, "active": data["active"], "revision": data["revision"], "actor": data["actor"]});
    let body = FeedBody::Json {
        type_name: CompactString::const_new(CONTROL_TYPE),
        terminal: None,
        plugin: Some(CompactString::new(name)),
        json: Bytes::from(json.to_string()),
    };
    Some(FeedItem { kind: FeedKind::Control, at: record.timestamp, body })
}

fn told_by_others(record: &Record) -> Option<FeedItem> {
    let told: Told<'_> = serde_json::from_slice(&record.value).ok()?;
    let kind = FeedKind::from_name(&told.kind)?;
    let json = Bytes::copy_from_slice(told.event.get().as_bytes());
    let body = FeedBody::Json { type_name: told.type_name, terminal: told.terminal, plugin: told.plugin, json };
    Some(FeedItem { kind, at: told.at, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::simulated::SimulatedBus;

    const TERMINAL: &str = "/stores/S001/terminals/T1";

    fn event(kind: &str, source: &str, id: &str) -> NewRecord {
        let value = json!({
            "specversion": "1.0", "id": id, "source": source, "type": kind, "time": "2026-01-05T08:00:00Z",
            "subject": TERMINAL, "partitionkey": "T1", "data": {"employeeId": "E1"},
        });
        let (topic, key) = (Topic::Events, Some(Bytes::from_static(b"T1")));
        NewRecord { topic, partition: None, key, value: Bytes::from(value.to_string()), headers: Vec::new() }
    }

    /// Waits for so many items of a feed that follows the bus, of which `append` puts something on it.
    async fn shown(bus: &SimulatedBus, count: usize, append: impl Future<Output = ()>) -> Vec<(FeedKind, String)> {
        let feed = Feed::new(100);
        let mut reader = feed.subscribe(Filter::default(), Since::Now);
        let collect = async {
            // The first look finds out where the topics end.
            tokio::time::sleep(Duration::from_millis(200)).await;
            append.await;
            let mut seen = Vec::new();
            while seen.len() < count {
                reader.ready().await;
                if let Some(Delivery::Items(items)) = reader.take(100) {
                    seen.extend(
                        items
                            .into_iter()
                            .map(|one| (one.item.kind, String::from_utf8_lossy(one.item.json()).into_owned())),
                    );
                }
            }
            seen
        };
        tokio::select! {
            () = follow(&feed, Arc::new(bus.clone())) => unreachable!("it follows until it is dropped"),
            seen = collect => seen,
        }
    }

    #[tokio::test]
    async fn events_are_shown_once_in_their_order_and_internal_or_misplaced_ones_never() {
        let bus = SimulatedBus::shared(4, 1);
        bus.append(vec![event("pos.drawer.opened", TERMINAL, "before anybody looked")]).await.unwrap();
        let wrong = (partition_of(b"T1", 4) + 1) % 4;
        let records = vec![
            event("pos.drawer.opened", TERMINAL, "a"),
            event("tillstream.tick", "/plugins/tillstream", "tick"),
            event("pos.drawer.opened", TERMINAL, "a"),
            NewRecord { partition: Some(wrong), ..event("pos.drawer.opened", TERMINAL, "misplaced") },
            NewRecord { value: Bytes::from_static(b"{"), ..event("", "", "") },
            event("com.example.derived", "/plugins/fraud-detection", "b"),
            event("pos.drawer.opened", TERMINAL, "c"),
        ];
        let seen = shown(&bus, 3, async { drop(bus.append(records).await.unwrap()) }).await;
        let ids: Vec<_> = seen
            .iter()
            .map(|(kind, json)| {
                (*kind, serde_json::from_str::<Value>(json).unwrap()["id"].as_str().unwrap().to_owned())
            })
            .collect();
        let expected = [(FeedKind::Event, "a"), (FeedKind::Derived, "b"), (FeedKind::Event, "c")];
        assert_eq!(ids, expected.map(|(kind, id)| (kind, id.to_owned())));
    }

    #[tokio::test]
    async fn log_lines_of_another_process_are_shown_as_it_shows_them() {
        let bus = SimulatedBus::shared(4, 1);
        let there = Feed::of_kinds(100, vec![FeedKind::Log]);
        let line = |text: &str| FeedItem {
            kind: FeedKind::Log,
            at: Timestamp::from_millis(5),
            body: FeedBody::Json {
                type_name: "log".into(),
                terminal: Some("T1".into()),
                plugin: Some("age-verification".into()),
                json: Bytes::from(json!({ "message": text }).to_string()),
            },
        };
        let seen = tokio::select! {
            () = forward(&there, &bus) => unreachable!("it tells until it is dropped"),
            seen = shown(&bus, 2, async { there.publish(vec![line("one"), line("two")]) }) => seen,
        };
        let expected = ["one", "two"].map(|text| (FeedKind::Log, json!({ "message": text }).to_string()));
        assert_eq!(seen, expected);
    }
}
