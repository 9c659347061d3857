//! Events that were parsed where their till's partition is read, kept until other scopes have read the chunks that name
//! them.
//!
//! That takes a batch or two. Room is bounded in bytes; what finds none is not kept. Nothing rests on an event being
//! here: whoever misses it reads the log.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::Event;

/// An event at its place in a source partition.
#[derive(Debug, Clone)]
pub struct RecentEvent {
    /// Its offset.
    pub offset: i64,
    /// The event.
    pub event: Arc<Event>,
    /// How many rekeyed partitions will ask for it.
    pub readers: u8,
}

/// The events kept, by source partition and in offset order.
#[derive(Debug)]
pub struct RecentEvents {
    partitions: Vec<VecDeque<Kept>>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Kept {
    offset: i64,
    /// `None` once everybody has it.
    event: Option<Arc<Event>>,
    readers: u8,
}

/// Memory that an event takes, about.
fn bytes_of(event: &Event) -> usize {
    size_of::<Kept>() + size_of::<Event>() + event.raw.len()
}

impl RecentEvents {
    /// Nothing yet; room for so many bytes.
    #[must_use]
    pub fn new(partitions: u32, bytes_max: usize) -> Self {
        Self { partitions: (0..partitions).map(|_| VecDeque::new()).collect(), bytes: 0, bytes_max }
    }

    /// Keeps events of a partition, which are in offset order, as far as there is room.
    pub fn keep(&mut self, partition: u32, events: Vec<RecentEvent>) {
        if let Some(first) = events.first() {
            // Read once more, after a restart: what was kept from there on comes again.
            self.forget(partition, |kept| kept.partition_point(|kept| kept.offset < first.offset)..kept.len());
        }
        let kept = &mut self.partitions[partition as usize];
        for RecentEvent { offset, event, readers } in events {
            let bytes = bytes_of(&event);
            if self.bytes + bytes > self.bytes_max {
                break;
            }
            self.bytes += bytes;
            kept.push_back(Kept { offset, event: Some(event), readers });
        }
    }

    /// One reader asks for events of a partition, by offset in ascending order. Answers one by one; an event leaves with its
    /// last reader.
    pub fn take(
        &mut self,
        partition: u32,
        offsets: impl Iterator<Item = i64>,
        mut answer: impl FnMut(Option<Arc<Event>>),
    ) {
        let Some(kept) = self.partitions.get_mut(partition as usize) else {
            return offsets.for_each(|_| answer(None));
        };
        let mut at = None;
        for offset in offsets {
            let at = at.get_or_insert_with(|| kept.partition_point(|kept| kept.offset < offset));
            while kept.get(*at).is_some_and(|kept| kept.offset < offset) {
                *at += 1;
            }
            let Some(found) = kept.get_mut(*at).filter(|kept| kept.offset == offset) else {
                answer(None);
                continue;
            };
            found.readers = found.readers.saturating_sub(1);
            if found.readers == 0 {
                let event = found.event.take();
                self.bytes -= event.as_deref().map_or(0, bytes_of);
                answer(event);
            } else {
                answer(found.event.clone());
            }
        }
        while kept.front().is_some_and(|kept| kept.event.is_none()) {
            kept.pop_front();
        }
    }

    /// Forgets the events of a partition below `offset`, which nobody will ask for any more.
    pub fn forget_below(&mut self, partition: u32, offset: i64) {
        self.forget(partition, |kept| 0..kept.partition_point(|kept| kept.offset < offset));
    }

    fn forget(&mut self, partition: u32, which: impl Fn(&VecDeque<Kept>) -> std::ops::Range<usize>) {
        let kept = &mut self.partitions[partition as usize];
        let gone = kept.drain(which(kept));
        self.bytes -= gone.filter_map(|kept| Some(bytes_of(kept.event.as_deref()?))).sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn recent(offset: i64, readers: u8) -> RecentEvent {
        let text = format!(r#"{{"specversion":"1.0","id":"{offset}","source":"/x","type":"com.example.other"}}"#);
        RecentEvent { offset, event: Arc::new(Event::parse(&Bytes::from(text)).unwrap()), readers }
    }

    /// Which of these offsets one reader gets.
    fn take(events: &mut RecentEvents, partition: u32, offsets: &[i64]) -> Vec<i64> {
        let mut answers = Vec::new();
        events.take(partition, offsets.iter().copied(), |answer| answers.push(answer));
        assert_eq!(answers.len(), offsets.len());
        let found = offsets.iter().zip(answers).filter_map(|(&offset, event)| Some((offset, event?)));
        found
            .map(|(offset, event)| {
                assert_eq!(event.id.as_str(), offset.to_string());
                offset
            })
            .collect()
    }

    #[test]
    fn an_event_is_there_until_its_last_reader_has_it() {
        let mut events = RecentEvents::new(2, usize::MAX);
        events.keep(0, vec![recent(1, 1), recent(3, 2), recent(4, 1)]);
        events.keep(1, vec![recent(3, 1)]);
        assert_eq!(take(&mut events, 0, &[0, 1, 2, 3, 5]), [1, 3]);
        assert_eq!(take(&mut events, 0, &[1, 3, 4]), [3, 4]);
        assert_eq!(take(&mut events, 0, &[1, 3, 4]), [0; 0]);
        assert_eq!(take(&mut events, 1, &[3]), [3]);
        assert_eq!(take(&mut events, 7, &[3]), [0; 0], "there is no such partition");
        assert_eq!(events.bytes, 0);
        assert!(events.partitions.iter().all(VecDeque::is_empty));
    }

    #[test]
    fn what_is_read_once_more_takes_the_place_of_what_was_kept() {
        let mut events = RecentEvents::new(1, usize::MAX);
        events.keep(0, vec![recent(1, 1), recent(4, 1), recent(8, 1)]);
        events.keep(0, vec![recent(4, 1), recent(5, 1)]);
        assert_eq!(take(&mut events, 0, &[1, 4, 5, 8]), [1, 4, 5]);
        assert_eq!(events.bytes, 0);
    }

    #[test]
    fn what_finds_no_room_is_not_kept_and_room_comes_back() {
        let size = bytes_of(&recent(1, 1).event);
        let mut events = RecentEvents::new(2, 2 * size);
        events.keep(0, vec![recent(1, 1), recent(2, 1), recent(3, 1)]);
        events.keep(1, vec![recent(1, 1)]);
        assert_eq!((take(&mut events, 0, &[1, 3]), take(&mut events, 1, &[1])), (vec![1], Vec::new()));
        events.forget_below(0, 3);
        events.keep(1, vec![recent(7, 1), recent(8, 1)]);
        assert_eq!(take(&mut events, 1, &[7, 8]), [7, 8]);
    }
}
