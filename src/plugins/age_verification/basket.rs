//! What a basket needs by age, what was asked of the cashier, and what was checked.

use serde::{Deserialize, Serialize};

use crate::effect::Position;
use crate::event::{AgeOutcome, Id};
use crate::time::Timestamp;

/// Restricted lines that a basket remembers.
pub(super) const LINES_MAX: usize = 64;

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
pub(super) struct Line {
    #[serde(rename = "l")]
    pub(super) number: u32,
    #[serde(rename = "p")]
    pub(super) product: Id,
    /// In thousandths.
    #[serde(rename = "q")]
    pub(super) quantity: i64,
    #[serde(rename = "a")]
    pub(super) age: u8,
    /// `source#id` of the item event.
    #[serde(rename = "e")]
    pub(super) event: String,
    #[serde(rename = "o")]
    pub(super) position: Position,
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

/// A payment before which no check was passed, as far as has been heard.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Unchecked {
    #[serde(rename = "t")]
    pub(super) at: Timestamp,
    /// When the alert is raised, by the clock.
    #[serde(rename = "u")]
    pub(super) until: Timestamp,
    #[serde(rename = "w")]
    pub(super) employee: Id,
    /// `source#id` of the payment.
    #[serde(rename = "e")]
    pub(super) event: String,
    #[serde(rename = "s")]
    pub(super) source: String,
    #[serde(rename = "o")]
    pub(super) position: Position,
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
    #[serde(rename = "p", default)]
    prompts: Vec<Prompt>,
    /// It was paid, and the check may still arrive.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub(super) unchecked: Option<Unchecked>,
    /// It was paid without a passed check.
    #[serde(rename = "x", default)]
    pub(super) alerted: bool,
}

impl Basket {
    pub(super) const fn new(id: Id) -> Self {
        Self { id, lines: Vec::new(), passed: 0, prompts: Vec::new(), unchecked: None, alerted: false }
    }

    /// True if it was paid without a passed check: nothing more is sold in it.
    pub(super) const fn is_closed(&self) -> bool {
        self.alerted || self.unchecked.is_some()
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

    pub(super) fn void(&mut self, number: u32, product: &Id, quantity: i64) {
        if let Some(index) = self.lines.iter().position(|known| (known.number, &known.product) == (number, product)) {
            self.lines[index].quantity -= quantity;
            if self.lines[index].quantity <= 0 {
                self.lines.remove(index);
            }
        }
    }

    /// True if the cashier must be asked for this age: nobody has been yet, and no check has shown it.
    pub(super) fn needs_prompt(&self, age: u8) -> bool {
        age > self.passed && self.prompts.iter().all(|prompt| prompt.age < age)
    }

    pub(super) fn prompt(&mut self, prompt: Prompt) {
        self.prompts.push(prompt);
    }

    /// Takes the outcome of a check, the last one wins. Answers the prompts that it changes. What was done after the payment
    /// does not count for it.
    pub(super) fn check(&mut self, outcome: AgeOutcome, age: u8, at: Timestamp) -> Vec<Prompt> {
        let in_time = self.unchecked.as_ref().is_none_or(|payment| at <= payment.at);
        if outcome == AgeOutcome::Refused {
            if in_time {
                self.passed = self.passed.min(age.saturating_sub(1));
            }
            self.decide(|prompt| prompt.age >= age, outcome.into(), at)
        } else {
            if in_time {
                self.passed = self.passed.max(age);
            }
            self.decide(|prompt| prompt.age <= age, outcome.into(), at)
        }
    }

    /// The earliest line of the highest age, if no check has shown that age.
    pub(super) fn unchecked_line(&self) -> Option<&Line> {
        let highest = self.lines.iter().map(|line| line.age).max()?;
        self.lines.iter().find(|line| line.age == highest && highest > self.passed)
    }

    /// It was paid without a passed check. Answers the prompts that nobody had answered.
    pub(super) fn mark_alerted(&mut self, at: Timestamp) -> Vec<Prompt> {
        self.alerted = true;
        let passed = self.passed;
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
