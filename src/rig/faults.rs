//! Faults of the way from a till to the bus: duplicates, late and out-of-order events, corrupt copies.
//!
//! They are put into the finished stream, each till by itself, and never change an event's bytes. Places are counted in events of
//! the till, so that whatever happens stays within the window of 1024 sequences in which duplicates are told for sure.

use bytes::Bytes;
use compact_str::CompactString;
use smallvec::SmallVec;

use super::corruption::corrupt;
use super::generator::Sent;
use super::random::{Purpose, Random, parts_in_million};
use super::scenario::Options;
use crate::time::Timestamp;

/// A duplicate comes at once, or up to this many events of the till later.
pub const DUPLICATE_EVENTS_MAX: i64 = 300;
/// A late event comes this many events of its till later at least.
pub const LATE_EVENTS_MIN: i64 = 20;
/// A late event comes this many events of its till later at most.
pub const LATE_EVENTS_MAX: i64 = 200;
/// An event out of order lets this many events of its till pass at most.
pub const OUT_OF_ORDER_EVENTS_MAX: i64 = 3;

/// One message on its way to the bus.
#[derive(Debug, Clone)]
pub struct RigMessage {
    /// The key: the terminal's id.
    pub key: CompactString,
    /// The value.
    pub bytes: Bytes,
    /// When it is sent, in the time of the scenario; a late event is older than that.
    pub at: Timestamp,
    /// What it is.
    pub kind: MessageKind,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// A valid event, for the first time.
    Event,
    /// A valid event again, the same bytes.
    Duplicate,
    /// A corrupt copy.
    Corrupt,
}

#[derive(Debug)]
struct Held {
    due: u64,
    bytes: Bytes,
    kind: MessageKind,
}

#[derive(Debug)]
struct Line {
    key: CompactString,
    passed: u64,
    held: Vec<Held>,
}

/// The unreliable way from the tills to the bus.
#[derive(Debug)]
pub(super) struct Faults {
    random: Random,
    duplicates: u32,
    late: u32,
    out_of_order: u32,
    corrupt: u32,
    lines: Vec<Line>,
}

impl Faults {
    pub(super) fn new(options: &Options, terminals: impl Iterator<Item = CompactString>) -> Self {
        Self {
            random: Random::new(options.seed, Purpose::Faults, 0),
            duplicates: parts_in_million(options.duplicates),
            late: parts_in_million(options.late),
            out_of_order: parts_in_million(options.out_of_order),
            corrupt: parts_in_million(options.corrupt),
            lines: terminals.map(|key| Line { key, passed: 0, held: Vec::new() }).collect(),
        }
    }

    /// Sends an event on its way: `out` gets what arrives now, `label` is told of each fault.
    pub(super) fn pass(&mut self, sent: &Sent, mut out: impl FnMut(RigMessage), mut label: impl FnMut(&'static str)) {
        let random = &mut self.random;
        let line = &mut self.lines[usize::try_from(sent.terminal).expect("32 bits fit")];
        let at = Timestamp::from_millis(sent.at);
        line.passed += 1;
        let after = |events: i64| line.passed + events.unsigned_abs();
        // The events of an anomaly arrive in order: otherwise nobody could say whether its rule must fire.
        let may_wait = !sent.is_anomaly;
        let mut due = line.passed;
        if may_wait && random.in_million(self.late) {
            due = after(random.between(LATE_EVENTS_MIN, LATE_EVENTS_MAX));
            label("late");
        } else if may_wait && random.in_million(self.out_of_order) {
            due = after(random.between(1, OUT_OF_ORDER_EVENTS_MAX));
            label("out_of_order");
        }
        let mut arrivals = SmallVec::<[Held; 3]>::new();
        arrivals.push(Held { due, bytes: sent.bytes.clone(), kind: MessageKind::Event });
        if random.in_million(self.duplicates) {
            let pause = if random.percent(50) { 0 } else { random.between(1, DUPLICATE_EVENTS_MAX) };
            let due = due + pause.unsigned_abs();
            arrivals.push(Held { due, bytes: sent.bytes.clone(), kind: MessageKind::Duplicate });
            label("duplicate");
        }
        if random.in_million(self.corrupt) {
            let bytes = Bytes::from(corrupt(&sent.bytes, random));
            arrivals.push(Held { due, bytes, kind: MessageKind::Corrupt });
            label("corrupt");
        }
        let Line { key, passed, held } = line;
        let mut send = |held: Held| out(RigMessage { key: key.clone(), bytes: held.bytes, at, kind: held.kind });
        for arrival in arrivals {
            if arrival.due > *passed {
                held.push(arrival);
            } else {
                send(arrival);
            }
        }
        if !held.is_empty() {
            for arrival in held.extract_if(.., |held| held.due <= *passed) {
                send(arrival);
            }
        }
    }

    /// Everything that is still on its way arrives.
    pub(super) fn finish(&mut self, at: Timestamp, mut out: impl FnMut(RigMessage)) {
        for line in &mut self.lines {
            line.held.sort_by_key(|held| held.due);
            for Held { bytes, kind, .. } in line.held.drain(..) {
                out(RigMessage { key: line.key.clone(), bytes, at, kind });
            }
        }
    }
}
