//! What expressions see, what is wrong with them, and what they may cost.

use super::*;
use crate::event::{Event, EventType, NewEvent};
use crate::stores::Stores;
use crate::time::Timestamp;
use serde_json::json;

fn refund(extra: &serde_json::Value) -> Event {
    let mut data = json!({"refundId": "R1", "employeeId": "E7", "amount": 5000, "currency": "EUR", "method": "cash",
        "receipt": false});
    data.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let time = Timestamp::parse("2026-01-05T05:30:00Z").unwrap();
    NewEvent::new("1", "/stores/S001/terminals/T1", EventType::RefundCompleted, time, data).to_event()
}

fn stores() -> Stores {
    let stores =
        json!({"S001": {"timeZone": "Europe/Berlin", "businessDayStart": "04:00", "hours": {"mon": "07:00-21:00"}}});
    Stores::new(serde_json::from_value(stores).unwrap()).unwrap()
}

fn matches(expression: &Expression, event: &Event) -> Result<bool, Failure> {
    expression.matches(&EventView::new(event, &stores()))
}

pub(super) fn eval(text: &str) -> Result<bool, String> {
    let event = refund(&json!({"voucher": {"codes": ["A", "B"]}, "factor": 1.5}));
    Expression::compile(text).and_then(|expression| matches(&expression, &event).map_err(|failure| failure.to_string()))
}

#[test]
fn expressions_see_the_envelope_the_data_and_the_stores_clock() {
    for text in [
        "event.type == 'pos.refund.completed' && event.storeId == 'S001' && event.terminalId == 'T1'",
        "event.data.receipt == false && event.amount >= 5000 && event.data.amount == 5000",
        "event.data.voucher.codes.exists(code, code == 'B') && event.data.factor > 1.4",
        "event.localHour == 6 && event.localMinute == 30 && event.weekday == 'mon' && event.storeOpen == false",
        "event.basketId == null && event.employeeId == 'E7' && event.businessDay == '2026-01-05'",
        "timestamp(event.time) < timestamp('2026-01-05T05:30:01Z') && !has(event.data.nothing)",
        "event.data.method in ['cash', 'card'] && !event.training && size(event.data['voucher'].codes) == 2",
    ] {
        assert_eq!(eval(text), Ok(true), "{text}");
    }
}

