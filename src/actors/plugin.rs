//! One plugin in one shard: filters by subscription and eligibility, finds or starts the entities, keeps their timers,
//! passivates idle ones.

use std::collections::BTreeSet;
use std::sync::Arc;

use actix::{Actor, ActorFutureExt, Addr, AtomicResponse, Context, Handler, Message, WrapFuture};
use compact_str::CompactString;
use futures_util::future::join_all;
use rustc_hash::{FxHashMap, FxHashSet};

use super::entity::{EntityActor, EntityOutcome, Failure, UnreadableState, Work};
use super::{BatchInput, Group};
use crate::bus::TopicPartition;
use crate::effect::Effect;
use crate::event::Scope;
use crate::pipeline::Placed;
use crate::plugins::{EventTypes, Plugin};
use crate::status::PluginStatus;
use crate::store::Store;
use crate::store::model::{EntityKey, EntityRow, StoreError};
use crate::time::Timestamp;

/// Everything that one plugin must look at in one batch.
#[derive(Message, Clone)]
#[rtype(result = "Result<PluginOutcome, StoreError>")]
pub struct PluginBatch(pub Arc<BatchInput>);

/// What one batch did to one plugin's entities.
#[derive(Debug, Default)]
pub struct PluginOutcome {
    /// Per entity that was touched, in the order of the batch.
    pub entities: Vec<(EntityKey, EntityOutcome)>,
    /// Events that could not be decided on, with the entity and why.
    pub failures: Vec<(EntityKey, Failure)>,
}

/// The entities of one partition.
#[derive(Default)]
struct Partition<P: Plugin> {
    timers: BTreeSet<(Timestamp, Scope, CompactString)>,
    loaded: bool,
    entities: FxHashMap<(Scope, CompactString), Held<P>>,
}

struct Held<P: Plugin> {
    actor: Addr<EntityActor<P>>,
    due: Option<Timestamp>,
    used: u64,
}

struct State<P: Plugin> {
    store: Store,
    status: Arc<PluginStatus>,
    entities_max: usize,
    partitions: FxHashMap<TopicPartition, Partition<P>>,
}

/// One plugin in one shard.
pub struct PluginActor<P: Plugin> {
    state: Option<State<P>>,
}

/// An entity's share of a batch, before its actor is found.
struct Task {
    key: EntityKey,
    id: CompactString,
    events: Vec<u32>,
    clock: Timestamp,
}

impl<P: Plugin> PluginActor<P> {
    /// A plugin that keeps at most `entities_max` entities in memory, as far as they are idle.
    #[must_use]
    pub fn new(store: Store, status: Arc<PluginStatus>, entities_max: usize) -> Self {
        Self { state: Some(State { store, status, entities_max, partitions: FxHashMap::default() }) }
    }
}

impl<P: Plugin> Actor for PluginActor<P> {
    type Context = Context<Self>;
}

impl<P: Plugin> Handler<PluginBatch> for PluginActor<P> {
    type Result = AtomicResponse<Self, Result<PluginOutcome, StoreError>>;

    fn handle(&mut self, PluginBatch(input): PluginBatch, _: &mut Context<Self>) -> Self::Result {
        let mut state = self.state.take().expect("an atomic response ends before the next message");
        let work = async move {
            let result = state.run(&input).await;
            (state, result)
        };
        AtomicResponse::new(Box::pin(work.into_actor(self).map(|(state, result), actor, _| {
            actor.state = Some(state);
            result
        })))
    }
}

impl<P: Plugin> State<P> {
    async fn run(&mut self, input: &Arc<BatchInput>) -> Result<PluginOutcome, StoreError> {
        if !input.settings.is_active::<P>() {
            return Ok(self.while_off(input));
        }
        self.passivate(input.committed);
        let mut tasks = self.select(input, |placed| {
            if !input.settings.is_for::<P>(placed.position) {
                return false;
            }
            input.settings.eligibility::<P>().qualifies(&placed.event, input.settings.stores()).unwrap_or_else(|error| {
                tracing::debug!(plugin = P::NAME, event = %placed.event.id, error, "eligibility could not be decided");
                false
            })
        });
        self.load_timers(input).await?;
        self.add_due_timers(input, &mut tasks);
        let mut outcome = PluginOutcome::default();
        self.load_entities(input, &mut tasks, &mut outcome).await?;
        self.work(input, tasks, &mut outcome).await?;
        Ok(outcome)
    }

