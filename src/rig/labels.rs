//! The truth: which anomalies and faults the rig put in.

use std::collections::BTreeMap;

use serde::Serialize;

use super::anomalies::Kind;

/// One line of the labels file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Label {
    /// `duplicate`, `late`, `out_of_order`, `corrupt`, or the id of the default fraud rule that should fire.
    pub kind: &'static str,
    /// `scope:id`
    pub entity: String,
    /// The events in question, each as `source#id`.
    pub event_ids: Vec<String>,
}

#[derive(Debug)]
struct Open {
    label: Label,
    remaining: usize,
}

/// Anomalies that are planned but not sent in full yet.
///
/// One that the end of the run cuts off gets no label: its rule has no reason to fire.
#[derive(Debug, Default)]
pub(super) struct OpenLabels {
    next: u64,
    open: BTreeMap<u64, Open>,
}

impl OpenLabels {
    /// The number that the next anomaly will get.
    pub(super) const fn next_number(&self) -> u64 {
        self.next
    }

    /// Takes note of a planned anomaly of so many events.
    pub(super) fn open(&mut self, kind: Kind, entity: String, events: usize) {
        let label = Label { kind: kind.rule_id(), entity, event_ids: Vec::with_capacity(events) };
        self.open.insert(self.next, Open { label, remaining: events });
        self.next += 1;
    }

    /// An event of an anomaly was sent; the label, if it was the last one.
    pub(super) fn sent(&mut self, number: u64, event_name: String) -> Option<Label> {
        let open = self.open.get_mut(&number)?;
        open.label.event_ids.push(event_name);
        open.remaining -= 1;
        if open.remaining > 0 {
            return None;
        }
        self.open.remove(&number).map(|open| open.label)
    }
}