#[test]
fn faults_are_named_with_their_place() {
    for (text, expected) in [
        ("event.amount >", "1:"),
        ("event.amount > 1 &&\n event.amuont > 2", "2:7: event.amuont does not exist; did you mean event.amount?"),
        ("event.receipt", "event.data.receipt"),
        ("amount > 3", "1:1: amount is not known; the only variable is event"),
        ("event.data.method.matches('a')", "matches() cannot be used here"),
        ("event == event", "write event.FIELD"),
        ("", "is empty"),
    ] {
        let error = eval(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn what_gives_no_boolean_is_an_error_and_no_panic() {
    for text in [
        "event.amount",
        "event.data.nothing == 1",
        "1 / 0 == 1",
        "event.amount % 0 == 1",
        "event.basketId < 3",
        "9223372036854775807 + event.amount > 0",
        "event.data.voucher.codes[7] == ''",
        "-(-9223372036854775808) > 0",
        "duration('1e999h') > duration('1s')",
        "timestamp('nonsense') > timestamp(event.time)",
        "int('x') == 1",
        "int(1e300) == 1",
        "uint(-1) == 1u",
        "timestamp(9223372036854775807) > timestamp(event.time)",
        "timestamp('9999-12-31T23:59:59Z') + duration('9000000000s') > timestamp(event.time)",
        "-9223372036854775808 / -1 == 1",
        "-9223372036854775808 % -1 == 1",
    ] {
        assert!(eval(text).is_err(), "{text}: {:?}", eval(text));
    }
}

#[test]
fn hostile_expressions_are_refused_or_over_quickly() {
    let started = std::time::Instant::now();
    for text in [
        "(".repeat(900),
        format!("{}true", "!".repeat(900)),
        format!("{}1 == 1", "-".repeat(900)),
        format!("{}true", "true ? true : ".repeat(60)),
        format!("1{} > 0", "+1".repeat(400)),
        format!("event.data{} == 1", ".a".repeat(400)),
        format!("event.data.x{} == 1", "[0]".repeat(300)),
        format!("{}true{}", "[".repeat(16), "]".repeat(16)),
        "true && ".repeat(110) + "true",
        "[1,2,3].all(a, [1,2,3].all(b, [1,2,3].all(c, true)))".to_owned(),
        "event.data.a + event.data.a + event.data.a + event.data.a + event.data.a + event.data.a + event.data.a + event.data.a + event.data.a + event.data.a == ''".to_owned(),
        "event".to_owned() + &".map(x, x)".repeat(90),
        "\u{0}\u{feff}💥".repeat(50),
        "'''".to_owned(),
        "event.data['\u{0}']".to_owned(),
    ] {
        let _ = eval(&text);
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn a_large_event_costs_an_error_and_no_time() {
    let expression = Expression::compile("event.data.big.all(x, x == 1)").unwrap();
    let large = refund(&json!({"big": vec![1; 20_000]}));
    assert!(matches!(matches(&expression, &large), Err(Failure::EventTooLarge { .. })));
    let fits = refund(&json!({"big": vec![1; 7_000]}));
    assert_eq!(matches(&expression, &fits), Ok(true));
}

/// An event of almost 16 KB: a list `b` of 7 000 numbers, or what else is asked for.
fn large(data: &serde_json::Value) -> Event {
    let event = refund(data);
    assert!((10_000..EVENT_BYTES_MAX).contains(&event.raw.len()), "{}", event.raw.len());
    event
}

#[test]
fn an_evaluation_over_its_budget_ends_and_says_so() {
    let numbers = large(&json!({"b": vec![1; 7_000]}));
    let texts = large(&json!({"b": vec![1; 3_000], "s": "a".repeat(7_000)}));
    let keys: serde_json::Map<_, _> = (0..1_200).map(|number| (format!("k{number}"), json!(number))).collect();
    let map = large(&json!({"m": keys, "b": [1]}));
    let in_each = vec!["event.data.b.all(x, !(2 in event.data.b))"; 22].join(" && ");
    for (text, event) in [
        ("size(event.data.b.map(x, event.data.b + event.data.b)) > 0", &numbers),
        ("event.data.b.all(x, !(x + 1 in event.data.b))", &numbers),
        (&in_each, &numbers),
        ("event.data.b.all(x, event.data.b == event.data.b)", &numbers),
        ("event.data.b.exists(x, event.data.b != event.data.b)", &numbers),
        ("event.data.b.exists(x, event.data.b.exists(y, event.data.b.exists_one(z, z == 2)))", &numbers),
        ("event.data.b.map(x, event.data.b.filter(y, true)) == []", &numbers),
        ("event.data.b.map(x, event.data.b).map(y, y == event.data.b) == []", &numbers),
        ("event.data.b.map(x, [x, x, x, x, x, x, x, x, x, x]) == []", &numbers),
        ("event.data.b.map(x, {'a': x, 'b': x, 'c': x, 'd': x}) == []", &numbers),
        ("event.data.b.map(x, event.data.s + event.data.s) == []", &texts),
        ("event.data.b.all(x, event.data.s == event.data.s)", &texts),
        ("event.data.b.all(x, !(event.data.s < event.data.s))", &texts),
        ("event.data.b.all(x, !event.data.s.contains('aaaaaaab'))", &texts),
        ("event.data.b.all(x, event.data.s.lowerAscii() != '')", &texts),
        ("event.data.b.all(x, size(event.data.s) > 1)", &texts),
        ("event.data.b.exists(x, double(event.data.s) == 1.0)", &texts),
        ("event.data.m.all(k, event.data.m == event.data.m)", &map),
        ("event.data.m.all(k, event.data.m.all(l, event.data.m[l] >= 0))", &map),
    ] {
        let outcome = matches(&Expression::compile(text).unwrap(), event);
        assert!(matches!(outcome, Err(Failure::OverBudget(_))), "{text}: {outcome:?}");
    }
}

#[test]
fn an_error_that_the_other_side_makes_up_for_does_not_hide_that_the_budget_is_spent() {
    let event = large(&json!({"b": vec![1; 7_000]}));
    for text in [
        "event.data.b.all(x, !(2 in event.data.b)) || true",
        "!(event.data.b.all(x, !(2 in event.data.b)) && false)",
        "[1, 2].exists(y, y == 2 || event.data.b.all(x, !(2 in event.data.b)))",
    ] {
        let outcome = matches(&Expression::compile(text).unwrap(), &event);
        assert!(matches!(outcome, Err(Failure::OverBudget(_))), "{text}: {outcome:?}");
    }
}

#[test]
fn what_is_only_read_is_not_copied() {
    let event = large(&json!({"b": vec![1; 7_000]}));
    let shares = Expression::compile("size(event.data.b.map(x, event.data.b)) == 7000").unwrap();
    assert_eq!(matches(&shares, &event), Ok(true));
}

#[test]
fn all_expressions_for_one_event_share_a_budget() {
    let event = large(&json!({"b": vec![1; 7_000]}));
    let stores = stores();
    let view = EventView::new(&event, &stores);
    let each = Expression::compile("event.data.b.all(x, x == 1)").unwrap();
    let outcomes: Vec<_> = (0..100).map(|_| each.matches(&view)).collect();
    assert_eq!(outcomes[0], Ok(true));
    assert!(matches!(outcomes[99], Err(Failure::OverBudget(_))), "{:?}", outcomes[99]);
    let first_over = outcomes.iter().position(Result::is_err).unwrap();
    assert!(outcomes[first_over..].iter().all(Result::is_err), "once it is spent it stays spent");
}

#[test]
fn a_failure_names_keys_of_the_expression_and_no_value_of_the_event() {
    let event = refund(&json!({"secret": "4111111111111111", "list": [1]}));
    for text in [
        "event.data[event.data.secret] == 1",
        "event.data.secret + 1 == 1",
        "int(event.data.secret + 'x') == 1",
        "event.data.list[event.data.secret] == 1",
        "duration(event.data.secret) == duration('1s')",
        "event.data.secret",
    ] {
        let failure = matches(&Expression::compile(text).unwrap(), &event).unwrap_err().to_string();
        assert!(!failure.contains("4111"), "{text}: {failure}");
    }
}
