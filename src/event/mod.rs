//! Events: CloudEvents 1.0, parsed once at the edge into types that cannot be wrong.
//!
//! [`Event::parse`] reads the structured mode (`application/cloudevents+json`), [`Event::parse_binary`] the binary
//! mode (`ce_*` headers). Either way the event keeps the bytes of its structured form, so unknown types and unknown
//! keys are passed on as they came.

mod card;
mod content;
mod data;
mod derived;
mod one_pass;
mod parse;
mod patterns;
mod redact;
mod schemas;
mod unique_keys;
mod value;

use std::fmt;

use bytes::Bytes;
use compact_str::CompactString;

pub use card::{holds_card_number, is_card_number};
pub use data::*;
pub use derived::{DerivedId, NewEvent, stable_id};
pub(crate) use parse::is_forbidden_key;
pub use redact::{redact, redact_header};
pub use schemas::json_schemas;
pub use value::*;

use crate::time::Timestamp;

/// Largest event in bytes.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;
/// Deepest nesting of objects and lists in an event.
pub const NESTING_MAX: usize = 64;

/// Where an event comes from: the `source` attribute, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    text: CompactString,
    kind: SourceKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SourceKind {
    /// Byte ranges of store and terminal in the text.
    Terminal {
        store_end: u16,
        terminal_start: u16,
    },
    Plugin,
    Other,
}

const STORES: &str = "/stores/";
const TERMINALS: &str = "/terminals/";
const PLUGINS: &str = "/plugins/";

impl Source {
    /// Takes a `source` apart.
    ///
    /// # Errors
    /// If it is empty, longer than 255 bytes, or holds control characters.
    pub fn new(text: &str) -> Result<Self, InvalidId> {
        Id::check(text)?;
        let position = |index: usize| u16::try_from(index).expect("at most 255 bytes");
        let kind = if text.len() > PLUGINS.len() && text.starts_with(PLUGINS) {
            SourceKind::Plugin
        } else if let Some(rest) = text.strip_prefix(STORES)
            && let Some(slash) = memchr::memchr(b'/', rest.as_bytes()).filter(|slash| *slash > 0)
            && let (store, rest) = rest.split_at(slash)
            && let Some(terminal) = rest.strip_prefix(TERMINALS)
            && !terminal.is_empty()
            && !terminal.contains('/')
        {
            let store_end = STORES.len() + store.len();
            SourceKind::Terminal {
                store_end: position(store_end),
                terminal_start: position(store_end + TERMINALS.len()),
            }
        } else {
            SourceKind::Other
        };
        Ok(Self { text: CompactString::new(text), kind })
    }

    /// Reads a `source` from outside, as [`Id::read`] does.
    ///
    /// # Errors
    /// As [`Id::read`], and if its store or terminal begins or ends with a blank.
    pub fn read(text: &str) -> Result<Self, InvalidId> {
        let source = Self::new(&Id::read(text)?)?;
        let padded = |name: Option<&str>| name.is_some_and(|name| name.trim().len() != name.len());
        if padded(source.store_id()) || padded(source.terminal_id()) {
            return Err(InvalidId::Padded);
        }
        Ok(source)
    }

