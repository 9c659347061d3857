//! Chunks: what one partition of `pos.events` tells one partition of `pos.events.rekeyed`.
//!
//! A chunk's clock means: everything of this source with an effective time below it stands at or before this chunk.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::time::Timestamp;

/// Marks the format; raised when it changes.
const FORMAT: u8 = 1;
/// Chunks are split before they reach this size, which every Kafka broker takes by default.
pub const CHUNK_BYTES_MAX: usize = 700 * 1024;

/// One event in a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkEvent {
    /// Its offset in the source partition.
    pub offset: i64,
    /// Its effective time.
    pub clock: Timestamp,
    /// True if it is older than the clock was.
    pub late: bool,
    /// The event in structured JSON.
    pub raw: Bytes,
}

/// What a source partition says to one rekeyed partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Partition of `pos.events`.
    pub source: u32,
    /// First source offset that this chunk covers.
    pub from: i64,
    /// First source offset that it no longer covers.
    pub to: i64,
    /// The source's clock at `to`.
    pub clock: Timestamp,
    /// The events that the rekeyed partition needs, in offset order.
    pub events: Vec<ChunkEvent>,
}

/// The bytes are no chunk of a format that this version understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a rekeyed chunk of format {FORMAT}; was it written by another version?")]
pub struct InvalidChunk;

impl Chunk {
    /// Size of the encoded chunk, in bytes, or a little more.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        40 + self.events.iter().map(|event| event.raw.len() + 21).sum::<usize>()
    }

    /// The chunk as bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.encoded_len());
        bytes.put_u8(FORMAT);
        bytes.put_u32_le(self.source);
        bytes.put_i64_le(self.from);
        bytes.put_i64_le(self.to);
        bytes.put_i64_le(self.clock.as_millis());
        bytes.put_u32_le(u32::try_from(self.events.len()).expect("chunks are small"));
        for event in &self.events {
            bytes.put_i64_le(event.offset);
            bytes.put_i64_le(event.clock.as_millis());
            bytes.put_u8(u8::from(event.late));
            bytes.put_u32_le(u32::try_from(event.raw.len()).expect("events are at most 256 KB"));
            bytes.put_slice(&event.raw);
        }
        bytes.freeze()
    }

    /// Reads a chunk; the events share its bytes.
    ///
    /// # Errors
    /// If the bytes are no chunk.
    pub fn decode(mut bytes: Bytes) -> Result<Self, InvalidChunk> {
        Self::read(&mut bytes).ok_or(InvalidChunk)
    }

    fn read(bytes: &mut Bytes) -> Option<Self> {
        if bytes.try_get_u8().ok()? != FORMAT {
            return None;
        }
        let source = bytes.try_get_u32_le().ok()?;
        let from = bytes.try_get_i64_le().ok()?;
        let to = bytes.try_get_i64_le().ok()?;
        let clock = Timestamp::from_millis(bytes.try_get_i64_le().ok()?);
        let count = bytes.try_get_u32_le().ok()?;
        let mut events = Vec::with_capacity(count.min(100_000) as usize);
        for _ in 0..count {
            let offset = bytes.try_get_i64_le().ok()?;
            let clock = Timestamp::from_millis(bytes.try_get_i64_le().ok()?);
            let late = bytes.try_get_u8().ok()? != 0;
            let length = bytes.try_get_u32_le().ok()? as usize;
            if bytes.len() < length {
                return None;
            }
            events.push(ChunkEvent { offset, clock, late, raw: bytes.split_to(length) });
        }
        bytes.is_empty().then_some(Self { source, from, to, clock, events })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_a_cut_is_noticed() {
        let event =
            ChunkEvent { offset: 7, clock: Timestamp::from_millis(9), late: true, raw: Bytes::from_static(b"{}") };
        let chunk = Chunk { source: 3, from: 5, to: 9, clock: Timestamp::from_millis(10), events: vec![event] };
        let bytes = chunk.encode();
        assert_eq!(Chunk::decode(bytes.clone()), Ok(chunk));
        for length in 0..bytes.len() {
            assert_eq!(Chunk::decode(bytes.slice(..length)), Err(InvalidChunk), "{length}");
        }
    }
}
