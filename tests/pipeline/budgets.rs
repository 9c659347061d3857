//! What people wrote and what tills send together never stop the shop: conditions have a budget, and say when it is spent.

use serde_json::{Value, json};

use crate::shop::{Open, Shop, drawer, event, until};

/// A refund of 16 KB, with a list of ones.
fn large_refund(terminal: &str, sequence: u64, numbers: usize) -> Value {
    let data = json!({"refundId": "R1", "employeeId": "E7", "amount": 5000, "currency": "EUR", "method": "cash",
        "receipt": false, "b": vec![1; numbers]});
    event("pos.refund.completed", terminal, sequence, 0, data)
}

fn rule(id: &str, condition: &str) -> Value {
    json!({"id": id, "name": id, "severity": "low", "scope": "terminal", "eventTypes": ["pos.refund.completed"],
        "condition": condition, "aggregate": {"kind": "count"}, "windowSeconds": 0, "limit": 0})
}

async fn conditions(open: &Open, plugin: &str) -> Value {
    let (_, plugin) = open.call("GET", &format!("/api/plugins/{plugin}"), None).await;
    plugin["stats"]["conditions"].clone()
}

#[actix::test]
async fn a_condition_over_its_budget_counts_as_false_is_named_and_stops_nobody() {
    let shop = Shop::new();
    let open = shop.open().await;
    let rules = json!([
        rule("memory", "size(event.data.b.map(x, event.data.b + event.data.b)) > 0"),
        rule("quadratic", "event.data.b.all(x, !(x + 1 in event.data.b))"),
        rule("plain", "event.amount == 5000"),
        rule("absent", "event.data.nothing == 1"),
    ]);
    open.change("fraud-detection", json!({"active": true, "settings": {"rules": rules}})).await;
    open.append(&[large_refund("T1", 1, 7_000), drawer("T2", 1, 1), large_refund("T1", 2, 10)]).await;
    open.settled().await;
    let alerts = open.published("pos.fraud.alert_raised").await;
    let mut raised: Vec<_> =
        alerts.iter().map(|alert| alert["data"]["ruleId"].as_str().expect("a rule").to_owned()).collect();
    raised.sort_unstable();
    assert_eq!(raised, ["memory", "plain", "plain", "quadratic"], "each rule decides on the small one, one on both");
    let found = conditions(&open, "fraud-detection").await;
    let figures = |id: &str| {
        let name = format!("rules.{id}");
        found.as_array().expect("a list").iter().find(|one| one["condition"] == *name).cloned()
    };
    for id in ["memory", "quadratic"] {
        let over = figures(id).expect("counted");
        assert_eq!((&over["overBudget"], &over["failed"]), (&json!(1), &json!(0)), "{over}");
        assert_eq!(over["lastEvent"], "/stores/S001/terminals/T1#T1-1");
        assert!(over["lastAt"].is_string() && over["lastError"].as_str().expect("why").contains("more than"), "{over}");
    }
    assert_eq!(figures("absent").expect("counted")["failed"], 2);
    assert_eq!(figures("plain"), None);
    let metrics = reqwest::get(open.url("/metrics")).await.expect("an answer").text().await.expect("a body");
    let line = r#"tillstream_plugin_condition_failures_total{plugin="fraud-detection",reason="over_budget"} 2"#;
    assert!(metrics.contains(line), "{metrics}");
    open.stop().await;
}

#[actix::test]
async fn an_event_that_is_too_large_for_expressions_is_counted_and_named() {
    let shop = Shop::new();
    let open = shop.open().await;
    let eligibility = json!({"when": "event.amount == 5000"});
    let rules = json!([rule("plain", "event.amount == 5000")]);
    open.change("fraud-detection", json!({"active": true, "settings": {"rules": rules}})).await;
    open.append(&[large_refund("T1", 1, 9_000)]).await;
    open.settled().await;
    open.change("fraud-detection", json!({"eligibility": eligibility})).await;
    open.append(&[large_refund("T1", 2, 9_000)]).await;
    open.settled().await;
    until("both are named", async || {
        conditions(&open, "fraud-detection").await.as_array().is_some_and(|all| all.len() == 2)
    })
    .await;
    let found = conditions(&open, "fraud-detection").await;
    assert_eq!((&found[0]["condition"], &found[0]["tooLarge"]), (&json!("eligibility.when"), &json!(1)), "{found}");
    assert_eq!((&found[1]["condition"], &found[1]["tooLarge"]), (&json!("rules.plain"), &json!(1)), "{found}");
    assert!(found[0]["lastError"].as_str().expect("why").contains("expressions see at most 16384"), "{found}");
    open.stop().await;
}

#[actix::test]
async fn settings_with_more_faults_than_anybody_reads_are_refused_with_a_short_answer() {
    let shop = Shop::new();
    let open = shop.open().await;
    for (method, path, body) in [
        ("PATCH", "/api/plugins/fraud-detection", json!({"settings": {"rules": vec![1; 5_000]}})),
        ("PATCH", "/api/plugins/fraud-detection", json!({"settings": {"rules": vec![1; 300_000]}})),
        ("PATCH", "/api/plugins/fraud-detection", json!({"eligibility": {"stores": vec![1; 300_000]}})),
        (
            "PUT",
            "/api/stores",
            json!((0..5_000).map(|id| (format!("S{id}"), json!(1))).collect::<serde_json::Map<_, _>>()),
        ),
    ] {
        let (status, problem) = open.call(method, path, Some(body)).await;
        assert_eq!(status, 422, "{path}");
        let faults = problem["errors"].as_array().expect("a list").len();
        assert!((1..=101).contains(&faults), "{path}: {faults} faults");
    }
    open.stop().await;
}
