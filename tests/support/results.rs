//! What a run left in the store's file, read by plain SQL.

use std::collections::BTreeMap;
use std::path::Path;

use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};
use serde_json::Value;

use crate::oracle::age::Prompt;
use crate::oracle::fraud::Alert;
use crate::oracle::recommend::Outcome;
use crate::oracle::time_sheets::Session;

/// Tables that hold results for people.
const RESULT_TABLES: [&str; 5] = ["sessions", "alerts", "recommendations", "age_prompts", "dead_letters"];

fn open(store: &Path) -> SqliteConnection {
    let url = format!("file:{}?mode=ro", store.display());
    let mut connection = SqliteConnection::establish(&url).expect("the store's file can be opened");
    sql_query("PRAGMA busy_timeout = 5000").execute(&mut connection).expect("a pragma");
    connection
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    value: String,
}

/// How many records of `pos.events` have been applied. 0 while there is no store.
pub(crate) fn progress(store: &Path) -> i64 {
    let Ok(mut connection) = SqliteConnection::establish(&format!("file:{}?mode=ro", store.display())) else {
        return 0;
    };
    let sum = sql_query("SELECT COALESCE(SUM(next_offset), 0) AS value FROM offsets WHERE topic = 'pos.events'");
    sum.get_result::<Number>(&mut connection).map_or(0, |sum| sum.value)
}

/// Every row of the tables of results, by table, each written out whole.
pub(crate) fn rows(store: &Path) -> BTreeMap<&'static str, Vec<String>> {
    let mut connection = open(store);
    let mut tables = BTreeMap::new();
    for table in RESULT_TABLES {
        let names = format!("SELECT name AS value FROM pragma_table_info('{table}') ORDER BY cid");
        let columns: Vec<Line> = sql_query(names).load(&mut connection).expect("the columns");
        let quoted: Vec<String> =
            columns.iter().map(|column| format!(r#"'{0}=' || quote("{0}")"#, column.value)).collect();
        let all = format!("SELECT {} AS value FROM {table} ORDER BY id", quoted.join(" || ' ' || "));
        let rows: Vec<Line> = sql_query(all).load(&mut connection).expect("the rows");
        tables.insert(table, rows.into_iter().map(|row| row.value).collect());
    }
    tables
}

/// The sessions of the time sheets.
pub(crate) fn sessions(store: &Path) -> Vec<Session> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        employee_id: String,
        #[diesel(sql_type = Text)]
        store_id: String,
        #[diesel(sql_type = Text)]
        terminal_id: String,
        #[diesel(sql_type = Text)]
        business_day: String,
        #[diesel(sql_type = BigInt)]
        login_at: i64,
        #[diesel(sql_type = Nullable<BigInt>)]
        logout_at: Option<i64>,
        #[diesel(sql_type = BigInt)]
        seconds: i64,
        #[diesel(sql_type = BigInt)]
        paid_seconds: i64,
        #[diesel(sql_type = Nullable<Text>)]
        cause: Option<String>,
        #[diesel(sql_type = Text)]
        flags: String,
    }
    let rows: Vec<Row> = sql_query("SELECT * FROM sessions").load(&mut open(store)).expect("the sessions");
    rows.into_iter()
        .map(|row| Session {
            employee: row.employee_id,
            store: row.store_id,
            terminal: row.terminal_id,
            business_day: row.business_day,
            login_at: row.login_at,
            logout_at: row.logout_at,
            seconds: row.seconds,
            paid_seconds: row.paid_seconds,
            cause: row.cause,
            flags: words(&row.flags),
        })
        .collect()
}

/// The words of a list, as JSON or separated by anything else.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(Into::into)
        .collect()
}

/// The alerts, what they rest on included.
pub(crate) fn alerts(store: &Path) -> Vec<Alert> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        at: i64,
        #[diesel(sql_type = Text)]
        store_id: String,
        #[diesel(sql_type = Nullable<Text>)]
        terminal_id: Option<String>,
        #[diesel(sql_type = Nullable<Text>)]
        employee_id: Option<String>,
        #[diesel(sql_type = Text)]
        alert: String,
    }
    let rows: Vec<Row> = sql_query("SELECT * FROM alerts").load(&mut open(store)).expect("the alerts");
    rows.into_iter()
        .map(|row| {
            let mut alert = alert(&serde_json::from_str(&row.alert).expect("JSON"), row.at);
            (alert.store, alert.terminal, alert.employee) = (row.store_id, row.terminal_id, row.employee_id);
            alert
        })
        .collect()
}

/// An alert from the data of `pos.fraud.alert_raised`, which does not name store, terminal and employee.
pub(crate) fn alert(data: &Value, at: i64) -> Alert {
    let text = |key: &str| data[key].as_str().expect("a text").to_owned();
    let number = |key: &str| data[key].as_f64().expect("a number");
    let ids = data["eventIds"].as_array().expect("a list");
    Alert {
        rule: text("ruleId"),
        scope: text("scope"),
        entity: text("entity"),
        at,
        severity: text("severity"),
        store: String::new(),
        terminal: None,
        employee: None,
        observed: number("observed"),
        limit: number("limit"),
        event_ids: ids.iter().map(|id| id.as_str().expect("a text").to_owned()).collect(),
    }
}

/// What became of the recommendations.
pub(crate) fn recommendations(store: &Path) -> Vec<Outcome> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        basket_id: String,
        #[diesel(sql_type = Text)]
        product_id: String,
        #[diesel(sql_type = Text)]
        recommended: String,
        #[diesel(sql_type = Bool)]
        taken_up: bool,
        #[diesel(sql_type = BigInt)]
        at: i64,
    }
    let rows: Vec<Row> = sql_query("SELECT * FROM recommendations").load(&mut open(store)).expect("the outcomes");
    rows.into_iter()
        .map(|row| Outcome {
            basket: row.basket_id,
            product: row.product_id,
            recommended: row.recommended,
            taken_up: row.taken_up,
            at: row.at,
        })
        .collect()
}

/// The age prompts.
pub(crate) fn age_prompts(store: &Path) -> Vec<Prompt> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        basket_id: String,
        #[diesel(sql_type = Text)]
        store_id: String,
        #[diesel(sql_type = Text)]
        terminal_id: String,
        #[diesel(sql_type = Text)]
        employee_id: String,
        #[diesel(sql_type = Integer)]
        minimum_age: i32,
        #[diesel(sql_type = Text)]
        outcome: String,
        #[diesel(sql_type = BigInt)]
        at: i64,
    }
    let rows: Vec<Row> = sql_query("SELECT * FROM age_prompts").load(&mut open(store)).expect("the prompts");
    rows.into_iter()
        .map(|row| Prompt {
            basket: row.basket_id,
            store: row.store_id,
            terminal: row.terminal_id,
            employee: row.employee_id,
            minimum_age: u64::try_from(row.minimum_age).expect("an age"),
            outcome: row.outcome,
            at: row.at,
        })
        .collect()
}

/// Reason and bytes of every dead letter; no bytes of those that hold what no event may hold.
pub(crate) fn dead_letters(store: &Path) -> Vec<(String, Vec<u8>)> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        reason: String,
        #[diesel(sql_type = Binary)]
        bytes: Vec<u8>,
    }
    let rows: Vec<Row> = sql_query("SELECT * FROM dead_letters").load(&mut open(store)).expect("the dead letters");
    let legible = |row: &Row| row.reason != "forbidden_data";
    rows.into_iter().map(|row| if legible(&row) { (row.reason, row.bytes) } else { (row.reason, Vec::new()) }).collect()
}
