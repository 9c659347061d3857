//! One plugin in one shard: filters by subscription and eligibility, finds or starts the entities, keeps their timers.
//!
//! Work is handed out in pieces of so many entities, so that what is in memory at a time does not grow with the batch.

mod entities;

use std::collections::BTreeSet;
use std::sync::Arc;

use actix::{Actor, ActorFutureExt, AtomicResponse, Context, Handler, Message, WrapFuture};
use compact_str::CompactString;
use futures_util::future::join_all;
use rustc_hash::{FxHashMap, FxHashSet};

use super::entity::{EntityOutcome, Failure, UnreadableState, Work};
use super::{BatchInput, Group, panics};
use crate::bus::TopicPartition;
use crate::effect::Effect;
use crate::event::Scope;
use crate::pipeline::Placed;
use crate::plugins::{EventTypes, Plugin};
use crate::status::{ConditionFailure, Conditions, PluginFigures, PluginStatus};
use crate::store::Store;
use crate::store::model::{EntityKey, EntityRow, StoreError};
use crate::time::Timestamp;
use entities::{Entities, EntityName};

/// Entities that work at the same time.
const PIECE_ENTITIES: usize = 500;

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
    /// What counts once the batch is committed, and where; a batch that has to be decided again counts once.
    pub counted: (Arc<PluginStatus>, PluginFigures),
}

/// The timers of one partition.
#[derive(Default)]
struct Timers {
    waiting: BTreeSet<(Timestamp, Scope, CompactString)>,
    loaded: bool,
}

struct State<P: Plugin> {
    store: Store,
    status: Arc<PluginStatus>,
    entities: Entities<P>,
    timers: FxHashMap<TopicPartition, Timers>,
}

/// One plugin in one shard.
pub struct PluginActor<P: Plugin> {
    state: Option<State<P>>,
}

/// An entity's share of a batch, before its actor is found.
struct Task {
    key: EntityKey,
    name: EntityName,
    events: Vec<u32>,
    clock: Timestamp,
}

impl<P: Plugin> PluginActor<P> {
    /// A plugin that keeps at most `entities_max` entities in memory, as far as they are idle.
    #[must_use]
    pub fn new(store: Store, status: Arc<PluginStatus>, entities_max: usize) -> Self {
        let entities = Entities::new(entities_max);
        Self { state: Some(State { store, status, entities, timers: FxHashMap::default() }) }
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
        self.entities.forget(input.committed);
        let mut conditions = Conditions::default();
        let (mut tasks, figures) = Self::select(input, |placed| {
            if !input.settings.is_for::<P>(placed.position) {
                return false;
            }
            let verdict = input.settings.eligibility::<P>().qualifies(&placed.event, input.settings.stores());
            verdict.unwrap_or_else(|failure| {
                tracing::debug!(plugin = P::NAME, event = %placed.event.id, %failure, "eligibility could not be decided");
                conditions.count(ConditionFailure::of_eligibility(failure, &placed.event));
                false
            })
        });
        let figures = PluginFigures { conditions, ..figures };
        self.load_timers(input).await?;
        self.add_due_timers(input, &mut tasks);
        let mut outcome = PluginOutcome { counted: (Arc::clone(&self.status), figures), ..PluginOutcome::default() };
        let mut tasks = tasks.into_iter();
        while tasks.len() > 0 {
            let piece: Vec<Task> = tasks.by_ref().take(PIECE_ENTITIES).collect();
            self.load_entities(&piece).await?;
            self.work(input, piece, &mut outcome).await?;
            self.entities.rest();
        }
        Ok(outcome)
    }

    /// Switched off, the plugin gets nothing; a dead letter that is replayed to it goes back to where it was.
    fn while_off(&self, input: &BatchInput) -> PluginOutcome {
        let (tasks, figures) = Self::select(input, |_| false);
        let mut outcome = PluginOutcome { counted: (Arc::clone(&self.status), figures), ..PluginOutcome::default() };
        for task in tasks {
            for index in task.events {
                let addressee = input.events[index as usize].addressee.as_ref();
                if addressee.is_some_and(|addressee| addressee.dead_letter.is_some()) {
                    let message = format!("{} is switched off; switch it on and replay again", P::NAME);
                    outcome.failures.push((
                        task.key.clone(),
                        Failure { event: Some(index), due: None, message, is_refused: false },
                    ));
                }
            }
        }
        outcome
    }