    /// Switched off, the plugin gets nothing; a dead letter that is replayed to it goes back to where it was.
    fn while_off(&self, input: &BatchInput) -> PluginOutcome {
        let mut outcome = PluginOutcome::default();
        for task in self.select(input, |_| false) {
            for index in task.events {
                let addressee = input.events[index as usize].addressee.as_ref();
                if addressee.is_some_and(|addressee| addressee.dead_letter.is_some()) {
                    let message = format!("{} is switched off; switch it on and replay again", P::NAME);
                    outcome.failures.push((task.key.clone(), Failure { event: Some(index), due: None, message }));
                }
            }
        }
        outcome
    }

    /// The events of each entity that this plugin wants and that qualify.
    fn select(&self, input: &BatchInput, qualifies: impl Fn(&Placed) -> bool) -> Vec<Task> {
        let mut wanted = [EventTypes::default(); Scope::ALL.len()];
        for subscription in input.settings.subscriptions::<P>() {
            wanted[subscription.scope as usize] = subscription.event_types;
        }
        let mut verdicts: Vec<Option<bool>> = vec![None; input.events.len()];
        let mut newest = Timestamp::MIN;
        let (mut consumed, mut skipped) = (0, 0);
        let tasks = input.groups.iter().filter_map(|group| {
            let types = wanted[group.scope as usize];
            let events = group.events.iter().copied().filter(|&index| {
                let placed = &input.events[index as usize];
                if let Some(addressee) = &placed.addressee {
                    return addressee.plugin == P::NAME;
                }
                if !types.contains(placed.event.event_type()) {
                    return false;
                }
                *verdicts[index as usize].get_or_insert_with(|| {
                    let verdict = qualifies(placed);
                    if verdict {
                        consumed += 1;
                        newest = newest.max(placed.event.time);
                    } else {
                        skipped += 1;
                    }
                    verdict
                })
            });
            let events: Vec<u32> = events.collect();
            (!events.is_empty()).then(|| Task::of(group, P::NAME, events, input))
        });
        let tasks = tasks.collect();
        self.status.consumed.add(consumed);
        self.status.skipped.add(skipped);
        self.status.last_event_at.raise(newest.as_millis());
        tasks
    }

    async fn load_timers(&mut self, input: &BatchInput) -> Result<(), StoreError> {
        for &(partition, _) in &input.clocks {
            if self.partitions.get(&partition).is_some_and(|known| known.loaded) {
                continue;
            }
            let rows = self.store.timers(partition).await?;
            let known = self.partitions.entry(partition).or_insert_with(Partition::new);
            known.loaded = true;
            known.timers = rows
                .into_iter()
                .filter(|row| row.plugin == P::NAME)
                .map(|row| (row.due, row.scope, CompactString::from(row.entity)))
                .collect();
        }
        Ok(())
    }

    /// Entities whose timer is due are woken even if no event of this batch is about them.
    fn add_due_timers(&mut self, input: &BatchInput, tasks: &mut Vec<Task>) {
        let mut awake: FxHashSet<(TopicPartition, Scope, CompactString)> = FxHashSet::default();
        for &(partition, clock) in &input.clocks {
            let Some(known) = self.partitions.get_mut(&partition) else {
                continue;
            };
            if awake.is_empty() && known.timers.first().is_some_and(|(due, _, _)| *due <= clock) {
                awake.extend(tasks.iter().map(|task| (task.key.partition, task.key.scope, task.id.clone())));
            }
            let due: Vec<_> = known.timers.iter().take_while(|(due, _, _)| *due <= clock).cloned().collect();
            for timer in due {
                known.timers.remove(&timer);
                let (_, scope, id) = timer;
                if awake.insert((partition, scope, id.clone())) {
                    let key = EntityKey { partition, plugin: P::NAME, scope, entity: id.to_string() };
                    tasks.push(Task { key, id, events: Vec::new(), clock });
                }
            }
        }
    }

