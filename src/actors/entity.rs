//! One terminal, employee, customer or card, as one plugin knows it: the owner of one piece of state.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use actix::{Actor, Context as ActorContext, Handler, Message, MessageResult};
use bytes::Bytes;

use super::BatchInput;
use crate::effect::{Cause, Context, Effect, Effects, Position};
use crate::event::EventData;
use crate::pipeline::Placed;
use crate::plugins::{Plugin, forgetting};
use crate::store::model::{EntityKey, EntityRow};
use crate::time::Timestamp;

/// Longest text of a panic that is kept.
const PANIC_TEXT_MAX: usize = 500;
/// Said of a step whose outcome the store refuses.
const STORE_REFUSES: &str = "the store refuses what follows from this; see the log for its words, then replay it";
/// A timer that sets itself again for the same or an earlier time this often is a fault of the plugin.
const TIMERS_IN_A_ROW_MAX: u32 = 10_000;

/// Holds the state of one entity for one plugin.
pub struct EntityActor<P: Plugin> {
    key: EntityKey,
    state: P::State,
    stored: Bytes,
    due: Option<Timestamp>,
    /// When the state counts as absent, unless it is seen again or a timer waits.
    expires: Option<Timestamp>,
}

/// All the work of one batch for one entity.
#[derive(Message)]
#[rtype(result = "EntityOutcome")]
pub struct Work {
    /// The batch.
    pub input: Arc<BatchInput>,
    /// Indexes of the events that qualified.
    pub events: Vec<u32>,
    /// The clock of the entity's partition after this batch.
    pub clock: Timestamp,
}

/// What one batch did to one entity.
#[derive(Debug, Default)]
pub struct EntityOutcome {
    /// The new row, if anything changed.
    pub row: Option<EntityRow>,
    /// What the plugin asks for, in order.
    pub effects: Vec<Effect>,
    /// What it could not process.
    pub failures: Vec<Failure>,
    /// Dead letters that were applied at last.
    pub replayed: Vec<String>,
    /// When its timer is due now.
    pub due: Option<Timestamp>,
}

/// An event, or a timer, at which the plugin panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Index of the event in the batch; `None` for a timer.
    pub event: Option<u32>,
    /// When the timer was due, for timers.
    pub due: Option<Timestamp>,
    /// The panic's text.
    pub message: String,
    /// The plugin has not failed: the store refuses what follows from it.
    pub is_refused: bool,
}

/// A step at which the plugin panicked, so that the batch is applied again without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Poison {
    Event(u32),
    Timer(Timestamp),
}

/// The stored state does not read back; a person must decide.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stored state of {plugin} for {entity} is not understood: {message}")]
pub struct UnreadableState {
    /// The plugin.
    pub plugin: &'static str,
    /// `scope:id`.
    pub entity: String,
    /// What is wrong.
    pub message: String,
}

impl<P: Plugin> EntityActor<P> {
    /// The entity as its row left it; without a row, as nobody has seen it yet.
    ///
    /// # Errors
    /// If the stored state does not read back.
    pub fn new(key: EntityKey, row: Option<EntityRow>) -> Result<Self, UnreadableState> {
        let (stored, due, expires) = row.map_or((Bytes::new(), None, None), |row| (row.state, row.due, row.expires));
        let state = read_state::<P>(&stored).map_err(|error| UnreadableState {
            plugin: P::NAME,
            entity: format!("{}:{}", key.scope.as_str(), key.entity),
            message: error.to_string(),
        })?;
        Ok(Self { key, state, stored, due, expires })
    }

    fn work(&mut self, work: &Work) -> EntityOutcome {
        let (due_before, expires_before) = (self.due, self.expires);
        let mut poisoned: Vec<(Poison, String)> = Vec::new();
        let effects = loop {
            let mut effects = Vec::new();
            match self.apply_all(work, &poisoned, &mut effects) {
                Ok(()) => break effects,
                Err(poison) => {
                    poisoned.push(poison);
                    self.state = read_state::<P>(&self.stored).expect("it was read or written by us before");
                    (self.due, self.expires) = (due_before, expires_before);
                }
            }
        };
        let state = encoded(&self.state);
        // One that still knows nothing needs no row: to be absent is the same.
        let is_new = self.stored.is_empty() && self.due.is_none() && due_before.is_none();
        let knows_nothing = is_new && state == encoded(&P::State::default());
        let changed = state != self.stored && !knows_nothing;
        if changed {
            // Without the room that it grew into: it may rest here for long.
            self.stored = Bytes::from(state.into_boxed_slice());
        }
        if knows_nothing {
            self.expires = None;
        }
        let moved = (self.due, self.expires) != (due_before, expires_before);
        let row = (changed || (moved && !knows_nothing)).then(|| EntityRow {
            key: self.key.clone(),
            state: self.stored.clone(),
            due: self.due,
            expires: self.expires,
        });
        let is_poison = |index: u32| poisoned.iter().any(|(poison, _)| *poison == Poison::Event(index));
        let replayed = work
            .events
            .iter()
            .filter(|&&index| !is_poison(index))
            .filter_map(|&index| work.input.events[index as usize].addressee.as_ref()?.dead_letter.clone())
            .collect();
        let failures = poisoned.into_iter().map(|(poison, message)| {
            let is_refused = self.is_refused(work, poison);
            match poison {
                Poison::Event(index) => Failure { event: Some(index), due: None, message, is_refused },
                Poison::Timer(due) => Failure { event: None, due: Some(due), message, is_refused },
            }
        });
        EntityOutcome { row, effects, failures: failures.collect(), replayed, due: self.due }
    }

