//! `age-verification`: asks for an age check when a basket needs one, and raises an alert when it was sold without: not at once,
//! since a check may reach us after the payment that it preceded, and not for a part payment, after which the sale goes on.
//!
//! `Policies` says what needs which age, `Basket` what is in a basket and what was checked, `payment` what is paid; this
//! file turns events into these and answers into effects. Ages and outcomes only: no date of birth is ever known here.

mod alert;
mod basket;
mod payment;
mod policy;

#[cfg(test)]
mod tests;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use self::alert::{raise_alert, record};
use self::basket::{Basket, Line, Prompt, PromptOutcome};
use self::payment::{Paid, Payment, Wait, remember};
use self::policy::ANYWHERE;
pub use self::policy::{Policies, Policy, Settings};
use super::{EventTypes, FieldError, Plugin, Subscription};
use crate::effect::Effects;
use crate::event::{
    AgeChecked, AgeOutcome, AgeVerificationRequired, Event, EventData, EventType, Id, ItemAdded, ItemVoided,
    PaymentCompleted, Scope, SubtotalFinalized, covers, signed,
};
use crate::time::Timestamp;

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
    /// Other baskets, of which something was paid already.
    #[serde(rename = "p", default)]
    paid: Vec<Paid>,
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
            let index = self.paid.iter().position(|paid| paid.id == *id);
            let paid = index.map(|index| self.paid.remove(index));
            self.baskets.push(Basket::new(id.clone(), paid));
        }
        self.baskets.last_mut().expect("it was touched or has just begun")
    }

    /// Nothing in the basket that was touched last needs a check any more: only what was paid is remembered.
    fn put_away_last(&mut self) {
        if let Some(basket) = self.baskets.pop() {
            remember(&mut self.paid, basket.summary());
        }
    }

    fn forget(&mut self, id: &Id) {
        self.baskets.retain(|basket| basket.id != *id);
        self.paid.retain(|paid| paid.id != *id);
    }

    /// Another basket begins: goods that were paid in part, and not put aside, have left.
    fn others_leave(&mut self, id: &Id, until: Timestamp) {
        for basket in self.baskets.iter_mut().filter(|basket| basket.id != *id && !basket.suspended) {
            if basket.wait.is_none()
                && basket.unchecked_line().is_some()
                && let Some(payment) = basket.part.take()
            {
                basket.wait = Some(Wait::new(payment, until, false).open_to_the_end());
            }
        }
    }

    /// Raises the alerts for which nobody need wait any longer, and wakes for the next.
    fn settle(&mut self, fx: &mut Effects<'_>) {
        let until = |basket: &Basket| basket.wait.as_ref().map(|wait| wait.until);
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
            EventType::BasketStarted,
            EventType::ItemAdded,
            EventType::ItemVoided,
            EventType::ItemReturned,
            EventType::DiscountApplied,
            EventType::SubtotalFinalized,
            EventType::AgeChecked,
            EventType::PaymentCompleted,
            EventType::BasketCancelled,
            EventType::BasketSuspended,
            EventType::BasketResumed,
        ]);
        vec![Subscription { scope: Scope::Terminal, event_types }]
    }

    fn apply(state: &mut State, policies: &Policies, event: &Event, fx: &mut Effects<'_>) {
        let at = fx.time_of(event);
        let until = fx.now().plus_millis(policies.grace_ms);
        match &event.data {
            EventData::BasketStarted(data) => state.others_leave(&data.basket_id, until),
            EventData::ItemAdded(item) => {
                state.others_leave(&item.basket_id, until);
                add(state, policies, item, event, fx);
            }
            EventData::ItemVoided(item) => void(state, item, at),
            EventData::ItemReturned(item) => change(state, &item.basket_id, at),
            EventData::DiscountApplied(discount) => change(state, &discount.basket_id, at),
            EventData::SubtotalFinalized(subtotal) => finalize(state, subtotal, event, until, fx),
            EventData::AgeChecked(check) => take_check(state, check, event, fx),
            EventData::PaymentCompleted(payment) => pay(state, payment, event, until, fx),
            EventData::BasketCancelled(data) => state.forget(&data.basket_id),
            EventData::BasketSuspended(data) => suspend(state, &data.basket_id, at),
            EventData::BasketResumed(data) => {
                if let Some(basket) = state.touch(&data.basket_id) {
                    basket.suspended = false;
                }
            }
            _ => {}
        }
        state.settle(fx);
    }

    fn on_timer(state: &mut State, _: &Policies, fx: &mut Effects<'_>) {
        state.settle(fx);
    }
}

/// Something is done in a sale after which its total is not known any more.
fn change(state: &mut State, basket_id: &Id, at: Timestamp) {
    if let Some(basket) = state.touch(basket_id)
        && !basket.was_overtaken(at)
    {
        basket.goes_on();
    }
}

