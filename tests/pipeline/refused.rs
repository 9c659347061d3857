//! What the store refuses for good: only that is left out, all else that follows from the message happens, and a replay applies
//! only what was left out.

use diesel::Connection;
use diesel::connection::SimpleConnection;
use diesel::sqlite::SqliteConnection;
use serde_json::{Value, json};

use tillstream::time::Timestamp;

use crate::shop::{Open, Shop, at, drawer, drawer_rule, until};

/// A shop that speaks of each drawer that is opened twice: at the terminal and of the employee.
fn shop() -> Shop {
    let rule = |scope: &str| {
        let mut rule = drawer_rule(0);
        (rule["id"], rule["scope"]) = (json!(scope), json!(scope));
        rule
    };
    Shop::on_a_file_with(&json!({"plugins": {
        "employee-time-tracker": {"active": true, "settings": {"idleSeconds": 600, "maximumShiftSeconds": 36000}},
        "fraud-detection": {"active": true, "settings": {"rules": [rule("terminal"), rule("employee")]}},
    }}))
}

/// Changes the store while it is in use.
fn change(shop: &Shop, sql: &str) {
    let mut database = SqliteConnection::establish(&shop.path("store.db").display().to_string()).expect("the file");
    database.batch_execute("PRAGMA busy_timeout = 30000").expect("a pragma");
    database.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The second event of the first till is ahead of the third; the second till moves all clocks on.
fn events() -> Vec<Value> {
    vec![drawer("T1", 1, 0), drawer("T1", 2, 1000), drawer("T1", 3, 500), drawer("T2", 1, 4000)]
}

/// Scope and event of each alert that was published.
async fn alerts(open: &Open) -> Vec<String> {
    let alerts = open.published("pos.fraud.alert_raised").await;
    let name = |alert: &Value| {
        let event = alert["data"]["eventIds"][0].as_str().expect("a name").rsplit('#').next().unwrap_or_default();
        format!("{} {event}", alert["data"]["ruleId"].as_str().expect("a rule"))
    };
    let mut names: Vec<_> = alerts.iter().map(name).collect();
    names.sort_unstable();
    names
}

fn sessions(open: &Open) -> Vec<String> {
    open.query(
        "SELECT concat_ws(' ', employee_id, login_at, logout_at, cause, flags) AS value FROM sessions ORDER BY 1",
    )
}

fn all() -> Vec<String> {
    let names = ["employee T1-1", "employee T1-2", "employee T1-3", "employee T2-1"].into_iter();
    let names = names.chain(["terminal T1-1", "terminal T1-2", "terminal T1-3", "terminal T2-1"]);
    names.map(ToOwned::to_owned).collect()
}

/// What happens where nothing is refused.
async fn undisturbed() -> Vec<String> {
    let shop = shop();
    let open = shop.open().await;
    open.append(&events()).await;
    until("all is decided on", async || alerts(&open).await == all()).await;
    // It ends by idleness, goes on with the second event, and ends again there.
    let end = Timestamp::parse(&at(1000)).expect("a time").as_millis().to_string();
    until("the first employee's session has ended", async || {
        sessions(&open).iter().any(|row| row.contains("idle") && row.contains(&end))
    })
    .await;
    let sessions = sessions(&open);
    open.stop().await;
    sessions
}

/// Runs the events while a trigger refuses some rows, then without it; `left_out` are the alerts that the dead letters stand
/// for, whose plugin and entity are given.
async fn refused(trigger: &str, left_out: &[&str], letters: &[(Option<&str>, &str)]) {
    let undisturbed = undisturbed().await;
    let shop = shop();
    let open = shop.open().await;
    open.settled().await;
    change(
        &shop,
        &format!("CREATE TRIGGER refuses BEFORE INSERT ON {trigger} BEGIN SELECT RAISE(ABORT, 'too long'); END"),
    );
    open.append(&events()).await;
    let expected: Vec<_> = all().into_iter().filter(|name| !left_out.contains(&name.as_str())).collect();
    until("all else is decided on", async || alerts(&open).await == expected).await;
    until("the sessions are as ever", async || sessions(&open) == undisturbed).await;
    let (_, list) = open.call("GET", "/api/deadletters", None).await;
    let list = list["items"].as_array().expect("items").clone();
    let mut found: Vec<_> =
        list.iter().map(|letter| (letter["plugin"].as_str(), letter["entity"].as_str().unwrap_or_default())).collect();
    found.sort_unstable();
    assert_eq!(found, letters, "{list:?}");
    assert!(list.iter().all(|letter| letter["reason"] == "store_refused"), "{list:?}");

    change(&shop, "DROP TRIGGER refuses");
    let (status, answer) = open.call("POST", "/api/deadletters/replay", Some(json!({"reason": "store_refused"}))).await;
    assert_eq!((status, &answer["affected"]), (200, &json!(letters.len())), "{answer}");
    until("what was left out is decided on", async || alerts(&open).await == all()).await;
    let is_replayed = async || {
        let (_, list) = open.call("GET", "/api/deadletters?status=replayed", None).await;
        list["items"].as_array().is_some_and(|items| items.len() == letters.len())
    };
    until("the letters are replayed", is_replayed).await;
    // Another round over all partitions: whatever a replay may have brought about elsewhere has come by then.
    open.append(&[drawer("T2", 2, 4001)]).await;
    until("the next event is decided on", async || alerts(&open).await.len() == all().len() + 2).await;
    let of_first = |rows: Vec<String>| rows.into_iter().filter(|row| row.starts_with("E-T1")).collect::<Vec<_>>();
    assert_eq!(of_first(sessions(&open)), of_first(undisturbed));
    open.stop().await;
}

#[actix::test]
async fn what_the_store_refuses_of_a_terminal_leaves_clock_window_and_employee_as_they_were() {
    let rows = "alerts WHEN NEW.scope = 'terminal' AND instr(NEW.alert, 'T1-2') > 0";
    refused(rows, &["terminal T1-2"], &[(Some("fraud-detection"), "terminal:T1")]).await;
}

/// Of the second till, whose employee has one event: several that are released together are left out together.
#[actix::test]
async fn what_the_store_refuses_of_one_employee_stops_nobody_else() {
    let rows = "alerts WHEN NEW.scope = 'employee' AND instr(NEW.alert, 'T2-1') > 0";
    refused(rows, &["employee T2-1"], &[(Some("fraud-detection"), "employee:E-T2")]).await;
}

#[actix::test]
async fn a_message_whose_window_the_store_refuses_is_replayed_at_its_terminal_only() {
    let left_out = ["terminal T1-1", "terminal T1-2", "terminal T1-3"];
    let letter = (None, "terminal:T1");
    refused("windows WHEN instr(NEW.source, 'T1') > 0", &left_out, &[letter; 3]).await;
}