    /// True if the store is known to refuse what follows from this step.
    fn is_refused(&self, work: &Work, step: Poison) -> bool {
        match step {
            Poison::Event(index) => work.input.refuses_event(&self.key, index),
            Poison::Timer(_) => work.input.refuses_timers(&self.key),
        }
    }

    fn apply_all(
        &mut self,
        work: &Work,
        poisoned: &[(Poison, String)],
        effects: &mut Vec<Effect>,
    ) -> Result<(), (Poison, String)> {
        let compiled = work.input.settings.compiled::<P>();
        for &index in &work.events {
            self.fire_timers(work, compiled, work.input.events[index as usize].clock, poisoned, effects)?;
            if poisoned.iter().any(|(poison, _)| *poison == Poison::Event(index)) {
                continue;
            }
            if self.is_refused(work, Poison::Event(index)) {
                return Err((Poison::Event(index), STORE_REFUSES.to_owned()));
            }
            let now = work.input.events[index as usize].clock;
            // A timer that waits keeps the state: what it is for is not over.
            if self.due.is_none() && self.expires.is_some_and(|at| at <= now) {
                self.state = P::State::default();
            }
            self.apply(work, compiled, index, effects).map_err(|message| (Poison::Event(index), message))?;
            self.expires = forgetting::expires(now, P::forget_after_days(compiled, self.key.scope));
        }
        self.fire_timers(work, compiled, work.clock, poisoned, effects)
    }

    fn fire_timers(
        &mut self,
        work: &Work,
        compiled: &P::Compiled,
        clock: Timestamp,
        poisoned: &[(Poison, String)],
        effects: &mut Vec<Effect>,
    ) -> Result<(), (Poison, String)> {
        for round in 0.. {
            let Some(due) = self.due.filter(|due| *due <= clock) else {
                break;
            };
            self.due = None;
            // It counts as an event at the time when it was due, which may lie before the last one.
            let expires = forgetting::expires(due, P::forget_after_days(compiled, self.key.scope));
            self.expires = expires.and_then(|expires| self.expires.map(|known| known.max(expires)));
            let poison = Poison::Timer(due);
            if poisoned.iter().any(|(known, _)| *known == poison) {
                continue;
            }
            if self.is_refused(work, poison) {
                return Err((poison, STORE_REFUSES.to_owned()));
            }
            if round == TIMERS_IN_A_ROW_MAX {
                return Err((poison, "the timer sets itself again without end".to_owned()));
            }
            let context = context::<P>(&self.key, work, due, None);
            let mut fx = Effects::new(context, Cause::Timer(due), effects, &mut self.due);
            let state = &mut self.state;
            guarded(|| P::on_timer(state, compiled, &mut fx)).map_err(|message| (poison, message))?;
        }
        Ok(())
    }

    fn apply(
        &mut self,
        work: &Work,
        compiled: &P::Compiled,
        index: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let placed = &work.input.events[index as usize];
        let context = context::<P>(&self.key, work, placed.clock, Some(placed));
        let mut fx = Effects::new(context, Cause::Event(&placed.event), effects, &mut self.due);
        let state = &mut self.state;
        guarded(|| match &placed.event.data {
            EventData::Reply(reply) => P::on_reply(state, compiled, reply, &placed.event, &mut fx),
            _ => P::apply(state, compiled, &placed.event, &mut fx),
        })
    }
}

/// The context of an event, or of a timer, which has no place.
fn context<'a, P: Plugin>(key: &'a EntityKey, work: &'a Work, now: Timestamp, place: Option<&Placed>) -> Context<'a> {
    let position = place.map_or_else(Position::default, |placed| placed.position);
    let late = place.is_some_and(|placed| placed.late);
    let same_actor = place.is_some_and(|placed| placed.same_actor);
    let stores = work.input.settings.stores();
    Context { plugin: P::NAME, scope: key.scope, entity: &key.entity, now, position, late, same_actor, stores }
}

fn encoded(state: &impl serde::Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(state).expect("states are plain data")
}

fn read_state<P: Plugin>(stored: &[u8]) -> Result<P::State, rmp_serde::decode::Error> {
    if stored.is_empty() { Ok(P::State::default()) } else { rmp_serde::from_slice(stored) }
}

/// Runs a plugin's code; a panic becomes its text. State and effects are thrown away by the caller.
fn guarded(decide: impl FnOnce()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(decide)).map_err(|panic| panic_text(&*panic))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("panic without a text").chars().take(PANIC_TEXT_MAX).collect()
}

impl<P: Plugin> Actor for EntityActor<P> {
    type Context = ActorContext<Self>;
}

impl<P: Plugin> Handler<Work> for EntityActor<P> {
    type Result = MessageResult<Work>;

    fn handle(&mut self, work: Work, _: &mut ActorContext<Self>) -> Self::Result {
        MessageResult(self.work(&work))
    }
}

#[cfg(test)]
mod tests;
