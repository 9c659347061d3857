//! One suite over every database: SQLite always, MySQL where `TILLSTREAM_TEST_MYSQL` names a server
//! (`mysql://user:password@host:port`) on which databases may be created.

mod commits;
mod deciding;
mod delivery;
mod expiry;
mod files;
mod forgetting;
mod logins;
mod opening;
mod orders;
mod plans;
mod reading;
mod server;
mod unknown;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use super::Store;
use super::connection::{Purpose, Target};
use super::model::*;
use crate::bus::{NewRecord, Topic, TopicPartition};
use crate::effect::{AlertRecord, HttpEffect, HttpRequest, Position, Service, TimeSheetSession};
use crate::event::{AlertRaised, Id, Scope, Severity};
use crate::time::Timestamp;

const EVENTS_0: TopicPartition = TopicPartition::new(Topic::Events, 0);
const REKEYED_0: TopicPartition = TopicPartition::new(Topic::Rekeyed, 0);

/// An empty store, and a way to its database past the store.
struct Fixture {
    store: Store,
    url: String,
    target: Target,
    directory: tempfile::TempDir,
    /// Drops the database of this fixture.
    _drop: Option<DropDatabase>,
}

struct DropDatabase {
    server: Target,
    name: String,
}

impl Drop for DropDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // On a thread of its own: a connection must not be waited for inside the runtime of a test.
        let dropped = std::thread::spawn(move || {
            server
                .connect(Purpose::Write)?
                .batch_execute(&format!("DROP DATABASE IF EXISTS {name}; DROP DATABASE IF EXISTS {name}_many"))
        });
        if !std::thread::panicking() {
            dropped.join().unwrap().unwrap();
        }
    }
}

impl Fixture {
    async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data").join("store.db");
        let url = format!("sqlite:{}", path.display());
        Self { store: Store::open(&url).await.unwrap(), url, target: Target::Sqlite(path), directory, _drop: None }
    }

    async fn mysql(server: &str) -> Self {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let name = format!("tillstream_test_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
        let admin = Target::Mysql(format!("{server}/mysql"));
        execute(admin.clone(), format!("CREATE DATABASE {name}")).await;
        let url = format!("{server}/{name}");
        let store = Store::open(&url).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let drop = Some(DropDatabase { server: admin, name });
        Self { store, target: Target::Mysql(url.clone()), url, directory, _drop: drop }
    }

    /// The URL of another, empty database; it is dropped with this fixture.
    async fn empty_database(&self, suffix: &str) -> String {
        let name = format!("{}{suffix}", self.url.rsplit('/').next().unwrap());
        self.execute(&format!("CREATE DATABASE {name}")).await;
        format!("{}{suffix}", self.url)
    }

    /// Asserts that nothing in a table is like this.
    async fn assert_no_rows(&self, table: &str, like: &str) {
        let (target, query) = (self.target.clone(), format!("SELECT COUNT(*) AS number FROM {table} WHERE {like}"));
        let counted = tokio::task::spawn_blocking(move || target.connect(Purpose::Read)?.number(&query));
        assert_eq!(counted.await.unwrap().unwrap(), Some(0), "{table} where {like}");
    }

    async fn execute(&self, statement: &str) {
        execute(self.target.clone(), statement.to_owned()).await;
    }
}

async fn execute(target: Target, statement: String) {
    tokio::task::spawn_blocking(move || target.connect(Purpose::Write)?.batch_execute(&statement))
        .await
        .unwrap()
        .unwrap();
}

/// One empty store of each kind.
async fn fixtures() -> Vec<Fixture> {
    let mut fixtures = vec![Fixture::sqlite().await];
    fixtures.extend(on_server().await);
    fixtures
}

/// An empty store on the MySQL server that the environment names; without one it is said once that those are left out.
async fn on_server() -> Option<Fixture> {
    static SAID: std::sync::Once = std::sync::Once::new();
    let Ok(server) = std::env::var("TILLSTREAM_TEST_MYSQL") else {
        // Not `eprintln`, which the test harness keeps for itself while tests pass.
        SAID.call_once(|| {
            let text =
                "skipped: the store's suite on MySQL: TILLSTREAM_TEST_MYSQL names no server (scripts/services up)\n";
            let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
        });
        return None;
    };
    Some(Fixture::mysql(server.trim_end_matches('/')).await)
}

fn entity(partition: TopicPartition, id: &str, state: &str) -> EntityRow {
    EntityRow { key: key(partition, id), state: Bytes::from(state.to_owned()), due: None, expires: None }
}

