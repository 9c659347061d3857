//! Effects: what a plugin asks for. Nothing of it happens before the batch that it belongs to is committed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{AlertRaised, DerivedId, Event, EventData, ID_BYTES_MAX, NewEvent, Scope};
use crate::plugins::expression::Failure;
use crate::status::ConditionFailure;
use crate::stores::Stores;
use crate::time::Timestamp;

/// Longest name of an event, `source#id`.
const EVENT_NAME_BYTES_MAX: usize = 2 * ID_BYTES_MAX + 1;

/// One thing that a plugin asks for, with the id that makes it happen only once.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Publish an event on the bus.
    Publish(Box<Event>),
    /// Write a record to the store.
    Record(Record),
    /// Make an HTTP call; its answer comes back through the bus to `Plugin::on_reply`.
    Http(HttpEffect),
    /// Write a line to the debug log, seen in the feed (kind `log`), in `tail` and in the process's log.
    Log(LogLine),
    /// A condition gave neither true nor false; counted for people once the batch is committed.
    ConditionFailed(Box<ConditionFailure>),
}

/// A row that a plugin writes. Rows with the same id replace each other, the last one wins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// A working session of an employee at a terminal.
    Session(TimeSheetSession),
    /// An alert with the events that it rests on.
    Alert(Box<AlertRecord>),
    /// Whether a recommendation was taken up, written when its basket ends.
    Recommendation(RecommendationRecord),
    /// An age prompt and its outcome.
    AgePrompt(AgePromptRecord),
}

/// A session on a time sheet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimeSheetSession {
    /// Derived from the event that opened it.
    pub id: String,
    /// Who worked.
    pub employee_id: String,
    /// Where.
    pub store_id: String,
    /// At which terminal.
    pub terminal_id: String,
    /// The store's business day on which the session began, `YYYY-MM-DD`.
    pub business_day: String,
    /// When the employee logged in.
    pub login_at: Timestamp,
    /// When the session ended; absent while it is open.
    pub logout_at: Option<Timestamp>,
    /// Length in seconds; 0 while it is open.
    pub seconds: i64,
    /// The part of it that counts for pay: time that overlaps an earlier session of the same employee counts once.
    pub paid_seconds: i64,
    /// What ended it: `logout`, `login_elsewhere`, `idle` or `maximum_shift`.
    pub cause: Option<String>,
    /// `late`: an event of it came late; `overlap`: it overlaps another session of the employee; `review`: a person should
    /// look at it, since it went on, or ended with a logout, after more than the idle time.
    pub flags: Vec<String>,
}

/// An alert as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertRecord {
    /// What was published; `alert_id` is the row's id.
    pub alert: AlertRaised,
    /// Time of the event that completed the pattern.
    pub at: Timestamp,
    /// Store of that event.
    pub store_id: String,
    /// Terminal of that event.
    pub terminal_id: Option<String>,
    /// Employee of that event.
    pub employee_id: Option<String>,
    /// Where the contributing events stand on the bus, in the order of `alert.event_ids`; they are kept whole with the alert.
    pub evidence: Vec<Position>,
    /// True for rules in status `shadow`: stored, neither published nor shown among the alerts that need a person.
    pub shadow: bool,
}

/// A recommendation and whether it was followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecommendationRecord {
    /// Derived id.
    pub id: String,
    /// The basket.
    pub basket_id: String,
    /// The product that prompted it.
    pub product_id: String,
    /// The product that was recommended.
    pub recommended: String,
    /// True if the recommended product was added to the basket afterwards.
    pub taken_up: bool,
    /// When the basket ended.
    pub at: Timestamp,
}

/// An age prompt and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgePromptRecord {
    /// Derived id.
    pub id: String,
    /// The basket.
    pub basket_id: String,
    /// The store.
    pub store_id: String,
    /// The terminal.
    pub terminal_id: String,
    /// The cashier.
    pub employee_id: String,
    /// Age that the law asks for.
    pub minimum_age: u8,
    /// `pending`, `approved_visual`, `approved_id`, `refused`, `overridden`, or `not_checked` if paid without a check.
    pub outcome: String,
    /// When it was required or decided, whichever is later.
    pub at: Timestamp,
}

/// A place on topic `pos.events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Position {
    /// Partition of `pos.events`.
    pub partition: u32,
    /// Offset in it.
    pub offset: i64,
}

/// A remote system that plugins may call; its address is configuration, not a plugin's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// The remote customer system, `customers.url`.
    Customers,
}

