//! What a basket needs by age, what was asked of the cashier, what was checked, and how far it is paid.

use serde::{Deserialize, Serialize};

use super::payment::{Paid, Payment, Wait};
use crate::effect::Position;
use crate::event::{AgeOutcome, Id, covers};
use crate::time::Timestamp;

/// Restricted lines that a basket remembers.
pub(super) const LINES_MAX: usize = 64;
/// Prompts that a check can still decide.
const PROMPTS_MAX: usize = 16;
/// Checks after a payment that a basket remembers.
const CHECKS_MAX: usize = 64;
/// Parts of a quantity in a thousandth, in which earlier versions counted.
const PARTS_IN_A_THOUSANDTH: i64 = 10;

/// How a prompt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PromptOutcome {
    Pending,
    ApprovedVisual,
    ApprovedId,
    Refused,
    Overridden,
    NotChecked,
}

impl PromptOutcome {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::ApprovedVisual => "approved_visual",
            Self::ApprovedId => "approved_id",
            Self::Refused => "refused",
            Self::Overridden => "overridden",
            Self::NotChecked => "not_checked",
        }
    }
}

impl From<AgeOutcome> for PromptOutcome {
    fn from(outcome: AgeOutcome) -> Self {
        match outcome {
            AgeOutcome::ApprovedVisual => Self::ApprovedVisual,
            AgeOutcome::ApprovedId => Self::ApprovedId,
            AgeOutcome::Refused => Self::Refused,
            AgeOutcome::Overridden => Self::Overridden,
        }
    }
}

/// A restricted line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "StoredLine")]
pub(super) struct Line {
    #[serde(rename = "l")]
    pub(super) number: u32,
    #[serde(rename = "p")]
    pub(super) product: Id,
    /// In ten-thousandths.
    #[serde(rename = "u")]
    pub(super) quantity: i64,
    #[serde(rename = "a")]
    pub(super) age: u8,
    /// `source#id` of the item event.
    #[serde(rename = "e")]
    pub(super) event: String,
    #[serde(rename = "o")]
    pub(super) position: Position,
}

/// A line as it is stored; earlier versions wrote thousandths.
#[derive(Deserialize)]
struct StoredLine {
    l: u32,
    p: Id,
    #[serde(default)]
    u: i64,
    #[serde(default)]
    q: i64,
    a: u8,
    e: String,
    o: Position,
}

impl From<StoredLine> for Line {
    fn from(stored: StoredLine) -> Self {
        let StoredLine { l: number, p: product, u, q, a: age, e: event, o: position } = stored;
        Self { number, product, quantity: u + q * PARTS_IN_A_THOUSANDTH, age, event, position }
    }
}

/// The cashier was asked to check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prompt {
    #[serde(rename = "i")]
    pub(super) id: String,
    #[serde(rename = "a")]
    pub(super) age: u8,
    #[serde(rename = "w")]
    pub(super) employee: Id,
    #[serde(rename = "o")]
    pub(super) outcome: PromptOutcome,
    #[serde(rename = "t")]
    pub(super) at: Timestamp,
}

/// What was done after a payment that may have been the last one: it counts only if the sale goes on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Afterwards {
    /// Whether the customer was refused, and for which age.
    #[serde(rename = "k", default)]
    checks: Vec<(bool, u8)>,
    #[serde(rename = "v", default)]
    voids: Vec<(u32, Id, i64)>,
}

/// A basket that holds something restricted, or in which a check was passed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Basket {
    #[serde(rename = "i")]
    pub(super) id: Id,
    #[serde(rename = "l", default)]
    lines: Vec<Line>,
    /// The highest age that a check was passed for.
    #[serde(rename = "c", default)]
    pub(super) passed: u8,
    /// From this age on the customer was refused, and not let through since; 0 = was not.
    #[serde(rename = "r", default)]
    refused: u8,
    #[serde(rename = "p", default)]
    prompts: Vec<Prompt>,
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub(super) wait: Option<Wait>,
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    afterwards: Option<Box<Afterwards>>,
    /// It was paid without a passed check.
    #[serde(rename = "x", default)]
    pub(super) alerted: bool,
    /// In minor units; negative if the customer got it.
    #[serde(rename = "m", default)]
    pub(super) paid: i64,
    /// The total, unless something has changed since.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub(super) due: Option<i64>,
    /// The last payment, where it did not end the sale.
    #[serde(rename = "y", default, skip_serializing_if = "Option::is_none")]
    pub(super) part: Option<Payment>,
    #[serde(rename = "s", default)]
    pub(super) suspended: bool,
}

impl Basket {
    /// A basket of which so much is known already.
    pub(super) fn new(id: Id, paid: Option<Paid>) -> Self {
        let (amount, passed) = paid.map_or((0, 0), |paid| (paid.amount, paid.passed));
        Self {
            id,
            lines: Vec::new(),
            passed,
            refused: 0,
            prompts: Vec::new(),
            wait: None,
            afterwards: None,
            alerted: false,
            paid: amount,
            due: None,
            part: None,
            suspended: false,
        }
    }

    /// What is remembered of it once nothing in it needs a check.
    pub(super) fn summary(&self) -> Paid {
        Paid { id: self.id.clone(), amount: self.paid, passed: self.passed }
    }

    /// True if what was paid covers the total, as far as the total is known.
    pub(super) fn is_covered(&self) -> Option<bool> {
        self.due.map(|due| covers(due, self.paid))
    }

    /// True if something of that time was done before the sale was over, though it comes later.
    pub(super) fn was_overtaken(&self, at: Timestamp) -> bool {
        self.wait.as_ref().is_some_and(|wait| at <= wait.last_at())
    }

