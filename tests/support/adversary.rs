//! Streams that no shop would produce: few employees, tills and baskets, coarse times, and everything late, ahead,
//! repeated and out of order, so that every rule of the plugins meets its borders within a few hundred events.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// 2026-01-05T06:00:00Z, a Monday, in seconds.
const START: i64 = 1_767_592_800;
/// Every time is a multiple of this, so that borders are met exactly.
const STEP_SECONDS: i64 = 30;

/// A rule of each kind, with windows of minutes.
fn rules() -> Value {
    let rule = |id: &str, scope: &str, types: &[&str], rest: Value| {
        let mut rule = json!({"id": id, "name": id, "severity": "low", "scope": scope, "eventTypes": types});
        rule.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
        rule
    };
    json!([
        rule(
            "count",
            "employee",
            &["pos.drawer.opened"],
            json!({"aggregate": {"kind": "count"}, "windowSeconds": 600,
            "limit": 2, "cooldownSeconds": 60}),
        ),
        rule(
            "sum",
            "terminal",
            &["pos.payment.completed", "pos.refund.completed"],
            json!({"windowSeconds": 900,
            "aggregate": {"kind": "sum", "of": "amount"}, "limit": 2500, "minimumSample": 2}),
        ),
        rule(
            "distinct",
            "employee",
            &["pos.payment.completed"],
            json!({"windowSeconds": 300, "limit": 1,
            "aggregate": {"kind": "distinct", "of": "terminalId"}}),
        ),
        rule(
            "card",
            "card",
            &["pos.payment.completed"],
            json!({"windowSeconds": 1200, "limit": 2,
            "aggregate": {"kind": "distinct", "of": "basketId"}, "cooldownSeconds": 300}),
        ),
        rule(
            "customer",
            "customer",
            &["pos.customer.identified"],
            json!({"windowSeconds": 600, "limit": 1,
            "aggregate": {"kind": "distinct", "of": "data.basketId"}}),
        ),
        rule(
            "ratio",
            "employee",
            &["pos.basket.item_added"],
            json!({"windowSeconds": 1000, "limit": 0.3,
            "aggregate": {"kind": "ratio", "numerator": ["pos.basket.item_voided"]}, "minimumSample": 3}),
        ),
        rule(
            "within",
            "terminal",
            &["pos.basket.item_added", "pos.basket.item_voided"],
            json!({"windowSeconds": 700,
            "aggregate": {"kind": "ratio", "numerator": "pos.basket.item_voided"}, "limit": 0.25, "minimumSample": 2}),
        ),
        rule(
            "after",
            "terminal",
            &["pos.basket.item_voided"],
            json!({"windowSeconds": 300, "limit": 0,
            "aggregate": {"kind": "count"}, "cooldownSeconds": 30,
            "after": {"eventTypes": ["pos.payment.completed"], "withinSeconds": 240, "same": "basket"}}),
        ),
        rule(
            "twice",
            "employee",
            &["pos.drawer.opened"],
            json!({"windowSeconds": 600, "limit": 1,
            "aggregate": {"kind": "count"}, "cooldownSeconds": 0,
            "after": {"eventTypes": ["pos.drawer.opened", "pos.payment.completed"], "withinSeconds": 60, "same": "terminal"}}),
        ),
        rule(
            "refund",
            "employee",
            &["pos.refund.completed"],
            json!({"windowSeconds": 0, "limit": 0, "receipt": false,
            "aggregate": {"kind": "count"}, "minimumAmount": 800}),
        ),
        rule(
            "closed",
            "terminal",
            &["pos.basket.started"],
            json!({"windowSeconds": 600, "limit": 0, "storeOpen": false,
            "aggregate": {"kind": "count"}}),
        ),
    ])
}

/// The stores, plugins and settings of these streams, in the form of `plugins.yaml`.
pub(crate) fn defaults() -> Value {
    let hours = json!({"mon": "06:30-12:00", "tue": "22:00-04:00"});
    let policy = |category: &str, jurisdiction: &str, age: u64| json!({"category": category, "jurisdiction": jurisdiction, "minimumAge": age});
    json!({
        "stores": {
            "S001": {"timeZone": "Europe/Berlin", "jurisdiction": "DE", "businessDayStart": "08:00", "hours": hours},
            "S002": {"timeZone": "UTC", "jurisdiction": "XX"},
        },
        "plugins": {
            "employee-time-tracker": {"active": true, "settings": {"idleSeconds": 900, "maximumShiftSeconds": 3600}},
            "purchase-recommender": {"active": true, "settings": {"maximum": 2, "pairings": [
                {"categories": ["beer"], "recommend": ["P1", "P2", "P3"], "reason": "a"},
                {"products": ["P4", "P5"], "recommend": ["P0", "P2"], "reason": "b"},
            ]}},
            "fraud-detection": {"active": true, "settings": {"rules": rules()}},
            "age-verification": {"active": true, "settings": {"policies": [
                policy("beer", "DE", 16), policy("spirits", "DE", 18), policy("spirits", "*", 21),
                {"category": "beer", "jurisdiction": "*", "minimumAge": 0},
                {"category": "snacks", "jurisdiction": "DE", "minimumAge": 12, "effectiveFrom": "2026-01-05"},
            ]}},
        },
    })
}

