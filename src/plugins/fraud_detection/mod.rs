//! `fraud-detection`: rules as data over event-time windows, with explained alerts.
//!
//! `settings` is what a manager writes, `compile` what it becomes, `field` the values that are summed or told apart,
//! `window` what is remembered about an entity and `stored` how that is written, `alert` what is said. The semantics are in `docs/fraud-rules.md`.

mod alert;
mod compile;
mod field;
mod settings;
mod stored;
mod window;

#[cfg(test)]
mod tests;

use rustc_hash::FxHashSet;

use self::alert::{Contributing, Finding};
use self::compile::{CompiledRule, Measure, RuleUse};
use self::field::FieldValue;
use self::window::Entry;
use super::expression::{EventView, Expression};
use super::{FieldError, Plugin, Subscription};
use crate::effect::Effects;
use crate::event::{Event, EventData, Id, Scope};

pub use self::compile::Compiled;
pub use self::settings::{After, Aggregate, Kind, Numerator, Rule, Same, Settings, Status};
pub use self::window::State;

/// The plugin.
#[derive(Debug)]
pub struct FraudDetection;

impl Plugin for FraudDetection {
    type State = State;
    type Settings = Settings;
    type Compiled = Compiled;
    const NAME: &'static str = "fraud-detection";
    const DESCRIPTION: &'static str = "Watches tills, employees, customers and cards for patterns of fraud, by rules that you write, and explains each alert.";

    fn compile(settings: &Settings) -> Result<Compiled, Vec<FieldError>> {
        compile::compile(settings)
    }

    fn forget_after_days(compiled: &Compiled, scope: Scope) -> u32 {
        compiled.forget_after_days(scope)
    }

    fn subscriptions(compiled: &Compiled) -> Vec<Subscription> {
        compiled.subscriptions()
    }

    fn apply(state: &mut State, compiled: &Compiled, event: &Event, fx: &mut Effects<'_>) {
        let time = fx.time_of(event).as_millis();
        // What all rules' expressions see is found out once, and they share one budget.
        let view = EventView::new(event, fx.context().stores);
        for rule_use in compiled.uses(fx.context().scope, event.event_type()) {
            let rule = &compiled.rules[usize::from(rule_use.rule)];
            let seen = Seen { rule, rule_use: *rule_use, event, view: &view, time };
            if (rule_use.counts || rule_use.numerator)
                && let Some(finding) = seen.observe(state, compiled, fx)
            {
                alert::raise(state, rule, &finding, event, fx);
            }
            if rule_use.precedes {
                seen.remember(state, compiled, fx);
            }
        }
    }
}

/// One event as one rule sees it.
struct Seen<'a> {
    rule: &'a CompiledRule,
    rule_use: RuleUse,
    event: &'a Event,
    view: &'a EventView<'a>,
    time: i64,
}

