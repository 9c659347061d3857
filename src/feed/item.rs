//! What the feed holds.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;

use super::Numbered;
use crate::event::Event;
use crate::time::Timestamp;

/// What an item is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FeedKind {
    /// An event from outside.
    Event,
    /// An event that a plugin published.
    Derived,
    /// A line of a plugin's debug log.
    Log,
    /// An HTTP call and how it ended.
    Http,
    /// A dead letter.
    DeadLetter,
    /// A change of a plugin's switch or settings.
    Control,
}

impl FeedKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [Self::Event, Self::Derived, Self::Log, Self::Http, Self::DeadLetter, Self::Control];

    /// Its name in the feed's messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Derived => "derived",
            Self::Log => "log",
            Self::Http => "http",
            Self::DeadLetter => "deadletter",
            Self::Control => "control",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// The content of an item, as JSON that is ready to be sent.
#[derive(Debug, Clone)]
pub enum FeedBody {
    /// An event, sent with the bytes that it came with.
    Event(Arc<Event>),
    /// Anything else.
    Json {
        /// What `type` filters look at: `log`, `http.customers`, `plugin.changed`, ...
        type_name: CompactString,
        /// The terminal that it is about.
        terminal: Option<CompactString>,
        /// The plugin that it is about.
        plugin: Option<CompactString>,
        /// One JSON value.
        json: Bytes,
    },
}

/// One thing that was committed.
#[derive(Debug, Clone)]
pub struct FeedItem {
    /// What it is about.
    pub kind: FeedKind,
    /// When it was committed.
    pub at: Timestamp,
    /// The content.
    pub body: FeedBody,
}

impl FeedItem {
    /// What `type` filters look at.
    #[must_use]
    pub fn type_name(&self) -> &str {
        match &self.body {
            FeedBody::Event(event) => &event.type_name,
            FeedBody::Json { type_name, .. } => type_name,
        }
    }

    /// The terminal that it is about.
    #[must_use]
    pub fn terminal(&self) -> Option<&str> {
        match &self.body {
            FeedBody::Event(event) => event.terminal_id(),
            FeedBody::Json { terminal, .. } => terminal.as_deref(),
        }
    }

    /// The plugin that it is about: for an event the one that published it.
    #[must_use]
    pub fn plugin(&self) -> Option<&str> {
        match &self.body {
            FeedBody::Event(event) => event.source.plugin(),
            FeedBody::Json { plugin, .. } => plugin.as_deref(),
        }
    }

    pub(super) fn json(&self) -> &[u8] {
        match &self.body {
            FeedBody::Event(event) => &event.raw,
            FeedBody::Json { json, .. } => json,
        }
    }
}

impl Numbered {
    /// Appends `{"seq":…,"kind":…,"at":…,"event":…}` without parsing or re-serialising the content.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let FeedItem { kind, at, .. } = &self.item;
        write!(out, r#"{{"seq":{},"kind":"{}","at":"{at}","event":"#, self.seq, kind.as_str())
            .expect("writing to memory does not fail");
        out.extend_from_slice(self.item.json());
        out.push(b'}');
    }
}
