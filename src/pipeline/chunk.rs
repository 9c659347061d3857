//! Chunks: what one partition of `pos.events` tells one partition of `pos.events.rekeyed`.
//!
//! A chunk's clock means: everything of this source with an effective time below it stands at or before this chunk.
//!
//! Layout, integers little-endian: `format u8 | source u32 | from i64 | to i64 | clock i64 | events u32`, then for each
//! event the distance from the offset of the one before it (from `from` for the first) and that of its effective time
//! (from 0), both LEB128, and a byte of flags. An event that is carried whole has its length (LEB128) and bytes behind
//! that; of the others only the place is told, and the reader takes them from the source partition. Format 1, which
//! carried every event whole in fields of fixed size, is still read.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::time::Timestamp;

/// Marks the format; raised when it changes.
const FORMAT: u8 = 2;
/// The format before, which is still read.
const FORMAT_WHOLE: u8 = 1;
/// Chunks are split before they reach this size, which every Kafka broker takes by default.
pub const CHUNK_BYTES_MAX: usize = 700 * 1024;
/// Most bytes of an event in a chunk besides the event itself: three integers and the flags.
const PLACE_BYTES_MAX: usize = 10 + 10 + 1 + 5;

const LATE: u8 = 1;
const WHOLE: u8 = 2;
/// Versions that do not know it read it as unset.
const SAME_ACTOR: u8 = 4;

/// An event as a chunk carries it: in structured JSON, or `None` if it is the record at its offset of the source
/// partition, to be read there.
pub type Carried = Option<Bytes>;

/// One event in a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkEvent<E = Carried> {
    /// Its offset in the source partition.
    pub offset: i64,
    /// Its effective time.
    pub clock: Timestamp,
    /// True if it is older than the clock was.
    pub late: bool,
    /// True if nobody else acted at its terminal since the same employee did.
    pub same_actor: bool,
    /// The event itself.
    pub event: E,
}

/// What a source partition says to one rekeyed partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk<E = Carried> {
    /// Partition of `pos.events`.
    pub source: u32,
    /// First source offset that this chunk covers.
    pub from: i64,
    /// First source offset that it no longer covers.
    pub to: i64,
    /// The source's clock at `to`.
    pub clock: Timestamp,
    /// The events that the rekeyed partition needs, in the order of offset and effective time.
    pub events: Vec<ChunkEvent<E>>,
}

/// The bytes are no chunk of a format that this version understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a rekeyed chunk of format {FORMAT_WHOLE} or {FORMAT}; was it written by another version?")]
pub struct InvalidChunk;

impl ChunkEvent {
    /// Size in a chunk, in bytes, or a little more.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        PLACE_BYTES_MAX + self.event.as_ref().map_or(0, Bytes::len)
    }
}

impl Chunk {
    /// The chunk as bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let length = 40 + self.events.iter().map(ChunkEvent::encoded_len).sum::<usize>();
        let mut bytes = BytesMut::with_capacity(length);
        bytes.put_u8(FORMAT);
        bytes.put_u32_le(self.source);
        bytes.put_i64_le(self.from);
        bytes.put_i64_le(self.to);
        bytes.put_i64_le(self.clock.as_millis());
        bytes.put_u32_le(u32::try_from(self.events.len()).expect("chunks are small"));
        let (mut offset, mut clock) = (self.from, 0);
        for event in &self.events {
            put_distance(&mut bytes, offset, event.offset);
            put_distance(&mut bytes, clock, event.clock.as_millis());
            (offset, clock) = (event.offset, event.clock.as_millis());
            let late = if event.late { LATE } else { 0 };
            let flags = late | if event.same_actor { SAME_ACTOR } else { 0 };
            match &event.event {
                None => bytes.put_u8(flags),
                Some(raw) => {
                    bytes.put_u8(flags | WHOLE);
                    put_integer(&mut bytes, raw.len() as u64);
                    bytes.put_slice(raw);
                }
            }
        }
        bytes.freeze()
    }

    /// Reads a chunk; events that it carries whole share its bytes.
    ///
    /// # Errors
    /// If the bytes are no chunk.
    pub fn decode(mut bytes: Bytes) -> Result<Self, InvalidChunk> {
        Self::read(&mut bytes).ok_or(InvalidChunk)
    }

    fn read(bytes: &mut Bytes) -> Option<Self> {
        let format = bytes.try_get_u8().ok()?;
        let source = bytes.try_get_u32_le().ok()?;
        let from = bytes.try_get_i64_le().ok()?;
        let to = bytes.try_get_i64_le().ok()?;
        let clock = Timestamp::from_millis(bytes.try_get_i64_le().ok()?);
        let count = bytes.try_get_u32_le().ok()?;
        let mut events = Vec::with_capacity(count.min(100_000) as usize);
        let mut before = (from, 0);
        for _ in 0..count {
            let event = match format {
                FORMAT => read_event(bytes, before)?,
                FORMAT_WHOLE => read_whole_event(bytes)?,
                _ => return None,
            };
            before = (event.offset, event.clock.as_millis());
            events.push(event);
        }
        let complete = bytes.is_empty() && matches!(format, FORMAT | FORMAT_WHOLE);
        complete.then_some(Self { source, from, to, clock, events })
    }
}