    /// The events of each entity that this plugin wants and that qualify.
    fn select(input: &BatchInput, mut qualifies: impl FnMut(&Placed) -> bool) -> (Vec<Task>, PluginFigures) {
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
                // Without a plugin's name it is for every plugin that looks at this entity.
                if let Some(plugin) = placed.addressee.as_ref().and_then(|addressee| addressee.plugin.as_ref()) {
                    return plugin == P::NAME;
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
            (!events.is_empty()).then(|| Task::of::<P>(group, events, input))
        });
        let tasks = tasks.collect();
        let last_event_at = newest.as_millis();
        (tasks, PluginFigures { consumed, skipped, last_event_at, ..PluginFigures::default() })
    }

    async fn load_timers(&mut self, input: &BatchInput) -> Result<(), StoreError> {
        for &(partition, _) in &input.clocks {
            if self.timers.get(&partition).is_some_and(|timers| timers.loaded) {
                continue;
            }
            let rows = self.store.timers(partition).await?;
            let timers = self.timers.entry(partition).or_default();
            timers.loaded = true;
            timers.waiting = rows
                .into_iter()
                .filter(|row| row.plugin == P::NAME)
                .map(|row| (row.due, row.scope, CompactString::from(row.entity)))
                .collect();
        }
        Ok(())
    }

    /// Entities whose timer is due are woken even if no event of this batch is about them.
    fn add_due_timers(&mut self, input: &BatchInput, tasks: &mut Vec<Task>) {
        let mut awake: FxHashSet<EntityName> = FxHashSet::default();
        for &(partition, clock) in &input.clocks {
            let Some(timers) = self.timers.get_mut(&partition) else {
                continue;
            };
            if awake.is_empty() && timers.waiting.first().is_some_and(|(due, _, _)| *due <= clock) {
                awake.extend(tasks.iter().map(|task| task.name.clone()));
            }
            while let Some(timer) = timers.waiting.pop_first() {
                if timer.0 > clock {
                    timers.waiting.insert(timer);
                    break;
                }
                let (_, scope, id) = timer;
                let name = (partition, scope, id);
                if awake.insert(name.clone()) {
                    tasks.push(Task::new::<P>(name, Vec::new(), clock));
                }
            }
        }
    }

    async fn load_entities(&mut self, tasks: &[Task]) -> Result<(), StoreError> {
        let missing = tasks.iter().filter(|task| !self.entities.holds(&task.name));
        let missing: Vec<EntityKey> = missing.map(|task| task.key.clone()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let rows = self.store.load_entities(missing.clone()).await?;
        let mut rows: FxHashMap<EntityKey, EntityRow> = rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        for key in missing {
            let row = rows.remove(&key);
            self.entities.insert((key.partition, key.scope, CompactString::from(key.entity)), row);
        }
        Ok(())
    }

    async fn work(
        &mut self,
        input: &Arc<BatchInput>,
        tasks: Vec<Task>,
        outcome: &mut PluginOutcome,
    ) -> Result<(), StoreError> {
        self.entities.next_turn();
        let (mut working, mut sends) = (Vec::with_capacity(tasks.len()), Vec::with_capacity(tasks.len()));
        for mut task in tasks {
            match self.entities.wake(&task.name, &task.key, input.batch) {
                Ok(actor) => {
                    let events = std::mem::take(&mut task.events);
                    sends.push(actor.send(Work { input: Arc::clone(input), events, clock: task.clock }));
                    working.push(task);
                }
                Err(error) => fail_all(task, &error, outcome),
            }
        }
        let replies = join_all(sends).await;
        for (task, reply) in working.into_iter().zip(replies) {
            let Ok(mut done) = reply else {
                // The entity's actor is gone, and with it a state that is not committed: the shard starts again.
                let (_, scope, id) = task.name;
                let actor = format!("the actor of {}:{id}", scope.as_str());
                return Err(StoreError::Unavailable(panics::why_gone(&actor)));
            };
            let before = self.entities.worked(&task.name, &done);
            let figures = &mut outcome.counted.1;
            for effect in &done.effects {
                match effect {
                    Effect::Log(_) => {}
                    Effect::ConditionFailed(failure) => figures.conditions.count(ConditionFailure::clone(failure)),
                    _ => figures.effects += 1,
                }
            }
            figures.errors += done.failures.len() as u64;
            for failure in std::mem::take(&mut done.failures) {
                outcome.failures.push((task.key.clone(), failure));
            }
            self.set_timer(task.name, before, done.due);
            outcome.entities.push((task.key, done));
        }
        Ok(())
    }

    fn set_timer(&mut self, (partition, scope, id): EntityName, before: Option<Timestamp>, now: Option<Timestamp>) {
        let timers = self.timers.entry(partition).or_default();
        if let Some(due) = before.filter(|_| before != now) {
            timers.waiting.remove(&(due, scope, id.clone()));
        }
        if let Some(due) = now {
            timers.waiting.insert((due, scope, id));
        }
    }
}

/// A state that does not read back is left alone; its events wait as dead letters for a person.
fn fail_all(task: Task, error: &UnreadableState, outcome: &mut PluginOutcome) {
    tracing::error!(%error, "events of this entity become dead letters");
    let failure = |index| Failure { event: Some(index), due: None, message: error.to_string(), is_refused: false };
    outcome.failures.extend(task.events.into_iter().map(|index| (task.key.clone(), failure(index))));
}

impl Task {
    fn new<P: Plugin>(name: EntityName, events: Vec<u32>, clock: Timestamp) -> Self {
        let (partition, scope, ref id) = name;
        let key = EntityKey { partition, plugin: P::NAME, scope, entity: id.to_string() };
        Self { key, name, events, clock }
    }

    fn of<P: Plugin>(group: &Group, events: Vec<u32>, input: &BatchInput) -> Self {
        let clock = input.clocks.iter().find(|(partition, _)| *partition == group.partition).map(|(_, clock)| *clock);
        let name = (group.partition, group.scope, group.entity.clone());
        Self::new::<P>(name, events, clock.unwrap_or(Timestamp::MIN))
    }
}
