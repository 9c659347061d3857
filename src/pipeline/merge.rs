//! One order across tills: chunks from all partitions of `pos.events` become a single sequence again.
//!
//! Everything strictly below the lowest clock of all sources is released, in the order of (effective time, source
//! partition, source offset). The result depends on the log alone, not on how fast each partition was read.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::chunk::{Chunk, ChunkEvent};
use crate::effect::Position;
use crate::time::Timestamp;

/// One source as this partition knows it.
#[derive(Debug, Clone)]
struct Source<E> {
    /// First source offset that has not been seen.
    have: i64,
    /// Everything below this time has been seen.
    clock: Timestamp,
    /// Seen and not released, in offset order, which is also the order of effective time.
    waiting: VecDeque<ChunkEvent<E>>,
    /// `have` and `clock` as they stood before the oldest chunk that is not fully released.
    base: (i64, Timestamp),
}

/// A chunk that has been read and may still hold back the place from which a new owner must read.
#[derive(Debug, Clone, Copy)]
struct ReadChunk {
    offset: i64,
    source: usize,
    to: i64,
    clock: Timestamp,
    /// Effective time of its last event that was new; `MIN` if it had none.
    last: Timestamp,
}

/// The reorder buffer of one partition of `pos.events.rekeyed`.
#[derive(Debug)]
pub struct MergeBuffer<E> {
    sources: Vec<Source<E>>,
    chunks: VecDeque<ReadChunk>,
    released: Timestamp,
    /// Offset after the last chunk that was read.
    read_to: i64,
    /// Chunks from here on were read by no owner before; not known of a place that an earlier version stored.
    unread_from: Option<i64>,
    /// The release point that this owner began with.
    restored: Timestamp,
    waiting: usize,
}

/// An event that may be applied now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released<E> {
    /// Where it stands on `pos.events`.
    pub position: Position,
    /// The event with its effective time.
    pub event: ChunkEvent<E>,
}

impl<E> MergeBuffer<E> {
    /// A buffer as a partition's row left it: the place of the oldest chunk not fully released, the release point, and
    /// what [`MergeBuffer::encode_base`] stored. Reading goes on at `next_offset`.
    ///
    /// Returns `None` if `extra` is not understood.
    #[must_use]
    pub fn restore(partitions: u32, next_offset: i64, released: Timestamp, mut extra: &[u8]) -> Option<Self> {
        let mut sources = Vec::with_capacity(partitions as usize);
        let unknown = extra.is_empty();
        for _ in 0..partitions {
            let have = if unknown { 0 } else { extra.try_get_i64_le().ok()? };
            let clock = if unknown { Timestamp::MIN } else { Timestamp::from_millis(extra.try_get_i64_le().ok()?) };
            sources.push(Source { have, clock, base: (have, clock), waiting: VecDeque::new() });
        }
        let unread_from = if unknown { Some(next_offset) } else { extra.try_get_i64_le().ok() };
        let (chunks, read_to) = (VecDeque::new(), next_offset);
        Some(Self { sources, chunks, released, read_to, unread_from, restored: released, waiting: 0 })
    }

