//! What was found out lately, by key, the oldest forgotten first.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A map of bounded size.
#[derive(Debug)]
pub(super) struct Remembered<K, V> {
    values: HashMap<K, V>,
    order: VecDeque<K>,
    max: usize,
}

impl<K: Hash + Eq + Copy, V> Remembered<K, V> {
    pub(super) fn new(max: usize) -> Self {
        Self { values: HashMap::new(), order: VecDeque::new(), max }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.values.insert(key, value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_for_the_newest() {
        let mut remembered = Remembered::new(2);
        for key in [1, 2, 2, 3] {
            remembered.insert(key, key * 10);
        }
        assert_eq!([1, 2, 3].map(|key| remembered.get(&key).copied()), [None, Some(20), Some(30)]);
        assert_eq!(remembered.values.len(), remembered.order.len());
    }
}