/// What to ask of a remote system: `GET {service}/{path}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRequest {
    /// Which system.
    pub service: Service,
    /// One path segment, percent-encoded by the dispatcher.
    pub path: String,
    /// Whatever the plugin needs to recognise the answer; comes back in [`Reply::token`](crate::event::Reply::token).
    pub token: String,
    /// Time for one attempt, in milliseconds.
    pub timeout_ms: u64,
    /// Attempts in all, at least 1.
    pub attempts: u32,
    /// How long an answer may be reused for the same path, in seconds; 0 = never.
    pub cache_seconds: u64,
    /// The only keys of the answer's object that are kept.
    pub keep: Vec<String>,
}

/// An HTTP call with its return address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpEffect {
    /// Derived id: the same effect is executed once.
    pub id: String,
    /// The plugin that asked.
    pub plugin: String,
    /// The entity to which the answer goes.
    pub scope: Scope,
    /// Its id.
    pub entity: String,
    /// Source of the terminal that it is about; the answer travels on its partition.
    pub terminal: String,
    /// `source#id` of the cause.
    pub causation_id: String,
    /// When the cause happened.
    pub at: Timestamp,
    /// The call.
    pub request: HttpRequest,
}

/// A line of the debug log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// Derived id.
    pub id: String,
    /// The plugin that wrote it.
    pub plugin: String,
    /// `debug`, `info` or `warn`.
    pub level: String,
    /// The text.
    pub message: String,
    /// Time of the cause.
    pub at: Timestamp,
    /// Terminal that it is about.
    pub terminal: Option<String>,
}

/// What made a plugin run: an event, or a timer that fell due.
#[derive(Debug, Clone, Copy)]
pub enum Cause<'a> {
    /// An event (for an answer: the internal event that carries it).
    Event(&'a Event),
    /// The entity's timer.
    Timer(Timestamp),
}

/// Where an event stands and what time it is there: everything that a plugin may know besides state, settings and event.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The plugin's name.
    pub plugin: &'static str,
    /// The kind of entity.
    pub scope: Scope,
    /// The entity's id.
    pub entity: &'a str,
    /// The clock: for an event its effective time, for a timer when it was due.
    pub now: Timestamp,
    /// Where the event stands on the bus; the default for timers.
    pub position: Position,
    /// True if the event is older than the clock of its partition was.
    pub late: bool,
    /// True if nobody else acted at the event's terminal since the same employee did.
    pub same_actor: bool,
    /// The stores with their time zones, jurisdictions and hours.
    pub stores: &'a Stores,
}

/// An event that is further than this behind the clock counts as at the clock: no till is offline for as long, so its own
/// clock is wrong. Milliseconds.
pub const BEHIND_MAX_MS: i64 = 7 * 86_400_000;

impl Context<'_> {
    /// When the event happened, as far as its terminal can be believed: its own time, but neither after the clock nor more
    /// than [`BEHIND_MAX_MS`] before it.
    #[must_use]
    pub fn time_of(&self, event: &Event) -> Timestamp {
        if self.now.millis_since(event.time) > BEHIND_MAX_MS { self.now } else { event.time.min(self.now) }
    }
}

/// Collects what a plugin asks for while it looks at one event or timer.
#[derive(Debug)]
pub struct Effects<'a> {
    context: Context<'a>,
    cause: Cause<'a>,
    next_index: u32,
    effects: &'a mut Vec<Effect>,
    wake: &'a mut Option<Timestamp>,
}

impl<'a> Effects<'a> {
    /// Collects into `effects`; `wake` is the entity's timer as it stands now.
    pub const fn new(
        context: Context<'a>,
        cause: Cause<'a>,
        effects: &'a mut Vec<Effect>,
        wake: &'a mut Option<Timestamp>,
    ) -> Self {
        Self { context, cause, next_index: 0, effects, wake }
    }

