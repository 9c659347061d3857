//! Tests of the rules: what fires, what is said, and that windows equal a plain recomputation from the documentation.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::FraudDetection;
use crate::effect::{AlertRecord, Effect, Record};
use crate::event::{Event, EventType, Id, Scope};
use crate::plugins::testing::{Run, at, event, logged, published, records, wrong_fields};
use crate::time::Timestamp;

fn rule(with: &Value) -> Value {
    let mut rule = json!({"id": "r", "name": "Rule", "severity": "low", "scope": "employee",
        "eventTypes": ["pos.drawer.opened"], "aggregate": {"kind": "count"}, "windowSeconds": 60, "limit": 2});
    rule.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    rule
}

fn rules(rules: &[Value]) -> Value {
    json!({"rules": rules})
}

fn run(with: &Value) -> Run<FraudDetection> {
    let rule = rule(with);
    let scope = Scope::from_name(rule["scope"].as_str().unwrap()).unwrap();
    Run::new(scope, "X", rules(&[rule]))
}

fn drawer(time: Timestamp, terminal: &str) -> Event {
    event(terminal, EventType::DrawerOpened, time, &json!({"employeeId": "X"}))
}

fn line(kind: EventType, time: Timestamp, basket: &str, line: u32) -> Event {
    let data = json!({"basketId": basket, "employeeId": "X", "line": line, "productId": "P1", "category": "wine", "quantity": 1,
        "unitPrice": 250, "currency": "EUR"});
    event("S001/T1", kind, time, &data)
}

fn payment(time: Timestamp, basket: &str) -> Event {
    let data = json!({"basketId": basket, "employeeId": "X", "paymentId": "Z", "method": "cash", "amount": 999,
        "currency": "EUR"});
    event("S001/T1", EventType::PaymentCompleted, time, &data)
}

