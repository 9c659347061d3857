//! `tillstream repartition`: a store that was filled from one set of Kafka topics goes on with another one, of more partitions.
//!
//! Everything is stopped and nothing waits, so only the store changes: each state and each duplicate window goes to the
//! partition that owns it among the new ones. What senders put on partitions that somebody had added to the old topic is
//! appended to the new one, each record once.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use super::{logging, server_args, usage};
use crate::bus::kafka::{KafkaBus, KafkaOptions};
use crate::bus::{Bus, BusError, NewRecord, Record, Topic, TopicPartition};
use crate::config::{BusKind, Config};
use crate::pipeline::{self, source};
use crate::processes::GONE_AFTER;
use crate::store::{BoundBus, Owners, Store, StoreError};

/// Lets a store go on with Kafka topics of another prefix and another number of partitions
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  tillstream serve --config old.toml --until-caught-up\n  tillstream repartition --config new.toml --dry-run\n  \
tillstream repartition --config new.toml\n\nnew.toml names the same store and brokers, and another bus.topicPrefix and bus.partitions. Every \
process must be stopped and everything be processed. It may be repeated until it ends with 0. See \"More partitions\" in \
docs/operations.md."
)]
pub struct RepartitionArgs {
    /// Configuration file (TOML) with the new prefix and number of partitions
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only say what stands in the way
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// If something still waits, the new topics hold events already, or Kafka or the store cannot be used.
pub fn run(args: &RepartitionArgs) -> anyhow::Result<()> {
    logging::start();
    server_args::install_tls();
    let config = Config::load(args.config.as_deref(), &[])?;
    if config.bus.kind != BusKind::Kafka {
        return Err(usage("bus.kind: the embedded bus serves one process, which needs no more partitions"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let done = runtime.block_on(repartition(&config, args.dry_run))?;
    Ok(writeln!(std::io::stdout().lock(), "{done}")?)
}

async fn repartition(config: &Config, dry_run: bool) -> anyhow::Result<String> {
    let url = config.store.url.to_text();
    let report = Store::inspect(&url, config.store.migrate).await.map_err(store_error)?;
    let Some((identity, partitions)) = report.bus else {
        return Err(usage("store.url: this store is empty: start serve with the new configuration"));
    };
    let bound = BoundBus { identity, partitions: partitions.parse().context("the store's number of partitions")? };
    let store = Store::open(&url).await.map_err(store_error)?;
    let new = open(KafkaOptions::from_config(&config.bus).map_err(bus_error)?).await?;
    let target = BoundBus { identity: new.identity(), partitions: new.partitions() };

    // A run before this one came as far as the store, if it belongs to the new topics already.
    let before = if bound == target { store.repartitioned_from().await? } else { Some(bound.clone()) };
    let before = before.ok_or_else(|| usage("the store belongs to these topics already: there is nothing to do"))?;
    let old = open(old_options(config, &before, &target)?).await?;
    if bound != target {
        let found = unfinished(&store, &old, &new).await?;
        if !found.is_empty() {
            anyhow::bail!("not yet:\n  {}", found.join("\n  "));
        }
        if dry_run {
            return Ok(format!("nothing stands in the way of {} partitions", target.partitions));
        }
        let owners = Owners { of_state: pipeline::state_partition, of_window: pipeline::window_partition };
        let moved = store.repartition(bound, target, owners).await?;
        tracing::info!(states = moved.states, windows = moved.windows, "the store goes with the new topics");
    }
    let carried = carry_surplus(&old, &new).await?;
    store.forget_repartitioned_from().await?;
    Ok(format!(
        "the store goes with {} partitions; {carried} records of added partitions were appended. Start serve with this configuration",
        new.partitions()
    ))
}

async fn open(options: KafkaOptions) -> anyhow::Result<Arc<KafkaBus>> {
    KafkaBus::open(options).await.map_err(bus_error)
}

/// How to reach the topics that the store was filled from: on the same brokers, under another prefix.
fn old_options(config: &Config, old: &BoundBus, new: &BoundBus) -> anyhow::Result<KafkaOptions> {
    let parts =
        |bus: &BoundBus| bus.identity.split_once('/').map(|(cluster, prefix)| (cluster.to_owned(), prefix.to_owned()));
    let (Some((old_cluster, prefix)), Some((new_cluster, new_prefix))) = (parts(old), parts(new)) else {
        return Err(usage(format!("store.url: the store was filled from {}, which is not on Kafka", old.identity)));
    };
    if old_cluster != new_cluster {
        return Err(usage(format!(
            "bus.brokers: the store was filled from the cluster {old_cluster}, but this is {new_cluster}"
        )));
    }
    if prefix == new_prefix {
        return Err(usage(format!(
            "bus.topicPrefix: \"{prefix}\" is the one in use; the number of partitions of its topics never changes. Choose another prefix"
        )));
    }
    let mut bus = config.bus.clone();
    (bus.topic_prefix, bus.partitions) = (prefix, old.partitions);
    KafkaOptions::from_config(&bus).map_err(bus_error)
}

/// What stands in the way, as sentences.
async fn unfinished(store: &Store, old: &KafkaBus, new: &KafkaBus) -> anyhow::Result<Vec<String>> {
    let mut found = store.unfinished(GONE_AFTER).await?;
    let rows = store.partitions().await?;
    for topic in [Topic::Events, Topic::Rekeyed, Topic::OrderCreated] {
        for partition in 0..old.partitions() {
            let place = TopicPartition::new(topic, partition);
            let next = rows.iter().find(|row| row.partition == place).map_or(0, |row| row.next_offset);
            let left = old.read(place, next, 1).await.map_err(bus_error)?;
            if !left.records.is_empty() {
                found.push(format!("{place} holds records that are not processed; run serve --until-caught-up"));
            }
        }
    }
    for partition in 0..new.partitions() {
        let place = TopicPartition::new(Topic::Events, partition);
        if new.bounds(place).await.map_err(bus_error)?.high > 0 {
            found.push(format!("the new {place} holds records already; choose a prefix that was never used"));
        }
    }
    Ok(found)
}

/// Appends what stands on added partitions of the old topic to the new one. What a run before this one has appended is
/// known from the lane's position.
async fn carry_surplus(old: &KafkaBus, new: &KafkaBus) -> anyhow::Result<usize> {
    let Some(surplus) = old.surplus().await.map_err(bus_error)? else { return Ok(0) };
    let mut carried = 0;
    for partition in surplus.configured..surplus.partitions {
        let lane = format!("repartition.{partition}");
        let mut next = new.lane_position(lane.clone()).await.map_err(bus_error)?.unwrap_or(0);
        loop {
            let read = match old.read_surplus(partition, next).await {
                Err(BusError::Gone { low, .. }) => {
                    tracing::warn!(
                        partition,
                        from = next,
                        to = low,
                        "records were removed by retention before they were read"
                    );
                    next = low;
                    continue;
                }
                read => read.map_err(bus_error)?,
            };
            next = read.next_offset;
            if !read.records.is_empty() {
                carried += read.records.len();
                let records = read.records.into_iter().map(renewed).collect();
                new.append_lane(lane.clone(), next, records).await.map_err(bus_error)?;
            }
            if read.at_end {
                break;
            }
        }
    }
    Ok(carried)
}

/// The record for the new topic, on the partition of its terminal.
fn renewed(record: Record) -> NewRecord {
    let key = source::event_of(&record).ok().map(|event| event.key().to_owned().into());
    NewRecord {
        topic: Topic::Events,
        partition: None,
        key: key.or(record.key),
        value: record.value,
        headers: record.headers,
    }
}

fn bus_error(error: BusError) -> anyhow::Error {
    match error {
        BusError::Misconfigured(text) => usage(text),
        other => other.into(),
    }
}

fn store_error(error: StoreError) -> anyhow::Error {
    match error {
        StoreError::Misconfigured(text) => usage(text),
        other => other.into(),
    }
}
