//! Follows topics from their ends on, outside of the group: for the live feed and for news of settings.
//!
//! A thread of its own polls the client and hands on what arrives. Nothing is stored and nothing depends on it: where the
//! log no longer reaches back to the place, it goes on at the end.

use std::collections::HashMap;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::context::{Context, LastError, Rarely};
use super::error::{bus_error, is_undecodable, is_unreadable};
use super::options::KafkaOptions;
use super::records::{RecordCopier, number};
use super::topics::TopicNames;
use crate::bus::{BusError, Record, Tail, Topic, TopicPartition};

/// How long one look for messages takes; the thread ends this long after nobody wants them any more.
const POLL: Duration = Duration::from_millis(100);
/// Messages that are handed on together.
const TOGETHER_MAX: usize = 500;
/// Pieces that wait for a slow reader; librdkafka keeps the rest, and the brokers what is beyond that.
const PIECES_MAX: usize = 4;

type Piece = Vec<(TopicPartition, Record)>;

/// What arrives on the topics that are followed.
pub(super) struct KafkaTail {
    pieces: mpsc::Receiver<Piece>,
    /// Ends by itself once the receiver is gone.
    _thread: JoinHandle<()>,
}

impl KafkaTail {
    /// Begins at the present ends.
    ///
    /// # Errors
    /// If a setting is not accepted.
    pub(super) fn start(options: &KafkaOptions, names: &TopicNames, topics: &[Topic]) -> Result<Self, BusError> {
        let last_error = LastError::default();
        let fault = |error| bus_error("following topics", &error, &last_error);
        let client =
            BaseConsumer::from_config_and_context(&options.tail(), Context::new("tail", &last_error)).map_err(fault)?;
        let mut list = TopicPartitionList::new();
        let mut known = HashMap::new();
        for &topic in topics {
            known.insert(names.get(topic).to_owned(), topic);
            for partition in 0..topic.partitions(options.partitions) {
                list.add_partition_offset(names.get(topic), number(partition), Offset::End).map_err(fault)?;
            }
        }
        client.assign(&list).map_err(fault)?;
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let thread = std::thread::Builder::new().name("kafka-tail".to_owned()).spawn(move || {
            let (copier, rarely) = (RecordCopier::default(), Rarely::default());
            Follower { client, ends: list, rarely, known, copier, last_error, told: false }.run(&sender);
        });
        let thread = thread.map_err(|error| BusError::Unavailable(format!("no thread for Kafka: {error}")))?;
        Ok(Self { pieces, _thread: thread })
    }
}

impl Tail for KafkaTail {
    fn next(&mut self) -> BoxFuture<'_, Result<Piece, BusError>> {
        Box::pin(async move {
            let closed = || BusError::Unavailable("the connection to Kafka was closed".to_owned());
            self.pieces.recv().await.ok_or_else(closed)
        })
    }
}

struct Follower {
    client: BaseConsumer<Context>,
    /// Everything that is followed, at its end.
    ends: TopicPartitionList,
    rarely: Rarely<()>,
    known: HashMap<String, Topic>,
    copier: RecordCopier,
    last_error: LastError,
    /// It has been said that a right is missing.
    told: bool,
}

impl Follower {
    fn run(mut self, pieces: &mpsc::Sender<Piece>) {
        while !pieces.is_closed() {
            let mut piece = Vec::new();
            let mut wait = POLL;
            while piece.len() < TOGETHER_MAX {
                // A fault of the connection is librdkafka's to mend; the context has logged it.
                match self.client.poll(wait) {
                    Some(Ok(message)) => {
                        let place = self.known.get(message.topic()).zip(u32::try_from(message.partition()).ok());
                        if let Some((&topic, partition)) = place {
                            let record = self.copier.copy(&message);
                            piece.push((TopicPartition::new(topic, partition), record));
                        }
                        wait = Duration::ZERO;
                    }
                    Some(Err(error)) if is_unreadable(&error) && !self.told => {
                        let error = bus_error("following topics", &error, &self.last_error);
                        tracing::warn!(%error, "the live feed and news of settings lack a part");
                        self.told = true;
                    }
                    // The client would ask for that batch for ever; what comes behind it is what people want to see.
                    Some(Err(error)) if is_undecodable(&error) => {
                        if self.rarely.say(()) {
                            tracing::warn!(%error, "a batch cannot be decoded; the live feed and news of settings go on behind it");
                        }
                        self.begin_at_the_end();
                    }
                    Some(Err(_)) => {}
                    None => break,
                }
            }
            if !piece.is_empty() && pieces.blocking_send(piece).is_err() {
                return;
            }
        }
    }

    fn begin_at_the_end(&self) {
        if let Err(error) = self.client.assign(&self.ends) {
            tracing::warn!(%error, "topics cannot be followed on");
        }
    }
}
