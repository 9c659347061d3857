//! What `age-verification` must ask for and report, from `docs/plugins.md`.

use std::collections::HashMap;

use jiff::civil::Date;
use serde_json::Value;

use super::event::Event;
use super::forgetting::Seen;
use super::fraud::Alert;
use super::log::Log;
use super::stores::Stores;

const BASKETS_MAX: usize = 16;
const LINES_MAX: usize = 64;
const PROMPTS_MAX: usize = 16;
const PAID_MAX: usize = 4;
/// What the plugin looks at.
const WANTED: [&str; 11] = [
    "pos.basket.started",
    "pos.basket.item_added",
    "pos.basket.item_voided",
    "pos.basket.item_returned",
    "pos.basket.subtotal_finalized",
    "pos.basket.cancelled",
    "pos.basket.suspended",
    "pos.basket.resumed",
    "pos.discount.applied",
    "pos.age.checked",
    "pos.payment.completed",
];

/// A prompt and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prompt {
    pub(crate) basket: String,
    pub(crate) store: String,
    pub(crate) terminal: String,
    pub(crate) employee: String,
    pub(crate) minimum_age: u64,
    pub(crate) outcome: String,
    pub(crate) at: i64,
}

/// A published `pos.age.verification_required`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Required {
    pub(crate) basket: String,
    pub(crate) employee: String,
    pub(crate) minimum_age: u64,
    pub(crate) challenge_age: Option<u64>,
    pub(crate) product: String,
    pub(crate) category: String,
    pub(crate) jurisdiction: Option<String>,
}

/// What the plugin leaves behind.
#[derive(Debug, Default)]
pub(crate) struct AgeChecks {
    pub(crate) required: Vec<Required>,
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) alerts: Vec<Alert>,
    /// The same as published: with the time of the event that ended the wait, or of its end.
    pub(crate) published: Vec<Alert>,
}

#[derive(Clone)]
struct Line {
    number: u64,
    product: String,
    parts: i64,
    age: u64,
    event: String,
}

/// The payment that a sale may have ended with.
#[derive(Clone)]
struct Wait {
    payment: Event,
    until: i64,
    last: i64,
    settled: bool,
    open_to_the_end: bool,
}

/// What was done after a payment.
enum Aside {
    Check { refused: bool, age: u64 },
    Void(Box<Event>),
}

#[derive(Default)]
struct Basket {
    id: String,
    lines: Vec<Line>,
    passed: u64,
    refused: Option<u64>,
    /// Places in `AgeChecks::prompts` that a check still decides.
    prompts: Vec<usize>,
    paid: i64,
    due: Option<i64>,
    part: Option<Event>,
    suspended: bool,
    wait: Option<Wait>,
    aside: Vec<Aside>,
    alerted: bool,
}

/// The known baskets of a terminal, the one used least recently first, and what was paid of others.
#[derive(Default)]
struct Terminal {
    known: Vec<Basket>,
    /// Id, paid and passed.
    others: Vec<(String, i64, u64)>,
}