    /// Where and when this is.
    #[must_use]
    pub const fn context(&self) -> &Context<'a> {
        &self.context
    }

    /// The clock: for an event its effective time, for a timer when it was due.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.context.now
    }

    /// When the event happened, see [`Context::time_of`].
    #[must_use]
    pub fn time_of(&self, event: &Event) -> Timestamp {
        self.context.time_of(event)
    }

    /// The time of what follows from the cause.
    fn time(&self) -> Timestamp {
        match self.cause {
            Cause::Event(event) if event.is_from_terminal() => self.context.time_of(event),
            Cause::Event(event) => event.time,
            Cause::Timer(due) => due,
        }
    }

    /// A new id that depends on cause, plugin, entity and the number of ids and effects asked for so far.
    pub fn derive_id(&mut self) -> String {
        let index = self.next_index;
        self.next_index += 1;
        let Context { plugin, scope, entity, .. } = self.context;
        match self.cause {
            Cause::Event(event) => {
                let cause = (event.source.as_str(), event.id.as_str());
                DerivedId::Event { cause, plugin, scope, entity, index }.to_hex()
            }
            Cause::Timer(due) => DerivedId::Timer { plugin, scope, entity, due, index }.to_hex(),
        }
    }

    /// Publishes an event about the terminal of the cause. For timers use [`Effects::publish_about`].
    #[expect(clippy::needless_pass_by_value, reason = "a plugin gives away what it publishes")]
    pub fn publish(&mut self, data: EventData) {
        let terminal = match self.cause {
            Cause::Event(event) if event.source.terminal_id().is_some() => Some(event.source.as_str().to_owned()),
            Cause::Event(event) => event.subject.as_ref().map(ToString::to_string),
            Cause::Timer(_) => None,
        };
        self.publish_event(&data, terminal.as_deref());
    }

    /// Publishes an event about the terminal with this source (`/stores/S001/terminals/T0007`).
    #[expect(clippy::needless_pass_by_value, reason = "a plugin gives away what it publishes")]
    pub fn publish_about(&mut self, terminal: &str, data: EventData) {
        self.publish_event(&data, Some(terminal));
    }

    fn publish_event(&mut self, data: &EventData, terminal: Option<&str>) {
        let id = self.derive_id();
        let source = format!("/plugins/{}", self.context.plugin);
        let value = data.to_value().expect("event data is made of strings, numbers and lists");
        let (causation, correlation) = match self.cause {
            Cause::Event(event) => {
                // An answer travels on an internal event that nobody sees; what it caused follows from the event that asked.
                let asked = matches!(event.data, EventData::Reply(_)).then(|| event.causation_id.as_ref()).flatten();
                let name = asked.map_or_else(|| event.name(), ToString::to_string);
                // What a terminal sends as correlation may be of any length; it must not make this event too large.
                let correlation = event.correlation_id.as_ref().filter(|id| id.len() <= EVENT_NAME_BYTES_MAX);
                let correlation = correlation.map_or_else(|| name.clone(), ToString::to_string);
                (Some(name), Some(correlation))
            }
            Cause::Timer(_) => (None, None),
        };
        let mut event = NewEvent::new(&id, &source, data.event_type(), self.time(), value);
        event.subject = terminal;
        event.partitionkey = terminal.and_then(|terminal| terminal.rsplit('/').next());
        event.causationid = causation.as_deref();
        event.correlationid = correlation.as_deref();
        self.effects.push(Effect::Publish(Box::new(event.to_event())));
    }

    /// Writes a record.
    pub fn record(&mut self, record: Record) {
        self.effects.push(Effect::Record(record));
    }

    /// Makes an HTTP call.
    pub fn call(&mut self, request: HttpRequest) {
        let Cause::Event(event) = self.cause else {
            return;
        };
        let effect = HttpEffect {
            id: self.derive_id(),
            plugin: self.context.plugin.to_owned(),
            scope: self.context.scope,
            entity: self.context.entity.to_owned(),
            terminal: event.source.as_str().to_owned(),
            causation_id: event.name(),
            at: self.time(),
            request,
        };
        self.effects.push(Effect::Http(effect));
    }

    /// Writes to the debug log at level `info`.
    pub fn log(&mut self, message: impl Into<String>) {
        let line = LogLine {
            id: self.derive_id(),
            plugin: self.context.plugin.to_owned(),
            level: "info".to_owned(),
            message: message.into(),
            at: self.time(),
            terminal: match self.cause {
                Cause::Event(event) => event.terminal_id().map(ToOwned::to_owned),
                Cause::Timer(_) => None,
            },
        };
        self.effects.push(Effect::Log(line));
    }

    /// Says that a condition gave neither true nor false for the event that is the cause.
    pub fn condition_failed(&mut self, condition: String, failure: Failure) {
        if let Cause::Event(event) = self.cause {
            let failure = ConditionFailure { condition, failure, event: event.name(), at: event.time };
            self.effects.push(Effect::ConditionFailed(Box::new(failure)));
        }
    }

    /// Sets the entity's only timer, or clears it: `on_timer` runs once the clock has reached `at`.
    pub const fn wake_at(&mut self, at: Option<Timestamp>) {
        *self.wake = at;
    }

    /// The entity's timer as it stands.
    #[must_use]
    pub const fn wake(&self) -> Option<Timestamp> {
        *self.wake
    }
}
