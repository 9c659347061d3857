//! Runs one plugin over the events of one entity, as the pipeline does: the clock moves with the events, timers fire
//! before the event that moved the clock, and the state goes through its stored form after every step.
//!
//! For tests of plugins only; it knows nothing of batches, shards and eligibility.

use std::marker::PhantomData;

use serde_json::{Value, json};

use super::Plugin;
use crate::effect::{Cause, Context, Effect, Effects, Position, Record};
use crate::event::{Event, EventData, EventType, NewEvent, Reply, ReplyOutcome, Scope};
use crate::stores::Stores;
use crate::time::Timestamp;

/// A time (UTC) on 2026-01-05, a Monday: `HH:MM:SS` or `HH:MM:SS.mmm`.
pub(crate) fn at(time: &str) -> Timestamp {
    Timestamp::parse(&format!("2026-01-05T{time}Z")).unwrap()
}

/// An event of terminal `S001/T0001` (store, terminal). Its id is made of terminal, type, time and data.
pub(crate) fn event(terminal: &str, kind: EventType, time: Timestamp, data: &Value) -> Event {
    let (store, terminal) = terminal.split_once('/').unwrap();
    let source = format!("/stores/{store}/terminals/{terminal}");
    let id = format!("{}-{}-{data}", kind.as_str(), time.as_millis());
    let id: String = id.chars().filter(|character| *character != '"').take(200).collect();
    NewEvent::new(&id, &source, kind, time, data).to_event()
}

/// The settings of a plugin, compiled; panics with the errors if they are wrong.
pub(crate) fn compile<P: Plugin>(settings: Value) -> P::Compiled {
    P::compile(&serde_json::from_value(settings).unwrap()).unwrap()
}

/// The fields that are wrong with these settings.
pub(crate) fn wrong_fields<P: Plugin>(settings: Value) -> Vec<String> {
    match P::compile(&serde_json::from_value(settings).unwrap()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.into_iter().map(|error| error.field).collect(),
    }
}

/// One entity of a plugin with its clock and timer.
pub(crate) struct Run<P: Plugin> {
    compiled: P::Compiled,
    stores: Stores,
    scope: Scope,
    entity: String,
    state: Vec<u8>,
    wake: Option<Timestamp>,
    clock: Timestamp,
    offset: i64,
    /// Whether nobody else acts at the terminals in between.
    pub(crate) same_actor: bool,
    plugin: PhantomData<P>,
}

impl<P: Plugin> Run<P> {
    /// An entity that nobody has seen yet.
    pub(crate) fn new(scope: Scope, entity: &str, settings: Value) -> Self {
        Self {
            compiled: compile::<P>(settings),
            stores: Stores::default(),
            scope,
            entity: entity.to_owned(),
            state: rmp_serde::to_vec_named(&P::State::default()).unwrap(),
            wake: None,
            clock: Timestamp::MIN,
            offset: 0,
            same_actor: false,
            plugin: PhantomData,
        }
    }

    /// With these stores, as in `plugins.yaml`.
    pub(crate) fn with_stores(mut self, stores: Value) -> Self {
        self.stores = Stores::new(serde_json::from_value(stores).unwrap()).unwrap();
        self
    }

    /// Other settings from now on.
    pub(crate) fn change_settings(&mut self, settings: Value) {
        self.compiled = compile::<P>(settings);
    }

    /// Applies an event whose effective time is the later of its own and the clock; timers that are due fire first.
    /// Answers all that was asked for, timers included.
    pub(crate) fn apply(&mut self, event: &Event) -> Vec<Effect> {
        self.apply_at(event, event.time)
    }

    /// Applies an event that moves the clock to `clock` rather than to its own time.
    pub(crate) fn apply_at(&mut self, event: &Event, clock: Timestamp) -> Vec<Effect> {
        let late = event.time < self.clock;
        let mut effects = self.advance(clock);
        self.step(Cause::Event(event), late, &mut effects, |state, compiled, fx| P::apply(state, compiled, event, fx));
        self.offset += 1;
        effects
    }

    /// Moves the clock, as a tick does.
    pub(crate) fn advance(&mut self, to: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        let to = to.max(self.clock);
        while let Some(due) = self.wake.filter(|due| *due <= to) {
            self.wake = None;
            self.clock = self.clock.max(due);
            let cause = Cause::Timer(due);
            self.step(cause, false, &mut effects, |state, compiled, fx| P::on_timer(state, compiled, fx));
            assert!(self.wake.is_none_or(|wake| wake > due), "a timer that sets itself to the past never ends");
        }
        self.clock = to;
        effects
    }

    /// Hands in the answer to an HTTP effect.
    pub(crate) fn reply(&mut self, terminal: &str, token: &str, outcome: ReplyOutcome) -> Vec<Effect> {
        let (store, id) = terminal.split_once('/').unwrap();
        let subject = format!("/stores/{store}/terminals/{id}");
        let reply = Reply {
            plugin: P::NAME.into(),
            scope: self.scope,
            entity: crate::event::Id::new(&self.entity).unwrap(),
            token: token.to_owned(),
            outcome,
        };
        let source = format!("/plugins/{}", P::NAME);
        let mut new = NewEvent::new("answer-1", &source, EventType::Reply, self.clock, json!(reply));
        new.subject = Some(&subject);
        new.partitionkey = Some(id);
        let event = new.to_event();
        let mut effects = Vec::new();
        self.step(Cause::Event(&event), false, &mut effects, |state, compiled, fx| {
            P::on_reply(state, compiled, &reply, &event, fx);
        });
        effects
    }

    /// The state as it is stored, in bytes.
    pub(crate) fn stored_bytes(&self) -> usize {
        self.state.len()
    }

    fn step(
        &mut self,
        cause: Cause<'_>,
        late: bool,
        effects: &mut Vec<Effect>,
        run: impl FnOnce(&mut P::State, &P::Compiled, &mut Effects<'_>),
    ) {
        let position = match cause {
            Cause::Event(_) => Position { partition: 0, offset: self.offset },
            Cause::Timer(_) => Position::default(),
        };
        let now = match cause {
            Cause::Event(_) => self.clock,
            Cause::Timer(due) => due,
        };
        let context = Context {
            plugin: P::NAME,
            scope: self.scope,
            entity: &self.entity,
            now,
            position,
            late,
            same_actor: self.same_actor,
            stores: &self.stores,
        };
        let mut state: P::State = rmp_serde::from_slice(&self.state).unwrap();
        let mut fx = Effects::new(context, cause, effects, &mut self.wake);
        run(&mut state, &self.compiled, &mut fx);
        self.state = rmp_serde::to_vec_named(&state).unwrap();
    }
}

/// The data of the events that were published.
pub(crate) fn published(effects: &[Effect]) -> Vec<&EventData> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Publish(event) => Some(&event.data),
            _ => None,
        })
        .collect()
}

/// The records that were written.
pub(crate) fn records(effects: &[Effect]) -> Vec<&Record> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Record(record) => Some(record),
            _ => None,
        })
        .collect()
}

/// The text of the log lines.
pub(crate) fn logged(effects: &[Effect]) -> Vec<&str> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Log(line) => Some(line.message.as_str()),
            _ => None,
        })
        .collect()
}