/// All prompts and alerts over the log.
pub(crate) fn age_checks(log: &Log, settings: &Value, stores: &Stores) -> AgeChecks {
    let mut terminals: HashMap<&str, Terminal> = HashMap::new();
    let mut result = AgeChecks::default();
    let mut seen: Seen<&String> = Seen::with(settings);
    let grace = 1000 * settings.get("graceSeconds").map_or(60, |seconds| seconds.as_i64().expect("seconds"));
    for event in log.events.iter().filter(|event| !event.training && event.is_known()) {
        let terminal = terminals.entry(&event.terminal).or_default();
        if let Some(end) = terminal.close_until(event.clock, &mut result) {
            seen.see(&event.terminal, end);
        }
        if WANTED.contains(&event.kind.as_str()) {
            let waits = terminal.known.iter().any(|basket| basket.wait.is_some());
            if !waits && seen.is_forgotten(&&event.terminal, event.clock) {
                *terminal = Terminal::default();
            }
            seen.see(&event.terminal, event.clock);
        }
        let until = event.clock.saturating_add(grace);
        let id = event.text("basketId").unwrap_or_default();
        match event.kind.as_str() {
            "pos.basket.started" => terminal.others_leave(id, until),
            "pos.basket.item_added" => {
                terminal.others_leave(id, until);
                terminal.add(event, settings, stores, &mut result);
            }
            "pos.basket.item_voided" => terminal.void(event),
            "pos.basket.item_returned" | "pos.discount.applied" => terminal.change(event),
            "pos.basket.subtotal_finalized" => terminal.total(event, until),
            "pos.age.checked" => terminal.check(event, &mut result),
            "pos.payment.completed" => terminal.pay(event, until),
            "pos.basket.cancelled" => {
                terminal.known.retain(|basket| basket.id != id);
                terminal.others.retain(|(other, _, _)| other != id);
            }
            "pos.basket.suspended" => terminal.suspend(event),
            "pos.basket.resumed" => {
                if let Some(basket) = terminal.touch(id) {
                    basket.suspended = false;
                }
            }
            _ => {}
        }
        // With no time of grace a wait is over at once.
        terminal.close_at(event.clock, event.at(), &mut result);
    }
    for mut terminal in terminals.into_values() {
        terminal.close_until(i64::MAX, &mut result);
    }
    result
}

/// The policy in force for an item.
fn policy<'a>(event: &Event, settings: &'a Value, stores: &Stores) -> Option<&'a Value> {
    let day = stores.local_date(&event.store, event.at());
    let latest = |jurisdiction: &str| {
        let date = |policy: &Value| -> Date {
            policy.get("effectiveFrom").and_then(Value::as_str).unwrap_or("1970-01-01").parse().expect("a date")
        };
        settings["policies"]
            .as_array()?
            .iter()
            .filter(|policy| policy["category"] == event.required("category"))
            .filter(|policy| policy.get("jurisdiction").and_then(Value::as_str).unwrap_or("*") == jurisdiction)
            .filter(|policy| date(policy) <= day)
            .max_by_key(|policy| date(policy))
    };
    let policy = stores.jurisdiction(&event.store).and_then(latest).or_else(|| latest("*"))?;
    (policy["minimumAge"] != 0).then_some(policy)
}

/// Money that goes to the customer is negative.
pub(super) fn signed(event: &Event, key: &str) -> i64 {
    let amount = event.data[key].as_i64().expect("an amount");
    if event.text("direction") == Some("refund") { -amount } else { amount }
}

pub(super) fn covered(due: i64, paid: i64) -> bool {
    if due < 0 { paid <= due } else { paid >= due }
}

impl Terminal {
    /// Moves a known basket to the end of the list, where the one used last stands.
    fn touch(&mut self, id: &str) -> Option<&mut Basket> {
        let place = self.known.iter().position(|basket| basket.id == id)?;
        let basket = self.known.remove(place);
        self.known.push(basket);
        self.known.last_mut()
    }

    fn touch_or_begin(&mut self, id: &str, time: i64, result: &mut AgeChecks) -> &mut Basket {
        if self.touch(id).is_none() {
            if self.known.len() == BASKETS_MAX {
                self.known.remove(0).alert(time, result);
            }
            let mut basket = Basket { id: id.to_owned(), ..Basket::default() };
            if let Some(place) = self.others.iter().position(|(other, _, _)| other == id) {
                (_, basket.paid, basket.passed) = self.others.remove(place);
            }
            self.known.push(basket);
        }
        self.known.last_mut().expect("touched or begun")
    }

    fn remember(&mut self, id: &str, paid: i64, passed: u64) {
        self.others.retain(|(other, _, _)| other != id);
        self.others.push((id.to_owned(), paid, passed));
        if self.others.len() > PAID_MAX {
            self.others.remove(0);
        }
    }

    /// Of the basket that was used last.
    fn put_away(&mut self) {
        if let Some(basket) = self.known.pop() {
            self.remember(&basket.id, basket.paid, basket.passed);
        }
    }

