//! Customers who come back: each has a home store, favourites, a loyalty account and a way to pay.

use super::catalogue::{ProductIndex, any_product};
use super::random::{Purpose, Random};
use super::scenario::HOUR;

/// All customers. Their habits are computed when needed; only the time of their next visit is kept.
#[derive(Debug)]
pub(super) struct Customers {
    seed: u64,
    stores: u64,
    next_visit: Vec<i64>,
}

/// What one customer usually does.
#[derive(Debug)]
pub(super) struct Habits {
    pub favourites: [ProductIndex; 6],
    /// The card, for who pays by card.
    pub card: Option<u64>,
}

impl Customers {
    pub(super) fn new(seed: u64, stores: u32, count: u32) -> Self {
        let count = usize::try_from(count).expect("a customer count fits");
        Self { seed, stores: u64::from(stores.max(1)), next_visit: vec![i64::MIN; count] }
    }

    /// A customer of the store who has not been shopping for a while, if one is found at once.
    pub(super) fn visit(&mut self, store: u32, at: i64, random: &mut Random) -> Option<u32> {
        let count = u64::try_from(self.next_visit.len()).expect("a length fits in 64 bits");
        let regulars = count.saturating_sub(u64::from(store)).div_ceil(self.stores);
        if regulars == 0 {
            return None;
        }
        for _ in 0..3 {
            let customer = usize::try_from(u64::from(store) + self.stores * random.below(regulars)).ok()?;
            let next = self.next_visit.get_mut(customer)?;
            if *next <= at {
                *next = at + random.between(20 * HOUR, 120 * HOUR);
                return u32::try_from(customer).ok();
            }
        }
        None
    }

    pub(super) fn habits(&self, customer: u32) -> Habits {
        let mut random = Random::new(self.seed, Purpose::Customer, u64::from(customer));
        let mut favourites = [0; 6];
        favourites.fill_with(|| any_product(&mut random));
        let card = random.percent(70).then(|| random.bits());
        Habits { favourites, card }
    }
}
