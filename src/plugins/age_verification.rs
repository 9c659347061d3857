//! `age-verification`: asks for an age check when a basket needs one, and raises an alert when it was paid without: not at once,
//! since a check may reach us after the payment that it preceded.
//!
//! `Policies` says what needs which age, `Basket` what is in a basket and what was checked; this file turns events
//! into the one and answers into effects. Ages and outcomes only: no date of birth is ever known here.

mod basket;
mod policy;

#[cfg(test)]
mod tests;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use self::basket::{Basket, Line, Prompt, PromptOutcome, Unchecked};
use self::policy::ANYWHERE;
pub use self::policy::{Policies, Policy, Settings};
use super::{EventTypes, FieldError, Plugin, Subscription};
use crate::effect::{AgePromptRecord, AlertRecord, Effects, Record};
use crate::event::{
    AgeChecked, AgeOutcome, AgeVerificationRequired, AlertRaised, BasketChanged, Event, EventData, EventType, Id,
    ItemAdded, ItemVoided, PaymentCompleted, Scope, Severity, Source,
};

/// Baskets that a terminal remembers.
const BASKETS_MAX: usize = 16;
/// The rule id of the alert.
const RULE_ID: &str = "age-not-verified";

/// The plugin.
#[derive(Debug)]
pub struct AgeVerification;

/// The baskets of a terminal that hold something restricted; the one that was touched last stands last.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    #[serde(rename = "b", default)]
    baskets: Vec<Basket>,
}

impl State {
    /// The basket of that id, which from now on counts as the one that was touched last.
    fn touch(&mut self, id: &Id) -> Option<&mut Basket> {
        let index = self.baskets.iter().position(|basket| basket.id == *id)?;
        self.baskets[index..].rotate_left(1);
        self.baskets.last_mut()
    }

    fn touch_or_begin(&mut self, id: &Id, fx: &mut Effects<'_>) -> &mut Basket {
        if self.touch(id).is_none() {
            if self.baskets.len() == BASKETS_MAX {
                // Nobody evades an alert by beginning further baskets.
                raise_alert(&mut self.baskets.remove(0), fx);
            }
            self.baskets.push(Basket::new(id.clone()));
        }
        self.baskets.last_mut().expect("it was touched or has just begun")
    }

    fn forget(&mut self, id: &Id) {
        self.baskets.retain(|basket| basket.id != *id);
    }

    /// Raises the alerts for which nobody need wait any longer, and wakes for the next.
    fn settle(&mut self, fx: &mut Effects<'_>) {
        let until = |basket: &Basket| basket.unchecked.as_ref().map(|payment| payment.until);
        let now = fx.now();
        let mut over: Vec<_> =
            self.baskets.iter_mut().filter(|basket| until(basket).is_some_and(|until| until <= now)).collect();
        over.sort_by_key(|basket| until(basket));
        for basket in over {
            raise_alert(basket, fx);
        }
        fx.wake_at(self.baskets.iter().filter_map(until).min());
    }
}

impl Plugin for AgeVerification {
    type State = State;
    type Settings = Settings;
    type Compiled = Policies;
    const NAME: &'static str = "age-verification";
    const DESCRIPTION: &'static str =
        "Asks for an age check when a basket needs one, and raises an alert when it is paid without.";

    fn compile(settings: &Settings) -> Result<Policies, Vec<FieldError>> {
        Policies::compile(settings)
    }

    fn forget_after_days(policies: &Policies, _: Scope) -> u32 {
        policies.forget_after_days
    }

    fn subscriptions(_: &Policies) -> Vec<Subscription> {
        let event_types = EventTypes::of(&[
            EventType::ItemAdded,
            EventType::ItemVoided,
            EventType::AgeChecked,
            EventType::PaymentCompleted,
            EventType::BasketCancelled,
        ]);
        vec![Subscription { scope: Scope::Terminal, event_types }]
    }

    fn apply(state: &mut State, policies: &Policies, event: &Event, fx: &mut Effects<'_>) {
        match &event.data {
            EventData::ItemAdded(item) => add(state, policies, item, event, fx),
            EventData::ItemVoided(ItemVoided { basket_id, line, product_id, quantity, .. }) => {
                if let Some(basket) = state.touch(basket_id).filter(|basket| !basket.is_closed()) {
                    basket.void(*line, product_id, quantity.thousandths());
                }
            }
            EventData::AgeChecked(check) => take_check(state, check, event, fx),
            EventData::PaymentCompleted(payment) => pay(state, policies, payment, event, fx),
            // What was paid cannot be cancelled any more.
            EventData::BasketCancelled(BasketChanged { basket_id, .. }) => {
                state.baskets.retain(|basket| basket.id != *basket_id || basket.unchecked.is_some());
            }
            _ => {}
        }
        state.settle(fx);
    }

    fn on_timer(state: &mut State, _: &Policies, fx: &mut Effects<'_>) {
        state.settle(fx);
    }
}

