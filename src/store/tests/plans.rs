//! No list that the API documents reads a whole table, or sorts one: asked of SQLite about the statements that are really sent. MySQL
//! has the same indexes; which of them it takes depends on its statistics.

use std::sync::Mutex;

use diesel::connection::{Connection, InstrumentationEvent};
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::*;
use crate::effect::Record;
use crate::store::connection::Database;
use crate::store::cursor::Cut;
use crate::store::{
    AlertFilter, AlertStatus, DeadLetterFilter, OrderFilter, OrderStatus, SessionFilter, alerts, audit, counts,
    dead_letters, orders, sessions,
};

/// Rows of each table.
const ROWS: usize = 3000;

#[derive(QueryableByName)]
struct SqlitePlan {
    #[diesel(sql_type = Text)]
    detail: String,
}

/// A connection that remembers the statements that are sent.
struct Watched {
    database: Database,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Watched {
    fn on(target: &Target) -> Self {
        let mut database = target.connect(Purpose::Write).unwrap();
        let sent: Arc<Mutex<Vec<String>>> = Arc::default();
        let listener = Arc::clone(&sent);
        let listen = move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::StartQuery { query, .. } = event {
                listener.lock().unwrap().push(query.to_string());
            }
        };
        match &mut database {
            Database::Sqlite(db) => db.set_instrumentation(listen),
            Database::Mysql(session) => session.connection().set_instrumentation(listen),
        }
        Self { database, sent }
    }

    /// The statements that `work` sends, with their values in place.
    fn statements(&mut self, work: impl FnOnce(&mut Database)) -> Vec<String> {
        self.sent.lock().unwrap().clear();
        work(&mut self.database);
        let sent = std::mem::take(&mut *self.sent.lock().unwrap());
        sent.iter().filter(|text| text.starts_with("SELECT")).map(|text| with_values(text)).collect()
    }

    /// What is wrong with how the database would run a statement.
    fn faults(&mut self, statement: &str) -> Vec<String> {
        let Database::Sqlite(db) = &mut self.database else { panic!("plans are asked of SQLite") };
        let plan: Vec<SqlitePlan> = diesel::sql_query(format!("EXPLAIN QUERY PLAN {statement}")).load(db).unwrap();
        // What stands in the order of its rowid has no index for it, and a page of it ends early.
        let is_page = statement.contains(" LIMIT ");
        let is_whole = |detail: &str| {
            let has_index = detail.contains("USING INDEX") || detail.contains("USING COVERING INDEX");
            detail.starts_with("SCAN") && !has_index && !is_page
        };
        let details = plan.into_iter().map(|row| row.detail);
        details.filter(|text| is_whole(text) || text.contains("TEMP B-TREE")).collect()
    }
}

/// A statement as Diesel shows it, with its values where the question marks are.
fn with_values(shown: &str) -> String {
    let (statement, values) = shown.split_once(" -- binds: ").unwrap_or((shown, "[]"));
    let values: Vec<serde_json::Value> =
        serde_json::from_str(values).unwrap_or_else(|error| panic!("{error}: {values}"));
    let mut values = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => format!("'{text}'"),
        serde_json::Value::Bool(value) => i32::from(value).to_string(),
        other => other.to_string(),
    });
    let mut parts = statement.split('?');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(&values.next().expect("a value for each question mark"));
        text.push_str(part);
    }
    text
}

/// Calls a query of a module on whichever database this is.
macro_rules! ask {
    ($database:expr, $module:ident, $function:ident ( $($argument:expr),* )) => {
        match $database {
            Database::Sqlite(db) => drop($module::sqlite::$function(db, $($argument),*).unwrap()),
            Database::Mysql(session) => drop($module::mysql::$function(session.connection(), $($argument),*).unwrap()),
        }
    };
}

type Ask = Box<dyn Fn(&mut Database)>;