    /// What a new owner needs besides offset and release point.
    #[must_use]
    pub fn encode_base(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.sources.len() * 16 + 8);
        for source in &self.sources {
            bytes.put_i64_le(source.base.0);
            bytes.put_i64_le(source.base.1.as_millis());
        }
        let unread_from = match self.unread_from {
            Some(offset) => Some(offset.max(self.read_to)),
            // Only a chunk that the owner before had not read can have moved the release point on.
            None => (self.released > self.restored).then_some(self.read_to),
        };
        if let Some(offset) = unread_from {
            bytes.put_i64_le(offset);
        }
        bytes.freeze()
    }

    /// Drops from a chunk that stands at `offset` what is known already, or lies below the release point. Nothing that is
    /// new lies there, by what sources say of their clocks; if there is something nevertheless, it is returned.
    pub fn keep_new<C: Clone>(&self, offset: i64, chunk: &mut Chunk<C>) -> Chunk<C> {
        let have = self.sources.get(chunk.source as usize).map_or(i64::MAX, |source| source.have);
        let is_unread = self.unread_from.is_some_and(|unread| offset >= unread);
        let mut lost = Vec::new();
        chunk.events.retain(|event| {
            let (is_new, is_passed) = (event.offset >= have, event.clock < self.released);
            // What lay below the point with which this owner began may have been released by the one before.
            if is_new && is_passed && (is_unread || event.clock >= self.restored) {
                lost.push(event.clone());
            }
            is_new && !is_passed
        });
        Chunk { events: lost, ..*chunk }
    }

    /// Takes a chunk that stands at `offset`, with what is new in it.
    pub fn push(&mut self, offset: i64, mut chunk: Chunk<E>)
    where
        E: Clone,
    {
        let _ = self.keep_new(offset, &mut chunk);
        self.read_to = offset + 1;
        let index = chunk.source as usize;
        let Some(source) = self.sources.get_mut(index) else {
            return;
        };
        let last = chunk.events.last().map_or(Timestamp::MIN, |event| event.clock);
        self.waiting += chunk.events.len();
        source.waiting.extend(chunk.events);
        source.have = source.have.max(chunk.to);
        source.clock = source.clock.max(chunk.clock);
        self.chunks.push_back(ReadChunk { offset, source: index, to: chunk.to, clock: chunk.clock, last });
    }

    /// Skips an offset that holds no chunk.
    pub fn skip_to(&mut self, next_offset: i64) {
        self.read_to = self.read_to.max(next_offset);
    }

    /// Releases what may be applied, in order, and moves the release point.
    pub fn release(&mut self) -> Vec<Released<E>> {
        let point = self.sources.iter().map(|source| source.clock).min().unwrap_or(Timestamp::MIN);
        let mut released = Vec::new();
        if point > self.released {
            for (partition, source) in self.sources.iter_mut().enumerate() {
                let partition = u32::try_from(partition).expect("partitions are few");
                let count = source.waiting.partition_point(|event| event.clock < point);
                released.extend(
                    source
                        .waiting
                        .drain(..count)
                        .map(|event| Released { position: Position { partition, offset: event.offset }, event }),
                );
            }
            self.waiting -= released.len();
            released.sort_by_key(|released| (released.event.clock, released.position));
            self.released = point;
        }
        self.forget_released_chunks();
        released
    }

    fn forget_released_chunks(&mut self) {
        while let Some(chunk) = self.chunks.front() {
            if chunk.last >= self.released && chunk.last > Timestamp::MIN {
                break;
            }
            let source = &mut self.sources[chunk.source];
            source.base = (source.base.0.max(chunk.to), source.base.1.max(chunk.clock));
            self.chunks.pop_front();
        }
    }

    /// The offset from which a new owner must read.
    #[must_use]
    pub fn resume_offset(&self) -> i64 {
        self.chunks.front().map_or(self.read_to, |chunk| chunk.offset)
    }

    /// For each source the first offset that this partition may still need, now or after a restart.
    #[must_use]
    pub fn needed_offsets(&self) -> Vec<i64> {
        let needed = |source: &Source<E>| source.waiting.front().map_or(source.have, |event| event.offset);
        self.sources.iter().map(needed).collect()
    }

    /// The offset after the last chunk that was read.
    #[must_use]
    pub const fn read_to(&self) -> i64 {
        self.read_to
    }

    /// Everything with an effective time below this has been released.
    #[must_use]
    pub const fn released(&self) -> Timestamp {
        self.released
    }

    /// How many events wait.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// The highest clock that any source has told.
    #[must_use]
    pub fn highest_clock(&self) -> Timestamp {
        self.sources.iter().map(|source| source.clock).max().unwrap_or(Timestamp::MIN)
    }

    /// The source partition that holds the clock back.
    #[must_use]
    pub fn slowest_source(&self) -> Option<u32> {
        let slowest = self.sources.iter().enumerate().min_by_key(|(_, source)| source.clock)?.0;
        u32::try_from(slowest).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::chunk::Carried;
    use proptest::prelude::*;

    fn event(offset: i64, clock: i64) -> ChunkEvent {
        ChunkEvent {
            offset,
            clock: Timestamp::from_millis(clock),
            late: false,
            same_actor: false,
            event: Some(Bytes::from(format!("{offset}@{clock}"))),
        }
    }

    fn chunk(source: u32, from: i64, events: &[(i64, i64)], to: i64, clock: i64) -> Chunk {
        let events = events.iter().map(|&(offset, clock)| event(offset, clock)).collect();
        Chunk { source, from, to, clock: Timestamp::from_millis(clock), events }
    }

    fn places(released: &[Released<Carried>]) -> Vec<(u32, i64)> {
        released.iter().map(|released| (released.position.partition, released.position.offset)).collect()
    }

    #[test]
    fn nothing_is_released_before_every_source_has_passed_it() {
        let mut buffer = MergeBuffer::restore(2, 0, Timestamp::MIN, &[]).unwrap();
        buffer.push(0, chunk(0, 0, &[(0, 10), (1, 20)], 2, 20));
        assert!(buffer.release().is_empty());
        buffer.push(1, chunk(1, 0, &[(0, 15)], 1, 20));
        assert_eq!(places(&buffer.release()), [(0, 0), (1, 0)]);
        assert_eq!(buffer.resume_offset(), 0, "the chunk with the event at 20 is not fully released");
        buffer.push(2, chunk(1, 1, &[], 5, 30));
        buffer.push(3, chunk(0, 2, &[], 2, 30));
        assert_eq!(places(&buffer.release()), [(0, 1)]);
        assert_eq!((buffer.resume_offset(), buffer.waiting()), (4, 0));
    }

    #[test]
    fn what_comes_when_its_place_has_passed_is_told_unless_it_was_released_before() {
        let mut buffer = MergeBuffer::<Carried>::restore(1, 0, Timestamp::MIN, &[]).unwrap();
        let told = |buffer: &MergeBuffer<Carried>, offset, mut chunk: Chunk| {
            buffer.keep_new(offset, &mut chunk).events.iter().map(|event| event.offset).collect::<Vec<_>>()
        };
        let first = chunk(0, 0, &[(0, 10), (1, 20)], 2, 20);
        assert!(told(&buffer, 0, first.clone()).is_empty());
        buffer.push(0, first.clone());
        assert_eq!(places(&buffer.release()), [(0, 0)]);
        assert!(told(&buffer, 1, first.clone()).is_empty(), "the same chunk again");
        let fault = chunk(0, 2, &[(2, 15), (3, 25)], 4, 25);
        assert_eq!(told(&buffer, 1, fault.clone()), [2]);
        let mut buffer = MergeBuffer::<Carried>::restore(1, 0, buffer.released(), &buffer.encode_base()).unwrap();
        assert!(told(&buffer, 0, first.clone()).is_empty(), "it was read before");
        buffer.push(0, first);
        assert_eq!(told(&buffer, 1, fault), [2]);
    }

    /// A log of chunks from three sources, as owners that crash and append again would write it.
    fn logs() -> impl Strategy<Value = Vec<Chunk>> {
        prop::collection::vec((0_u32..3, prop::collection::vec(0_i64..4, 0..5), 0_i64..3, any::<bool>()), 1..60)
            .prop_map(|steps| {
                let mut next = [0_i64; 3];
                let mut clocks = [1_i64; 3];
                let mut last: [Option<Chunk>; 3] = [None, None, None];
                let mut log = Vec::new();
                for (source, moves, after, again) in steps {
                    let index = source as usize;
                    let from = next[index];
                    let mut events = Vec::new();
                    for by in moves {
                        clocks[index] += by;
                        events.push((next[index], clocks[index]));
                        next[index] += 1;
                    }
                    clocks[index] += after;
                    let new = chunk(source, from, &events, next[index], clocks[index]);
                    log.push(new.clone());
                    if again && let Some(old) = last[index].take() {
                        log.push(old);
                    }
                    last[index] = Some(new);
                }
                for source in 0..3 {
                    log.push(chunk(source, next[source as usize], &[], next[source as usize], 10_000));
                }
                log
            })
    }

    fn run(log: &[Chunk], restarts: &[usize], pause: usize) -> Vec<Released<Carried>> {
        let mut buffer = MergeBuffer::restore(3, 0, Timestamp::MIN, &[]).unwrap();
        let mut all = Vec::new();
        let mut offset = 0;
        let mut step = 0;
        while offset < log.len() {
            buffer.push(i64::try_from(offset).unwrap(), log[offset].clone());
            offset += 1;
            step += 1;
            if step % (pause + 1) == 0 || offset == log.len() {
                all.extend(buffer.release());
                if restarts.contains(&step) {
                    let resume = buffer.resume_offset();
                    buffer = MergeBuffer::restore(3, resume, buffer.released(), &buffer.encode_base()).unwrap();
                    offset = usize::try_from(resume).unwrap();
                }
            }
        }
        all
    }

    proptest! {
        #[test]
        fn the_order_depends_on_the_log_alone(log in logs(), restarts in prop::collection::vec(0_usize..60, 0..4), pause in 0_usize..7) {
            let calm = run(&log, &[], 0);
            let rough = run(&log, &restarts, pause);
            prop_assert_eq!(&calm, &rough);
            let mut distinct: Vec<_> = log.iter().flat_map(|chunk| chunk.events.iter().map(move |event| (event.clock, Position { partition: chunk.source, offset: event.offset }))).collect();
            distinct.sort_unstable();
            distinct.dedup();
            let got: Vec<_> = calm.iter().map(|released| (released.event.clock, released.position)).collect();
            prop_assert_eq!(got, distinct);
        }
    }
}
