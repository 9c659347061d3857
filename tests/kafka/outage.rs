//! Database or brokers are away for a while, as long as `TILLSTREAM_FULL=1` says: what can go on does, everybody is told what
//! is wrong, and everything catches up by itself.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tillstream::time::Timestamp;

use crate::alone;
use crate::away::Orders;
use crate::chain::{Chain, PATIENCE, say, until};
use crate::process::Process;
use crate::shop::{drawer, drawer_rule};
use crate::support::services::Service;
use crate::support::site::at_full_size;

/// What a process may grow by while the database is away.
const GROWTH_BYTES_MAX: u64 = 150 << 20;
/// Events of one request, and how often one is sent.
const BATCH: u64 = 500;
const BATCH_EVERY: Duration = Duration::from_millis(200);
/// Whoever looks at a page does not wait for longer. Machines that run tests are busy.
const PAGE: Duration = Duration::from_secs(6);

/// What people and tills can look at whatever the brokers do.
const PAGES: [&str; 10] = [
    "/",
    "/health/live",
    "/metrics",
    "/api/system",
    "/api/plugins",
    "/api/alerts",
    "/api/deadletters",
    "/api/audit",
    "/api/orders",
    "/api/timesheets?from=2026-01-01&to=2026-02-01",
];

fn away_for() -> Duration {
    if at_full_size() { Duration::from_mins(1) } else { Duration::from_secs(10) }
}

/// A process with all roles that raises an alert for each drawer that is opened.
async fn start(chain: &Chain) -> Process {
    let process = chain.start("all");
    let rules = json!({"active": true, "settings": {"rules": [drawer_rule(0)]}});
    let (status, body) = process.patch("/api/plugins/fraud-detection", rules).await;
    assert_eq!(status, 200, "{body}");
    until("it is ready", PATIENCE, async || process.get("/health/ready").await.0 == 200).await;
    process
}

fn alerts(chain: &Chain) -> String {
    chain.database.texts("SELECT CAST(COUNT(*) AS CHAR) AS value FROM alerts").remove(0)
}

/// A drawer that was opened now.
fn opened(sequence: u64) -> Value {
    let mut event = drawer(&format!("T{}", sequence % 40), 1 + sequence / 40, 0);
    event["time"] = json!(Timestamp::now().to_string());
    event
}

/// Waits until readiness names this part, and returns what it says of it.
async fn unready(process: &Process, part: &str) -> String {
    let mut message = String::new();
    until(&format!("readiness names the {part}"), PATIENCE, async || {
        let (status, body) = process.get("/health/ready").await;
        let checks = body["checks"].as_array().cloned().unwrap_or_default();
        let failed = checks.iter().find(|check| check["name"] == part && check["ok"] == false);
        failed.and_then(|check| check["message"].as_str()).unwrap_or_default().clone_into(&mut message);
        status == 503 && !message.is_empty()
    })
    .await;
    message
}

#[actix::test]
async fn while_the_database_is_away_kafka_holds_the_events_and_memory_stays_bounded() {
    let _alone = alone();
    let what = "the database is away under load";
    let (Some(chain), Some(mariadb)) = (Chain::new(what), Service::of_the_scripts("mariadb", what)) else { return };
    let process = start(&chain).await;
    let mut sequence = 0;
    let mut post = async || {
        let batch: Vec<_> = (0..BATCH).map(|next| opened(sequence + next)).collect();
        process.post(&batch).await;
        sequence += BATCH;
        sequence
    };
    let first = post().await.to_string();
    until("it works", PATIENCE, async || alerts(&chain) == first).await;

    let before = process.rss_bytes();
    mariadb.kill();
    let (begun, mut highest, mut sent) = (Instant::now(), 0, 0);
    while begun.elapsed() < away_for() {
        let turn = Instant::now();
        sent = post().await;
        highest = process.rss_bytes().max(highest);
        tokio::time::sleep(BATCH_EVERY.saturating_sub(turn.elapsed())).await;
    }
    let message = unready(&process, "store").await;
    // As the work came across it, or before that as the server's silence.
    let says_what_to_do = ["check that it runs", "look at the database"].iter().any(|advice| message.contains(advice));
    assert!(says_what_to_do && !message.contains("tillstream:tillstream"), "{message}");
    let (status, system) = process.get("/api/system").await;
    assert!(status == 200 && system["unready"].to_string().contains("database"), "{}", system["unready"]);
    let grown = highest.saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "grown by {grown} bytes");

    mariadb.start();
    until("every event is decided on", PATIENCE, async || alerts(&chain) == sent.to_string()).await;
    until("it is ready again", PATIENCE, async || process.get("/health/ready").await.0 == 200).await;
    say(&format!(
        "{sent} events were taken while the database was away for {:?}; memory grew by {} MB",
        away_for(),
        grown >> 20
    ));
}

