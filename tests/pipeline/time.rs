//! Time: it moves on where nobody says anything, and past-dated logs run in their own.

use serde_json::{Value, json};
use tillstream::time::Timestamp;

use crate::shop::{Shop, event, until};

const SESSIONS: &str = "SELECT employee_id || ' ' || COALESCE(cause, 'open') AS value FROM sessions ORDER BY login_at";

fn login(terminal: &str, sequence: u64, time: Timestamp) -> Value {
    let mut event = event("pos.employee.logged_in", terminal, sequence, 0, json!({"employeeId": "E1"}));
    event["time"] = json!(time);
    event
}

fn shop_with_idle_seconds(seconds: u32) -> Shop {
    let settings = json!({"idleSeconds": seconds, "maximumShiftSeconds": 36000});
    Shop::with_plugins(&json!({"plugins": {"employee-time-tracker": {"active": true, "settings": settings}}}))
}

#[actix::test]
async fn an_idle_employee_is_logged_out_although_no_till_says_anything_any_more() {
    let shop = shop_with_idle_seconds(60);
    let open = shop.open().await;
    // The colleague's login is the last that is ever heard, two seconds before the minute is over.
    let then = Timestamp::parse("2026-03-02T09:00:00Z").expect("a time");
    let mut colleague = login("T2", 1, then.plus_seconds(58));
    colleague["data"]["employeeId"] = json!("E2");
    open.append(&[login("T1", 1, then), colleague]).await;
    until("the session has ended by itself", async || open.query(SESSIONS) == ["E1 idle", "E2 open"]).await;
    until("everybody is told", async || !open.published("pos.employee.auto_logged_out").await.is_empty()).await;
    let told = open.published("pos.employee.auto_logged_out").await;
    assert_eq!((told.len(), &told[0]["data"]["cause"]), (1, &json!("idle")));
    open.stop().await;
}

#[actix::test]
async fn a_log_of_the_past_runs_in_its_own_time() {
    let shop = shop_with_idle_seconds(600);
    let open = shop.open().await;
    let then = Timestamp::parse("2020-03-02T09:00:00Z").expect("a time");
    // Nine minutes between two signs of life: nobody is idle, although all of it was years ago.
    let events: Vec<_> =
        (1..).zip((0..5).map(|n| n * 540)).map(|(n, seconds)| login("T1", n, then.plus_seconds(seconds))).collect();
    open.append(&events).await;
    // Another till moves time on, eleven minutes beyond the last of them.
    let mut other = login("T2", 1, then.plus_seconds(4 * 540 + 660));
    other["data"]["employeeId"] = json!("E2");
    open.append(&[other]).await;
    until("time has reached the other tills", async || {
        let sessions = open.query(SESSIONS);
        sessions.iter().any(|session| session == "E1 idle")
    })
    .await;
    let sessions = open.query(SESSIONS);
    assert_eq!(sessions.iter().filter(|session| *session == "E1 idle").count(), 1, "{sessions:?}");
    let told = open.published("pos.employee.auto_logged_out").await;
    let years: Vec<&str> = told.iter().map(|event| &event["time"].as_str().expect("a time")[..4]).collect();
    assert!(years.iter().all(|year| *year == "2020"), "{years:?}");
    open.stop().await;
}