fn add(state: &mut State, policies: &Policies, item: &ItemAdded, event: &Event, fx: &mut Effects<'_>) {
    let at = fx.time_of(event);
    let stores = fx.context().stores;
    let store_id = event.store_id().unwrap_or_default();
    let jurisdiction = stores.get(store_id).and_then(|store| store.jurisdiction.as_deref());
    // The law changes at midnight, whenever the shop's business day begins.
    let day = || stores.local(store_id, at).date();
    let Some(policy) = policies.restricting(&item.category, jurisdiction, day) else {
        return change(state, &item.basket_id, at);
    };
    let basket = state.touch_or_begin(&item.basket_id, fx);
    let age = policy.minimum_age;
    let line = Line {
        number: item.line,
        product: item.product_id.clone(),
        quantity: item.quantity.parts(),
        age,
        event: event.name(),
        position: fx.context().position,
    };
    if basket.was_overtaken(at) {
        // It was sold; there is nobody left to ask.
        return basket.add(line);
    }
    basket.goes_on();
    basket.add(line);
    if !basket.needs_prompt(age) {
        return;
    }
    let prompt =
        Prompt { id: fx.derive_id(), age, employee: item.employee_id.clone(), outcome: PromptOutcome::Pending, at };
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

fn void(state: &mut State, item: &ItemVoided, at: Timestamp) {
    let Some(basket) = state.touch(&item.basket_id) else { return };
    let (line, product, quantity) = (item.line, &item.product_id, item.quantity.parts());
    match &basket.wait {
        // What was sold is not made unsold by a void.
        Some(wait) if at > wait.last_at() && wait.settled => {}
        Some(wait) if at > wait.last_at() => basket.remove_afterwards(line, product, quantity),
        Some(_) => {
            basket.remove(line, product, quantity);
            if basket.unchecked_line().is_none() {
                state.put_away_last();
            }
        }
        None => {
            basket.remove(line, product, quantity);
            basket.due = None;
        }
    }
}

fn suspend(state: &mut State, basket_id: &Id, at: Timestamp) {
    let Some(basket) = state.touch(basket_id) else { return };
    if basket.wait.as_ref().is_some_and(|wait| at > wait.last_at() && !wait.settled) {
        basket.goes_on();
    }
    basket.suspended = true;
}

fn take_check(state: &mut State, check: &AgeChecked, event: &Event, fx: &mut Effects<'_>) {
    let (id, age) = (&check.basket_id, check.minimum_age);
    let basket = if check.outcome == AgeOutcome::Refused {
        if let Some(paid) = state.paid.iter_mut().find(|paid| paid.id == *id) {
            paid.passed = paid.passed.min(age.saturating_sub(1));
        }
        state.touch(id)
    } else {
        Some(state.touch_or_begin(id, fx))
    };
    let Some(basket) = basket else { return };
    for prompt in basket.check(check.outcome, age, fx.time_of(event)) {
        record(id, &prompt, &event.source, fx);
    }
    if basket.wait.is_some() && basket.unchecked_line().is_none() {
        // The check had been overtaken by the payment.
        state.put_away_last();
    }
}

/// The total is known: what is paid already may cover it, and a total of nothing needs no payment.
fn finalize(state: &mut State, total: &SubtotalFinalized, event: &Event, until: Timestamp, fx: &Effects<'_>) {
    let Some(basket) = state.touch(&total.basket_id) else { return };
    let due = signed(total.total.minor(), total.direction);
    if !basket.was_overtaken(fx.time_of(event)) {
        basket.goes_on();
    }
    basket.due = Some(due);
    let (is_covered, is_missing) = (covers(due, basket.paid), basket.unchecked_line().is_some());
    match &mut basket.wait {
        Some(wait) if is_covered => wait.settled = true,
        Some(_) => {
            // The payment that seemed to be the last one was for a part.
            basket.goes_on();
            basket.due = Some(due);
        }
        None if is_covered && is_missing => {
            let payment = basket.part.take().unwrap_or_else(|| reference(&total.employee_id, event, fx));
            basket.wait = Some(Wait::new(payment, until, true).open_to_the_end());
        }
        None => {}
    }
}

fn reference(employee: &Id, event: &Event, fx: &Effects<'_>) -> Payment {
    Payment {
        at: fx.time_of(event),
        employee: employee.clone(),
        event: event.name(),
        source: event.source.as_str().to_owned(),
        position: fx.context().position,
    }
}

fn pay(state: &mut State, payment: &PaymentCompleted, event: &Event, until: Timestamp, fx: &Effects<'_>) {
    let amount = signed(payment.amount.minor(), payment.direction);
    let id = &payment.basket_id;
    let Some(basket) = state.touch(id) else {
        let before = state.paid.iter().find(|paid| paid.id == *id);
        let (paid, passed) = before.map_or((0, 0), |before| (before.amount, before.passed));
        return remember(&mut state.paid, Paid { id: id.clone(), amount: paid.saturating_add(amount), passed });
    };
    basket.paid = basket.paid.saturating_add(amount);
    basket.suspended = false;
    if basket.wait.as_ref().is_none_or(|wait| !wait.settled) {
        basket.take_afterwards();
    }
    let covered = basket.is_covered();
    if covered != Some(false) && basket.unchecked_line().is_none() {
        if !basket.alerted {
            state.put_away_last();
        }
        return;
    }
    match (&mut basket.wait, covered) {
        (_, Some(false)) => {
            basket.wait = None;
            basket.part = Some(reference(&payment.employee_id, event, fx));
        }
        (Some(wait), _) => {
            // With several payments, and nothing else in between, the alert names the first.
            wait.last_at = Some(wait.last_at().max(fx.time_of(event)));
            wait.until = until;
            wait.settled |= covered == Some(true);
        }
        (None, _) => {
            basket.part = None;
            basket.wait = Some(Wait::new(reference(&payment.employee_id, event, fx), until, covered == Some(true)));
        }
    }
}