    fn others_leave(&mut self, id: &str, until: i64) {
        for basket in self.known.iter_mut().filter(|basket| basket.id != id) {
            if !basket.suspended && basket.wait.is_none() && basket.is_missing() && basket.part.is_some() {
                let payment = basket.part.take().expect("just seen");
                let last = payment.at();
                basket.wait = Some(Wait { payment, until, last, settled: false, open_to_the_end: true });
            }
        }
    }

    fn change(&mut self, event: &Event) {
        if let Some(basket) = self.touch(event.required("basketId"))
            && !basket.overtook(event)
        {
            basket.go_on();
        }
    }

    fn add(&mut self, event: &Event, settings: &Value, stores: &Stores, result: &mut AgeChecks) {
        let id = event.required("basketId");
        let Some(policy) = policy(event, settings, stores) else {
            self.change(event);
            return;
        };
        let basket = self.touch_or_begin(id, event.at(), result);
        let age = policy["minimumAge"].as_u64().expect("an age");
        if basket.overtook(event) {
            basket.remember(event, age);
            return;
        }
        basket.go_on();
        basket.remember(event, age);
        let asked = |place: &usize| {
            let prompt = &result.prompts[*place];
            prompt.minimum_age >= age && prompt.outcome == "pending"
        };
        let refused = basket.refused.is_some_and(|refused| age >= refused);
        if age <= basket.passed || (basket.prompts.iter().any(asked) && !refused) {
            return;
        }
        basket.prompts.retain(|place| result.prompts[*place].outcome != "refused");
        if basket.prompts.len() == PROMPTS_MAX {
            basket.prompts.remove(0);
        }
        basket.prompts.push(result.prompts.len());
        result.prompts.push(Prompt {
            basket: id.to_owned(),
            store: event.store.clone(),
            terminal: event.terminal.clone(),
            employee: event.required("employeeId").to_owned(),
            minimum_age: age,
            outcome: "pending".to_owned(),
            at: event.at(),
        });
        let jurisdiction =
            policy.get("jurisdiction").and_then(Value::as_str).filter(|jurisdiction| *jurisdiction != "*");
        result.required.push(Required {
            basket: id.to_owned(),
            employee: event.required("employeeId").to_owned(),
            minimum_age: age,
            challenge_age: policy.get("challengeAge").and_then(Value::as_u64),
            product: event.required("productId").to_owned(),
            category: event.required("category").to_owned(),
            jurisdiction: jurisdiction.map(ToOwned::to_owned),
        });
    }

    fn void(&mut self, event: &Event) {
        let Some(basket) = self.touch(event.required("basketId")) else { return };
        let overtaken = basket.overtook(event);
        match &basket.wait {
            Some(_) if overtaken => {
                basket.take_out(event);
                if !basket.is_missing() {
                    self.put_away();
                }
            }
            Some(wait) if wait.settled => {}
            Some(_) => {
                let voids = basket.aside.iter().filter(|aside| matches!(aside, Aside::Void(_))).count();
                if voids < LINES_MAX {
                    basket.aside.push(Aside::Void(Box::new(event.clone())));
                }
            }
            None => {
                basket.take_out(event);
                basket.due = None;
            }
        }
    }

    fn check(&mut self, event: &Event, result: &mut AgeChecks) {
        let (id, outcome) = (event.required("basketId"), event.required("outcome"));
        let age = event.data["minimumAge"].as_u64().expect("an age");
        let refused = outcome == "refused";
        if refused && let Some((_, _, passed)) = self.others.iter_mut().find(|(other, _, _)| other == id) {
            *passed = (*passed).min(age.saturating_sub(1));
        }
        let basket = if refused { self.touch(id) } else { Some(self.touch_or_begin(id, event.at(), result)) };
        let Some(basket) = basket else { return };
        if refused {
            basket.decide(|prompt| prompt.minimum_age >= age, outcome, event.at(), result);
        } else {
            basket.decide(|prompt| prompt.minimum_age <= age, outcome, event.at(), result);
        }
        if basket.wait.as_ref().is_some_and(|wait| !wait.open_to_the_end) && !basket.overtook(event) {
            basket.aside.push(Aside::Check { refused, age });
            return;
        }
        basket.take_check(refused, age);
        if basket.wait.is_some() && !basket.is_missing() {
            self.put_away();
        }
    }

