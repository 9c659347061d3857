//! The HTTP server as a client meets it: a real server on a port of its own, a real embedded bus and a real SQLite store.

#[path = "http/access.rs"]
mod access;
#[path = "http/bounds.rs"]
mod bounds;
#[path = "http/cost.rs"]
mod cost;
#[path = "http/doors.rs"]
mod doors;
#[path = "support/http_client.rs"]
mod http_client;
#[path = "http/sessions.rs"]
mod sessions;
#[path = "http/tail.rs"]
mod tail;

use http_client::{Client, login};
use serde_json::json;
use tillstream::bus::{Topic, TopicPartition};
use tillstream::effect::{RecommendationRecord, Record};
use tillstream::feed::{FeedBody, FeedItem, FeedKind};
use tillstream::store::model::{Commit, DeadLetter, DeadLetterStatus};
use tillstream::time::Timestamp;

const PLUGIN: &str = "/api/plugins/age-verification";

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_event_is_on_the_bus_and_can_be_read_back() {
    let client = Client::start().await;
    let answer = client.post_event(&login("e1", "T1")).await;
    assert_eq!((answer.status, &answer.body), (202, &json!({"accepted": 1, "rejected": []})));
    let events = client.get("/api/events?terminal=T1&type=pos.employee.*").await;
    assert_eq!(events.status, 200);
    assert_eq!(events.body["items"][0]["id"], "e1");
    assert_eq!(client.get("/api/events?terminal=T2").await.body["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_event_is_refused_and_a_batch_lists_those_left_out() {
    let client = Client::start().await;
    let mut wrong = login("e1", "T1");
    wrong["data"] = json!({});
    let answer = client.post_event(&wrong).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.content_type, "application/problem+json");
    assert_eq!(answer.body["errors"][0]["field"], "data.employeeId");

    let batch = json!([login("e2", "T1"), wrong, login("e3", "T2")]);
    let answer = client.post("/api/events", "application/cloudevents-batch+json", &batch.to_string()).await;
    assert_eq!((answer.status, &answer.body["accepted"]), (202, &json!(2)));
    assert_eq!(answer.body["rejected"][0]["index"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_event_is_the_same_event() {
    let client = Client::start().await;
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "e1"),
        ("ce-type", "pos.employee.logged_in"),
        ("ce-source", "/stores/S1/terminals/T1"),
        ("ce-time", "2026-01-05T06:00:00Z"),
        ("content-type", "application/json"),
    ];
    let answer = client.send("POST", "/api/events", &headers, r#"{"employeeId":"E1"}"#).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(client.get("/api/events").await.body["items"][0]["source"], "/stores/S1/terminals/T1");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_page_from_the_newest_to_the_oldest_without_loss() {
    let client = Client::start().await;
    let batch: Vec<_> = (0..500).map(|n| login(&format!("e{n}"), &format!("T{}", n % 7))).collect();
    client.post("/api/events", "application/cloudevents-batch+json", &json!(batch).to_string()).await;
    let mut seen = std::collections::BTreeSet::new();
    let mut path = "/api/events?limit=99".to_owned();
    loop {
        let page = client.get(&path).await;
        for event in page.body["items"].as_array().unwrap() {
            assert!(seen.insert(event["id"].as_str().unwrap().to_owned()), "twice: {event}");
        }
        let Some(next) = page.body["next"].as_str() else { break };
        path = format!("/api/events?limit=99&cursor={next}");
    }
    assert_eq!(seen.len(), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_change_the_same_revision_one_is_told_of_the_other() {
    let client = Client::start().await;
    let before = client.get(PLUGIN).await;
    let tag = before.etag.clone().unwrap();
    let headers = [("if-match", tag.as_str()), ("content-type", "application/merge-patch+json")];
    let active = before.body["active"].as_bool().unwrap();
    let change = json!({"active": !active, "reason": "stock-taking"}).to_string();
    let (one, other) =
        tokio::join!(client.send("PATCH", PLUGIN, &headers, &change), client.send("PATCH", PLUGIN, &headers, &change));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
    let refused = if one.status == 412 { one } else { other };
    assert_eq!(refused.body["current"]["active"], json!(!active));
    let history = client.get(&format!("{PLUGIN}/history")).await;
    assert_eq!(history.body["items"][0]["actor"], "local");
    assert_eq!(history.body["items"][0]["reason"], "stock-taking");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_named_and_change_nothing() {
    let client = Client::start().await;
    let before = client.get(PLUGIN).await;
    let headers = [("content-type", "application/json")];
    let answer = client.send("PATCH", PLUGIN, &headers, r#"{"settings":{"policies":[{"minimumAge":"old"}]}}"#).await;
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert!(!answer.body["errors"].as_array().unwrap().is_empty());
    assert_eq!(client.get(PLUGIN).await.body["revision"], before.body["revision"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_a_problem_detail() {
    let client = Client::start().await;
    let large = "x".repeat(9 * 1024 * 1024);
    let cases = [
        ("GET", "/api/nothing", "application/json", "", 404),
        ("GET", "/api/alerts/none", "application/json", "", 404),
        ("GET", "/static/none.js", "application/json", "", 404),
        ("DELETE", "/api/events", "application/json", "", 405),
        ("POST", "/api/events", "text/plain", "x", 415),
        ("POST", "/api/events", "application/json", "{", 400),
        ("POST", "/api/events", "application/json", large.as_str(), 413),
        ("GET", "/api/events?limit=0", "application/json", "", 400),
        ("GET", "/api/alerts?status=odd", "application/json", "", 400),
        ("GET", "/api/alerts?cursor=odd", "application/json", "", 400),
        ("GET", "/api/timesheets?fron=2026-01-05", "application/json", "", 400),
        ("POST", "/api/deadletters/replay", "application/json", "{}", 422),
        ("GET", "/ws/feed", "application/json", "", 400),
    ];
    for (method, path, media_type, body, status) in cases {
        let answer = client.send(method, path, &[("content-type", media_type)], body).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.content_type, "application/problem+json", "{method} {path}");
        assert_eq!(answer.body["status"], status, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_host_or_origin_is_refused() {
    let client = Client::start().await;
    for header in [("host", "evil.example"), ("origin", "http://evil.example")] {
        for path in ["/api/plugins", "/ws/feed", "/"] {
            assert_eq!(client.send("GET", path, &[header], "").await.status, 403, "{header:?} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_an_empty_store_are_empty_pages() {
    let client = Client::start().await;
    for path in ["/api/alerts", "/api/timesheets", "/api/timesheets/totals?groupBy=businessDay", "/api/deadletters"] {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.body), (200, json!({"items": [], "next": null})), "{path}");
    }
    let csv = client.send("GET", "/api/timesheets", &[("accept", "text/csv")], "").await;
    assert_eq!(csv.content_type, "text/csv; charset=utf-8");
    assert!(csv.text.starts_with("id,employeeId,storeId"));
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_are_replaced_as_a_whole_and_checked() {
    let client = Client::start().await;
    let before = client.get("/api/stores").await;
    let headers = [("content-type", "application/json"), ("if-match", before.etag.as_deref().unwrap())];
    let wrong = json!({"stores": {"S1": {"name": "Mitte", "timeZone": "Europe/Nowhere"}}}).to_string();
    assert_eq!(client.send("PUT", "/api/stores", &headers, &wrong).await.status, 422);
    let right = json!({"stores": {"S1": {"name": "Mitte", "timeZone": "Europe/Berlin"}}}).to_string();
    let answer = client.send("PUT", "/api/stores", &headers, &right).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["stores"]["S1"]["timeZone"], "Europe/Berlin");
    assert_eq!(client.send("PUT", "/api/stores", &headers, &right).await.status, 412);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_compressed_for_who_can_read_that() {
    let client = Client::start().await;
    for path in ["/api/plugins", "/static/app.js"] {
        let plain = client.get(path).await;
        assert_eq!(plain.header("content-encoding"), None, "{path}");
        let small = client.send("GET", path, &[("accept-encoding", "gzip")], "").await;
        assert_eq!(small.header("content-encoding"), Some("gzip"), "{path}");
        assert!(small.bytes.starts_with(&[0x1f, 0x8b]) && small.bytes.len() < plain.bytes.len(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recommendations_are_counted_with_how_often_they_were_taken_up() {
    let client = Client::start().await;
    let recommendation = |number: u32, recommended: &str, taken_up| {
        Record::Recommendation(RecommendationRecord {
            id: format!("r{number}"),
            basket_id: "b1".to_owned(),
            product_id: "P1".to_owned(),
            recommended: recommended.to_owned(),
            taken_up,
            at: Timestamp::from_millis(1_767_600_000_000),
        })
    };
    let records = vec![recommendation(1, "P2", false), recommendation(2, "P3", true), recommendation(3, "P3", false)];
    let settings_epoch = client.control.snapshot().epoch();
    client.store.commit(Commit { settings_epoch, records, ..Commit::default() }.into()).await.unwrap();
    let stats = client.get("/api/recommendations/stats").await;
    let row = |recommended: &str, made, taken_up| json!({"productId": "P1", "recommended": recommended, "made": made, "takenUp": taken_up});
    assert_eq!(stats.body["items"], json!([row("P3", 2, 1), row("P2", 1, 0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_tells_how_it_is() {
    let client = Client::start().await;
    assert_eq!(client.get("/health/live").await.status, 200);
    assert_eq!(client.get("/health/ready").await.status, 200);
    let system = client.get("/api/system").await.body;
    assert_eq!((&system["bus"]["kind"], &system["store"]["kind"]), (&json!("embedded"), &json!("sqlite")));
    assert!(client.send("GET", "/metrics", &[], "").await.text.contains("tillstream_events_total"));
    let page = client.send("GET", "/", &[], "").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let etag = page.etag.unwrap();
    assert_eq!(client.send("GET", "/", &[("if-none-match", etag.as_str())], "").await.status, 304);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_aside_is_named_on_the_system_page_in_readiness_and_in_metrics() {
    let client = Client::start().await;
    client.state.status.parked.park("evidence", "a1", "cannot be read");
    let system = client.get("/api/system").await.body;
    let item = &system["parked"][0];
    assert_eq!((&item["part"], &item["name"]), (&json!("evidence"), &json!("a1")));
    let ready = client.get("/health/ready").await;
    assert_eq!((ready.status, &ready.body["status"]), (200, &json!("degraded")));
    let metrics = client.get("/metrics").await.text;
    for part in ["evidence", "all"] {
        assert!(metrics.contains(&format!("tillstream_parked{{part=\"{part}\"}} 1")), "{metrics}");
    }
}

fn log_line(text: &str) -> FeedItem {
    let json = format!(r#"{{"message":"{text}"}}"#);
    let body = FeedBody::Json { type_name: "log".into(), terminal: None, plugin: None, json: json.into() };
    FeedItem { kind: FeedKind::Log, at: Timestamp::MIN, body }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_greets_sends_what_passes_the_filter_and_resumes() {
    let client = Client::start().await;
    let mut socket = client.feed("kind=log").await;
    assert_eq!(socket.next().await["type"], "hello");
    client.feed.publish(vec![log_line("one"), log_line("two")]);
    let events = socket.next().await;
    assert_eq!(events["type"], "events");
    assert_eq!(events["items"][1]["event"]["message"], "two");
    assert_eq!(events["items"][1]["seq"], 2);

    let mut resumed = client.feed("since=1").await;
    resumed.next().await;
    assert_eq!(resumed.next().await["items"][0]["seq"], 2);
    let mut unknown = client.feed("since=99").await;
    unknown.next().await;
    assert_eq!(unknown.next().await, json!({"type": "gap", "dropped": 0}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_says_good_bye_to_its_websockets() {
    let client = Client::start().await;
    let mut socket = client.feed("").await;
    socket.next().await;
    let stopped = tokio::time::timeout(std::time::Duration::from_secs(4), client.stop());
    let (stopped, closed) = tokio::join!(stopped, socket.closed());
    assert!(stopped.is_ok() && closed);
}

fn dead_letter(id: &str, reason: &str, bytes: String) -> DeadLetter {
    DeadLetter {
        id: id.to_owned(),
        at: Timestamp::from_millis(1_767_600_000_000),
        status: DeadLetterStatus::Open,
        reason: reason.to_owned(),
        field: None,
        message: "for a test".to_owned(),
        plugin: None,
        entity: None,
        partition: TopicPartition::new(Topic::Events, 0),
        offset: 0,
        clock: Timestamp::MIN,
        key: None,
        headers: Vec::new(),
        bytes: bytes.into(),
        attempts: 1,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_replayed_once_and_only_if_it_can_be_applied() {
    let client = Client::start().await;
    let timer = DeadLetter {
        plugin: Some("employee-time-tracker".to_owned()),
        entity: Some("employee:E7".to_owned()),
        ..dead_letter("timer", "timer_failed", "2026-01-05T08:00:00.000Z".to_owned())
    };
    let dead_letters = vec![
        dead_letter("valid", "poison", login("e1", "T1").to_string()),
        dead_letter("broken", "not_json", "{".to_owned()),
        timer,
    ];
    let settings_epoch = client.control.snapshot().epoch();
    client.store.commit(Commit { settings_epoch, dead_letters, ..Commit::default() }.into()).await.unwrap();
    let post = async |path: &str, body: &str| client.post(path, "application/json", body).await;

    assert_eq!(post("/api/deadletters/broken/replay", "").await.status, 422);
    assert_eq!(post("/api/deadletters/none/replay", "").await.status, 404);
    let timer = post("/api/deadletters/timer/replay", "").await;
    assert_eq!(timer.status, 409);
    assert!(
        timer.body["detail"].as_str().unwrap().contains("employee-time-tracker looks at employee:E7 again"),
        "{}",
        timer.body
    );
    let replayed = post("/api/deadletters/valid/replay", "").await;
    assert_eq!(replayed.status, 200, "{}", replayed.body);
    assert!(replayed.body["replayRequestedAt"].is_string());
    assert_eq!(post("/api/deadletters/valid/replay", "").await.status, 409);

    let discarded = post("/api/deadletters/discard", r#"{"reason":"not_json"}"#).await;
    assert_eq!(discarded.body["affected"], 1);
    let open = client.get("/api/deadletters?status=open&reason=not_json").await;
    assert_eq!(open.body["items"], json!([]));
    let audit = client.get("/api/audit").await;
    assert_eq!(audit.body["items"][0]["action"], "deadletter.discard");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_figure_is_in_the_catalogue_and_says_what_it_means() {
    let client = Client::start().await;
    client.post_event(&login("e1", "T1")).await;
    client.get("/metrics").await;
    let text = client.get("/metrics").await.text;
    let families: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    for family in &families {
        let (name, kind) = family.split_once(' ').unwrap();
        let known = tillstream::http::metrics::catalogue::family(name).unwrap_or_else(|| panic!("{name} is unknown"));
        assert_eq!(kind, known.kind.as_str(), "{name}");
        assert!(text.contains(&format!("# HELP {name} {}", known.help)), "{name} has no meaning");
    }
    let value = |sample: &str| text.lines().find_map(|line| line.strip_prefix(sample)).map_or("absent", str::trim);
    assert_eq!(value(r#"tillstream_part_ready{part="store"}"#), "1");
    assert_eq!(value("tillstream_ready"), "1");
    assert_eq!(value("tillstream_outbox_oldest_seconds"), "0");
    assert_eq!(value(r#"tillstream_plugin_active{plugin="age-verification"}"#), "1");
    assert!(value("process_cpu_seconds_total").parse::<f64>().unwrap() > 0.0);
    let posted = r#"tillstream_http_requests_total{method="POST",route="/api/events",status="202"}"#;
    assert!(value(posted).parse::<u64>().unwrap() >= 1, "{text}");
}
