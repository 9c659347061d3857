//! The consumer: membership in the group says what is ours, the fetcher reads it.

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::fetcher::Fetcher;
use super::membership::{Membership, Processed};
use super::options::KafkaOptions;
use super::topics::TopicNames;
use crate::bus::{BusError, Consumer, ConsumerEvent, Fetched, TopicPartition};

/// One member of the group.
pub(super) struct KafkaConsumer {
    events: mpsc::UnboundedReceiver<Result<ConsumerEvent, BusError>>,
    fetcher: Fetcher,
    membership: Membership,
    /// What was on the bus before the partitions were assigned is news as well.
    just_assigned: bool,
}

impl KafkaConsumer {
    /// Joins the group.
    ///
    /// # Errors
    /// If a setting is not accepted.
    pub(super) fn join(options: &KafkaOptions, names: &TopicNames, processed: Processed) -> Result<Self, BusError> {
        let (tell, events) = mpsc::unbounded_channel();
        let fetcher = Fetcher::start(options, names.clone())?;
        let membership = Membership::join(options, names, processed, tell)?;
        Ok(Self { events, fetcher, membership, just_assigned: false })
    }

    async fn next_event(&mut self) -> Result<ConsumerEvent, BusError> {
        if std::mem::take(&mut self.just_assigned) {
            return Ok(ConsumerEvent::Ready);
        }
        tokio::select! {
            biased;
            event = self.events.recv() => {
                let event = event.unwrap_or_else(|| Err(BusError::Unavailable("left the consumer group".to_owned())))?;
                match &event {
                    ConsumerEvent::Assigned(_) => self.just_assigned = true,
                    ConsumerEvent::Revoked(partitions) => self.fetcher.forget(partitions),
                    ConsumerEvent::Ready => {}
                }
                Ok(event)
            }
            () = self.fetcher.news() => Ok(ConsumerEvent::Ready),
        }
    }
}

impl Consumer for KafkaConsumer {
    fn next(&mut self) -> BoxFuture<'_, Result<ConsumerEvent, BusError>> {
        Box::pin(self.next_event())
    }

    fn fetch(
        &mut self,
        from: TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Fetched, BusError>> {
        Box::pin(std::future::ready(self.fetcher.take(from, offset, bytes_max)))
    }

    fn leave(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Self { membership, fetcher, .. } = *self;
            // Both wait for their threads and the brokers.
            let left = tokio::task::spawn_blocking(move || {
                drop(membership);
                drop(fetcher);
            });
            let _ = left.await;
        })
    }
}
