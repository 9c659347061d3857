//! Chunks: up to a thousand records of one partition as one blob.
//!
//! Layout: `codec u8 | crc32 u32 | raw length u32 | records u32 | body`, integers little-endian; the checksum covers
//! everything behind it. The body, LZ4-compressed where that helps, holds for each record: gap to the previous offset,
//! milliseconds since the previous record, key length + 1 (0 = no key), header tag, value length (all LEB128), then key,
//! headers and value. Header tag: 0 = none, 1 = the one content type that nearly all records have, n + 1 = n headers.

use bytes::Bytes;

use crate::bus::{Header, Record};
use crate::time::Timestamp;

/// Most records in a chunk.
pub(super) const RECORDS_MAX: u32 = 1000;
/// A chunk that has reached this size takes no more records, before compression.
pub(super) const BYTES_MAX: usize = 128 * 1024;

const PREFIX: usize = 13;
const CODEC_RAW: u8 = 1;
const CODEC_LZ4: u8 = 2;
/// Below this, compression saves less than a page and costs latency.
const COMPRESS_BYTES_MIN: usize = 2048;

const COMMON_NAME: &str = "content-type";
const COMMON_VALUE: &[u8] = b"application/cloudevents+json";

/// The bytes are not a chunk, or not the one that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a chunk of the log is damaged ({0})")]
pub(super) struct DamagedChunk(&'static str);

/// A chunk, ready to be stored.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) first_offset: i64,
    /// One past the last record; where it is larger, the offsets between were removed by compaction.
    pub(super) next_offset: i64,
    pub(super) first_time: i64,
    pub(super) last_time: i64,
    pub(super) data: Vec<u8>,
}

/// Collects records of one partition.
#[derive(Debug)]
pub(super) struct ChunkWriter {
    first_offset: i64,
    next_offset: i64,
    first_time: i64,
    last_time: i64,
    records: u32,
    body: Vec<u8>,
}

impl ChunkWriter {
    /// An empty chunk that begins at this offset and bus time (milliseconds).
    pub(super) const fn new(first_offset: i64, first_time: i64) -> Self {
        Self {
            first_offset,
            next_offset: first_offset,
            first_time,
            last_time: first_time,
            records: 0,
            body: Vec::new(),
        }
    }

    /// Adds a record. Neither offset nor time may be lower than those of the record before.
    pub(super) fn push(&mut self, offset: i64, time: i64, key: Option<&[u8]>, value: &[u8], headers: &[Header]) {
        debug_assert!(offset >= self.next_offset && time >= self.last_time);
        let body = &mut self.body;
        put(body, (offset - self.next_offset).unsigned_abs());
        put(body, (time - self.last_time).unsigned_abs());
        put(body, key.map_or(0, |key| key.len() as u64 + 1));
        let tag = match headers {
            [(name, value)] if name == COMMON_NAME && value == COMMON_VALUE => 1,
            [] => 0,
            several => several.len() as u64 + 1,
        };
        put(body, tag);
        put(body, value.len() as u64);
        body.extend_from_slice(key.unwrap_or_default());
        if tag > 1 {
            for (name, value) in headers {
                put(body, name.len() as u64);
                put(body, value.len() as u64);
                body.extend_from_slice(name.as_bytes());
                body.extend_from_slice(value);
            }
        }
        body.extend_from_slice(value);
        self.next_offset = offset + 1;
        self.last_time = time;
        self.records += 1;
    }

    /// True if the next record belongs into the next chunk.
    pub(super) const fn is_full(&self) -> bool {
        self.records >= RECORDS_MAX || self.body.len() >= BYTES_MAX
    }

    /// The chunk as it is stored.
    pub(super) fn finish(self) -> Chunk {
        let raw_length = u32::try_from(self.body.len()).expect("a record is limited to 16 MB and a chunk to one more");
        let mut data = vec![0; PREFIX];
        data[0] = CODEC_RAW;
        if self.body.len() >= COMPRESS_BYTES_MIN {
            data.resize(PREFIX + lz4_flex::block::get_maximum_output_size(self.body.len()), 0);
            let length = lz4_flex::block::compress_into(&self.body, &mut data[PREFIX..])
                .expect("the output has the size that LZ4 asks for");
            if length < self.body.len() / 8 * 7 {
                data[0] = CODEC_LZ4;
                data.truncate(PREFIX + length);
            } else {
                data.truncate(PREFIX);
            }
        }
        if data[0] == CODEC_RAW {
            data.extend_from_slice(&self.body);
        }
        data[5..9].copy_from_slice(&raw_length.to_le_bytes());
        data[9..13].copy_from_slice(&self.records.to_le_bytes());
        let checksum = crc32fast::hash(&data[5..]);
        data[1..5].copy_from_slice(&checksum.to_le_bytes());
        data.shrink_to_fit();
        Chunk {
            first_offset: self.first_offset,
            next_offset: self.next_offset,
            first_time: self.first_time,
            last_time: self.last_time,
            data,
        }
    }
}

