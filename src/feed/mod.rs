//! The live feed: a ring of what was committed last, read by websockets and `tail`.
//!
//! Shards publish after each commit, which costs them a lock and a few moves and never waits for a reader. Readers keep
//! a place of their own in the ring; whoever falls behind it is told how much was missed. Nothing uncommitted ever gets
//! here, and nothing depends on it being read.

mod filter;
mod item;
pub mod remote;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

pub use filter::{Filter, InvalidGlob, TypeGlob};
pub use item::{FeedBody, FeedItem, FeedKind};

/// An item with its place in the feed.
#[derive(Debug, Clone)]
pub struct Numbered {
    /// Counts from 1 for each feed id.
    pub seq: u64,
    /// What was committed.
    pub item: FeedItem,
}

/// The places in a feed that can be read: `oldest..=newest`. An empty feed has `newest` one below `oldest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First place that is still there.
    pub oldest: u64,
    /// Last place.
    pub newest: u64,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With what comes from now on.
    Now,
    /// After this place.
    Seq(u64),
    /// After a place of another feed, of which nothing is known here: with the oldest item, after a gap.
    Unknown,
}

/// What a reader gets.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// So many items were overwritten before they could be looked at; 0 if nobody can tell how many.
    Gap(u64),
    /// Items that pass the filter, in order; never empty.
    Items(Vec<Numbered>),
}

#[derive(Debug)]
struct Ring {
    items: VecDeque<FeedItem>,
    /// Place of the next item.
    next_seq: u64,
}

impl Ring {
    fn oldest(&self) -> u64 {
        self.next_seq - self.items.len() as u64
    }
}

#[derive(Debug)]
struct Shared {
    id: String,
    capacity: usize,
    /// Only items of these kinds are kept; all where empty.
    kinds: Vec<FeedKind>,
    // Held for moves only, never across an await, so a std mutex.
    ring: Mutex<Ring>,
    next_seq: watch::Sender<u64>,
    /// Counts the subscriptions.
    readers: Arc<()>,
    /// Items that readers missed.
    dropped: AtomicU64,
}

/// The live feed of this process. Clones share it.
#[derive(Debug, Clone)]
pub struct Feed(Arc<Shared>);

impl Feed {
    /// An empty feed that keeps the last `capacity` items (at least 1).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self::of_kinds(capacity, Vec::new())
    }

    /// As [`Feed::new`], but what is not of these kinds is forgotten at once.
    #[must_use]
    pub fn of_kinds(capacity: usize, kinds: Vec<FeedKind>) -> Self {
        let capacity = capacity.max(1);
        Self(Arc::new(Shared {
            id: format!("{:016x}", rand::random::<u64>()),
            capacity,
            kinds,
            ring: Mutex::new(Ring { items: VecDeque::with_capacity(capacity), next_seq: 1 }),
            next_seq: watch::Sender::new(1),
            readers: Arc::new(()),
            dropped: AtomicU64::new(0),
        }))
    }

    /// A text that is another one for every start of the process: places of one feed mean nothing in another.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The places that can be read now.
    #[must_use]
    pub fn extent(&self) -> Extent {
        let ring = self.ring();
        Extent { oldest: ring.oldest(), newest: ring.next_seq - 1 }
    }

    /// How many read along.
    #[must_use]
    pub fn readers(&self) -> usize {
        Arc::strong_count(&self.0.readers) - 1
    }

    /// How many items readers have missed because they fell behind the ring, all readers together.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Appends items.
    pub fn publish(&self, mut items: Vec<FeedItem>) {
        if !self.0.kinds.is_empty() {
            items.retain(|item| self.0.kinds.contains(&item.kind));
        }
        let count = items.len();
        let skipped = count.saturating_sub(self.0.capacity);
        self.append(count, items.into_iter().skip(skipped));
    }

    /// Appends `count` items, of which only those are built that the ring can hold: `build` gets indexes below `count`.
    pub fn publish_with(&self, count: usize, build: impl FnMut(usize) -> FeedItem) {
        let skipped = count.saturating_sub(self.0.capacity);
        // Built before the lock is taken: readers must not wait for it.
        let items: Vec<_> = (skipped..count).map(build).collect();
        self.append(count, items.into_iter());
    }

    /// Counts items that were not even built: whoever asks for them later is told how many they were.
    pub fn skip(&self, count: usize) {
        if count == 0 {
            return;
        }
        let (forgotten, next_seq) = {
            let mut ring = self.ring();
            ring.next_seq += count as u64;
            (std::mem::take(&mut ring.items), ring.next_seq)
        };
        drop(forgotten);
        self.0.next_seq.send_replace(next_seq);
    }

    fn append(&self, count: usize, kept: impl ExactSizeIterator<Item = FeedItem>) {
        if count == 0 {
            return;
        }
        // Dropping an event gives memory back, which is not done under the lock.
        let mut overwritten = Vec::with_capacity(kept.len());
        let next_seq = {
            let mut ring = self.ring();
            for item in kept {
                if ring.items.len() == self.0.capacity {
                    overwritten.extend(ring.items.pop_front());
                }
                ring.items.push_back(item);
            }
            ring.next_seq += count as u64;
            ring.next_seq
        };
        // Two shards may get here in the other order than at the lock; the number only grows.
        self.0.next_seq.send_if_modified(|known| {
            let grows = next_seq > *known;
            *known = next_seq.max(*known);
            grows
        });
    }

    /// Begins to read.
    #[must_use]
    pub fn subscribe(&self, filter: Filter, since: Since) -> Subscription {
        let Extent { oldest, newest } = self.extent();
        let (next, gap) = match since {
            Since::Now => (newest + 1, None),
            Since::Seq(seq) if seq <= newest => (seq + 1, None),
            Since::Seq(_) | Since::Unknown => (oldest, Some(0)),
        };
        Subscription {
            changes: self.0.next_seq.subscribe(),
            _reader: Arc::clone(&self.0.readers),
            feed: self.clone(),
            filter,
            next,
            gap,
        }
    }

    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader's place in the feed.
