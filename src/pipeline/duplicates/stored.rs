//! A window as bytes.
//!
//! Layout, integers little-endian: `highest u64` with the format in its top byte, `time i64 | claimed time i64 | sequence u64
//! and sighting u64 of a jump, 0 without one | last actor u64 | slots u16 | slots u64 each | recent u64 each`. Format 1 has no last actor. The format before had no number:
//! `highest u64 | claimed time i64 | slots u16 | slots u32 each | recent u64 each`, where slots and recent were hashes of ids.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::sighting::Sighting;
use super::{Jump, Window};
use crate::time::Timestamp;

/// Sequences are at most 2^53, so the top byte of the format before was 0.
const FORMAT: u64 = 2;
const FORMAT_WITHOUT_ACTOR: u64 = 1;
const FORMAT_SHIFT: u32 = 56;
/// Bytes before the slots.
const HEAD_BYTES: usize = 6 * 8 + 2;

impl Window {
    /// The window as bytes for the store.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES + (self.slots.len() + self.recent.len()) * 8);
        bytes.put_u64_le(self.highest | (FORMAT << FORMAT_SHIFT));
        bytes.put_i64_le(self.time.as_millis());
        bytes.put_i64_le(self.claimed_time.as_millis());
        let (sequence, seen) = self.jump.map_or((0, 0), |jump| (jump.sequence, jump.seen.bits()));
        bytes.put_u64_le(sequence);
        bytes.put_u64_le(seen);
        bytes.put_u64_le(self.actor);
        bytes.put_u16_le(u16::try_from(self.slots.len()).expect("at most 1024"));
        for sighting in self.slots.iter().chain(&self.recent) {
            bytes.put_u64_le(*sighting);
        }
        bytes.freeze()
    }

    /// Reads what [`Window::encode`] wrote, in this version or the one before; `None` if these are other bytes. The version
    /// before kept no time that is bounded by the bus: `clock` is the partition's clock, which no such time is beyond.
    #[must_use]
    pub fn decode(mut bytes: &[u8], clock: Timestamp) -> Option<Self> {
        let highest = bytes.try_get_u64_le().ok()?;
        let format = highest >> FORMAT_SHIFT;
        match format {
            0 => decode_ids(highest, bytes, clock),
            FORMAT | FORMAT_WITHOUT_ACTOR => {
                decode_sightings(highest & !(format << FORMAT_SHIFT), bytes, format == FORMAT)
            }
            _ => None,
        }
    }
}

fn decode_sightings(highest: u64, mut bytes: &[u8], with_actor: bool) -> Option<Window> {
    let time = Timestamp::from_millis(bytes.try_get_i64_le().ok()?);
    let claimed_time = Timestamp::from_millis(bytes.try_get_i64_le().ok()?);
    let sequence = bytes.try_get_u64_le().ok()?;
    let seen = Sighting::from_bits(bytes.try_get_u64_le().ok()?);
    let jump = seen.map(|seen| Jump { sequence, seen });
    let actor = if with_actor { bytes.try_get_u64_le().ok()? } else { 0 };
    let count = usize::from(bytes.try_get_u16_le().ok()?);
    if bytes.len() < count * 8 || !bytes.len().is_multiple_of(8) {
        return None;
    }
    let slots = (0..count).map(|_| bytes.get_u64_le()).collect();
    let recent = (0..bytes.len() / 8).map(|_| bytes.get_u64_le()).collect();
    Some(Window { highest, time, claimed_time, slots, recent, jump, actor, ..Window::default() })
}

fn decode_ids(highest: u64, mut bytes: &[u8], clock: Timestamp) -> Option<Window> {
    let claimed_time = Timestamp::from_millis(bytes.try_get_i64_le().ok()?);
    let count = usize::from(bytes.try_get_u16_le().ok()?);
    if bytes.len() < count * 4 || !(bytes.len() - count * 4).is_multiple_of(8) {
        return None;
    }
    let slots: VecDeque<u64> = (0..count).map(|_| Sighting::of_short_id(bytes.get_u32_le()).bits()).collect();
    let recent = (0..bytes.len() / 8).map(|_| Sighting::of_id(bytes.get_u64_le()).bits()).collect();
    Some(Window { highest, time: claimed_time.min(clock), claimed_time, slots, recent, ..Window::default() })
}