/// Every list with every filter that the API documents, its first page and a later one.
fn lists() -> Vec<(String, Ask)> {
    let mut lists: Vec<(String, Ask)> = Vec::new();
    let (from, to) = (Some(Timestamp::from_millis(1000)), Some(Timestamp::from_millis(2000)));
    for after in [None, Some((1500_i64, "a1500".to_owned()))] {
        let later = if after.is_some() { "later page of" } else { "first page of" };
        let cut = || Cut { after: after.clone(), ..Cut::new(None, 100).unwrap() };
        let base = || AlertFilter { shadow: Some(false), ..AlertFilter::default() };
        let filters = [
            ("all", base()),
            ("shadow", AlertFilter { shadow: Some(true), ..base() }),
            ("status", AlertFilter { status: Some(AlertStatus::New), ..base() }),
            ("severity", AlertFilter { severity: Some(Severity::High), ..base() }),
            ("rule", AlertFilter { rule_id: Some("void-rate".to_owned()), ..base() }),
            ("entity", AlertFilter { entity: Some("E7".to_owned()), ..base() }),
            ("scoped entity", AlertFilter { entity: Some("employee:E7".to_owned()), ..base() }),
            ("time", AlertFilter { from, to, ..base() }),
        ];
        for (name, filter) in filters {
            let cut = cut();
            lists.push((
                format!("{later} alerts by {name}"),
                Box::new(move |database| ask!(database, alerts, page(&filter, &cut))),
            ));
        }
        let base = DeadLetterFilter::default;
        let filters = [
            ("all", base()),
            ("status", DeadLetterFilter { status: Some(DeadLetterStatus::Open), ..base() }),
            ("reason", DeadLetterFilter { reason: Some("not_json".to_owned()), ..base() }),
            ("plugin", DeadLetterFilter { plugin: Some("age-verification".to_owned()), ..base() }),
            ("time", DeadLetterFilter { from, to, ..base() }),
        ];
        for (name, filter) in filters {
            let cut = cut();
            lists.push((
                format!("{later} dead letters by {name}"),
                Box::new(move |database| ask!(database, dead_letters, page(&filter, &cut))),
            ));
        }
        let day = |text: &str| Some(text.parse().unwrap());
        let base = SessionFilter::default;
        let text = |text: &str| Some(text.to_owned());
        let filters = [
            ("all", base()),
            ("business day", SessionFilter { from: day("2026-01-05"), to: day("2026-01-06"), ..base() }),
            ("time", SessionFilter { login_from: from, login_to: to, ..base() }),
            ("employee", SessionFilter { employee_id: text("E7"), ..base() }),
            ("store", SessionFilter { store_id: text("S001"), ..base() }),
            ("terminal", SessionFilter { terminal_id: text("T1"), ..base() }),
            ("employee and day", SessionFilter { employee_id: text("E7"), from: day("2026-01-05"), ..base() }),
        ];
        for (name, filter) in filters {
            let cut = cut();
            lists.push((
                format!("{later} sessions by {name}"),
                Box::new(move |database| ask!(database, sessions, page(&filter, &cut))),
            ));
        }
        let base = OrderFilter::default;
        let filters = [
            ("all", base()),
            ("status", OrderFilter { status: Some(OrderStatus::Failed), ..base() }),
            ("store", OrderFilter { store_id: text("S001"), ..base() }),
            ("terminal", OrderFilter { terminal_id: text("T1"), ..base() }),
            ("time", OrderFilter { from, to, ..base() }),
        ];
        for (name, filter) in filters {
            let cut = Cut { after: after.as_ref().map(|(_, id)| id.clone()), ..Cut::new(None, 100).unwrap() };
            lists.push((
                format!("{later} orders by {name}"),
                Box::new(move |database| ask!(database, orders, page(&filter, &cut))),
            ));
        }
        for plugin in [None, Some("age-verification")] {
            let cut = Cut { after: after.as_ref().map(|(at, _)| *at), ..Cut::new(None, 100).unwrap() };
            lists.push((
                format!("{later} audit of {plugin:?}"),
                Box::new(move |database| ask!(database, audit, page(plugin, &cut))),
            ));
        }
    }
    lists.push(("what waits".to_owned(), Box::new(|database| ask!(database, counts, counts()))));
    lists
}

async fn fill(store: &Store) {
    let mut commit = taken(store, 10).await;
    let severities = [Severity::Low, Severity::Medium, Severity::High];
    for number in 0..ROWS {
        let at = i64::try_from(number).unwrap();
        let mut one = alert(&format!("a{number}"), at, severities[number % 3]);
        one.shadow = number.is_multiple_of(5);
        one.alert.entity = crate::event::Id::new(&format!("E{}", number % 200)).unwrap();
        one.alert.rule_id = crate::event::Id::new(&format!("rule-{}", number % 40)).unwrap();
        commit.records.push(Record::Alert(Box::new(one)));
        let mut one = session(&format!("s{number}"), &format!("E{}", number % 200), "2026-01-05", 60);
        one.login_at = one.login_at.plus_seconds(3600 * at);
        one.store_id = format!("S{:03}", number % 50);
        one.terminal_id = format!("T{}", number % 100);
        commit.records.push(Record::Session(one));
        commit.dead_letters.push(DeadLetter {
            reason: format!("reason-{}", number % 20),
            plugin: Some(format!("plugin-{}", number % 20)),
            ..dead_letter(&format!("d{number}"), at)
        });
    }
    commit_now(store, commit).await;
    let order = |number: usize| crate::store::NewOrder {
        store_id: format!("S{:03}", number % 50),
        terminal_id: format!("T{}", number % 100),
        ..super::orders::new_order(&format!("o{number}"), &format!("k{number}"), "f")
    };
    store.accept_orders(Arc::new((0..ROWS).map(order).collect()), Timestamp::MIN).await.unwrap();
}

#[tokio::test]
async fn no_list_reads_or_sorts_a_whole_table() {
    let fixture = Fixture::sqlite().await;
    fill(&fixture.store).await;
    let target = fixture.target.clone();
    let faults: Vec<String> = tokio::task::spawn_blocking(move || {
        let mut watched = Watched::on(&target);
        let mut faults = Vec::new();
        for (name, ask) in lists() {
            let statements = watched.statements(|database| ask(database));
            assert!(!statements.is_empty(), "{name}: no statement was seen");
            // The letters of an empty page, which are none.
            for statement in statements.iter().filter(|statement| !statement.contains("(1=0)")) {
                let found = watched.faults(statement);
                faults.extend(found.into_iter().map(|fault| format!("{name}: {fault}: {statement}")));
            }
        }
        faults
    })
    .await
    .unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_business_day_lies_between_the_logins_that_its_list_begins_and_ends_with() {
    let stores: crate::stores::Stores = crate::stores::Stores::new(
        serde_json::from_value(serde_json::json!({
            "EAST": {"name": "e", "timeZone": "Pacific/Kiritimati", "businessDayStart": "00:00"},
            "WEST": {"name": "w", "timeZone": "Etc/GMT+12", "businessDayStart": "23:59"},
        }))
        .unwrap(),
    )
    .unwrap();
    for store in ["EAST", "WEST"] {
        for hour in 0..72 {
            let login = Timestamp::parse("2026-01-05T00:00:00Z").unwrap().plus_seconds(3600 * hour);
            let day: jiff::civil::Date = stores.business_day(store, login).to_string().parse().unwrap();
            let next = day.tomorrow().unwrap();
            assert!(sessions::earliest_login(day) <= login.as_millis(), "{store} {login}");
            assert!(login.as_millis() < sessions::latest_login(next), "{store} {login}");
        }
    }
}
