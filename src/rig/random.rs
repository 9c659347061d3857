//! Seeded randomness that gives the same numbers on every machine: `ChaCha8` and integers, no floating-point functions.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub(super) struct Random(ChaCha8Rng);

/// What a stream is for; each purpose and number has a stream of its own, so that one never disturbs another.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Terminal,
    DayPlan,
    Customer,
    Faults,
    Orders,
    Money,
}

/// Quantiles of the exponential distribution with mean 1000.
const EXPONENTIAL: [u64; 64] = [
    8, 24, 40, 56, 73, 90, 107, 125, 143, 161, 179, 198, 217, 237, 257, 277, 298, 319, 341, 363, 386, 409, 433, 458,
    483, 508, 535, 562, 589, 618, 647, 678, 709, 741, 774, 809, 845, 882, 920, 960, 1002, 1045, 1091, 1138, 1188, 1241,
    1297, 1356, 1418, 1485, 1556, 1633, 1717, 1808, 1908, 2019, 2144, 2287, 2454, 2655, 2906, 3243, 3753, 4852,
];

impl Random {
    /// The stream of that purpose and number under a seed.
    pub(super) fn new(seed: u64, purpose: Purpose, number: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8] = purpose as u8;
        key[16..24].copy_from_slice(&number.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A number below `bound`, which is above 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(bound > 0, "an empty range has no numbers");
        u64::try_from((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64).expect("below a u64")
    }

    /// An index of a list of `length` elements, which is not empty.
    pub(super) fn index(&mut self, length: usize) -> usize {
        let index = self.below(u64::try_from(length).expect("lengths fit in 64 bits"));
        usize::try_from(index).expect("below a usize")
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below(high.abs_diff(low) + 1).cast_signed()
    }

    /// One element of a list that is not empty.
    pub(super) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.index(list.len())]
    }

    /// True `parts` times in a million.
    pub(super) fn in_million(&mut self, parts: u32) -> bool {
        self.below(1_000_000) < u64::from(parts)
    }

    /// True `percent` times in a hundred.
    pub(super) fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < u64::from(percent)
    }

    /// Exponentially distributed around `mean`, in 64 steps.
    pub(super) fn exponential(&mut self, mean: i64) -> i64 {
        mean * self.pick(&EXPONENTIAL).cast_signed() / 1000
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Shuffles a list.
    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let other = self.index(last + 1);
            list.swap(last, other);
        }
    }
}

/// A fraction as parts in a million.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=1 before")]
pub(super) fn parts_in_million(fraction: f64) -> u32 {
    (fraction.clamp(0.0, 1.0) * 1_000_000.0).round() as u32
}
