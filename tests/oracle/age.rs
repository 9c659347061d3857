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

struct Line {
    number: u64,
    product: String,
    thousandths: i64,
    age: u64,
    event: String,
}

#[derive(Default)]
struct Basket {
    id: String,
    lines: Vec<Line>,
    prompted: u64,
    passed: u64,
    /// Places in `AgeChecks::prompts`.
    prompts: Vec<usize>,
    /// The payment that was not covered by a check, and the clock at which that is final.
    open_payment: Option<(Event, i64)>,
    alerted: bool,
}

/// The known baskets of a terminal, the one used least recently first.
#[derive(Default)]
struct Terminal(Vec<Basket>);

/// All prompts and alerts over the log.
pub(crate) fn age_checks(log: &Log, settings: &Value, stores: &Stores) -> AgeChecks {
    let mut terminals: HashMap<&str, Terminal> = HashMap::new();
    let mut result = AgeChecks::default();
    let mut seen: Seen<&String> = Seen::with(settings);
    let grace = 1000 * settings.get("graceSeconds").map_or(60, |seconds| seconds.as_i64().expect("seconds"));
    for event in log.events.iter().filter(|event| !event.training) {
        let wanted =
            ["basket.item_added", "basket.item_voided", "age.checked", "payment.completed", "basket.cancelled"];
        let terminal = terminals.entry(&event.terminal).or_default();
        if let Some(end) = terminal.close_until(event.clock, &mut result) {
            seen.see(&event.terminal, end);
        }
        if wanted.iter().any(|kind| event.is(&format!("pos.{kind}"))) {
            let waits = terminal.0.iter().any(|basket| basket.open_payment.is_some());
            if !waits && seen.is_forgotten(&&event.terminal, event.clock) {
                terminal.0.clear();
            }
            seen.see(&event.terminal, event.clock);
        }
        match event.kind.as_str() {
            "pos.basket.item_added" => terminal.add(event, settings, stores, &mut result),
            "pos.basket.item_voided" => terminal.void(event),
            "pos.age.checked" => terminal.check(event, &mut result),
            "pos.payment.completed" => terminal.pay(event, grace, &mut result),
            "pos.basket.cancelled" => {
                let id = event.required("basketId");
                terminal.0.retain(|basket| basket.id != id || basket.open_payment.is_some());
            }
            _ => {}
        }
    }
    for mut terminal in terminals.into_values() {
        terminal.close_until(i64::MAX, &mut result);
    }
    result
}

/// The policy in force for an item.
fn policy<'a>(event: &Event, settings: &'a Value, stores: &Stores) -> Option<&'a Value> {
    let day = stores.business_day(&event.store, event.time);
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

impl Terminal {
    /// Moves a known basket to the end of the list, where the one used last stands.
    fn touch(&mut self, id: &str) -> Option<&mut Basket> {
        let place = self.0.iter().position(|basket| basket.id == id)?;
        let basket = self.0.remove(place);
        self.0.push(basket);
        self.0.last_mut()
    }

    fn touch_or_begin(&mut self, id: &str, time: i64, result: &mut AgeChecks) -> &mut Basket {
        if self.touch(id).is_none() {
            if self.0.len() == BASKETS_MAX {
                self.0.remove(0).alert(time, result);
            }
            self.0.push(Basket { id: id.to_owned(), ..Basket::default() });
        }
        self.0.last_mut().expect("touched or begun")
    }

