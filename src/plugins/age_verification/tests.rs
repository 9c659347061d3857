use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::effect::{AgePromptRecord, AlertRecord, Effect, Position, Record};
use crate::event::{NewEvent, Severity};
use crate::plugins::testing::{Run, at, event, published, records, wrong_fields};

struct Till {
    run: Run<AgeVerification>,
    sent: i64,
    prompted: Vec<u8>,
    alerts: Vec<AlertRecord>,
    prompts: BTreeMap<String, AgePromptRecord>,
}

fn laws() -> Value {
    json!({"policies": [
        {"category": "beer", "jurisdiction": "DE", "minimumAge": 16, "challengeAge": 25},
        {"category": "spirits", "jurisdiction": "DE", "minimumAge": 18},
        {"category": "energy", "jurisdiction": "DE", "minimumAge": 14, "effectiveFrom": "2026-01-06"},
        {"category": "knives", "minimumAge": 18},
        {"category": "lighters", "jurisdiction": "*", "minimumAge": 12},
        {"category": "lighters", "jurisdiction": "DE", "minimumAge": 0, "effectiveFrom": "2025-01-01"},
    ]})
}

impl Till {
    fn with(settings: Value) -> Self {
        let stores = json!({"S001": {"timeZone": "Europe/Berlin", "jurisdiction": "DE", "businessDayStart": "04:00"}});
        let run = Run::new(Scope::Terminal, "T0001", settings).with_stores(stores);
        Self { run, sent: 0, prompted: Vec::new(), alerts: Vec::new(), prompts: BTreeMap::new() }
    }

    fn new() -> Self {
        Self::with(laws())
    }

    fn send(&mut self, kind: EventType, mut data: Value) -> &mut Self {
        self.sent += 1;
        data["employeeId"] = "E7".into();
        let effects = self.run.apply(&event("S001/T0001", kind, at("09:00:00").plus_seconds(self.sent), &data));
        self.take(&effects);
        self
    }