    /// The source of a terminal.
    ///
    /// # Errors
    /// If the two ids make no valid source.
    pub fn terminal_of(store: &str, terminal: &str) -> Result<Self, InvalidId> {
        Self::new(&format!("{STORES}{store}{TERMINALS}{terminal}"))
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The store, if this is a terminal.
    #[must_use]
    pub fn store_id(&self) -> Option<&str> {
        match self.kind {
            SourceKind::Terminal { store_end, .. } => Some(&self.text[STORES.len()..usize::from(store_end)]),
            _ => None,
        }
    }

    /// The terminal's id, if this is a terminal.
    #[must_use]
    pub fn terminal_id(&self) -> Option<&str> {
        match self.kind {
            SourceKind::Terminal { terminal_start, .. } => Some(&self.text[usize::from(terminal_start)..]),
            _ => None,
        }
    }

    /// The plugin's name, if this is a plugin.
    #[must_use]
    pub fn plugin(&self) -> Option<&str> {
        matches!(self.kind, SourceKind::Plugin).then(|| &self.text[PLUGINS.len()..])
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One fact from a terminal or a plugin.
#[derive(Debug, Clone)]
pub struct Event {
    /// Unique within the source.
    pub id: Id,
    /// Who says so.
    pub source: Source,
    /// The typed `data`; its variant is the event's type.
    pub data: EventData,
    /// The `type` attribute as it came, also for types that Tillstream does not know.
    pub type_name: CompactString,
    /// When it happened, by the terminal's clock.
    pub time: Timestamp,
    /// The terminal's counter, from 1.
    pub sequence: Option<u64>,
    /// True in training mode: plugins ignore the event unless their eligibility says otherwise.
    pub training: bool,
    /// The `businessday` extension, `YYYY-MM-DD`.
    pub business_day: Option<jiff::civil::Date>,
    /// The `subject` attribute. In derived events: the source of the terminal that the event is about.
    pub subject: Option<CompactString>,
    /// The `partitionkey` extension. In derived events: the id of the terminal that the event is about.
    pub partition_key: Option<CompactString>,
    /// `source#id` of the event that caused this one.
    pub causation_id: Option<CompactString>,
    /// `source#id` of the event that began the chain.
    pub correlation_id: Option<CompactString>,
    /// The event in structured JSON, with all keys that came with it.
    pub raw: Bytes,
}

impl Event {
    /// The event's type.
    #[must_use]
    pub const fn event_type(&self) -> EventType {
        self.data.event_type()
    }

    /// `source#id`, the name of this event in `causationid`, `eventIds` and labels.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}#{}", self.source, self.id)
    }

    /// The terminal that the event is about: its source, or for derived events the one that they name as subject.
    #[must_use]
    pub fn terminal_id(&self) -> Option<&str> {
        self.source.terminal_id().or(match self.source.kind {
            SourceKind::Plugin => self.partition_key.as_deref(),
            _ => None,
        })
    }

    /// The store that the event is about.
    #[must_use]
    pub fn store_id(&self) -> Option<&str> {
        self.source.store_id().or_else(|| self.subject.as_deref()?.strip_prefix(STORES)?.split('/').next())
    }

    /// The id of the entity of that scope which the event is about.
    #[must_use]
    pub fn entity(&self, scope: Scope) -> Option<&str> {
        match scope {
            Scope::Terminal => self.terminal_id(),
            Scope::Employee => self.data.employee_id().map(Id::as_str),
            Scope::Customer => self.data.customer_id().map(Id::as_str),
            Scope::Card => self.data.card_token().map(Id::as_str),
        }
    }

    /// The key that decides the event's partition on the bus: the terminal, else the partition key, else the source.
    #[must_use]
    pub fn key(&self) -> &str {
        self.terminal_id().or(self.partition_key.as_deref()).unwrap_or_else(|| self.source.as_str())
    }

    /// True if a terminal sent it: such events move clocks and are routed to other scopes.
    #[must_use]
    pub fn is_from_terminal(&self) -> bool {
        matches!(self.source.kind, SourceKind::Terminal { .. }) && self.event_type().class() == EventClass::Terminal
    }
}

/// Why a message is not a valid event. The message is kept whole as a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default())]
pub struct EventError {
    /// A short machine-readable reason.
    pub reason: Reason,
    /// The field at fault, as a path such as `data.unitPrice`.
    pub field: Option<String>,
    /// What is wrong and what was expected.
    pub message: String,
}

/// Machine-readable reasons for refusing a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not UTF-8.
    NotUtf8,
    /// Not JSON, or JSON that breaks off.
    NotJson,
    /// A required attribute or data key is absent.
    MissingField,
    /// A value of the wrong type or out of range.
    InvalidField,
    /// The same key twice in one object.
    DuplicateKey,
    /// More than [`EVENT_BYTES_MAX`] bytes.
    TooLarge,
    /// Nested deeper than [`NESTING_MAX`].
    TooDeep,
    /// A card number or a date of birth, which no event may hold.
    ForbiddenData,
}

impl Reason {
    /// The reason as it stands in dead letters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotJson => "not_json",
            Self::MissingField => "missing_field",
            Self::InvalidField => "invalid_field",
            Self::DuplicateKey => "duplicate_key",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::ForbiddenData => "forbidden_data",
        }
    }
}
