//! The consumer: membership in the group says what is ours, the fetcher reads it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::fetcher::Fetcher;
use super::membership::{Membership, Processed};
use super::options::KafkaOptions;
use super::topics::TopicNames;
use crate::bus::{BusError, Consumer, ConsumerEvent, Fetched, TopicPartition};

/// How long leaving the group may take; the brokers notice by themselves what they were not told.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// One member of the group.
pub(super) struct KafkaConsumer {
    events: mpsc::UnboundedReceiver<Result<ConsumerEvent, BusError>>,
    /// Both are there until the group is left.
    fetcher: Option<Fetcher>,
    membership: Option<Membership>,
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
        Ok(Self { events, fetcher: Some(fetcher), membership: Some(membership), just_assigned: false })
    }

    fn fetcher(&self) -> &Fetcher {
        self.fetcher.as_ref().expect("there until the group is left")
    }

    /// Leaves the group. Both parts wait for their threads and the brokers, so they do it on a thread of their own.
    fn release(&mut self) -> oneshot::Receiver<()> {
        let (tell, left) = oneshot::channel();
        let parts = (self.membership.take(), self.fetcher.take());
        let release = move || {
            drop(parts);
            let _ = tell.send(());
        };
        if let Err(error) = std::thread::Builder::new().name("kafka-leave".to_owned()).spawn(release) {
            tracing::warn!(%error, "no thread for leaving the consumer group; it was left without waiting for one");
        }
        left
    }

    async fn next_event(&mut self) -> Result<ConsumerEvent, BusError> {
        if std::mem::take(&mut self.just_assigned) {
            return Ok(ConsumerEvent::Ready);
        }
        let fetcher = self.fetcher.as_ref().expect("there until the group is left");
        tokio::select! {
            biased;
            event = self.events.recv() => {
                let event = event.unwrap_or_else(|| Err(BusError::Unavailable("left the consumer group".to_owned())))?;
                match &event {
                    ConsumerEvent::Assigned(_) => self.just_assigned = true,
                    ConsumerEvent::Revoked(partitions) => fetcher.forget(partitions),
                    ConsumerEvent::Ready => {}
                }
                Ok(event)
            }
            () = fetcher.news() => Ok(ConsumerEvent::Ready),
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
        Box::pin(std::future::ready(self.fetcher().take(from, offset, bytes_max)))
    }

    fn leave(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        let left = self.release();
        Box::pin(async move {
            if tokio::time::timeout(LEAVE_TIMEOUT, left).await.is_err() {
                tracing::warn!("the brokers were not told in time that this member leaves the group");
            }
        })
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        if self.membership.is_some() {
            drop(self.release());
        }
    }
}