fn key(partition: TopicPartition, id: &str) -> EntityKey {
    EntityKey { partition, plugin: "employee-time-tracker", scope: Scope::Employee, entity: id.to_owned() }
}

fn record(value: &str) -> NewRecord {
    NewRecord {
        topic: Topic::Events,
        partition: Some(3),
        key: Some(Bytes::from_static(b"T0001")),
        value: Bytes::from(value.to_owned()),
        headers: vec![("content-type".to_owned(), Bytes::from_static(b"application/cloudevents+json"))],
    }
}

fn dead_letter(id: &str, at: i64) -> DeadLetter {
    DeadLetter {
        id: id.to_owned(),
        at: Timestamp::from_millis(at),
        status: DeadLetterStatus::Open,
        reason: "not_json".to_owned(),
        field: None,
        message: "ends too early".to_owned(),
        plugin: None,
        entity: None,
        partition: EVENTS_0,
        offset: at,
        clock: Timestamp::from_millis(at),
        key: None,
        headers: vec![
            ("ce_id".to_owned(), Bytes::from_static(b"e1")),
            ("\u{e9}".to_owned(), Bytes::from_static(b"\xff")),
        ],
        bytes: Bytes::from_static(b"{\xff"),
        attempts: 0,
    }
}

fn alert(id: &str, at: i64, severity: Severity) -> AlertRecord {
    let id_of = |text: &str| Id::new(text).unwrap();
    AlertRecord {
        alert: AlertRaised {
            alert_id: id_of(id),
            rule_id: id_of("void-rate"),
            rule_revision: 2,
            severity,
            scope: Scope::Employee,
            entity: id_of("E7"),
            observed: 0.25,
            limit: 0.1,
            window_seconds: Some(3600),
            event_ids: vec!["/stores/S001/terminals/T1#1".to_owned(), "/stores/S001/terminals/T1#2".to_owned()],
            message: "voids too often".to_owned(),
        },
        at: Timestamp::from_millis(at),
        store_id: "S001".to_owned(),
        terminal_id: Some("T1".to_owned()),
        employee_id: Some("E7".to_owned()),
        evidence: vec![Position { partition: 3, offset: 10 }, Position { partition: 3, offset: 11 }],
        shadow: false,
    }
}

fn session(id: &str, employee: &str, day: &str, seconds: i64) -> TimeSheetSession {
    let login_at = Timestamp::parse(&format!("{day}T08:00:00Z")).unwrap();
    TimeSheetSession {
        id: id.to_owned(),
        employee_id: employee.to_owned(),
        store_id: "S001".to_owned(),
        terminal_id: "T1".to_owned(),
        business_day: day.to_owned(),
        login_at,
        logout_at: Some(login_at.plus_seconds(seconds)),
        seconds,
        paid_seconds: seconds / 2,
        cause: Some("logout".to_owned()),
        flags: vec!["late".to_owned(), "overlap".to_owned()],
    }
}

fn call(id: &str) -> HttpEffect {
    HttpEffect {
        id: id.to_owned(),
        plugin: "customer-lookup".to_owned(),
        scope: Scope::Terminal,
        entity: "T1".to_owned(),
        terminal: "/stores/S001/terminals/T1".to_owned(),
        causation_id: "/stores/S001/terminals/T1#7".to_owned(),
        at: Timestamp::from_millis(5),
        request: HttpRequest {
            service: Service::Customers,
            path: "C1".to_owned(),
            token: "b1".to_owned(),
            timeout_ms: 500,
            attempts: 3,
            cache_seconds: 60,
            keep: vec!["name".to_owned()],
        },
    }
}

/// Takes partition 0 of `pos.events` and gives a commit that moves it to `next_offset`.
async fn taken(store: &Store, next_offset: i64) -> Commit {
    let row = store.take(vec![EVENTS_0]).await.unwrap().remove(0);
    let row = PartitionRow { next_offset, clock: Timestamp::from_millis(next_offset), ..row };
    Commit { partitions: vec![PartitionCommit { row }], settings_epoch: 1, ..Commit::default() }
}

/// The commit after `commit`, empty.
fn after(commit: &Commit, next_offset: i64) -> Commit {
    let mut partitions = commit.partitions.clone();
    for PartitionCommit { row } in &mut partitions {
        row.version += 1;
        row.next_offset = next_offset;
    }
    Commit { partitions, settings_epoch: commit.settings_epoch, ..Commit::default() }
}

/// Commits and expects it to work.
async fn commit_now(store: &Store, commit: Commit) {
    store.commit(Arc::new(commit)).await.unwrap();
}