    fn total(&mut self, event: &Event, until: i64) {
        let Some(basket) = self.touch(event.required("basketId")) else { return };
        let due = signed(event, "total");
        if !basket.overtook(event) {
            basket.go_on();
        }
        basket.due = Some(due);
        if !covered(due, basket.paid) {
            if basket.wait.is_some() {
                basket.go_on();
                basket.due = Some(due);
            }
        } else if let Some(wait) = &mut basket.wait {
            wait.settled = true;
        } else if basket.is_missing() {
            let payment = basket.part.take().unwrap_or_else(|| event.clone());
            let last = payment.at();
            basket.wait = Some(Wait { payment, until, last, settled: true, open_to_the_end: true });
        }
    }

    fn pay(&mut self, event: &Event, until: i64) {
        let (id, amount) = (event.required("basketId"), signed(event, "amount"));
        let Some(basket) = self.touch(id) else {
            let before = self.others.iter().find(|(other, _, _)| other == id).cloned();
            let (_, paid, passed) = before.unwrap_or_default();
            self.remember(id, paid + amount, passed);
            return;
        };
        basket.paid += amount;
        basket.suspended = false;
        if basket.wait.as_ref().is_none_or(|wait| !wait.settled) {
            basket.apply_aside();
        }
        match basket.due.map(|due| covered(due, basket.paid)) {
            Some(false) => {
                basket.wait = None;
                basket.part = Some(event.clone());
            }
            _ if !basket.is_missing() => {
                if !basket.alerted {
                    self.put_away();
                }
            }
            known => {
                let settled = known == Some(true);
                if let Some(wait) = &mut basket.wait {
                    wait.last = wait.last.max(event.at());
                    wait.until = until;
                    wait.settled |= settled;
                } else {
                    basket.part = None;
                    let payment = event.clone();
                    basket.wait = Some(Wait { last: event.at(), payment, until, settled, open_to_the_end: false });
                }
            }
        }
    }

    fn suspend(&mut self, event: &Event) {
        let Some(basket) = self.touch(event.required("basketId")) else { return };
        if basket.wait.as_ref().is_some_and(|wait| !wait.settled) && !basket.overtook(event) {
            basket.go_on();
        }
        basket.suspended = true;
    }

    /// Alerts for which no check can come any more. Answers when the last wait that is over ended.
    fn close_until(&mut self, clock: i64, result: &mut AgeChecks) -> Option<i64> {
        let mut last = None;
        for basket in &mut self.known {
            let end = basket.wait.as_ref().map(|wait| wait.until).filter(|until| *until <= clock);
            if let Some(end) = end {
                basket.alert(end, result);
                last = last.max(Some(end));
            }
        }
        last
    }

    /// The same because of an event, whose time the alert's event has.
    fn close_at(&mut self, clock: i64, time: i64, result: &mut AgeChecks) {
        for basket in
            self.known.iter_mut().filter(|basket| basket.wait.as_ref().is_some_and(|wait| wait.until <= clock))
        {
            basket.alert(time, result);
        }
    }
}

impl Line {
    fn is_of(&self, event: &Event) -> bool {
        self.number == event.data["line"].as_u64().expect("a line") && self.product == event.required("productId")
    }
}

impl Basket {
    fn overtook(&self, event: &Event) -> bool {
        self.wait.as_ref().is_some_and(|wait| event.at() <= wait.last)
    }

    fn go_on(&mut self) {
        if let Some(wait) = self.wait.take() {
            self.part = Some(wait.payment);
        }
        self.apply_aside();
        self.due = None;
        self.suspended = false;
    }

    fn apply_aside(&mut self) {
        for aside in std::mem::take(&mut self.aside) {
            match aside {
                Aside::Check { refused, age } => self.take_check(refused, age),
                Aside::Void(event) => self.take_out(&event),
            }
        }
    }