impl Seen<'_> {
    /// Takes the event into the rule's window, and tells if the rule fires.
    fn observe(&self, state: &mut State, compiled: &Compiled, fx: &mut Effects<'_>) -> Option<Finding> {
        let Self { rule, event, view, time, .. } = *self;
        let plain_denominator = matches!(rule.measure, Measure::Ratio(None)) && !self.rule_use.numerator;
        if plain_denominator && !rule.filtered {
            state.rule(rule.key, compiled).count(time, rule.window_ms);
            return None;
        }
        if !self.passes(fx) {
            return None;
        }
        let antecedent = match rule.after {
            None => None,
            Some((within_ms, same)) => {
                let key = after_key(event, same)?;
                Some(state.known_rule(rule.key)?.antecedent(time, key, within_ms)?)
            }
        };
        let value = match &rule.measure {
            Measure::Count => FieldValue::None,
            Measure::Sum(field) => field.of(event, view).filter(|value| matches!(value, FieldValue::Number(_)))?,
            Measure::Distinct(field) => field.of(event, view)?,
            Measure::Ratio(expression) => {
                let numerator = match expression {
                    Some(expression) => evaluate(expression, rule, view, fx),
                    None => self.rule_use.numerator,
                };
                if !numerator {
                    state.rule(rule.key, compiled).count(time, rule.window_ms);
                    return None;
                }
                FieldValue::Number(if self.rule_use.counts { 1.0 } else { 0.0 })
            }
        };
        let finding = if rule.window_ms == 0 {
            // Nothing is remembered of an event that is judged alone and found harmless.
            let observed = match (&rule.measure, &value) {
                (Measure::Sum(_), FieldValue::Number(number)) => *number,
                _ => 1.0,
            };
            if !rule.exceeded(observed, 1) {
                return None;
            }
            let event = state.reference(event, fx.context().position);
            Finding { observed, sample: 1, contributing: Contributing::Event(Entry { time, value, event, antecedent }) }
        } else {
            let event = state.reference(event, fx.context().position);
            let memory = state.rule(rule.key, compiled);
            let (end_time, range) = memory.insert(Entry { time, value, event, antecedent }, rule.window_ms);
            if cooling(memory.last_alert, time, rule.cooldown_ms) {
                return None;
            }
            let others = match rule.measure {
                Measure::Ratio(_) => memory.counted(end_time, rule.window_ms),
                _ => 0,
            };
            let (observed, sample) = observed(&rule.measure, &memory.entries[range.clone()], others);
            if !rule.exceeded(observed, sample) {
                return None;
            }
            Finding { observed, sample, contributing: Contributing::Window(range) }
        };
        if rule.cooldown_ms > 0 {
            let memory = state.rule(rule.key, compiled);
            if cooling(memory.last_alert, time, rule.cooldown_ms) {
                return None;
            }
            memory.last_alert = Some(time);
        }
        Some(finding)
    }

    /// The conditions that look at the event alone, cheap ones first.
    fn passes(&self, fx: &mut Effects<'_>) -> bool {
        let Self { rule, event, view, .. } = self;
        if !rule.filtered {
            return true;
        }
        let stores = fx.context().stores;
        rule.minimum_amount.is_none_or(|minimum| event.data.amount().is_some_and(|amount| amount >= minimum))
            && rule.receipt.is_none_or(|wanted| match &event.data {
                EventData::RefundCompleted(data) => data.receipt == wanted,
                _ => false,
            })
            && rule.manual.is_none_or(|wanted| match &event.data {
                EventData::DiscountApplied(data) => data.manual == wanted,
                _ => false,
            })
            && rule.direction.is_none_or(|wanted| event.data.direction() == Some(wanted))
            && rule
                .store_open
                .is_none_or(|wanted| stores.is_open(event.store_id().unwrap_or_default(), event.time) == Some(wanted))
            && rule.condition.as_ref().is_none_or(|condition| evaluate(condition, rule, view, fx))
    }

    /// Keeps the event, since it may make later ones count.
    fn remember(&self, state: &mut State, compiled: &Compiled, fx: &Effects<'_>) {
        if let Some((within_ms, same)) = self.rule.after
            && let Some(key) = after_key(self.event, same)
        {
            let reference = state.reference(self.event, fx.context().position);
            state.rule(self.rule.key, compiled).precede(self.time, key, reference, within_ms);
        }
    }
}

/// An expression that fails counts as false. A person sees it in the debug log, and counted with the plugin.
fn evaluate(expression: &Expression, rule: &CompiledRule, view: &EventView<'_>, fx: &mut Effects<'_>) -> bool {
    expression.matches(view).unwrap_or_else(|failure| {
        fx.log(format!("rule {}: the expression failed for {}: {failure}", rule.id, view.event_name()));
        fx.condition_failed(format!("rules.{}", rule.id), failure);
        false
    })
}

/// What an event and the one before it must have in common.
fn after_key(event: &Event, same: Same) -> Option<&str> {
    match same {
        Same::Basket => match &event.data {
            EventData::RefundCompleted(data) => data.original_basket_id.as_ref().or(data.basket_id.as_ref()),
            data => data.basket_id(),
        }
        .map(Id::as_str),
        Same::Terminal => event.terminal_id(),
        Same::Employee => event.entity(Scope::Employee),
        Same::Entity => Some(""),
    }
}

fn cooling(last_alert: Option<i64>, time: i64, cooldown_ms: i64) -> bool {
    last_alert.is_some_and(|last| (time - last).abs() < cooldown_ms)
}

/// The observed value, and how many events it rests on.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn observed(measure: &Measure, entries: &[Entry], others: u64) -> (f64, u64) {
    let numbers =
        || entries.iter().map(|entry| if let FieldValue::Number(number) = entry.value { number } else { 0.0 });
    let count = entries.len();
    match measure {
        Measure::Count => (count as f64, count as u64),
        Measure::Sum(_) => (numbers().sum(), count as u64),
        Measure::Distinct(_) => {
            let values: FxHashSet<_> = entries.iter().map(|entry| &entry.value).collect();
            (values.len() as f64, count as u64)
        }
        Measure::Ratio(_) => {
            let sample = others + numbers().filter(|weight| *weight > 0.0).count() as u64;
            if sample == 0 { (0.0, 0) } else { (count as f64 / sample as f64, sample) }
        }
    }
}