    async fn load_entities(
        &mut self,
        input: &BatchInput,
        tasks: &mut Vec<Task>,
        outcome: &mut PluginOutcome,
    ) -> Result<(), StoreError> {
        let held = |task: &Task| {
            let known = self.partitions.get(&task.key.partition);
            known.is_some_and(|known| known.entities.contains_key(&(task.key.scope, task.id.clone())))
        };
        let missing: Vec<EntityKey> = tasks.iter().filter(|task| !held(task)).map(|task| task.key.clone()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let rows = self.store.load_entities(missing.clone()).await?;
        let mut rows: FxHashMap<EntityKey, EntityRow> = rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        let mut unreadable: FxHashMap<EntityKey, UnreadableState> = FxHashMap::default();
        for key in missing {
            let row = rows.remove(&key);
            let due = row.as_ref().and_then(|row| row.due);
            match EntityActor::<P>::new(key.clone(), row) {
                Ok(actor) => {
                    let known = self.partitions.entry(key.partition).or_insert_with(Partition::new);
                    let held = Held { actor: actor.start(), due, used: input.batch };
                    known.entities.insert((key.scope, CompactString::from(key.entity)), held);
                }
                Err(error) => {
                    unreadable.insert(key, error);
                }
            }
        }
        // A state that does not read back is left alone; its events wait as dead letters for a person.
        tasks.retain(|task| {
            let Some(error) = unreadable.get(&task.key) else {
                return true;
            };
            tracing::error!(%error, "events of this entity become dead letters");
            let failure = |&index| Failure { event: Some(index), due: None, message: error.to_string() };
            outcome.failures.extend(task.events.iter().map(|index| (task.key.clone(), failure(index))));
            false
        });
        Ok(())
    }

    async fn work(
        &mut self,
        input: &Arc<BatchInput>,
        tasks: Vec<Task>,
        outcome: &mut PluginOutcome,
    ) -> Result<(), StoreError> {
        let sends = tasks.iter().map(|task| {
            let known = self.partitions.get_mut(&task.key.partition).expect("loaded before");
            let held = known.entities.get_mut(&(task.key.scope, task.id.clone())).expect("loaded before");
            held.used = input.batch;
            held.actor.send(Work { input: Arc::clone(input), events: task.events.clone(), clock: task.clock })
        });
        let replies = join_all(sends.collect::<Vec<_>>()).await;
        for (task, reply) in tasks.into_iter().zip(replies) {
            let Ok(mut done) = reply else {
                // The entity's actor is gone, and with it a state that is not committed: the shard starts again.
                return Err(StoreError::Unavailable(format!(
                    "the actor of {}:{} died",
                    task.key.scope.as_str(),
                    task.id
                )));
            };
            let known = self.partitions.get_mut(&task.key.partition).expect("loaded before");
            let held = known.entities.get_mut(&(task.key.scope, task.id.clone())).expect("loaded before");
            if held.due != done.due {
                if let Some(due) = held.due {
                    known.timers.remove(&(due, task.key.scope, task.id.clone()));
                }
                held.due = done.due;
            }
            if let Some(due) = done.due {
                known.timers.insert((due, task.key.scope, task.id));
            }
            self.count(&done);
            for failure in std::mem::take(&mut done.failures) {
                outcome.failures.push((task.key.clone(), failure));
            }
            outcome.entities.push((task.key, done));
        }
        Ok(())
    }

    fn count(&self, outcome: &EntityOutcome) {
        let effects = outcome.effects.iter().filter(|effect| !matches!(effect, Effect::Log(_))).count();
        self.status.effects.add(effects as u64);
        self.status.errors.add(outcome.failures.len() as u64);
    }

    /// Stops the longest idle half of the entities once there are too many, as far as all they know is committed.
    fn passivate(&mut self, committed: u64) {
        let count: usize = self.partitions.values().map(|known| known.entities.len()).sum();
        if count <= self.entities_max {
            return;
        }
        let mut used: Vec<u64> =
            self.partitions.values().flat_map(|known| known.entities.values().map(|held| held.used)).collect();
        let middle = used.len() / 2;
        let (_, &mut median, _) = used.select_nth_unstable(middle);
        for known in self.partitions.values_mut() {
            known.entities.retain(|_, held| held.used > committed || held.used > median);
        }
    }
}

impl<P: Plugin> Partition<P> {
    fn new() -> Self {
        Self { timers: BTreeSet::new(), loaded: false, entities: FxHashMap::default() }
    }
}

impl Task {
    fn of(group: &Group, plugin: &'static str, events: Vec<u32>, input: &BatchInput) -> Self {
        let clock = input.clocks.iter().find(|(partition, _)| *partition == group.partition).map(|(_, clock)| *clock);
        let key =
            EntityKey { partition: group.partition, plugin, scope: group.scope, entity: group.entity.to_string() };
        Self { key, id: group.entity.clone(), events, clock: clock.unwrap_or(Timestamp::MIN) }
    }
}
