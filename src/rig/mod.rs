//! The rig: shops full of terminals at work, for demonstrations, load and tests whose truth is known.
//!
//! A [`Rig`] is an iterator over the messages that the terminals of a scenario send, and says what it put in as [`Label`]s.
//! The same [`Options`] give the same bytes on every machine: all chance comes from a seed, nothing depends on the clock, on threads or on
//! the order of a hash map. It holds the tills in memory, never the events. Only [`sinks`] and
//! [`pump`] do I/O.

mod anomalies;
mod basket;
mod catalogue;
mod corruption;
mod customers;
mod fact;
mod faults;
mod generator;
mod labels;
pub mod orders;
mod planting;
pub mod pump;
mod random;
mod roster;
mod scenario;
pub mod sinks;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::VecDeque;

pub use anomalies::Kind;
pub use faults::{
    DUPLICATE_EVENTS_MAX, LATE_EVENTS_MAX, LATE_EVENTS_MIN, MessageKind, OUT_OF_ORDER_EVENTS_MAX, RigMessage,
};
pub use labels::Label;
pub use scenario::{Limit, Options, Pace};

use crate::time::Timestamp;
use faults::Faults;
use generator::Generator;
use writer::TerminalNames;

/// The messages of a scenario, in the order in which they are sent.
#[derive(Debug)]
pub struct Rig {
    generator: Generator,
    faults: Faults,
    waiting: VecDeque<RigMessage>,
    labels: Vec<Label>,
    now: Timestamp,
    finished: bool,
}

impl Rig {
    /// Sets up a scenario.
    ///
    /// # Panics
    /// If there is no store or no terminal.
    #[must_use]
    pub fn new(options: Options) -> Self {
        assert!(options.stores > 0 && options.terminals > 0, "a scenario has at least one store with one terminal");
        let now = options.start;
        let names = |terminal| TerminalNames::new(terminal / options.terminals, terminal).id;
        let faults = Faults::new(&options, (0..options.terminals_total()).map(names));
        let generator = Generator::new(options);
        Self { generator, faults, waiting: VecDeque::new(), labels: Vec::new(), now, finished: false }
    }

    /// What was put in since this was last called. An anomaly is told once all its events are sent.
    pub fn take_labels(&mut self) -> std::vec::Drain<'_, Label> {
        self.labels.drain(..)
    }

    /// Goes on where an earlier run stopped: `highest` tells the last sequence of a terminal's source that was sent, so
    /// that no id is used twice.
    pub fn resume(&mut self, highest: impl Fn(&str) -> u64) {
        self.generator.resume(highest);
    }

    /// With [`Pace::EventsPerSecond`]: event times go on from `at`, since the sender was held up.
    pub const fn restart_time_at(&mut self, at: Timestamp) {
        self.generator.restart_time_at(at.as_millis());
    }

    /// Ends the scenario: only what is under way still comes.
    pub fn stop(&mut self) {
        if !self.finished {
            self.finished = true;
            let Self { faults, waiting, now, .. } = self;
            faults.finish(*now, |message| waiting.push_back(message));
        }
    }

    fn advance(&mut self) {
        let Self { generator, faults, waiting, labels, now, .. } = self;
        let Some(mut sent) = generator.next() else { return self.stop() };
        *now = Timestamp::from_millis(sent.at);
        labels.extend(sent.label.take());
        let names = generator.names(sent.terminal);
        faults.pass(
            &sent,
            |message| waiting.push_back(message),
            |kind| {
                let entity = format!("terminal:{}", names.id);
                labels.push(Label { kind, entity, event_ids: vec![names.event_name(sent.sequence)] });
            },
        );
    }
}

impl Iterator for Rig {
    type Item = RigMessage;

    fn next(&mut self) -> Option<RigMessage> {
        while self.waiting.is_empty() && !self.finished {
            self.advance();
        }
        self.waiting.pop_front()
    }
}
