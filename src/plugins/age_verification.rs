//! `age-verification`: asks for an age check when a basket needs one, and raises an alert when it is paid without.
//!
//! `Policies` says what needs which age, `Basket` what is in a basket and what was checked; this file turns events
//! into the one and answers into effects. Ages and outcomes only: no date of birth is ever known here.

mod basket;
mod policy;

#[cfg(test)]
mod tests;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use self::basket::{Basket, Line, Prompt, PromptOutcome};
use self::policy::ANYWHERE;
pub use self::policy::{Policies, Policy, Settings};
use super::{EventTypes, FieldError, Plugin, Subscription};
use crate::effect::{AgePromptRecord, AlertRecord, Effects, Record};
use crate::event::{
    AgeChecked, AgeOutcome, AgeVerificationRequired, AlertRaised, Event, EventData, EventType, Id, ItemAdded,
    ItemVoided, PaymentCompleted, Scope, Severity,
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

    fn touch_or_begin(&mut self, id: &Id) -> &mut Basket {
        if self.touch(id).is_none() {
            if self.baskets.len() == BASKETS_MAX {
                self.baskets.remove(0);
            }
            self.baskets.push(Basket::new(id.clone()));
        }
        self.baskets.last_mut().expect("it was touched or has just begun")
    }

    fn forget(&mut self, id: &Id) {
        self.baskets.retain(|basket| basket.id != *id);
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
                if let Some(basket) = state.touch(basket_id) {
                    basket.void(*line, product_id, quantity.thousandths());
                }
            }
            EventData::AgeChecked(check) => take_check(state, check, event, fx),
            EventData::PaymentCompleted(payment) => pay(state, payment, event, fx),
            EventData::BasketCancelled(cancelled) => state.forget(&cancelled.basket_id),
            _ => {}
        }
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
    let basket = state.touch_or_begin(&item.basket_id);
    if basket.alerted {
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
    record(&item.basket_id, &prompt, event, fx);
    basket.prompt(prompt);
}

fn take_check(state: &mut State, check: &AgeChecked, event: &Event, fx: &mut Effects<'_>) {
    let basket = if check.outcome == AgeOutcome::Refused {
        state.touch(&check.basket_id)
    } else {
        Some(state.touch_or_begin(&check.basket_id))
    };
    let Some(basket) = basket else { return };
    for prompt in basket.check(check.outcome, check.minimum_age, event.time) {
        record(&check.basket_id, &prompt, event, fx);
    }
}

fn pay(state: &mut State, payment: &PaymentCompleted, event: &Event, fx: &mut Effects<'_>) {
    let Some(basket) = state.touch(&payment.basket_id) else { return };
    if basket.alerted {
        return;
    }
    let Some(line) = basket.unchecked_line().cloned() else {
        state.forget(&payment.basket_id);
        return;
    };
    raise_alert(&line, basket.passed, payment, event, fx);
    for prompt in basket.mark_alerted(event.time) {
        record(&payment.basket_id, &prompt, event, fx);
    }
}

fn raise_alert(line: &Line, passed: u8, payment: &PaymentCompleted, event: &Event, fx: &mut Effects<'_>) {
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
        event_ids: vec![line.event.clone(), event.name()],
        message: format!(
            "Basket {} was paid without the age check that product {} needs: {} years, {checked}",
            payment.basket_id, line.product, line.age
        ),
    };
    fx.publish(EventData::AlertRaised(alert.clone()));
    fx.record(Record::Alert(Box::new(AlertRecord {
        alert,
        at: event.time,
        store_id: event.store_id().unwrap_or_default().to_owned(),
        terminal_id: event.terminal_id().map(ToOwned::to_owned),
        employee_id: Some(payment.employee_id.to_string()),
        evidence: vec![line.position, fx.context().position],
        shadow: false,
    })));
}

fn record(basket_id: &Id, prompt: &Prompt, event: &Event, fx: &mut Effects<'_>) {
    fx.record(Record::AgePrompt(AgePromptRecord {
        id: prompt.id.clone(),
        basket_id: basket_id.to_string(),
        store_id: event.store_id().unwrap_or_default().to_owned(),
        terminal_id: event.terminal_id().unwrap_or_default().to_owned(),
        employee_id: prompt.employee.to_string(),
        minimum_age: prompt.age,
        outcome: prompt.outcome.as_str().to_owned(),
        at: prompt.at,
    }));
}
