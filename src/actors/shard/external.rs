//! What plugins in other languages get of a batch: records for their input topics, which go out with the commit.

use std::sync::Arc;

use bytes::Bytes;

use crate::actors::BatchInput;
use crate::bus::{NewRecord, Topic, TopicPartition};
use crate::control::ExternalSnapshot;
use crate::event::Scope;
use crate::pipeline::Placed;
use crate::status::{ConditionFailure, Conditions, PluginFigures, PluginStatus, Status};
use crate::time::Timestamp;

/// An event for one entity of a plugin, with its place in the order of its partition.
struct Picked<'a> {
    partition: TopicPartition,
    order: i64,
    entity: &'a str,
    placed: &'a Placed,
}

/// What plugins in other languages get of a batch.
#[derive(Default)]
pub(super) struct Inputs {
    /// Each with the partition in whose outbox it goes.
    pub(super) records: Vec<(TopicPartition, NewRecord)>,
    /// What counts once the batch is committed.
    pub(super) counted: Vec<(Arc<PluginStatus>, PluginFigures)>,
}

/// The records for the inputs of all active plugins. `published` is what
/// plugins have published, with the partitions on which it stands.
pub(super) fn route(input: &BatchInput, published: &[(TopicPartition, Placed)], status: &Status) -> Inputs {
    let mut inputs = Inputs::default();
    for plugin in input.settings.externals().iter().filter(|plugin| plugin.is_active()) {
        let (mut wanted, mut newest) = (0, Timestamp::MIN);
        let mut picked = of_groups(plugin, input);
        if plugin.manifest.wants_published {
            picked.extend(of_published(plugin, published));
        }
        let mut conditions = Conditions::default();
        picked.retain(|one| {
            wanted += 1;
            let event = &one.placed.event;
            plugin.is_eligible(event, one.placed.position, input.settings.stores()).unwrap_or_else(|failure| {
                conditions.count(ConditionFailure::of_eligibility(failure, event));
                false
            })
        });
        picked.sort_by_key(|one| (one.partition, one.order));
        let consumed = picked.len() as u64;
        for one in picked {
            newest = newest.max(one.placed.event.time);
            inputs.records.push((one.partition, record(plugin, one.entity, one.placed)));
        }
        let skipped = wanted - consumed;
        let last_event_at = newest.as_millis();
        let figures = PluginFigures { consumed, skipped, last_event_at, conditions, ..PluginFigures::default() };
        inputs.counted.push((status.plugin(&plugin.row.name), figures));
    }
    inputs
}

/// What tills have sent about the entities of the plugin's scope.
fn of_groups<'a>(plugin: &ExternalSnapshot, input: &'a BatchInput) -> Vec<Picked<'a>> {
    let scope = plugin.manifest.document.scope;
    let mut picked = Vec::new();
    for group in input.groups.iter().filter(|group| group.scope == scope) {
        for &index in &group.events {
            let placed = &input.events[index as usize];
            // What is replayed for one built-in plugin is not for this one; what nobody had got is for all.
            let is_for_another = placed.addressee.as_ref().is_some_and(|addressee| addressee.plugin.is_some());
            if is_for_another || !plugin.wants(&placed.event) {
                continue;
            }
            // On a till's partition the log is the order; across tills it is the order of release.
            let order = if scope == Scope::Terminal { placed.position.offset } else { i64::from(index) };
            picked.push(Picked { partition: group.partition, order, entity: &group.entity, placed });
        }
    }
    picked
}

/// What plugins have published about tills.
fn of_published<'a>(
    plugin: &ExternalSnapshot,
    published: &'a [(TopicPartition, Placed)],
) -> impl Iterator<Item = Picked<'a>> {
    published.iter().filter(|(_, placed)| plugin.wants(&placed.event)).filter_map(|(partition, placed)| {
        let (entity, order) = (placed.event.terminal_id()?, placed.position.offset);
        Some(Picked { partition: *partition, order, entity, placed })
    })
}

fn record(plugin: &ExternalSnapshot, entity: &str, placed: &Placed) -> NewRecord {
    let mut headers = plugin.input_headers(entity);
    if placed.late {
        headers.push(("tillstream-late".to_owned(), Bytes::from_static(b"true")));
    }
    NewRecord {
        topic: Topic::Input(plugin.manifest.input),
        partition: None,
        key: Some(Bytes::copy_from_slice(entity.as_bytes())),
        value: placed.event.raw.clone(),
        headers,
    }
}