#[derive(Debug)]
pub struct Subscription {
    feed: Feed,
    filter: Filter,
    next: u64,
    gap: Option<u64>,
    changes: watch::Receiver<u64>,
    _reader: Arc<()>,
}

impl Subscription {
    /// Waits until there is something that was not looked at yet. Cancel-safe.
    pub async fn ready(&mut self) {
        if self.gap.is_some() {
            return;
        }
        let next = self.next;
        // The sender lives in `self.feed`, so this cannot fail.
        let _ = self.changes.wait_for(|&newest| newest > next).await;
    }

    /// True if there is nothing that was not looked at yet.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.gap.is_none() && *self.changes.borrow() <= self.next
    }

    /// Looks at up to `items_max` items; `None` if none of them passes the filter, or there are none.
    pub fn take(&mut self, items_max: usize) -> Option<Delivery> {
        self.take_bytes(items_max, usize::MAX)
    }

    /// As [`Subscription::take`], and looks at no more items once those that pass have `bytes_max` bytes.
    pub fn take_bytes(&mut self, items_max: usize, bytes_max: usize) -> Option<Delivery> {
        if let Some(dropped) = self.gap.take() {
            return Some(Delivery::Gap(dropped));
        }
        let looked_at: Vec<Numbered> = {
            let ring = self.feed.ring();
            let oldest = ring.oldest();
            if self.next < oldest {
                let dropped = oldest - self.next;
                self.next = oldest;
                self.feed.0.dropped.fetch_add(dropped, Ordering::Relaxed);
                return Some(Delivery::Gap(dropped));
            }
            let start = usize::try_from(self.next - oldest).unwrap_or(usize::MAX).min(ring.items.len());
            let end = start.saturating_add(items_max).min(ring.items.len());
            ring.items
                .range(start..end)
                .zip(self.next..)
                .map(|(item, seq)| Numbered { seq, item: item.clone() })
                .collect()
        };
        let (mut items, mut bytes) = (Vec::new(), 0);
        for numbered in looked_at {
            self.next = numbered.seq + 1;
            if self.filter.passes(&numbered.item) {
                bytes += numbered.item.json().len();
                items.push(numbered);
                if bytes >= bytes_max {
                    break;
                }
            }
        }
        (!items.is_empty()).then_some(Delivery::Items(items))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::time::Timestamp;

    fn item(number: usize) -> FeedItem {
        FeedItem {
            kind: FeedKind::Log,
            at: Timestamp::MIN,
            body: FeedBody::Json {
                type_name: if number.is_multiple_of(2) { "even".into() } else { "odd".into() },
                terminal: None,
                plugin: None,
                json: Bytes::from(number.to_string()),
            },
        }
    }

    fn seqs(delivery: Option<Delivery>) -> Vec<u64> {
        match delivery {
            Some(Delivery::Items(items)) => items.iter().map(|numbered| numbered.seq).collect(),
            other => panic!("expected items, got {other:?}"),
        }
    }

    #[test]
    fn a_reader_gets_what_comes_after_it_began() {
        let feed = Feed::new(10);
        feed.publish(vec![item(0)]);
        let mut reader = feed.subscribe(Filter::default(), Since::Now);
        assert!(reader.take(10).is_none());
        feed.publish(vec![item(1), item(2)]);
        assert_eq!(seqs(reader.take(10)), [2, 3]);
    }

    #[test]
    fn what_is_taken_is_bounded_in_bytes_and_at_least_one_item() {
        let feed = Feed::new(10);
        let mut reader = feed.subscribe(Filter::default(), Since::Now);
        assert!(reader.is_at_end());
        feed.publish((10..15).map(item).collect());
        assert_eq!(seqs(reader.take_bytes(10, 0)), [1]);
        assert_eq!(seqs(reader.take_bytes(10, 3)), [2, 3], "of two bytes each");
        assert!(!reader.is_at_end());
        assert_eq!(seqs(reader.take_bytes(10, 100)), [4, 5]);
        assert!(reader.is_at_end());
    }

    #[test]
    fn a_reader_that_comes_back_goes_on_where_it_was() {
        let feed = Feed::new(10);
        feed.publish((0..5).map(item).collect());
        let mut reader = feed.subscribe(Filter::default(), Since::Seq(3));
        assert_eq!(seqs(reader.take(1)), [4]);
        assert_eq!(seqs(reader.take(10)), [5]);
        assert!(feed.subscribe(Filter::default(), Since::Seq(5)).take(10).is_none());
    }

    #[test]
    fn who_falls_behind_the_ring_is_told_how_much_was_missed() {
        let feed = Feed::new(3);
        let mut reader = feed.subscribe(Filter::default(), Since::Now);
        feed.publish((0..5).map(item).collect());
        assert!(matches!(reader.take(10), Some(Delivery::Gap(2))));
        assert_eq!(seqs(reader.take(10)), [3, 4, 5]);
        assert_eq!(feed.dropped(), 2);
    }

    #[test]
    fn a_place_of_another_feed_gives_a_gap_and_all_that_is_there() {
        let feed = Feed::new(3);
        feed.publish(vec![item(0)]);
        for since in [Since::Seq(2), Since::Unknown] {
            let mut reader = feed.subscribe(Filter::default(), since);
            assert!(matches!(reader.take(10), Some(Delivery::Gap(0))));
            assert_eq!(seqs(reader.take(10)), [1]);
        }
    }

    #[test]
    fn items_that_would_be_overwritten_at_once_are_counted_but_not_built() {
        let feed = Feed::new(3);
        let mut built = Vec::new();
        feed.publish_with(1000, |index| {
            built.push(index);
            item(index)
        });
        assert_eq!(built, [997, 998, 999]);
        assert_eq!(feed.extent(), Extent { oldest: 998, newest: 1000 });
    }

    #[test]
    fn items_that_were_skipped_are_a_gap_for_who_comes_back() {
        let feed = Feed::new(3);
        feed.publish(vec![item(0), item(1)]);
        feed.skip(5);
        feed.publish(vec![item(7)]);
        let mut reader = feed.subscribe(Filter::default(), Since::Seq(1));
        assert!(matches!(reader.take(10), Some(Delivery::Gap(6))));
        assert_eq!(seqs(reader.take(10)), [8]);
    }

    #[tokio::test]
    async fn a_waiting_reader_wakes_up_and_a_filter_hides_the_rest() {
        let feed = Feed::new(10);
        let filter = Filter { types: vec![TypeGlob::new("od*").unwrap()], ..Filter::default() };
        let mut reader = feed.subscribe(filter, Since::Now);
        let publisher = feed.clone();
        let (ready, ()) = tokio::join!(
            async {
                reader.ready().await;
                reader.take(10)
            },
            async { publisher.publish(vec![item(0), item(1)]) }
        );
        assert_eq!(seqs(ready), [2]);
        assert_eq!(feed.readers(), 1);
        drop(reader);
        assert_eq!(feed.readers(), 0);
    }

    proptest! {
        #[test]
        fn every_item_is_delivered_or_counted_as_missed(
            capacity in 1_usize..20,
            batches in proptest::collection::vec((0_usize..30, 0_usize..30), 1..20),
        ) {
            let feed = Feed::new(capacity);
            let mut reader = feed.subscribe(Filter::default(), Since::Now);
            let (mut published, mut seen) = (0_u64, 0_u64);
            for (count, take) in batches {
                feed.publish_with(count, item);
                published += count as u64;
                match reader.take(take) {
                    Some(Delivery::Gap(dropped)) => seen += dropped,
                    Some(Delivery::Items(items)) => {
                        prop_assert_eq!(items[0].seq, seen + 1);
                        seen += items.len() as u64;
                    }
                    None => {}
                }
            }
            while let Some(delivery) = reader.take(7) {
                seen += match delivery { Delivery::Gap(dropped) => dropped, Delivery::Items(items) => items.len() as u64 };
            }
            prop_assert_eq!(seen, published);
        }
    }
}
