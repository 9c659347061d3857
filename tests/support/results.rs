//! What a run left in the store, read by plain SQL.

use std::collections::BTreeMap;

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};
use serde_json::Value;

use super::database::Database;
use crate::oracle::age::Prompt;
use crate::oracle::fraud::Alert;
use crate::oracle::recommend::Outcome;
use crate::oracle::time_sheets::Session;

/// Tables that hold results for people.
const RESULT_TABLES: [&str; 5] = ["sessions", "alerts", "recommendations", "age_prompts", "dead_letters"];

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

/// How many records of `pos.events` have been applied. 0 while there is no store.
pub(crate) fn progress(store: &Database) -> i64 {
    let sum = "SELECT CAST(COALESCE(SUM(next_offset), 0) AS SIGNED) AS value FROM offsets WHERE topic = 'pos.events'";
    store.try_load::<Number>(sum).map_or(0, |rows| rows[0].value)
}

/// Every row of the tables of results, by table, each written out whole and alike for every database.
pub(crate) fn rows(store: &Database) -> BTreeMap<&'static str, Vec<String>> {
    let mut tables = BTreeMap::new();
    for table in RESULT_TABLES {
        let columns = store.columns(table);
        let hex: Vec<String> = columns.iter().map(|column| store.hex_or_null(column)).collect();
        let all = format!("SELECT {} AS value FROM {table}", hex.join(" || ' ' || "));
        let mut rows: Vec<String> = store.texts(&all).iter().map(|row| legible(&columns, row)).collect();
        rows.sort_unstable();
        tables.insert(table, rows);
    }
    tables
}

/// [`rows`] without the time at which the bus took a message: two buses that were filled alike differ in nothing but that.
pub(crate) fn rows_of_any_bus(store: &Database) -> BTreeMap<&'static str, Vec<String>> {
    let mut tables = rows(store);
    for row in tables.get_mut("dead_letters").expect("one of them") {
        let columns = row.split(' ').filter(|column| !column.starts_with("at="));
        *row = columns.collect::<Vec<_>>().join(" ");
    }
    for rows in tables.values_mut() {
        rows.sort_unstable();
    }
    tables
}

/// `column=value` for each column; bytes that are no text stay hexadecimal.
fn legible(columns: &[String], row: &str) -> String {
    let values = columns.iter().zip(row.split(' ')).map(|(column, hex)| {
        let digits = hex.as_bytes().chunks_exact(2);
        let bytes: Option<Vec<u8>> = digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect::<Option<_>>()
            .filter(|_| hex != "NULL");
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        format!("{column}={}", text.as_deref().unwrap_or(hex))
    });
    values.collect::<Vec<_>>().join(" ")
}

/// The sessions of the time sheets.
pub(crate) fn sessions(store: &Database) -> Vec<Session> {
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
    let rows: Vec<Row> = store.load("SELECT * FROM sessions");
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
pub(crate) fn alerts(store: &Database) -> Vec<Alert> {
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
    let rows: Vec<Row> = store.load("SELECT * FROM alerts");
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
pub(crate) fn recommendations(store: &Database) -> Vec<Outcome> {
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
    let rows: Vec<Row> = store.load("SELECT * FROM recommendations");
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
pub(crate) fn age_prompts(store: &Database) -> Vec<Prompt> {
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
    let rows: Vec<Row> = store.load("SELECT * FROM age_prompts");
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
pub(crate) fn dead_letters(store: &Database) -> Vec<(String, Vec<u8>)> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        reason: String,
        #[diesel(sql_type = Binary)]
        bytes: Vec<u8>,
    }
    let rows: Vec<Row> = store.load("SELECT * FROM dead_letters");
    let legible = |row: &Row| row.reason != "forbidden_data";
    rows.into_iter().map(|row| if legible(&row) { (row.reason, row.bytes) } else { (row.reason, Vec::new()) }).collect()
}