    fn add(&mut self, event: &Event, settings: &Value, stores: &Stores, result: &mut AgeChecks) {
        let id = event.required("basketId");
        let Some(policy) = policy(event, settings, stores) else {
            self.touch(id);
            return;
        };
        let basket = self.touch_or_begin(id, event.time, result);
        if basket.alerted || basket.open_payment.is_some() {
            return;
        }
        let age = policy["minimumAge"].as_u64().expect("an age");
        basket.remember(event, age);
        if age <= basket.prompted || age <= basket.passed {
            return;
        }
        basket.prompted = age;
        basket.prompts.push(result.prompts.len());
        result.prompts.push(Prompt {
            basket: id.to_owned(),
            store: event.store.clone(),
            terminal: event.terminal.clone(),
            employee: event.required("employeeId").to_owned(),
            minimum_age: age,
            outcome: "pending".to_owned(),
            at: event.time,
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
        if let Some(basket) = self.touch(event.required("basketId"))
            && basket.open_payment.is_none()
            && let Some(line) = basket.lines.iter_mut().find(|line| line.is_of(event))
        {
            line.thousandths -= event.thousandths();
            basket.lines.retain(|line| line.thousandths > 0);
        }
    }

    fn check(&mut self, event: &Event, result: &mut AgeChecks) {
        let (id, outcome) = (event.required("basketId"), event.required("outcome"));
        let age = event.data["minimumAge"].as_u64().expect("an age");
        let refused = outcome == "refused";
        let basket = if refused { self.touch(id) } else { Some(self.touch_or_begin(id, event.time, result)) };
        let Some(basket) = basket else { return };
        let counts = basket.open_payment.as_ref().is_none_or(|(payment, _)| event.time <= payment.time);
        if refused {
            basket.decide(|prompt| prompt.minimum_age >= age, outcome, event.time, result);
        } else {
            basket.decide(|prompt| prompt.minimum_age <= age, outcome, event.time, result);
        }
        if counts {
            basket.passed = if refused { basket.passed.min(age.saturating_sub(1)) } else { basket.passed.max(age) };
            if basket.open_payment.is_some() && basket.required() <= basket.passed {
                self.0.pop();
            }
        }
    }

    fn pay(&mut self, event: &Event, grace: i64, result: &mut AgeChecks) {
        let Some(basket) = self.touch(event.required("basketId")) else { return };
        if basket.alerted || basket.open_payment.is_some() {
            return;
        }
        if basket.required() <= basket.passed {
            self.0.pop();
        } else {
            basket.open_payment = Some((event.clone(), event.clock.saturating_add(grace)));
            if grace == 0 {
                basket.alert(event.time, result);
            }
        }
    }

    /// Alerts for which no check can come any more.
    /// Answers when the last wait that is over ended.
    fn close_until(&mut self, clock: i64, result: &mut AgeChecks) -> Option<i64> {
        let mut last = None;
        for basket in &mut self.0 {
            let end = basket.open_payment.as_ref().map(|(_, until)| *until).filter(|until| *until <= clock);
            if let Some(end) = end {
                basket.alert(end, result);
                last = last.max(Some(end));
            }
        }
        last
    }
}

impl Line {
    fn is_of(&self, event: &Event) -> bool {
        self.number == event.data["line"].as_u64().expect("a line") && self.product == event.required("productId")
    }
}

impl Basket {
    fn remember(&mut self, event: &Event, age: u64) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.is_of(event)) {
            line.thousandths += event.thousandths();
            return;
        }
        let line = Line {
            number: event.data["line"].as_u64().expect("a line"),
            product: event.required("productId").to_owned(),
            thousandths: event.thousandths(),
            age,
            event: event.name(),
        };
        if self.lines.len() < LINES_MAX {
            self.lines.push(line);
        } else if let Some(lowest) = self.lines.iter().map(|line| line.age).min().filter(|lowest| age > *lowest) {
            let place = self.lines.iter().position(|line| line.age == lowest).expect("the lowest is there");
            self.lines[place] = line;
        }
    }

    fn required(&self) -> u64 {
        self.lines.iter().map(|line| line.age).max().unwrap_or(0)
    }

    /// Raises the alert that its payment calls for, if there is one, at `time`.
    fn alert(&mut self, time: i64, result: &mut AgeChecks) {
        let Some((payment, _)) = self.open_payment.take() else { return };
        self.alerted = true;
        let (required, passed) = (self.required(), self.passed);
        let unchecked = |prompt: &Prompt| prompt.minimum_age > passed && prompt.outcome == "pending";
        self.decide(unchecked, "not_checked", payment.time, result);
        let item = self.lines.iter().find(|line| line.age == required).expect("a line of the highest age");
        #[expect(clippy::cast_precision_loss, reason = "ages are small")]
        let alert = Alert {
            rule: "age-not-verified".to_owned(),
            scope: "terminal".to_owned(),
            entity: payment.terminal.clone(),
            at: payment.time,
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