fn add(state: &mut State, policies: &Policies, item: &ItemAdded, event: &Event, fx: &mut Effects<'_>) {
    let stores = fx.context().stores;
    let store_id = event.store_id().unwrap_or_default();
    let jurisdiction = stores.get(store_id).and_then(|store| store.jurisdiction.as_deref());
    let day = || stores.business_day(store_id, event.time);
    let Some(policy) = policies.restricting(&item.category, jurisdiction, day) else {
        state.touch(&item.basket_id);
        return;
    };
    let basket = state.touch_or_begin(&item.basket_id, fx);
    if basket.is_closed() {
        return;
    }
    let age = policy.minimum_age;
    basket.add(Line {
        number: item.line,
        product: item.product_id.clone(),
        quantity: item.quantity.thousandths(),
        age,
        event: event.name(),
        position: fx.context().position,
    });
    if !basket.needs_prompt(age) {
        return;
    }
    let prompt = Prompt {
        id: fx.derive_id(),
        age,
        employee: item.employee_id.clone(),
        outcome: PromptOutcome::Pending,
        at: event.time,
    };
    fx.publish(EventData::AgeVerificationRequired(AgeVerificationRequired {
        basket_id: item.basket_id.clone(),
        employee_id: item.employee_id.clone(),
        minimum_age: age,
        challenge_age: policy.challenge_age,
        product_id: item.product_id.clone(),
        category: item.category.clone(),
        jurisdiction: (policy.jurisdiction != ANYWHERE).then(|| CompactString::new(&policy.jurisdiction)),
    }));
    record(&item.basket_id, &prompt, &event.source, fx);
    basket.prompt(prompt);
}

fn take_check(state: &mut State, check: &AgeChecked, event: &Event, fx: &mut Effects<'_>) {
    let basket = if check.outcome == AgeOutcome::Refused {
        state.touch(&check.basket_id)
    } else {
        Some(state.touch_or_begin(&check.basket_id, fx))
    };
    let Some(basket) = basket else { return };
    for prompt in basket.check(check.outcome, check.minimum_age, event.time) {
        record(&check.basket_id, &prompt, &event.source, fx);
    }
    if basket.unchecked.is_some() && basket.unchecked_line().is_none() {
        // The check had been overtaken by the payment.
        state.forget(&check.basket_id);
    }
}

fn pay(state: &mut State, policies: &Policies, payment: &PaymentCompleted, event: &Event, fx: &mut Effects<'_>) {
    let Some(basket) = state.touch(&payment.basket_id) else { return };
    if basket.is_closed() {
        return;
    }
    if basket.unchecked_line().is_none() {
        state.forget(&payment.basket_id);
        return;
    }
    basket.unchecked = Some(Unchecked {
        at: event.time,
        until: fx.now().plus_millis(policies.grace_ms),
        employee: payment.employee_id.clone(),
        event: event.name(),
        source: event.source.as_str().to_owned(),
        position: fx.context().position,
    });
}

/// Raises the alert about a basket that was paid without a check, if it is one.
fn raise_alert(basket: &mut Basket, fx: &mut Effects<'_>) {
    let Some(payment) = basket.unchecked.take() else { return };
    let Some(line) = basket.unchecked_line().cloned() else { return };
    let passed = basket.passed;
    let checked = if passed == 0 { "no check was passed".to_owned() } else { format!("checked for {passed} only") };
    let valid = |id: &str| Id::new(id).expect("made of a digest, a literal or an entity's valid id");
    let alert = AlertRaised {
        alert_id: valid(&fx.derive_id()),
        rule_id: valid(RULE_ID),
        rule_revision: 1,
        severity: Severity::High,
        scope: Scope::Terminal,
        entity: valid(fx.context().entity),
        observed: f64::from(passed),
        limit: f64::from(line.age),
        window_seconds: None,
        event_ids: vec![line.event, payment.event],
        message: format!(
            "Basket {} was paid without the age check that product {} needs: {} years, {checked}",
            basket.id, line.product, line.age
        ),
    };
    let source = Source::new(&payment.source).expect("a terminal's valid source");
    fx.publish_about(&payment.source, EventData::AlertRaised(alert.clone()));
    fx.record(Record::Alert(Box::new(AlertRecord {
        alert,
        at: payment.at,
        store_id: source.store_id().unwrap_or_default().to_owned(),
        terminal_id: source.terminal_id().map(ToOwned::to_owned),
        employee_id: Some(payment.employee.to_string()),
        evidence: vec![line.position, payment.position],
        shadow: false,
    })));
    for prompt in basket.mark_alerted(payment.at) {
        record(&basket.id, &prompt, &source, fx);
    }
}

fn record(basket_id: &Id, prompt: &Prompt, source: &Source, fx: &mut Effects<'_>) {
    fx.record(Record::AgePrompt(AgePromptRecord {
        id: prompt.id.clone(),
        basket_id: basket_id.to_string(),
        store_id: source.store_id().unwrap_or_default().to_owned(),
        terminal_id: source.terminal_id().unwrap_or_default().to_owned(),
        employee_id: prompt.employee.to_string(),
        minimum_age: prompt.age,
        outcome: prompt.outcome.as_str().to_owned(),
        at: prompt.at,
    }));
}