/// Appends the records of a chunk at and above `from` to `out` and returns how many bytes their values and keys have.
/// Keys and values are slices of one buffer.
pub(super) fn read(
    first_offset: i64,
    first_time: i64,
    data: Vec<u8>,
    from: i64,
    out: &mut Vec<Record>,
) -> Result<usize, DamagedChunk> {
    if data.len() < PREFIX {
        return Err(DamagedChunk("too short"));
    }
    let word = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().expect("four bytes"));
    if word(1) != crc32fast::hash(&data[5..]) {
        return Err(DamagedChunk("wrong checksum"));
    }
    let (raw_length, records) = (word(5) as usize, word(9) as usize);
    let body = match data[0] {
        CODEC_RAW => Bytes::from(data).slice(PREFIX..),
        CODEC_LZ4 => lz4_flex::block::decompress(&data[PREFIX..], raw_length)
            .map(Bytes::from)
            .map_err(|_| DamagedChunk("cannot be decompressed"))?,
        _ => return Err(DamagedChunk("unknown codec")),
    };
    if body.len() != raw_length || records > raw_length {
        return Err(DamagedChunk("wrong length"));
    }
    let mut cursor = Cursor { body: &body, at: 0 };
    let (mut offset, mut time, mut bytes) = (first_offset, first_time, 0);
    out.reserve(records);
    for _ in 0..records {
        offset += cursor.integer()?;
        time += cursor.integer()?;
        let key_length = cursor.length()?;
        let tag = cursor.length()?;
        let value_length = cursor.length()?;
        let key = match key_length {
            0 => None,
            length => Some(cursor.take(length - 1)?),
        };
        let headers = match tag {
            0 => Vec::new(),
            1 => vec![(COMMON_NAME.to_owned(), Bytes::from_static(COMMON_VALUE))],
            several => cursor.headers(several - 1)?,
        };
        let value = cursor.take(value_length)?;
        if offset >= from {
            bytes += value.len() + key.as_ref().map_or(0, Bytes::len);
            out.push(Record { offset, timestamp: Timestamp::from_millis(time), key, value, headers });
        }
        offset += 1;
    }
    Ok(bytes)
}

/// LEB128.
fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

struct Cursor<'a> {
    body: &'a Bytes,
    at: usize,
}

impl Cursor<'_> {
    fn unsigned(&mut self) -> Result<u64, DamagedChunk> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.body.get(self.at).ok_or(DamagedChunk("breaks off"))?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DamagedChunk("endless integer"))
    }

    fn integer(&mut self) -> Result<i64, DamagedChunk> {
        i64::try_from(self.unsigned()?).map_err(|_| DamagedChunk("integer out of range"))
    }

    fn length(&mut self) -> Result<usize, DamagedChunk> {
        usize::try_from(self.unsigned()?).map_err(|_| DamagedChunk("length out of range"))
    }

    fn take(&mut self, length: usize) -> Result<Bytes, DamagedChunk> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.body.len());
        let end = end.ok_or(DamagedChunk("breaks off"))?;
        let slice = self.body.slice(self.at..end);
        self.at = end;
        Ok(slice)
    }

    fn headers(&mut self, count: usize) -> Result<Vec<Header>, DamagedChunk> {
        (0..count)
            .map(|_| {
                let (name_length, value_length) = (self.length()?, self.length()?);
                let name = String::from_utf8(self.take(name_length)?.to_vec());
                Ok((name.map_err(|_| DamagedChunk("header name"))?, self.take(value_length)?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Parts = (u8, u8, Option<Vec<u8>>, Vec<u8>, Vec<(String, Vec<u8>)>);

    fn record() -> impl Strategy<Value = Parts> {
        let headers = prop_oneof![
            Just(vec![(COMMON_NAME.to_owned(), COMMON_VALUE.to_vec())]),
            prop::collection::vec((".{0,8}", prop::collection::vec(any::<u8>(), 0..20)), 0..4)
        ];
        let value = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            (0..6000_usize).prop_map(|length| vec![b'x'; length])
        ];
        (any::<u8>(), any::<u8>(), prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), value, headers)
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(records in prop::collection::vec(record(), 0..40), skip in 0..60_i64) {
            let (mut offset, mut time) = (7, 1_000);
            let mut writer = ChunkWriter::new(offset, time);
            let mut expected = Vec::new();
            for (gap, pause, key, value, headers) in records {
                offset += i64::from(gap / 100);
                time += i64::from(pause);
                let headers: Vec<Header> = headers.into_iter().map(|(name, value)| (name, value.into())).collect();
                writer.push(offset, time, key.as_deref(), &value, &headers);
                let timestamp = Timestamp::from_millis(time);
                expected.push(Record { offset, timestamp, key: key.map(Bytes::from), value: value.into(), headers });
                offset += 1;
            }
            expected.retain(|record| record.offset >= 7 + skip);
            let chunk = writer.finish();
            let mut found = Vec::new();
            read(7, 1_000, chunk.data, 7 + skip, &mut found).unwrap();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn damage_is_noticed(position in 0..3000_usize, bit in 0..8_u32) {
            let mut writer = ChunkWriter::new(0, 0);
            for offset in 0..100 {
                writer.push(offset, 0, Some(b"T1"), format!("value {offset} {}", offset * 7919).as_bytes(), &[]);
            }
            let mut data = writer.finish().data;
            let position = position % data.len();
            data[position] ^= 1 << bit;
            prop_assert!(read(0, 0, data, 0, &mut Vec::new()).is_err());
        }
    }
}
