//! What the third-party stub has received and processed, within a bound.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;
use serde_json::{Value, json};

use crate::time::Timestamp;

/// Conflicts that are kept.
const CONFLICTS_MAX: usize = 1000;

/// An order that came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceivedOrder {
    /// Its `Idempotency-Key`.
    pub key: String,
    /// Its id.
    pub id: String,
    /// SHA-256 of the body, in hexadecimal.
    pub body_sha256: String,
    /// How often it came.
    pub times: u64,
    /// When it came first.
    pub first_at: Timestamp,
    /// When it came last.
    pub last_at: Timestamp,
    /// When it was processed; absent if every attempt failed so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processed_at: Option<Timestamp>,
}

/// What a client must never do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Conflict {
    /// `other_body`: the key came with another body before; `other_key`: the order came under another key before.
    pub kind: &'static str,
    /// When.
    pub at: Timestamp,
    /// The key.
    pub key: String,
    /// The order's id.
    pub id: String,
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Receipt {
    /// It is this order's request number `times`.
    Taken {
        times: u64,
    },
    Conflict(Conflict),
}

#[derive(Debug)]
pub(super) struct Ledger {
    orders: HashMap<String, ReceivedOrder>,
    key_by_id: HashMap<String, String>,
    /// Keys in the order of their first arrival.
    arrivals: VecDeque<String>,
    remember: usize,
    conflicts: VecDeque<Conflict>,
    requests: u64,
    processed: u64,
    conflicts_total: u64,
    forgotten: u64,
}

impl Ledger {
    pub(super) fn new(remember: usize) -> Self {
        Self {
            orders: HashMap::new(),
            key_by_id: HashMap::new(),
            arrivals: VecDeque::new(),
            remember: remember.max(1),
            conflicts: VecDeque::new(),
            requests: 0,
            processed: 0,
            conflicts_total: 0,
            forgotten: 0,
        }
    }

    pub(super) fn receive(&mut self, key: &str, id: &str, body_sha256: &str, at: Timestamp) -> Receipt {
        self.requests += 1;
        if let Some(known) = self.orders.get_mut(key) {
            if known.body_sha256 != body_sha256 {
                return self.conflict("other_body", key, id, at);
            }
            known.times += 1;
            known.last_at = at;
            return Receipt::Taken { times: known.times };
        }
        if self.key_by_id.contains_key(id) {
            return self.conflict("other_key", key, id, at);
        }
        if self.arrivals.len() == self.remember {
            self.forget_oldest();
        }
        let order = ReceivedOrder {
            key: key.to_owned(),
            id: id.to_owned(),
            body_sha256: body_sha256.to_owned(),
            times: 1,
            first_at: at,
            last_at: at,
            processed_at: None,
        };
        self.key_by_id.insert(id.to_owned(), key.to_owned());
        self.arrivals.push_back(key.to_owned());
        self.orders.insert(key.to_owned(), order);
        Receipt::Taken { times: 1 }
    }

    fn conflict(&mut self, kind: &'static str, key: &str, id: &str, at: Timestamp) -> Receipt {
        let conflict = Conflict { kind, at, key: key.to_owned(), id: id.to_owned() };
        if self.conflicts.len() == CONFLICTS_MAX {
            self.conflicts.pop_front();
        }
        self.conflicts.push_back(conflict.clone());
        self.conflicts_total += 1;
        Receipt::Conflict(conflict)
    }

    fn forget_oldest(&mut self) {
        if let Some(order) = self.arrivals.pop_front().and_then(|key| self.orders.remove(&key)) {
            self.key_by_id.remove(&order.id);
            self.forgotten += 1;
        }
    }

    /// When the order under this key was processed, and whether that was before now.
    pub(super) fn process(&mut self, key: &str, now: Timestamp) -> (Timestamp, bool) {
        let Some(order) = self.orders.get_mut(key) else { return (now, false) };
        if let Some(at) = order.processed_at {
            return (at, true);
        }
        order.processed_at = Some(now);
        self.processed += 1;
        (now, false)
    }

    pub(super) fn processed_at(&self, id: &str) -> Option<Timestamp> {
        self.orders.get(self.key_by_id.get(id)?)?.processed_at
    }

    pub(super) fn received(&self) -> impl Iterator<Item = &ReceivedOrder> {
        self.arrivals.iter().filter_map(|key| self.orders.get(key))
    }

    pub(super) fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        self.conflicts.iter()
    }

    /// As `GET /received` answers it.
    pub(super) fn summary(&self) -> Value {
        json!({
            "items": self.received().collect::<Vec<_>>(),
            "total": self.requests,
            "processed": self.processed,
            "forgotten": self.forgotten,
            "conflicts": self.conflicts,
            "conflictsTotal": self.conflicts_total,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_orders_are_forgotten_beyond_the_bound() {
        let mut ledger = Ledger::new(2);
        for id in ["o1", "o2", "o3"] {
            ledger.receive(id, id, "hash", Timestamp::MIN);
            ledger.process(id, Timestamp::MIN);
        }
        assert_eq!(ledger.received().map(|order| order.id.as_str()).collect::<Vec<_>>(), ["o2", "o3"]);
        assert_eq!((ledger.processed_at("o1"), ledger.processed_at("o3")), (None, Some(Timestamp::MIN)));
        assert_eq!(
            (ledger.summary()["forgotten"].as_u64(), ledger.summary()["processed"].as_u64()),
            (Some(1), Some(3))
        );
    }
}