fn read_event(bytes: &mut Bytes, (offset, clock): (i64, i64)) -> Option<ChunkEvent> {
    let offset = offset.checked_add_unsigned(get_integer(bytes)?)?;
    let clock = clock.checked_add_unsigned(get_integer(bytes)?)?;
    let flags = bytes.try_get_u8().ok()?;
    let event = if flags & WHOLE == 0 {
        None
    } else {
        let length = usize::try_from(get_integer(bytes)?).ok()?;
        Some(take(bytes, length)?)
    };
    let clock = Timestamp::from_millis(clock);
    Some(ChunkEvent { offset, clock, late: flags & LATE != 0, same_actor: flags & SAME_ACTOR != 0, event })
}

fn read_whole_event(bytes: &mut Bytes) -> Option<ChunkEvent> {
    let offset = bytes.try_get_i64_le().ok()?;
    let clock = Timestamp::from_millis(bytes.try_get_i64_le().ok()?);
    let late = bytes.try_get_u8().ok()? != 0;
    let length = bytes.try_get_u32_le().ok()? as usize;
    Some(ChunkEvent { offset, clock, late, same_actor: false, event: Some(take(bytes, length)?) })
}

fn take(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (bytes.len() >= length).then(|| bytes.split_to(length))
}

fn put_distance(out: &mut BytesMut, from: i64, to: i64) {
    let distance = to.checked_sub(from).and_then(|distance| u64::try_from(distance).ok());
    put_integer(out, distance.expect("offsets and effective times of a source only grow"));
}

/// LEB128.
fn put_integer(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.put_u8(value.to_le_bytes()[0]);
}

fn get_integer(bytes: &mut Bytes) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(offset: i64, clock: i64, late: bool, raw: Option<&'static str>) -> ChunkEvent {
        let clock = Timestamp::from_millis(clock);
        ChunkEvent { offset, clock, late, same_actor: false, event: raw.map(Bytes::from) }
    }

    fn chunk(events: Vec<ChunkEvent>) -> Chunk {
        Chunk { source: 3, from: 5, to: 900, clock: Timestamp::from_millis(1_767_600_000_000), events }
    }

    #[test]
    fn what_is_written_reads_back_and_a_cut_is_noticed() {
        let whole = ChunkEvent { same_actor: true, ..event(900, 1_767_600_000_000, true, Some("{}")) };
        let chunk = chunk(vec![event(5, 0, false, None), event(7, 300, true, None), whole]);
        let bytes = chunk.encode();
        assert_eq!(Chunk::decode(bytes.clone()), Ok(chunk));
        for length in 0..bytes.len() {
            assert_eq!(Chunk::decode(bytes.slice(..length)), Err(InvalidChunk), "{length}");
        }
    }

    #[test]
    fn a_chunk_of_the_format_before_still_reads() {
        let mut bytes = vec![1, 3, 0, 0, 0];
        for field in [5, 900, 1_767_600_000_000_i64] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(7_i64.to_le_bytes());
        bytes.extend(9_i64.to_le_bytes());
        bytes.extend([1, 2, 0, 0, 0]);
        bytes.extend(b"{}");
        assert_eq!(Chunk::decode(Bytes::from(bytes.clone())), Ok(chunk(vec![event(7, 9, true, Some("{}"))])));
        for length in 0..bytes.len() {
            assert_eq!(Chunk::decode(Bytes::copy_from_slice(&bytes[..length])), Err(InvalidChunk), "{length}");
        }
    }

    #[test]
    fn an_unknown_format_is_refused_even_without_events() {
        let mut bytes = chunk(Vec::new()).encode().to_vec();
        bytes[0] = 3;
        assert_eq!(Chunk::decode(Bytes::from(bytes)), Err(InvalidChunk));
    }
}
