//! The order of events does not depend on how fast each partition is read, in which batches, and how often its owner
//! dies between appending and committing: it is the oracle's.

mod oracle;
mod support;

use std::collections::HashMap;

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tillstream::bus::Record;
use tillstream::pipeline::chunk::Chunk;
use tillstream::pipeline::merge::MergeBuffer;
use tillstream::pipeline::source::{Rekeying, SourcePartition, parse};
use tillstream::store::model::WindowRow;
use tillstream::time::Timestamp;

use oracle::event::Event;
use oracle::log::{Log, partition_of};
use support::adversary::{self, Message};

const PARTITIONS: u32 = 3;

/// Name, effective time and lateness of an event.
type Seen = (String, i64, bool);

/// A partition of `pos.events` and what its owner has committed.
struct Owned {
    records: Vec<Record>,
    next_offset: i64,
    clock: Timestamp,
    windows: HashMap<String, WindowRow>,
    /// What went to the plugins of scope terminal.
    seen: Vec<Seen>,
    rekeying: Rekeying,
    live: SourcePartition,
}

fn name(raw: &[u8]) -> String {
    let event: Value = serde_json::from_slice(raw).expect("JSON");
    format!("{}#{}", event["source"].as_str().expect("a source"), event["id"].as_str().expect("an id"))
}

fn seen(event: &Event) -> Seen {
    (event.name(), event.clock, event.late)
}

impl Owned {
    fn new(partition: u32, messages: &[Message], rekeying: Rekeying) -> Self {
        let here = |message: &&Message| {
            partition_of(&oracle::event::read(&message.bytes).expect("a valid event").terminal, PARTITIONS) == partition
        };
        let records = messages.iter().filter(here).zip(0..).map(|(message, offset)| Record {
            offset,
            timestamp: Timestamp::from_millis(message.received),
            key: None,
            value: Bytes::from(message.bytes.clone()),
            headers: Vec::new(),
        });
        Self {
            records: records.collect(),
            next_offset: 0,
            clock: Timestamp::MIN,
            windows: HashMap::new(),
            seen: Vec::new(),
            rekeying,
            live: SourcePartition::restore(partition, PARTITIONS, 0, Timestamp::MIN, rekeying),
        }
    }

    fn is_read(&self) -> bool {
        usize::try_from(self.next_offset).expect("an offset") == self.records.len()
    }

    /// Applies the next batch and gives its chunks; the owner may die before it commits.
    fn step(&mut self, partition: u32, count: usize, dies: bool) -> Vec<(u32, Chunk)> {
        let start = usize::try_from(self.next_offset).expect("an offset");
        let end = (start + count).min(self.records.len());
        let batch: Vec<_> = self.records[start..end].iter().cloned().map(parse).collect();
        let unknown = self.live.unknown_sources(&batch);
        let rows = unknown.iter().filter_map(|source| self.windows.get(*source).cloned()).collect();
        assert_eq!(self.live.load_windows(&unknown, rows), None);
        let outcome = self.live.admit(batch, i64::try_from(end).expect("an offset"), 0);
        if dies {
            let (next_offset, clock) = (self.next_offset, self.clock);
            self.live = SourcePartition::restore(partition, PARTITIONS, next_offset, clock, self.rekeying);
        } else {
            (self.next_offset, self.clock) = (self.live.next_offset(), self.live.clock());
            self.windows.extend(outcome.windows.into_iter().map(|row| (row.source.clone(), row)));
            let placed = outcome.placed.iter();
            self.seen.extend(placed.map(|placed| (name(&placed.event.raw), placed.clock.as_millis(), placed.late)));
        }
        outcome.chunks
    }
}

/// What the owner of a partition of `pos.events.rekeyed` applies, in order. Events that chunks only refer to are taken
/// from the source partitions.
fn merged(chunks: Vec<Chunk>, sources: &[Owned]) -> Vec<Seen> {
    let mut buffer = MergeBuffer::restore(PARTITIONS, 0, Timestamp::MIN, &[]).expect("nothing stored");
    let mut all = Vec::new();
    for (chunk, offset) in chunks.into_iter().zip(0..) {
        let chunk = Chunk::decode(chunk.encode()).expect("what was encoded");
        buffer.push(offset, chunk);
        all.extend(buffer.release().into_iter().map(|released| {
            let (event, place) = (released.event, released.position);
            let record = |records: &[Record]| records[usize::try_from(place.offset).expect("an offset")].value.clone();
            let raw = event.event.unwrap_or_else(|| record(&sources[place.partition as usize].records));
            (name(&raw), event.clock.as_millis(), event.late)
        }));
    }
    all
}

/// True if this partition of `pos.events.rekeyed` owns an entity of the event.
fn concerns(event: &Event, target: u32) -> bool {
    let customer = matches!(event.kind.as_str(), "pos.customer.identified" | "pos.payment.completed");
    let card = matches!(event.kind.as_str(), "pos.payment.completed" | "pos.refund.completed");
    let entities = [
        event.text("employeeId").map(|id| format!("employee:{id}")),
        event.text("customerId").filter(|_| customer).map(|id| format!("customer:{id}")),
        event.text("cardToken").filter(|_| card).map(|id| format!("card:{id}")),
    ];
    entities.iter().flatten().any(|entity| partition_of(entity, PARTITIONS) == target)
}

#[test]
fn speed_batches_and_deaths_do_not_change_the_order() {
    read_unevenly(Rekeying::Whole);
}

#[test]
fn nor_do_they_where_chunks_only_refer_to_events() {
    read_unevenly(Rekeying::ByReference);
}

fn read_unevenly(rekeying: Rekeying) {
    for seed in 0..30 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut messages = adversary::messages(seed, 400);
        for _ in 0..40 {
            let again = random.random_range(0..messages.len());
            let place = random.random_range(again..messages.len());
            messages.insert(place + 1, messages[again].clone());
        }
        let mut owned: Vec<Owned> =
            (0..PARTITIONS).map(|partition| Owned::new(partition, &messages, rekeying)).collect();
        let mut rekeyed: Vec<Vec<Chunk>> = vec![Vec::new(); PARTITIONS as usize];
        let favourite = random.random_range(0..PARTITIONS);
        while !owned.iter().all(Owned::is_read) {
            let any = random.random_range(0..PARTITIONS);
            let partition = if random.random_bool(0.6) { favourite } else { any };
            let (count, dies) = (random.random_range(1..40), random.random_bool(0.2));
            let owner = &mut owned[partition as usize];
            let mut chunks = owner.step(partition, count, dies);
            if random.random_bool(0.3) {
                chunks.extend(owner.live.clock_chunks());
            }
            for (target, chunk) in chunks {
                rekeyed[target as usize].push(chunk);
            }
        }
        for chunks in &mut rekeyed {
            let end = |source| Chunk { source, from: 0, to: 0, clock: Timestamp::MAX, events: Vec::new() };
            chunks.extend((0..PARTITIONS).map(end));
        }
        let log = Log::received(messages.iter().map(Message::received), PARTITIONS);
        for (target, chunks) in (0..PARTITIONS).zip(rekeyed) {
            let expected = log.across_tills().into_iter().filter(|event| concerns(event, target)).map(seen);
            assert_eq!(
                merged(chunks, &owned),
                expected.collect::<Vec<_>>(),
                "across tills, partition {target}, seed {seed}"
            );
        }
        for (partition, owner) in (0..PARTITIONS).zip(owned) {
            let here = log.events.iter().filter(|event| event.partition == partition).map(seen);
            assert_eq!(owner.seen, here.collect::<Vec<_>>(), "at one till, partition {partition}, seed {seed}");
        }
    }
}