    fn take(&mut self, effects: &[Effect]) {
        for data in published(effects) {
            match data {
                EventData::AgeVerificationRequired(data) => self.prompted.push(data.minimum_age),
                EventData::AlertRaised(_) => {}
                other => panic!("{other:?}"),
            }
        }
        for record in records(effects) {
            match record {
                Record::Alert(alert) => self.alerts.push((**alert).clone()),
                Record::AgePrompt(prompt) => {
                    self.prompts.insert(prompt.id.clone(), prompt.clone());
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn adds(&mut self, basket: &str, line: u32, category: &str) -> &mut Self {
        let data = json!({"basketId": basket, "line": line, "productId": format!("P-{category}"), "category": category,
            "quantity": 2, "unitPrice": 100, "currency": "EUR"});
        self.send(EventType::ItemAdded, data)
    }

    fn voids(&mut self, basket: &str, line: u32, category: &str, quantity: u32) -> &mut Self {
        let data = json!({"basketId": basket, "line": line, "productId": format!("P-{category}"), "quantity": quantity,
            "unitPrice": 100, "currency": "EUR"});
        self.send(EventType::ItemVoided, data)
    }

    fn checks(&mut self, basket: &str, outcome: &str, age: u8) -> &mut Self {
        self.send(EventType::AgeChecked, json!({"basketId": basket, "outcome": outcome, "minimumAge": age}))
    }

    fn pays(&mut self, basket: &str) -> &mut Self {
        let data = json!({"basketId": basket, "paymentId": "p", "method": "cash", "amount": 1, "currency": "EUR"});
        self.send(EventType::PaymentCompleted, data)
    }

    /// The time passes in which a check may still arrive.
    fn rests(&mut self) -> &mut Self {
        self.sent += 61;
        let effects = self.run.advance(at("09:00:00").plus_seconds(self.sent));
        self.take(&effects);
        self
    }

    fn pays_amount(&mut self, basket: &str, amount: i64) -> &mut Self {
        let data = json!({"basketId": basket, "paymentId": "p", "method": "cash", "amount": amount, "currency": "EUR"});
        self.send(EventType::PaymentCompleted, data)
    }

    fn totals(&mut self, basket: &str, total: i64) -> &mut Self {
        let data =
            json!({"basketId": basket, "itemCount": 1, "subtotal": total, "tax": 0, "total": total, "currency": "EUR"});
        self.send(EventType::SubtotalFinalized, data)
    }

    fn suspends(&mut self, basket: &str) -> &mut Self {
        self.send(EventType::BasketSuspended, json!({"basketId": basket}))
    }

    fn gives_back(&mut self, basket: &str) -> &mut Self {
        let data = json!({"basketId": basket, "line": 90, "productId": "EMPTIES", "category": "deposit", "quantity": 6,
            "unitPrice": 25, "currency": "EUR"});
        self.send(EventType::ItemReturned, data)
    }

    fn cancels(&mut self, basket: &str) -> &mut Self {
        self.send(EventType::BasketCancelled, json!({"basketId": basket}))
    }

    /// The prompts by age with their outcomes.
    fn outcomes(&self) -> Vec<(u8, &str)> {
        let mut outcomes: Vec<_> =
            self.prompts.values().map(|prompt| (prompt.minimum_age, prompt.outcome.as_str())).collect();
        outcomes.sort_unstable();
        outcomes
    }
}

#[test]
fn a_basket_is_asked_for_once_and_again_only_for_something_stricter() {
    let mut till = Till::new();
    till.adds("b1", 1, "bread")
        .adds("b1", 2, "beer")
        .adds("b1", 3, "beer")
        .adds("b1", 4, "spirits")
        .adds("b1", 5, "beer");
    assert_eq!(till.prompted, [16, 18]);
    till.checks("b1", "approved_id", 18).pays("b1").rests();
    assert_eq!(till.outcomes(), [(16, "approved_id"), (18, "approved_id")]);
    assert_eq!(till.alerts, []);
}

#[test]
fn a_check_for_the_highest_age_makes_lower_prompts_needless() {
    let mut till = Till::new();
    till.checks("b1", "approved_visual", 18).adds("b1", 1, "beer").adds("b1", 2, "spirits").pays("b1").rests();
    assert_eq!((till.prompted.len(), till.alerts.len()), (0, 0));
}

#[test]
fn payment_without_a_check_is_an_alert_that_rests_on_item_and_payment() {
    let mut till = Till::new();
    till.adds("b1", 1, "beer").adds("b1", 2, "spirits").adds("b1", 3, "spirits").pays("b1").pays("b1");
    assert_eq!(till.alerts, [], "the check may be on its way");
    till.rests();
    let [record] = till.alerts.as_slice() else { panic!("{:?}", till.alerts) };
    let alert = &record.alert;
    assert_eq!((alert.rule_id.as_str(), alert.observed, alert.limit), ("age-not-verified", 0.0, 18.0));
    assert_eq!((alert.scope, alert.entity.as_str(), alert.severity), (Scope::Terminal, "T0001", Severity::High));
    let position = |offset| Position { partition: 0, offset };
    assert_eq!(record.evidence, [position(1), position(3)]);
    assert!(alert.event_ids[0].contains("item_added") && alert.event_ids[1].contains("payment"), "{alert:?}");
    assert_eq!((record.store_id.as_str(), record.employee_id.as_deref()), ("S001", Some("E7")));
    assert_eq!(record.at, at("09:00:04"), "the time of the payment");
    assert_eq!(till.outcomes(), [(16, "not_checked"), (18, "not_checked")]);
}

#[test]
fn a_check_for_too_low_an_age_does_not_do() {
    let mut till = Till::new();
    till.adds("b1", 1, "beer").checks("b1", "approved_visual", 16).adds("b1", 2, "spirits").pays("b1").rests();
    assert_eq!(till.outcomes(), [(16, "approved_visual"), (18, "not_checked")]);
    assert_eq!((till.alerts[0].alert.observed, till.alerts[0].alert.limit), (16.0, 18.0));
}

#[test]
fn the_last_outcome_of_a_check_wins() {
    let mut till = Till::new();
    till.adds("b1", 1, "spirits").checks("b1", "refused", 18).checks("b1", "overridden", 18).pays("b1").rests();
    assert_eq!((till.outcomes(), till.alerts.len()), (vec![(18, "overridden")], 0));
    let mut till = Till::new();
    till.adds("b1", 1, "spirits").checks("b1", "approved_id", 18).checks("b1", "refused", 18).pays("b1").rests();
    assert_eq!((till.outcomes(), till.alerts.len()), (vec![(18, "refused")], 1));
}

#[test]
fn what_was_taken_back_needs_no_check() {
    let mut till = Till::new();
    till.adds("b1", 1, "spirits").voids("b1", 1, "spirits", 1).voids("b1", 1, "spirits", 1).pays("b1").rests();
    assert_eq!((till.outcomes(), till.alerts.len()), (vec![(18, "pending")], 0));
    till.adds("b2", 1, "spirits").voids("b2", 1, "spirits", 1).pays("b2").rests();
    assert_eq!(till.alerts.len(), 1);
}

#[test]
fn a_check_that_was_overtaken_by_the_payment_prevents_the_alert() {
    let mut till = Till::new();
    till.adds("b1", 1, "beer").pays("b1");
    let check = json!({"basketId": "b1", "employeeId": "E7", "outcome": "approved_id", "minimumAge": 16});
    let overtaken = event("S001/T0001", EventType::AgeChecked, at("09:00:02"), &check);
    let effects = till.run.apply(&overtaken);
    till.take(&effects);
    till.rests();
    assert_eq!((till.outcomes(), till.alerts.len()), (vec![(16, "approved_id")], 0));
}

#[test]
fn a_check_after_the_payment_decides_the_prompt_but_does_not_prevent_the_alert() {
    for grace in [0, 60] {
        let mut till = Till::with({
            let mut settings = laws();
            settings["graceSeconds"] = grace.into();
            settings
        });
        till.adds("b1", 1, "beer").pays("b1");
        assert_eq!(till.alerts.len(), usize::from(grace == 0));
        till.checks("b1", "approved_id", 16).rests();
        assert_eq!((till.outcomes(), till.alerts.len(), till.prompted.len()), (vec![(16, "approved_id")], 1, 1));
    }
}

#[test]
fn neither_voiding_nor_further_baskets_undo_what_was_paid_unchecked() {
    let mut till = Till::new();
    till.adds("b1", 1, "beer").pays("b1").voids("b1", 1, "beer", 2).rests();
    assert_eq!(till.alerts.len(), 1);
    till.adds("b2", 1, "beer").pays("b2");
    for basket in 0..16 {
        till.adds(&format!("c{basket}"), 1, "beer");
    }
    assert_eq!(till.alerts.len(), 2);
    till.rests();
    assert_eq!(till.alerts.len(), 2);
}

#[test]
fn a_sale_that_is_cancelled_raises_no_alert() {
    let mut till = Till::new();
    till.adds("b1", 1, "beer").pays("b1").checks("b1", "refused", 16).cancels("b1").rests();
    till.adds("b2", 1, "beer").totals("b2", 200).pays_amount("b2", 200).cancels("b2").rests();
    assert_eq!(till.alerts, []);
}

#[test]
fn a_part_payment_decides_nothing_and_the_payment_that_settles_does() {
    // Without totals nobody knows which payment is the last: the sale goes on with what follows.
    for total in [None, Some(400)] {
        let mut till = Till::new();
        let part = |till: &mut Till, basket: &str| {
            if let Some(total) = total {
                till.totals(basket, total);
            }
            till.pays_amount(basket, 50);
        };
        // Food, gift card, then beer, the rest: nobody asked.
        till.adds("b1", 1, "bread");
        part(&mut till, "b1");
        till.adds("b1", 2, "beer").pays_amount("b1", 350).rests();
        assert_eq!((till.alerts.len(), till.prompted.len()), (1, 1), "{total:?}");
        // Beer checked, gift card, then gin, the rest.
        till.adds("b2", 1, "beer").checks("b2", "approved_id", 16);
        part(&mut till, "b2");
        till.adds("b2", 2, "spirits").pays_amount("b2", 350).rests();
        assert_eq!((till.alerts.len(), till.prompted.len()), (2, 3), "{total:?}");
        assert_eq!((till.alerts[1].alert.observed, till.alerts[1].alert.limit), (16.0, 18.0));
        // Known to be old enough, gift card, one more beer, the rest.
        till.adds("b3", 1, "beer").checks("b3", "approved_id", 18);
        part(&mut till, "b3");
        till.adds("b3", 2, "beer").pays_amount("b3", 350).rests();
        // A share is paid, the table is checked, the rest is paid.
        till.adds("b4", 1, "beer");
        part(&mut till, "b4");
        till.checks("b4", "approved_id", 16).pays_amount("b4", 350).rests();
        // A share is paid, the beer is taken off the bill, the rest is paid.
        till.adds("b5", 1, "beer").adds("b5", 2, "bread");
        part(&mut till, "b5");
        till.voids("b5", 1, "beer", 2).pays_amount("b5", 350).rests();
        assert_eq!(till.alerts.len(), 2, "{total:?}");
    }
}

#[test]
fn goods_that_leave_with_a_part_payment_decide_and_those_put_aside_do_not() {
    let mut till = Till::new();
    till.adds("b1", 1, "beer").totals("b1", 200).pays_amount("b1", 50).rests();
    assert_eq!(till.alerts, []);
    till.suspends("b1").adds("b2", 1, "bread").rests();
    assert_eq!(till.alerts, [], "put aside");
    till.adds("b3", 1, "beer").totals("b3", 200).pays_amount("b3", 50).adds("b4", 1, "bread").rests();
    assert_eq!(till.alerts.len(), 1);
}

#[test]
fn a_sale_that_costs_nothing_or_pays_the_customer_decides_as_well() {
    let mut till = Till::new();
    till.adds("b1", 1, "beer").gives_back("b1").totals("b1", 0).rests();
    assert_eq!(till.alerts.len(), 1, "an even exchange");
    till.adds("b2", 1, "beer").totals("b2", 0).checks("b2", "approved_id", 16).rests();
    assert_eq!(till.alerts.len(), 1, "the check came after the total and before the goods left");
    let refund = |kind: &str| {
        json!({"basketId": "b3", "itemCount": 1, "subtotal": 50, "tax": 0, "total": 50, "paymentId": "p",
        "method": "cash", "amount": 50, "currency": "EUR", "direction": kind})
    };
    till.adds("b3", 1, "beer").gives_back("b3").send(EventType::SubtotalFinalized, refund("refund"));
    till.rests();
    assert_eq!(till.alerts.len(), 1, "the customer has not got the money yet");
    till.send(EventType::PaymentCompleted, refund("refund")).rests();
    assert_eq!(till.alerts.len(), 2);
}

#[test]
fn after_a_refusal_every_further_attempt_is_asked_for_until_a_check_is_passed() {
    let mut till = Till::new();
    till.adds("b1", 1, "beer").checks("b1", "refused", 16).voids("b1", 1, "beer", 2);
    till.adds("b1", 2, "beer").adds("b1", 3, "beer");
    assert_eq!(till.prompted, [16, 16, 16]);
    till.checks("b1", "approved_id", 16).adds("b1", 4, "beer").pays("b1").rests();
    assert_eq!(till.prompted.len(), 3);
    assert_eq!(till.outcomes(), [(16, "approved_id"), (16, "approved_id"), (16, "refused")]);
    assert_eq!(till.alerts, []);
}

#[test]
fn a_void_whose_line_is_unknown_takes_off_the_product() {
    let mut till = Till::new();
    till.adds("b1", 1, "beer").voids("b1", 2, "beer", 2).pays("b1").rests();
    assert_eq!(till.alerts, []);
}

#[test]
fn a_law_begins_at_midnight_of_the_calendar_whenever_the_business_day_does() {
    let energy = |time: &str| {
        let data = json!({"basketId": time, "employeeId": "E7", "line": 1, "productId": "P", "category": "energy",
            "quantity": 1, "unitPrice": 100, "currency": "EUR"});
        event("S001/T0001", EventType::ItemAdded, Timestamp::parse(time).unwrap(), &data)
    };
    let mut till = Till::new();
    assert!(till.run.apply(&energy("2026-01-05T22:59:59.999Z")).is_empty());
    assert!(!till.run.apply(&energy("2026-01-05T23:00:00Z")).is_empty(), "midnight in Berlin");
}

#[test]
fn a_till_whose_clock_stands_in_the_past_asks_by_the_law_of_today() {
    let mut till = Till::new();
    let beer = |time: &str, basket: &str, category: &str| {
        let data = json!({"basketId": basket, "employeeId": "E7", "line": 1, "productId": "P", "category": category,
            "quantity": 1, "unitPrice": 100, "currency": "EUR"});
        event("S001/T0001", EventType::ItemAdded, Timestamp::parse(time).unwrap(), &data)
    };
    let today = Timestamp::parse("2026-03-02T09:00:00Z").unwrap();
    for (time, asked) in [
        ("2000-01-01T00:05:00Z", 1),
        ("1970-01-01T00:00:00Z", 1),
        ("2026-01-01T00:00:00Z", 1),
        ("2026-03-01T23:00:00Z", 1),
    ] {
        let effects = till.run.apply_at(&beer(time, time, "energy"), today);
        assert_eq!(published(&effects).len(), asked, "{time}");
    }
}

#[test]
fn states_of_the_version_before_are_understood() {
    let position = json!({"partition": 0, "offset": 7});
    let old = json!({"b": [{"i": "b1", "c": 0, "p": [], "x": false,
        "l": [{"l": 1, "p": "P1", "q": 1500, "a": 16, "e": "/s#1", "o": position}],
        "w": {"t": 5000, "u": 9000, "w": "E7", "e": "/s#2", "s": "/stores/S001/terminals/T1", "o": position}}]});
    let state: State = rmp_serde::from_slice(&rmp_serde::to_vec_named(&old).unwrap()).unwrap();
    let wait = state.baskets[0].wait.as_ref().unwrap();
    assert_eq!(
        (wait.until, wait.last_at(), wait.settled),
        (Timestamp::from_millis(9000), Timestamp::from_millis(5000), false)
    );
    assert_eq!(state.baskets[0].unchecked_line().unwrap().quantity, 15_000);
}

#[test]
fn baskets_do_not_mix_and_a_cancelled_one_is_forgotten() {
    let mut till = Till::new();
    till.adds("b1", 1, "beer")
        .adds("b2", 1, "beer")
        .checks("b2", "approved_id", 16)
        .cancels("b1")
        .pays("b1")
        .pays("b2")
        .rests();
    assert_eq!((till.prompted.as_slice(), till.alerts.len()), ([16, 16].as_slice(), 0));
    till.checks("b9", "refused", 18).pays("b9").rests();
    assert_eq!(till.alerts.len(), 0);
}

#[test]
fn the_law_of_the_store_counts_from_its_day_and_the_general_one_elsewhere() {
    let mut till = Till::new();
    till.adds("b1", 1, "energy").adds("b1", 2, "lighters");
    assert_eq!(till.prompted, [0; 0]);
    till.adds("b1", 3, "knives");
    assert_eq!(till.prompted, [18]);
    let item = |terminal: &str, time, category: &str| {
        let data = json!({"basketId": "b7", "employeeId": "E7", "line": 1, "productId": "P", "category": category,
            "quantity": 1, "unitPrice": 100, "currency": "EUR"});
        event(terminal, EventType::ItemAdded, time, &data)
    };
    // Four in the morning in Berlin, the sixth of January begins.
    let effects = till.run.apply(&item("S001/T0001", at("23:59:59").plus_seconds(3 * 3600 + 1), "energy"));
    let [EventData::AgeVerificationRequired(data)] = published(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((data.minimum_age, data.jurisdiction.as_deref()), (14, Some("DE")));
    let effects = till.run.apply(&item("S009/T0001", at("23:59:59").plus_seconds(4 * 3600), "beer"));
    assert!(effects.is_empty());
    let mut elsewhere = Till::new();
    let effects = elsewhere.run.apply(&item("S009/T0001", at("12:00:00"), "lighters"));
    let [EventData::AgeVerificationRequired(data)] = published(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((data.minimum_age, data.jurisdiction.as_deref()), (12, None));
}

#[test]
fn whatever_a_till_sends_as_correlation_the_prompt_is_a_valid_event() {
    let data = json!({"basketId": "b1", "employeeId": "E7", "line": 1, "productId": "P", "category": "beer",
        "quantity": 1, "unitPrice": 100, "currency": "EUR"});
    let correlation = "c".repeat(250_000);
    let mut item = NewEvent::new("1", "/stores/S001/terminals/T0001", EventType::ItemAdded, at("09:00:00"), data);
    item.correlationid = Some(&correlation);
    let effects = Till::new().run.apply(&item.to_event());
    let Some(Effect::Publish(prompt)) = effects.first() else { panic!("{effects:?}") };
    assert_eq!(prompt.correlation_id, prompt.causation_id);
}

#[test]
fn wrong_settings_name_their_fields() {
    let wrong = wrong_fields::<AgeVerification>;
    assert_eq!(wrong(laws()), [""; 0]);
    let policy = |policy: Value| wrong(json!({"policies": [policy]}));
    assert_eq!(policy(json!({"minimumAge": 18})), ["policies[0].category"]);
    assert_eq!(policy(json!({"category": "a", "minimumAge": 100})), ["policies[0].minimumAge"]);
    assert_eq!(policy(json!({"category": "a", "challengeAge": 17})), ["policies[0].challengeAge"]);
    assert_eq!(wrong(json!({"graceSeconds": 3601})), ["graceSeconds"]);
    let same = json!({"category": "a"});
    assert_eq!(wrong(json!({"policies": [same, same]})), ["policies[1].effectiveFrom"]);
    for unreadable in [json!({"category": "a", "age": 18}), json!({"effectiveFrom": "2026-02-30"})] {
        assert!(serde_json::from_value::<Policy>(unreadable).is_err());
    }
}

#[test]
fn too_many_lines_and_baskets_keep_the_strictest_and_the_latest() {
    let mut till = Till::new();
    for line in 0..200 {
        till.adds("b1", line, "beer");
    }
    till.adds("b1", 200, "spirits").checks("b1", "approved_id", 16);
    for line in 0..200 {
        till.voids("b1", line, "beer", 2);
    }
    till.pays("b1").rests();
    assert_eq!(till.alerts.iter().map(|record| record.alert.limit).collect::<Vec<_>>(), [18.0]);
    for basket in 0..40 {
        till.adds(&format!("c{basket}"), 1, "beer");
    }
    till.pays("c0").pays("c39").rests();
    assert_eq!(till.alerts.len(), 2);
}

proptest! {
    #[test]
    fn an_alert_is_raised_exactly_if_the_strictest_item_was_not_checked(
        steps in prop::collection::vec((0..5_u8, 0..3_usize, 0..6_u32), 1..60),
    ) {
        let (categories, ages) = (["bread", "beer", "spirits"], [0, 16, 18]);
        let mut till = Till::new();
        let mut held: BTreeMap<u32, u8> = BTreeMap::new();
        let mut passed = 0;
        for (step, kind, line) in steps {
            // One product on each line, so that a void finds what was added.
            let kind = if step < 3 { line as usize % 3 } else { kind };
            match step {
                0 | 1 if !held.contains_key(&line) => {
                    till.adds("b1", line, categories[kind]);
                    held.insert(line, ages[kind]);
                }
                2 if held.contains_key(&line) => {
                    till.voids("b1", line, categories[kind], 2);
                    held.remove(&line);
                }
                3 if kind > 0 => {
                    till.checks("b1", "approved_id", ages[kind]);
                    passed = passed.max(ages[kind]);
                }
                4 if kind > 0 => {
                    till.checks("b1", "refused", ages[kind]);
                    // A refusal in a basket that is not known yet has nothing to take back.
                    passed = passed.min(ages[kind] - 1);
                }
                _ => {}
            }
        }
        prop_assert!(till.prompted.iter().all(|age| ages.contains(age)));
        let needed = held.values().copied().max().unwrap_or(0);
        till.pays("b1").rests();
        prop_assert_eq!(till.alerts.len() == 1, needed > passed);
        prop_assert!(till.run.stored_bytes() < 4_000);
    }
}