/// A message and when the bus received it, in milliseconds.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) received: i64,
}

impl Message {
    pub(crate) fn received(&self) -> (&[u8], i64) {
        (&self.bytes, self.received)
    }
}

/// A stream of that many messages.
pub(crate) fn messages(seed: u64, count: usize) -> Vec<Message> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut now = START;
    let mut sequences = vec![0_u64; if seed.is_multiple_of(3) { 12 } else { 5 }];
    let baskets = if seed.is_multiple_of(2) { 20 } else { 4 };
    (0..count)
        .map(|_| {
            now += STEP_SECONDS * random.random_range(0..4_i64);
            if random.random_bool(0.02) {
                now += STEP_SECONDS * random.random_range(0..60_i64);
            }
            let late = match random.random_range(0..10) {
                0 => random.random_range(0..40_i64),
                1 | 2 => random.random_range(0..6_i64),
                _ => 0,
            };
            let mut millis = (now - STEP_SECONDS * late) * 1000;
            if random.random_bool(0.1) {
                millis -= random.random_range(0..2500_i64);
            }
            if random.random_bool(0.04) {
                // A till whose clock is ahead.
                millis += random.random_range(0..600_000_i64);
            }
            let terminal = random.random_range(0..sequences.len());
            sequences[terminal] += 1;
            let bytes = message(&mut random, (terminal, baskets), sequences[terminal], millis);
            Message { bytes, received: now * 1000 }
        })
        .collect()
}

fn message(random: &mut ChaCha8Rng, till: (usize, usize), sequence: u64, millis: i64) -> Vec<u8> {
    let (kind, data) = fact(random, till);
    let terminal = till.0;
    let store = if terminal == 4 { "S002" } else { "S001" };
    let time = jiff::Timestamp::from_millisecond(millis).expect("a time");
    let message = json!({
        "specversion": "1.0", "id": format!("{terminal}-{sequence}"), "type": kind, "sequence": sequence,
        "source": format!("/stores/{store}/terminals/T{terminal}"), "time": time.to_string(), "data": data,
    });
    message.to_string().into_bytes()
}

/// A fact from a till that has so many baskets.
fn fact(random: &mut impl Rng, (terminal, baskets): (usize, usize)) -> (&'static str, Value) {
    let employee = format!("E{}", random.random_range(0..3));
    let basket = format!("B{terminal}-{}", random.random_range(0..baskets));
    let product = random.random_range(0..6);
    let category = ["beer", "spirits", "snacks", "beer", "dairy", "spirits"][product];
    let line = json!({
        "basketId": basket, "employeeId": employee, "line": random.random_range(1..4), "productId": format!("P{product}"),
        "category": category, "quantity": random.random_range(1..3), "unitPrice": 250, "currency": "EUR",
    });
    let in_basket = json!({"basketId": basket, "employeeId": employee});
    let money = json!({
        "basketId": basket, "employeeId": employee, "paymentId": "p", "refundId": "r", "method": "card",
        "amount": random.random_range(1..20) * 100, "currency": "EUR", "receipt": random.random_bool(0.5),
        "cardToken": format!("tok_{}", random.random_range(0..2)),
    });
    let outcome = ["approved_visual", "approved_id", "refused", "overridden"][random.random_range(0..4)];
    let age = [12, 16, 18, 21][random.random_range(0..4)];
    match random.random_range(0..24) {
        0..=2 => ("pos.employee.logged_in", json!({"employeeId": employee})),
        3 | 4 => ("pos.employee.logged_out", json!({"employeeId": employee})),
        5 => ("pos.basket.started", in_basket),
        6 => ("pos.basket.cancelled", in_basket),
        7 => ("pos.basket.suspended", in_basket),
        8 | 9 => ("pos.drawer.opened", json!({"employeeId": employee})),
        10 | 11 => ("pos.payment.completed", money),
        12 => ("pos.refund.completed", money),
        13 => ("pos.customer.identified", json!({"basketId": basket, "employeeId": employee, "customerId": "C1"})),
        14 | 15 => (
            "pos.age.checked",
            json!({"basketId": basket, "employeeId": employee, "outcome": outcome, "minimumAge": age}),
        ),
        16..=18 => ("pos.basket.item_voided", line),
        _ => ("pos.basket.item_added", line),
    }
}