    /// The sale goes on: nothing is decided, and what was done in between counts. The total is no longer known.
    pub(super) fn goes_on(&mut self) {
        if let Some(wait) = self.wait.take() {
            self.part = Some(wait.payment());
        }
        self.take_afterwards();
        self.due = None;
        self.suspended = false;
    }

    /// What was done after a payment was part of the sale.
    pub(super) fn take_afterwards(&mut self) {
        let Some(afterwards) = self.afterwards.take() else { return };
        self.take_checks(&afterwards.checks);
        for (number, product, quantity) in afterwards.voids {
            self.remove(number, &product, quantity);
        }
    }

    fn take_checks(&mut self, checks: &[(bool, u8)]) {
        for &(was_refused, age) in checks {
            if was_refused {
                self.passed = self.passed.min(age.saturating_sub(1));
                self.refused = if self.refused == 0 { age } else { self.refused.min(age) };
            } else {
                self.passed = self.passed.max(age);
                if age >= self.refused {
                    self.refused = 0;
                }
            }
        }
    }

    /// Remembers a restricted line. When there are too many, those of the lowest age give way.
    pub(super) fn add(&mut self, line: Line) {
        let known = self.lines.iter_mut().find(|known| (known.number, &known.product) == (line.number, &line.product));
        if let Some(known) = known {
            known.quantity = known.quantity.saturating_add(line.quantity);
            return;
        }
        if self.lines.len() == LINES_MAX {
            let lowest = self.lines.iter().map(|known| known.age).min().unwrap_or_default();
            let Some(index) = self.lines.iter().position(|known| known.age == lowest && lowest < line.age) else {
                return;
            };
            self.lines.remove(index);
        }
        self.lines.push(line);
    }

    /// Takes a quantity off the line of that number and product; if there is none, off the product's last lines.
    pub(super) fn remove(&mut self, number: u32, product: &Id, mut quantity: i64) {
        let exact = self.lines.iter().position(|known| (known.number, &known.product) == (number, product));
        if let Some(index) = exact {
            self.lines[index].quantity -= quantity;
        } else {
            for line in self.lines.iter_mut().rev().filter(|line| line.product == *product) {
                let taken = line.quantity.min(quantity);
                line.quantity -= taken;
                quantity -= taken;
            }
        }
        self.lines.retain(|line| line.quantity > 0);
    }

    /// A void after a payment that may have been the last one.
    pub(super) fn remove_afterwards(&mut self, number: u32, product: &Id, quantity: i64) {
        let afterwards = self.afterwards.get_or_insert_default();
        if afterwards.voids.len() < LINES_MAX {
            afterwards.voids.push((number, product.clone(), quantity));
        }
    }

    /// True if the cashier must be asked for this age: no check has shown it, and either nobody is being asked or the
    /// customer was refused, which makes every further item a new attempt.
    pub(super) fn needs_prompt(&self, age: u8) -> bool {
        let is_asked = self.prompts.iter().any(|prompt| prompt.age >= age && prompt.outcome == PromptOutcome::Pending);
        let was_refused = self.refused > 0 && age >= self.refused;
        age > self.passed && (!is_asked || was_refused)
    }

    /// Remembers a prompt. Those that were refused before it stay so, whatever is checked now.
    pub(super) fn prompt(&mut self, prompt: Prompt) {
        self.prompts.retain(|known| known.outcome != PromptOutcome::Refused);
        if self.prompts.len() == PROMPTS_MAX {
            self.prompts.remove(0);
        }
        self.prompts.push(prompt);
    }

    /// Takes the outcome of a check, the last one wins. Answers the prompts that it changes. What was done after the payment
    /// counts only if the sale goes on.
    pub(super) fn check(&mut self, outcome: AgeOutcome, age: u8, at: Timestamp) -> Vec<Prompt> {
        let check = (outcome == AgeOutcome::Refused, age);
        if self.wait.as_ref().is_none_or(|wait| wait.counts(at)) {
            self.take_checks(&[check]);
        } else {
            let afterwards = self.afterwards.get_or_insert_default();
            if afterwards.checks.len() < CHECKS_MAX {
                afterwards.checks.push(check);
            }
        }
        if outcome == AgeOutcome::Refused {
            self.decide(|prompt| prompt.age >= age, outcome.into(), at)
        } else {
            self.decide(|prompt| prompt.age <= age, outcome.into(), at)
        }
    }

    /// The earliest line of the highest age, if no check has shown that age.
    pub(super) fn unchecked_line(&self) -> Option<&Line> {
        let highest = self.lines.iter().map(|line| line.age).max()?;
        self.lines.iter().find(|line| line.age == highest && highest > self.passed)
    }

    /// It was sold without a passed check. Answers the prompts that nobody had answered. What is added from now on is asked
    /// for anew.
    pub(super) fn mark_alerted(&mut self, at: Timestamp) -> Vec<Prompt> {
        self.alerted = true;
        self.lines.clear();
        let passed = self.passed;
        if let Some(afterwards) = self.afterwards.take() {
            self.take_checks(&afterwards.checks);
        }
        let unanswered = |prompt: &Prompt| prompt.age > passed && prompt.outcome == PromptOutcome::Pending;
        self.decide(unanswered, PromptOutcome::NotChecked, at)
    }

    fn decide(&mut self, which: impl Fn(&Prompt) -> bool, outcome: PromptOutcome, at: Timestamp) -> Vec<Prompt> {
        let mut changed = Vec::new();
        for prompt in self.prompts.iter_mut().filter(|prompt| which(prompt) && prompt.outcome != outcome) {
            prompt.outcome = outcome;
            prompt.at = prompt.at.max(at);
            changed.push(prompt.clone());
        }
        changed
    }
}
