//! The consumer of the embedded bus: one process, so it owns every partition.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use super::shared::{Shared, closed};
use crate::bus::{BusError, Consumer, ConsumerEvent, Fetched, Topic, TopicPartition};

/// The next piece of a partition, asked for before anybody needs it.
#[derive(Debug)]
struct Prefetch {
    offset: i64,
    result: oneshot::Receiver<Result<Fetched, BusError>>,
}

/// The one current member.
#[derive(Debug)]
pub(super) struct EmbeddedConsumer {
    shared: Arc<Shared>,
    generation: u64,
    news: watch::Receiver<u64>,
    /// What `next` has said so far.
    said: Said,
    prefetched: HashMap<TopicPartition, Prefetch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Assigned,
    Ready,
}

impl EmbeddedConsumer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let generation = shared.next_generation();
        let news = shared.subscribe();
        Self { shared, generation, news, said: Said::Nothing, prefetched: HashMap::new() }
    }

    fn check(&self) -> Result<(), BusError> {
        if self.generation == self.shared.generation() {
            Ok(())
        } else {
            Err(BusError::Fenced("a newer consumer of the embedded bus was started".to_owned()))
        }
    }

    async fn next_event(&mut self) -> Result<ConsumerEvent, BusError> {
        self.check()?;
        match self.said {
            Said::Nothing => {
                self.said = Said::Assigned;
                let partitions = self.shared.slots().partitions(Topic::Events);
                Ok(ConsumerEvent::Assigned((0..partitions).collect()))
            }
            // What was appended before this consumer existed is news to it as well.
            Said::Assigned => {
                self.said = Said::Ready;
                Ok(ConsumerEvent::Ready)
            }
            Said::Ready => {
                self.news.changed().await.map_err(|_| closed())?;
                self.check()?;
                Ok(ConsumerEvent::Ready)
            }
        }
    }

    async fn fetch_from(&mut self, from: TopicPartition, offset: i64, bytes_max: usize) -> Result<Fetched, BusError> {
        self.check()?;
        let slot = self.shared.slots().of(from)?;
        if offset == self.shared.bounds(slot).high {
            // Most partitions have nothing new at a time; no reader thread need be asked for that.
            return Ok(Fetched { records: Vec::new(), next_offset: offset, at_end: true });
        }
        let prefetched = self.prefetched.remove(&from);
        if let Some(fetched) = self.shared.read_tail(slot, offset, bytes_max) {
            return Ok(fetched);
        }
        let prefetched = prefetched.filter(|prefetch| prefetch.offset == offset);
        let mut fetched = match prefetched {
            Some(prefetch) => prefetch.result.await.map_err(|_| closed())??,
            None => self.shared.read(from, offset, bytes_max).await?,
        };
        // A prefetched answer may be older than the last append, whose `Ready` has been taken already.
        fetched.at_end = fetched.next_offset >= self.shared.bounds(slot).high;
        if !fetched.at_end {
            let (index, next) = (self.shared.slots().index(slot), fetched.next_offset);
            let (done, result) = oneshot::channel();
            self.shared.post(index, move |reader| {
                let _ = done.send(reader.read(slot, next, bytes_max));
            })?;
            self.prefetched.insert(from, Prefetch { offset: next, result });
        }
        Ok(fetched)
    }
}

impl Consumer for EmbeddedConsumer {
    fn next(&mut self) -> BoxFuture<'_, Result<ConsumerEvent, BusError>> {
        Box::pin(self.next_event())
    }

    fn fetch(
        &mut self,
        from: TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Fetched, BusError>> {
        Box::pin(self.fetch_from(from, offset, bytes_max))
    }

    fn leave(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}