    fn take_check(&mut self, refused: bool, age: u64) {
        if refused {
            self.passed = self.passed.min(age.saturating_sub(1));
            self.refused = Some(self.refused.map_or(age, |before| before.min(age)));
        } else {
            self.passed = self.passed.max(age);
            self.refused = self.refused.filter(|refused| age < *refused);
        }
    }

    fn take_out(&mut self, event: &Event) {
        let mut parts = event.parts();
        if let Some(line) = self.lines.iter_mut().find(|line| line.is_of(event)) {
            line.parts -= parts;
        } else {
            let product = event.required("productId");
            for line in self.lines.iter_mut().rev().filter(|line| line.product == product) {
                let taken = parts.min(line.parts);
                line.parts -= taken;
                parts -= taken;
            }
        }
        self.lines.retain(|line| line.parts > 0);
    }

    fn remember(&mut self, event: &Event, age: u64) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.is_of(event)) {
            line.parts += event.parts();
            return;
        }
        let line = Line {
            number: event.data["line"].as_u64().expect("a line"),
            product: event.required("productId").to_owned(),
            parts: event.parts(),
            age,
            event: event.name(),
        };
        if self.lines.len() < LINES_MAX {
            self.lines.push(line);
        } else if let Some(lowest) = self.lines.iter().map(|line| line.age).min().filter(|lowest| age > *lowest) {
            let place = self.lines.iter().position(|line| line.age == lowest).expect("the lowest is there");
            self.lines.remove(place);
            self.lines.push(line);
        }
    }

    fn required(&self) -> u64 {
        self.lines.iter().map(|line| line.age).max().unwrap_or(0)
    }

    fn is_missing(&self) -> bool {
        self.required() > self.passed
    }

    /// Raises the alert that its wait calls for, if there is one, at `time`.
    fn alert(&mut self, time: i64, result: &mut AgeChecks) {
        let Some(Wait { payment, .. }) = self.wait.take() else { return };
        if !self.is_missing() {
            return;
        }
        self.alerted = true;
        let (required, passed) = (self.required(), self.passed);
        let unchecked = |prompt: &Prompt| prompt.minimum_age > passed && prompt.outcome == "pending";
        self.decide(unchecked, "not_checked", payment.at(), result);
        let item = self.lines.iter().find(|line| line.age == required).expect("a line of the highest age");
        #[expect(clippy::cast_precision_loss, reason = "ages are small")]
        let alert = Alert {
            rule: "age-not-verified".to_owned(),
            scope: "terminal".to_owned(),
            entity: payment.terminal.clone(),
            at: payment.at(),
            severity: "high".to_owned(),
            store: payment.store.clone(),
            terminal: Some(payment.terminal.clone()),
            employee: payment.text("employeeId").map(ToOwned::to_owned),
            observed: passed as f64,
            limit: required as f64,
            event_ids: vec![item.event.clone(), payment.name()],
        };
        result.published.push(Alert { at: time, ..alert.as_published() });
        result.alerts.push(alert);
        self.lines.clear();
        for aside in std::mem::take(&mut self.aside) {
            if let Aside::Check { refused, age } = aside {
                self.take_check(refused, age);
            }
        }
    }

    /// Gives the prompts that `which` names an outcome.
    fn decide(&self, which: impl Fn(&Prompt) -> bool, outcome: &str, time: i64, result: &mut AgeChecks) {
        for place in &self.prompts {
            let prompt = &mut result.prompts[*place];
            if which(prompt) && prompt.outcome != outcome {
                outcome.clone_into(&mut prompt.outcome);
                prompt.at = prompt.at.max(time);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::case::{Case, at, line, payment};
    use serde_json::json;

    /// What beer at 16 and spirits at 18 lead to in Berlin.
    fn decide(case: &Case) -> AgeChecks {
        let policy = |category: &str, age: u64| json!({"category": category, "jurisdiction": "DE", "minimumAge": age});
        let settings = json!({"policies": [policy("beer", 16), policy("spirits", 18)]});
        let stores = Stores::new(json!({"S001": {"jurisdiction": "DE"}}));
        age_checks(&Log::read(case.messages(), 8), &settings, &stores)
    }

    fn check(outcome: &str, age: u64) -> Value {
        json!({"basketId": "b", "employeeId": "E1", "outcome": outcome, "minimumAge": age})
    }

    fn outcomes(result: &AgeChecks) -> Vec<(u64, &str, i64)> {
        result.prompts.iter().map(|prompt| (prompt.minimum_age, prompt.outcome.as_str(), prompt.at)).collect()
    }

    #[test]
    fn a_basket_is_asked_about_once_and_again_only_for_something_stricter() {
        let case = Case::default()
            .then("T1", "08:00:00", "basket.item_added", &line("b", 1, "P1", "beer"))
            .then("T1", "08:00:01", "basket.item_added", &line("b", 2, "P2", "beer"))
            .then("T1", "08:00:02", "age.checked", &check("approved_visual", 16))
            .then("T1", "08:00:03", "basket.item_added", &line("b", 3, "P3", "spirits"))
            .then("T1", "08:00:04", "age.checked", &check("approved_id", 18))
            .then("T1", "08:00:05", "payment.completed", &payment("b"));
        let result = decide(&case);
        // The stricter check covers the milder prompt as well.
        assert_eq!(outcomes(&result), [(16, "approved_id", at("08:00:04")), (18, "approved_id", at("08:00:04"))]);
        assert_eq!(result.alerts, []);
    }

    #[test]
    fn payment_without_a_passed_check_is_an_alert() {
        let case = Case::default()
            .then("T1", "08:00:00", "basket.item_added", &line("b", 1, "P1", "beer"))
            .then("T1", "08:00:01", "age.checked", &check("refused", 16))
            .then("T1", "08:00:02", "payment.completed", &payment("b"))
            .then("T1", "08:00:03", "payment.completed", &payment("b"));
        let result = decide(&case);
        assert_eq!(outcomes(&result), [(16, "refused", at("08:00:01"))]);
        let [alert] = &result.alerts[..] else { panic!("one alert: {:?}", result.alerts) };
        assert_eq!((alert.observed, alert.limit, alert.at), (0.0, 16.0, at("08:00:02")));
        assert_eq!(alert.event_ids, ["/stores/S001/terminals/T1#T1-1", "/stores/S001/terminals/T1#T1-3"]);
    }

    #[test]
    fn a_check_before_the_payment_may_arrive_after_it() {
        let paid = |checked: &str, sent: &str| {
            let case = Case::default()
                .then("T1", "08:00:00", "basket.item_added", &line("b", 1, "P1", "beer"))
                .then("T1", "08:00:10", "payment.completed", &payment("b"))
                .then("T1", sent, "drawer.opened", &json!({"employeeId": "E1"}))
                .then("T1", checked, "age.checked", &check("approved_id", 16));
            let result = decide(&case);
            (result.alerts.len(), result.prompts[0].outcome.clone())
        };
        let approved = "approved_id".to_owned();
        assert_eq!(paid("08:00:05", "08:00:20"), (0, approved.clone()));
        assert_eq!(paid("08:00:11", "08:00:20"), (1, approved.clone()), "checked after it was paid");
        assert_eq!(paid("08:00:05", "08:01:09"), (0, approved.clone()));
        assert_eq!(paid("08:00:05", "08:01:10"), (1, approved), "too late");
    }

    #[test]
    fn what_was_taken_back_needs_no_check() {
        let case = Case::default()
            .then("T1", "08:00:00", "basket.item_added", &line("b", 1, "P1", "beer"))
            .then("T1", "08:00:01", "basket.item_voided", &line("b", 1, "P1", "beer"))
            .then("T1", "08:00:02", "payment.completed", &payment("b"));
        let result = decide(&case);
        assert_eq!((outcomes(&result), result.alerts.len()), (vec![(16, "pending", at("08:00:00"))], 0));
    }
}