/// A process whose tills are told that the brokers are away, while everything else of it can be used.
struct Events {
    chain: Chain,
    process: Process,
    waiting: [Value; 2],
    refused: usize,
}

impl Events {
    /// Everything works.
    async fn before(what: &str) -> Option<Self> {
        let chain = Chain::new(what)?;
        let process = start(&chain).await;
        process.post(&[opened(0)]).await;
        until("it works", PATIENCE, async || alerts(&chain) == "1").await;
        // As tills do: the same events again and again until they are taken.
        let waiting = [opened(40), opened(1)];
        Some(Self { chain, process, waiting, refused: 0 })
    }

    /// The brokers are away for so long.
    async fn during(&mut self, away: Duration) {
        let process = &self.process;
        let begun = Instant::now();
        while begun.elapsed() < away || self.refused == 0 {
            let (status, retry_after, problem) = process.post_and_retry_after(&self.waiting).await;
            assert_eq!((status, retry_after.is_some()), (503, true), "{problem}");
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("Kafka")), "{problem}");
            self.refused += 1;
            let message = unready(process, "bus").await;
            let says_what = ["Kafka takes no records", "look at the brokers"].iter().any(|what| message.contains(what));
            assert!(says_what, "{message}");
            for page in PAGES {
                let asked = Instant::now();
                assert_eq!(process.get(page).await.0, 200, "{page}");
                assert!(asked.elapsed() < PAGE, "{page} took {:?}", asked.elapsed());
            }
            let (_, system) = process.get("/api/system").await;
            let parts = system["unready"].as_array().expect("a list");
            assert!(parts.iter().any(|part| part["part"] == "bus"), "{}", system["unready"]);
            let (status, retry_after, problem) = process.get_and_retry_after("/api/events").await;
            assert_eq!((status, retry_after.is_some()), (503, true), "{problem}");
        }
        // A switch is a matter of the store: it obeys at once, and others hear of it when the bus is back.
        let (status, body) = process.patch("/api/plugins/age-verification", json!({"active": false})).await;
        assert_eq!(status, 200, "{body}");
    }

    /// They are back.
    async fn after(self) {
        let Self { chain, process, waiting, refused } = self;
        let mut tries = 0;
        until("the events are taken", PATIENCE, async || {
            tries += 1;
            process.try_post(&waiting).await.0 == 202
        })
        .await;
        until("each is decided on once", PATIENCE, async || alerts(&chain) == "3").await;
        until("it is ready again", PATIENCE, async || process.get("/health/ready").await.0 == 200).await;
        assert_eq!(process.get("/api/system").await.1["unready"], json!([]));
        say(&format!("refused {refused} times while the brokers were away, and taken at try {tries} after"));
    }
}

/// Two installations share one outage, since there is one broker: in one of them tills send events, in the other orders.
#[actix::test]
async fn while_the_brokers_are_away_tills_are_told_orders_are_accepted_and_everything_else_can_be_looked_at() {
    let _alone = alone();
    let what = "the brokers are away";
    let Some(kafka) = Service::of_the_scripts("kafka", what) else { return };
    let (Some(mut events), Some(mut orders)) = tokio::join!(Events::before(what), Orders::before(what)) else { return };
    kafka.kill();
    tokio::join!(events.during(away_for()), orders.during(away_for()));
    kafka.start();
    tokio::join!(events.after(), orders.after());
}
