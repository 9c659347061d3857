//! What is paid of a basket, and the wait for a check that its payment may have overtaken.

use serde::{Deserialize, Serialize};

use crate::effect::Position;
use crate::event::Id;
use crate::time::Timestamp;

/// Baskets without anything restricted of which a terminal remembers what was paid.
const PAID_MAX: usize = 4;

/// A payment, or the total of a sale that needed none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Payment {
    #[serde(rename = "t")]
    pub(super) at: Timestamp,
    #[serde(rename = "w")]
    pub(super) employee: Id,
    /// `source#id` of the event.
    #[serde(rename = "e")]
    pub(super) event: String,
    #[serde(rename = "s")]
    pub(super) source: String,
    #[serde(rename = "o")]
    pub(super) position: Position,
}

/// The sale may be over although a check is missing, as far as has been heard: the check may have been overtaken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Wait {
    #[serde(rename = "t")]
    pub(super) at: Timestamp,
    #[serde(rename = "w")]
    employee: Id,
    #[serde(rename = "e")]
    event: String,
    #[serde(rename = "s")]
    source: String,
    #[serde(rename = "o")]
    position: Position,
    /// When the alert is raised, by the clock.
    #[serde(rename = "u")]
    pub(super) until: Timestamp,
    /// Time of the last payment. What was done up to then was done before the sale was over.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub(super) last_at: Option<Timestamp>,
    /// The total was known and is covered: nothing that is voided later was not sold.
    #[serde(rename = "f", default)]
    pub(super) settled: bool,
    /// Nobody knows when the goods left, so every check until the end of the wait counts.
    #[serde(rename = "g", default)]
    pub(super) open: bool,
}

impl Wait {
    /// A wait until that time; `payment` is the one that the alert will name.
    pub(super) fn new(payment: Payment, until: Timestamp, settled: bool) -> Self {
        let Payment { at, employee, event, source, position } = payment;
        Self { at, employee, event, source, position, until, last_at: None, settled, open: false }
    }

    /// The same where nobody knows when the goods left.
    pub(super) fn open_to_the_end(self) -> Self {
        Self { open: true, ..self }
    }

    /// The payment that the alert will name.
    pub(super) fn payment(&self) -> Payment {
        let (employee, event, source) = (self.employee.clone(), self.event.clone(), self.source.clone());
        Payment { at: self.at, employee, event, source, position: self.position }
    }

    /// Time of the last payment.
    pub(super) fn last_at(&self) -> Timestamp {
        self.last_at.unwrap_or(self.at)
    }

    /// True if a check of that time was done before the goods left.
    pub(super) fn counts(&self, at: Timestamp) -> bool {
        self.open || at <= self.last_at()
    }
}

/// What is remembered of a basket that holds nothing restricted that is not paid for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Paid {
    #[serde(rename = "i")]
    pub(super) id: Id,
    /// In minor units; negative if the customer got it.
    #[serde(rename = "m")]
    pub(super) amount: i64,
    /// The highest age that a check was passed for.
    #[serde(rename = "c", default)]
    pub(super) passed: u8,
}

/// Puts what was paid of a basket in place of what was known before; the oldest give way.
pub(super) fn remember(known: &mut Vec<Paid>, paid: Paid) {
    known.retain(|other| other.id != paid.id);
    if known.len() == PAID_MAX {
        known.remove(0);
    }
    known.push(paid);
}
