//! Pieces of partitions that were read before: whoever reads piece by piece, or many events near each other, is spared a
//! round trip for each. What is on the log and committed never changes, so a block is good for as long as it is kept.

use std::collections::{BTreeMap, VecDeque};

use crate::bus::{Fetched, Record, TopicPartition};

/// Bytes of values that are kept in all.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// Records that follow each other, with nothing readable between them.
#[derive(Debug)]
pub(super) struct Block {
    /// The offset that was asked for.
    pub(super) from: i64,
    /// The records.
    pub(super) records: Vec<Record>,
    /// Where the next block begins.
    pub(super) next_offset: i64,
}

impl Block {
    fn bytes(&self) -> usize {
        self.records.iter().map(size).sum()
    }

    /// What there is from `offset` on, about `bytes_max` in all; `at_end` is left open.
    pub(super) fn piece(&self, offset: i64, bytes_max: usize) -> Fetched {
        let begin = self.records.partition_point(|record| record.offset < offset);
        let mut bytes = 0;
        let enough = |record: &&Record| {
            let more = bytes < bytes_max.max(1);
            bytes += size(record);
            more
        };
        let records: Vec<_> = self.records[begin..].iter().take_while(enough).cloned().collect();
        let rest = begin + records.len() < self.records.len();
        let next_offset = match records.last() {
            Some(last) if rest => last.offset + 1,
            _ => self.next_offset,
        };
        Fetched { records, next_offset, at_end: false }
    }
}

/// About what a record counts in reads that are bounded in bytes.
pub(super) fn size(record: &Record) -> usize {
    record.value.len() + 1
}

/// The blocks that were read last.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    blocks: BTreeMap<(TopicPartition, i64), Block>,
    order: VecDeque<(TopicPartition, i64)>,
    bytes: usize,
}

impl Blocks {
    /// Records from `offset` on, if the block that holds them is there and holds any.
    pub(super) fn get(&self, of: TopicPartition, offset: i64, bytes_max: usize) -> Option<Fetched> {
        let (_, block) = self.blocks.range((of, i64::MIN)..=(of, offset)).next_back()?;
        let piece = (offset < block.next_offset).then(|| block.piece(offset, bytes_max))?;
        (!piece.records.is_empty()).then_some(piece)
    }

    /// Keeps a block; the oldest ones make room.
    pub(super) fn put(&mut self, of: TopicPartition, block: Block) {
        let key = (of, block.from);
        self.bytes += block.bytes();
        match self.blocks.insert(key, block) {
            Some(old) => self.bytes -= old.bytes(),
            None => self.order.push_back(key),
        }
        while self.bytes > BYTES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.blocks.remove(&oldest).map_or(0, |block| block.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::bus::Topic;
    use crate::time::Timestamp;

    const P0: TopicPartition = TopicPartition::new(Topic::Events, 0);
    const P1: TopicPartition = TopicPartition::new(Topic::Events, 1);

    fn record(offset: i64, bytes: usize) -> Record {
        let value = Bytes::from(vec![0; bytes]);
        Record { offset, timestamp: Timestamp::MIN, key: None, value, headers: Vec::new() }
    }

    fn offsets(fetched: &Fetched) -> Vec<i64> {
        fetched.records.iter().map(|record| record.offset).collect()
    }

    #[test]
    fn a_block_serves_every_offset_in_it_and_none_beside_it() {
        let mut blocks = Blocks::default();
        blocks.put(P0, Block { from: 10, records: vec![record(11, 5), record(12, 5), record(14, 5)], next_offset: 16 });
        let piece = blocks.get(P0, 12, 1).unwrap();
        assert_eq!((offsets(&piece), piece.next_offset), (vec![12], 13));
        let rest = blocks.get(P0, 13, 1000).unwrap();
        assert_eq!((offsets(&rest), rest.next_offset), (vec![14], 16), "marks behind the last record are passed");
        assert_eq!(blocks.get(P0, 15, 1), None);
        assert_eq!(blocks.get(P0, 9, 1), None);
        assert_eq!(blocks.get(P1, 12, 1), None);
    }

    #[test]
    fn the_oldest_blocks_make_room() {
        let mut blocks = Blocks::default();
        for number in 0..5 {
            blocks.put(P0, Block { from: number, records: vec![record(number, 8 << 20)], next_offset: number + 1 });
        }
        assert!(blocks.get(P0, 0, 1).is_none() && blocks.get(P0, 4, 1).is_some());
        assert!(blocks.bytes <= BYTES_MAX);
    }
}
