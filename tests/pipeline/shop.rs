//! One installation under test: a directory of its own, the configuration for it, and the whole process inside this one.
#![allow(dead_code, reason = "shared by tests that each use a part of it")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use tillstream::app::{App, AppOptions};
use tillstream::bus::{Bus, BusError, Fetched, NewRecord, Record, Topic, TopicPartition};
use tillstream::config::{Config, RemoteUrl, Secret, StoreUrl};
use tillstream::control::Change;
use tillstream::time::Timestamp;

use crate::support::database::Database;

/// Longest wait for anything; an idle machine needs a small part of it, one with compilers beside it most of it.
const PATIENCE: Duration = Duration::from_mins(5);
/// `mysql`: shops have a database on the server that `TILLSTREAM_TEST_MYSQL` names instead of a file.
const STORE: &str = "TILLSTREAM_TEST_STORE";
const READ_BYTES: usize = 4 << 20;

/// A rule that makes the fraud plugin speak of every drawer that is opened, so that one sees which events reached it.
pub(crate) fn drawer_rule(limit: u32) -> Value {
    json!({
        "id": "drawer", "name": "Drawer opened", "severity": "low", "scope": "terminal", "status": "active",
        "eventTypes": ["pos.drawer.opened"], "aggregate": {"kind": "count"}, "windowSeconds": 0, "limit": limit,
        "cooldownSeconds": 0,
    })
}

fn plugins() -> Value {
    json!({
        "plugins": {
            "employee-time-tracker": {"active": true, "settings": {"idleSeconds": 600, "maximumShiftSeconds": 36000}},
            "purchase-recommender": {"active": true, "settings": {"maximum": 1, "pairings": [
                {"products": ["P1"], "recommend": ["P2"], "reason": "goes with it"},
            ]}},
            "customer-lookup": {"active": true, "settings": {"timeoutMs": 500, "attempts": 2, "fields": ["firstName"]}},
            "fraud-detection": {"active": true, "settings": {"rules": [drawer_rule(0)]}},
            "age-verification": {"active": true, "settings": {"policies": [
                {"category": "beer", "jurisdiction": "*", "minimumAge": 16},
            ]}},
        },
    })
}

/// The directory and configuration of one installation.
pub(crate) struct Shop {
    directory: TempDir,
    pub(crate) config: Config,
    database: Arc<Database>,
}

impl Shop {
    /// An empty one with four partitions, two shards, and all plugins on with nearly no settings.
    pub(crate) fn new() -> Self {
        Self::with_plugins(&plugins())
    }

    /// As [`Shop::new`], with a SQLite file as its store whatever the others use.
    pub(crate) fn on_a_file() -> Self {
        Self::in_a_directory(&plugins())
    }

    /// An empty one that begins with this `plugins.yaml`.
    pub(crate) fn with_plugins(plugins: &Value) -> Self {
        let mut shop = Self::in_a_directory(plugins);
        // `scripts/test` runs these suites once more on a real server.
        if std::env::var(STORE).is_ok_and(|store| store == "mysql") {
            shop.use_database(Database::on_server("a shop").expect("the suite was asked to run on a server"));
        }
        shop
    }

    /// As [`Shop::on_a_file`], with this `plugins.yaml`.
    pub(crate) fn on_a_file_with(plugins: &Value) -> Self {
        Self::in_a_directory(plugins)
    }

    fn in_a_directory(plugins: &Value) -> Self {
        // Fails only if it was done before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = TempDir::new().expect("a temporary directory");
        let mut config = Config::default();
        config.bus.path = directory.path().join("bus.db");
        config.bus.partitions = 4;
        config.store.url = StoreUrl::Sqlite(directory.path().join("store.db"));
        config.http.bind.set_port(0);
        config.plugins.file = directory.path().join("plugins.yaml");
        config.processor.shards = 2;
        // YAML is a superset of JSON.
        fs::write(&config.plugins.file, plugins.to_string()).expect("a file");
        let database = Arc::new(Database::Sqlite(directory.path().join("store.db")));
        Self { directory, config, database }
    }