fn alerts(effects: &[Effect]) -> Vec<AlertRecord> {
    records(effects)
        .into_iter()
        .map(|record| match record {
            Record::Alert(alert) => (**alert).clone(),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_rule_fires_when_the_observed_value_is_above_the_limit_and_says_why() {
    let mut run = run(&json!({}));
    let times = ["09:00:00", "09:00:20", "09:00:40"];
    let events: Vec<_> = times.iter().map(|time| drawer(at(time), "S001/T1")).collect();
    assert!(run.apply(&events[0]).is_empty());
    assert!(run.apply(&events[1]).is_empty());
    let effects = run.apply(&events[2]);
    let alert = &alerts(&effects)[0];
    assert_eq!(alert.alert.observed.to_string(), "3");
    assert_eq!(alert.alert.event_ids, events.iter().map(Event::name).collect::<Vec<_>>());
    assert_eq!(alert.evidence.iter().map(|place| place.offset).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(alert.alert.message, "Rule: 3 drawer openings in 60 s, limit 2");
    assert_eq!((alert.store_id.as_str(), alert.terminal_id.as_deref(), alert.shadow), ("S001", Some("T1"), false));
    assert_eq!(published(&effects).len(), 1);
}

#[test]
fn what_is_as_old_as_the_window_no_longer_counts() {
    let mut run = run(&json!({}));
    for time in ["09:00:00", "09:00:01", "09:01:00"] {
        assert!(run.apply(&drawer(at(time), "S001/T1")).is_empty(), "{time}");
    }
    assert_eq!(alerts(&run.apply(&drawer(at("09:01:00.999"), "S001/T1"))).len(), 1);
}

#[test]
fn a_late_event_completes_a_pattern() {
    let mut run = run(&json!({}));
    for time in ["09:00:00", "09:00:40"] {
        assert!(run.apply(&drawer(at(time), "S001/T1")).is_empty());
    }
    assert_eq!(alerts(&run.apply(&drawer(at("09:00:20"), "S001/T1"))).len(), 1);
}

#[test]
fn an_alert_is_not_repeated_before_the_cooldown_is_over() {
    let mut run = run(&json!({"limit": 0, "cooldownSeconds": 30}));
    let fired: Vec<_> = ["09:00:00", "09:00:29.999", "09:00:30", "09:00:59"]
        .iter()
        .map(|time| alerts(&run.apply(&drawer(at(time), "S001/T1"))).len())
        .collect();
    assert_eq!(fired, [1, 0, 1, 0]);
}

#[test]
fn a_till_with_a_fast_clock_neither_empties_windows_nor_silences_a_rule() {
    let mut run = run(&json!({"limit": 1}));
    assert!(run.apply(&drawer(at("09:00:00"), "S001/T1")).is_empty());
    let ahead = drawer(at("23:00:00"), "S001/T2");
    assert_eq!(alerts(&run.apply_at(&ahead, at("09:00:02"))).len(), 1);
    assert!(run.apply_at(&drawer(at("09:02:00"), "S001/T1"), at("09:02:00")).is_empty());
    assert_eq!(alerts(&run.apply(&drawer(at("09:02:01"), "S001/T1"))).len(), 1);
}

#[test]
fn the_void_rate_is_voids_per_added_line() {
    let with = json!({"eventTypes": ["pos.basket.item_added"], "windowSeconds": 3600, "limit": 0.2, "minimumSample": 20,
        "aggregate": {"kind": "ratio", "numerator": ["pos.basket.item_voided"]}});
    let mut run = run(&with);
    let mut second = 0;
    let mut next = |run: &mut Run<FraudDetection>, kind| {
        second += 1;
        run.apply(&line(kind, at("09:00:00").plus_seconds(second), "B1", u32::try_from(second).unwrap()))
    };
    for _ in 0..4 {
        next(&mut run, EventType::ItemAdded);
        assert!(next(&mut run, EventType::ItemVoided).is_empty(), "the sample is too small");
    }
    for _ in 0..16 {
        assert!(next(&mut run, EventType::ItemAdded).is_empty(), "only a void makes the rule fire");
    }
    let found = alerts(&next(&mut run, EventType::ItemVoided));
    assert_eq!(found[0].alert.message, "Rule: 5 voids of 20 lines (25 %) in 1 h, limit 20 %");
    assert_eq!(found[0].alert.event_ids.len(), 5);
}

#[test]
fn a_void_counts_only_soon_after_the_payment_of_its_own_basket() {
    let with = json!({"scope": "terminal", "eventTypes": ["pos.basket.item_voided"], "limit": 0, "windowSeconds": 600,
        "after": {"eventTypes": ["pos.payment.completed"], "withinSeconds": 600}});
    let mut run = run(&with);
    let void = |time: &str, basket: &str| line(EventType::ItemVoided, at(time), basket, 1);
    assert!(run.apply(&void("09:00:00", "B1")).is_empty(), "not paid yet");
    let paid = payment(at("09:01:00"), "B1");
    assert!(run.apply(&paid).is_empty());
    assert!(run.apply(&void("09:02:00", "B2")).is_empty(), "another basket");
    let voided = void("09:11:00", "B1");
    let found = alerts(&run.apply(&voided));
    assert_eq!(found[0].alert.event_ids, [paid.name(), voided.name()]);
    assert!(run.apply(&void("09:30:00", "B1")).is_empty(), "long after the payment");
}

#[test]
fn distinct_sum_and_the_event_alone() {
    let mut two_tills = run(&json!({"aggregate": {"kind": "distinct", "of": "terminalId"}, "limit": 1}));
    assert!(two_tills.apply(&drawer(at("09:00:00"), "S001/T1")).is_empty());
    assert!(two_tills.apply(&drawer(at("09:00:01"), "S001/T1")).is_empty());
    let found = alerts(&two_tills.apply(&drawer(at("09:00:02"), "S001/T2")));
    assert_eq!(found[0].alert.message, "Rule: 2 different terminals in 3 drawer openings in 60 s, limit 1");

    let mut high = run(&json!({"eventTypes": ["pos.payment.completed"], "aggregate": {"kind": "sum", "of": "amount"},
        "limit": 998, "windowSeconds": 0}));
    let found = alerts(&high.apply(&payment(at("09:00:00"), "B1")));
    assert_eq!(found[0].alert.message, "Rule: 9.99 EUR in 1 payment, limit 9.98 EUR");
    assert_eq!(alerts(&high.apply(&payment(at("09:00:00"), "B2"))).len(), 1, "without a window there is no cooldown");

    let alone = json!({"aggregate": {"kind": "distinct", "of": "data.extra"}, "limit": 0, "windowSeconds": 0});
    let seven = event("S001/T1", EventType::DrawerOpened, at("09:00:00"), &json!({"employeeId": "X", "extra": 7}));
    assert_eq!(alerts(&run(&alone).apply(&seven))[0].alert.observed.to_string(), "1", "one value, whatever it is");

    let mut by_path = run(&json!({"aggregate": {"kind": "sum", "of": "data.extra.weight"}, "limit": 2}));
    let weighed = |time: &str, extra: Value| {
        let data = json!({"employeeId": "X", "extra": extra});
        event("S001/T1", EventType::DrawerOpened, at(time), &data)
    };
    assert!(by_path.apply(&weighed("09:00:00", json!({"weight": 1.5}))).is_empty());
    assert!(by_path.apply(&weighed("09:00:01", json!({"weight": "heavy"}))).is_empty());
    assert_eq!(alerts(&by_path.apply(&weighed("09:00:02", json!({"weight": 1})))).len(), 1);
}

#[test]
fn shadow_rules_are_only_stored_and_draft_and_paused_ones_do_nothing() {
    let fire = |status: &str| {
        let mut run = run(&json!({"status": status, "limit": 0}));
        run.apply(&drawer(at("09:00:00"), "S001/T1"))
    };
    let shadow = fire("shadow");
    assert!(published(&shadow).is_empty() && alerts(&shadow)[0].shadow);
    assert!(fire("draft").is_empty() && fire("paused").is_empty());
}

#[test]
fn edits_that_change_what_is_counted_start_anew_and_others_do_not() {
    let mut run = run(&json!({}));
    for time in ["09:00:00", "09:00:01"] {
        assert!(run.apply(&drawer(at(time), "S001/T1")).is_empty());
    }
    run.change_settings(rules(&[rule(&json!({"limit": 2, "severity": "high", "name": "Other"}))]));
    assert_eq!(alerts(&run.apply(&drawer(at("09:00:02"), "S001/T1"))).len(), 1);
    run.change_settings(rules(&[rule(&json!({"windowSeconds": 61}))]));
    assert!(run.apply(&drawer(at("09:00:03"), "S001/T1")).is_empty());
}

#[test]
fn the_revision_follows_what_matters_for_the_decision() {
    let revision = |with: Value| {
        let with_limit = json!({"limit": 0});
        let mut rule = rule(&with_limit);
        rule.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        let mut run = Run::<FraudDetection>::new(Scope::Employee, "X", rules(&[rule]));
        alerts(&run.apply(&drawer(at("09:00:00"), "S001/T1")))[0].alert.rule_revision
    };
    assert_eq!(revision(json!({})), revision(json!({"name": "Other", "status": "shadow"})));
    assert_ne!(revision(json!({})), revision(json!({"limit": 0.5})));
    // What `json.dumps(rule, sort_keys=True, separators=(",", ":"))` gives in Python, hashed with SHA-256.
    assert_eq!(revision(json!({})), 0x0246_8ae5);
}

#[test]
fn an_expression_that_fails_counts_as_false_and_is_logged() {
    let mut run = run(&json!({"condition": "event.data.nothing == 1", "limit": 0}));
    let effects = run.apply(&drawer(at("09:00:00"), "S001/T1"));
    assert!(alerts(&effects[..0]).is_empty());
    assert!(logged(&effects)[0].starts_with("rule r: the expression failed"), "{:?}", logged(&effects));
}

#[test]
fn faults_in_rules_are_named_by_their_path() {
    let wrong = |with: Value| wrong_fields::<FraudDetection>(rules(&[rule(&with)]));
    assert_eq!(wrong(json!({"eventTypes": []})), ["rules[0].eventTypes"]);
    assert_eq!(wrong(json!({"eventTypes": ["pos.drawer.opend"]})), ["rules[0].eventTypes[0]"]);
    assert_eq!(wrong(json!({"eventTypes": ["pos.fraud.alert_raised"]})), ["rules[0].eventTypes[0]"]);
    assert_eq!(wrong(json!({"condition": "event.amount >"})), ["rules[0].condition"]);
    assert_eq!(wrong(json!({"limit": 500})), ["rules[0].limit"]);
    assert_eq!(wrong(json!({"limit": -1})), ["rules[0].limit"]);
    assert_eq!(wrong(json!({"scope": "card"})), ["rules[0].eventTypes"]);
    assert_eq!(wrong(json!({"aggregate": {"kind": "sum"}})), ["rules[0].aggregate.of"]);
    assert_eq!(wrong(json!({"aggregate": {"kind": "sum", "of": "terminalId"}})), ["rules[0].aggregate.of"]);
    assert_eq!(wrong(json!({"aggregate": {"kind": "ratio"}})), ["rules[0].aggregate.numerator"]);
    let twice = rules(&[rule(&json!({})), rule(&json!({"limit": 3}))]);
    assert!(wrong_fields::<FraudDetection>(twice).contains(&"rules[1].id".to_owned()));
}

#[test]
fn a_busy_employees_state_stays_small() {
    let settings = crate::plugins::defaults::Defaults::built_in().plugins["fraud-detection"].settings.clone();
    let mut run = Run::<FraudDetection>::new(Scope::Employee, "X", settings);
    let short_id = |mut event: Event, second: i64| {
        event.id = Id::new(&format!("T0007-{second}")).unwrap();
        event
    };
    for second in (0..14_400_i64).step_by(10) {
        let time = at("09:00:00").plus_seconds(second);
        run.apply(&short_id(line(EventType::ItemAdded, time, "B1", 1), second));
        if second % 300 == 0 {
            run.apply(&short_id(line(EventType::ItemVoided, time, "B1", 1), second + 1));
            run.apply(&short_id(payment(time, "B1"), second + 2));
        }
        if second % 3600 == 0 {
            run.apply(&short_id(drawer(time, "S001/T1"), second + 3));
        }
    }
    assert!(run.stored_bytes() < 1000, "{}", run.stored_bytes());
}

/// The window as `docs/fraud-rules.md` says, without any cleverness.
fn naive(times: &[i64], window: i64) -> Vec<usize> {
    let mut entries: Vec<i64> = Vec::new();
    let mut sizes = Vec::new();
    for &time in times {
        entries.retain(|entry| *entry > time - window);
        entries.push(time);
        entries.sort_unstable();
        if entries.len() > 500 {
            entries.remove(0);
        }
        let end = entries.iter().copied().filter(|entry| *entry < time + window).max().unwrap().max(time);
        sizes.push(entries.iter().filter(|entry| **entry > end - window && **entry <= end).count());
    }
    sizes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn windows_equal_a_plain_recomputation(seconds in prop::collection::vec(0..400_i64, 1..80)) {
        let mut run = run(&json!({"limit": 0, "cooldownSeconds": 0}));
        let expected = naive(&seconds.iter().map(|second| second * 1000).collect::<Vec<_>>(), 60_000);
        for (second, expected) in seconds.iter().zip(expected) {
            let effects = run.apply(&drawer(at("09:00:00").plus_seconds(*second), "S001/T1"));
            let observed = alerts(&effects)[0].alert.observed;
            prop_assert_eq!(observed.to_string(), expected.to_string());
        }
    }

    #[test]
    fn ratios_equal_a_plain_recomputation(events in prop::collection::vec((0..900_i64, any::<bool>()), 1..80)) {
        let with = json!({"eventTypes": ["pos.basket.item_added"], "windowSeconds": 240, "limit": 0, "cooldownSeconds": 0,
            "aggregate": {"kind": "ratio", "numerator": ["pos.basket.item_voided"]}});
        let mut run = run(&with);
        let start = at("09:00:00");
        let (mut voids, mut buckets) = (Vec::new(), std::collections::BTreeMap::<i64, u32>::new());
        for (second, is_void) in events {
            let time = start.plus_seconds(second);
            let millis = time.as_millis();
            let kind = if is_void { EventType::ItemVoided } else { EventType::ItemAdded };
            let found = alerts(&run.apply(&line(kind, time, "B1", 1)));
            if !is_void {
                prop_assert!(found.is_empty());
                buckets.retain(|bucket, _| *bucket > millis / 10_000 - 24);
                *buckets.entry(millis / 10_000).or_default() += 1;
                if buckets.len() > 48 {
                    buckets.pop_first();
                }
                continue;
            }
            voids.retain(|void| *void > millis - 240_000);
            voids.push(millis);
            let end = voids.iter().copied().filter(|void| *void < millis + 240_000).max().unwrap();
            let numerator = voids.iter().filter(|void| **void > end - 240_000 && **void <= end).count();
            let numerator = u32::try_from(numerator).unwrap();
            let denominator: u32 = buckets.range(end / 10_000 - 23..=end / 10_000).map(|(_, count)| count).sum();
            let expected = (denominator > 0).then(|| (f64::from(numerator) / f64::from(denominator)).to_string());
            prop_assert_eq!(found.first().map(|alert| alert.alert.observed.to_string()), expected);
        }
    }
}
