//! An event as a window remembers it: 40 bits of its id and 24 of its content, and a quick way to say "never seen".

/// Bits of an id that are kept, and how many of them windows of earlier versions kept in a slot.
const ID_BITS: u32 = 40;
const ID_MASK: u64 = (1 << ID_BITS) - 1;
const SHORT_ID_MASK: u64 = 0xffff_ffff;
/// The content is not known, nor are the upper bits of the id: from a slot of an earlier version.
const SHORT: u64 = 0;
/// The content is not known: from the recent ids of an earlier version.
const UNKNOWN: u64 = 1;
/// Smallest number that stands for a content.
const CONTENT_MIN: u64 = 2;
const CONTENTS: u64 = (1 << (u64::BITS - ID_BITS)) - CONTENT_MIN;

/// An event that was seen. Never 0, which marks an empty slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sighting(u64);

/// FNV-1a: stored hashes must stay the same across versions of this program and of its libraries.
pub(super) fn hash_id(id: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in id.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^ (hash >> 32)
}

impl Sighting {
    pub(super) fn new(id: &str, content: u64) -> Self {
        Self((hash_id(id) & ID_MASK) | ((content % CONTENTS + CONTENT_MIN) << ID_BITS))
    }

    /// What a slot of an earlier version held: the low half of the id's hash, never 0.
    pub(super) fn of_short_id(hash: u32) -> Self {
        Self(u64::from(hash) | (SHORT << ID_BITS))
    }

    /// What the recent ids of an earlier version held: the id's hash.
    pub(super) const fn of_id(hash: u64) -> Self {
        Self((hash & ID_MASK) | (UNKNOWN << ID_BITS))
    }

    /// As it is stored.
    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    /// Reads [`Sighting::bits`]; `None` for an empty slot.
    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        (bits != 0).then_some(Self(bits))
    }

    const fn content(self) -> u64 {
        self.0 >> ID_BITS
    }

    /// True if all bits of the id are known, so that it can be told from any other id, not only from one in the same slot.
    pub(super) const fn is_whole(self) -> bool {
        self.content() != SHORT
    }

    pub(super) const fn has_id_of(self, other: Self) -> bool {
        let mask = if self.is_whole() && other.is_whole() { ID_MASK } else { SHORT_ID_MASK };
        (self.0 ^ other.0) & mask == 0
    }

    /// True if the content is the same, or is not known of one of them.
    pub(super) const fn has_content_of(self, other: Self) -> bool {
        self.content() < CONTENT_MIN || other.content() < CONTENT_MIN || self.content() == other.content()
    }
}

/// Bits of the filter: with the sightings of two windows, one of five unknown ids has its bit set.
const FILTER_BITS: u64 = 8192;
/// A filter is made anew once so many sightings were added.
const FILTER_ADDED_MAX: usize = 2048;
/// As long as there are fewer sightings, looking at each is as quick.
const FILTER_FROM: usize = 64;

/// Says of most ids that were not seen that they were not, without looking at all that were. Never stored: it is made from
/// the sightings when it is needed.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    bits: Option<Box<[u64; (FILTER_BITS / 64) as usize]>>,
    added: usize,
}

impl PartialEq for Filter {
    /// What it says follows from the sightings that it was made of.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Filter {}

impl Filter {
    /// False if no sighting has this id. `all` are the present sightings, `count` of them at most.
    pub(super) fn may_hold(&mut self, id: Sighting, count: usize, all: impl Iterator<Item = Sighting>) -> bool {
        if count < FILTER_FROM {
            return true;
        }
        if self.bits.is_none() || self.added > FILTER_ADDED_MAX {
            self.bits = Some(Box::new([0; (FILTER_BITS / 64) as usize]));
            self.added = 0;
            all.for_each(|sighting| self.add(sighting));
        }
        let (word, bit) = Self::place(id);
        self.bits.as_ref().is_none_or(|bits| bits[word] & bit != 0)
    }

    pub(super) fn add(&mut self, sighting: Sighting) {
        if let Some(bits) = &mut self.bits {
            let (word, bit) = Self::place(sighting);
            bits[word] |= bit;
            self.added += 1;
        }
    }

    fn place(sighting: Sighting) -> (usize, u64) {
        let index = sighting.bits() % FILTER_BITS;
        (usize::try_from(index / 64).expect("a small number"), 1 << (index % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored windows hold these numbers.
    #[test]
    fn a_sighting_stays_the_same_for_ever() {
        assert_eq!(Sighting::new("T1-1", 0x0123_4567_89ab_cdef).bits(), 3_936_588_054_346_200_266);
    }

    #[test]
    fn what_an_earlier_version_has_not_kept_counts_as_equal() {
        let seen = Sighting::new("a", 5);
        for older in
            [Sighting::of_id(hash_id("a")), Sighting::of_short_id(u32::try_from(hash_id("a") & 0xffff_ffff).unwrap())]
        {
            assert!(older.has_id_of(seen) && older.has_content_of(seen));
            assert!(!older.has_id_of(Sighting::new("b", 5)));
        }
        assert!(seen.has_id_of(Sighting::new("a", 6)) && !seen.has_content_of(Sighting::new("a", 6)));
    }

    #[test]
    fn a_filter_knows_every_id_that_was_added() {
        let sightings: Vec<_> = (0..1024).map(|number| Sighting::new(&format!("id-{number}"), number)).collect();
        let mut filter = Filter::default();
        for sighting in &sightings {
            assert!(filter.may_hold(*sighting, sightings.len(), sightings.iter().copied()));
        }
        let unknown = (0..1000).map(|number| Sighting::new(&format!("other-{number}"), 0));
        let taken = unknown.filter(|id| filter.may_hold(*id, sightings.len(), sightings.iter().copied())).count();
        assert!(taken < 250, "{taken} of 1000 unknown ids were taken for known");
    }
}