    /// With this empty database as its store.
    pub(crate) fn use_database(&mut self, database: Database) {
        self.config.store.url = match &database {
            Database::Sqlite(path) => StoreUrl::Sqlite(path.clone()),
            Database::Mysql { .. } => StoreUrl::MySql(Secret::new(database.url())),
        };
        self.database = Arc::new(database);
    }

    /// With a remote customer system.
    pub(crate) fn with_customers(mut self, url: &str) -> Self {
        self.config.customers.url = Some(RemoteUrl::parse(url).expect("an address"));
        self
    }

    /// With a third party for orders.
    pub(crate) fn with_orders(mut self, url: &str) -> Self {
        self.config.orders.url = Some(RemoteUrl::parse(url).expect("an address"));
        self
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// The store, past the program.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Starts everything, inside the actix system of the test.
    pub(crate) async fn open(&self) -> Open {
        self.start(AppOptions::default()).await
    }

    /// Starts everything, to end when nothing is left to do.
    pub(crate) async fn open_to_catch_up(&self) -> Open {
        self.start(AppOptions { until_caught_up: true, ..AppOptions::default() }).await
    }

    /// Starts it in its own way.
    pub(crate) async fn start(&self, options: AppOptions) -> Open {
        let config = Arc::new(self.config.clone());
        let begun = Instant::now();
        loop {
            match App::start(Arc::clone(&config), options.clone()).await {
                Ok(app) => return Open { app, database: Arc::clone(&self.database) },
                // Threads of an installation that was just stopped in this process may still be ending.
                Err(error) if error.to_string().contains("in use by another process") => {
                    assert!(begun.elapsed() < PATIENCE, "{error}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Changes the store behind the back of Tillstream, which must not be running.
    pub(crate) fn execute(&self, sql: &str) {
        assert!(self.database.execute(sql) > 0, "nothing changed by {sql}");
    }

    /// The first column of what this query finds in the store.
    pub(crate) fn query(&self, sql: &str) -> Vec<String> {
        self.database.texts(sql)
    }
}

/// A running installation.
pub(crate) struct Open {
    pub(crate) app: App,
    database: Arc<Database>,
}

impl Open {
    /// Appends events to the bus as tills do; returns when they are durable.
    pub(crate) async fn append(&self, events: &[Value]) {
        append(&*self.app.bus, events).await;
    }

    /// Appends a record as it is.
    pub(crate) async fn append_raw(&self, record: NewRecord) -> i64 {
        self.app.bus.append(vec![record]).await.expect("the bus takes it")[0]
    }

    pub(crate) async fn change(&self, plugin: &str, patch: Value) {
        let change = Change { patch, if_match: None, actor: "test".to_owned(), reason: None };
        self.app.control.change(plugin, change).await.unwrap_or_else(|error| panic!("{error:?}"));
    }

    /// Waits until everything that stands on the bus has been read and committed, and all that follows from it is on the
    /// bus. What needs time to pass, such as decisions across tills, may still be open.
    pub(crate) async fn settled(&self) {
        until("everything is processed", async || self.is_settled().await).await;
    }

    /// Waits until everything that stands on the bus now has been read and committed, whatever is appended meanwhile.
    pub(crate) async fn has_read_all(&self) {
        for partition in 0..self.app.bus.partitions() {
            let place = TopicPartition::new(Topic::Events, partition);
            let high = self.app.bus.bounds(place).await.expect("bounds").high;
            until("the events are processed", async || self.next_offset(place) >= high).await;
        }
    }

    /// The first offset that is not committed; 0 while nobody here owns the partition.
    fn next_offset(&self, place: TopicPartition) -> i64 {
        self.app.status.partition(place).map_or(0, |status| status.next_offset.get())
    }

    async fn is_settled(&self) -> bool {
        for topic in [Topic::Events, Topic::Rekeyed] {
            for partition in 0..self.app.bus.partitions() {
                let place = TopicPartition::new(topic, partition);
                let high = self.app.bus.bounds(place).await.expect("bounds").high;
                // Chunks that wait for other partitions hold their offset back.
                if topic == Topic::Events && self.next_offset(place) < high {
                    return false;
                }
            }
        }
        let depths = (self.app.store.outbox_depth().await, self.app.store.http_depth().await);
        matches!(depths, (Ok(0), Ok(0)))
    }

    /// All records of a topic.
    pub(crate) async fn records(&self, topic: Topic) -> Vec<Record> {
        records(&*self.app.bus, topic).await
    }

    /// The events that plugins published, of one type.
    pub(crate) async fn published(&self, kind: &str) -> Vec<Value> {
        let records = self.records(Topic::Events).await;
        let events = records.iter().filter_map(|record| serde_json::from_slice::<Value>(&record.value).ok());
        events
            .filter(|event| {
                event["type"] == kind && event["source"].as_str().is_some_and(|s| s.starts_with("/plugins/"))
            })
            .collect()
    }

    /// The ids of the events that alerts of the drawer rule name, in order; each must be named once.
    pub(crate) async fn alerted(&self) -> Vec<String> {
        let alerts = self.published("pos.fraud.alert_raised").await;
        let mut ids: Vec<String> = alerts
            .iter()
            .flat_map(|alert| alert["data"]["eventIds"].as_array().expect("a list").clone())
            .map(|name| name.as_str().expect("a text").split_once('#').expect("source#id").1.to_owned())
            .collect();
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "an event raised two alerts: {ids:?}");
        ids
    }

    pub(crate) fn query(&self, sql: &str) -> Vec<String> {
        self.database.texts(sql)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.app.address().expect("it serves HTTP"))
    }

    /// Sends a request and returns status and JSON body.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = reqwest::Client::new().request(method.parse().expect("a method"), self.url(path));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.expect("a body")).unwrap_or_default())
    }

    pub(crate) async fn stop(self) {
        self.app.stop().await;
    }
}

/// Appends events as tills do.
pub(crate) async fn append(bus: &dyn Bus, events: &[Value]) {
    bus.append(events.iter().map(record).collect()).await.expect("the bus takes them");
}

/// An event as its till sends it.
pub(crate) fn record(event: &Value) -> NewRecord {
    let terminal = event["source"].as_str().and_then(|source| source.rsplit('/').next()).unwrap_or_default();
    NewRecord {
        topic: Topic::Events,
        partition: None,
        key: Some(Bytes::copy_from_slice(terminal.as_bytes())),
        value: Bytes::from(event.to_string()),
        headers: Vec::new(),
    }
}

pub(crate) async fn records(bus: &dyn Bus, topic: Topic) -> Vec<Record> {
    let mut all = Vec::new();
    for partition in 0..topic.partitions(bus.partitions()) {
        let mut offset = 0;
        loop {
            let fetched = read(bus, TopicPartition::new(topic, partition), offset).await;
            all.extend(fetched.records);
            if fetched.at_end {
                break;
            }
            offset = fetched.next_offset;
        }
    }
    all
}

/// Reads on, also where a busy broker has no leader for the partition just then.
async fn read(bus: &dyn Bus, place: TopicPartition, offset: i64) -> Fetched {
    let begun = Instant::now();
    loop {
        match bus.read(place, offset, READ_BYTES).await {
            Ok(fetched) => return fetched,
            Err(BusError::Unavailable(why)) => assert!(begun.elapsed() < PATIENCE, "{place} can be read: {why}"),
            Err(error) => panic!("{place} can be read: {error}"),
        }
    }
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The time so many seconds after the opening of the shop.
pub(crate) fn at(second: i64) -> String {
    Timestamp::parse("2026-01-05T08:00:00Z").expect("a time").plus_seconds(second).to_string()
}

/// An event of a till.
#[expect(clippy::needless_pass_by_value, reason = "written in place at each call")]
pub(crate) fn event(kind: &str, terminal: &str, sequence: u64, second: i64, data: Value) -> Value {
    json!({
        "specversion": "1.0", "id": format!("{terminal}-{sequence}"), "source": format!("/stores/S001/terminals/{terminal}"),
        "type": kind, "time": at(second), "sequence": sequence, "data": data,
    })
}

/// A drawer is opened: the fraud plugin will speak of it.
pub(crate) fn drawer(terminal: &str, sequence: u64, second: i64) -> Value {
    event("pos.drawer.opened", terminal, sequence, second, json!({"employeeId": format!("E-{terminal}")}))
}
